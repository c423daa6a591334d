"""What the pages show: their blocks, sentences, links, and the command lines of modeldrop in them."""

from __future__ import annotations

import functools
import re
import shlex
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")), ROOT / "examples/deploy/README.md")
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`([\w-]+\.(?:json|py|toml))`")
_OWN_NAME = re.compile(r"# ([\w-]+\.(?:py|toml))\n")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_PLACEHOLDER = re.compile(r"…|\[|<|\|\B|\b[A-Z]{3,}\b")
_END_OF_COMMAND = {"|", ">", "<", ">>", "&&", "||", ";", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block: the language behind its fence, and what is in it, with a line feed at its end.

    ``file`` is the name that its first line gives it, a comment, or the sentence before it, as in "`trust.json`, which
    lets in ...:".
    """

    page: Path
    line: int
    language: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"

    @property
    def tables(self) -> Collection[str]:
        """The keys of a block of TOML; none of others."""
        return tomllib.loads(self.text).keys() if self.language == "toml" else ()

    @property
    def saved_as(self) -> str:
        """The file that a reader keeps the block in; "" for those that are not kept."""
        if self.file:
            return self.file
        if not self.tables:
            return ""
        return "modeldrop.toml" if is_configuration(self) else f"recipe-{self.line}.toml"


def is_configuration(block: Block) -> bool:
    """Whether TOML is a modeldrop.toml; else it is a recipe."""
    return "registries" in block.tables or "models" in block.tables


def name_of(path: Path) -> str:
    """A file's path in the repository."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def read(page: Path) -> str:
    return page.read_text("utf-8")


@functools.cache
def blocks(page: Path) -> tuple[Block, ...]:
    """All fenced blocks of a page, in order."""
    text = read(page)
    found = []
    for match in _FENCE.finditer(text):
        paragraph = text[: match.start()].rstrip().rpartition("\n\n")[2]
        named = _OWN_NAME.match(match[3]) or _NAMED.match(paragraph)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page=page, line=line, language=match[2], text=match[3], file=named[1] if named else ""))
    return tuple(found)


def all_blocks(*languages: str) -> list[Block]:
    """The blocks in these languages, of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", read(page))


def links(page: Path) -> list[str]:
    """Where a page's sentences link to."""
    return _LINK.findall(prose(page))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)}


def commands_in_sentences(page: Path) -> list[str]:
    """The command lines in a page's sentences: those that could be typed, being no mere names or forms."""
    spans = [span for span in _SPAN.findall(prose(page)) if span.startswith("modeldrop ")]
    return [span for span in spans if len(span.split()) > 2 and not _PLACEHOLDER.search(span)]


def forms_in_sentences(page: Path) -> list[str]:
    """The commands in a page's sentences that have a REGISTRY or the like where something is to be written."""
    spans = [span for span in _SPAN.findall(prose(page)) if span.startswith("modeldrop ")]
    return [span for span in spans if len(span.split()) > 1 and _PLACEHOLDER.search(span)]


def words_of(line: str) -> list[str]:
    """What the shell passes on of a line, up to a pipe, a redirection or a comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    return words[: next((index for index, word in enumerate(words) if word in _END_OF_COMMAND), len(words))]
