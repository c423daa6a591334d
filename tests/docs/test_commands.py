"""Every command, program and workflow step that a page shows is run, and prints what is shown."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docs.docs_env import DocsEnvironment
from tests.docs.page_runner import STUBS, PageRunner, Step, StepOutput, steps
from tests.docs.page_setups import PAGE_SETUPS
from tests.docs.pages import DOCS, PAGES, Block, blocks, commands_in_sentences, name_of
from tests.helpers.builds import publisher_environment
from tests.helpers.clouds import Servers
from tests.helpers.command_line import without_progress
from tests.helpers.minilm import PUBLISH, publish_once

__all__ = ["publisher_environment"]
pytestmark = pytest.mark.heavy

_MARKS: Mapping[str, pytest.MarkDecorator] = {
    "docs/migration.md": pytest.mark.soak,  # builds as docs/sources.md and docs/getting-started.md do, by other names
    "docs/sources.md": pytest.mark.rounds,  # what lies in a bucket is only planned in `make test`
}
# What differs from run to run: digests, durations, rates, and figures of speed. Fidelity depends a little on the CPU.
_VARIES = (
    (re.compile(r"\b(v\d+-[\w-]+)-[0-9a-f]{12}\b"), r"\1-DIGEST"),
    (re.compile(r"\bsha256:[0-9a-f]+"), "sha256:DIGEST"),
    (re.compile(r" in \d+\.\d s \(.*?/s\)"), ""),  # not told of what took no time
    (re.compile(r" +\(\d+\.\d s\)"), ""),
    (re.compile(r"\b[\d.]+( m?s)?(/[\d.]+)? m?s\b( +[\d.]+×)?"), "SPEED"),
    (re.compile(r"\b([01]\.\d\d)\d\d\b"), r"\1"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "WHEN"),
    (re.compile(r" {2,}"), "  "),
)
_SIZE = re.compile(r"\b[\d.]+ [kMG]?B\b")
# What is told of a step that takes long, while it goes on: whole seconds.
_SLOW = re.compile(r"^\[\d/\d\] .*\(\d+ s\)$", re.MULTILINE)


def of_page(page: Path) -> list[Step]:
    return [step for block in blocks(page) for step in steps(block)]


def normal(text: str, *, sizes: bool) -> list[str]:
    """What a page or a command says, without what differs from run to run; ``sizes`` are those of the real model."""
    text = _SLOW.sub("", without_progress(text))
    text = text if sizes else _SIZE.sub("SIZE", text)
    for pattern, replacement in _VARIES:
        text = pattern.sub(replacement, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def docs_env(servers: Servers, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[DocsEnvironment]:
    publish = functools.partial(publish_once, tmp_path_factory, worker_id)
    with contextlib.ExitStack() as stack:
        yield DocsEnvironment(tmp_path_factory.mktemp("docs_env"), stack, servers, publish)


def do(reader: PageRunner, step: Step) -> StepOutput:
    """Do what a page shows; it must succeed."""
    said = reader.run_step(step)
    assert said.code == 0, f"{step}\n{said.text}"
    return said


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=name_of(page), marks=_MARKS.get(name_of(page), ())) for page in PAGES if of_page(page)],
)
def test_a_page_goes_as_shown(
    docs_env: DocsEnvironment, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = PAGE_SETUPS[name_of(page)]
    reader = docs_env.reader(setup, tmp_path / "reader", monkeypatch)
    for block in blocks(page):
        if block.saved_as:
            reader.write_file(block.saved_as, block.text)
    for step in of_page(page):
        for begin, happens in setup.between.items():
            if step.script.startswith(begin):
                happens(next(iter(reader.registries.values())))
        whole = replace(step, script=setup.before + step.script) if step.python else step
        real = setup.real and step.script == PUBLISH
        said = docs_env.publish_minilm(reader) if real else do(reader, whole)
        if step.shown:
            assert normal(said.text, sizes=setup.real) == normal(step.shown, sizes=setup.real), str(step)
    for line in commands_in_sentences(page):
        do(reader, Step(Block(page, 0, "sh", line), line))


def test_the_disk_is_as_drawn(docs_env: DocsEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = DOCS / "runtime.md"
    reader = docs_env.reader(PAGE_SETUPS[name_of(page)], tmp_path / "reader", monkeypatch)
    [tree] = [block for block in blocks(page) if block.language == "text"]
    for reference in ("s3://acme-models/embedder@v1", "s3://acme-models/embedder"):
        do(reader, Step(tree, f"modeldrop fetch {reference} -d /models"))
    home, *drawn = tree.text.splitlines()
    model = tmp_path / "home" / Path(home).name
    for line in drawn:
        name, _, target = re.split(r" {2,}", line.partition("── ")[2])[0].partition(" -> ")
        pattern = re.sub(r"-[0-9a-f]{12}/?$", "-*", name.removesuffix("/…"))
        [found] = model.glob(pattern)
        assert found.is_symlink() == bool(target)
        assert not target or found.readlink().name.startswith(target.rpartition("-")[0])


def test_only_what_cannot_run_has_a_stub(
    docs_env: DocsEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = "\n".join(step.script for page in PAGES for step in of_page(page) if not step.python)
    assert [name for name in STUBS if not re.search(rf"(?:^|[\s(]){name} ", shown)] == []
    reader = docs_env.reader(PAGE_SETUPS["docs/benchmarks.md"], tmp_path / "reader", monkeypatch)
    block = Block(DOCS / "index.md", 0, "sh", "")
    assert reader.run_step(Step(block, "curl --version")).code == 127
    assert reader.run_step(Step(block, "modeldrop fetsch")).code == 2


def test_another_output_would_be_found() -> None:
    shown = "embedder v1 int8: 23.9 MB fetched and verified in 0.3 s (75.6 MB/s)\n…/v1-int8-b7774aa1563f"
    said = "embedder v1 int8: 23.9 MB fetched and verified\n…/v1-int8-0123456789ab\n"
    assert normal(shown, sizes=True) == normal(said, sizes=True)
    slow = "embedder: 37% of 23.9 MB, 1.4 MB/s, 0:11 left\nembedder: 100% of 23.9 MB, 4.2 MB/s\n"
    assert normal(slow + said, sizes=True) == normal(said, sizes=True)
    for other in (said.replace("int8", "fp32"), said.replace("23.9", "24.0"), said + "a warning"):
        assert normal(shown, sizes=True) != normal(other, sizes=True)


def test_a_page_without_steps_has_no_ground() -> None:
    assert set(PAGE_SETUPS) == {name_of(page) for page in PAGES if of_page(page)}
