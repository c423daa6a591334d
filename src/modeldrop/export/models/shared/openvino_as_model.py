"""A source's OpenVINO graph in the place of a PyTorch model: it answers calls as transformers' models do."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from modeldrop.errors import SourceError
from modeldrop.export.openvino_ir import BITS, read_ir
from modeldrop.export.variants import openvino_variant
from modeldrop.inference.openvino import ORDER, open_graph
from modeldrop.util.text import first_line

GRAPH = "openvino/openvino_model.xml"
_ROLE = "model"
_POSITIONS = "position_ids"


def has_graph(folder: Path) -> bool:
    """Whether a source's folder holds an OpenVINO graph instead of weights."""
    return (folder / GRAPH).is_file()


class OpenVinoModel:
    """A graph on the CPU, with the precision that variants are compared in.

    Raises:
        SourceError: openvino cannot open it.
    """

    def __init__(self, folder: Path, config: Any) -> None:
        self.config = config
        self._path = folder / GRAPH
        ir = read_ir(self._path)
        self._kind = openvino_variant(BITS[ir.weights])
        self.inputs = [port.name for port in ir.inputs if port.name != ORDER]
        self._outputs = [port.name for port in ir.outputs]
        self._remembers = ir.stateful
        try:
            self._request = open_graph(self._path)
        except Exception as error:
            raise SourceError(
                f"openvino cannot open the graph: {first_line(error)}", "Export it again, or install its openvino."
            ) from error

    def answers(self, output: str) -> bool:
        """Whether it has this output."""
        return output in self._outputs

    def copy(self, output: Path) -> None:
        """Write the graph into a version, byte for byte."""
        target = output / self._kind.path(_ROLE)
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, copy in ((self._path, target), (self._path.with_suffix(".bin"), target.with_suffix(".bin"))):
            shutil.copyfile(path, copy)

    def __call__(self, *, past_key_values: object = None, **inputs: Any) -> Any:
        """Its outputs, as attributes.

        Args:
            past_key_values: what an earlier call answered under this name, to go on from there; None to begin anew.
            inputs: tensors by name; what the graph does not take is passed over.
        """
        given = {name: tensor.numpy() for name, tensor in inputs.items() if name in self.inputs}
        if self._remembers:
            count, length = inputs["input_ids"].shape
            given[ORDER] = np.arange(count, dtype=np.int32)
            if _POSITIONS in self.inputs:
                seen = inputs["attention_mask"].shape[1]
                given[_POSITIONS] = np.arange(seen - length, seen)[None].repeat(count, 0)
            if past_key_values is None:
                self._request.reset_state()
        answered = self._request.infer(given)
        # Copied: the next run writes where this one's outputs are.
        outputs = {name: torch.from_numpy(answered[name].copy()) for name in self._outputs}
        return SimpleNamespace(**outputs, past_key_values=self)

    def generate(self, input_ids: torch.Tensor, *, max_new_tokens: int, **_: Any) -> None:
        """Go on with texts by so many tokens, always with the most likely one."""
        past, fed, seen = None, input_ids, input_ids.shape[1]
        for _number in range(max_new_tokens):
            mask = torch.ones((len(fed), seen), dtype=torch.long)
            result = self(input_ids=fed, attention_mask=mask, past_key_values=past)
            past, fed, seen = result.past_key_values, result.logits[:, -1:].argmax(-1), seen + 1
