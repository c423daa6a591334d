"""The pages about storage say what the code does: policies, rights, lifecycle rules, cache headers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from modeldrop.config import RegistrySettings, parse_config
from modeldrop.doctor import gcs, s3
from modeldrop.doctor.github_trust import GitHubSubjects, sign_in_script
from modeldrop.doctor.policies import AccessPolicies, policies_for
from modeldrop.doctor.run import ORDER
from modeldrop.storage.write import headers
from tests.docs.pages import DOCS, blocks, links
from tests.docs.pages import read as read_page

PAGES = ["storage.md", *(f"storage/{path.name}" for path in sorted((DOCS / "storage").glob("*.md")))]
BUCKETS = {
    "storage/s3.md": "s3://acme-models",
    "storage/gcs.md": "gs://acme-models",
    "storage/azure.md": "az://acmemodels/models",
}
_USES = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")


def read(page: str) -> str:
    return read_page(DOCS / page)


def texts(page: str, *languages: str) -> list[str]:
    """What the blocks of a page hold, those in these languages."""
    return [block.text.removesuffix("\n") for block in blocks(DOCS / page) if block.language in languages]


def parsed(page: str, language: str) -> list[Any]:
    parse = {"json": json.loads, "yaml": yaml.safe_load}[language]
    return [parse(text) for text in texts(page, language)]


def added(all_of: str, without: str) -> list[Any]:
    """The statements of one policy that another does not have."""
    few = json.loads(without)["Statement"]
    return [statement for statement in json.loads(all_of)["Statement"] if statement not in few]


def key_of(page: str) -> tuple[AccessPolicies, AccessPolicies]:
    """A page's policies without, and with, the encryption key that it names."""
    [settings] = [registry for text in texts(page, "toml") for registry in parse_config(text).registries.values()]
    assert settings.url == BUCKETS[page]
    assert settings.encryption_key
    return policies_for(RegistrySettings(settings.url)), policies_for(settings._replace(region=""))


@pytest.mark.parametrize("page", BUCKETS)
def test_the_policies_are_those_that_doctor_prints(page: str) -> None:
    shown = texts(page, "json", "sh")
    for who, policy in policies_for(RegistrySettings(BUCKETS[page])).to_json().items():
        nothing_more = re.fullmatch(r"# Nothing more: (.+)", policy)
        assert nothing_more[1] in read(page).replace("`", "") if nothing_more else policy in shown, who


def test_the_trust_shown_for_aws_is_that_of_the_script() -> None:
    (trust,) = (text for text in texts("storage/s3.md", "json") if "AssumeRoleWithWebIdentity" in text)
    script = sign_in_script(RegistrySettings(BUCKETS["storage/s3.md"]), GitHubSubjects("$SUBJECT", "main"))
    assert f"<<END\n{trust}\nEND" in script


def test_the_rights_on_an_aws_key_are_those_that_doctor_prints() -> None:
    plain, keyed = key_of("storage/s3.md")
    shown = parsed("storage/s3.md", "json")
    for without, with_key in ((plain.publisher, keyed.publisher), (plain.fetcher, keyed.fetcher)):
        [statement] = added(with_key, without)
        assert statement in shown


def test_the_command_for_a_google_key_is_what_doctor_prints() -> None:
    plain, keyed = key_of("storage/gcs.md")
    assert keyed.fetcher == plain.fetcher
    assert keyed.publisher.removeprefix(plain.publisher).strip() in texts("storage/gcs.md", "sh")


def test_an_azure_key_needs_no_right() -> None:
    plain, keyed = key_of("storage/azure.md")
    assert keyed == plain


@pytest.mark.parametrize(
    ("page", "right"), [("storage/s3.md", "s3:PutObjectTagging"), ("storage/azure.md", "tags/write")]
)
def test_what_tags_need_is_what_doctor_prints(page: str, right: str) -> None:
    settings = RegistrySettings(BUCKETS[page], tags={"team": "search"})
    assert right in policies_for(settings).publisher
    assert right not in policies_for(RegistrySettings(settings.url)).publisher
    assert right in read(page)


@pytest.mark.parametrize("page", ["storage.md", *BUCKETS])
def test_workflows_pin_every_action_and_may_do_the_least(page: str) -> None:
    [workflow] = parsed(page, "yaml")
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert set(job["permissions"]) <= {"contents", "id-token"}
        assert job["timeout-minutes"]
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert used
        assert [name for name in used if not _USES.match(name)] == []


def test_the_index_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links(DOCS / "storage.md")}
    assert set(PAGES) - {"storage.md"} <= linked


def test_doctor_does_not_warn_of_the_lifecycle_rules_shown() -> None:
    [rules] = [shown["Rules"] for shown in parsed("storage/s3.md", "json") if "Rules" in shown]
    assert [text for rule in rules for text in s3._effects(rule, "")] == []
    [rules] = [shown["rule"] for shown in parsed("storage/gcs.md", "json") if "rule" in shown]
    assert [text for rule in rules if (text := gcs._effect(rule, ""))] == []


def test_the_index_names_every_check_of_doctor() -> None:
    paragraph = read("storage.md").partition("prints one line for each check")[2].partition("\n\n")[0].lower()
    words = {"registry": "", "signed in": "signed in as whom", "exposure": "public exposure"}
    missing = [check for check in ORDER if words.get(check, check).lower() not in " ".join(paragraph.split())]
    assert missing == []


def test_the_cache_headers_are_those_that_are_stored() -> None:
    text = read("storage/https.md")
    assert f"| `<model>/v3/…` | `{headers.IMMUTABLE}` |" in text
    assert headers.cache_control("embedder/v3/onnx/model.onnx") == headers.IMMUTABLE
    for key in ("embedder/current", "embedder/builds/0.json", "embedder/v3/retired.json"):
        assert headers.cache_control(key) == headers.NO_CACHE
    assert f"`{headers.NO_CACHE}`: may be kept" in text
