"""The command line. Imports a command's module, and with it a layer, only when that command runs."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from modeldrop._version import __version__
from modeldrop.errors import ModeldropError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "publish": "build if this recipe was never built, upload, move the channel",
    "build": "build into a folder, without a registry",
    "plan": "tell whether publish would build anything",
    "matrix": "print the models of modeldrop.toml for the matrix of a workflow",
    "fetch": "download versions, verify them, print their paths",
    "run": "fetch, then run a program in place of modeldrop",
    "watch": "follow channels; activate new versions, then notify a program",
    "status": "show what this disk has and how old that is, for health checks",
    "verify": "hash again what this disk has",
    "cache": "list or remove snapshots on this disk",
    "promote": "point a channel at a version",
    "rollback": "point a channel at what it named before",
    "mirror": "copy a version to another registry, byte for byte",
    "history": "show the moves of a channel",
    "ls": "list the models of a registry, or the versions of a model",
    "show": "show everything about a version",
    "diff": "show what differs between two versions",
    "doctor": "check whether a registry can be used from here",
    "prune": "remove old versions and what crashed publishers left",
}
_INTERRUPTED = 130
# Python collects garbage after every 700 new objects; imports make 50,000, and none of them is garbage.
_GARBAGE = 50_000


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Finds the terminal's width without shutil, whose import takes longer than parsing the arguments."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdecimal() else 0
        with contextlib.suppress(OSError, ValueError):
            width = width or os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns
        super().__init__(prog, width=(width or 80) - 2)


def program() -> NoReturn:
    """Run as a program of its own: ends without the interpreter's clean-up, which takes a tenth of a fetch's time."""
    gc.set_threshold(_GARBAGE)
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed, or nobody reads it
            stream.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; turn expected failures into a message and their exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in _split(arguments)[0]
    try:
        _tolerate_any_text()
        code = _run(arguments)
        _flush()
    except ModeldropError as error:
        if debug:
            raise
        print(f"modeldrop: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if debug:
            raise
        print("modeldrop: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has ended; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if debug:
            raise
        print(
            f"modeldrop: unexpected {type(error).__name__}: {error}\n"
            "  This is a defect of modeldrop. Run the command again with --debug and report what it prints.",
            file=sys.stderr,
        )
        return ModeldropError.exit_code
    return code


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in {"-h", "--help", "help"}:
        print(_overview())
        return 0
    if name in {"-V", "--version"}:
        print(f"modeldrop {__version__}")
        return 0
    if name not in COMMANDS:
        raise UsageError(f"There is no command {name!r}.", f"The commands are: {', '.join(COMMANDS)}.")
    module = importlib.import_module(f"modeldrop.commands.{name}")
    parser = argparse.ArgumentParser(
        prog=f"modeldrop {name}",
        description=module.__doc__,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show a traceback where something fails")
    rest = arguments[1:]
    if os.getpid() == 1 and name != "watch":  # which starts others, and has a process of its own for that
        from modeldrop.util.init_process import end_on_signals

        end_on_signals()
    if name == "run":
        rest, command = _split(rest)
        parser.set_defaults(command=command)
    return int(module.run(parser.parse_args(rest)))


def _tolerate_any_text() -> None:
    """Print anything: a path can hold bytes that are not UTF-8, and a terminal may have no '→'."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower() == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _flush() -> None:
    if sys.stdout is not None:  # it may be closed: modeldrop … >&-
        sys.stdout.flush()


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and those after the first ``--``, which argparse must not see."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def _overview() -> str:
    lines = [f"  {name:<10} {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: modeldrop COMMAND …",
            "",
            "commands:",
            *lines,
            "",
            "For the options of a command: modeldrop COMMAND --help",
        ]
    )
