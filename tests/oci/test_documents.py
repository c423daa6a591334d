"""The JSON documents: as their specifications have them, and the same bytes for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from modeldrop.errors import UsageError
from modeldrop.format.manifest import Manifest, parse_manifest
from modeldrop.oci.blobs import Blob, blob_of
from modeldrop.oci.contents import Entry
from modeldrop.oci.documents import Package, PushedVersion, image_of, modelpack_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
DIGEST = "sha256:" + "ab" * 32


def old_manifest() -> Manifest:
    """Of a release that is kept for ever."""
    return parse_manifest((FIXTURES / "format/v1/manifest.json").read_bytes())


def subject(**changes: Any) -> PushedVersion:
    manifest = old_manifest()
    variant = manifest.variants[0]._replace(**changes)
    return PushedVersion("embedder", DIGEST, manifest._replace(variants=(variant,)), variant)


def entries(*paths: str) -> list[Entry]:
    return [Entry(path, blob_of(path.encode())) for path in paths]


def text(blob: Blob) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(b"".join(blob.read()))
    return document


def blobs(package: Package) -> dict[str, Blob]:
    return {blob.digest: blob for blob in package.blobs}


FILES = ("README.md", "config.json", "manifest.json", "onnx/model.onnx", "onnx/model.onnx_data", "vocab.txt")


def test_the_bytes_never_change() -> None:
    # Whoever changes this makes every exported tag name something else than the same version exported again.
    image = image_of(subject(), blob_of(b"a layer"))
    assert image.top.blob.digest == "sha256:0f855fad0b27b3ae1e607483b29199de4550e72eaf674dc526b953c0d54fbf64"
    assert (
        modelpack_of(subject(), entries(*FILES)).top.blob.digest
        == "sha256:2cf2d22134ac52c37ac19590223bc5d52cd781d312175d4afbf8c92d67f626b1"
    )


def test_an_image_is_for_both_architectures_and_has_one_layer() -> None:
    layer = blob_of(b"a layer")
    package = image_of(subject(), layer)
    index = text(package.top.blob)
    assert index["mediaType"] == package.top.media_type == "application/vnd.oci.image.index.v1+json"
    assert index["annotations"]["io.github.modeldrop.manifest.digest"] == DIGEST
    assert index["annotations"]["org.opencontainers.image.title"] == "embedder"
    assert [one["platform"] for one in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    parts = {part.blob.digest: part for part in package.parts}
    for named in index["manifests"]:
        manifest = text(parts[named["digest"]].blob)
        assert named["size"] == parts[named["digest"]].blob.size
        assert manifest["layers"] == [
            {"digest": layer.digest, "mediaType": "application/vnd.oci.image.layer.v1.tar", "size": layer.size}
        ]
        config = text(blobs(package)[manifest["config"]["digest"]])
        assert (config["os"], config["architecture"]) == ("linux", named["platform"]["architecture"])
        assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.digest]}  # it is not compressed
        assert config["created"] == old_manifest().provenance.created


def test_a_modelpack_artifact_is_as_the_specification_says() -> None:
    package = modelpack_of(subject(), entries(*FILES))
    manifest = text(package.top.blob)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["annotations"]["io.github.modeldrop.manifest.digest"] == DIGEST
    kinds = {one["annotations"]["org.cncf.model.filepath"]: one["mediaType"] for one in manifest["layers"]}
    assert kinds == {
        "README.md": "application/vnd.cncf.model.doc.v1.raw",
        "config.json": "application/vnd.cncf.model.weight.config.v1.raw",
        "manifest.json": "application/vnd.cncf.model.weight.config.v1.raw",
        "onnx/model.onnx": "application/vnd.cncf.model.weight.v1.raw",
        "onnx/model.onnx_data": "application/vnd.cncf.model.weight.v1.raw",
        "vocab.txt": "application/vnd.cncf.model.weight.config.v1.raw",
    }
    assert [blobs(package)[one["digest"]].size for one in manifest["layers"]] == [
        one["size"] for one in manifest["layers"]
    ]
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    config = text(blobs(package)[manifest["config"]["digest"]])
    schema = json.loads((FIXTURES / "modelpack/config-schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(config)
    assert config["descriptor"]["name"] == "embedder"
    assert config["modelfs"]["diffIds"] == [one["digest"] for one in manifest["layers"]]


@pytest.mark.parametrize(
    ("name", "graph", "technical"),
    [
        ("fp32", "onnx/model.onnx", {"format": "onnx", "precision": "float32"}),
        ("fp16", "onnx/model_fp16.onnx", {"format": "onnx", "precision": "float16"}),
        ("int8-avx2", "m.onnx", {"format": "onnx", "precision": "int8", "quantization": "int8-avx2"}),
        ("int4", "m.onnx", {"format": "onnx", "quantization": "int4"}),
        ("openvino-int8", "m.xml", {"format": "openvino", "precision": "int8", "quantization": "openvino-int8"}),
        ("mine", "m.onnx", {"format": "onnx"}),
    ],
)
def test_a_variants_numbers_are_told_in_modelpacks_words(name: str, graph: str, technical: dict[str, str]) -> None:
    package = modelpack_of(subject(name=name, model=graph), entries(graph))
    config = text(package.blobs[-1])["config"]
    assert config.pop("architecture") == old_manifest().architecture
    assert config.pop("capabilities") == {"inputTypes": ["text"], "outputTypes": ["embedding"]}
    assert config == technical


def test_more_files_than_a_manifest_can_name_are_refused() -> None:
    many = entries(*(f"{'a' * 200}/{number}.onnx" for number in range(8000)))
    with pytest.raises(UsageError, match="8000 files are more than"):
        modelpack_of(subject(), many)
