"""Running OpenVINO's graphs as ``runs.OnnxVariant`` runs those of ONNX, on the CPU.

Two kinds of graphs differ from their ONNX form, so that OpenVINO's own programs load them; the same steps run on both.
A decoder with and without a cache, which ONNX has in the branches of one graph, is two graphs. A language model keeps
its cache as a state in the graph, where ONNX is given it at every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import OpenVariant, RunStep

if TYPE_CHECKING:
    from openvino import InferRequest

_MERGED, _FIRST, _LATER = "decoder_model_merged", "decoder_model", "decoder_with_past_model"
_BRANCH = "use_cache_branch"
ORDER = "beam_idx"
"""The input of a language model that keeps its cache: which row each row goes on with."""
# Without the hints, a CPU computes in bf16 where it can, and rounds the cache: a user's choice, not what was compared.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


def open_graph(path: Path) -> InferRequest:
    """A graph on the CPU, computing as variants are compared."""
    import openvino

    return openvino.Core().compile_model(path, "CPU", _EXACT).create_infer_request()


class OpenVinoVariant(OpenVariant):
    """A variant of OpenVINO graphs; see ``inference.open_variant``."""

    def __init__(self, folder: Path, graphs: Mapping[str, str]) -> None:
        self._requests: dict[str, InferRequest] = {role: open_graph(folder / path) for role, path in graphs.items()}

    def dtypes(self, graph: str) -> dict[str, str]:
        # An input may have several names.
        inputs = self._requests[graph].model_inputs
        return {name: port.get_element_type().to_dtype().name for port in inputs for name in port.get_names()}

    def lacking(self, step: RunStep) -> list[str]:
        given = {*step.inputs, ORDER}
        inputs = self._requests[self._graph_of(step)].model_inputs
        return sorted(min(port.get_names()) for port in inputs if not given & port.get_names())

    def run(self, steps: Sequence[RunStep]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        begun: set[str] = set()
        for step in steps:
            graph = self._graph_of(step)
            request, wanted = self._requests[graph], self.dtypes(graph)
            inputs: dict[str, Any] = {
                name: results[source.step][source.output] if isinstance(source, StepOutput) else source
                for name, source in step.inputs.items()
                if name in wanted
            }
            if ORDER in wanted:
                if graph not in begun:  # its state is of an earlier text
                    request.reset_state()
                inputs[ORDER] = np.arange(len(inputs["input_ids"]), dtype=np.int32)
            begun.add(graph)
            answered = request.infer(inputs)
            # Copied: the next run writes where this one's outputs are.
            results.append({name: answered[name].copy() for port in answered for name in port.get_names()})
        return results

    def _graph_of(self, step: RunStep) -> str:
        if step.graph in self._requests or step.graph != _MERGED:
            return step.graph
        branch = step.inputs[_BRANCH]
        return _LATER if isinstance(branch, np.ndarray) and branch.all() else _FIRST
