"""A bucket's reader for forked children: a helper process, in which obstore works as it does not in them.

It answers what a ``Fetcher`` asks its reader, and brings files into a folder. All else is done here. Requests and
answers are lines of JSON (``helper_program`` reads the ones and writes the others). It ends with whoever uses it:
when the ``HelperReader`` goes, and when its standard input ends because this process has.
"""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, Literal

import modeldrop.errors
from modeldrop.errors import RegistryError, UsageError
from modeldrop.fetcher.snapshot import TransferStats
from modeldrop.storage.read.interface import UNCHANGED, Document, Unchanged

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from modeldrop.errors import ModeldropError
    from modeldrop.format.manifest import File
    from modeldrop.util.retry import Deadline

_PROGRAM = "modeldrop.fetcher.helper_program"
_LOOK_SECONDS = 0.1
_BLOCK = 1 << 16

_running: dict[subprocess.Popen[bytes], int] = {}  # with the process that has started it


class HelperReader:
    """Reads a registry by a helper process, which is started when it is first needed.

    Args:
        registry: as in the reference: a URL, or a name in modeldrop.toml.
        url: the registry's URL.
        deadline: of the whole fetch.

    Raises:
        UsageError: no helper can be started from this process.
    """

    def __init__(self, registry: str, url: str, deadline: Deadline) -> None:
        self.url = url
        self._registry = registry
        self._deadline = deadline
        self._interpreter = _interpreter(url)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._finish: Callable[[], object] = bool
        self._received = b""

    def get(self, key: str, limit: int) -> bytes | None:
        """See ``RegistryReader``."""
        found = self._get(key, limit, "", self._deadline)
        return found.data if isinstance(found, Document) else None

    def get_if_changed(self, key: str, limit: int, etag: str) -> Document | Literal[Unchanged.UNCHANGED] | None:
        """See ``RegistryReader``. A watch asks again and again: each time it has as long as a whole fetch."""
        return self._get(key, limit, etag, self._deadline.renewed())

    def _get(
        self, key: str, limit: int, etag: str, deadline: Deadline
    ) -> Document | Literal[Unchanged.UNCHANGED] | None:
        answer = self._ask({"do": "get", "key": key, "limit": limit, "etag": etag}, f"{self.url}/{key}", deadline)
        if answer["unchanged"]:
            return UNCHANGED
        if answer["data"] is None:
            return None
        import base64

        return Document(base64.b64decode(answer["data"]), answer["etag"])

    def retry_after(self) -> float:
        """See ``RegistryReader``."""
        return float(self._ask({"do": "retry_after"}, self.url, self._deadline)["seconds"])

    def transfer(  # noqa: PLR0913  by name
        self,
        prefix: str,
        files: Sequence[File],
        piece_size: int,
        into: Path,
        *,
        deadline: Deadline,
        progress: Callable[[int], None],
        published: Mapping[str, str],
        unfinished: Path,
        spend: Callable[[TransferStats], object],
    ) -> TransferStats:
        """See ``modeldrop.fetcher.download.transfer.transfer``."""
        request = {
            "do": "transfer",
            "prefix": prefix,
            "files": files,
            "piece_size": piece_size,
            "into": str(into.absolute()),
            "unfinished": str(unfinished.absolute()),
            "limit": deadline.seconds,
            "left": deadline.left(),
            "published": dict(published),
        }
        return TransferStats._make(
            self._ask(request, f"files of {prefix} from {self.url}", deadline, progress, spend)["stats"]
        )

    def _ask(
        self,
        request: Mapping[str, object],
        what: str,
        deadline: Deadline,
        progress: Callable[[int], None] = lambda _: None,
        spend: Callable[[TransferStats], object] = lambda _: None,
    ) -> Any:
        """The answer to a request; whatever goes wrong here ends the process, and the next request starts another."""
        import json

        process = self._start()
        try:
            try:
                _write_line(process, request)
            except BrokenPipeError:
                raise self._ended(process) from None
            while True:
                answer = json.loads(self._line(process, what, deadline))
                if "progress" in answer:
                    progress(answer["progress"])
                elif "spent" in answer:
                    spend(TransferStats._make(answer["spent"]))
                else:
                    break
        except BaseException:
            self.close()
            raise
        if "failed" in answer:
            raise _error(*answer["failed"])
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid():
            return self._process
        # All that is imported here only in need: every download imports this module.
        import subprocess
        import weakref

        from modeldrop.util.process import same_imports, standard_error

        try:
            process = subprocess.Popen(
                [self._interpreter, "-P", "-m", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                stderr=standard_error(),
                start_new_session=True,  # it ends with this process, not by a key that is pressed
                env=os.environ | same_imports(),
            )
        except OSError as error:
            raise RegistryError(
                f"The process that reads {self.url} for this forked child could not be started: {error.strerror}."
            ) from error
        self._process, self._owner, self._received = process, os.getpid(), b""
        _running[process] = self._owner
        self._finish = weakref.finalize(self, _end, process, self._owner)
        try:
            _write_line(process, self._registry)
        except BrokenPipeError:
            ended = self._ended(process)
            self.close()
            raise ended from None
        return process

    def close(self) -> None:
        """End the process; the next request starts another."""
        self._process = None
        self._finish()

    def _line(self, process: subprocess.Popen[bytes], what: str, deadline: Deadline) -> bytes:
        """Its next answer.

        Raises:
            Exception: what the deadline raises.
            RegistryError: it has ended.
        """
        import select

        answers = _descriptor(process.stdout)
        ready = select.poll()
        ready.register(answers)
        while b"\n" not in self._received:
            deadline.check(what)
            if ready.poll(_LOOK_SECONDS * 1000):
                data = os.read(answers, _BLOCK)
                if not data:
                    raise self._ended(process)
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _ended(self, process: subprocess.Popen[bytes]) -> RegistryError:
        from modeldrop.util.process import signal_name

        code = process.wait()
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with code {code}"
        return RegistryError(
            f"The process that reads {self.url} for this forked child {how}.",
            "What it has printed on standard error says why; short of memory, perhaps.",
        )


def _interpreter(url: str) -> str:
    """The Python to start a helper with.

    Raises:
        UsageError: this process is none that could be started again as Python.
    """
    name = os.path.basename(sys.executable or "").lower()  # noqa: PTH119
    if name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False):
        return sys.executable
    raise UsageError(
        f"{url} cannot be read in this forked child: its parent has read a bucket before the fork, and what reads "
        f"buckets does not survive that. A helper process would, but {sys.executable or 'this program'} is no Python.",
        "Call fetch and watch only after the fork, in the workers, or only before it; or run `modeldrop fetch` before "
        "the server starts. See docs/servers.md.",
    )


def _write_line(process: subprocess.Popen[bytes], value: object) -> None:
    import json

    requests = _descriptor(process.stdin)
    left = memoryview(json.dumps(value).encode() + b"\n")
    while left:
        left = left[os.write(requests, left) :]


def _error(name: str, values: Any) -> Exception:
    """The error that a helper tells of."""
    if name == "OSError":
        return OSError(*values)
    error: ModeldropError = getattr(modeldrop.errors, name)(values["message"], values["hint"])
    vars(error).update(values)
    return error


def _descriptor(pipe: IO[bytes] | None) -> int:
    return pipe.fileno() if pipe else -1


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    from modeldrop.util.process import end

    _running.pop(process, None)
    if owner == os.getpid():
        end(process)


def _let_go() -> None:
    """In a forked child: what its parent has started is not its own, and must see its parent's end."""
    for process, owner in list(_running.items()):
        if owner == os.getpid():
            continue
        del _running[process]
        process.returncode = 0  # nobody waits for it here
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


os.register_at_fork(after_in_child=_let_go)
