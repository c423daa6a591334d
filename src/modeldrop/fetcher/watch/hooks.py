"""Hooks: telling another program that a model changed, by a command, a signal or an HTTP request, in limited time."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from modeldrop._version import __version__
from modeldrop.errors import HookError, UsageError
from modeldrop.storage.errors import detail
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.process import end_group, parse_signal, signal_name, standard_error
from modeldrop.util.retry import Deadline, with_timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modeldrop.fetcher.snapshot import Snapshot

DEFAULT_SECONDS = 60.0
DEFAULT_AUTHORIZATION = "MODELDROP_POST_AUTHORIZATION"
_LISTENS = 0.25  # seconds between two attempts while nobody listens
_PROC = Path("/proc")
_MAX_PID_FILE = 64
_MAX_PID = 1 << 22


class HookCall(NamedTuple):
    """What a hook is told.

    Attributes:
        new: the snapshot that is in use from now on.
        previous: the one before, None where there was none.
        returned: whether this goes back to an older snapshot because the newer one failed.
    """

    new: Snapshot
    previous: Snapshot | None
    returned: bool = False


class Hook(Protocol):
    """Something to do after a model changed."""

    def __str__(self) -> str:
        """What it is called in messages; holds no secrets."""

    def run(self, call: HookCall) -> None:
        """Do it, within its time limit.

        Raises:
            HookError: it failed.
        """

    def stop(self) -> None:
        """End what is running: the watch itself ends."""


class ExecHook:
    """Runs a command, without a shell.

    It finds ``MODELDROP_MODEL``, ``MODELDROP_PATH``, ``MODELDROP_VERSION``, ``MODELDROP_GENERATION`` and
    ``MODELDROP_PREVIOUS_PATH`` (empty for the first) in its environment. What it prints goes to standard error. At
    the limit its whole process group is killed.

    Args:
        command: the command line, in words as a shell would split it.
        seconds: how long it may take.

    Raises:
        UsageError: it is empty, or its quotes are not closed.
    """

    def __init__(self, command: str, seconds: float = DEFAULT_SECONDS) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--exec {command[:80]!r} cannot be split into words: {error}.") from None
        if not self._words:
            raise UsageError("--exec names no command.", "Write --exec 'PROGRAM ARGUMENTS…'.")
        self._seconds = seconds
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __str__(self) -> str:
        return f"--exec {self._words[0]}"  # its arguments may hold secrets

    def run(self, call: HookCall) -> None:
        environment = os.environ | {
            "MODELDROP_MODEL": call.new.model,
            "MODELDROP_PATH": str(call.new.path),
            "MODELDROP_VERSION": f"v{call.new.version}",
            "MODELDROP_GENERATION": str(call.new.generation or ""),
            "MODELDROP_PREVIOUS_PATH": str(call.previous.path) if call.previous else "",
        }
        with self._lock:
            if self._stopped:
                raise HookError(f"{self} was not started: the watch is ending.")
            try:
                process = subprocess.Popen(
                    self._words,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=standard_error(),
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise HookError(f"{self} could not be started: {reason}.") from None
            self._running = process
        try:
            code = process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            end_group(process)
            raise HookError(f"{self} took longer than {self._seconds:g} s and was killed.") from None
        finally:
            with self._lock:
                self._running = None
        if code < 0:
            raise HookError(f"{self} was ended by {signal_name(-code)}.")
        if code:
            raise HookError(f"{self} ended with exit code {code}.")

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._running is not None:
                end_group(self._running)


class SignalHook:
    """Sends a signal to a process.

    A process is named by its number, by a file that holds its number (a path with a ``/``), or by its name as
    ``/proc`` has it. Of several processes with that name those are signalled whose parent does not have it: a
    server's master, not its workers. This process is never signalled, process 1 only where it is named itself:
    a number that a file holds may mean another container's.

    Args:
        target: ``PID``, ``FILE`` or ``NAME``, and ``:SIGNAL`` behind it for another than SIGHUP.
        proc: where the system shows its processes.

    Raises:
        UsageError: it is invalid.
    """

    def __init__(self, target: str, proc: Path = _PROC) -> None:
        who, colon, name = target.rpartition(":")
        self._signal = signal.SIGHUP
        if colon:
            found = parse_signal(name)
            if found is None:
                raise UsageError(
                    f"--signal {target[:80]!r}: there is no signal {name[:20]!r}.",
                    "Write PID, FILE or NAME, and a signal behind it: nginx:HUP, /run/app.pid:USR1, 17:15.",
                )
            self._signal = found
        self._who = who if colon else target
        # As process 1 the watch goes on in a child, and what it is told is handed on by this one.
        self._made_by = os.getpid()
        self._proc = proc
        if not self._who:
            raise UsageError(f"--signal {target[:80]!r} names no process.", "Write PID, FILE or NAME.")
        if self._who.lstrip("-").isdigit():
            if not 0 < int(self._who) <= _MAX_PID:
                raise UsageError(f"--signal {self._who[:20]} is not the number of a process.", "Write PID 1 or more.")
            if self._is_us(int(self._who)):
                raise UsageError(f"--signal {self._who} is this watch itself.", "Name the program that is to reload.")
        elif "/" not in self._who and not proc.is_dir():
            raise UsageError(
                f"--signal {self._who[:80]!r}: this system has no {proc} to find a process by its name.",
                "Write its number, or a file that holds it: /run/app.pid.",
            )

    def __str__(self) -> str:
        return f"--signal {self._who}:{self._signal.name}"

    def run(self, call: HookCall) -> None:  # noqa: ARG002  a signal tells nothing more
        for pid in self._processes():
            try:
                os.kill(pid, self._signal)
            except ProcessLookupError:
                raise HookError(f"{self}: there is no process {pid}.") from None
            except OSError as error:
                raise HookError(f"{self}: process {pid} cannot be signalled: {error.strerror}.") from None

    def stop(self) -> None:
        """It takes no time."""

    def _processes(self) -> list[int]:
        if self._who.isdigit():
            return [int(self._who)]
        if "/" in self._who:
            return [self._from_file()]
        parents = {pid: parent for pid, parent in self._named() if not self._is_us(pid)}
        found = [pid for pid, parent in parents.items() if parent not in parents]
        if not found:
            raise HookError(f"{self}: no process has this name.")
        return sorted(found)

    def _is_us(self, pid: int) -> bool:
        return pid in {os.getpid(), self._made_by}

    def _from_file(self) -> int:
        try:
            with open(self._who, "rb") as file:  # noqa: PTH123  as it was given
                text = file.read(_MAX_PID_FILE).strip()
        except OSError as error:
            raise HookError(f"{self}: the file cannot be read: {error.strerror}.") from None
        if not text.isdigit() or not 0 < int(text) <= _MAX_PID:
            raise HookError(f"{self}: the file holds no number of a process.")
        pid = int(text)
        if self._is_us(pid):
            raise HookError(f"{self}: the file holds the number of this watch.")
        if pid == 1:
            raise HookError(f"{self}: the file holds the number 1. If that is meant, write --signal 1.")
        return pid

    def _named(self) -> Iterator[tuple[int, int]]:
        """Processes of that name, each with its parent's number."""
        wanted = os.fsencode(self._who)
        for entry in os.scandir(self._proc):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):  # it may end while we look
                folder = Path(entry.path)
                # "PID (name) state parent …"; the name may hold blanks and brackets.
                name, _, rest = (folder / "stat").read_bytes().partition(b"(")[2].rpartition(b")")
                state, parent = rest.split()[:2]
                # The kernel keeps 15 bytes of a name; the whole of it is in the command line.
                program = (folder / "cmdline").read_bytes().partition(b"\0")[0].rpartition(b"/")[2]
                if state != b"Z" and wanted in {name, program}:
                    yield int(entry.name), int(parent)


class PostHook:
    """Sends a JSON document to an address; an answer of 2xx is success, and no redirection is followed.

    While nobody listens there (a service that starts beside the watch), it is tried again as long as it may take.

    Args:
        url: ``http://`` or ``https://``.
        authorization: the environment variable that holds the ``Authorization`` header, if one is to be sent.
        seconds: how long it may take.

    Raises:
        UsageError: the address cannot be one, or holds a password.
    """

    def __init__(self, url: str, authorization: str = DEFAULT_AUTHORIZATION, seconds: float = DEFAULT_SECONDS) -> None:
        try:
            parts = urlsplit(url)
            good = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
        except ValueError:
            good = False
        if not good or not url.isascii() or not url.isprintable() or " " in url:
            raise UsageError(f"--post {url.partition('?')[0][:80]!r} is not an address.", "Write http:// or https://.")
        if "@" in parts.netloc:
            raise UsageError(
                "--post takes no user name or password in the address.",
                f"Put the whole header into the environment: {authorization}='Bearer …' (--post-auth-env).",
            )
        # Now, not within the time limit of the first request: it takes a while on a busy machine.
        import urllib.request  # noqa: F401

        import modeldrop.util.http  # noqa: F401

        self._url = url
        self._where = f"{parts.scheme}://{parts.netloc}"  # a path may be a secret
        self._authorization = authorization
        self._seconds = seconds

    def __str__(self) -> str:
        return f"--post {self._where}"

    def run(self, call: HookCall) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": f"modeldrop/{__version__}"}
        secret = os.environ.get(self._authorization, "").strip()
        if secret:
            if not (secret.isascii() and secret.isprintable()):
                raise HookError(f"{self}: {self._authorization} holds characters that no header may have.")
            headers["Authorization"] = secret
        body = json.dumps(_document(call)).encode()
        refused: list[OSError] = []
        try:
            status = with_timeout(lambda: self._send(headers, body, refused), self._seconds, "modeldrop-post")
        except Exception as error:  # noqa: BLE001  whatever it is, the hook has failed
            error = refused[0] if refused else error  # the time was over between two attempts
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise HookError(f"{self} was not answered within {self._seconds:g} s.") from None
            raise HookError(f"{self} failed: {detail(str(reason)).replace(self._url, self._where)}.") from None
        if not 200 <= status <= 299:
            raise HookError(f"{self} was answered with status {status}.")

    def _send(self, headers: dict[str, str], body: bytes, refused: list[OSError]) -> int:
        """Send it; ``refused`` holds the last error while nobody listens."""
        limit = Deadline(self._seconds)
        while True:
            try:
                refused.clear()
                return _post(self._url, headers, body, max(_LISTENS, limit.left()))
            except OSError as error:
                if not isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                    raise
                refused.append(error)
                if limit.left() < 2 * _LISTENS:
                    raise
            time.sleep(_LISTENS)

    def stop(self) -> None:
        """The thread that sends does not keep the process alive."""


class Hooks:
    """Hooks that are run one after the other; the first that fails ends it.

    Args:
        hooks: in their order.
        turn: held while they run, so that models that move at once do not meet in one program.
    """

    def __init__(self, hooks: Sequence[Hook], turn: threading.Lock) -> None:
        self._hooks = tuple(hooks)
        self._turn = turn
        # Who may have heard of something else than what is in use: whoever began, until it took that.
        self._unsure: tuple[Hook, ...] = ()

    def doubt(self) -> None:
        """Any of them may have heard of something else: an earlier watch began to tell them."""
        self._unsure = self._hooks

    def changed(self, new: Snapshot, previous: Snapshot | None) -> None:
        """Tell all of a snapshot.

        Raises:
            HookError: one failed; those behind it were not told.
        """
        with self._turn:
            for hook in self._hooks:
                if hook not in self._unsure:
                    self._unsure = (*self._unsure, hook)
                hook.run(HookCall(new, previous))
            self._unsure = ()

    def returned(self, good: Snapshot, bad: Snapshot | None) -> None:
        """Tell those of the older snapshot who may have heard of the newer one: it may be half loaded.

        Raises:
            HookError: some failed again; the others were told.
        """
        failed = []
        with self._turn:
            for hook in self._unsure:
                try:
                    hook.run(HookCall(good, bad, returned=True))
                    self._unsure = tuple(other for other in self._unsure if other is not hook)
                except HookError as error:
                    failed.append(str(error))
        if failed:
            raise HookError(" ".join(failed))

    def stop(self) -> None:
        """End what is running, and start nothing more."""
        for hook in self._hooks:
            hook.stop()


def _document(call: HookCall) -> dict[str, Any]:
    new, previous = call.new, call.previous
    return {
        "event": "returned" if call.returned else "changed",
        "model": new.model,
        "channel": new.channel,
        "generation": new.generation,
        "version": f"v{new.version}",
        "variant": new.variant,
        "digest": new.digest,
        "path": str(new.path),
        "previous_version": f"v{previous.version}" if previous else None,
        "previous_path": str(previous.path) if previous else None,
    }


def _post(url: str, headers: dict[str, str], body: bytes, seconds: float) -> int:
    from urllib.error import HTTPError
    from urllib.request import Request

    from modeldrop.util.http import opener

    request = Request(url, body, headers, method="POST")  # noqa: S310  checked to be http or https
    try:
        with opener(url).open(request, timeout=seconds) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
