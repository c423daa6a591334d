"""Static embeddings: a table of vectors, by token, whose mean is a text's (model2vec, StaticEmbedding).

The graph takes what ``torch.nn.EmbeddingBag`` takes, and what model2vec's own graphs take: the ids of all texts one
after the other, and where each text begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import tokenizers
import torch
from onnx import numpy_helper

from modeldrop.errors import SourceError
from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared import side_files
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun
from modeldrop.export.models.shared.pooling import SENTENCE, load_weights
from modeldrop.export.models.shared.pooling_graph import append_truncated
from modeldrop.export.models.shared.timing import TOKENS, speed_texts
from modeldrop.export.onnx_weights import save
from modeldrop.export.sentence_config import SENTENCE_CONFIG, read_sentence_config
from modeldrop.export.sentence_modules import NORMALIZE, SAVE_ANEW, STATIC_CONFIG, is_static, read_modules
from modeldrop.format.golden import StepOutput
from modeldrop.format.manifest import Embedding
from modeldrop.format.variants import FP32
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep
from modeldrop.util.text import first_line

_ROLE = "model"
_MODULES = "modules.json"
_TABLES = ("embedding.weight", "embeddings")
_IDS, _BEGINS = "input_ids", "offsets"
_OPSET, _IR_VERSION = 18, 9  # onnxruntime 1.15 reads them
_GRAPH = """static (int64[total_tokens] input_ids, int64[batch_size] offsets)
    => (float[batch_size, {width}] embeddings, float[batch_size, {width}] sentence_embedding) {{
    zero = Constant<value_int = 0>()  one = Constant<value_int = 1>()
    first = Constant<value_ints = [0]>()  second = Constant<value_ints = [1]>()
    beyond = Constant<value_ints = [9223372036854775807]>()
    rows = Gather<axis = 0>(table, input_ids)
    length = Shape(input_ids)  count = Squeeze(length)  places = Range(zero, count, one)
    later = Slice(offsets, second, beyond, first)  ends = Concat<axis = 0>(later, length)
    begin = Unsqueeze(offsets, second)  end = Unsqueeze(ends, second)
    from = GreaterOrEqual(places, begin)  until = Less(places, end)  inside = And(from, until)
    share = Cast<to = 1>(inside)  sums = MatMul(share, rows)
    tokens = Sub(end, begin)  number = Cast<to = 1>(tokens)  least = Constant<value_float = 1.0>()
    divisor = Max(number, least)  mean = Div(sums, divisor)
    {normal}
    {cut}
    sentence_embedding = Identity(vector)  embeddings = Identity(vector)
}}"""
_NORMAL = """norm = ReduceL2<keepdims = 1>(mean, second)  floor = Constant<value_float = 1.0e-12>()
    safe = Max(norm, floor)  whole = Div(mean, safe)"""


def is_table(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is a table of vectors."""
    path = checkpoint.folder / "config.json"
    return not path.is_file() or is_static(checkpoint.read("config.json"))


class StaticEmbedder(LoadedModel):
    """A table of vectors, and what modules.json puts behind it.

    As sentence-transformers asks it: without the tokenizer's special tokens, and with no limit but the tokenizer's own.
    """

    source_files = (
        _MODULES,
        SENTENCE_CONFIG,
        "[0-9]_*/config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    )

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._config = read_sentence_config(checkpoint.read(SENTENCE_CONFIG))
        self._cut = checkpoint.truncate_dim
        document = json.loads((checkpoint.folder / _MODULES).read_text("utf-8"))
        self._normalizes = read_modules(document)[-1].kind == NORMALIZE
        self._table = _read_table(checkpoint.folder)
        self._cutter = _load_cutter(checkpoint)
        if self._cutter.get_vocab_size() > len(self._table):
            raise SourceError(
                f"The tokenizer has {self._cutter.get_vocab_size()} tokens, the table only {len(self._table)} vectors.",
                "The tokenizer belongs to another model: put the right tokenizer.json beside the weights.",
            )
        limits = self._cutter.truncation
        self.max_length = limits["max_length"] if limits else None

    def export(self, output: Path) -> None:
        width = min(self._table.shape[1], self._config.truncate_dim or self._table.shape[1])
        body = _GRAPH.format(
            width=width,
            normal=_NORMAL if self._normalizes else "whole = Identity(mean)",
            cut="vector = Identity(whole)"
            if width == self._table.shape[1]
            else f"wide = Constant<value_ints = [{width}]>()  vector = Slice(whole, first, wide, second)",
        )
        graph = onnx.parser.parse_graph(body)
        for node in graph.node:
            node.name = node.output[0]
        graph.initializer.append(numpy_helper.from_array(self._table.numpy(), "table"))
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        if self._cut is not None:
            append_truncated(model, self._cut)
        path = output / FP32.path(_ROLE)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(model, path)

    def save_side_files(self, output: Path) -> None:
        super().save_side_files(output)
        self._cutter.save(str(output / "tokenizer.json"))
        side_files.save_sentence_files(output, self.max_length or 0)
        path = output / "config.json"
        if not path.is_file():
            plain = STATIC_CONFIG | {"normalize": self._normalizes, "hidden_dim": self._table.shape[1]}
            path.write_text(json.dumps(plain, indent=2) + "\n", "utf-8")

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        shown = [sample.shown for sample in samples]
        texts = [self._config.prompt + sample.texts[0] for sample in samples]
        for number, text in enumerate(texts):
            # Another text stands behind it: that they are told apart is part of what is compared.
            read = self._read([text, texts[(number + 1) % len(texts)]])
            yield self._run(shown[number], read, ModelAnswer(self._answer(read)[0].numpy()))

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        return [runs[index] for index in indices]

    def embedding(self, runs: Sequence[ModelRun]) -> Embedding | None:
        config = self._config
        return Embedding(len(runs[0].answer.values), config.similarity, config.prompts, config.default_prompt)

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        parts = speed_texts([text for sample in samples for text in sample.texts])
        return [self._timed(self._read(part, TOKENS)) for part in parts]

    def _timed(self, read: dict[str, Array]) -> TimedRun:
        return TimedRun(self._run("", read, ModelAnswer(np.zeros(0))), lambda: self._answer(read))

    def _read(self, texts: Sequence[str], most: int | None = None) -> dict[str, Array]:
        ids = [one.ids[:most] for one in self._cutter.encode_batch(list(texts), add_special_tokens=False)]
        begins = np.cumsum([0, *map(len, ids[:-1])])
        return {_IDS: np.array([token for one in ids for token in one], np.int64), _BEGINS: begins.astype(np.int64)}

    def _run(self, shown: str, read: dict[str, Array], answer: ModelAnswer) -> ModelRun:
        return ModelRun(shown, (RunStep(_ROLE, read),), (StepOutput(0, SENTENCE),), answer)

    def _answer(self, read: dict[str, Array]) -> torch.Tensor:
        ids, begins = torch.tensor(read[_IDS]), torch.tensor(read[_BEGINS])
        vectors = torch.nn.functional.embedding_bag(ids, self._table, begins, mode="mean")
        if self._normalizes:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return vectors[:, : self._config.truncate_dim]


def _read_table(folder: Path) -> torch.Tensor:
    """The vectors [tokens, width], in fp32.

    Raises:
        SourceError: there are none, more than these, or some that are no numbers.
    """
    weights = load_weights(folder)
    others = sorted(set(weights) - set(_TABLES))
    name = next((name for name in _TABLES if name in weights), None)
    if name is None or others:
        raise SourceError(
            f"The weights have {', '.join(sorted(weights)[:5])}; static embeddings are one table, "
            f"{' or '.join(_TABLES)}, and sentence-transformers reads nothing else.",
            SAVE_ANEW,
        )
    table = weights[name].float().contiguous()
    if not torch.isfinite(table).all():
        raise SourceError(f"The weight {name} holds NaN or infinity.", "Check the run that saved it.")
    return table


def _load_cutter(checkpoint: Checkpoint) -> tokenizers.Tokenizer:
    try:
        cutter = tokenizers.Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    except Exception as error:
        raise SourceError(
            f"tokenizers cannot load the tokenizer: {first_line(error)}", "Put tokenizer.json beside the weights."
        ) from error
    cutter.no_padding()
    if checkpoint.max_length is not None:
        cutter.enable_truncation(checkpoint.max_length)
    return cutter
