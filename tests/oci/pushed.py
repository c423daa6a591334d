"""What an export pushes, read from the registry of the tests."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from tests.helpers.builds import contents
from tests.servers.oci_registry import OciRegistry, OciRepository

NAME = "models/embedder"
FILES = {path: data for path, data in contents("a").items() if path != "onnx/model.onnx"}


def manifest(repository: OciRepository, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(repository.manifests[repository.tags.get(name, name)][1])
    return found


def image_files(repository: OciRepository, tag: str) -> dict[str, bytes]:
    """The files of the image that a tag names, the same for every architecture."""
    layers = {
        layer["digest"]
        for part in manifest(repository, tag)["manifests"]
        for layer in manifest(repository, part["digest"])["layers"]
    }
    (digest,) = layers
    with tarfile.open(fileobj=io.BytesIO(repository.blobs[digest])) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive if one.isreg()}  # type: ignore[union-attr]


def artifact_files(repository: OciRepository, tag: str) -> dict[str, bytes]:
    return {
        layer["annotations"]["org.cncf.model.filepath"]: repository.blobs[layer["digest"]]
        for layer in manifest(repository, tag)["layers"]
    }


def without_manifest(files: dict[str, bytes], prefix: str = "") -> dict[str, bytes]:
    assert f"{prefix}manifest.json" in files
    return {path.removeprefix(prefix): data for path, data in files.items() if path != f"{prefix}manifest.json"}


def sign_in(oci: OciRegistry) -> None:
    folder = Path(os.environ["HOME"]) / ".docker"
    folder.mkdir(exist_ok=True)
    # docker login writes this: ci:s3cret-of-ci
    entry = {"auths": {oci.host: {"auth": "Y2k6czNjcmV0LW9mLWNp"}}}
    (folder / "config.json").write_text(json.dumps(entry))
