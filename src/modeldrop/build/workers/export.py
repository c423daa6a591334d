"""Export one checkpoint folder to ONNX, quantize it, and record what the original answers.

Runs as ``python -m modeldrop.build.workers.export REQUEST``, offline, with only torch's own libraries beside it.
The request: ``source`` and ``output`` folders, ``reference`` (an .npz to write), ``task``, ``variants``,
``texts``, ``max_length`` (or null), ``allow_pickle``, ``trust_remote_code``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
import transformers
from optimum.exporters.onnx import onnx_export_from_model
from optimum.exporters.tasks import TasksManager

from modeldrop.build.layout import MODEL_PATHS
from modeldrop.build.workers.pooling import Head, append_head, pool, read_head
from modeldrop.build.workers.protocol import Events, serve
from modeldrop.build.workers.quantize import quantize_int8
from modeldrop.build.workers.timing import TOKENS, median_ms, speed_texts
from modeldrop.errors import ExportError, SourceError, TaskError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLASSES = {
    "feature-extraction": transformers.AutoModel,
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
}
_COPIED = (
    "config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "README.md", "LICENSE*",
)  # fmt: skip
_TOOLCHAIN = (
    "torch", "transformers", "tokenizers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "safetensors", "numpy",
)  # fmt: skip
_UNBOUNDED = 1 << 20


def work(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Do all of it; the result describes the graphs, the original and the toolchain."""
    source, output = Path(request["source"]), Path(request["output"])
    task, texts = request["task"], request["texts"]
    torch.manual_seed(0)
    events.step("load")
    model = _load_model(source, task, request)
    tokenizer = _load_tokenizer(source, model.config, request)
    head = read_head(source) if task == "feature-extraction" else None
    _save_companions(source, output, tokenizer, head)

    events.step("export")
    fp32 = output / MODEL_PATHS["fp32"]
    _export(model, task, fp32)
    graph = _read_graph(fp32)
    if head is not None:
        append_head(graph, head)
        onnx.save(graph, fp32)
    graphs = {"fp32": describe(graph)}

    events.step("quantize")
    original = _Original(model, tokenizer, head, task)
    # Quantizing is mostly one thread of Python: PyTorch answers beside it, and leaves it a processor.
    processors = torch.get_num_threads()
    torch.set_num_threads(max(1, processors - 1))
    with ThreadPoolExecutor(1) as pool:
        quantized = pool.submit(_quantize, graph, output, request["variants"])
        arrays: dict[str, Any] = {}
        for index, text in enumerate(texts):
            if quantized.done():
                torch.set_num_threads(processors)
            inputs, answer = original.answer(text)
            arrays[f"output_{index}"] = answer[0].numpy()
            arrays |= {f"{name}_{index}": tensor.numpy() for name, tensor in inputs.items()}
            events.progress(index + 1, len(texts))
        quantized.result()
    torch.set_num_threads(processors)
    np.savez(request["reference"], allow_pickle=False, **arrays)
    one, batch = ([text_ids[:TOKENS] for text_ids in tokenizer(part)["input_ids"]] for part in speed_texts(texts))
    speed = [median_ms(original.timed(part)) for part in (one, batch)]
    if "int8" in request["variants"]:
        graphs["int8"] = describe(_read_graph(output / MODEL_PATHS["int8"]))
    if "fp32" not in request["variants"]:
        del graphs["fp32"]
        _remove_graph(fp32)
    return {
        "graphs": graphs,
        "output_name": original.output_name,
        "labels": _labels(model.config) if task != "feature-extraction" else [],
        "max_length": tokenizer.model_max_length,
        "framework": f"PyTorch {torch.__version__}",
        "speed": speed,
        "toolchain": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _TOOLCHAIN},
    }


def _quantize(graph: onnx.ModelProto, output: Path, variants: Sequence[str]) -> None:
    if "int8" in variants:
        # From memory where the weights are there: the quantizer then reads and infers half as much.
        source = output / MODEL_PATHS["fp32"] if external_files(graph) else graph
        quantize_int8(source, output / MODEL_PATHS["int8"])


class _Original:
    """The model in PyTorch, as the variants are compared with it."""

    def __init__(self, model: Any, tokenizer: Any, head: Head | None, task: str) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._head = head
        self._embeds = task == "feature-extraction"
        self.output_name = (
            "logits" if not self._embeds else "sentence_embedding" if head is not None else "last_hidden_state"
        )

    def answer(self, text: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """What it is given for one text, and what it answers: batches of one."""
        inputs = self._tokenizer([text], truncation=True, return_tensors="pt")
        return dict(inputs), self._run(inputs)

    def timed(self, ids: Sequence[Sequence[int]]) -> Any:
        """A call that answers a padded batch of token ids."""
        inputs = self._tokenizer.pad({"input_ids": list(ids)}, return_tensors="pt", padding=len(ids) > 1)
        return lambda: self._run(inputs)

    def _run(self, inputs: Any) -> torch.Tensor:
        with torch.inference_mode():
            result = self._model(**inputs)
            if not self._embeds:
                return result.logits  # type: ignore[no-any-return]
            hidden = result.last_hidden_state
            return hidden if self._head is None else pool(self._head, hidden, inputs["attention_mask"])


def describe(model: onnx.ModelProto) -> dict[str, Any]:
    """Opset, IR version, inputs, outputs and external data files of a graph."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    tensors = [
        {
            "name": value.name,
            "dtype": onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(),
            "shape": [dim.dim_param or str(dim.dim_value) for dim in value.type.tensor_type.shape.dim],
        }
        for value in (*model.graph.input, *model.graph.output)
    ]
    inputs = len(model.graph.input)
    return {
        "opset": opset,
        "ir_version": model.ir_version,
        "inputs": tensors[:inputs],
        "outputs": tensors[inputs:],
        "external": external_files(model),
    }


def _read_graph(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside a graph that hold its weights."""
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _load_model(source: Path, task: str, request: dict[str, Any]) -> Any:
    try:
        model, info = _CLASSES[task].from_pretrained(
            source,
            output_loading_info=True,
            use_safetensors=None if request["allow_pickle"] else True,
            trust_remote_code=request["trust_remote_code"],
            local_files_only=True,
            dtype=torch.float32,
        )
    except Exception as error:
        raise SourceError(f"transformers cannot load the checkpoint: {_line(error)}") from error
    # feature-extraction answers hidden states; a pooler that is made up at random is never exported.
    missing = [name for name in info["missing_keys"] if task != "feature-extraction" or ".pooler." not in f".{name}"]
    if missing:
        raise SourceError(
            f"The checkpoint lacks {len(missing)} weights that {type(model).__name__} needs, "
            f"such as {min(missing)}: they would be made up at random.",
            "Use a checkpoint that was trained for this task, or name another task.",
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SourceError(f"The weight {name} holds NaN or infinity.", "Check the training run that saved it.")
    return model


def _load_tokenizer(source: Path, config: Any, request: dict[str, Any]) -> Any:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source, use_fast=True, local_files_only=True, trust_remote_code=request["trust_remote_code"]
        )
    except Exception as error:
        raise SourceError(
            f"transformers cannot load the tokenizer: {_line(error)}",
            "Put tokenizer.json and tokenizer_config.json beside the weights.",
        ) from error
    if not tokenizer.is_fast:
        raise SourceError(
            f"{type(tokenizer).__name__} has no fast form, so no tokenizer.json can be written for the runtime.",
            "Convert it with transformers, and put tokenizer.json beside the weights.",
        )
    if len(tokenizer) > config.vocab_size:
        raise SourceError(
            f"The tokenizer has {len(tokenizer)} tokens, the model only {config.vocab_size} embeddings.",
            "The tokenizer belongs to another model: put the right tokenizer.json beside the weights.",
        )
    tokenizer.model_max_length = _max_length(source, config, tokenizer, request["max_length"])
    return tokenizer


def _max_length(source: Path, config: Any, tokenizer: Any, asked: int | None) -> int:
    """Tokens a text is cut to: as asked, else what sentence-transformers, the tokenizer or the model says."""
    positions = getattr(config, "max_position_embeddings", None) or _UNBOUNDED
    if "roberta" in config.model_type or config.model_type in {"mpnet", "camembert"}:
        # Their positions begin after the padding token's.
        positions -= (config.pad_token_id or 0) + 1
    limit = min(positions, tokenizer.model_max_length, _UNBOUNDED)
    if asked is not None:
        if asked > positions:
            raise TaskError(f"max_length is {asked}; this model has {positions} positions.", "Ask for no more.")
        return asked
    sentence = source / "sentence_bert_config.json"
    if sentence.is_file():
        limit = min(json.loads(sentence.read_text("utf-8")).get("max_seq_length") or limit, limit)
    return int(limit)


def _save_companions(source: Path, output: Path, tokenizer: Any, head: Head | None) -> None:
    """Everything beside the graphs that a runtime needs."""
    (output / "onnx").mkdir(parents=True, exist_ok=True)
    backend = tokenizer.backend_tokenizer
    # Padding to a fixed length and truncation below the model's own are sometimes baked in (MiniLM: 128 and
    # 128 of 256). Programs that use tokenizer.json alone would follow them.
    backend.enable_truncation(tokenizer.model_max_length)
    backend.no_padding()
    if tokenizer.pad_token_id is not None:
        backend.enable_padding(
            direction=tokenizer.padding_side,
            pad_id=tokenizer.pad_token_id,
            pad_type_id=tokenizer.pad_token_type_id,
            pad_token=tokenizer.pad_token,
        )
    # tokenizer_config.json would still tell of what was baked in, and fastembed believes it.
    for name in ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(output)
    patterns = [*_COPIED, *(["[0-9]_*/config.json", "[0-9]_*/model.safetensors"] if head else [])]
    for pattern in patterns:
        for path in source.glob(pattern):
            target = output / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    sentence = output / "sentence_bert_config.json"
    if sentence.is_file():
        # sentence-transformers cuts by its own figure: it must be the one that was proven.
        plain = json.loads(sentence.read_text("utf-8")) | {"max_seq_length": tokenizer.model_max_length}
        sentence.write_text(json.dumps(plain, indent=2) + "\n", "utf-8")


def _export(model: Any, task: str, target: Path) -> None:
    folder = target.parent / ".export"
    model_type = model.config.model_type
    supported = (
        TasksManager.get_supported_tasks_for_model_type(model_type, "onnx", library_name="transformers")
        if (
            model_type in TasksManager._SUPPORTED_MODEL_TYPE  # noqa: SLF001
        )
        else {}
    )
    if task not in supported:
        raise TaskError(
            f"optimum cannot export a {model_type} model for {task}.",
            f"It can for: {', '.join(supported)}." if supported else "It does not know this architecture.",
        )
    try:
        # Our own comparison is stricter than optimum's validation, which only warns.
        onnx_export_from_model(model, folder, task=task, do_validation=False)
    except Exception as error:
        raise ExportError(f"optimum could not export the model: {_line(error)}") from error
    for path in sorted(folder.glob("model.onnx*")):
        path.chmod(0o644)
        path.replace(target.parent / path.name)
    shutil.rmtree(folder)


def _remove_graph(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def _labels(config: Any) -> list[str]:
    return [str(config.id2label[index]) for index in sorted(config.id2label)]


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    serve(work)
