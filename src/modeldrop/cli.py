"""The command line. Imports a command's module, and with it a layer, only when that command runs."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import gc
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from modeldrop._version import __version__
from modeldrop.errors import MORE_THREADS, NO_THREADS, DiskError, ModeldropError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = {
    "init": "begin in a repository: modeldrop.toml, a workflow, how it signs in",
    "publish": "build if this recipe was never built, upload, move the channel",
    "build": "build into a folder, without a registry",
    "exporter": "make, list or remove the environments that export models",
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
    "channel": "remove a channel, such as a pull request's",
    "refresh": "renew the signatures of channels",
    "attest": "verify GitHub's attestation on a version, or add one",
    "policy": "show or set what a version must have before a channel may name it",
    "key": "make a key to sign with, or show its public key",
    "mirror": "copy a version to another registry, byte for byte",
    "export": "push a version to a container registry, as an image or artifact",
    "history": "show the moves of a channel",
    "ls": "list the models of a registry, or the versions of a model",
    "show": "show everything about a version",
    "bom": "print a version's bill of materials (CycloneDX)",
    "diff": "show what differs between two versions",
    "site": "write the registry's pages: models, channels, versions, comparisons",
    "serve": "show those pages on this machine",
    "doctor": "check whether a registry can be used from here",
    "prune": "remove old versions and what crashed publishers left",
}
# These write to registries and start programs: told to end, they clean up. What the others do may be cut anywhere.
_ENDED_IN_ORDER = {"build", "doctor", "export", "mirror", "prune", "publish", "serve", "site"}
_REFUSED = {
    errno.EAGAIN, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC,
    errno.EROFS,
}  # fmt: skip
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
        command = _command(arguments)
        code = command()
        _flush()
    except ModeldropError as error:
        if debug:
            raise
        _say(f"modeldrop: {error}")
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        _free_uploads()
        if debug:
            raise
        _say("modeldrop: interrupted")
        from modeldrop.util.process import exit_code_of

        return exit_code_of(interrupt)
    except BrokenPipeError:
        _discard_output()  # its reader has ended
        return 0
    except Exception as error:
        if debug:
            raise
        known = _fault_of_machine(error)
        if known is not None:
            if isinstance(error, OSError):
                _discard_output()
            _say(f"modeldrop: {known}")
            return known.exit_code
        _say(
            f"modeldrop: unexpected {type(error).__name__}: {error}\n"
            "  This is a defect of modeldrop. Run the command again with --debug and report what it prints."
        )
        return ModeldropError.exit_code
    return code


def _command(arguments: list[str]) -> Callable[[], int]:
    """What the arguments ask for, ready to run; it returns the exit code."""
    name = arguments[0] if arguments else "--help"
    if name in {"-h", "--help", "help"}:
        return functools.partial(_print, _overview())
    if name in {"-V", "--version"}:
        return functools.partial(_print, f"modeldrop {__version__}")
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
    if name in _ENDED_IN_ORDER:
        from modeldrop.util.process import end_in_order

        end_in_order()
    if os.getpid() == 1 and name != "watch":  # which starts others, and has a process of its own for that
        from modeldrop.util.init_process import end_on_signals

        end_on_signals()
    if name == "run":
        rest, command = _split(rest)
        parser.set_defaults(command=command)
    return functools.partial(module.run, parser.parse_args(rest))


def _fault_of_machine(error: Exception) -> DiskError | None:
    """The error for what this machine refuses; None if it is no fault of a machine."""
    if isinstance(error, MemoryError):
        return DiskError("There is not enough memory for this.", "Give the process, or the container, more.")
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return DiskError(f"This cannot go on: {NO_THREADS}.", MORE_THREADS)
    if isinstance(error, UnicodeEncodeError):
        return DiskError(
            f"A file's name cannot be written here: this process's encoding is {error.encoding}.",
            "Set LC_ALL=C.UTF-8 or PYTHONUTF8=1.",
        )
    if not isinstance(error, OSError) or not error.strerror:
        return None
    if error.filename is not None:
        where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else error.filename
        return DiskError(f"{where} cannot be used: {error.strerror}.", "Check who may use it, and that it is there.")
    if error.errno in _REFUSED:
        return DiskError(
            f"This machine refuses it: {error.strerror}.",
            "What is written or printed has no room, or a limit is met.",
        )
    return None


def _free_uploads() -> None:
    """Free what unfinished uploads have sent, if anything was uploaded; nobody waits for the threads that send it."""
    interruption = sys.modules.get("modeldrop.storage.write.interruption")
    if interruption is not None:
        with contextlib.suppress(KeyboardInterrupt):
            interruption.free_all()


def _discard_output() -> None:
    """Let nothing more be written to where our output cannot go; the interpreter would try once more at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _print(text: str) -> int:
    print(text)
    return 0


def _say(text: str) -> None:
    """Tell it on standard error, if that can be written."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr)


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
