"""Resolving: what a reference names in its registry now, and the manifest of that version.

The documents are small, and each is checked before it counts: a channel's generation against what this disk has seen,
a manifest's digest against what was promised.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modeldrop.config import registry_url
from modeldrop.errors import FormatError, IntegrityError, NotFoundError, RegistryError
from modeldrop.fetcher.options import OFFLINE
from modeldrop.format.channel import MAX_BYTES as MAX_CHANNEL
from modeldrop.format.channel import parse_channel
from modeldrop.util.cached import cached_property
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.fetcher.helper import HelperReader
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.fetcher.options import Options
    from modeldrop.fetcher.trust_check import TrustCheck
    from modeldrop.format.reference import Reference
    from modeldrop.storage.read.interface import RegistryReader
    from modeldrop.util.retry import Deadline


_LOOKS = 10
_PAUSE = 0.02


class ResolvedVersion(NamedTuple):
    """What a reference means now.

    Attributes:
        version: the version's number.
        digest: the manifest digest that it must have; None for a pinned version without one.
        generation: the channel's, None for a pinned version.
        nonce: of the channel's present move, "" for a pinned version.
        expires: when the channel's signature does, where it must be signed; "" if it does not.
    """

    version: int
    digest: str | None
    generation: int | None = None
    nonce: str = ""
    expires: str = ""


class Resolver:
    """What one reference names in its registry.

    Args:
        reference: the reference.
        options: of the fetch.
        deadline: of the whole command.
        waits: whether a registry that does not answer, for this reason, is waited for.
        on_wait: told in a sentence what is waited for.
        trust_check: refuses what trusted keys have not signed; None where nothing need be.

    Attributes:
        registry: the registry's address.
        channel_key: the channel's key there.
    """

    def __init__(
        self,
        reference: Reference,
        options: Options,
        deadline: Deadline,
        *,
        waits: Callable[[RegistryError], bool],
        on_wait: Callable[[str], object],
        trust_check: TrustCheck | None = None,
    ) -> None:
        self.reference = reference
        self.registry = registry_url(reference.registry)
        self.channel_key = f"{reference.model}/{reference.channel}"
        self._options = options
        self._deadline = deadline
        self._waits = waits
        self._on_wait = on_wait
        self._trust_check = trust_check

    @cached_property
    def reader(self) -> RegistryReader | HelperReader:
        """The registry, opened when it is first needed.

        Raises:
            UsageError: this is a forked child in which it cannot be.
            RegistryError: it cannot be, or the credentials cannot be used.
            MissingExtraError: the credentials need an SDK that is not installed.
        """
        from modeldrop.storage.read import runtime  # a pinned version that is there needs none of it
        from modeldrop.storage.read.interface import open_reader

        if "://" in self.registry and not runtime.runs_here():
            from modeldrop.fetcher.helper import HelperReader

            return HelperReader(self.reference.registry, self.registry, self._deadline)
        return open_reader(self.reference.registry)

    def resolve(self, stored: ChannelState | None) -> ResolvedVersion:
        """What the reference names now, given what this disk knows of the channel.

        Raises:
            NotFoundError: there is no such channel.
            FormatError: it does not parse.
            TrustError: it is not signed as it must be.
            RefusedError: its generation is below ``min_generation``.
            RegistryError: it cannot be read, is older than what this disk has seen, or this is offline.
        """
        if self.reference.version is not None:
            return ResolvedVersion(self.reference.version, self.reference.digest)
        if self._options.on_unavailable == OFFLINE:
            raise RegistryError(f"{self.registry} was not asked: this is offline.")
        data = self._get(self.channel_key, MAX_CHANNEL)
        if data is None:
            raise NotFoundError(
                f"{self.registry} has no channel {self.channel_key}.",
                "The model or the channel is misspelt, or nothing was published there yet: "
                f"modeldrop ls {self.registry}",
            )
        return self.resolve_document(data, stored, lambda: self._get(self.channel_key, MAX_CHANNEL))

    def resolve_document(
        self, data: bytes, stored: ChannelState | None, again: Callable[[], bytes | None]
    ) -> ResolvedVersion:
        """What a channel's document names, given what this disk knows of the channel.

        In a folder a slow publisher may put an older document in the place of a newer one, and then repairs that at
        once. So an older one is read ``again`` there before it counts.

        Raises:
            NotFoundError: the channel has never named the digest that the reference wants.
            FormatError, TrustError, RefusedError, RegistryError: as ``resolve``.
        """
        known = None if self._options.accept_older_generation else stored
        minimum = self._options.min_generation
        for left in reversed(range(1 if "://" in self.registry else _LOOKS)):
            version = self._named_by(data)
            generation = version.generation or 0
            if generation >= minimum and (known is None or known.allows(generation, version.nonce)):
                return version
            if left:
                time.sleep(_PAUSE)
                data = again() or data
        from modeldrop.fetcher.last_good import old_pointer

        model, name = f"{self.registry}/{self.reference.model}", str(self.reference.channel)
        raise old_pointer(model, name, version, minimum, known)

    def _named_by(self, data: bytes) -> ResolvedVersion:
        """What a channel's document names, however old it is."""
        model, name = f"{self.registry}/{self.reference.model}", str(self.reference.channel)
        try:
            channel = parse_channel(data)
        except FormatError as error:
            from modeldrop.fetcher.last_good import not_a_channel

            raise not_a_channel(model, name, data, error) from None
        expires = "" if self._trust_check is None else self._trust_check.check_channel(channel, name, f"{model}/{name}")
        move, digest = channel.present, self.reference.digest
        if digest is not None and digest != move.digest:
            older = channel.find_digest(digest)
            if older is None:
                raise NotFoundError(
                    f"{model}/{name} has never named {digest}.",
                    f"Name its version too: {self.reference.model}@vN@{digest[:19]}…",
                )
            move = older
        return ResolvedVersion(
            version=move.version,
            digest=move.digest,
            generation=channel.generation,
            nonce=channel.present.nonce,
            expires=expires,
        )

    def read_manifest(self, version: ResolvedVersion) -> bytes:
        """A version's manifest from the registry, with the digest that was promised.

        Raises:
            NotFoundError: there is none, or the version was pruned.
            IntegrityError: it has another digest.
            RegistryError: it cannot be read, or this is offline.
        """
        from modeldrop.format.manifest import MAX_BYTES, manifest_digest

        self.check_online(version)
        model = f"{self.registry}/{self.reference.model}"
        data = self._get(f"{self.reference.model}/v{version.version}/manifest.json", MAX_BYTES)
        see = f"modeldrop ls {model}"
        if data is None:
            raise NotFoundError(f"{model} has no version v{version.version}.", f"See what there is: {see}")
        found = manifest_digest(data)
        if version.digest == found:
            return data
        from modeldrop.format.records import find_seal

        seal = find_seal(data)
        if seal is not None:
            raise NotFoundError(
                f"v{version.version} of {model} was pruned on {seal.at[:10]}.",
                f"Fetch another version, or publish it again. See what there is: {see}",
            )
        if version.digest is not None:
            raise IntegrityError(
                f"{self.version_url(version)}/manifest.json has the digest {found}, not {version.digest} as promised.",
                "It was changed after it was published. Restore it, or promote another version; "
                "the snapshot in use is untouched.",
            )
        return data

    def read_statement(self, version: ResolvedVersion) -> bytes | None:
        """What signs a version; None if there is none.

        Raises:
            RegistryError: it cannot be read, or this is offline.
            IntegrityError: it is larger than one may be.
        """
        from modeldrop.format.signed import MAX_BYTES

        self.check_online(version)
        return self._get(f"{self.reference.model}/v{version.version}/statement.json", MAX_BYTES)

    def read_attestation(self, version: ResolvedVersion) -> bytes | None:
        """The attestation on a version; None if there is none.

        Raises:
            RegistryError: it cannot be read, or this is offline.
            IntegrityError: it is larger than one may be.
        """
        from modeldrop.format import keys
        from modeldrop.trust.attestation import MAX_BYTES

        self.check_online(version)
        return self._get(keys.attestation(self.reference.model, version.version), MAX_BYTES)

    def check_online(self, version: ResolvedVersion) -> None:
        """Refuse to ask for a version that is not there, where nothing may be asked.

        Raises:
            RegistryError: this is offline.
        """
        if self._options.on_unavailable == OFFLINE:
            raise RegistryError(
                f"{self.registry} was not asked for v{version.version} of {self.reference.model}: this is offline.",
                "Fetch it once with the registry at hand.",
            )

    def version_url(self, version: ResolvedVersion) -> str:
        """A version's address."""
        return f"{self.registry}/{self.reference.model}/v{version.version}"

    def _get(self, key: str, limit: int) -> bytes | None:
        """A small document. Whoever waits for it asks again.

        Raises:
            RegistryError: it cannot be read.
            IntegrityError: it is larger than ``limit`` bytes.
        """
        try:
            return self.reader.get(key, limit)
        except RegistryError as error:
            if not (error.patience and self._waits(error)):
                raise
            from modeldrop.storage.read.patience import ask_again

            return ask_again(
                lambda: self.reader.get(key, limit),
                error,
                deadline=self._deadline,
                retry_after=self.reader.retry_after,
                tell=self._on_wait,
            )
