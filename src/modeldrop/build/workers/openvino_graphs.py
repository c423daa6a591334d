"""Running OpenVINO's graphs as ``selftest.chains`` runs those of ONNX, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.format.golden import Link
from modeldrop.selftest.chains import Array, Chain, Step, rows

if TYPE_CHECKING:
    from openvino import CompiledModel


class OpenVinoVariant:
    """A variant's graphs; see ``chains.Variant``.

    Args:
        folder: where its files are.
        graphs: the path of every graph in the folder, by its role.
    """

    def __init__(self, folder: Path, graphs: Mapping[str, str]) -> None:
        import openvino

        core = openvino.Core()
        # Without the hint, a CPU that has bf16 computes in it: a user's choice, not what is proven.
        self._compiled: dict[str, CompiledModel] = {
            role: core.compile_model(folder / path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            for role, path in graphs.items()
        }

    def dtypes(self, graph: str) -> dict[str, str]:
        """The types of a graph's inputs, as numpy calls them, by name."""
        return {port.get_any_name(): port.get_element_type().to_dtype().name for port in self._compiled[graph].inputs}

    def run(self, steps: Sequence[Step]) -> list[dict[str, Array]]:
        """The outputs of every step, by name."""
        results: list[dict[str, Array]] = []
        for step in steps:
            inputs: dict[str, Any] = {
                name: results[source.step][source.output] if isinstance(source, Link) else source
                for name, source in step.inputs.items()
            }
            answered = self._compiled[step.graph](inputs)
            # Copied: the next run writes where this one's outputs are.
            results.append({name: answered[name].copy() for port in answered for name in port.get_names()})
        return results

    def answer(self, chain: Chain) -> Array:
        """What the variant answers where the original answers ``chain.answer``."""
        results = self.run(chain.steps)
        return rows([results[link.step][link.output][0] for link in chain.outputs], chain.at)
