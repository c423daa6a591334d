"""Graphs, open for inference: ONNX by onnxruntime, OpenVINO's by openvino. Both are asked in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]


class Graph(Protocol):
    """A graph that is open. May be run by several threads at once.

    Attributes:
        backend: what computes, such as ``onnxruntime/CPUExecutionProvider``.
        inputs: shapes by name; None for a dimension that is free.
        outputs: names.
    """

    backend: str
    inputs: Mapping[str, Shape]
    outputs: Sequence[str]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Inputs that the graph does not have are left out."""


class OnnxGraph:
    """A graph in ONNX, on a GPU where there are one and an onnxruntime for it.

    Args:
        path: the graph.
        threads: of one inference.
        prepared: whether ``write_prepared`` wrote it.
    """

    def __init__(self, path: Path, threads: int, *, prepared: bool = False) -> None:
        options = _options(threads)
        if prepared:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        providers = choose_providers(onnxruntime.get_available_providers())
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        # A GPU that cannot be used is left out without an error: what is said is what there is.
        self.backend = f"onnxruntime/{self._session.get_providers()[0]}"
        self.inputs: Mapping[str, Shape] = {
            tensor.name: tuple(size if isinstance(size, int) else None for size in tensor.shape)
            for tensor in self._session.get_inputs()
        }
        self.outputs: Sequence[str] = [tensor.name for tensor in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Graph``."""
        known = {name: array for name, array in inputs.items() if name in self.inputs}
        return dict(zip(self.outputs, self._session.run(self.outputs, known), strict=True))


class OpenVinoGraph:
    """A graph in OpenVINO's format.

    Raises:
        ImportError: there is no openvino here; says how to get it.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import openvino  # only where a variant says so
        except ImportError as error:
            raise ImportError(f"its graph is OpenVINO's ({error}): pip install openvino") from error

        self._compiled = openvino.Core().compile_model(
            path, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        )
        self.backend = "openvino/CPU"
        self.inputs: Mapping[str, Shape] = {
            port.get_any_name(): tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
            for port in self._compiled.inputs
        }
        self.outputs: Sequence[str] = [port.get_any_name() for port in self._compiled.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Graph``."""
        known = {name: array for name, array in inputs.items() if name in self.inputs}
        request = self._compiled.create_infer_request()  # one request is not for several threads
        results = request.infer(known)
        return {name: np.array(results[index]) for index, name in enumerate(self.outputs)}


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait take the CPU from the other models of this process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def write_prepared(path: Path, target: Path) -> None:
    """Write a graph as onnxruntime has it in memory once it is open: optimized, its weights arranged for this CPU.

    Args:
        path: the graph, in ONNX.
        target: where to. What is mapped lies beside it, in ``<file>_data``.
    """
    options = _options(1)
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{target.name}_data")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def choose_providers(available: Sequence[str]) -> list[str]:
    """CUDA where it is there, and always the CPU."""
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]


def open_graph(path: Path, threads: int, *, prepared: bool = False) -> Graph:
    """Open a graph with what its format needs; ``prepared`` is one that ``write_prepared`` wrote."""
    return OpenVinoGraph(path, threads) if path.suffix == ".xml" else OnnxGraph(path, threads, prepared=prepared)


def on_cpu() -> bool:
    """Whether graphs in ONNX run on the CPU here."""
    return choose_providers(onnxruntime.get_available_providers()) == ["CPUExecutionProvider"]
