"""Fetching: from a reference to a snapshot on the local disk.

    resolve   what does the reference name now?                            one request; none for a pinned version
    prepare   that version is on disk, verified; no link has moved         no request where it is there already
    activate  the channel's link names it; what was seen is remembered

``fetch`` does all three, ``watch`` does each in its time. If nobody answers, or this disk cannot take what is new,
``last_good`` says what is used instead.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from modeldrop.config import default_registry, home_folder, required_builder, trusted_keys
from modeldrop.errors import (
    DiskError,
    FormatError,
    IntegrityError,
    ModeldropError,
    NotFoundError,
    RefusedError,
    RegistryError,
)
from modeldrop.fetcher.home import PARTIAL, ModelHome, read_link
from modeldrop.fetcher.leases import InUse, note_use
from modeldrop.fetcher.machine import installed_onnxruntime, installed_runtime, this_machine
from modeldrop.fetcher.notes import ChannelState, confirm_state, read_quarantine, read_state, write_state
from modeldrop.fetcher.options import AUTO, OFFLINE, Options, never, time_limit, with_overrides
from modeldrop.fetcher.resolve import Resolver
from modeldrop.fetcher.snapshot import MANIFEST_FILE, NO_TRANSFER, LocalSnapshot, Snapshot, TransferStats, folder_name
from modeldrop.fetcher.verify import is_whole
from modeldrop.format.reference import Reference, parse_reference
from modeldrop.util.cached import cached_property
from modeldrop.util.locks import held_in_turn
from modeldrop.util.retry import Deadline
from modeldrop.util.text import ago_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Unpack

    from modeldrop.fetcher.attestation_check import AttestationCheck
    from modeldrop.fetcher.option_values import OptionValues
    from modeldrop.fetcher.resolve import ResolvedVersion
    from modeldrop.fetcher.self_test import Outcome
    from modeldrop.fetcher.trust_check import TrustCheck
    from modeldrop.format.manifest import Variant

_LOCK_SECONDS, _LOCK_PAUSE = 2.0, 0.01


def fetch(
    reference: str | Reference,
    directory: str | os.PathLike[str] | None = None,
    *,
    options: Options | None = None,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
    on_wait: Callable[[str], object] = lambda _what: None,
    **overrides: Unpack[OptionValues],
) -> Snapshot:
    """Make sure that a version is on the local disk, complete and verified; return its snapshot.

    It is not evicted while this process lives, or a child of it by fork, until the process is given another one of the
    same channel (of a pinned version: another pinned one of the model).

    Args:
        reference: what to fetch, such as ``s3://acme-models/embedder``, ``./models/embedder@v3`` or
            ``embedder@staging``; a bare name lives in ``MODELDROP_REGISTRY``.
        directory: the home, where snapshots are kept; default ``MODELDROP_HOME``, else
            ``~/.cache/modeldrop``.
        options: how; see ``Options``.
        progress: told bytes done and bytes in all while files arrive.
        on_wait: told, in a sentence, what is waited for because this disk has nothing else.
        overrides: fields of ``Options`` by name, such as ``variant="fp32"``.

    Raises:
        UsageError: an invalid reference, or the home holds this model from another registry.
        NotFoundError: the registry has no such model, channel or version, nor this disk a good one.
        VariantError: the version has no such variant, or none that this machine can run.
        FormatError, IntegrityError: the version is damaged or was changed; or the channel is none, and there is no
            last good snapshot that would do.
        RegistryError: the registry cannot be read, and there is none either.
        RefusedError: the channel's generation is below ``min_generation``.
        TrustError: what the registry says is not signed by the keys that are trusted, or has expired.
        FidelityError: no variant passes the self-test.
        MissingExtraError: a package that is needed for this is not installed.
        DiskError: the home cannot be written, or is full, and there is none either.
    """
    return fetch_with(
        reference, directory, with_overrides(options, overrides, "fetch"), progress=progress, on_wait=on_wait
    )


def fetch_with(
    reference: str | Reference,
    directory: str | os.PathLike[str] | None,
    options: Options,
    *,
    progress: Callable[[int, int], object],
    on_wait: Callable[[str], object],
    stopped: Callable[[], bool] = never,
) -> Snapshot:
    """``fetch``, which ends with StoppedError soon after ``stopped`` has become true.

    Three steps: ``resolve`` what the reference names, ``prepare`` that on this disk, ``activate`` it. Where one cannot
    be taken, the last good snapshot is what is used.
    """
    if isinstance(reference, str):
        reference = parse_reference(reference, default_registry())
    home = home_folder(directory)
    try:
        fetcher = Fetcher(reference, home, options, progress, on_wait=on_wait, stopped=stopped)
        fetcher.reader_name = f"{fetcher.home.path}@{fetcher.link or ''}"
        fetcher.home.check_registry(fetcher.resolver.registry)
    except OSError as error:
        raise unwritable(home, error) from error
    try:
        try:
            version = fetcher.resolve()
        except (FormatError, IntegrityError) as error:  # no channel, whoever has answered: that is no damaged version
            return fetcher.last_good(error)
        try:
            local = fetcher.prepare(version)
        except NotFoundError:  # pruned after the channel was read? What does it name now?
            before, version = version, fetcher.resolve()
            if version == before:
                raise
            local = fetcher.prepare(version)
        return fetcher.activate(version, local)
    except (DiskError, NotFoundError, RefusedError, RegistryError) as error:
        return fetcher.last_good(error)
    except OSError as error:
        failed = unwritable(home, error)
        failed.__cause__ = error
        return fetcher.last_good(failed)


class _RemovedError(Exception):
    """Another process has removed a snapshot, to make room, before it could be seen to be used."""


class Fetcher:
    """The steps of fetching one reference into one home. It holds what it took: one fetch each.

    Args:
        reference: what to fetch.
        home: the folder that holds the models' folders.
        options: how.
        progress: told bytes done and bytes in all while files arrive.
        on_wait: told in a sentence what is waited for.
        patient: whether to wait for a registry that does not answer, if this disk has nothing else; ``watch`` asks
            again anyway.
        stopped: whether it has been given up; it then ends with StoppedError.

    Attributes:
        resolver: what asks the registry.
        link: the name of the link that names the snapshot; None for a pinned version.
        stats: what the last ``prepare`` has brought.
        warnings: what whoever runs this should know of that, a sentence each.
        reader_name: what this process holds the snapshot as, while it lives; "" where something else keeps it.
    """

    def __init__(
        self,
        reference: Reference,
        home: Path,
        options: Options,
        progress: Callable[[int, int], object] = lambda _done, _total: None,
        *,
        on_wait: Callable[[str], object] = lambda _what: None,
        patient: bool = True,
        stopped: Callable[[], bool] = never,
    ) -> None:
        self.reference = reference
        self.options = options
        self.home = ModelHome(home, reference.model)
        self.link = _link_name(reference, options)
        self.stats = TransferStats()
        self.warnings: tuple[str, ...] = ()
        self.reader_name = ""
        self._deadline = time_limit(options.timeout, stopped)
        trust_check, attestation_check = _trust_check(options, self.home), _attestation_check(options, self.home)
        self._checks = tuple(check for check in (trust_check, attestation_check) if check is not None)
        self.resolver = Resolver(
            reference, options, self._deadline, waits=self._waits, on_wait=on_wait, trust_check=trust_check
        )
        self._progress = progress
        self._patient = patient
        self._began = time.monotonic()
        self._asked = time.time()

    @cached_property
    def stored_state(self) -> ChannelState | None:
        """What this disk knew of the channel when it was first asked for."""
        return self._state_now()

    def _state_now(self) -> ChannelState | None:
        """What this disk knows by now: another process may have followed the channel while this one has waited."""
        return read_state(self.home.path, self.link) if self.link else None

    def resolve(self) -> ResolvedVersion:
        """What the reference names now.

        Raises:
            RefusedError: ``watch`` has quarantined what it names.
            Otherwise what ``Resolver.resolve`` raises.
        """
        version = self.resolver.resolve(self.stored_state)
        quarantine = read_quarantine(self.home.path, self.link) if self.link else None
        if quarantine is not None and quarantine.applies_to(version.digest, version.generation):
            raise RefusedError(
                f"v{version.version} of {self.reference.model} is in quarantine here: {quarantine.reason}",
                "It is tried again when the channel moves.",
            )
        return version

    def prepare(self, version: ResolvedVersion) -> LocalSnapshot:
        """Bring a version to disk, in the best variant that this machine runs faithfully; no link moves.

        Raises:
            NotFoundError: there is no such version, or it was pruned.
            TrustError: it is not signed, or attested, as it must be.
            FidelityError: no variant passes the self-test.
            Otherwise what ``fetch`` raises.
        """
        self.stats, self.warnings, self._asked = TransferStats(), (), time.time()
        spent = TransferStats()
        for check in self._checks:
            version = check.check_version(version, self.resolver, self.stored_state)
        while True:
            try:
                local = self._prepare(version)
                break
            except _RemovedError:
                spent = spent.plus(self.stats)
        self.stats = spent.plus(self.stats)
        for check in self._checks:
            check.remember()
        return local

    def _prepare(self, version: ResolvedVersion) -> LocalSnapshot:
        """Bring a version to disk that may be used."""
        unchanged = self._find_unchanged(version)
        if unchanged is not None:
            return unchanged
        from modeldrop.fetcher.choose_variant import candidates
        from modeldrop.fetcher.layout import folder_suffix
        from modeldrop.format.manifest import manifest_digest, parse_manifest

        wanted = None if self.options.variant == AUTO else self.options.variant
        present = self._find(version, wanted) or self.home.find(version.version, version.digest, None)
        data = present.manifest_bytes if present else self.resolver.read_manifest(version)
        try:
            manifest = present.manifest if present else parse_manifest(data)
        except FormatError as error:
            raise _located(error, f"{self.resolver.version_url(version)}/manifest.json") from None
        failed: list[Outcome] = []
        notes: tuple[str, ...] = ()
        layout = self.options.layout
        readable = layout.readable(manifest, wanted)
        for variant in candidates(readable, self.options.variant, with_fallbacks=self.options.self_test):
            renamed = layout.renames(manifest, variant)
            name = folder_name(version.version, variant.name, manifest_digest(data), folder_suffix(renamed))
            outcome = self._remembered_outcome(name, variant)
            if outcome is None or outcome.passed:  # what has failed before need not be fetched
                self.stats, notes = TransferStats(), ()
                local = self._find(version, variant.name)
                if local is None:
                    self.resolver.check_online(version)
                    from modeldrop.fetcher.download.download import download

                    downloaded = download(
                        self.resolver.reader,
                        self.home,
                        version.version,
                        data,
                        manifest,
                        variant,
                        renamed=renamed,
                        keep=self.options.keep,
                        no_delta=self.options.no_delta,
                        deadline=self._deadline,
                        progress=self._progress,
                    )
                    local, self.stats = downloaded.snapshot, downloaded.stats
                    notes = downloaded.notes
                outcome = outcome or self._test(local, variant)
                if outcome is not None and not outcome.passed:
                    failed.append(outcome)
                    continue
                self.warnings = (*(f"{one.detail} The next variant is used." for one in failed), *notes)
                return local
            failed.append(outcome)
        from modeldrop.fetcher.self_test import no_variant_passed

        raise no_variant_passed(self.resolver.version_url(version), failed)

    def activate(self, version: ResolvedVersion, local: LocalSnapshot) -> Snapshot:
        """Point the channel's link at what was prepared, unless a newer one was activated meanwhile.

        Then make room, if something new came.
        """
        if not note_use(local.path, reader=self.reader_name):
            return self._activate_again(version)  # it was evicted between being found and being used
        self.stats = self.stats._replace(seconds=time.monotonic() - self._began)
        if self.link is not None and version.generation is not None:
            state = self.channel_state(version, local)
            if self.is_linked(local) and state.is_same(self.stored_state):
                confirm_state(self.home.path, self.link, state.checked)
            else:
                with self._link_lock():
                    now = read_state(self.home.path, self.link)
                    accepted = self.options.accept_older_generation and now == self.stored_state
                    if now is None or now.generation <= state.generation or accepted:
                        self.home.link(self.link, local.path)
                        write_state(self.home.path, self.link, state)
        if not os.path.isdir(local.path):  # noqa: PTH112  who evicts looks for links once more, after that
            return self._activate_again(version)
        if not self.stats.found_all:
            from modeldrop.fetcher.eviction import evict

            evict(self.home, self.options.keep, now=time.time())
        checked = "registry" if self.link is not None or self.stats.fetched else "disk"
        return self.snapshot_of(local, version.generation, checked=checked, figures=self.stats, warnings=self.warnings)

    def _activate_again(self, version: ResolvedVersion) -> Snapshot:
        """Bring once more what another process has removed to make room, before it could be seen to be used."""
        before = self.stats
        local = self.prepare(version)
        self.stats = before.plus(self.stats)
        return self.activate(version, local)

    def channel_state(self, version: ResolvedVersion, local: LocalSnapshot) -> ChannelState:
        """What is to be remembered of the channel when it names this version, which is on this disk."""
        return ChannelState(
            version=version.version,
            digest=local.digest,
            generation=version.generation or 1,
            nonce=version.nonce,
            variant=local.variant,
            snapshot=local.path.name,
            checked=self._asked,
            choice_key=_choice_key(local),
        )

    def last_good(self, error: ModeldropError) -> Snapshot:
        """What this disk has of the channel, when what it names now could not be had.

        Raises:
            RegistryError: there is none, or it is older than ``max_stale``.
            ModeldropError: ``error``, where there is none that would do.
        """
        from modeldrop.fetcher.last_good import last_good, note_fallback

        found = last_good(self.home, self.link, self._state_now(), self.options, error, self.trusts)
        with contextlib.suppress(OSError):  # it may be a read-only volume whose link is right already
            self.home.link(str(self.link), found.local.path)
        note_use(found.local.path, reader=self.reader_name)
        self.stats, self.warnings = TransferStats(), ()
        if self.options.on_unavailable != OFFLINE:
            name, when = found.local.path.name, ago_text(found.age)
            trouble = " ".join(str(error).split())
            note_fallback(self.home.path, str(self.link), error, found.checked)
            self.warnings = (f"{trouble} Using {name}, which the registry last confirmed {when}.",)
        return self.snapshot_of(found.local, found.generation, checked="disk", age=found.age, warnings=self.warnings)

    def trusts(self, local: LocalSnapshot) -> bool:
        """Whether what is on this disk was verified as is wanted now, where signatures or attestations are."""
        return all(check.was_verified(local.digest) for check in self._checks)

    def _find_unchanged(self, version: ResolvedVersion) -> LocalSnapshot | None:
        """The snapshot that the link names, if it was chosen for this version on this machine before, and is whole.

        What was decided then is not decided again, and so the manifest need not be understood: that takes longer than
        all the rest.
        """
        known = self.stored_state
        if (
            known is None
            or (known.version, known.digest) != (version.version, version.digest)
            or not known.choice_key
            or self.options.self_test
            or not self.options.layout.is_plain
        ):
            return None
        with contextlib.suppress(FormatError, OSError):
            local = LocalSnapshot(self.home.path / known.snapshot)
            if (
                not local.suffix
                and self.is_linked(local)
                and known.choice_key == _choice_key(local)
                and known.digest == local.digest
                and is_whole(local)
            ):
                return local
        return None

    def _find(self, version: ResolvedVersion, variant: str | None) -> LocalSnapshot | None:
        """A whole snapshot that is there already, with its graph under the name that was asked for."""
        return self.home.find(version.version, version.digest, variant, layout=self.options.layout)

    def _waits(self, error: RegistryError) -> bool:
        """Whether a registry that does not answer is waited for: who has something else on this disk uses that."""
        if not self._patient:
            return False
        from modeldrop.fetcher.last_good import last_good

        try:
            last_good(self.home, self.link, self._state_now(), self.options, error, self.trusts)
        except ModeldropError:
            return True
        return False

    def _remembered_outcome(self, name: str, variant: Variant) -> Outcome | None:
        """What an earlier self-test of a snapshot found; None where there was none, or none is wanted."""
        if not self.options.self_test:
            return None
        from modeldrop.fetcher.self_test import remembered

        return remembered(self.home.path, name, this_machine(), installed_runtime(variant))

    def _test(self, local: LocalSnapshot, variant: Variant) -> Outcome | None:
        """What a self-test finds now, remembered; None where none is wanted."""
        if not self.options.self_test:
            return None
        from modeldrop.fetcher.layout import renamed_variant
        from modeldrop.fetcher.self_test import DEADLINE_SECONDS, remember, self_test

        seconds = min(DEADLINE_SECONDS, max(1.0, self._deadline.left()))
        try:
            use = InUse.take(local.path)  # no link names it yet, and a test of what is being removed would fail
        except FileNotFoundError:
            raise _RemovedError from None
        try:
            outcome = self_test(local.path, local.manifest, renamed_variant(variant, local.renamed), seconds)
        finally:
            use.release()
        remember(self.home.path, local.path.name, this_machine(), installed_runtime(variant), outcome)
        return outcome

    def is_linked(self, local: LocalSnapshot) -> bool:
        """Whether the channel's link names it."""
        with contextlib.suppress(OSError):
            return read_link(self.home.path / str(self.link)) == local.path.name
        return False

    def _link_lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep two fetches that end together from moving the link crosswise; go without where locks do not work."""
        limit = Deadline(min(_LOCK_SECONDS, self._deadline.left()))
        return held_in_turn(self.home.path / PARTIAL / f"{self.link}.lock", limit, _LOCK_PAUSE)

    def snapshot_of(
        self,
        local: LocalSnapshot,
        generation: int | None,
        *,
        checked: str,
        age: float | None = 0.0,
        figures: TransferStats = NO_TRANSFER,
        warnings: tuple[str, ...] = (),
    ) -> Snapshot:
        """What is handed out for a snapshot on this disk; see ``Snapshot``."""
        return Snapshot(
            path=local.path,
            model=self.reference.model,
            version=local.version,
            variant=local.variant,
            digest=local.digest,
            registry=self.resolver.registry,
            channel=self.reference.channel,
            generation=generation,
            age=age,
            checked=checked,
            figures=figures,
            warnings=warnings,
        )


def unwritable(home: Path, error: OSError) -> DiskError:
    """The error for a home that cannot be used."""
    from modeldrop.fetcher.download.volume import ownership  # only needed in trouble

    return DiskError(
        f"Could not write into {home}: {error.strerror or error}.{ownership(error)}",
        "Name a folder that this user may write and that has room (-d or MODELDROP_HOME); "
        "the snapshot in use is untouched.",
    )


def _trust_check(options: Options, home: ModelHome) -> TrustCheck | None:
    """What refuses what trusted keys have not signed; None where nothing need be."""
    trust = trusted_keys(options.trust, options.trust_threshold)
    if trust is None:
        return None
    from modeldrop.fetcher.trust_check import TrustCheck

    return TrustCheck(trust, home)


def _attestation_check(options: Options, home: ModelHome) -> AttestationCheck | None:
    """What refuses what nobody has attested to; None where nothing need be."""
    builder = required_builder(options.require_attestation)
    if builder is None:
        return None
    from modeldrop.fetcher.attestation_check import AttestationCheck

    return AttestationCheck(builder, home)


def _located(error: FormatError, where: str) -> FormatError:
    """The same error, saying which document does not parse."""
    return FormatError(
        f"{where}: {error.message}",
        error.hint or "It was changed by hand or damaged; the snapshot in use is untouched. Promote another version.",
    )


def _choice_key(local: LocalSnapshot) -> str:
    """A text that changes with what the choice of a snapshot depends on: this machine, and the manifest on its disk."""
    try:
        changed = os.stat(local.path / MANIFEST_FILE).st_mtime_ns  # noqa: PTH116
    except OSError:
        return ""
    return f"{this_machine().key}, onnxruntime {installed_onnxruntime()}, manifest of {changed}"


def _link_name(reference: Reference, options: Options) -> str | None:
    if reference.channel is None:
        return None
    variant = "" if options.variant == AUTO else f"-{options.variant}"
    return f"{reference.channel}{variant}{options.layout.link_suffix}"
