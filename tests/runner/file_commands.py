"""The files through which a step speaks to the runner, read as actions/runner reads them (FileCommandManager.cs)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SUMMARY_LIMIT = 1024 * 1024  # bytes; a larger summary is not shown

_PREFIXES = {
    "path": "add_path_",
    "env": "set_env_",
    "output": "set_output_",
    "state": "save_state_",
    "step_summary": "step_summary_",
}


class FileCommandError(Exception):
    """A file that the runner would refuse, which fails the step."""


@dataclass(frozen=True, slots=True)
class Files:
    """One step's files, by the name of their field in the github context."""

    paths: dict[str, Path]

    @classmethod
    def create(cls, temp: Path) -> Self:
        """New, empty files below RUNNER_TEMP."""
        folder = temp / "_runner_file_commands"
        folder.mkdir(parents=True, exist_ok=True)
        suffix = uuid.uuid4()
        paths = {name: folder / f"{prefix}{suffix}" for name, prefix in _PREFIXES.items()}
        for path in paths.values():
            path.touch()
        return cls(paths)

    def pairs(self, name: str) -> dict[str, str]:
        """The names and values in ``env``, ``output`` or ``state``; the last of several with one name counts.

        Raises:
            FileCommandError: a line that is neither NAME=VALUE nor NAME<<DELIMITER, or a delimiter that never comes.
        """
        path = self.paths[name]
        return parse_pairs(path.read_text("utf-8", "replace")) if path.exists() else {}

    def lines(self) -> list[str]:
        """What ``path`` adds to PATH."""
        path = self.paths["path"]
        return [line for line in path.read_text("utf-8").splitlines() if line] if path.exists() else []

    def summary(self) -> str:
        """The step's summary.

        Raises:
            FileCommandError: it is larger than GitHub shows.
        """
        path = self.paths["step_summary"]
        if not path.exists():
            return ""
        content = path.read_bytes()
        if len(content) > SUMMARY_LIMIT:
            raise FileCommandError(f"$GITHUB_STEP_SUMMARY: {len(content)} bytes are more than {SUMMARY_LIMIT}")
        return content.decode("utf-8", "replace")


def parse_pairs(text: str) -> dict[str, str]:
    """The runner's format of names and values, which may go over several lines.

    Raises:
        FileCommandError: see ``Files.pairs``.
    """
    pairs: dict[str, str] = {}
    rest = text
    while rest:
        line, rest = _line(rest)
        if not line:
            continue
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, _, value = line.partition("=")
        elif heredoc >= 0:
            name, _, delimiter = line.partition("<<")
            if not name or not delimiter:
                raise FileCommandError(f"Invalid format '{line}'. Name and delimiter must not be empty")
            value, rest = _until(rest, delimiter)
        else:
            raise FileCommandError(f"Invalid format '{line}'")
        pairs[name] = value
    return pairs


def _line(text: str) -> tuple[str, str]:
    line, _, rest = text.partition("\n")
    return line, rest


def _until(text: str, delimiter: str) -> tuple[str, str]:
    lines: list[str] = []
    while text:
        line, text = _line(text)
        if line == delimiter:
            return "\n".join(lines), text
        lines.append(line)
    raise FileCommandError(f"Invalid value. Matching delimiter not found '{delimiter}'")
