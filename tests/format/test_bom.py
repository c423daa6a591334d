from __future__ import annotations

import functools
import gc
import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given

from modeldrop.cli import main
from modeldrop.format.bom import render_bom
from modeldrop.format.manifest import manifest_digest, serialize_manifest
from tests.format import examples
from tests.format.strategies import manifests
from tests.helpers.builds import publish_build, registry

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.format.manifest import Manifest

__all__ = ["registry"]


@functools.cache
def official() -> JsonStrictValidator:
    """Checks against CycloneDX's own schema; it leaves files open when it loads that."""
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert validator.validate_str("{}") is not None
        gc.collect()
    return validator


def bom_of(manifest: Manifest, model: str = "embedder") -> dict[str, Any]:
    """What is rendered, which the official schema of CycloneDX accepts."""
    digest = manifest_digest(serialize_manifest(manifest))
    data = render_bom(model, manifest, digest)
    assert data == render_bom(model, manifest, digest)
    fault = official().validate_str(data.decode())
    assert fault is None, fault
    document: dict[str, Any] = json.loads(data)
    return document


def test_it_says_what_the_manifest_says() -> None:
    manifest = examples.manifest()
    bom = bom_of(manifest)
    model = bom["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["version"] == manifest_digest(serialize_manifest(manifest))
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    (ancestor,) = model["pedigree"]["ancestors"]
    assert ancestor["version"] == manifest.source.commit
    assert ancestor["purl"] == f"pkg:huggingface/{manifest.source.repository}@{manifest.source.commit}"
    hashes = {one["name"]: one["hashes"][0]["content"] for one in bom["components"] if one["type"] == "file"}
    assert hashes == {file.path: file.sha256 for file in manifest.files}
    variants = [one["name"] for one in bom["components"] if one["type"] == "machine-learning-model"]
    assert variants == [variant.name for variant in manifest.variants]
    tools = {one["name"]: one["version"] for one in bom["metadata"]["tools"]["components"]}
    assert tools == dict(manifest.toolchain) | dict(manifest.environment)
    references = {one["type"]: one["url"] for one in model["externalReferences"]}
    assert references == {"vcs": manifest.provenance.repository, "build-meta": manifest.provenance.run}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", [{"license": {"id": "MIT"}}]),
        ("llama3", [{"license": {"name": "llama3"}}]),
        ("", None),
    ],
)
def test_a_licence_is_named_as_spdx_does_where_it_is_known(licence: str, expected: object) -> None:
    manifest = examples.manifest()
    found = bom_of(manifest._replace(source=manifest.source._replace(licence=licence)))
    assert found["metadata"]["component"].get("licenses") == expected


@pytest.mark.parametrize("manifest", [examples.manifest(), examples.manifest_of_graphs()], ids=["encoder", "graphs"])
def test_examples_are_valid(manifest: Manifest) -> None:
    bom_of(manifest)
    bom_of(manifest._replace(environment={"torch": "2.13.0+cpu", "Pillow": "12.0", "ruamel.yaml": "0.18"}))


@given(manifests())
def test_whatever_a_manifest_says_makes_a_valid_one(manifest: Manifest) -> None:
    bom_of(manifest)


def test_it_lies_beside_the_manifest_and_is_printed(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_build(registry, "a")
    stored = registry / "embedder" / "v1" / "bom.cdx.json"
    assert main(["bom", f"{registry}/embedder"]) == 0
    printed = capsys.readouterr().out
    assert printed == stored.read_text("utf-8")
    stored.unlink()  # as it is of versions that were published before
    assert main(["bom", f"{registry}/embedder@v1"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["bom", f"{registry}/embedder@v2"]) == 5
