"""Read what a registry holds: models, channels, versions and their manifests."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modeldrop.config import default_registry, load_config_file
from modeldrop.errors import FormatError, IntegrityError, ModeldropError, NotFoundError, UsageError
from modeldrop.format import keys
from modeldrop.format.channel import REMOVED, Channel, parse_channel
from modeldrop.format.manifest import File, Manifest, manifest_digest, parse_manifest
from modeldrop.format.names import DEFAULT_CHANNEL, NAME, check_channel
from modeldrop.format.records import MAX_SEAL, Rejection, Seal, find_seal, parse_rejection
from modeldrop.format.reference import Reference, parse_reference, parse_registry
from modeldrop.storage.write import open_store
from modeldrop.storage.write.store import ListedObject, Store
from modeldrop.util.files import sha256_file

CLAIM_FILE, MANIFEST_FILE, REJECTED, RETIRED = "claim.json", "manifest.json", "rejected.json", "retired.json"


@dataclass(frozen=True, slots=True)
class Version:
    """A version that exists: its number, manifest and the manifest's digest."""

    number: int
    digest: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class VersionListing:
    """What a listing shows of a version's folder.

    Attributes:
        number: the version's.
        objects: all below ``vN/``, by their path there.
    """

    number: int
    objects: Mapping[str, ListedObject]

    @property
    def committed(self) -> bool:
        """Whether a manifest, or a seal in its place, is there."""
        return MANIFEST_FILE in self.objects

    @property
    def retired(self) -> bool:
        """Whether prune has marked it."""
        return RETIRED in self.objects

    @property
    def rejected(self) -> bool:
        """Whether the user's test rejected it."""
        return REJECTED in self.objects

    @property
    def leftovers(self) -> Mapping[str, ListedObject]:
        """What prune deletes of a version: its files and report."""
        kept = {CLAIM_FILE, MANIFEST_FILE, RETIRED}
        return {path: listed for path, listed in self.objects.items() if path not in kept}

    @property
    def emptied(self) -> bool:
        """Whether this is all that prune leaves of a version. No version is without files."""
        return self.committed and not self.leftovers and self.objects[MANIFEST_FILE].size <= MAX_SEAL

    @property
    def may_be_sealed(self) -> bool:
        """Whether ``manifest.json`` may be a seal and must be read to know: it is small, or marked as retired."""
        return self.committed and (self.retired or self.objects[MANIFEST_FILE].size <= MAX_SEAL)


def read_channel(store: Store, model: str, name: str) -> tuple[Channel | None, str | None]:
    """A channel, None where there is none; and the tag to compare and swap with, None to create it."""
    stored = store.get(keys.channel(model, name))
    if stored is None:
        return None, None
    if stored.data == REMOVED:
        return None, stored.tag
    try:
        return parse_channel(stored.data), stored.tag
    except FormatError as error:
        # No promote helps: nobody may write over what he cannot read.
        hint = (
            "It was changed by hand or damaged. Restore it from a copy; or remove this object, and name a version anew:"
            f" modeldrop promote {store.url}/{model}@vN{'' if name == DEFAULT_CHANNEL else f' --channel {name}'}"
        )
        named = FormatError(error.message, error.hint or hint)
        raise error_in_object(named, store, keys.channel(model, name)) from None


def find_version(store: Store, model: str, number: int) -> Version | None:
    """A version, or None where no manifest makes it exist, or a seal says that it was pruned."""
    found = read_version(store, model, number)
    return found if isinstance(found, Version) else None


def read_version(store: Store, model: str, number: int) -> Version | Seal | None:
    """A version, the seal that prune put in its place, or None where neither is. One request."""
    key = keys.manifest(model, number)
    stored = store.get(key)
    if stored is None:
        return None
    try:
        return Version(number, manifest_digest(stored.data), parse_manifest(stored.data))
    except FormatError as error:
        seal = find_seal(stored.data)
        if seal is not None:
            return seal
        raise error_in_object(error, store, key) from None


def was_pruned(store: Store, model: str, number: int) -> bool:
    """Whether a version that was there is gone, or sealed: one request, and no manifest parsed."""
    stored = store.get(keys.manifest(model, number))
    return stored is None or find_seal(stored.data) is not None


def get_version(store: Store, model: str, number: int) -> Version:
    """A version.

    Raises:
        NotFoundError: there is none of that number, it was pruned, or its upload was never finished.
    """
    found = read_version(store, model, number)
    if isinstance(found, Version):
        return found
    if isinstance(found, Seal):
        raise pruned(store, model, number, found)
    if not has_model(store, model):
        raise missing_model(store, model)
    if store.exists(keys.claim(model, number)):
        raise NotFoundError(
            f"v{number} of {model} has no manifest: its publisher has not finished, or crashed.",
            f"See what there is: modeldrop ls {store.url}/{model}",
        )
    numbers = version_numbers(store, model)
    there = f"The newest is v{numbers[-1]}." if numbers else "It has no version yet."
    raise NotFoundError(f"{model} has no version v{number} in {store.url}.", there)


def is_retired(store: Store, model: str, number: int) -> bool:
    """Whether prune has marked a version, which it may seal after a grace. The mark stays beside the seal."""
    return store.exists(keys.retired(model, number))


def read_marks(store: Store, model: str, number: int) -> frozenset[str]:
    """Which of REJECTED and RETIRED a version has. One request."""
    return frozenset(store.names(keys.folder(model, number))) & {REJECTED, RETIRED}


def find_rejection(store: Store, model: str, number: int) -> Rejection | None:
    """The mark of a version that the user's test rejected; None if there is none. One request."""
    key = keys.rejected(model, number)
    stored = store.get(key)
    if stored is None:
        return None
    try:
        return parse_rejection(stored.data)
    except FormatError as error:
        raise error_in_object(error, store, key) from None


def resolve_reference(store: Store, reference: Reference, channels: Mapping[str, Channel] | None = None) -> Version:
    """The version that a reference means now.

    Args:
        store: the registry.
        reference: a version or channel of a model.
        channels: the model's channels, if they were read already.

    Raises:
        NotFoundError: no such model, channel or version.
        IntegrityError: the version's manifest has another digest than the reference or the channel says.
    """
    number, promised = reference.version, reference.digest
    if number is None:
        name = reference.channel or "current"
        channel = channels[name] if channels and name in channels else get_channel(store, reference.model, name)
        move = channel.present
        if promised is not None:
            found = channel.find_digest(promised)
            if found is None:
                raise NotFoundError(
                    f"No known move of {reference.model}@{reference.channel} went to {promised}.",
                    f"Name its version: {reference.model}@v3@{promised[:19]}…",
                )
            move = found
        number, promised = move.version, move.digest
    version = get_version(store, reference.model, number)
    if promised is not None and version.digest != promised:
        raise changed_manifest(reference.model, version, promised)
    return version


def get_channel(store: Store, model: str, name: str) -> Channel:
    """A channel.

    Raises:
        NotFoundError: the model or the channel is not there.
    """
    channel, _ = read_channel(store, model, name)
    if channel is not None:
        return channel
    raise missing_channel(store, model, name)


def list_models(store: Store) -> list[str]:
    """Names of the models."""
    return [name for name in store.names("") if NAME.fullmatch(name) and has_model(store, name)]


def models_named(text: str) -> tuple[Store, list[str], bool]:
    """The models that REGISTRY[/MODEL] names: their store, their names, and whether it names a single model.

    Args:
        text: a registry, which means all of its models, or one model; "" is the default registry. A folder that holds
            claimed version numbers is a model, whatever else it could be.

    Raises:
        UsageError: it can be neither, or no registry is named.
        NotFoundError: there is neither.
    """
    if not text:
        store = open_store(default_registry())
        return store, list_models(store), False
    registry = _as_registry(text)
    if registry is not None and load_config_file().has_url(registry):
        store = open_store(registry)  # what is above may be another service's, or nobody's
        return store, list_models(store), False
    try:
        reference = parse_reference(text, default_registry())
        store = open_store(reference.registry)
    except UsageError:
        if registry is None:
            raise
        above = open_store(registry)  # such as s3://bucket, az://account/container or ..
        return above, list_models(above), False
    if _is_model(store, reference.model):
        return store, [reference.model], True
    if registry is not None:
        above = open_store(registry)
        models = list_models(above)
        if models:
            return above, models, False
    if has_model(store, reference.model):
        return store, [reference.model], True
    if registry is not None and not os.path.isdir(registry):  # noqa: PTH112
        raise NotFoundError(f"There is neither a registry nor a model {text!r}.", "Check the path.")
    raise missing_model(store, reference.model)


def _is_model(store: Store, model: str) -> bool:
    # A registry may hold models called v1 and v2, but no claims and manifests right below them.
    numbers = sorted(number for number in map(keys.version_number, store.names(model)) if number is not None)
    return any(
        store.exists(key)
        for number in numbers[-1:]
        for key in (keys.claim(model, number), keys.manifest(model, number))
    )


def _as_registry(text: str) -> str | None:
    try:
        return parse_registry(text)
    except UsageError:
        return None


def has_model(store: Store, model: str) -> bool:
    """Whether anything was ever written for the model: a version, a claim, a channel."""
    return bool(store.names(model))


def version_numbers(store: Store, model: str) -> list[int]:
    """Numbers of the versions that exist, in order: retired ones are among them, pruned ones are not.

    Takes a listing, and one request for each version that may be sealed and still has files: those that prune
    has marked, as a rule.
    """
    return [folder.number for folder in list_folders(store, model) if _exists(store, model, folder)]


def _exists(store: Store, model: str, folder: VersionListing) -> bool:
    if not folder.committed or folder.emptied:
        return False
    if not folder.may_be_sealed:
        return True
    stored = store.get(keys.manifest(model, folder.number))
    return stored is not None and find_seal(stored.data) is None


def list_folders(store: Store, model: str) -> list[VersionListing]:
    """What a listing shows of the versions of a model, in order of their numbers."""
    # A folder without version numbers is no model, and may hold a million other objects.
    return _folders(store, model) if claimed_numbers(store, model) else []


def list_folder(store: Store, model: str, number: int) -> VersionListing:
    """What a listing shows of one version."""
    return next(iter(_folders(store, keys.folder(model, number))), VersionListing(number, {}))


def _folders(store: Store, prefix: str) -> list[VersionListing]:
    found: dict[int, dict[str, ListedObject]] = {}
    for listed in store.objects(prefix):
        _, name, path = [*listed.key.split("/", 2), "", ""][:3]
        number = keys.version_number(name)
        if number is not None and listed.key.startswith(f"{prefix}/"):
            found.setdefault(number, {})[path] = listed
    return [VersionListing(number, found[number]) for number in sorted(found)]


def claimed_numbers(store: Store, model: str) -> list[int]:
    """Numbers that were claimed, for finished versions or not, in order."""
    return sorted(n for n in map(keys.version_number, store.names(model)) if n is not None)


def list_channels(store: Store, model: str) -> dict[str, Channel]:
    """The model's channels by name."""
    channels = {}
    for name in store.names(model):
        try:
            check_channel(name)
        except ModeldropError:
            continue
        channel, _ = read_channel(store, model, name)
        if channel is not None:
            channels[name] = channel
    return channels


def version_named(store: Store, model: str, channel: Channel) -> Version:
    """The version that a channel names.

    Raises:
        NotFoundError: it is gone.
        IntegrityError: its manifest is not the one that the channel names.
        ModeldropError: it cannot be read.
    """
    version = get_version(store, model, channel.version)
    if version.digest != channel.present.digest:
        raise changed_manifest(model, version, channel.present.digest)
    return version


def changed_manifest(model: str, version: Version, promised: str) -> IntegrityError:
    """The error for a version whose manifest is not the one that was promised."""
    return IntegrityError(
        f"The manifest of {model} v{version.number} has the digest {version.digest}, not {promised}.",
        "It was changed after it was published. Restore it, or promote another version.",
    )


def download_file(store: Store, key: str, path: Path, file: File, progress: Callable[[int], None]) -> None:
    """Bring an object to this disk, and check that it is what is known of it.

    Args:
        store: the registry.
        key: the object.
        path: where to; there must be nothing.
        file: its size and digest.
        progress: told every number of bytes done.

    Raises:
        IntegrityError: it is something else.
        NotFoundError: it is gone.
        RegistryError, DiskError: it cannot be read, or not written here.
    """
    store.download(key, path, progress)
    if path.stat().st_size != file.size or sha256_file(path) != file.sha256:
        raise IntegrityError(
            f"{store.url}/{key} does not have the digest in the manifest.",
            "It was damaged or changed. Nothing was copied.",
        )


def pruned(store: Store, model: str, number: int, seal: Seal) -> NotFoundError:
    """The error for a version that was pruned."""
    return NotFoundError(
        f"v{number} of {model} was pruned on {seal.at[:10]}" + (f": {seal.why}." if seal.why else "."),
        f"To have it again, publish it again. See what there is: modeldrop ls {store.url}/{model}",
    )


def missing_model(store: Store, model: str) -> NotFoundError:
    """The error for a model that is not there, with what is."""
    models = list_models(store)
    hint = f"It holds: {', '.join(models[:8])}{', …' if len(models) > 8 else ''}." if models else "It is empty."
    return NotFoundError(f"There is no model {model!r} in {store.url}.", hint)


def missing_channel(store: Store, model: str, name: str) -> NotFoundError:
    """The error for a channel that is not there, with what is; the model's, if that is not there either."""
    if not has_model(store, model):
        return missing_model(store, model)
    channels = ", ".join(list_channels(store, model)) or "none"
    return NotFoundError(
        f"{model} has no channel {name!r} in {store.url}.",
        f"Its channels: {channels}. Make one: modeldrop promote {store.url}/{model}@v1 --channel {name}",
    )


def error_in_object(error: FormatError, store: Store, key: str) -> FormatError:
    """The same error, saying which object does not parse."""
    hint = error.hint or "It was changed by hand or damaged. Restore it from a copy, or promote another version."
    return FormatError(f"{store.url}/{key}: {error.message}", hint)
