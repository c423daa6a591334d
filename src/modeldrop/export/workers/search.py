"""Search for the smallest 8-bit variant that meets its thresholds.

Runs as ``python -m modeldrop.export.workers.search REQUEST``, without PyTorch; see ``messages.SearchRequest``.

First the ways to choose scales are tried. Where none holds, every layer is made 8 bits alone, and what that does to the
answers is measured. The best way is then tried with more and more layers kept in fp32, those first that hurt most for
their bytes, until it holds; halving finds the fewest. What would be larger than fp16 is not worth having.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from modeldrop.errors import FidelityError
from modeldrop.export.messages import MadeVariants, SearchRequest, VariantFolder
from modeldrop.export.models.shared.reference import ReferenceRuns, load_reference
from modeldrop.export.onnx_files import all_graphs, describe_onnx, weight_bytes
from modeldrop.export.onnx_weights import arrange
from modeldrop.export.quantizers import dynamic
from modeldrop.export.workers.own_metric import OwnMeasure, own_measure
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.export.workers.quantize import kept_nodes
from modeldrop.export.workers.verify import figures, open_checked
from modeldrop.format.manifest import SearchStep
from modeldrop.format.recipe import METRICS, Threshold
from modeldrop.format.variants import FP32, VARIANTS
from modeldrop.inference import open_variant

_WAYS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("one scale per channel, symmetric", {"per_channel": True, "symmetric": True}),
    ("one scale per channel, with zero points", {"per_channel": True, "symmetric": False}),
    ("one scale per tensor, symmetric", {"per_channel": False, "symmetric": True}),
)
_MOST_GROUPS = 48
_HARM_RUNS = 8
_FEWEST_WEIGHTS = 1024
_WORTH = 0.5
_EXPECTED = _MOST_GROUPS + 16  # graphs that a search makes


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers that are kept or made small together: names of nodes, and bytes of their weights in fp32."""

    names: tuple[str, ...]
    size: int


class _Search:
    def __init__(
        self, request: SearchRequest, name: str, reference: ReferenceRuns, own: OwnMeasure | None, events: Events
    ) -> None:
        self._events = events
        self._made = 0
        self._output = request.output
        self._comparison = request.comparison
        self._name = name
        self._reference = reference
        self._own = own
        # By metric, what it must reach, and the original's own value. An own metric may not give every figure.
        perfect = {metric: 1.0 if side == ">=" else 0.0 for metric, side in METRICS.items()}
        self._perfect = perfect | (own.original if own else {})
        self._limits = {
            metric: Threshold(limit.side, limit.value(self._perfect[metric]))
            for metric, limit in request.thresholds[name].items()
            if metric in self._perfect
        }
        self.paths = {role: VARIANTS[name].path(role) for role in request.roles}
        self._sources = [self._output / FP32.path(role) for role in self.paths]
        self._kept = kept_nodes(name, request.keep.get(name, ()), self._sources)
        self._fp32 = sum(weight_bytes(path) for path in self._sources)
        self.tried: list[SearchStep] = []

    def run(self) -> None:
        """Leave the graphs of the best one where they belong.

        Raises:
            FidelityError: nothing holds; says how close it came.
        """
        for what, way in _WAYS:
            self._try(what, way, ())
        # The smallest that holds, else the one that is nearest to it.
        ranks = [(0.0, tried.weights) if tried.holds else (1.0, self._badness(tried)) for tried in self.tried]
        order = sorted(range(len(_WAYS)), key=ranks.__getitem__)
        what, way = _WAYS[order[0]]
        if self.tried[order[0]].holds:
            self._make(way, ())
            return
        groups = self._by_harm(way)
        few, many = self._bounds(what, way, groups)
        while many - few > 1:
            middle = (few + many) // 2
            if self._try(what, way, groups[:middle]).holds:
                many = middle
            else:
                few = middle
        self._make(way, groups[:many])
        if self._weights() > _WORTH * self._fp32:
            self._give_up()

    def _bounds(self, what: str, way: Mapping[str, bool], groups: Sequence[_Group]) -> tuple[int, int]:
        """How many layers are too few, and how many are enough."""
        few, count = 0, 1
        while True:
            count = min(count, len(groups))
            found = self._try(what, way, groups[:count])
            if found.holds:
                return few, count
            if found.weights > _WORTH * self._fp32 or count == len(groups):
                self._give_up()
            few, count = count, count * 2

    def _give_up(self) -> None:
        nearest = min(self.tried, key=self._badness)
        misses = ", ".join(
            f"{metric} is {nearest.metrics[metric]:.6g}, required is {limit.side} {limit.number:.7g}"
            for metric, limit in sorted(self._limits.items())
            if metric in nearest.metrics and not limit.holds(nearest.metrics[metric], 0.0)
        )
        raise FidelityError(
            f"{self._name}: none of {len(self.tried)} ways smaller than fp16 holds. The nearest, {nearest.what} "
            f"({nearest.weights / self._fp32:.0%} of fp32): {misses or 'holds, and is larger than fp16'}.",
            f"Nothing was published. Build int8-accurate or fp16 instead, or set [thresholds.{self._name}].",
        )

    def _badness(self, tried: SearchStep) -> float:
        """How far it is from perfect, in shares of what is allowed, by its worst metric: 1.0 just holds."""
        shares = [0.0]
        for metric, limit in self._limits.items():
            if metric in tried.metrics:
                allowed = max(abs(self._perfect[metric] - limit.number), 1e-9)
                shares.append(abs(self._perfect[metric] - tried.metrics[metric]) / allowed)
        return max(shares)

    def _try(self, what: str, way: Mapping[str, bool], kept: Sequence[_Group]) -> SearchStep:
        self._make(way, kept)
        proof = self._reference.proof
        variant = open_checked(VariantFolder(self._output, self.paths), proof[0])
        metrics, _ = figures(variant, self._output, proof, self._comparison, self._own, self._name)
        holds = all(limit.holds(metrics[name], 0.0) for name, limit in self._limits.items() if name in metrics)
        if kept:
            count = sum(len(group.names) for group in kept)
            what = f"{what}, {count} {'layer' if count == 1 else 'layers'} kept"
        self.tried.append(SearchStep(what, self._weights(), metrics, holds))
        return self.tried[-1]

    def _weights(self) -> int:
        return sum(weight_bytes(self._output / path) for path in self.paths.values())

    def _make(self, way: Mapping[str, bool], kept: Sequence[_Group], only: Sequence[str] | None = None) -> None:
        keep = [*self._kept, *(name for group in kept for name in group.names)]
        options = {**VARIANTS[self._name].options, **way, "keep": keep, "only": only}
        self._made += 1
        self._events.progress(min(self._made, _EXPECTED), _EXPECTED)
        for source, path in zip(self._sources, self.paths.values(), strict=True):
            dynamic.make(source, self._output / path, options)

    def _by_harm(self, way: Mapping[str, bool]) -> list[_Group]:
        """The layers, those first that do most harm for their bytes where they alone have 8 bits."""
        proof = self._reference.proof
        few = proof[:: max(1, len(proof) // _HARM_RUNS)][:_HARM_RUNS]
        harms = []
        groups = _groups(list(self._layers()))
        for group in groups:
            self._make(way, (), group.names)
            variant = open_variant(self._output, self.paths)
            distances = []
            for run in few:
                values = run.answer.values
                distances.append(
                    np.linalg.norm(variant.answer(run) - values) / max(float(np.linalg.norm(values)), 1e-30)
                )
            harms.append(float(np.mean(distances)) / group.size)
        order = sorted(range(len(groups)), key=lambda index: -harms[index])
        return [groups[index] for index in order]

    def _layers(self) -> Iterator[_Group]:
        for path in self._sources:
            model = onnx.load(path, load_external_data=False)
            sizes = {
                tensor.name: math.prod(tensor.dims)
                for graph in all_graphs(model.graph)
                for tensor in graph.initializer
                if tensor.data_type == onnx.TensorProto.FLOAT
            }
            for graph in all_graphs(model.graph):
                for node in graph.node:
                    weights = max((sizes.get(name, 0) for name in node.input[:2]), default=0)
                    quantizable = node.op_type in {"MatMul", "Gemm", "Gather", "Conv"} and node.name not in self._kept
                    if quantizable and weights >= _FEWEST_WEIGHTS:
                        yield _Group((node.name,), 4 * weights)


def _groups(layers: Sequence[_Group]) -> list[_Group]:
    """Neighbours together, where there are more than can be tried one by one."""
    length = -(-len(layers) // _MOST_GROUPS) or 1
    return [
        _Group(
            tuple(name for layer in layers[begin : begin + length] for name in layer.names),
            sum(layer.size for layer in layers[begin : begin + length]),
        )
        for begin in range(0, len(layers), length)
    ]


def work(request: SearchRequest, events: Events) -> MadeVariants:
    """Find them all."""
    reference = load_reference(request.comparison.reference)
    own = own_measure(request.comparison, reference.proof)
    graphs, searches = {}, {}
    for name in request.variants:
        search = _Search(request=request, name=name, reference=reference, own=own, events=events)
        search.run()
        for path in search.paths.values():
            arrange(request.output / path, request.external_data)
        graphs[name] = {role: describe_onnx(request.output / path) for role, path in search.paths.items()}
        searches[name] = tuple(search.tried)
    return MadeVariants(graphs, searches=searches)


if __name__ == "__main__":
    serve(work, SearchRequest)
