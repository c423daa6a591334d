"""Following one channel, look by look: what it names is fetched, handed over, and taken back if that fails.

What is handed over last is written down (``watch_note``) only when it was taken well. Whoever is killed in between
leaves a link that is good, old or new; the next watch hands over what the channel names again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from modeldrop.errors import (
    FidelityError,
    MissingExtraError,
    ModeldropError,
    NotFoundError,
    RefusedError,
    RegistryError,
    UsageError,
)
from modeldrop.fetcher.api import unwritable
from modeldrop.fetcher.events import Event, warned
from modeldrop.fetcher.leases import InUse
from modeldrop.fetcher.machine import installed_onnxruntime, installed_openvino
from modeldrop.fetcher.notes import (
    ChannelState,
    Quarantine,
    WatchNote,
    clear_quarantine,
    confirm_state,
    confirm_watch_note,
    read_quarantine,
    read_watch_note,
    write_quarantine,
    write_state,
    write_watch_note,
)
from modeldrop.fetcher.options import AUTO, FAIL, OFFLINE
from modeldrop.fetcher.snapshot import Snapshot
from modeldrop.format.channel import MAX_BYTES
from modeldrop.storage.errors import redact
from modeldrop.storage.read.reader import UNCHANGED
from modeldrop.util.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.fetcher.aim import Aim
    from modeldrop.fetcher.fetch import Fetcher
    from modeldrop.fetcher.home import Held

FOLLOWING = "following"
MOVED = "moved"
CHANGED = "changed"
QUARANTINED = "quarantined"
RETURNED = "returned"
UNAVAILABLE = "unavailable"
AVAILABLE = "available"
HOOK_FAILED = "hook-failed"


_MAX_REASON = 1000


class StoppedError(Exception):
    """The watch was told to end while it was at work."""


class Receiver:
    """Who is told of a change.

    Args:
        changed: called with the new snapshot and the one before (None for the first); an exception refuses the new one.
        returned: called with the snapshot that is in use again and the one that failed, where ``changed`` had begun
            to tell others of that; an exception is only reported.
        resume: whether it lives on between watches, as other programs do: it is then not told again of what an
            earlier watch has told it.
    """

    def __init__(
        self,
        changed: Callable[[Snapshot, Snapshot | None], object],
        returned: Callable[[Snapshot, Snapshot], object] = lambda _good, _bad: None,
        *,
        resume: bool = False,
    ) -> None:
        self.changed = changed
        self.returned = returned
        self.resume = resume


@dataclass(frozen=True, slots=True)
class Good:
    """A snapshot that is in use, and what its channel said."""

    snapshot: Snapshot
    state: ChannelState


class Follower:
    """Follows the channel of one reference.

    Args:
        make: gives a new fetcher for the reference, the home and the options.
        receiver: who is told.
        tell: given every event.

    Raises:
        UsageError: the reference follows no channel, the options forbid to ask the registry, or the home holds this
            model from another one.
    """

    def __init__(self, make: Callable[[], Fetcher], receiver: Receiver, tell: Callable[[Event], object]) -> None:
        fetcher = make()
        if fetcher.link is None or fetcher.reference.digest is not None:
            raise UsageError(
                f"{fetcher.reference} is pinned: it never moves.",
                "Watch a channel, such as embedder or embedder@staging.",
            )
        if fetcher.options.on_unavailable == OFFLINE:
            raise UsageError("A watch asks the registry; offline it cannot.", "Use last-good, which is the default.")
        # What auto will choose is not known yet: of a version that has nothing else, OpenVINO's.
        asked = fetcher.options.variant
        for_openvino = asked.startswith("openvino") or (asked == AUTO and installed_openvino() is not None)
        if fetcher.options.self_test and not for_openvino and installed_onnxruntime() is None:
            raise MissingExtraError(
                "A self-test needs onnxruntime, which is not installed here.",
                "Run the watch in the service's image, which has it; or pip install onnxruntime.",
            )
        fetcher.home.belongs_to(fetcher.registry)
        self.link = fetcher.link
        self.stopping = threading.Event()
        self._make = make
        self._fetcher = fetcher
        self._home = fetcher.home
        self._receiver = receiver
        self._tell_all = tell
        # A failure of an earlier watch is told again if it goes on; since when it does is kept.
        self._note = read_watch_note(self._home.path, self.link)._replace(error="")
        self._declined = ""
        self._etag = ""
        self._pending: Aim | None = None
        self._announced: Aim | None = None
        self._refused: Quarantine | None = None
        self._good: Good | None = None
        self._use: InUse | None = None
        if receiver.resume:
            self._resume()

    @property
    def snapshot(self) -> Snapshot | None:
        """What is in use; None before the first."""
        return self._good.snapshot if self._good else None

    @property
    def note(self) -> WatchNote:
        """What is known."""
        return self._note

    @property
    def refused(self) -> Quarantine | None:
        """What the channel names and is not used, because it failed here."""
        return self._refused

    def begin(self, interval: float) -> None:
        """Say what is followed, and how often the registry is asked, in seconds."""
        good = self._good
        stands = f"v{good.snapshot.version} is in use: {good.snapshot.path}" if good else "nothing is in use yet."
        self._tell(FOLLOWING, f"asking {self._fetcher.registry} every {interval:g} s; {stands}", self.snapshot)

    def poll(self) -> bool:
        """Look once, and do what is to be done.

        Returns:
            Whether the registry answered, and what it names is in use or has failed for good; else ask again later.

        Raises:
            StoppedError: ``stopping`` was set.
        """
        try:
            aim = self._look()
            if aim is not None:
                self._settle(aim)
        except (ModeldropError, OSError) as error:
            self._check_stopping()
            self._failed(error)
            return False
        self._pending = None
        self._answered()
        return True

    def _look(self) -> Aim | None:
        """What the channel names, None where that is settled. A document that is no good is not remembered."""
        answer = self._fetcher.reader.get_if_changed(self._fetcher.key, MAX_BYTES, self._etag)
        if answer is UNCHANGED:
            return self._pending
        self._etag, self._pending = "", None
        if answer is None:
            raise NotFoundError(f"{self._fetcher.registry} has no channel {self._fetcher.key}.")
        aim = self._fetcher.aim_at(answer.data)
        self._etag, self._pending = answer.etag, aim
        return aim

    def _settle(self, aim: Aim) -> None:
        good = self._good
        if good is not None and good.state.digest == aim.digest:
            self._refused = None
            clear_quarantine(self._home.path, self.link)
            self._keep(good, aim)
            return
        quarantine = self._refused or read_quarantine(self._home.path, self.link)
        if quarantine is not None and quarantine.applies_to(aim.digest, aim.generation):
            self._refused = quarantine
            if self._good is not None or self._use_last(aim.digest):
                return
            # There is nothing else: better this than no model at all.
        self._change(aim)

    def _keep(self, good: Good, aim: Aim) -> None:
        """The channel names what is in use, maybe by another move."""
        state = good.state._replace(generation=aim.generation or 1, nonce=aim.nonce, checked=time.time())
        self._point(good.snapshot, state, aim)
        if (good.state.generation, good.state.nonce) == (state.generation, state.nonce):
            return
        self._good = Good(replace(good.snapshot, generation=aim.generation), state)
        self._write(self._note._replace(delivered=state))
        self._tell(MOVED, f"generation {aim.generation} names v{aim.version}, which is in use.", self.snapshot)

    def _change(self, aim: Aim) -> None:
        if aim != self._announced:
            self._announced = aim
            self._tell(
                MOVED, f"generation {aim.generation} names v{aim.version}.", self.snapshot, to_version=aim.version
            )
        before = self._fetcher.known()
        try:
            fetcher = self._make()  # its clock starts now
            prepared = fetcher.prepare(aim)
        except FidelityError as error:
            self._check_stopping()
            self._refuse(aim, _reason(error))
            if self._good is None:
                self._use_last(aim.digest)
            return
        except NotFoundError:
            self._etag, self._pending = "", None  # pruned since? What does the channel name now?
            raise
        self._check_stopping()
        if self._note.delivered is None and self._good is not None:
            # It was there before the first watch. Whoever is killed after the link has moved must know.
            self._write(self._note._replace(delivered=self._good.state))
        snapshot = fetcher.activate(prepared)
        for warning in snapshot.warnings:
            self._tell_all(warned(snapshot.model, warning))
        state = _state_of(snapshot, aim.nonce)
        try:
            self._hand_over(Good(snapshot, state))
        except Exception as error:  # noqa: BLE001  whatever the receiver raises, it did not take the snapshot
            self._check_stopping()
            self._go_back(aim, snapshot, error, self._before(before))
            return
        self._refused = None
        clear_quarantine(self._home.path, self.link)

    def _point(self, snapshot: Snapshot, state: ChannelState, seen: Aim) -> None:
        """Swing the link by hand, unless another process has followed the channel further than what was ``seen``."""
        known = self._fetcher.known()
        if known is None or known.generation <= (seen.generation or 1):
            self._home.link(self.link, snapshot.path)
            write_state(self._home.path, self.link, state)

    def _before(self, known: ChannelState | None) -> Good | None:
        """What to go back to, with all that was known of it: what is in use, else what the link named."""
        good = self._good
        if good is None:
            return self._on_disk(known)
        return good if known is None or known.digest != good.state.digest else Good(good.snapshot, known)

    def _hand_over(self, new: Good) -> None:
        old, before = self._good, self._use
        use = InUse.take(new.snapshot.path)
        try:
            self._receiver.changed(new.snapshot, old.snapshot if old else None)
        except BaseException:
            use.release()
            raise
        self._good, self._use = new, use
        if before is not None:
            before.release()
        self._write(self._note._replace(delivered=new.state))
        was = f", before v{old.snapshot.version}" if old else ""
        self._tell(
            CHANGED, f"v{new.snapshot.version} {new.snapshot.variant} is in use{was}: {new.snapshot.path}", new.snapshot
        )

    def _go_back(self, aim: Aim, bad: Snapshot, error: Exception, good: Good | None) -> None:
        reason = _reason(error)
        if good is None or good.state.digest == bad.digest:
            # Nothing to go back to: the link stays, so that a program that starts later finds a model.
            self._refused = _quarantine(aim, reason)
            self._tell(
                HOOK_FAILED, f"v{bad.version} was not taken: {reason} There is no older one.", bad, reason=reason
            )
            return
        self._point(good.snapshot, good.state, aim)
        self._refuse(aim, reason)
        if self._good is None:
            self._offer(good)
            return
        self._tell(RETURNED, f"v{good.snapshot.version} is in use again: {good.snapshot.path}", good.snapshot)
        try:
            self._receiver.returned(good.snapshot, bad)
        except Exception as again:  # noqa: BLE001  there is nothing more to go back to
            self._check_stopping()
            text = _reason(again)
            self._tell(
                HOOK_FAILED, f"telling of v{good.snapshot.version} failed too: {text}", good.snapshot, reason=text
            )

    def _refuse(self, aim: Aim, reason: str) -> None:
        self._refused = _quarantine(aim, reason)
        write_quarantine(self._home.path, self.link, self._refused)
        stays = f" v{self._good.snapshot.version} stays in use;" if self._good else ""
        self._tell(
            QUARANTINED,
            f"v{aim.version} failed and is quarantined: {reason}{stays} it is tried again when the channel moves.",
            self.snapshot,
            refused_version=aim.version,
            reason=reason,
        )

    def _use_last(self, but: str | None) -> bool:
        """Hand over what the link names, unless that is the version with the digest ``but``."""
        found = self._on_disk(self._fetcher.known())
        return found is not None and found.state.digest != but and self._offer(found)

    def _offer(self, found: Good) -> bool:
        """Hand over an older snapshot to who has none, unless it was offered in vain before."""
        if found.state.digest == self._declined:
            return False
        try:
            self._hand_over(found)
        except Exception as error:  # noqa: BLE001  as above
            self._check_stopping()
            self._declined, reason = found.state.digest, _reason(error)
            self._tell(HOOK_FAILED, f"v{found.snapshot.version} was not taken: {reason}", found.snapshot, reason=reason)
            return False
        return True

    def _failed(self, error: ModeldropError | OSError) -> None:
        self._fetcher = self._make()  # credentials may have changed, or a mount
        text = _reason(error if isinstance(error, ModeldropError) else unwritable(self._home.path, error))
        if text != self._note.error:
            self._write(self._note._replace(error=text, failed_at=self._note.failed_at or time.time()))
            stays = f" v{self._good.snapshot.version} stays in use." if self._good else ""
            self._tell(UNAVAILABLE, f"{text}{stays}", self.snapshot, message=text)
        if self._good is None and self._fetcher.options.on_unavailable != FAIL:
            self._use_last_good(error if isinstance(error, ModeldropError) else RegistryError(text))

    def _use_last_good(self, error: ModeldropError) -> None:
        """Hand over what is on disk to who has nothing, if the policy allows it."""
        if not isinstance(error, NotFoundError | RefusedError | RegistryError):
            error = RegistryError(error.message, error.hint)  # a broken pointer or version is as good as none
        try:
            found = self._fetcher.last_good(error)
        except ModeldropError:
            return
        if self._refused is None or self._refused.digest != found.digest:
            known = self._fetcher.known()
            self._offer(Good(found, known or _state_of(found, "")))

    def _answered(self) -> None:
        """The registry answered, and all is done."""
        now = time.time()
        known, good = self._fetcher.known(), self._good
        if known is not None and good is not None and self._refused is None and known.nonce == good.state.nonce:
            confirm_state(self._home.path, self.link, now)
        if self._note.failed_at:
            again = bool(self._note.error)
            self._write(self._note._replace(error="", failed_at=0.0, answered=now))
            if again:
                self._tell(AVAILABLE, "the registry answers again.", self.snapshot)
        elif not self._note.answered:
            self._write(self._note._replace(answered=now))
        else:
            self._note = self._note._replace(answered=now)
            confirm_watch_note(self._home.path, self.link, now)

    def touch(self) -> None:
        """What is in use is still used; to be called every ``TOUCH_SECONDS``."""
        if self._use is not None:
            self._use.touch()

    def release(self) -> None:
        """Let go of what is in use."""
        if self._use is not None:
            self._use.release()
            self._use = None

    def _resume(self) -> None:
        """Take up what the receiver was told last; else what the link names, for it may have found that itself."""
        for state in (self._note.delivered, self._fetcher.known()):
            found = self._on_disk(state)
            if found is not None:
                with contextlib.suppress(OSError):  # it has just been evicted
                    self._use = InUse.take(found.snapshot.path)
                    self._good = found
                    return

    def _on_disk(self, state: ChannelState | None) -> Good | None:
        """What a state names, if it is there, whole."""
        held = None if state is None else self._find(state)
        if state is None or held is None:
            return None
        reference = self._fetcher.reference
        snapshot = Snapshot(
            held.path,
            reference.model,
            state.version,
            held.variant,
            held.digest,
            self._fetcher.registry,
            reference.channel,
            state.generation,
            max(0.0, time.time() - state.checked),
            "disk",
        )
        return Good(snapshot, state)

    def _find(self, state: ChannelState) -> Held | None:
        as_name = self._fetcher.options.as_name
        return self._home.find(state.version, state.digest, state.variant, as_name=as_name)

    def _write(self, note: WatchNote) -> None:
        self._note = note
        if self._home.path.is_dir():
            write_watch_note(self._home.path, self.link, note)

    def _tell(self, name: str, text: str, snapshot: Snapshot | None, **more: object) -> None:
        model, channel = self._fetcher.reference.model, self._fetcher.reference.channel
        fields: dict[str, object] = {"channel": channel}
        if snapshot is not None:
            fields |= {
                "version": snapshot.version,
                "variant": snapshot.variant,
                "generation": snapshot.generation,
                "path": str(snapshot.path),
            }
        self._tell_all(Event(name, model, f"{model}@{channel}: {text}", fields | more))

    def _check_stopping(self) -> None:
        if self.stopping.is_set():
            raise StoppedError


def _state_of(snapshot: Snapshot, nonce: str) -> ChannelState:
    return ChannelState(
        snapshot.version,
        snapshot.digest,
        snapshot.generation or 1,
        nonce,
        snapshot.variant,
        snapshot.path.name,
        time.time() - snapshot.age,
    )


def _reason(error: Exception) -> str:
    """Why something failed: one line, a sentence, without secrets."""
    text = error.message if isinstance(error, ModeldropError) else str(error) or type(error).__name__
    text = " ".join(redact(text).split())[:_MAX_REASON]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _quarantine(aim: Aim, reason: str) -> Quarantine:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Quarantine(aim.version, aim.digest or "", aim.generation or 1, reason, now)
