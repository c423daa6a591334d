"""Talk to the runner: workflow commands, outputs, the job summary.

actions-toolkit writes outputs and commands. Annotations are our own (its print empty properties, and the first are
needed before it is installed), and so are the outputs that our own steps read, and the job summary.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_OUTPUT = re.compile(r"[a-z][a-z0-9-]*")
_MAX_ANNOTATION = 4000
# GitHub refuses a step's whole summary where it has more than 1 MiB.
_MAX_SUMMARY = (1 << 20) - 4096
_CUT = "\n\n*The summary was cut here: GitHub takes at most 1 MiB.*\n"
# Values of variables with such names are secrets, even if GitHub does not know them as such.
_SECRETS = re.compile(r"TOKEN$|SECRET|PASSWORD|PASSWD|_KEY$|CONNECTION_STRING$|SAS$")
_MIN_SECRET = 8
# What ends the part of the log in which the runner takes no commands, while there is one.
_stopped = ""


def annotate(level: str, title: str, message: str) -> None:
    """An annotation: ``error``, ``warning`` or ``notice``; whatever the message holds, it remains one."""
    text = message if len(message) <= _MAX_ANNOTATION else f"{message[: _MAX_ANNOTATION - 1]}…"
    text = "".join(char if char.isprintable() or char in "\r\n" else "?" for char in text)
    title = _escape(title).replace(":", "%3A").replace(",", "%2C")
    command = f"::{level} title={title}::{_escape(text)}"
    _write(f"\n::{_stopped}::\n{command}\n::stop-commands::{_stopped}" if _stopped else command)


def say(text: str) -> None:
    """Lines in the log. No line can be taken for a command to the runner."""
    for line in text.splitlines():
        shown = "".join(char if char.isprintable() else "?" for char in line).replace("##[", "# #[")
        _write(f"modeldrop: {shown}" if shown.lstrip().startswith("::") else shown)


def step_outputs(values: Mapping[str, str]) -> None:
    """Outputs for ``action.yml`` itself: one line each. It serves before actions-toolkit is installed."""
    for name, value in values.items():
        _check_output(name)
        if not value.isprintable():
            raise ValueError(f"{name}: an output of a step is one line")
    path = os.environ.get("GITHUB_OUTPUT")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("".join(f"{name}={value}\n" for name, value in values.items()))


def set_outputs(values: Mapping[str, str]) -> None:
    """The action's outputs; they may have several lines."""
    for name in values:
        _check_output(name)
    from actions_toolkit import core

    for name, value in values.items():
        core.set_output(name, value)
    sys.stdout.flush()


@contextlib.contextmanager
def group(title: str) -> Iterator[None]:
    """Everything printed meanwhile is one part of the log that opens and closes, and no command to the runner.

    Our own annotations are, all the same.
    """
    global _stopped  # noqa: PLW0603  the log is one, too
    _write(f"::group::{_escape(title)}")
    _stopped = secrets.token_hex(16)
    _write(f"::stop-commands::{_stopped}")
    try:
        yield
    finally:
        sys.stderr.flush()
        # What has printed half a line must not be in the way.
        _write(f"\n::{_stopped}::\n::endgroup::")
        _stopped = ""


def mask_secrets(environment: Mapping[str, str]) -> None:
    """Have the runner hide, in all that follows, what the environment holds of secrets."""
    from actions_toolkit import core

    for secret in sorted(set(_secrets(environment))):
        core.set_secret(secret)
    sys.stdout.flush()


def append_summary(markdown: str) -> None:
    """Add to the step's summary; cut where it would have more than GitHub takes."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    data = markdown.encode()
    if len(data) > _MAX_SUMMARY:
        data = data[: _MAX_SUMMARY - len(_CUT)].decode("utf-8", "ignore").encode() + _CUT.encode()
    with Path(path).open("ab") as file:
        file.write(data)


def _secrets(environment: Mapping[str, str]) -> Iterable[str]:
    for name, value in environment.items():
        if _SECRETS.search(name.upper()):
            yield from (line for line in value.splitlines() if len(line) >= _MIN_SECRET)
        yield from (found for found in re.findall(r"://[^/@\s:]*:([^/@\s]+)@", value) if len(found) >= _MIN_SECRET)


def _check_output(name: str) -> None:
    if not _OUTPUT.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an output")


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
