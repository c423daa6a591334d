"""All pages and README: commands run or parse, documents and programs are whole, links lead somewhere."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from docs.repository_links import to_repository
from modeldrop import errors
from modeldrop.cli import COMMANDS
from modeldrop.format.recipe import parse_recipe
from modeldrop.format.settings import parse_settings
from tests.builds import environment, publish_build
from tests.commands import modeldrop
from tests.docs.test_storage import arguments_of, parser_of, slug

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"^(?:- run: |RUN |\$ )?(?:[A-Z0-9_]+=(?:\"[^\"]*\"|\S+) +)*(modeldrop .+)$")
_SNAPSHOT = re.compile(r"(v\d+-[\w-]+)-[0-9a-f]{12}\b")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    return _FENCE.findall(page.read_text("utf-8"))


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text("utf-8"))


def commands(page: Path) -> list[str]:
    """The command lines in a page's blocks, and those in its sentences that are no mere names."""
    lines = "\n".join(text for _, text in blocks(page)).replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := _COMMAND.match(line.strip()))]
    spans = re.findall(r"`(modeldrop [^`\n]+)`", prose(page))
    return found + [span for span in spans if len(span.split()) > 2 and not re.search(r"…|\b[A-Z]{3,}\b", span)]


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


@dataclass
class Reader:
    """Somebody who types what a page shows into a scratch folder; only ``publish`` builds nothing for them."""

    folder: Path
    published: int = 0
    ran: list[str] = field(default_factory=list)

    def publish(self) -> None:
        self.published += 1
        publish_build(self.folder / "models", str(self.published))

    def type(self, line: str) -> str:
        """Run a line; what it said, on either stream, without what differs from build to build."""
        _, command, *arguments = arguments_of(line)
        self.ran.append(command)
        if command == "publish":
            self.publish()
            return ""
        ran = modeldrop(command, *arguments, cwd=self.folder, environment=environment())
        assert ran.code == 0, f"{line}: {ran.err}"
        return normal(ran.out + ran.err)


def normal(text: str) -> str:
    return _SNAPSHOT.sub(r"\1-DIGEST", text)


def session(page: Path) -> list[tuple[str, list[str]]]:
    """The commands of a page's console blocks, each with the output shown below it."""
    typed: list[tuple[str, list[str]]] = []
    for language, text in blocks(page):
        for line in text.splitlines() if language == "console" else ():
            if line.startswith("$ "):
                typed.append((line[2:], []))
            elif typed:
                typed[-1][1].append(line)
    return typed


def test_getting_started_goes_as_shown(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for line, shown in session(ROOT / "docs/getting-started.md"):
        said = reader.type(line).splitlines()
        for expected in shown:
            assert any(normal(expected).removeprefix("./") in got for got in said), (line, expected, said)
    assert set(reader.ran) == {"fetch", "history", "ls", "promote", "publish", "rollback", "run", "show"}


def test_the_five_minutes_of_the_readme_go_as_shown(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    (tmp_path / "serve.py").write_text("import os; assert os.path.isdir(os.environ['MODELDROP_MODEL_EMBEDDER'])")
    for line, shown in session(ROOT / "README.md"):
        if "://" in line:
            continue  # clouds: test_commands_parse
        if " rollback " in line:
            reader.publish()  # "Something is wrong with the new version?"
        said = reader.type(line.replace(" /models", f" {tmp_path}/models-here"))
        if not line.startswith("modeldrop publish"):
            for expected in shown:
                assert normal(expected).replace("/models/", f"{tmp_path}/models-here/", 1) in said
    assert set(reader.ran) == {"fetch", "publish", "rollback", "run"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path) -> None:
    for line in commands(page):
        _, command, *arguments = arguments_of(line)
        assert command in COMMANDS, line
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        try:
            parser_of(command).parse_args(ours)
        except (argparse.ArgumentError, SystemExit) as error:
            pytest.fail(f"{name_of(page)}: {line}: {error}")


def test_commands_are_found() -> None:
    found = {line.split()[1] for page in PAGES for line in commands(page)}
    assert found >= {"doctor", "fetch", "mirror", "promote", "prune", "publish", "rollback", "run", "watch"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_documents_and_programs_are_whole(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            ast.parse(text)
        elif language == "json":
            json.loads(text)
        elif language == "yaml":
            list(yaml.safe_load_all(text))
        elif language == "sh":
            shlex.split(text, comments=True)
        elif language == "toml":
            shown = tomllib.loads(text)
            if {"registries", "models"} & shown.keys():
                parse_settings(text)
            elif shown.keys() & {"variants", "thresholds", "options", "task"}:
                parse_recipe(shown)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), link


def test_every_page_is_on_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": ([\w/.-]+\.md)$", menu, re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:])


def test_on_the_site_what_is_not_a_page_is_in_the_repository() -> None:
    text = "[a](../README.md#more) [b](../../examples/demo) [c](../storage.md) [d](s3.md)"
    assert to_repository("[a](../README.md#more)", "runtime.md", "R") == "[a](R/blob/main/README.md#more)"
    expected = "[b](R/tree/main/examples/demo) [c](../storage.md) [d](s3.md)"
    assert to_repository(text.partition(") ")[2], "storage/s3.md", "R") == expected
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        to_repository("[x](../nothing-here)", "runtime.md", "R")


ROWS = re.findall(r"^\| `([^`]+)` \| (\d+) \|", (ROOT / "docs/troubleshooting.md").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("message", "code"), ROWS)
def test_the_messages_shown_are_those_of_the_code(message: str, code: str) -> None:
    """The words stand in an error, or in a sentence that one is made of, of a class with that exit code."""
    classes = {name for name, kind in vars(errors).items() if getattr(kind, "exit_code", None) == int(code)}
    assert classes
    found = [path for path in (ROOT / "src").rglob("*.py") if message in said(path)]
    assert found, message
    assert any(name in path.read_text("utf-8") for path in found for name in classes), (message, code)


def said(path: Path) -> str:
    """All texts of a module, what stands in one expression joined, values left out."""
    texts = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return "\n".join(texts)


def test_messages_are_found() -> None:
    assert len(ROWS) > 20
