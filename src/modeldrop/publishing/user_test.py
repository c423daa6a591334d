"""The user's own test of a version: a shell command that must succeed before a channel is moved to the version.

It finds in its environment

    MODELDROP_NEW                the folder of the new version, complete: all variants
    MODELDROP_CURRENT            the folder of what the channel names now, likewise; empty if it names nothing
    MODELDROP_NEW_VERSION        such as v3; empty, as the next, for a build that is not published
    MODELDROP_CURRENT_VERSION    such as v2, or empty
    MODELDROP_NEW_REFERENCE      REGISTRY/MODEL@v3@sha256:…, for a program that fetches it
    MODELDROP_MODEL              the model's name
    MODELDROP_CHANNEL            the channel that is to move; empty if none is

and nothing on its standard input. What it prints goes to standard error. It runs in a process group of its own, which
is ended with it: at its time limit, when we end on SIGINT or SIGTERM, and also when it succeeds and has left
something running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modeldrop.config import SETTINGS
from modeldrop.errors import ModeldropError, UsageError, UserTestError
from modeldrop.export.request import BuildRequest
from modeldrop.format.channel import Channel
from modeldrop.format.records import Rejection
from modeldrop.publishing.better import compare_with_current
from modeldrop.publishing.request import PublishRequest
from modeldrop.registry.channels import reject, rejection_now
from modeldrop.registry.policy import mark_tested
from modeldrop.registry.publish import Published
from modeldrop.registry.replicate import download_version
from modeldrop.registry.versions import Version, find_rejection, version_named
from modeldrop.storage.write.store import Store
from modeldrop.util.process import end_group, signal_name, standard_error
from modeldrop.util.retry import Deadline

_SHELL = "/bin/sh"
_SYNTAX_SECONDS = 60.0  # a busy machine starts a shell slowly, and nobody waits unless it hangs
# GitHub kills what has not ended ten seconds after a job was cancelled.
_END_SECONDS = 4.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 0.1


class UserTests:
    """Says which versions may be used: tests each build once, whichever registries have it.

    Args:
        request: what was asked for, with the test.
        published: the version of the recipe in each registry.
        scratch: a folder for the versions that the test compares.
        wanted: the build that was asked for, whose own metric decides where the request says so.
    """

    def __init__(
        self, request: PublishRequest, published: Sequence[Published], scratch: Path, wanted: BuildRequest | None = None
    ) -> None:
        self._request = request
        self._wanted = wanted
        self._reasons: dict[str, str] = {}
        self._published = published
        self._scratch = scratch
        self._rejections: dict[str, Rejection | None] = {}  # by the manifest's digest
        self._tested: dict[str, bool] = {}

    def tested(self, version: Version) -> bool | None:
        """Whether the test of a version succeeded; None if it did not run."""
        return self._tested.get(version.digest)

    def reason(self, version: Version) -> str:
        """Why a channel may be moved to a version; "" where no metric was asked."""
        return self._reasons.get(version.digest, "")

    def check(self, one: Published, present: Channel | None) -> Rejection | None:
        """The mark that a version has, or now gets; None if it may be used.

        Args:
            one: the version, in the registry whose channel is to move.
            present: what the channel is now; the test compares the version with what it names.

        Raises:
            ModeldropError: a version cannot be read, or the mark of one that failed cannot be written.
        """
        digest = one.version.digest
        if digest not in self._rejections:
            self._rejections[digest] = self._rejected_elsewhere(one) or self._test(one, present)
        rejection = self._rejections[digest]
        return None if rejection is None else self._write(one, rejection)

    def _rejected_elsewhere(self, one: Published) -> Rejection | None:
        for other in self._same_build(one):
            if other.store is not one.store:
                found = find_rejection(other.store, self._request.model, other.version.number)
                if found is not None:
                    return found
        return None

    def _test(self, one: Published, present: Channel | None) -> Rejection | None:
        request, version = self._request, one.version
        if not request.test and request.better is None:
            return None
        number = f"v{version.number}"
        variables = _variables(request, one.folder or self._download(one.store, version, "new")) | {
            "MODELDROP_NEW_VERSION": number,
            "MODELDROP_NEW_REFERENCE": f"{one.store.url}/{request.model}@{number}@{version.digest}",
        }
        if present is not None:
            variables |= _current(present, self._download_current(one.store, present))
        failure = _run_tries(request, variables) if request.test else ""
        if not failure and present is not None:
            failure = self._is_worse(version, variables)
        self._tested[version.digest] = not failure
        if not failure:
            for other in self._same_build(one):
                mark_tested(other.store, request.model, other.version.number, version.digest)
            return None
        try:
            rejections = [self._write(other, rejection_now(failure)) for other in self._same_build(one)]
        except ModeldropError as error:
            raise type(error)(
                f"{request.model} v{version.number} failed: {failure}. No channel was moved to it, but the failure "
                f"could not be recorded: {error.message}",
                error.hint,
            ) from error
        return rejections[0]

    def _is_worse(self, version: Version, variables: Mapping[str, str]) -> str:
        """What the recipe's own metric says against a version, compared with the one in use; "" for nothing."""
        if self._request.better is None or self._wanted is None:
            return ""
        new, current = (Path(variables[f"MODELDROP_{which}"]) for which in ("NEW", "CURRENT"))
        holds, words = compare_with_current(self._request.better, self._wanted, new, current, self._scratch)
        if not holds:
            return words
        self._reasons[version.digest] = words
        return ""

    def _write(self, one: Published, rejection: Rejection) -> Rejection:
        return reject(one.store, self._request.model, one.version.number, rejection)

    def _same_build(self, one: Published) -> list[Published]:
        return [other for other in self._published if other.version.digest == one.version.digest]

    def _download_current(self, store: Store, present: Channel) -> Path:
        try:
            return self._download(store, version_named(store, self._request.model, present), "current")
        except ModeldropError as error:
            error.hint = (
                f"{error.hint} So the new version could not be compared with it, and no channel was moved. To move it "
                f"without a test: modeldrop promote."
            ).strip()
            raise

    def _download(self, store: Store, version: Version, name: str) -> Path:
        # Registries may hold different builds of a recipe: each gets a folder of its own.
        folder = self._scratch / name / version.digest.removeprefix("sha256:")[:12]
        if not folder.exists():
            download_version(store, self._request.model, version, folder)
        return folder


def _run_tries(request: PublishRequest, variables: Mapping[str, str]) -> str:
    failure = run_test(request.test, variables, request.test_seconds)
    for attempt in range(1, request.test_retries + 1):
        if failure:
            sys.stderr.write(f"modeldrop: {failure}; trying again, {attempt} of {request.test_retries}\n")
            sys.stderr.flush()
            failure = run_test(request.test, variables, request.test_seconds)
    return failure


def check_unpublished(request: PublishRequest, folder: Path, present: Channel | None, current: Path | None) -> None:
    """Test a build that is not published.

    Args:
        request: what was asked for, with the test.
        folder: the build's.
        present: the channel that the build is compared with, None where there is none.
        current: the folder of the version that it names.

    Raises:
        UserTestError: the test failed.
    """
    variables = _variables(request, folder)
    if present is not None and current is not None:
        variables |= _current(present, current)
    if failure := _run_tries(request, variables):
        raise UserTestError(f"The build of {request.model} was rejected: {failure}. Nothing was published.")


def _variables(request: PublishRequest, folder: Path) -> dict[str, str]:
    """Those of a test of what is in a folder, before it has a version and something to compare it with."""
    return {
        "MODELDROP_NEW": str(folder),
        "MODELDROP_NEW_VERSION": "",
        "MODELDROP_NEW_REFERENCE": "",
        "MODELDROP_CURRENT": "",
        "MODELDROP_CURRENT_VERSION": "",
        "MODELDROP_MODEL": request.model,
        "MODELDROP_CHANNEL": request.channel or "",
    }


def _current(present: Channel, folder: Path) -> dict[str, str]:
    return {"MODELDROP_CURRENT": str(folder), "MODELDROP_CURRENT_VERSION": f"v{present.version}"}


def check_command(command: str) -> None:
    """Refuse what is no shell command, without running it; "" is fine.

    Raises:
        UsageError: the shell cannot read it.
    """
    if not command:
        return
    if not command.strip():
        raise UsageError("The test is empty.", "Write a shell command, or none.")
    try:
        checked = subprocess.run(
            [_SHELL, "-n", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SYNTAX_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it does not answer"
        raise UsageError(f"The shell {_SHELL} cannot be used: {reason}.") from None
    if checked.returncode:
        said = checked.stderr.decode("utf-8", "replace").strip().splitlines()
        # Not the command: it may hold a secret.
        raise UsageError(
            f"The test is no shell command: {said[0][:200] if said else 'it cannot be read'}",
            "Check its quotes and brackets.",
        )


def run_test(command: str, variables: Mapping[str, str], seconds: float) -> str:
    """Run a test; return "" if it succeeded, else how it ended, for people.

    Args:
        command: for ``/bin/sh -c``, in the present folder.
        variables: added to our own environment.
        seconds: how long it may take.

    Raises:
        KeyboardInterrupt, SystemExit: this process was interrupted or is to end; the test was ended first.
        UsageError: the shell cannot be started.
    """
    with _signals_noted() as came:
        try:
            process = subprocess.Popen(
                [_SHELL, "-c", command],
                env=_without_key(os.environ | variables),
                stdin=subprocess.DEVNULL,
                stdout=standard_error(),
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(
                f"The test could not be started: {error.strerror or error}.",
                "The version is published and not tested; no channel was moved.",
            ) from error
        limit = Deadline(seconds)
        while process.poll() is None and not came and limit.left():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(_LOOK_SECONDS, limit.left()))
        code = process.returncode
        end_group(process, _END_SECONDS)
    for number in came:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)
    if code is None:
        return f"its test took longer than {seconds:g} s and was stopped"
    if code < 0:
        return f"its test was ended by {signal_name(-code)}"
    return f"its test ended with exit code {code}" if code else ""


def _without_key(environment: Mapping[str, str]) -> dict[str, str]:
    """What a test's packages may see: whoever has the signing key decides what is served."""
    return {name: value for name, value in environment.items() if name != SETTINGS["signing_key"].variable}


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Note the signals that would end us in a list, and nothing else.

    An exception that a handler raises could come while the test is being started, and nobody would end that.
    """
    came: list[int] = []
    before = {}
    # Only the main thread can set handlers, and only it is interrupted.
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                before[number] = signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
