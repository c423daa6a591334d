"""Files of known bytes, and a small finished build around them."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from blake3 import blake3

from modeldrop.format.golden import Golden, GoldenCase
from modeldrop.format.manifest import (
    MIN_PIECE_SIZE,
    Fidelity,
    File,
    Manifest,
    OriginalModel,
    Provenance,
    SourceInfo,
    Tensor,
    Variant,
    serialize_manifest,
)
from modeldrop.format.recipe import Recipe
from modeldrop.registry.provenance import now


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, and are the same for the same seed."""
    return blake3(seed.encode()).digest(size)


def describe_bytes(path: str, data: bytes, piece_size: int) -> File:
    """A file as a manifest describes it."""
    pieces = tuple(blake3(data[start : start + piece_size]).hexdigest() for start in range(0, len(data), piece_size))
    return File(path, len(data), hashlib.sha256(data).hexdigest(), pieces)


def write_file(folder: Path, path: str, data: bytes, piece_size: int) -> File:
    """Write a file below ``folder`` and describe it."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    return describe_bytes(path, data, piece_size)


def write_build(folder: Path) -> dict[str, bytes]:
    """A finished build, as ``modeldrop build`` leaves it, of a model that computes nothing; its files' bytes."""
    seed = secrets.token_hex(16)
    contents = {
        "config.json": b"{}\n",
        "empty.txt": b"",
        "odd names/50%25 größe #1 [漢字]~.txt": seed.encode(),
        "onnx/model.onnx": noise(seed, 3 * MIN_PIECE_SIZE + 4321),
    }
    files = tuple(write_file(folder, path, data, MIN_PIECE_SIZE) for path, data in contents.items())
    tensor = (Tensor("input_ids", "int64", ("batch", "sequence")),)
    fidelity = Fidelity(metrics={}, thresholds={}, worst={}, texts=1)
    variant = Variant(
        name="fp32",
        model="onnx/model.onnx",
        files=tuple(contents),
        opset=17,
        ir_version=8,
        min_onnxruntime="1.14",
        inputs=tensor,
        outputs=tensor,
        fidelity=fidelity,
    )
    manifest = Manifest(
        build_key=hashlib.sha256(seed.encode()).hexdigest(),
        epoch=1,
        task="feature-extraction",
        architecture="None",
        recipe=Recipe(task="feature-extraction", variants=("fp32",)),
        source=SourceInfo("modeldrop:conformance"),
        provenance=Provenance(now()),
        toolchain={},
        machine="",
        files=files,
        variants=(variant,),
        original=OriginalModel("none", 0),
        golden=Golden("input_ids", (GoldenCase("", {"input_ids": (0,)}, (0.0,)),), {}),
        piece_size=MIN_PIECE_SIZE,
    )
    (folder / "manifest.json").write_bytes(serialize_manifest(manifest))
    (folder / "report.html").write_text("<!doctype html><title>conformance</title>", "utf-8")
    return contents
