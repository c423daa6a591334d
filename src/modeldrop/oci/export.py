"""Exporting: a snapshot becomes an image, a ModelPack artifact, or both.

``plan_pushes``: what would be pushed, and under which digests; every byte is read once, and verified. ``push``: tags
that name the same already are left; one that names something else ends it; else blobs that are not there are sent, then
the manifests that name them, and last what the tags name. So a tag names all of an export, or what it named before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.errors import RefusedError, VariantError
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.oci.contents import entries_of
from modeldrop.oci.documents import Package, PushedVersion, image_of, modelpack_of
from modeldrop.oci.layer import layer_of

if TYPE_CHECKING:
    from modeldrop.fetcher.snapshot import Snapshot
    from modeldrop.oci.blobs import Content
    from modeldrop.oci.targets import Target

IMAGE, MODELPACK, BOTH = "image", "modelpack", "both"
FORMATS = (BOTH, IMAGE, MODELPACK)
"""What a version can be exported as."""

MODELPACK_SUFFIX = "-modelpack"
"""Follows the tag of the image in the tag of the artifact, where both are exported."""


@dataclass(frozen=True, slots=True)
class PlannedPush:
    """One of the two forms, under its tag.

    Attributes:
        form: ``image`` or ``modelpack``.
        tag: that is to name it.
        package: what it is made of.
    """

    form: str
    tag: str
    package: Package

    @property
    def digest(self) -> str:
        """What the tag names in the end."""
        return self.package.top.blob.digest


@dataclass(frozen=True, slots=True)
class PushResult:
    """What became of a push.

    Attributes:
        planned: what was to be pushed.
        pushed: whether the tag was made or moved; False where it named the same already.
        sent: bytes that were sent for it; what both forms share counts for the first.
        size: bytes of all its blobs.
    """

    planned: PlannedPush
    pushed: bool
    sent: int
    size: int


def tags_of(form: str, tag: str) -> dict[str, str]:
    """The tag of each form that ``form`` stands for."""
    if form == BOTH:
        return {MODELPACK: f"{tag}{MODELPACK_SUFFIX}", IMAGE: tag}
    return {form: tag}


def plan_pushes(
    snapshot: Snapshot,
    tags: Mapping[str, str],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    target: Target | None = None,
) -> tuple[PlannedPush, ...]:
    """What is to be pushed; the same bytes for the same version, variant and layout, whoever makes it, and where.

    Args:
        snapshot: what is exported.
        tags: the tag of each form.
        progress: told bytes hashed and bytes to hash.
        target: where they will be pushed. Where none of the tags names anything yet, the layer of the image is on its
            way there while it is hashed.

    Raises:
        RegistryError, DiskError: the target cannot be read.
        IntegrityError: the snapshot was changed.
        RefusedError: a file has a name that no image can hold.
        OSError: it cannot be read.
    """
    local = LocalSnapshot(snapshot.path)
    variant = local.manifest.variant(local.variant)
    if variant is None:
        raise VariantError(f"{snapshot.path} holds no variant of its manifest.")
    subject = PushedVersion(snapshot.model, local.digest, local.manifest, variant)
    entries = entries_of(local)
    total, done = sum(entry.blob.size for entry in entries), 0

    def hashed(size: int) -> None:
        nonlocal done
        done += size
        progress(min(done, total), total)  # a layer has headers, too

    def begin(content: Content) -> None:
        # What a tag names may be this very export.
        if target is not None and all(target.tagged(tag) is None for tag in tags.values()):
            target.begin(content)

    packages = {
        MODELPACK: lambda: modelpack_of(subject, entries),
        IMAGE: lambda: image_of(subject, layer_of(entries, hashed, begin)),
    }
    return tuple(PlannedPush(form, tag, packages[form]()) for form, tag in tags.items())


def push(
    pushes: Sequence[PlannedPush],
    target: Target,
    *,
    replace: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[PushResult, ...]:
    """Push all to their target. Whenever it ends, each tag names what it named before, or all of the new.

    Args:
        pushes: what is to be there.
        target: where.
        replace: whether tags may be moved that name something else.
        progress: told bytes sent and bytes that have to be sent.

    Raises:
        RefusedError: a tag names something else; nothing was sent.
        ConflictError: somebody else moved a tag meanwhile.
        RegistryError, DiskError: the target cannot be read or written.
        IntegrityError: something did not arrive as it was sent.
    """
    before = {planned.tag: target.tagged(planned.tag) for planned in pushes}
    for planned in pushes:
        found = before[planned.tag]
        if found not in {None, planned.digest} and not replace:
            raise RefusedError(
                f"{target.url}:{planned.tag} names {found}, and not {planned.digest}, which this version is.",
                "Choose another tag. To move this one, which those who use it will not expect, add --replace.",
            )
    wanted = [planned for planned in pushes if before[planned.tag] != planned.digest]
    named = {blob.digest: blob for planned in wanted for blob in planned.package.blobs}
    missing = {digest: blob for digest, blob in named.items() if not target.has(blob)}
    total, done = sum(blob.size for blob in missing.values()), 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    results = []
    for planned in pushes:
        package, sent = planned.package, 0
        size = sum({blob.digest: blob.size for blob in package.blobs}.values())
        if planned in wanted:
            for blob in package.blobs:
                if missing.pop(blob.digest, None) is not None:
                    target.push(blob, count)
                    sent += blob.size
            for part in package.parts:
                target.push_manifest(part)
            target.tag(package.top, planned.tag, before[planned.tag])
        results.append(PushResult(planned, planned in wanted, sent, size))
    return tuple(results)
