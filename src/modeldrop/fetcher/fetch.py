"""One reference brought to one home: ask, prepare, activate; and what is used when nobody answers.

    ask       what does the channel name now?                     one request
    prepare   that version on disk, verified; no link has moved   nothing where it is there already
    activate  swing the channel's link, remember what was seen

``fetch`` does all three, ``watch`` each in its time.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from modeldrop.config import registry_url
from modeldrop.errors import FormatError, IntegrityError, NotFoundError, RefusedError, RegistryError, VariantError
from modeldrop.fetcher.aim import Aim, aim_at_channel, aim_at_pin, check_generation, located
from modeldrop.fetcher.choose_variant import choose_variant, preference
from modeldrop.fetcher.home import PARTIAL, Held, ModelHome, read_snapshot
from modeldrop.fetcher.leases import note_use
from modeldrop.fetcher.machine import check_runtime, installed_onnxruntime, installed_runtime, this_machine
from modeldrop.fetcher.notes import ChannelState, confirm_state, read_quarantine, read_state, write_state
from modeldrop.fetcher.options import AUTO, FAIL, OFFLINE, Options, time_limit
from modeldrop.fetcher.snapshot import MANIFEST, Figures, Snapshot
from modeldrop.format.channel import MAX_BYTES as MAX_CHANNEL
from modeldrop.util.locks import try_lock
from modeldrop.util.retry import Deadline
from modeldrop.util.text import age_text
from modeldrop.util.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.fetcher.self_test import Outcome
    from modeldrop.format.manifest import Manifest, Variant
    from modeldrop.format.reference import Reference
    from modeldrop.storage.read.reader import RegistryReader

_LOCK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version that is on disk, complete and verified, and that no link names yet.

    Attributes:
        aim: what was asked for.
        held: the snapshot.
        figures: what it took.
        warnings: what whoever runs this should know.
        asked: when the registry was asked what the channel names, in Unix seconds.
    """

    aim: Aim
    held: Held
    figures: Figures
    warnings: tuple[str, ...]
    asked: float


class Fetcher:
    """Fetches one reference into one home.

    Args:
        reference: what to fetch.
        home: the folder that holds the models' folders.
        options: how.
        progress: told bytes done and bytes in all while files arrive.
    """

    def __init__(
        self,
        reference: Reference,
        home: Path,
        options: Options,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self.reference = reference
        self.options = options
        self.registry = registry_url(reference.registry)
        self.home = ModelHome(home, reference.model)
        self.link = _link_name(reference, options)
        self.key = f"{reference.model}/{reference.channel}"
        self.deadline = time_limit(options.timeout)
        self._progress = progress
        self._began = time.monotonic()
        self._reader: RegistryReader | None = None

    @property
    def reader(self) -> RegistryReader:
        """The registry, opened when it is first needed.

        Raises:
            RegistryError: it cannot be, or the credentials cannot be used.
            MissingExtraError: the credentials need an SDK that is not installed.
        """
        if self._reader is None:
            from modeldrop.storage.read.reader import RegistryReader  # a pinned version that is there needs none of it

            self._reader = RegistryReader(self.reference.registry)
        return self._reader

    def fetch(self) -> Snapshot:
        """Do it all.

        Raises:
            UsageError: the home holds this model from another registry.
            NotFoundError: the registry has no such model, channel or version, nor this disk a good one.
            VariantError: the version has no such variant, or none that this machine can run.
            FormatError, IntegrityError: what the registry holds is damaged or was changed.
            RegistryError: the registry cannot be read, and there is no last good snapshot that would do.
            RefusedError: the channel's generation is below ``min_generation``.
            DiskError: the home is full.
            OSError: the home cannot be read or written.
        """
        self.home.belongs_to(self.registry)
        pinned = aim_at_pin(self.reference)
        if pinned is not None:
            return self.activate(self.prepare(pinned))
        if self.options.on_unavailable == OFFLINE:
            return self.last_good(RegistryError(f"{self.registry} was not asked: this is offline."))
        try:
            return self.activate(self._prepare_following())
        except (NotFoundError, RefusedError, RegistryError) as error:
            if self.options.on_unavailable == FAIL:
                raise
            return self.last_good(error)

    def ask(self) -> Aim:
        """What the channel names now.

        Raises:
            NotFoundError: there is no such channel.
            FormatError: it does not parse.
            RefusedError: its generation is below ``min_generation``.
            RegistryError: it cannot be read, or is older than what this disk has seen.
        """
        data = self.reader.get(self.key, MAX_CHANNEL)
        if data is None:
            raise NotFoundError(
                f"{self.registry} has no channel {self.key}.",
                "The model or the channel is misspelt, or nothing was published there yet: "
                f"modeldrop ls {self.registry}",
            )
        return self.aim_at(data)

    def aim_at(self, data: bytes) -> Aim:
        """What a channel's document names. Raises what ``ask`` does."""
        where = f"{self.registry}/{self.key}"
        aim = aim_at_channel(self.reference, where, data)
        check_generation(aim, where, least=self.options.min_generation, known=self.known())
        return aim

    def known(self) -> ChannelState | None:
        """What this disk knows of the channel."""
        return read_state(self.home.path, self.link) if self.link else None

    def prepare(self, aim: Aim) -> Prepared:
        """Bring a version to disk, in the best variant that this machine runs faithfully; no link moves.

        Raises:
            NotFoundError: there is no such version, or it was pruned.
            FidelityError: no variant passes the self-test.
            Otherwise what ``fetch`` does.
        """
        asked = time.time()
        standing = self._standing(aim)
        if standing is not None:
            return Prepared(aim, standing, Figures(seconds=time.monotonic() - self._began), (), asked)
        source = _Source(self, aim)
        failed: list[Outcome] = []
        for variant in self._candidates(source.manifest):
            brought = self._bring(source, variant)
            if isinstance(brought, tuple):
                held, figures = brought
                figures = replace(figures, seconds=time.monotonic() - self._began)
                warnings = tuple(f"{one.detail} The next variant is used." for one in failed)
                return Prepared(source.aim, held, figures, warnings, asked)
            failed.append(brought)
        from modeldrop.fetcher.self_test import refused

        raise refused(f"{self.registry}/{self.reference.model}/v{aim.version}", failed)

    def _standing(self, aim: Aim) -> Held | None:
        """The snapshot that the link names, if it was found for this aim on this machine before, and is whole.

        What was decided then is not decided again, and so the manifest need not be understood: that takes longer than
        all the rest.
        """
        known, options = self.known(), self.options
        if (
            self.link is None
            or known is None
            or (known.version, known.digest) != (aim.version, aim.digest)
            or options.self_test
            or options.as_name
        ):
            return None
        held = Held(self.home.path / known.snapshot, known.digest, known.variant)
        stands = known.choice_key and known.choice_key == _settled(held) and self.home.stands(known.snapshot)
        return held if stands and self._names(self.link, held) else None

    def activate(self, prepared: Prepared) -> Snapshot:
        """Swing the channel's link to what was prepared, unless a newer one was activated meanwhile.

        Then make room, if something new came.
        """
        aim, held, figures = prepared.aim, prepared.held, prepared.figures
        if self.link is not None and aim.generation is not None:
            state = ChannelState(
                aim.version, held.digest, aim.generation, aim.nonce, held.variant, held.path.name, prepared.asked,
                _settled(held),
            )  # fmt: skip
            if self._names(self.link, held) and state.is_same(self.known()):
                confirm_state(self.home.path, self.link, state.checked)
            else:
                with self._one_at_a_time():
                    self._swing(self.link, state, held)
        if not note_use(held.path):
            return self.activate(self.prepare(aim))  # it was evicted between being found and being used
        if figures.fetched or figures.adopted or figures.linked:
            from modeldrop.fetcher.eviction import evict

            evict(self.home, self.options.keep, now=time.time())
        checked = "registry" if self.link is not None or figures.fetched else "disk"
        return self._snapshot(prepared, aim.generation, checked=checked)

    def _names(self, link: str, held: Held) -> bool:
        with contextlib.suppress(OSError):
            return os.readlink(self.home.path / link) == held.path.name  # noqa: PTH115  a name, not a path
        return False

    def _swing(self, link: str, state: ChannelState, held: Held) -> None:
        known = self.known()
        if known is None or known.generation <= state.generation:
            self.home.link(link, held.path)
            write_state(self.home.path, link, state)

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Keep two fetches that end together from swinging the link crosswise; go without where locks do not work."""
        lock = None
        with contextlib.suppress(OSError):
            limit = Deadline(min(_LOCK_SECONDS, self.deadline.left()))
            while (lock := try_lock(self.home.path / PARTIAL / f"{self.link}.lock")) is None and limit.left():
                time.sleep(0.01)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def last_good(self, error: NotFoundError | RefusedError | RegistryError) -> Snapshot:
        """What this disk has of the channel, when the registry could not be asked.

        Raises:
            RegistryError: there is none, or it is older than ``max_stale``.
            NotFoundError, RefusedError: ``error`` was one, and there is none that would do.
        """
        found = self._last_good()
        if found is None:
            if self.options.on_unavailable == OFFLINE:
                raise RegistryError(
                    f"{self.home.path} has no snapshot of {self.reference.channel}, and offline nothing is fetched.",
                    "Fetch it once with the registry at hand.",
                )
            raise error
        held, generation, checked = found
        if (generation or 0) < self.options.min_generation:
            raise error
        age = max(0.0, time.time() - checked)
        name = held.path.name
        if self.options.max_stale is not None and age > self.options.max_stale:
            raise RegistryError(
                f"{name} is on this disk, but the registry last confirmed it {age_text(age)} ago; "
                f"at most {age_text(self.options.max_stale)} are allowed. {error.message}",
                error.hint,
            ) from error
        warnings: tuple[str, ...] = ()
        if self.options.on_unavailable != OFFLINE:
            warnings = (f"{error.message} Using {name}, which the registry last confirmed {age_text(age)} ago.",)
        prepared = Prepared(Aim(_version_of(name), held.digest, generation), held, Figures(), warnings, checked)
        if self.link is not None:
            with contextlib.suppress(OSError):  # it may be a read-only volume whose link is right already
                self.home.link(self.link, held.path)
        return self._snapshot(prepared, generation, checked="disk", age=age)

    def _prepare_following(self) -> Prepared:
        aim = self.ask()
        self._refuse_quarantined(aim)
        try:
            return self.prepare(aim)
        except NotFoundError:
            # The version may have been pruned since the channel was read: what does it name now?
            now = self.ask()
            if now == aim:
                raise
            self._refuse_quarantined(now)
            return self.prepare(now)

    def _refuse_quarantined(self, aim: Aim) -> None:
        """Refuse what ``watch`` has tried on this disk and gone back from."""
        quarantine = read_quarantine(self.home.path, self.link) if self.link else None
        if quarantine is not None and quarantine.applies_to(aim.digest, aim.generation):
            raise RefusedError(
                f"v{aim.version} of {self.reference.model} is in quarantine here: {quarantine.reason}",
                "It is tried again when the channel moves.",
            )

    def _candidates(self, manifest: Manifest) -> list[Variant]:
        """The variants that may be taken, best first."""
        if self.options.variant != AUTO:
            chosen = choose_variant(manifest, self.options.variant)
            check_runtime(chosen)
            return [chosen]
        best = choose_variant(manifest, AUTO)
        if not self.options.self_test:
            return [best]
        rest = preference(manifest, this_machine())
        return [best, *(variant for variant in rest[rest.index(best) + 1 :] if _loads(variant))]

    def _bring(self, source: _Source, variant: Variant) -> tuple[Held, Figures] | Outcome:
        """A variant on disk; or the outcome of the self-test that it does not pass."""
        renamed = self._renamed(source.manifest, variant)
        name = self.home.place(source.aim.version, variant.name, source.digest, renamed).name
        outcome = self._remembered(name, variant) if self.options.self_test else None
        if outcome is not None and not outcome.passed:
            return outcome  # it need not even be fetched
        held, figures = source.held(variant.name), Figures()
        if held is None:
            self.refuse_offline(source.aim)
            held, figures = self._download(source, variant, renamed)
        if self.options.self_test and outcome is None:
            outcome = self._test(held, variant)
        return (held, figures) if outcome is None or outcome.passed else outcome

    def _renamed(self, manifest: Manifest, variant: Variant) -> dict[str, str]:
        if not self.options.as_name:
            return {}
        from modeldrop.fetcher.as_name import rename_graph

        return rename_graph(manifest, variant, self.options.as_name)

    def _remembered(self, name: str, variant: Variant) -> Outcome | None:
        from modeldrop.fetcher.self_test import remembered

        return remembered(self.home.path, name, this_machine(), installed_runtime(variant))

    def _test(self, held: Held, variant: Variant) -> Outcome:
        from modeldrop.fetcher.self_test import DEADLINE_SECONDS, remember, self_test

        graph = variant._replace(model=held.renamed.get(variant.model, variant.model))
        seconds = min(DEADLINE_SECONDS, max(1.0, self.deadline.left()))
        outcome = self_test(held.path, held.manifest, graph, seconds)
        remember(self.home.path, held.path.name, this_machine(), installed_runtime(variant), outcome)
        return outcome

    def refuse_offline(self, aim: Aim) -> None:
        """Refuse to ask for a version that is not there, where nothing may be asked.

        Raises:
            RegistryError: this is offline.
        """
        if self.options.on_unavailable == OFFLINE:
            raise RegistryError(
                f"{self.registry} was not asked for v{aim.version} of {self.reference.model}: this is offline.",
                "Fetch it once with the registry at hand.",
            )

    def _download(self, source: _Source, variant: Variant, renamed: dict[str, str]) -> tuple[Held, Figures]:
        from modeldrop.fetcher.download.download import (
            download,  # what is there already is found without all that it needs
        )

        version = source.aim.version
        done = download(
            self.reader,
            self.home,
            f"{self.reference.model}/v{version}",
            version,
            source.data,
            source.manifest,
            variant,
            deadline=self.deadline,
            progress=self._progress,
            rename=renamed,
        )
        held = Held(done.path, source.digest, variant.name, renamed)
        return held, Figures(done.fetched, done.adopted, done.linked, done.retries)

    def read_manifest(self, aim: Aim) -> bytes:
        """A version's manifest from the registry, with the digest that was promised.

        Raises:
            NotFoundError: there is none, or the version was pruned.
            IntegrityError: it has another digest.
            RegistryError: it cannot be read.
        """
        from modeldrop.format.manifest import MAX_BYTES, manifest_digest

        model = f"{self.registry}/{self.reference.model}"
        data = self.reader.get(f"{self.reference.model}/v{aim.version}/manifest.json", MAX_BYTES)
        see = f"modeldrop ls {model}"
        if data is None:
            raise NotFoundError(f"{model} has no version v{aim.version}.", f"See what there is: {see}")
        found = manifest_digest(data)
        if aim.digest == found:
            return data
        from modeldrop.format.records import find_seal

        seal = find_seal(data)
        if seal is not None:
            raise NotFoundError(
                f"v{aim.version} of {model} was pruned on {seal.at[:10]}.",
                f"Fetch another version, or publish it again. See what there is: {see}",
            )
        if aim.digest is not None:
            raise IntegrityError(
                f"{model}/v{aim.version}/manifest.json has the digest {found}, not {aim.digest} as promised.",
                "It was changed after it was published. Restore it, or promote another version; "
                "the snapshot in use is untouched.",
            )
        return data

    def find(self, aim: Aim, variant: str | None) -> Held | None:
        """A whole snapshot of a version that is there already, under the name that its graph is to have."""
        held = self.home.find(aim.version, aim.digest, variant, as_name=self.options.as_name)
        if held is None and variant is None and self.options.as_name:
            return self.home.find(aim.version, aim.digest, None)
        return held

    def _last_good(self) -> tuple[Held, int | None, float] | None:
        """The last snapshot that the channel gave here, its generation, and when the registry confirmed it."""
        if self.link is None:
            return None
        state = self.known()
        if state is not None:
            held = self.find(Aim(state.version, state.digest), state.variant)
            return None if held is None else (held, state.generation, state.checked)
        # Written by a release that kept no state, or on a volume that became read-only.
        with contextlib.suppress(OSError, FormatError):
            link = self.home.path / self.link
            name = os.readlink(link)  # noqa: PTH115  a name, not a path
            said = read_snapshot(self.home.path / name)
            held = self.find(Aim(_version_of(name), said.digest), said.variant)
            if held is not None and held.path.name == name:
                return held, None, link.lstat().st_mtime
        return None

    def _snapshot(self, prepared: Prepared, generation: int | None, *, checked: str, age: float = 0.0) -> Snapshot:
        held = prepared.held
        return Snapshot(
            held.path,
            self.reference.model,
            prepared.aim.version,
            held.variant,
            held.digest,
            self.registry,
            self.reference.channel,
            generation,
            age,
            checked,
            prepared.figures,
            prepared.warnings,
        )


class _Source:
    """The manifest of the version that is meant: from this disk where it is, else from the registry."""

    def __init__(self, fetcher: Fetcher, aim: Aim) -> None:
        from modeldrop.format.manifest import manifest_digest, parse_manifest

        self._fetcher = fetcher
        variant = fetcher.options.variant
        self._found = fetcher.find(aim, None if variant == AUTO else variant)
        present = self._found or fetcher.find(aim, None)
        if present is not None:
            self.data = (present.path / MANIFEST).read_bytes()
            self.manifest, self.digest = present.manifest, present.digest
        else:
            fetcher.refuse_offline(aim)
            self.data = fetcher.read_manifest(aim)
            self.digest = manifest_digest(self.data)
            try:
                self.manifest = parse_manifest(self.data)
            except FormatError as error:
                where = f"{fetcher.registry}/{fetcher.reference.model}/v{aim.version}/manifest.json"
                raise located(error, where) from None
        self.aim = aim

    def held(self, variant: str) -> Held | None:
        """The snapshot of a variant that is there already."""
        found, name = self._found, self._fetcher.options.as_name
        if found is not None and found.variant == variant and bool(found.renamed) == bool(name):
            return found
        return self._fetcher.find(self.aim, variant)


def _loads(variant: Variant) -> bool:
    try:
        check_runtime(variant)
    except VariantError:
        return False
    return True


def _settled(held: Held) -> str:
    """A text that changes with what the choice of a snapshot rests on: this machine, and the manifest on its disk."""
    try:
        changed = os.stat(held.path / MANIFEST).st_mtime_ns  # noqa: PTH116
    except OSError:
        return ""
    return f"{this_machine().key}, onnxruntime {installed_onnxruntime()}, manifest of {changed}"


def _link_name(reference: Reference, options: Options) -> str | None:
    if reference.channel is None:
        return None
    variant = "" if options.variant == AUTO else f"-{options.variant}"
    return f"{reference.channel}{variant}{'-as' if options.as_name else ''}"


def _version_of(snapshot: str) -> int:
    return int(snapshot.partition("-")[0].removeprefix("v"))
