"""Workflows, examples and pages about the action: they say what action.yml says, and ask for no more than they need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from docs import generate
from tests.docs.command_line import check_command
from tests.docs.pages import DOCS, ROOT, blocks, name_of, words_of

OWN = "modeldrop/modeldrop"
PUBLISH_MODELS = ROOT / ".github/workflows/publish-models.yml"
EXAMPLES = sorted((ROOT / "examples/workflows").glob("*.yml"))
WORKFLOWS = [*sorted((ROOT / ".github/workflows").glob("*.yml")), *EXAMPLES]
ACTION = [ROOT / "action.yml", ROOT / "publish/action.yml"]  # the same
ACTIONS = [*ACTION, ROOT / "setup/action.yml", *sorted((ROOT / ".github/actions").glob("*/action.yml"))]
PAGE = DOCS / "action.md"
PAGES = [PAGE, *sorted((DOCS / "storage").glob("*.md")), DOCS / "storage.md"]
_PINNED = re.compile(r"uses: (?P<action>[\w.-]+/[\w./-]+)@(?P<commit>[0-9a-f]{40}) # (?P<version>v\d+\.\d+\.\d+)$")
_OWN = re.compile(rf"uses: {OWN}(/[\w./-]+)?@v0( # pin the commit\b.*)?$")
_LOCAL = re.compile(r"uses: (\./[\w./-]*|\$/[\w.][\w./-]*)$")
_OUTPUT = re.compile(r"steps\.([\w-]+)\.outputs\.([\w-]+)")


def load(path: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return loaded


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return dict(load(path)["jobs"])


@dataclass(frozen=True)
class Use:
    """A ``uses:`` of something of ours, and what it is given."""

    where: str
    file: Path
    given: dict[str, Any]
    id: str = ""


def our_file(uses: str) -> Path | None:
    """The file that a ``uses:`` means, where it is one of ours."""
    for prefix in ("$/", "./", f"{OWN}/", OWN):
        if uses.startswith(prefix):
            path = uses.removeprefix(prefix).partition("@")[0]
            return ROOT / path if path.endswith(".yml") else ROOT / path / "action.yml"
    return None


def uses_in(where: str, values: dict[str, Any]) -> Iterator[Use]:
    """What a step, or a job that calls a workflow, uses of ours."""
    if file := our_file(values.get("uses", "")):
        yield Use(where, file, values.get("with", {}), values.get("id", ""))


def own_uses(path: Path) -> list[Use]:
    found: list[Use] = []
    for job in jobs(path).values():
        found += uses_in(name_of(path), job)
        for step in job.get("steps", []):
            found += uses_in(name_of(path), step)
    return found


def yaml_in_the_page() -> list[Any]:
    return [yaml.safe_load(block.text) for block in blocks(PAGE) if block.language == "yaml"]


def steps_in_pages() -> Iterator[Use]:
    """The steps and jobs of ours in the blocks of the page, also in those that are no whole workflow."""
    for shown in yaml_in_the_page():
        for values in shown if isinstance(shown, list) else shown.get("jobs", {}).values():
            yield from uses_in("docs/action.md", values)


def inputs_of(file: Path) -> dict[str, dict[str, Any]]:
    content = load(file)
    inputs = content["inputs"] if "runs" in content else content[True]["workflow_call"]["inputs"]
    return dict(inputs)


def scripts(path: Path) -> list[str]:
    content = load(path)
    lists = [content["runs"]["steps"]] if "runs" in content else [job.get("steps", []) for job in jobs(path).values()]
    return [step["run"] for steps in lists for step in steps if "run" in step]


def test_the_pages_are_as_generated() -> None:
    assert list(generate.drifted()) == [], "run `make docs`"


def test_drift_is_found_and_mended() -> None:
    page = "<!-- begin examples -->\nstale\n<!-- end -->\nkept"
    after = generate.render("README.md", page)
    assert "stale" not in after
    assert after.endswith("<!-- end -->\nkept")
    assert generate.render("README.md", after) == after
    assert all(f"](examples/workflows/{path.name})" in after for path in EXAMPLES)
    assert all(f"](../examples/workflows/{path.name})" in generate.render("docs/action.md", page) for path in EXAMPLES)


def test_a_page_shows_the_commits_that_the_workflows_use() -> None:
    before = f"- uses: actions/attest@{'0' * 40} # v0.0.1\n- uses: somebody/else@{'0' * 40} # v0.0.1\n"
    attest, other = generate.render("docs/action.md", before).splitlines()
    assert attest in PUBLISH_MODELS.read_text("utf-8")
    assert other in before


def test_a_cell_shows_what_looks_like_a_tag_or_a_column() -> None:
    assert generate._cell("a | b,\n  name@<commit>") == "a \\| b, name@&lt;commit>"


@pytest.mark.parametrize("page", ["<!-- begin nonsense -->\n<!-- end -->", "<!-- begin examples -->\n"])
def test_a_block_that_cannot_be_generated_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match=r"^p.md: "):
        generate.render("p.md", page)


def test_the_page_has_a_table_for_everything_of_ours() -> None:
    for what in generate.BLOCKS:
        page = "docs/storage/s3-compatible.md" if what.endswith(" of services") else "docs/action.md"
        if not what.endswith(".yml") or " of " in what:
            page = "docs/commands.md" if what == "settings" else page
            assert f"<!-- begin {what} -->" in (ROOT / page).read_text("utf-8")


def test_every_example_of_the_plan_is_there() -> None:
    names = {path.stem for path in EXAMPLES}
    assert names == {
        "clean-up-channels",
        "doctor",
        "multi-cloud",
        "newer-commits",
        "pages",
        "promote-by-hand",
        "prune",
        "publish-on-change",
        "pull-request-page",
        "renew-signatures",
        "retrain",
        "rollback-by-hand",
        "weekly-refresh",
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_inputs_exist(path: Path) -> None:
    for use in own_uses(path):
        check_inputs(use)


def test_inputs_in_the_page_exist() -> None:
    uses = list(steps_in_pages())
    assert len(uses) > 3
    for use in uses:
        check_inputs(use)


def check_inputs(use: Use) -> None:
    known = inputs_of(use.file)
    assert set(use.given) <= set(known), use
    required = {name for name, value in known.items() if value.get("required") is True}
    assert required <= set(use.given), use


def test_a_wrong_input_would_be_found() -> None:
    with pytest.raises(AssertionError):
        check_inputs(Use("", ROOT / "setup/action.yml", {"registries": ""}))
    assert our_file("modeldrop/modeldrop@v0") == ROOT / "action.yml"
    assert our_file("modeldrop/modeldrop/setup@v0") == ROOT / "setup/action.yml"
    assert our_file("modeldrop/modeldrop/.github/workflows/publish-models.yml@v0") == PUBLISH_MODELS
    assert (our_file("$/setup"), our_file("./")) == (ROOT / "setup/action.yml", ROOT / "action.yml")
    assert our_file("actions/checkout@v5") is None


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_outputs_that_are_read_exist(path: Path) -> None:
    outputs = set(load(ROOT / "action.yml")["outputs"])
    ours = {use.id for use in own_uses(path) if use.file in ACTION} - {""}
    read = {(step, name) for step, name in _OUTPUT.findall(path.read_text("utf-8")) if step in ours}
    assert {name for _, name in read} <= outputs


def test_the_outputs_that_scripts_read_exist() -> None:
    text = PUBLISH_MODELS.read_text("utf-8")
    outputs = set(load(ROOT / "action.yml")["outputs"])
    read = set(re.findall(r'result\["([\w-]+)"\]', text)) | {"reference"}
    assert read <= outputs
    assert {"version", "built", "previous-version"} <= read


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=name_of)
def test_commands_parse(path: Path) -> None:
    for line in commands(path):
        check_line(line)


def commands(path: Path) -> list[str]:
    lines = "\n".join(scripts(path)).replace("\\\n", " ").splitlines()
    return [match[1] for line in lines if (match := re.search(r"(?:^|\$\()\s*(modeldrop [^)]+)", line))]


def check_line(line: str) -> None:
    # What an array expands to is as many arguments as it likes; "--only=$name" is one.
    check_command([word for word in words_of(re.sub(r" 2> .*", "", line)) if "[@]" not in word])


def test_commands_are_found() -> None:
    found = {line.split()[1] for path in EXAMPLES for line in commands(path)}
    assert found >= {"history", "promote", "rollback", "run"}
    assert {line.split()[1] for line in commands(PUBLISH_MODELS)} == {"attest", "matrix", "promote"}
    with pytest.raises(pytest.fail.Exception):
        check_line('modeldrop promote "$REFERENCE" --chanel current')


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS, *PAGES], ids=name_of)
def test_actions_are_pinned_by_commit_and_say_the_version(path: Path) -> None:
    for line in path.read_text("utf-8").splitlines():
        if re.match(r"\s*(- )?uses: ", line):
            own = _OWN.search(line) if path in [*EXAMPLES, *PAGES] else _LOCAL.search(line)
            placeholder = path in PAGES and line.endswith("@<that commit> # v0.1.0")
            assert _PINNED.search(line) or own or placeholder, line


def test_an_action_is_the_same_commit_everywhere() -> None:
    pins: dict[str, set[tuple[str, str]]] = {}
    for path in [*WORKFLOWS, *ACTIONS, *PAGES]:
        for line in path.read_text("utf-8").splitlines():
            if match := _PINNED.search(line):
                repository = "/".join(match["action"].split("/")[:2])
                pins.setdefault(repository, set()).add((match["commit"], match["version"]))
    assert len(pins) > 5
    assert {action: pinned for action, pinned in pins.items() if len(pinned) > 1} == {}


RIGHTS = {"actions", "attestations", "contents", "id-token", "issues", "pages", "pull-requests"}
WRITERS = {
    ("release.yml", "github"): {"contents"},
    ("publish-models.yml", "publish"): {"pull-requests"},  # the input comment
    ("newest-releases.yml", "try"): {"issues"},
    ("pages.yml", "pages"): {"pages"},
    ("pull-request-page.yml", "compare"): {"pull-requests"},
    ("weekly-refresh.yml", "models"): {"pull-requests"},  # calls publish-models.yml
    ("newer-commits.yml", "look"): {"contents", "pull-requests"},
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_jobs_may_do_the_least(path: Path) -> None:
    assert load(path)["permissions"] == {}
    text = path.read_text("utf-8")
    for name, job in jobs(path).items():
        assert set(job["permissions"]) <= RIGHTS, name
        writes = {scope for scope, level in job["permissions"].items() if level == "write"} - {
            "attestations",
            "id-token",
        }
        assert writes == WRITERS.get((path.name, name), set()), name
        if "steps" in job:
            assert job["timeout-minutes"], name
            assert "contents" in job["permissions"] or not checkouts(job), name
            assert all(step["with"]["persist-credentials"] is False for step in checkouts(job)), name
    # Each right says what it is for.
    granted = re.findall(rf"^ {{6}}(?:{'|'.join(RIGHTS)}): (?:read|write)(.*)$", text, re.MULTILINE)
    assert len(granted) == sum(len(job["permissions"]) for job in jobs(path).values())
    assert all(comment.startswith(" # ") for comment in granted)


def checkouts(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=name_of)
def test_no_expression_is_pasted_into_a_script(path: Path) -> None:
    assert [script for script in scripts(path) if "${{" in script] == []


def test_callers_of_the_reusable_workflow_grant_what_it_asks_for() -> None:
    wanted: dict[str, str] = {}
    for job in jobs(PUBLISH_MODELS).values():
        for scope, level in job["permissions"].items():
            wanted[scope] = max(wanted.get(scope, ""), level)
    shown = [job for block in yaml_in_the_page() if isinstance(block, dict) for job in block.get("jobs", {}).values()]
    callers = [job for path in EXAMPLES for job in jobs(path).values()] + shown
    callers = [job for job in callers if our_file(job.get("uses", "")) == PUBLISH_MODELS]
    assert len(callers) == 5
    assert all(job["permissions"] == wanted for job in callers)


def test_nothing_that_a_release_publishes_comes_from_a_cache() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text("utf-8")
    assert "actions/cache" not in text
    assert not re.search(r"^\s*cache: ", text, re.MULTILINE)
