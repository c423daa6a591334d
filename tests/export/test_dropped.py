"""A variant that nobody has named and that is not faithful: the others are published, and what mends it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.format.manifest import parse_manifest
from tests.helpers.checkpoints import bert, edit_weights
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from pathlib import Path

    import torch

pytestmark = pytest.mark.heavy

_LARGE = 1000.0


def spread(tensors: dict[str, torch.Tensor]) -> None:
    """Have layers take one small input with large weights: in 8 bits all their other weights become nothing."""
    for layer in (0, 1):
        start = f"encoder.layer.{layer}."
        for name in ("weight", "bias"):
            tensors[f"{start}attention.output.LayerNorm.{name}"][0] /= _LARGE
        tensors[f"{start}intermediate.dense.weight"][:, 0] *= _LARGE


def test_what_holds_is_published_and_the_hint_mends_the_rest(tmp_path: Path) -> None:
    source = edit_weights(bert(tmp_path / "source"), spread)
    ran = modeldrop("build", source, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "not built: int8: cosine_" in ran.err
    manifest = parse_manifest((tmp_path / "out/manifest.json").read_bytes())
    assert [variant.name for variant in manifest.variants] == ["fp32"]
    assert [path.name for path in (tmp_path / "out/onnx").iterdir()] == ["model.onnx"]
    assert "model_quantized" not in str(manifest.files)
    assert set(manifest.golden.metrics) == {"fp32"}
    assert "cosine_" in manifest.dropped["int8"]
    assert "int8: cosine_" in (tmp_path / "out/report.html").read_text("utf-8")

    option, table = manifest.dropped["int8"].partition("; auto = true under ")[1:]
    table = table.partition(" searches")[0]
    (tmp_path / "recipe.toml").write_text(f"{table}\n{option.strip('; ').removesuffix(' under')}\n")
    assert (tmp_path / "recipe.toml").read_text() == "[options.int8]\nauto = true\n"
    ran = modeldrop("build", source, "-o", tmp_path / "mended", "--recipe", tmp_path / "recipe.toml")
    assert ran.code == 0, ran.err
    manifest = parse_manifest((tmp_path / "mended/manifest.json").read_bytes())
    fp32, int8 = manifest.variants
    assert (fp32.name, int8.name, manifest.dropped) == ("fp32", "int8", {})
    assert int8.fidelity.metrics["cosine_min"] > 0.93
    assert manifest.weights_of(int8) < manifest.weights_of(fp32) / 2
