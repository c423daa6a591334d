"""Building a small checkpoint as a user does, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from modeldrop.format.manifest import Manifest, parse_manifest
from tests.export.recipes import loosened
from tests.helpers.command_line import build_here

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""What a graph takes, and what tokenizers call it."""


@dataclass(frozen=True)
class Built:
    """A source, and the folder that was built of it."""

    source: Path
    output: Path
    manifest: Manifest

    def weights(self, variant: str, graph: str) -> int:
        """Bytes of one graph."""
        found = self.manifest.variant(variant)
        assert found is not None
        return self.manifest.file(found.graphs[graph]).size


def build(
    folder: Path,
    source: Path,
    metrics: Iterable[str],
    variants: Iterable[str],
    task: str = "",
    *,
    allow_pickle: bool = False,
) -> Built:
    """Build fp32, which must be faithful, and variants of which nothing is asked by ``metrics``."""
    recipe = loosened(folder, metrics, variants, task)
    if allow_pickle:
        recipe.write_text(f"allow_pickle = true\n{recipe.read_text()}")
    ran = build_here(source, folder / "out", "--recipe", recipe)
    assert ran.code == 0, ran.err
    return Built(source, folder / "out", parse_manifest((folder / "out" / "manifest.json").read_bytes()))


def answers(
    folder: Path, inputs: list[str] | list[tuple[str, str]], output: str, *, taken: set[str] | None = None
) -> np.ndarray:
    """What a service with onnxruntime and tokenizers alone gets of the fp32 graph, which takes exactly ``taken``."""
    encodings = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(inputs)
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    names = {tensor.name for tensor in session.get_inputs()}
    assert taken in (None, names)
    feeds = {name: np.array([getattr(one, COLUMNS[name]) for one in encodings]) for name in names}
    return np.asarray(session.run([output], feeds)[0])
