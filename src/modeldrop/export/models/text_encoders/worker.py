"""Encoders of texts for the worker: how they are loaded, exported and asked.

Embedders, classifiers of texts and tokens, rerankers, and what finds answers or hidden words.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from safetensors.torch import save_file

from modeldrop.errors import SourceError, TaskError
from modeldrop.export.builtin_texts import BUILT_IN, GOLDEN_TEXTS
from modeldrop.export.environments.exporters import TRANSFORMERS
from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared import side_files
from modeldrop.export.models.shared.checkpoint import has_graphs, load_config, load_original
from modeldrop.export.models.shared.golden import narrowed
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun, label_names
from modeldrop.export.models.shared.onnx_as_model import OnnxModel
from modeldrop.export.models.shared.openvino_as_model import OpenVinoModel
from modeldrop.export.models.shared.pooling import (
    HIDDEN,
    LOGITS,
    SENTENCE,
    answer_beside,
    load_weights,
    pool,
    read_head,
)
from modeldrop.export.models.shared.pooling_graph import append_head, append_truncated
from modeldrop.export.models.shared.timing import TOKENS, speed_texts
from modeldrop.export.models.shared.tokenizer import limit_to_positions, load_tokenizer
from modeldrop.export.models.text_encoders.compared_positions import TOKENWISE, MaskedTexts, check_room, passage
from modeldrop.export.models.text_encoders.static import StaticEmbedder, is_table
from modeldrop.export.sentence_config import SENTENCE_CONFIG, SentenceConfig, read_sentence_config
from modeldrop.export.transformers5 import fix_tokenizer
from modeldrop.format.golden import StepOutput
from modeldrop.format.manifest import Embedding
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import FP32
from modeldrop.inference.runs import ModelAnswer, ModelRun, RunStep, answer_of

_EMBED, _ANSWER, _FILL = "feature-extraction", "question-answering", "fill-mask"
_CLASSES = {
    _EMBED: transformers.AutoModel,
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
    _ANSWER: transformers.AutoModelForQuestionAnswering,
    _FILL: transformers.AutoModelForMaskedLM,
}
_MODULES_FILE = "modules.json"
_WEIGHTS = "model.safetensors"
_MODULES = ("[0-9]_*/config.json", f"[0-9]_*/{_WEIGHTS}")
_PICKLED_MODULE = "[0-9]_*/pytorch_model.bin"
_ROLE = "model"
_BY_NAME = ("Siglip2TextModel",)
_SPARSE_KEPT = 64
_CLOSE = 1e-3
_POSITIONS = "position_ids"
_PREFIX = "modeldrop_positions/"


class TextEncoder(LoadedModel):
    """One graph; embedders with a modules.json answer ``sentence_embedding`` too."""

    source_files = (_MODULES_FILE, "sentence_bert_config.json", SENTENCE_CONFIG)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._checkpoint = checkpoint
        self._embeds, self._exporter = checkpoint.task == _EMBED, checkpoint.exporter
        self._tokenizer = load_tokenizer(checkpoint, load_config(checkpoint))
        self._config = read_sentence_config(checkpoint.read(SENTENCE_CONFIG)) if self._embeds else SentenceConfig()
        ready = has_graphs(checkpoint)
        # What modules.json puts behind the transformer goes into every graph that answers for tokens, but OpenVINO's.
        self._head = read_head(checkpoint.folder, self._config) if self._embeds and not ready else None
        self._body = self._head.of if self._head is not None else HIDDEN
        kind = _own_class(checkpoint) or _CLASSES[_FILL if self._is_sparse else checkpoint.task]
        # feature-extraction answers hidden states; a pooler that is made up at random is never exported.
        self._model = load_original(checkpoint, kind, may_lack=".pooler." if self._embeds else "")
        if not ready:
            limit_to_positions(self._tokenizer, self._model, checkpoint)
        elif self._embeds and isinstance(self._model, OnnxModel) and self._model.answers(HIDDEN):
            self._head = read_head(checkpoint.folder, self._config)
        self.max_length = self._tokenizer.model_max_length
        self.labels = label_names(self._model.config) if checkpoint.task.endswith("-classification") else []
        self._outputs = TASKS[checkpoint.task].outputs
        if self._embeds:
            own = self._head.answers if self._head is not None else SENTENCE
            whole = self._head is not None or (ready and self._model.answers(SENTENCE))
            self._outputs = (own if whole else HIDDEN,)
        elif ready:
            _check_outputs(self._model, self._outputs, checkpoint.task)
        self._masks = MaskedTexts(self._tokenizer) if checkpoint.task == _FILL else None
        if self._head is not None and isinstance(self._model, OnnxModel) and self._model.answers(SENTENCE):
            self._check_sentences()
        self._inputs: list[str] = []

    def export(self, output: Path) -> None:
        if self._exporter == TRANSFORMERS.name:
            self._export_by_transformers(output)
        else:
            from modeldrop.export.models.shared.optimum_export import export  # the other's environment has none

            export(self._model, _FILL if self._is_sparse else self._task, (_ROLE,), output)
        if isinstance(self._model, OpenVinoModel):
            self._inputs = list(self._model.inputs)
            return
        path = output / FP32.path(_ROLE)
        graph = onnx.load(path, load_external_data=False)
        numbered = _number_positions(graph)
        self._inputs = [tensor.name for tensor in graph.graph.input]
        if self._head is not None:
            append_head(graph, self._head)
        cut = self._checkpoint.truncate_dim
        if cut is not None:
            self._check_cut(cut)
            append_truncated(graph, cut)
        if numbered or cut or self._head is not None:
            onnx.save(graph, path)

    def _export_by_transformers(self, output: Path) -> None:
        from modeldrop.export.models.shared.transformers_export import export

        taken = inspect.signature(self._model.forward).parameters
        texts = [BUILT_IN[index] for index in GOLDEN_TEXTS]
        batch = self._tokenizer(texts, truncation=True, padding=len(texts) > 1, return_tensors="pt")
        inputs = {name: tensor for name, tensor in batch.items() if name in taken}
        kept = (self._body,) if self._embeds else self._outputs
        export(self._model, inputs, kept, self._tokenizer.model_max_length, output)

    def save_side_files(self, output: Path) -> None:
        super().save_side_files(output)
        side_files.spell_out_config(output, self._model.config)
        if self._exporter == TRANSFORMERS.name:
            fix_tokenizer(output)
        if self._embeds and (self._source / _MODULES_FILE).is_file():
            side_files.copy_side_files(self._source, output, _MODULES)
            for path in self._source.glob(_PICKLED_MODULE):
                folder = path.parent
                save_file(load_weights(folder), output / folder.relative_to(self._source) / _WEIGHTS)
        side_files.save_sentence_files(output, self._tokenizer.model_max_length)

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        questions: dict[str, int] = {}
        for sample in samples:
            texts = tuple(self._config.prompt + text for text in sample.texts)
            if self._masks is not None:
                texts = (self._masks.masked(texts[0]),)
            inputs = self._tokenizer(*([part] for part in texts), truncation=True, return_tensors="pt")
            reranks = len(texts) > 1 and self._task not in TOKENWISE
            question = questions.setdefault(texts[0], len(questions)) if reranks else 0
            run = self._make_run(sample.shown, texts, inputs)
            if self._task in TOKENWISE:
                counted = self._masks.rows(inputs) if self._masks else passage(inputs)
                if not counted:
                    check_room(sample)
                    continue
                run = replace(run, rows=counted) if self._masks else replace(run, at=counted)
            tensors, beside = self._answers(inputs)
            values = answer_of([tensor[0].numpy() for tensor in tensors], run)
            named = {name: tensor[0].numpy() for name, tensor in beside.items()}
            yield replace(run, answer=ModelAnswer(values, question=question, beside=named))

    def embedding(self, runs: Sequence[ModelRun]) -> Embedding | None:
        if self._outputs != (SENTENCE,):
            return None
        config = self._config
        # What sentence-transformers takes where a sparse encoder says nothing.
        similarity = config.similarity or ("dot" if self._is_sparse else "")
        return Embedding(len(runs[0].answer.values), similarity, config.prompts, config.default_prompt)

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        # A golden case keeps all values, so nothing is narrowed; it has no field for questions.
        chosen = (runs[index] for index in indices)
        if self._masks is not None:
            return [narrowed(run) for run in chosen]
        if self._is_sparse:
            return [narrowed(run, _SPARSE_KEPT) for run in chosen]
        return [replace(run, answer=replace(run.answer, question=0)) for run in chosen]

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        return [self._timed(part) for part in speed_texts([text for sample in samples for text in sample.texts])]

    @property
    def _is_sparse(self) -> bool:
        return self._body == LOGITS

    def _check_cut(self, numbers: int) -> None:
        """Refuse to cut vectors that are no longer than what is to be left."""
        width = self._answer(self._tokenizer([BUILT_IN[0]], truncation=True, return_tensors="pt")).shape[-1]
        if numbers >= width:
            raise TaskError(
                f"truncate_dim is {numbers}; this model's vectors have {width} numbers.",
                "Ask for fewer, or leave truncate_dim out of the recipe.",
            )

    def _check_sentences(self) -> None:
        """Refuse a ready graph whose own vectors are others than those that modules.json describes."""
        inputs = self._tokenizer(
            [BUILT_IN[index] for index in GOLDEN_TEXTS], truncation=True, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            own, described = self._model(**inputs).sentence_embedding, self._answer(inputs)
        if own.shape != described.shape or not torch.allclose(own, described, rtol=_CLOSE, atol=_CLOSE):
            raise SourceError(
                f"The graph's {SENTENCE} {tuple(own.shape[1:])} is not what modules.json makes of its tokens "
                f"{tuple(described.shape[1:])}: sentence-transformers would answer otherwise than the graph.",
                "Export it again, or remove modules.json from a copy of the source: the graph's own vectors are "
                "taken then.",
            )

    def _timed(self, texts: Sequence[str]) -> TimedRun:
        ids = [ids[:TOKENS] for ids in self._tokenizer(list(texts))["input_ids"]]
        inputs = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt", padding=len(ids) > 1)
        if "token_type_ids" in self._inputs:
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        return TimedRun(self._make_run("", (), inputs), lambda: self._answers(inputs))

    def _make_run(self, shown: str, read: tuple[str, ...], inputs: Any) -> ModelRun:
        """A run whose answer nobody has asked for."""
        arrays = {name: inputs[name].numpy() for name in self._inputs if name in inputs}
        outputs = tuple(StepOutput(0, name) for name in self._outputs)
        return ModelRun(shown, (RunStep(_ROLE, arrays),), outputs, ModelAnswer(np.zeros(0)), read=(read,))

    def _answer(self, inputs: Any) -> torch.Tensor:
        return self._answers(inputs)[0][0]

    def _answers(self, inputs: Any) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        """The outputs that make up the answer, and those that are compared besides, by name."""
        with torch.inference_mode():
            result = self._model(**inputs)
            if self._head is not None:
                hidden, mask = getattr(result, self._body), inputs["attention_mask"]
                return [pool(self._head, hidden, mask)], answer_beside(self._head, hidden, mask)
            return [getattr(result, name) for name in self._outputs], {}


def _check_outputs(model: Any, outputs: Sequence[str], task: str) -> None:
    """Refuse a ready graph that lacks an output of its task.

    Raises:
        SourceError: names it.
    """
    lacking = [name for name in outputs if not model.answers(name)]
    if lacking:
        raise SourceError(
            f"The graph has no output {lacking[0]}, which {task} needs.", "Export it again, or name another task."
        )


def _own_class(checkpoint: Checkpoint) -> Any:
    """The class that a checkpoint names, where transformers 5 knows it by that name alone, such as SigLIP 2's texts."""
    names = checkpoint.read("config.json").get("architectures") or [""]
    return getattr(transformers, names[0], None) if names[0] in _BY_NAME else None


def _number_positions(model: onnx.ModelProto) -> bool:
    """Have a graph count positions from 0, padding included, as PyTorch does; whether it took them as an input.

    Llama's and Qwen's graphs are exported with ``position_ids`` as an input, which programs that embed texts do not
    give: sentence-transformers and fastembed know of token ids and masks. PyTorch counts where nothing is given. Only
    for graphs that read a text at once: those with a KV cache are given the positions.
    """
    taken = next((tensor for tensor in model.graph.input if tensor.name == _POSITIONS), None)
    if taken is None:
        return False
    one = onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])
    nodes = [
        onnx.helper.make_node("Shape", ["input_ids"], [f"{_PREFIX}shape"]),
        onnx.helper.make_node("ConstantOfShape", [f"{_PREFIX}shape"], [f"{_PREFIX}ones"], value=one),
        onnx.helper.make_node("Constant", [], [f"{_PREFIX}axis"], value_int=1),
        onnx.helper.make_node("CumSum", [f"{_PREFIX}ones", f"{_PREFIX}axis"], [_POSITIONS], exclusive=1),
    ]
    for node in nodes:
        node.name = node.output[0]
    model.graph.input.remove(taken)
    for number, node in enumerate(nodes):
        model.graph.node.insert(number, node)
    return True


def encoder(checkpoint: Checkpoint) -> LoadedModel:
    """The model of a checkpoint: one that transformers loads, or a table of vectors.

    Raises:
        SourceError, TaskError: see ``LoadedModel``.
    """
    static = is_table(checkpoint) and not has_graphs(checkpoint)
    return StaticEmbedder(checkpoint) if static else TextEncoder(checkpoint)


MODEL = encoder
