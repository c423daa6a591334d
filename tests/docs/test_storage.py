"""The pages about storage say what the code does: policies, commands, settings, links."""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from modeldrop.cli import COMMANDS
from modeldrop.format.bucket import parse_bucket
from modeldrop.format.settings import parse_settings
from modeldrop.registry import headers
from modeldrop.registry.doctor import gcs, s3
from modeldrop.registry.doctor.examine import ORDER
from modeldrop.registry.policies import Policies, policies_for

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ["storage.md", *(f"storage/{path.name}" for path in sorted((DOCS / "storage").glob("*.md")))]
BUCKETS = {
    "storage/s3.md": "s3://acme-models",
    "storage/gcs.md": "gs://acme-models",
    "storage/azure.md": "az://acmemodels/models",
}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"^(?:- run: |\$ )?(?:[A-Z0-9_]+=\S+ +)*(modeldrop .+)$")
_USES = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
_SHELL = {"|", ">", "<", ">>", "&&", "||", ";", "&"}


@dataclass(frozen=True)
class Block:
    language: str
    text: str


@functools.cache
def read(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


@functools.cache
def blocks(page: str) -> list[Block]:
    return [Block(language, text.removesuffix("\n")) for language, text in _FENCE.findall(read(page))]


def parsed(page: str, language: str) -> list[Any]:
    parse = {"json": json.loads, "yaml": yaml.safe_load}[language]
    return [parse(block.text) for block in blocks(page) if block.language == language]


def commands(page: str) -> list[str]:
    """The command lines of ``modeldrop`` in a page's blocks, and those in its sentences that are no mere names."""
    lines = "\n".join(block.text for block in blocks(page)).replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := _COMMAND.match(line.strip()))]
    spans = re.findall(r"`(modeldrop [^`\n]+)`", _FENCE.sub("", read(page)))
    return found + [span for span in spans if len(span.split()) > 2]


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    importlib.import_module(f"modeldrop.commands.{command}").add_arguments(parser)
    return parser


def arguments_of(line: str) -> list[str]:
    """What the shell passes on, up to a pipe, a redirection or a comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((index for index, word in enumerate(words) if word in _SHELL), len(words))
    return words[:end]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def added(all_of: str, without: str) -> list[Any]:
    """The statements of one policy that another does not have."""
    few = json.loads(without)["Statement"]
    return [statement for statement in json.loads(all_of)["Statement"] if statement not in few]


def key_of(page: str) -> tuple[Policies, Policies]:
    """A page's policies without, and with, the encryption key that it names."""
    bucket = parse_bucket(BUCKETS[page])
    [settings] = [
        registry
        for block in blocks(page)
        if block.language == "toml"
        for registry in parse_settings(block.text).registries.values()
    ]
    assert settings.url == bucket.url
    assert settings.encryption_key
    return policies_for(bucket), policies_for(bucket, encryption_key=settings.encryption_key)


@pytest.mark.parametrize("page", BUCKETS)
def test_the_policies_are_those_that_doctor_prints(page: str) -> None:
    texts = {block.text for block in blocks(page)}
    for who, policy in policies_for(parse_bucket(BUCKETS[page])).to_json().items():
        nothing_more = re.fullmatch(r"# Nothing more: (.+)", policy)
        assert nothing_more[1] in read(page).replace("`", "") if nothing_more else policy in texts, who


def test_the_rights_on_an_aws_key_are_those_that_doctor_prints() -> None:
    plain, keyed = key_of("storage/s3.md")
    shown = parsed("storage/s3.md", "json")
    for without, with_key in ((plain.publisher, keyed.publisher), (plain.fetcher, keyed.fetcher)):
        [statement] = added(with_key, without)
        assert statement in shown


def test_the_command_for_a_google_key_is_what_doctor_prints() -> None:
    plain, keyed = key_of("storage/gcs.md")
    assert keyed.fetcher == plain.fetcher
    assert keyed.publisher.removeprefix(plain.publisher).strip() in {block.text for block in blocks("storage/gcs.md")}


def test_an_azure_key_needs_no_right() -> None:
    plain, keyed = key_of("storage/azure.md")
    assert keyed == plain


@pytest.mark.parametrize(
    ("page", "right"), [("storage/s3.md", "s3:PutObjectTagging"), ("storage/azure.md", "tags/write")]
)
def test_what_tags_need_is_what_doctor_prints(page: str, right: str) -> None:
    bucket = parse_bucket(BUCKETS[page])
    assert right in policies_for(bucket, tags=True).publisher
    assert right not in policies_for(bucket).publisher
    assert right in read(page)


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str) -> None:
    assert commands(page)
    for line in commands(page):
        _, command, *arguments = arguments_of(line)
        assert command in COMMANDS, line
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        try:
            parser_of(command).parse_args(ours)
        except (argparse.ArgumentError, SystemExit) as error:
            pytest.fail(f"{page}: {line}: {error}")


def test_a_wrong_command_would_be_found() -> None:
    assert arguments_of("modeldrop doctor 's3://b' --json | jq -r .x > f") == [
        "modeldrop",
        "doctor",
        "s3://b",
        "--json",
    ]
    assert arguments_of("modeldrop prune s3://b  # says what") == ["modeldrop", "prune", "s3://b"]
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser_of("prune").parse_args(["s3://b", "--dry-run"])


@pytest.mark.parametrize("page", PAGES)
def test_documents_parse(page: str) -> None:
    parsed(page, "json")
    parsed(page, "yaml")
    for block in blocks(page):
        if block.language == "toml":
            assert parse_settings(block.text).registries


@pytest.mark.parametrize("page", PAGES)
def test_fences_are_closed_and_named(page: str) -> None:
    assert read(page).count("```") == 2 * len(blocks(page))
    assert all(block.language in {"sh", "json", "yaml", "toml", "nginx"} for block in blocks(page))


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


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    links = [link for link in _LINK.findall(_FENCE.sub("", read(page))) if "://" not in link]
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        path = (DOCS / page).parent / file if file else DOCS / page
        assert path.is_file(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, link


def test_the_index_leads_to_every_page() -> None:
    links = {link.partition("#")[0] for link in _LINK.findall(read("storage.md"))}
    assert set(PAGES) - {"storage.md"} <= links


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
