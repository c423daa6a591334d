"""Following one channel: what it names is fetched, delivered, and taken back if it is refused.

Each ``poll`` asks the registry once what the channel names (a conditional request; nothing new costs no body).

- It names the version in use: nothing is done, but a further move to it is remembered.
- It names another one: that is prepared (fetched, verified, self-tested), then the link moves to it, then the receiver
  is told. If the receiver raises, the link goes back to the version before, the receiver is told so, and the new one
  is quarantined: nobody tries it again until the channel moves. A version that fails its self-test is quarantined
  before the link has moved.
- The registry cannot be asked, or what it holds is damaged: what is in use stays in use. Who has nothing yet is given
  the last good snapshot of this disk, if the policy allows it.

The order makes it safe to be killed at any moment: what is about to be told is written down (``record.py``), then the
link moves, then the receiver is told, and that is struck out only after it has taken what is in use. So the link always
names a good snapshot, old or new, and whoever may have heard of another one is told again: by the next watch, and by
this one after a pause, until it succeeds.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

from modeldrop.errors import (
    DiskError,
    FidelityError,
    MissingExtraError,
    ModeldropError,
    NotFoundError,
    RegistryError,
    TrustError,
    UsageError,
)
from modeldrop.fetcher.events import Event, warned
from modeldrop.fetcher.fetch import unwritable
from modeldrop.fetcher.leases import InUse
from modeldrop.fetcher.machine import installed_onnxruntime, installed_openvino
from modeldrop.fetcher.notes import (
    ChannelState,
    Quarantine,
    age_of,
    clear_quarantine,
    confirm_state,
    read_quarantine,
    read_state,
    write_quarantine,
    write_state,
)
from modeldrop.fetcher.options import AUTO, FAIL, OFFLINE, StoppedError
from modeldrop.fetcher.resolve import ResolvedVersion
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.watch.record import WatchRecord
from modeldrop.format.channel import MAX_BYTES
from modeldrop.storage.errors import redact
from modeldrop.storage.read.interface import UNCHANGED
from modeldrop.util.text import iso_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.fetcher.fetch import Fetcher
    from modeldrop.fetcher.notes import WatchNote
    from modeldrop.fetcher.snapshot import Snapshot

FOLLOWING = "following"
MOVED = "moved"
CHANGED = "changed"
QUARANTINED = "quarantined"
RETURNED = "returned"
TOLD = "told"
UNAVAILABLE = "unavailable"
AVAILABLE = "available"
HOOK_FAILED = "hook-failed"


_MAX_REASON = 1000


class Receiver:
    """Who is told of a change.

    Args:
        changed: called with the new snapshot and the one before (None for the first); an exception refuses the new one.
            Where there is no older one, or it may have heard of another one since it took it, it is called again.
        returned: called with the snapshot that is in use again and the one that failed (None if that is gone), where
            ``changed`` had begun to tell others of that; after an exception it is called again.
        doubt: called first of all where an earlier watch has begun to tell of something and not come to its end.
        resume: whether it lives on between watches, as other programs do: it is then not told again of what an
            earlier watch has told it to the end.
    """

    def __init__(
        self,
        changed: Callable[[Snapshot, Snapshot | None], object],
        returned: Callable[[Snapshot, Snapshot | None], object] = lambda _good, _bad: None,
        doubt: Callable[[], object] = lambda: None,
        *,
        resume: bool = False,
    ) -> None:
        self.changed = changed
        self.returned = returned
        self.doubt = doubt
        self.resume = resume


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
        wanted = fetcher.options.variant
        for_openvino = wanted.startswith("openvino") or (wanted == AUTO and installed_openvino() is not None)
        if fetcher.options.self_test and not for_openvino and installed_onnxruntime() is None:
            raise MissingExtraError(
                "A self-test needs onnxruntime, which is not installed here.",
                "Run the watch in the service's image, which has it; or pip install onnxruntime.",
            )
        fetcher.home.check_registry(fetcher.resolver.registry)
        self.link = fetcher.link
        self.stopping = threading.Event()
        self._make = make
        self._fetcher = fetcher
        self._home = fetcher.home
        self._receiver = receiver
        self._tell_all = tell
        self._record = WatchRecord(self._home.path, self.link, lasting=receiver.resume)
        self._etag = ""
        self._expires = ""
        self._pending: ResolvedVersion | None = None  # what the channel names and is not in use yet
        self._announced: ResolvedVersion | None = None
        self._refused: Quarantine | None = None
        self._snapshot: Snapshot | None = None  # what is in use, and what the channel said of it
        self._state: ChannelState | None = None
        self._use: InUse | None = None
        if self._record.outstanding:
            receiver.doubt()
        if receiver.resume:
            self._resume()

    @property
    def snapshot(self) -> Snapshot | None:
        """What is in use; None before the first."""
        return self._snapshot

    @property
    def note(self) -> WatchNote:
        """What is remembered."""
        return self._record.note

    @property
    def refused(self) -> Quarantine | None:
        """What the channel names and is not used, because it failed here."""
        return self._refused

    def go_on(self) -> None:
        """Go on in a forked child, whatever the parent's thread was at: what was taken is in the child's memory too."""
        with contextlib.suppress(ModeldropError, OSError):  # the next look says what is wrong
            self._fetcher = self._make()
        self._etag, self._pending, self._announced, self._use = "", None, None, None
        if self._snapshot is not None:
            with contextlib.suppress(OSError):  # it has just been evicted
                self._use = InUse.take(self._snapshot.path)

    def begin(self, interval: float) -> None:
        """Say what is followed, and how often the registry is asked, in seconds."""
        self._record.interval = interval
        used = self._snapshot
        now = f"v{used.version} is in use: {used.path}" if used else "nothing is in use yet."
        self._tell(FOLLOWING, f"asking {self._fetcher.resolver.registry} every {interval:g} s; {now}", used)

    def poll(self) -> bool:
        """Ask once, and do what is to be done.

        Returns:
            Whether the registry answered, and what it names is in use or has failed for good; else ask again later.

        Raises:
            StoppedError: ``stopping`` was set.
        """
        try:
            self._keep_link()
            version = self._read_channel()
            if version is None or not self._apply(version):
                self._tell_again()
        except (ModeldropError, OSError) as error:
            self._check_stopping()
            self._failed(error)
            return False
        self._pending = None
        self._answered()
        return True

    def touch(self) -> None:
        """What is in use is still used; to be called every ``TOUCH_SECONDS``."""
        if self._use is not None:
            self._use.touch()

    def release(self) -> None:
        """What is in use may be evicted from now on."""
        if self._use is not None:
            self._use.release()
            self._use = None

    def _read_channel(self) -> ResolvedVersion | None:
        """What the channel names, None where that is done. A document that is damaged is not remembered."""
        resolver = self._fetcher.resolver
        if self._expires and iso_time(time.time()) >= self._expires:
            self._etag = ""  # that nothing has changed would hide that nobody has renewed the signature
        stored = self._stored_state()  # before the registry is asked: what others learn of it meanwhile is newer
        answer = resolver.reader.get_if_changed(resolver.channel_key, MAX_BYTES, self._etag)
        if answer is UNCHANGED:
            return self._pending
        self._etag, self._pending = "", None
        if answer is None:
            raise NotFoundError(f"{resolver.registry} has no channel {resolver.channel_key}.")
        version = resolver.resolve_document(
            answer.data, stored, lambda: resolver.reader.get(resolver.channel_key, MAX_BYTES)
        )
        self._etag, self._pending, self._expires = answer.etag, version, version.expires
        return version

    def _apply(self, version: ResolvedVersion) -> bool:
        """Use what the channel names; whether the receiver was told of something."""
        used, state = self._snapshot, self._state
        if used is not None and state is not None and state.digest == version.digest and used.path.is_dir():
            self._refused = None
            clear_quarantine(self._home.path, self.link)
            self._confirm(used, state, version)
            return False
        quarantine = self._refused or read_quarantine(self._home.path, self.link)
        if quarantine is not None and quarantine.applies_to(version.digest, version.generation):
            self._refused = quarantine
            if used is not None and state is not None and used.path.is_dir():
                self._set_link(used, state, version)
                return False
            if self._deliver_stored(version.digest):
                return True
            # There is nothing else: better this than no model at all.
        return self._switch(version)

    def _confirm(self, snapshot: Snapshot, before: ChannelState, version: ResolvedVersion) -> None:
        """The channel names what is in use, maybe by another move."""
        state = before._replace(generation=version.generation or 1, nonce=version.nonce, checked=time.time())
        self._set_link(snapshot, state, version)
        if (before.generation, before.nonce) == (state.generation, state.nonce):
            return
        self._snapshot, self._state = snapshot.with_values(generation=version.generation), state
        self._record.moved(state)
        self._tell(MOVED, f"generation {version.generation} names v{version.version}, which is in use.", self._snapshot)

    def _keep_link(self) -> None:
        """Make the link again if somebody has removed it; if the snapshot too, read the channel again to fetch it."""
        if self._snapshot is None or self._state is None:
            return
        if not self._snapshot.path.is_dir():
            self._etag = ""
        elif not os.path.lexists(self._home.path / self.link):
            seen = _version_of(self._state)
            self._set_link(self._snapshot, self._state, seen)

    def _switch(self, version: ResolvedVersion) -> bool:
        """Fetch another version, move the link to it, deliver it; or go back. Whether the receiver was told."""
        if version != self._announced:
            self._announced = version
            text = f"generation {version.generation} names v{version.version}."
            self._tell(MOVED, text, self._snapshot, to_version=version.version)
        stored = self._stored_state()
        try:
            fetcher = self._make()  # its clock starts now
            local = fetcher.prepare(version)
        except FidelityError as error:
            self._check_stopping()
            self._quarantine(version, _reason(error))
            return self._snapshot is None and self._deliver_stored(version.digest)
        except NotFoundError:
            self._etag, self._pending = "", None  # pruned since? What does the channel name now?
            raise
        self._check_stopping()
        state = fetcher.channel_state(version, local)
        note = self._record.note
        self._record.begin(state, self._state)
        try:
            snapshot = fetcher.activate(version, local)
        except (ModeldropError, OSError):
            if not fetcher.is_linked(local):
                self._record.withdraw(note)  # nobody was told, nor could have seen it
            raise
        for warning in snapshot.warnings:
            self._tell_all(warned(snapshot.model, warning))
        if self._deliver(snapshot, state, version, stored):
            self._refused = None
            clear_quarantine(self._home.path, self.link)
        return True

    def _deliver(
        self, snapshot: Snapshot, state: ChannelState, version: ResolvedVersion, before: ChannelState | None
    ) -> bool:
        """Tell the receiver what the link names now; whether it was taken. Else go back.

        Args:
            snapshot: what it names.
            state: the same, to be remembered.
            version: what is quarantined if it is not taken.
            before: what the link named before; where nothing is in use, it goes back to that.
        """
        old, old_use = self._snapshot, self._use
        try:
            use = InUse.take(snapshot.path)
        except FileNotFoundError:
            self._etag, self._pending = "", None  # it is brought again
            raise DiskError(f"{snapshot.path} was removed after it was fetched.", "Keep more with --keep.") from None
        try:
            self._receiver.changed(snapshot, old)
        except BaseException as error:
            use.release()
            if not isinstance(error, Exception):
                raise
            self._check_stopping()
            self._go_back(version, snapshot, error, before)
            return False
        self._snapshot, self._state, self._use = snapshot, state, use
        if old_use is not None:
            old_use.release()
        self._record.finish(state)
        was = f", before v{old.version}" if old else ""
        self._tell(CHANGED, f"v{snapshot.version} {snapshot.variant} is in use{was}: {snapshot.path}", snapshot)
        return True

    def _go_back(self, version: ResolvedVersion, bad: Snapshot, error: Exception, before: ChannelState | None) -> None:
        """Point the link at what was in use before, else at what it named, and tell the receiver."""
        reason = _reason(error)
        good, state = self._snapshot, self._state
        if good is None or not good.path.is_dir():
            good, state = self._find_on_disk(before), before
        elif before is not None and state is not None and before.digest == state.digest:
            state = before
        if good is None or state is None or state.digest == bad.digest:
            # Nothing to go back to: the link stays, so that a program that starts later finds a model.
            self._note_refusal(bad, reason, f"v{bad.version} was not taken, and there is no older one: {reason}")
            return
        self._set_link(good, state, version)
        self._quarantine(version, reason)
        if self._snapshot is None:
            self._deliver_stored(version.digest)
            return
        self._tell(RETURNED, f"v{good.version} is in use again: {good.path}", good)
        self._tell_used(good, state, bad)

    def _tell_again(self) -> None:
        """Tell of what is in use where somebody may not have taken it, if the pause after the last attempt is over."""
        if not (self._record.outstanding and self._record.may_tell):
            return
        used, state, stored = self._snapshot, self._state, self._stored_state()
        if used is None or state is None:
            self._deliver_stored(None)
            return
        if stored is not None and stored.digest != state.digest:
            # A watch was killed after the link had moved on, and the registry says nothing else.
            held = self._refused or read_quarantine(self._home.path, self.link)
            if held is not None and held.applies_to(stored.digest, stored.generation):
                self._set_link(used, state, _version_of(stored))
            elif self._deliver_stored(None):
                return
        heard = self._find_on_disk(self._record.note.telling)
        if self._tell_used(used, state, None if heard is None or heard.path == used.path else heard):
            self._tell(TOLD, f"v{used.version} is in use, and that has been told again: {used.path}", used)

    def _tell_used(self, used: Snapshot, state: ChannelState, heard: Snapshot | None) -> bool:
        """Tell the receiver of what is in use, after it may have heard of another one; whether it was taken."""
        held = None if heard is None else InUse.take(heard.path)  # it may be loaded, until this is taken
        try:
            (self._receiver.changed if self._refused is None else self._receiver.returned)(used, heard)
        except Exception as error:  # noqa: BLE001  there is nothing to go back to
            self._check_stopping()
            reason = _reason(error)
            self._note_refusal(used, reason, f"telling of v{used.version} failed too: {reason}")
            return False
        finally:
            if held is not None:
                held.release()
        self._record.finish(state)
        return True

    def _note_refusal(self, snapshot: Snapshot, reason: str, text: str) -> None:
        """What is in use was not taken: it is told again, and so is the reason if that is another one."""
        if self._record.refuse(reason):
            self._tell(HOOK_FAILED, f"{text} It is told again.", snapshot, reason=reason)

    def _quarantine(self, version: ResolvedVersion, reason: str) -> None:
        self._refused = _quarantine_of(version, reason)
        write_quarantine(self._home.path, self.link, self._refused)
        stays = f" v{self._snapshot.version} stays in use;" if self._snapshot else ""
        self._tell(
            QUARANTINED,
            f"v{version.version} failed and is quarantined: {reason}{stays} it is tried again when the channel moves.",
            self._snapshot,
            refused_version=version.version,
            reason=reason,
        )

    def _set_link(self, snapshot: Snapshot, state: ChannelState, seen: ResolvedVersion) -> None:
        """Move the link without a fetch, unless another process has followed the channel further than ``seen``."""
        stored = self._stored_state()
        accepted = self._fetcher.options.accept_older_generation
        if stored is None or stored.generation <= (seen.generation or 1) or accepted:
            self._home.link(self.link, snapshot.path)
            write_state(self._home.path, self.link, state)

    def _deliver_stored(self, unless: str | None) -> bool:
        """Deliver what this disk last knew of the channel, unless that is the version with the digest ``unless``.

        Returns:
            Whether the receiver was told.
        """
        state = self._stored_state()
        found = self._find_on_disk(state)
        if found is None or state is None or state.digest == unless:
            return False
        self._record.begin(state, self._state)
        self._home.link(self.link, found.path)
        self._deliver(found, state, _version_of(state), None)
        return True

    def _failed(self, error: ModeldropError | OSError) -> None:
        self._fetcher = self._make()  # credentials may have changed, or a mount
        text = _reason(error if isinstance(error, ModeldropError) else unwritable(self._home.path, error))
        if self._record.failed(text):
            stays = f" v{self._snapshot.version} stays in use." if self._snapshot else ""
            self._tell(UNAVAILABLE, f"{text}{stays}", self._snapshot, message=text)
        with contextlib.suppress(ModeldropError, OSError):
            if self._snapshot is not None:
                self._tell_again()
            elif (
                self._fetcher.options.on_unavailable != FAIL
                and not isinstance(error, TrustError)
                and self._record.may_tell
            ):
                self._deliver_last_good(error if isinstance(error, ModeldropError) else RegistryError(text))

    def _deliver_last_good(self, error: ModeldropError) -> None:
        """Deliver what is on disk to who has nothing, if the policy allows it.

        Raises:
            ModeldropError: there is nothing that would do.
            OSError: the disk cannot be written.
        """
        found = self._fetcher.last_good(error)
        if self._refused is None or self._refused.digest != found.digest:
            state = self._stored_state() or self._fetcher.channel_state(
                ResolvedVersion(found.version, found.digest, found.generation or 1), LocalSnapshot(found.path)
            )
            self._record.begin(state, None)
            self._deliver(found, state, _version_of(state), None)

    def _answered(self) -> None:
        """The registry answered, and all is done."""
        stored, used = self._stored_state(), self._state
        if stored is not None and used is not None and self._refused is None and stored.nonce == used.nonce:
            confirm_state(self._home.path, self.link, time.time())
        if self._record.answered():
            self._tell(AVAILABLE, "the registry answers again.", self._snapshot)

    def _resume(self) -> None:
        """Go on with what the receiver took last; before the first, with what the link names: it may have found that.

        Where it may have been told of something else since, that is told again once the registry was asked.
        """
        note = self._record.note
        state = note.delivered if note.delivered or note.telling else self._stored_state()
        found = self._find_on_disk(state)
        if found is not None:
            with contextlib.suppress(OSError):  # it has just been evicted
                self._use = InUse.take(found.path)
                self._snapshot, self._state = found, state

    def _find_on_disk(self, state: ChannelState | None) -> Snapshot | None:
        """What a state names, if it is there, whole."""
        if state is None:
            return None
        fetcher = self._fetcher
        local = self._home.find(state.version, state.digest, state.variant, layout=fetcher.options.layout)
        if local is None or not fetcher.trusts(local):
            return None
        return fetcher.snapshot_of(local, state.generation, checked="disk", age=age_of(state.checked))

    def _stored_state(self) -> ChannelState | None:
        """What this disk knows of the channel now: others may fetch it too."""
        return read_state(self._home.path, self.link)

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


def _version_of(state: ChannelState) -> ResolvedVersion:
    return ResolvedVersion(state.version, state.digest, state.generation, state.nonce)


def _reason(error: Exception) -> str:
    """Why something failed: one line, a sentence, without secrets."""
    text = error.message if isinstance(error, ModeldropError) else str(error) or type(error).__name__
    text = " ".join(redact(text).split())[:_MAX_REASON]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _quarantine_of(version: ResolvedVersion, reason: str) -> Quarantine:
    return Quarantine(
        version=version.version,
        digest=version.digest or "",
        generation=version.generation or 1,
        reason=reason,
        at=iso_time(time.time()),
    )
