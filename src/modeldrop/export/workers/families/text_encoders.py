"""Embedders, sequence classifiers, rerankers and token classifiers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
import torch
import transformers

from modeldrop.export.samples import Sample
from modeldrop.export.workers import companions
from modeldrop.export.workers.checkpoint import Checkpoint, load_config, load_model, load_tokenizer
from modeldrop.export.workers.families.interface import Family, Timed, label_names
from modeldrop.export.workers.families.positions import number_positions
from modeldrop.export.workers.optimum_export import export
from modeldrop.export.workers.pooling import append_head, pool, read_head
from modeldrop.export.workers.ready_openvino import OpenVinoModel
from modeldrop.export.workers.timing import TOKENS, speed_texts
from modeldrop.format.golden import StepOutput
from modeldrop.format.variants import FP32
from modeldrop.inference.runs import Answer, Chain, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_EMBED = "feature-extraction"
_CLASSES = {
    _EMBED: transformers.AutoModel,
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
}
_SENTENCE_TRANSFORMERS = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
_MODULES = ("[0-9]_*/config.json", "[0-9]_*/model.safetensors")
_ROLE = "model"
_SENTENCE = "sentence_embedding"


class TextEncoder(Family):
    """One graph; embedders with a modules.json answer ``sentence_embedding`` too."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._source = checkpoint.folder
        self._embeds = checkpoint.task == _EMBED
        self._task = checkpoint.task
        self._tokenizer = load_tokenizer(checkpoint, load_config(checkpoint))
        # feature-extraction answers hidden states; a pooler that is made up at random is never exported.
        self._model = load_model(checkpoint, _CLASSES[checkpoint.task], may_lack=".pooler." if self._embeds else "")
        ready = isinstance(self._model, OpenVinoModel)
        # What modules.json puts behind the transformer is put into graphs that are exported, not into ready ones.
        self._head = read_head(checkpoint.folder) if self._embeds and not ready else None
        self.max_length = self._tokenizer.model_max_length
        self.labels = [] if self._embeds else label_names(self._model.config)
        self._output = "logits"
        if self._embeds:
            whole = self._model.answers(_SENTENCE) if ready else self._head is not None
            self._output = _SENTENCE if whole else "last_hidden_state"
        self._inputs: list[str] = []

    def export(self, output: Path) -> None:
        export(self._model, self._task, (_ROLE,), output)
        if isinstance(self._model, OpenVinoModel):
            self._inputs = list(self._model.inputs)
            return
        path = output / FP32.path(_ROLE)
        graph = onnx.load(path, load_external_data=False)
        numbered = number_positions(graph)
        self._inputs = [tensor.name for tensor in graph.graph.input]
        if self._head is not None:
            append_head(graph, self._head)
        if numbered or self._head is not None:
            onnx.save(graph, path)

    def save_companions(self, output: Path) -> None:
        companions.save_tokenizer(self._tokenizer, output)
        modules = _MODULES if self._embeds and (self._source / "modules.json").is_file() else ()
        companions.copy(self._source, output, (*companions.ALWAYS, *_SENTENCE_TRANSFORMERS, *modules))
        companions.save_sentence_config(output, self._tokenizer.model_max_length)

    def ask(self, samples: Sequence[Sample]) -> Iterator[Chain]:
        questions: dict[str, int] = {}
        for sample in samples:
            texts = sample.texts
            inputs = self._tokenizer(*([part] for part in texts), truncation=True, return_tensors="pt")
            question = questions.setdefault(texts[0], len(questions)) if len(texts) > 1 else 0
            yield self._chain(sample, inputs, Answer(self._run(inputs)[0].numpy(), question=question))

    def golden(self, chains: Sequence[Chain], indices: Sequence[int]) -> list[Chain]:
        # A case has all of its values: what is narrowed is not one. Nor does it know of questions.
        chosen = (chains[index] for index in indices)
        return [replace(chain, answer=replace(chain.answer, question=0)) for chain in chosen]

    def timed(self, samples: Sequence[Sample]) -> list[Timed]:
        return [self._timed(part) for part in speed_texts([text for sample in samples for text in sample.texts])]

    def _timed(self, texts: Sequence[str]) -> Timed:
        ids = [ids[:TOKENS] for ids in self._tokenizer(list(texts))["input_ids"]]
        inputs = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt", padding=len(ids) > 1)
        if "token_type_ids" in self._inputs:
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        return Timed(self._chain(Sample(), inputs, Answer(self._run(inputs).numpy())), lambda: self._run(inputs))

    def _chain(self, sample: Sample, inputs: Any, answer: Answer) -> Chain:
        arrays = {name: inputs[name].numpy() for name in self._inputs if name in inputs}
        steps = (Step(_ROLE, arrays),)
        return Chain(sample.shown, steps, (StepOutput(0, self._output),), answer, read=(sample.texts,))

    def _run(self, inputs: Any) -> torch.Tensor:
        with torch.inference_mode():
            result = self._model(**inputs)
            if self._head is not None:
                return pool(self._head, result.last_hidden_state, inputs["attention_mask"])
            return getattr(result, self._output)  # type: ignore[no-any-return]
