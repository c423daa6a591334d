"""The JSON documents of an export, an image's and those of CNCF ModelPack: the same for the same bytes, without I/O.

They hold what the version's manifest says, and neither the version's number nor a registry's name: mirrors have the
same version under other numbers, and their exports have the same digests.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeldrop.errors import UsageError
from modeldrop.format.bom import spdx_id
from modeldrop.oci.blobs import Blob, blob_of

if TYPE_CHECKING:
    from modeldrop.format.manifest import Manifest, Variant
    from modeldrop.oci.contents import Entry

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
_IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar"
MODELPACK = "application/vnd.cncf.model.manifest.v1+json"
_MODELPACK_CONFIG = "application/vnd.cncf.model.config.v1+json"
_WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
_SETTINGS = "application/vnd.cncf.model.weight.config.v1.raw"
_DOCUMENTATION = "application/vnd.cncf.model.doc.v1.raw"
MANIFEST_DIGEST = "io.github.modeldrop.manifest.digest"
"""The annotation that names the version: the digest of its manifest, as references and channels have it."""

_VARIANT = "io.github.modeldrop.variant"
_STANDARD = "org.opencontainers.image."
ARCHITECTURES = ("amd64", "arm64")
"""An image names the machines that it is for, and containerd unpacks no other one; files are the same for all."""

_MAX_DOCUMENT = 4 << 20
_TEXT = re.compile(r".*\.(?:md|rst|pdf)|(?:licen[cs]e|notice|readme|copying)(?:\..*)?", re.IGNORECASE)
_SETTING_ENDINGS = (
    ".jinja", ".json", ".model", ".pbtxt", ".tiktoken", ".txt", ".vocab", ".yaml", ".yml",
)  # fmt: skip
_PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
_FORMATS = {".onnx": "onnx", ".xml": "openvino"}
# What a model takes and gives, in the words of the specification: text, image, audio, video, embedding, other.
_MODALITIES = {
    "automatic-speech-recognition": ("audio", "text"),
    "feature-extraction": ("text", "embedding"),
    "image-classification": ("image", "other"),
    "image-feature-extraction": ("image", "embedding"),
    "text-classification": ("text", "other"),
    "text-generation": ("text", "text"),
    "text2text-generation": ("text", "text"),
    "token-classification": ("text", "other"),
}


@dataclass(frozen=True, slots=True)
class PushedVersion:
    """What is pushed.

    Attributes:
        model: the model's name.
        digest: of the version's manifest.
        manifest: the version's.
        variant: the one that is pushed.
    """

    model: str
    digest: str
    manifest: Manifest
    variant: Variant


@dataclass(frozen=True, slots=True)
class PushedDocument:
    """A manifest or an index, as it is pushed.

    Attributes:
        media_type: of it.
        blob: its bytes.
    """

    media_type: str
    blob: Blob


@dataclass(frozen=True, slots=True)
class Package:
    """All that makes one of the two forms of an export.

    Attributes:
        blobs: those that its manifests name.
        parts: the manifests that ``top`` names.
        top: what the tag names.
    """

    blobs: tuple[Blob, ...]
    parts: tuple[PushedDocument, ...]
    top: PushedDocument


def image_of(subject: PushedVersion, layer: Blob) -> Package:
    """An image with one layer, for every architecture of ``ARCHITECTURES``: an index of manifests that share it."""
    annotations = _annotations(subject)
    configs, manifests, entries = [], [], []
    for architecture in ARCHITECTURES:
        config = _json_blob(
            {
                "architecture": architecture,
                "config": {"Labels": annotations},
                "created": subject.manifest.provenance.created,
                "history": [{"created": subject.manifest.provenance.created, "created_by": "modeldrop export"}],
                "os": "linux",
                "rootfs": {"diff_ids": [layer.digest], "type": "layers"},
            }
        )
        manifest = _manifest(config, _IMAGE_CONFIG, [_descriptor(layer, _IMAGE_LAYER)], annotations)
        configs.append(config)
        manifests.append(manifest)
        platform = {"architecture": architecture, "os": "linux"}
        entries.append({**_descriptor(manifest.blob, OCI_MANIFEST), "platform": platform})
    index = {"annotations": annotations, "manifests": entries, "mediaType": OCI_INDEX, "schemaVersion": 2}
    return Package((layer, *configs), tuple(manifests), PushedDocument(OCI_INDEX, _json_blob(index)))


def modelpack_of(subject: PushedVersion, entries: Sequence[Entry]) -> Package:
    """An artifact as CNCF's ModelPack specifies it: every file is a layer of its own, as it is.

    Raises:
        UsageError: there are more files than a registry's manifest can name.
    """
    weights = set(subject.variant.graphs.values())
    layers = [
        {
            **_descriptor(entry.blob, _kind(entry.path, weights)),
            # The first is ModelPack's own name for the path; the second is the one that oras and podman read.
            "annotations": {"org.cncf.model.filepath": entry.path, f"{_STANDARD}title": entry.path},
        }
        for entry in entries
    ]
    config = _json_blob(
        {
            "config": _technical(subject),
            "descriptor": _descriptive(subject),
            "modelfs": {"diffIds": [entry.blob.digest for entry in entries], "type": "layers"},
        }
    )
    manifest = _manifest(config, _MODELPACK_CONFIG, layers, _annotations(subject), MODELPACK)
    if manifest.blob.size > _MAX_DOCUMENT:
        raise UsageError(
            f"{len(entries)} files are more than a manifest of {_MAX_DOCUMENT >> 20} MiB can name, the most that "
            "registries take.",
            "Export it as an image alone: --format image.",
        )
    return Package((*(entry.blob for entry in entries), config), (), manifest)


def _manifest(
    config: Blob,
    config_type: str,
    layers: Sequence[Mapping[str, Any]],
    annotations: Mapping[str, str],
    artifact_type: str = "",
) -> PushedDocument:
    plain = {
        "annotations": annotations,
        "config": _descriptor(config, config_type),
        "layers": layers,
        "mediaType": OCI_MANIFEST,
        "schemaVersion": 2,
    }
    return PushedDocument(OCI_MANIFEST, _json_blob(plain | ({"artifactType": artifact_type} if artifact_type else {})))


def _descriptor(blob: Blob, media_type: str) -> dict[str, Any]:
    return {"digest": blob.digest, "mediaType": media_type, "size": blob.size}


def _json_blob(plain: Mapping[str, Any]) -> Blob:
    return blob_of(json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def _annotations(subject: PushedVersion) -> dict[str, str]:
    made, source = subject.manifest.provenance, subject.manifest.source
    found = {
        MANIFEST_DIGEST: subject.digest,
        _VARIANT: subject.variant.name,
        f"{_STANDARD}created": made.created,
        f"{_STANDARD}licenses": spdx_id(source.licence),
        f"{_STANDARD}revision": made.commit,
        f"{_STANDARD}source": made.repository,
        f"{_STANDARD}title": subject.model,
    }
    return {key: value for key, value in found.items() if value}


def _kind(path: str, graphs: set[str]) -> str:
    """The media type of a file's layer, by its name as ModelPack's own tools tell it."""
    name = posixpath.basename(path)
    if path not in graphs and _TEXT.fullmatch(name):
        return _DOCUMENTATION
    return _WEIGHT if path in graphs or not name.lower().endswith(_SETTING_ENDINGS) else _SETTINGS


def _descriptive(subject: PushedVersion) -> dict[str, Any]:
    source = subject.manifest.source
    licence = spdx_id(source.licence)
    found: dict[str, Any] = {
        "createdAt": subject.manifest.provenance.created,
        "licenses": [licence] if licence else [],
        "name": subject.model,
        "revision": source.commit,
        "sourceURL": source.repository if "://" in source.repository else "",
    }
    return {key: value for key, value in found.items() if value}


def _technical(subject: PushedVersion) -> dict[str, Any]:
    variant = subject.variant.name
    numbers = next((part for part in variant.split("-") if part in _PRECISIONS or part.startswith("int")), "")
    precision = _PRECISIONS.get(numbers, "")
    found: dict[str, Any] = {
        "architecture": subject.manifest.architecture,
        "format": _FORMATS.get(posixpath.splitext(subject.variant.model)[1], ""),
        "precision": precision,
        "quantization": variant if numbers.startswith("int") else "",
    }
    modalities = _MODALITIES.get(subject.manifest.task)
    if modalities is not None:
        found["capabilities"] = {"inputTypes": [modalities[0]], "outputTypes": [modalities[1]]}
    return {key: value for key, value in found.items() if value}
