"""Follow channels: bring every version they move to, test it, swap the link, then tell another program.

    modeldrop watch s3://acme-models/embedder --self-test --exec 'nginx -s reload'
    modeldrop watch embedder reranker@staging --signal gunicorn:HUP
    modeldrop watch embedder --post http://localhost:8080/reload

One conditional request per model and interval. If a new version fails its test, or a hook fails, the link goes back
to the old version, the hooks that had begun are run again for it, and the new one is quarantined until the channel
moves. A registry that is empty, damaged or not reachable changes nothing. Hooks run after every move, in the order
--exec, --signal, --post; also for one that came while no watch was running, and not for what was there before the
first watch. They run at least once: again where a watch ended while they ran, or where they failed on the way back.
A command finds MODELDROP_MODEL (the name), MODELDROP_PATH, MODELDROP_VERSION, MODELDROP_GENERATION and
MODELDROP_PREVIOUS_PATH in its environment. SIGTERM ends the watch with exit code 0, SIGINT with 130.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import reference_argument
from modeldrop.commands.fetch import Reporting, ShownError
from modeldrop.commands.fetch_options import ENVIRONMENT, add_fetch_options, fetch_settings
from modeldrop.config import read_duration
from modeldrop.errors import DiskError, ModeldropError, UsageError
from modeldrop.fetcher import events
from modeldrop.fetcher.notes import age_of
from modeldrop.fetcher.prometheus import Metrics, ReferenceMetrics
from modeldrop.fetcher.watch.follower import Receiver
from modeldrop.fetcher.watch.hooks import DEFAULT_AUTHORIZATION, ExecHook, Hook, Hooks, PostHook, SignalHook
from modeldrop.fetcher.watch.watcher import Watcher, WatchStatus
from modeldrop.util.init_process import become_init, end_on_signals, is_first
from modeldrop.util.retry import Deadline, jittered

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from modeldrop.util.progress import Display

_END_SECONDS = 1.0
_BY_ITSELF = 255  # no signal has this number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_fetch_options(parser)
    add = parser.add_argument
    add("--interval", default="30s", metavar="TIME", help="between two looks, give or take a fifth (default: 30s)")
    add("--exec", action="append", default=[], metavar="CMD", help="run a command, without a shell")
    add(
        "--signal",
        action="append",
        default=[],
        metavar="PID|FILE|NAME[:SIGNAL]",
        help="signal a process: its number, a file that holds it, or its name (default: SIGHUP)",
    )
    add("--post", action="append", default=[], metavar="URL", help="send a JSON document; 2xx is success")
    add(
        "--post-auth-env",
        default=DEFAULT_AUTHORIZATION,
        metavar="NAME",
        help=f"the variable with the Authorization header for --post (default: {DEFAULT_AUTHORIZATION})",
    )
    add("--hook-timeout", default="60s", metavar="TIME", help="limit for each hook (default: 60s)")
    parser.epilog = ENVIRONMENT


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns when a signal ends it."""
    code = 0
    with Reporting(arguments) as report:
        code = _watch(arguments, report.display)
    return code or report.exit_code


def _watch(arguments: argparse.Namespace, display: Display) -> int:
    references = [reference_argument(text) for text in arguments.references]
    settings = fetch_settings(arguments)
    interval = read_duration(arguments.interval, "--interval", unit="s")
    turn = threading.Lock()
    all_hooks = [Hooks(_hooks(arguments), turn) for _ in references]
    if is_first() and not become_init():
        end_on_signals()
    figures = _MetricsFile(settings.metrics, display)
    ended = _Ended()
    watchers = [
        Watcher(
            reference=reference,
            home=arguments.directory,
            options=settings.options,
            receiver=Receiver(hooks.changed, hooks.returned, hooks.doubt, resume=True),
            interval=interval,
            tell=display.emit,
            after=figures.note,
            ended=ended.wake,
        )
        for reference, hooks in zip(references, all_hooks, strict=True)
    ]
    links = [watcher.link for watcher in watchers]
    for model, link in links:
        if links.count((model, link)) > 1:
            raise UsageError(f"Two references would move the same link {model}/{link}.", "Watch with one of them.")
    if not ended.within(jittered(settings.start_jitter, 0)):
        for watcher in watchers:
            watcher.start()
    code = ended.wait()
    failure = next((watcher.failure for watcher in watchers if watcher.failure), None)
    if failure is not None:
        code = failure.exit_code
    _end(watchers, all_hooks, code)
    if failure is not None:
        raise ShownError(failure)
    return code


def _hooks(arguments: argparse.Namespace) -> Sequence[Hook]:
    seconds = read_duration(arguments.hook_timeout, "--hook-timeout", unit="s")
    if not seconds:
        raise UsageError("--hook-timeout is 0; a hook needs some time.", "Write a limit such as 60s.")
    return [
        *(ExecHook(command, seconds) for command in arguments.exec),
        *(SignalHook(target) for target in arguments.signal),
        *(PostHook(url, arguments.post_auth_env, seconds) for url in arguments.post),
    ]


class _MetricsFile:
    """The file for ``--metrics``, written after each look; "" for none. Best effort, as it is not the work itself."""

    def __init__(self, path: str, display: Display) -> None:
        self._path = path
        self._display = display
        self._metrics = Metrics()
        self._lock = threading.Lock()
        self._warned = False

    def note(self, watcher: Watcher, well: bool) -> None:  # noqa: FBT001  as the watcher calls it
        """A look ended."""
        if not self._path:
            return
        with self._lock:
            now, status = time.time(), watcher.status()
            before = self._metrics.references.get((status.model, status.channel), ReferenceMetrics())
            if status.snapshot is not None and (
                before.snapshot is None or before.snapshot.path != status.snapshot.path
            ):
                self._metrics = self._metrics.with_snapshot(status.snapshot, now)
            elif not well:
                self._metrics = self._metrics.with_failure(status.model, status.channel, now)
            self._metrics = _refreshed(self._metrics, status, now, well=well)
            try:
                self._metrics.write(self._path, now)
            except DiskError as error:
                if not self._warned:
                    self._display.emit(events.warned("", str(error)))
                self._warned = True


def _refreshed(metrics: Metrics, status: WatchStatus, now: float, *, well: bool) -> Metrics:
    """What a look tells without a fetch: generation, success, and how old the registry's last answer is."""
    key = (status.model, status.channel)
    known = metrics.references.get(key, ReferenceMetrics())
    snapshot = status.snapshot
    if snapshot is not None and status.age is not None:
        snapshot = snapshot.with_values(age=status.age - (now - known.at))  # the age is counted on from known.at
    elif snapshot is not None and age_of(known.at) is None:
        snapshot = snapshot.with_values(age=None)  # the clock was set back
    return metrics.with_reference(key, known._replace(snapshot=snapshot, succeeded=well))


class _Ended:
    """SIGTERM and SIGINT, as the exit code they mean; and a watch that has ended by itself.

    The interpreter writes a signal's number into a pipe as the signal comes, in whichever thread. A handler in Python
    would wait for the main thread, and that one sleeps on in its read if the signal was delivered to another thread, or
    a moment before the read began.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._code: int | None = None
        self._codes = {_BY_ITSELF: ModeldropError.exit_code}
        for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell wants it for what runs in its background
                self._codes[number] = code
                signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def within(self, seconds: float) -> bool:
        """Whether one comes within that time."""
        import select

        limit = Deadline(seconds)
        while self._code is None and select.select([self._read], [], [], limit.left())[0]:
            self._take()
        return self._code is not None

    def wait(self) -> int:
        """Wait for one; the exit code."""
        while self._code is None:
            self._take()
        return self._code

    def _take(self) -> None:
        """Read what came; a signal that somebody else handles means nothing here."""
        self._code = self._codes.get(os.read(self._read, 1)[0])

    def wake(self) -> None:
        """A watch has ended."""
        with contextlib.suppress(BlockingIOError):  # thousands came already
            os.write(self._write, bytes([_BY_ITSELF]))


def _end(watchers: Sequence[Watcher], all_hooks: Sequence[Hooks], code: int) -> None:
    """Stop at once: whatever is on disk survives being killed at any moment, and so does what is written of it."""
    limit = Deadline(_END_SECONDS)
    for watcher in watchers:
        watcher.stop(0)
    for hooks in all_hooks:
        hooks.stop()
    ended = [watcher.stop(limit.left()) for watcher in watchers]
    if not all(ended):
        # The interpreter would wait for requests in flight before it ends.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
