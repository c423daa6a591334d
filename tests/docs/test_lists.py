"""What a page lists is what the code has: commands, variants, benchmarks, and the fields of documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.requests import _MOST
from docs.json_schemas import schemas
from modeldrop.cli import _ENDED_IN_ORDER, COMMANDS
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import VARIANTS
from modeldrop.storage.write.headers import _REPLACED
from tests.docs.pages import DOCS, ROOT, read

# Under which headings of docs/registry-format.md the fields of a document stand.
_HEADINGS: Mapping[str, tuple[str, ...]] = {
    "manifest": ("Manifest", "Recipe"),
    "channel": ("Channel", "Signatures"),
    "recipe": ("Recipe",),
    "policy": ("Policy",),
    "deltas": ("Deltas",),
    "claim": ("Claim",),
    "build": ("Build record",),
    "rejected": ("Rejection",),
    "retired": ("Retirement",),
    "tested": ("Mark of a test",),
    "seal": ("Seal", "Manifest"),
    "envelope": ("Signatures",),
    "signed-statement": ("Signatures",),
    "signed-move": ("Signatures",),
}
_OF_EVERY_DOCUMENT = {"schema", "readable_by"}


def part(page: str, heading: str) -> str:
    """What a page says under a heading of the second or third level."""
    _, found, rest = read(DOCS / page).partition(f"\n{heading}\n")
    assert found, heading
    return re.split(r"^#{2,3} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def words(text: str) -> set[str]:
    """The words of all spans of code."""
    return {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", span)}


def properties(schema: object) -> Iterator[str]:
    """The names of the fields that a schema has, at every level."""
    if isinstance(schema, dict):
        named: Any = schema.get("properties", {})
        # Thresholds and options are by variant, thresholds by metric besides: the page says so of all of them.
        if not named.keys() & VARIANTS.keys() and "cosine_mean" not in named:
            yield from named
        for value in schema.values():
            yield from properties(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value)


def missing(kind: str, texts: Mapping[str, str]) -> set[str]:
    """The fields of a document that its part of the page does not name."""
    found = set(properties(json.loads(schemas()[f"{kind}.v1.json"]))) - _OF_EVERY_DOCUMENT
    assert found
    return found - words("\n".join(texts[heading] for heading in _HEADINGS[kind]))


@pytest.fixture(scope="module")
def formats() -> Mapping[str, str]:
    headings = {heading for listed in _HEADINGS.values() for heading in listed}
    return {heading: part("registry-format.md", f"### {heading}") for heading in headings}


def test_every_document_has_a_part_of_the_page() -> None:
    assert {f"{kind}.v1.json" for kind in _HEADINGS} == schemas().keys()


@pytest.mark.parametrize("kind", _HEADINGS)
def test_the_format_has_every_field(kind: str, formats: Mapping[str, str]) -> None:
    assert missing(kind, formats) == set()


def test_a_field_that_is_missing_would_be_found(formats: Mapping[str, str]) -> None:
    without = {heading: text.replace("`truncate_dim`", "") for heading, text in formats.items()}
    assert missing("recipe", without) == missing("manifest", without) == {"truncate_dim"}


def test_the_whole_command_line_is_on_one_page() -> None:
    table = read(DOCS / "commands.md").partition("\n## ")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    shown = {span.split()[0] for row in rows for span in re.findall(r"`([^`]+)`", row)}
    assert shown == COMMANDS.keys()


def test_the_commands_that_clean_up_are_named() -> None:
    [said] = re.findall(r"129 SIGHUP\. ([^.]*) clean up on\s+all\s+three", read(DOCS / "commands.md"))
    assert re.findall(r"`(\w+)`", said) == sorted(_ENDED_IN_ORDER)


def test_the_variants_that_are_searched_for_are_named() -> None:
    [said] = re.findall(r"^auto = true +# search: (.*)$", read(DOCS / "variants.md"), re.MULTILINE)
    assert said.split(", ") == [name for name, spec in VARIANTS.items() if spec.searched]


def test_the_benchmarks_are_named() -> None:
    [said] = re.findall(r"BENCH_ARGS=fetch +# one of (.*)$", read(DOCS / "benchmarks.md"), re.MULTILINE)
    assert said.split(", ") == list(BENCHMARKS)


def test_what_may_be_replaced_in_a_version_is_named() -> None:
    [row] = [line for line in read(DOCS / "storage/https.md").splitlines() if "| `no-cache`" in line]
    of_version = row.partition("of a version ")[2].partition(" | ")[0]
    assert set(re.findall(r"`([^`]+)`", of_version)) == _REPLACED


def test_requests_are_as_many_as_are_measured() -> None:
    rows = re.findall(r"^\| (`\w+`[^|]*) \| (\d+)", part("storage.md", "## Requests"), re.MULTILINE)
    told = {row.replace("`", ""): int(count) for row, count in rows}
    assert told == {
        "fetch of what is on the disk already": _MOST["fetch what is there"],
        "fetch of a new version": 2,
        "plan": _MOST["plan"],
        "promote of a version (@v3)": _MOST["promote"],
    }


def test_the_tree_has_every_package() -> None:
    [tree] = re.findall(r"^src/modeldrop/\n(.*?)^```", read(DOCS / "architecture.md"), re.MULTILINE | re.DOTALL)
    drawn: list[str] = []
    path: list[str] = []
    for line in tree.splitlines():
        before, _, rest = line.partition("── ")
        path[len(before) // 4 :] = [rest.split()[0]]
        drawn.append("".join(path))
    source = ROOT / "src/modeldrop"
    assert [name for name in drawn if not (source / name).exists()] == []
    there = {f"{module.parent.relative_to(source)}/" for module in source.rglob("*.py")} - {"./"}
    families = {f"export/models/{task.family}/" for task in TASKS.values()} - {"export/models/generic/"}
    assert {name for name in drawn if name.endswith("/")} == there - families  # "one folder for each family"


def test_the_glossary_has_at_most_thirty_words() -> None:
    rows = re.findall(r"^\| ([a-z][^|]*) \| ", part("architecture.md", "## Glossary"), re.MULTILINE)
    words_of_rows = [word for row in rows[1:] for word in row.split(", ")]
    assert rows[0] == "word"
    assert len(set(words_of_rows)) == len(words_of_rows) <= 30
