"""Run the variants from clean copies with onnxruntime and tokenizers alone; compare and time them.

Runs as ``python -m modeldrop.build.workers.verify REQUEST``. The request: ``variants`` (name → ``folder`` with
nothing but the variant's files, and ``model``, its graph's path), ``reference`` (the exporter's .npz),
``output_name``, ``classifies``, ``texts``, ``golden`` (indices of texts).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import tokenizers

from modeldrop.build.workers.protocol import Events, serve
from modeldrop.build.workers.timing import TOKENS, median_ms, speed_texts
from modeldrop.errors import IncompleteError
from modeldrop.selftest.metrics import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

_PADDED = 8


def work(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Prove and time every variant; the result holds metrics, speeds and the golden cases."""
    reference = np.load(request["reference"])
    texts = request["texts"]
    expected = [reference[f"output_{index}"] for index in range(len(texts))]
    runners = {}
    result: dict[str, Any] = {"variants": {}}
    events.step("prove")
    for number, (name, variant) in enumerate(request["variants"].items()):
        runner = runners[name] = Runner(Path(variant["folder"]), variant["model"], request["output_name"])
        _check_tokens(runner, reference, texts)
        alone = [runner.answer([text])[0] for text in texts]
        metrics, worst = compare(expected, alone, classifies=request["classifies"])
        golden = request["golden"]
        at_golden, _ = compare(
            [expected[i] for i in golden], [alone[i] for i in golden], classifies=request["classifies"]
        )
        if request["output_name"] != "last_hidden_state":
            _include_padded(metrics, worst, runner, texts, expected, classifies=request["classifies"])
        result["variants"][name] = {"metrics": metrics, "worst": worst, "golden": at_golden}
        events.progress(number + 1, len(request["variants"]))
    events.step("measure")
    one, batch = speed_texts(texts)
    for number, (name, runner) in enumerate(runners.items()):
        result["variants"][name]["speed"] = [median_ms(runner.timed(part)) for part in (one, batch)]
        events.progress(number + 1, len(runners))
    foreign = sorted({"torch", "transformers"} & set(sys.modules))
    if foreign:
        raise IncompleteError(f"The variants were to run without them, but {', '.join(foreign)} got loaded.")
    names = [tensor.name for tensor in next(iter(runners.values())).session.get_inputs()]
    result["golden"] = [
        {
            "text": texts[index],
            "inputs": {name: reference[f"{name}_{index}"][0].tolist() for name in names},
            "values": [float(f"{value:.7g}") for value in expected[index].ravel()],
        }
        for index in request["golden"]
    ]
    return result


class Runner:
    """One variant as a service would run it."""

    def __init__(self, folder: Path, model: str, output_name: str) -> None:
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(folder / model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise IncompleteError(f"{model} does not load from a clean folder: {line}") from error
        self._names = [tensor.name for tensor in self.session.get_inputs()]
        self._output = [output_name]

    def inputs(self, encodings: Sequence[Any]) -> dict[str, Any]:
        """The graph's inputs, [batch, tokens] each, as int64."""
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        unknown = [name for name in self._names if name not in columns]
        if unknown:
            raise IncompleteError(f"The graph wants inputs that a tokenizer does not give: {', '.join(unknown)}.")
        return {
            name: np.array([getattr(encoding, columns[name]) for encoding in encodings], np.int64)
            for name in self._names
        }

    def answer(self, texts: Sequence[str]) -> Any:
        """The compared output for a padded batch of texts."""
        return self.session.run(self._output, self.inputs(self.tokenizer.encode_batch(list(texts))))[0]

    def timed(self, texts: Sequence[str]) -> Any:
        """A call that runs the batch, cut to the tokens that speed is measured on."""
        encodings = [self.tokenizer.encode(text) for text in texts]
        for encoding in encodings:
            encoding.truncate(TOKENS)
        width = max(len(encoding.ids) for encoding in encodings)
        for encoding in encodings:
            encoding.pad(width)
        inputs = self.inputs(encodings)
        return lambda: self.session.run(self._output, inputs)


def _check_tokens(runner: Runner, reference: Any, texts: Sequence[str]) -> None:
    for index, text in enumerate(texts):
        for name, ids in runner.inputs([runner.tokenizer.encode(text)]).items():
            if not np.array_equal(ids, reference[f"{name}_{index}"]):
                raise IncompleteError(
                    f"tokenizer.json does not give the {name} of the original tokenizer for {text[:60]!r}.",
                    "The version would answer differently in a runtime without transformers.",
                )


def _include_padded(
    metrics: dict[str, float],
    worst: dict[str, tuple[int, float]],
    runner: Runner,
    texts: Sequence[str],
    expected: Sequence[Any],
    *,
    classifies: bool,
) -> None:
    """Padding must not matter: a text in a batch of others must answer as the original does alone.

    Token-wise outputs are cut to the text's own tokens. The worse figure of alone and padded counts.
    """
    padded: list[Any] = [None] * len(texts)
    # By length, so that little is computed for padding alone.
    lengths = [len(encoding.ids) for encoding in map(runner.tokenizer.encode, texts)]
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    for begin in range(0, len(order), _PADDED):
        indices = order[begin : begin + _PADDED]
        for index, row in zip(indices, runner.answer([texts[index] for index in indices]), strict=True):
            padded[index] = row if expected[index].ndim == 1 else row[: len(expected[index])]
    figures, where = compare(expected, padded, classifies=classifies)
    for name, value in figures.items():
        if (value > metrics[name]) == (name == "max_abs") and value != metrics[name]:
            metrics[name] = value
            if name in where:
                worst[name] = where[name]


if __name__ == "__main__":
    serve(work)
