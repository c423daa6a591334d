"""Text Embeddings Inference's ONNX backend, said again: which files it opens, what they must hold, what it asks.

After its source at commit 0d124dc9773be6ac5a9a57d8439aba9bbbf33273: ``run`` and ``get_backend_model_type`` of
``router/src/lib.rs``, ``OrtBackend`` of ``backends/ort/src/lib.rs``. The program itself cannot be had from a package
index.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
_ST_CONFIGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


@dataclass(frozen=True)
class Tei:
    """A model that it has opened.

    Attributes:
        kind: ``classifier``, ``reranker``, or the pooling of an embedder.
        longest: tokens that a text is cut to.
        graph: the file that it has opened.
    """

    kind: str
    longest: int
    graph: Path
    _tokenizer: Tokenizer

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Its vectors, not made to have length 1 (``normalize: false``)."""
        outputs = self._run(texts)
        if "sentence_embedding" in outputs:
            return outputs["sentence_embedding"]
        hidden = outputs["last_hidden_state"] if "last_hidden_state" in outputs else outputs["token_embeddings"]
        assert self.kind == "cls"  # all that is asked here
        return hidden[:, 0]

    def predict(self, inputs: Sequence[str] | Sequence[tuple[str, str]]) -> np.ndarray:
        """Its scores: a row of logits for each text or pair."""
        return self._run(inputs)["logits"]

    def _run(self, inputs: Any) -> dict[str, np.ndarray]:
        session = onnxruntime.InferenceSession(self.graph)
        encodings = self._tokenizer.encode_batch(list(inputs))
        longest = max(len(one.ids) for one in encodings)
        taken = {tensor.name for tensor in session.get_inputs()}
        feeds = {
            name: np.array([getattr(one, column) + [0] * (longest - len(one.ids)) for one in encodings], np.int64)
            for name, column in _COLUMNS.items()
            if name in taken or name != "token_type_ids"  # ids and masks are always given
        }
        names = [tensor.name for tensor in session.get_outputs()]
        outputs = dict(zip(names, map(np.asarray, session.run(names, feeds)), strict=True))
        assert all(array.dtype == np.float32 for array in outputs.values())  # it takes no others out
        return outputs


def open_folder(folder: Path) -> Tei:
    """Open a folder that is named by ``--model-id``, without further options."""
    config = _read(folder / "config.json")
    kind = _kind(folder, config)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    limits = [int(_read(folder / name)["max_seq_length"]) for name in _ST_CONFIGS if (folder / name).is_file()]
    offset = config.get("pad_token_id", 0) + 1 if config["model_type"] in {"xlm-roberta", "camembert", "roberta"} else 0
    longest = limits[0] if limits else config["max_position_embeddings"] - offset
    tokenizer.enable_truncation(longest)
    _check_int(config, "hidden_size", "n_embd")
    _check_int(config, "num_hidden_layers", "n_layer")
    padding = _read(folder / "tokenizer_config.json").get("padding_side", "right")
    assert padding in {"left", "right"}
    graph = folder / "model.onnx"
    return Tei(kind, longest, graph if graph.exists() else folder / "onnx" / "model.onnx", tokenizer)


def _kind(folder: Path, config: dict[str, Any]) -> str:
    if any(name.endswith("Classification") for name in config["architectures"]):
        labels = config["id2label"]
        assert set(config["label2id"].values()) == {*map(int, labels)}
        return "classifier" if len(labels) > 1 else "reranker"
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        assert "bert" in config["model_type"]
        return "cls"
    pooling = _read(path)
    modes = {"cls": pooling["pooling_mode_cls_token"], "mean": pooling["pooling_mode_mean_tokens"]}
    modes["last-token"] = pooling.get("pooling_mode_lasttoken", False)
    return next(name for name, wanted in modes.items() if wanted)


def _check_int(config: dict[str, Any], *names: str) -> None:
    assert any(isinstance(config.get(name), int) for name in names), f"missing field `{names[0]}`"


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
