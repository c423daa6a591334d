"""Read from a registry what its pages show. What is damaged is shown as that, beside the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modeldrop.errors import FormatError, TrustError
from modeldrop.export.report.figures import variant_figures
from modeldrop.export.report.formatting import moment
from modeldrop.format import keys
from modeldrop.format.channel import Channel
from modeldrop.format.diff import facts
from modeldrop.format.manifest import Manifest
from modeldrop.format.names import DEFAULT_CHANNEL, NAME, VERSION
from modeldrop.format.records import Seal, parse_retirement
from modeldrop.format.signed import parse_envelope
from modeldrop.registry.provenance import now
from modeldrop.registry.signing import read_statement
from modeldrop.registry.versions import VersionListing, find_rejection, read_channel, read_version
from modeldrop.site.document import DAMAGED, PUBLISHED, RETIRED, SEALED, UNFINISHED, VersionEntry
from modeldrop.storage.write.store import Store
from modeldrop.trust.public_keys import PREFIX, decode
from modeldrop.trust.rules import Trust, verify_channel, verify_statement

_STATEMENT = "statement.json"
_MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class KnownChannel:
    """A channel, and what is known of its signature; ``fault`` is "" where that is as it should be."""

    name: str
    channel: Channel
    signature: str
    fault: str


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A version as its own page shows it; without a manifest where it is sealed, unfinished or damaged."""

    entry: VersionEntry
    manifest: Manifest | None
    objects: frozenset[str]


def read_known_version(store: Store, model: str, folder: VersionListing, trust: Trust | None) -> KnownVersion:
    """Everything about one version; its manifest is read once.

    Args:
        store: the registry.
        model: the model.
        folder: what a listing shows of it.
        trust: who is trusted; None where nobody in particular is.
    """
    number, objects = folder.number, frozenset(folder.objects)
    try:
        version = read_version(store, model, number) if folder.committed else None
    except FormatError as error:
        return KnownVersion(VersionEntry(number, DAMAGED, why=error.message), None, objects)
    if version is None:
        return KnownVersion(VersionEntry(number, UNFINISHED), None, objects)
    if isinstance(version, Seal):
        seal = VersionEntry(number, SEALED, at=version.at, by=version.by, why=version.why)
        return KnownVersion(seal, None, objects)
    manifest = version.manifest
    speeds = {variant.name: variant.speed for variant in manifest.variants if variant.speed}
    known = facts(manifest)
    if len(known.files) > _MOST_FILES:
        known = known._replace(files=dict(list(known.files.items())[:_MOST_FILES]))
    entry = VersionEntry(
        number=number,
        state=RETIRED if folder.retired else PUBLISHED,
        digest=version.digest,
        at=manifest.provenance.created,
        by=manifest.provenance.actor,
        why=_why_retired(store, model, number) if folder.retired else "",
        rejected=_how_rejected(store, model, number) if folder.rejected else "",
        signature=_signature(store, model, number, version.digest, trust) if _STATEMENT in objects else "",
        source=manifest.source.repository or manifest.source.identity,
        task=manifest.task,
        size=sum(file.size for file in manifest.files),
        faithful=not any(
            figure.passed is False for variant in manifest.variants for figure in variant_figures(manifest, variant)
        ),
        weights={variant.name: manifest.weights_of(variant) for variant in manifest.variants},
        one_ms={name: speed.batch_1_ms for name, speed in speeds.items()},
        batch_ms={name: speed.batch_32_ms for name, speed in speeds.items()},
        metrics={variant.name: dict(variant.fidelity.metrics) for variant in manifest.variants},
        thresholds={variant.name: dict(variant.fidelity.thresholds) for variant in manifest.variants},
        facts=known,
    )
    return KnownVersion(entry, manifest, objects)


def read_known_channels(
    store: Store, model: str, names: Iterable[str], trust: Trust | None
) -> tuple[list[KnownChannel], list[str]]:
    """The channels among the names below a model, ``current`` first; and what is wrong with those that are damaged."""
    found, problems = [], []
    for name in names:
        if not NAME.fullmatch(name) or name == "builds" or VERSION.fullmatch(name):
            continue
        try:
            channel, _ = read_channel(store, model, name)
        except FormatError as error:
            problems.append(f"The channel {name} cannot be read: {error.message}")
            continue
        if channel is not None:
            signature, fault = _channel_signature(store, model, name, channel, trust)
            found.append(KnownChannel(name, channel, signature, fault))
    found.sort(key=lambda one: (one.name != DEFAULT_CHANNEL, one.name))
    return found, problems


def faults_of_channels(channels: Iterable[KnownChannel], entries: Mapping[int, VersionEntry]) -> list[str]:
    """What is wrong with what channels name: a version that is gone, another manifest, a signature that fails."""
    faults = []
    for known in channels:
        present = known.channel.present
        entry = entries.get(present.version)
        if entry is None or not entry.live:
            state = "not there" if entry is None else entry.state
            faults.append(f"{known.name} names v{present.version}, which is {state}.")
        elif entry.digest != present.digest:
            faults.append(f"{known.name} names v{present.version} with another digest than its manifest has.")
        if known.fault:
            faults.append(known.fault)
    return faults


def _why_retired(store: Store, model: str, number: int) -> str:
    stored = store.get(keys.retired(model, number))
    try:
        return "" if stored is None else parse_retirement(stored.data).why
    except FormatError as error:
        return f"its mark cannot be read: {error.message}"


def _how_rejected(store: Store, model: str, number: int) -> str:
    try:
        rejection = find_rejection(store, model, number)
    except FormatError as error:
        return f"its mark cannot be read: {error.message}"
    # The reason stands last: it may turn the direction of what follows.
    return "" if rejection is None else f"{moment(rejection.at)}, by {rejection.by}: {rejection.why}"


def _signature(store: Store, model: str, number: int, digest: str, trust: Trust | None) -> str:
    data = read_statement(store, model, number)
    try:
        signers = _signers(data, trust)
        verified = verify_statement(signers, data, model=model, digest=digest, where=keys.statement(model, number))
    except (FormatError, TrustError) as error:
        return f"✗ {error.message}"
    return f"✓ signed by {_whom(verified.signers, trust)}"


def _channel_signature(store: Store, model: str, name: str, channel: Channel, trust: Trust | None) -> tuple[str, str]:
    where = f"{store.url}/{keys.channel(model, name)}"
    if channel.signed is None and trust is None:
        return "", ""
    try:
        signers = trust or _keys_in([one.keyid for one in channel.signed.signatures] if channel.signed else [])
        verified = verify_channel(signers, channel, model=model, name=name, where=where, now=now())
    except TrustError as error:
        return f"✗ {error.message}", error.message
    until = f", until {verified.expires}" if verified.expires else ""
    return f"✓ signed by {_whom(verified.signers, trust)}{until}", ""


def _signers(data: bytes | None, trust: Trust | None) -> Trust:
    """Whose signatures are looked for: of those that are trusted, else of whoever has signed."""
    if trust is not None or data is None:
        return trust or Trust({})
    return _keys_in([one.keyid for one in parse_envelope(data).signatures])


def _keys_in(texts: Iterable[str]) -> Trust:
    known = {text: key for text in texts if (key := decode(PREFIX, text)) is not None}
    return Trust(known, max(1, len(known)))


def _whom(signers: Iterable[str], trust: Trust | None) -> str:
    return ", ".join(signers) + (", trusted here" if trust else "; no list of trusted keys was at hand")
