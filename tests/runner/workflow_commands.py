"""Workflow commands in what a step prints, found as actions/runner finds them (ActionCommand.cs)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REGISTERED = frozenset(
    {
        "add-mask",
        "add-matcher",
        "add-path",
        "debug",
        "echo",
        "endgroup",
        "error",
        "group",
        "notice",
        "remove-matcher",
        "save-state",
        "set-env",
        "set-output",
        "stop-commands",
        "warning",
    }
)
_DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
_PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
_OLD = (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%"))
_OLD_PREFIX = "##["


@dataclass(frozen=True, slots=True)
class Command:
    """A command, its properties (names in small letters) and its data, unescaped."""

    name: str
    properties: Mapping[str, str]
    data: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """What GitHub shows beside the run: ``level`` is error, warning or notice."""

    level: str
    message: str
    title: str = ""
    file: str = ""
    line: str = ""


def parse(line: str, known: frozenset[str] = REGISTERED) -> Command | None:
    """The command in a line, in either of its forms, or None.

    ``::name key=value::data`` must begin the line, but for white space; the older ``##[name key=value]data`` may
    stand anywhere in it, and is why text from outside may not be printed as it came.
    """
    return _new(line, known) or _old(line, known)


def read(printed: str) -> list[Command]:
    """The commands in what a step printed, but for those between ``stop-commands`` and its token."""
    found: list[Command] = []
    token = ""
    for line in printed.splitlines():
        if token:
            if parse(line, REGISTERED | {token}) == Command(token, {}, ""):
                token = ""
        elif command := parse(line):
            token = command.data if command.name == "stop-commands" else ""
            found.append(command)
    return found


def annotation(command: Command) -> Annotation:
    """The annotation that an ``error``, ``warning`` or ``notice`` command makes."""
    of = command.properties
    return Annotation(
        level=command.name,
        message=command.data,
        title=of.get("title", ""),
        file=of.get("file", ""),
        line=of.get("line", ""),
    )


def _new(line: str, known: frozenset[str]) -> Command | None:
    text = line.lstrip()
    if not text.startswith("::") or (end := text.find("::", 2)) < 0:
        return None
    name, _, properties = text[2:end].partition(" ")
    if name not in known:
        return None
    return Command(name, _properties(properties.strip(), ",", _PROPERTY), _unescape(text[end + 2 :], _DATA))


def _old(line: str, known: frozenset[str]) -> Command | None:
    start = line.find(_OLD_PREFIX)
    end = line.find("]", start)
    if start < 0 or end < 0:
        return None
    name, _, properties = line[start + len(_OLD_PREFIX) : end].partition(" ")
    if name not in known:
        return None
    return Command(name, _properties(properties, ";", _OLD), _unescape(line[end + 1 :], _OLD))


def _properties(text: str, separator: str, escapes: tuple[tuple[str, str], ...]) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split(separator))
    return {name.lower(): _unescape(value, escapes) for name, equals, value in pairs if name and equals and value}


def _unescape(text: str, escapes: tuple[tuple[str, str], ...]) -> str:
    for escaped, plain in escapes:
        text = text.replace(escaped, plain)
    return text
