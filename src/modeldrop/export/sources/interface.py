"""The interface of a source of weights, and the part that sources with a list of files share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeAlias

from modeldrop.errors import SourceError
from modeldrop.export.openvino_ir import Ir
from modeldrop.export.sentence_modules import BGE_M3, STATIC_CONFIG, lists_static
from modeldrop.export.sources import file_choice, generic, graphs, openvino
from modeldrop.export.sources.file_choice import ChosenFiles, FileRules
from modeldrop.format.manifest import MODEL
from modeldrop.format.tasks import GENERIC
from modeldrop.format.variants import FP32

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a file's name, its bytes done and its bytes in all; at least once, when the file is there."""


_GRAPHS = ("onnx/model.onnx", "model.onnx")


class Source(ABC):
    """One immutable set of weights, with the config and the tokenizer that belong to them.

    A source is resolved once, and everything it says afterwards is about that one state: a branch
    that moves later, or a folder that changes, never mixes two states.

    Attributes:
        spec: what the user wrote.
        worker: the worker that makes graphs of it, and asks the original: ``adopt`` for ready ONNX graphs,
            ``adopt_openvino`` for an OpenVINO graph, ``generic`` for a generic model; else the graphs are in fp32.
        support: paths of the files that are handed over beside the weights: configuration, tokenizer.
        task: the task that its graphs were made for; None where config.json tells it.
        repository: ``org/name`` on the Hub, or None.
        commit: the full commit on the Hub, or None.
        gated: whether the Hub gives it only to those who have accepted its terms.
        left_out: paths of the learned weights in it that are in no graph.
        heads: of the weights that are taken, those that answer besides the vectors of sentences (bge-m3).
        graph_beside: path of a ready ONNX graph beside the weights that are taken; "" where there is none.
        framework: what a generic model was saved by, ``ONNX`` for ready graphs; "" for a model of any other task.
        framework_file: the path of what a framework saved, or of the code that makes a torch module; "" for ready
            graphs, and for a model of any other task.
        function: what makes the torch module, in that file; "" for others.
        roles: of a generic model's graphs; () for a model of any other task.
        brought: the variant that a generic model's graphs are.
    """

    spec: str
    worker: str = "export"
    support: frozenset[str] = frozenset()
    task: str | None = None
    repository: str | None = None
    commit: str | None = None
    gated: bool = False
    left_out: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    graph_beside: str = ""
    framework: str = ""
    framework_file: str = ""
    function: str = ""
    roles: tuple[str, ...] = ()
    brought: str = FP32.name

    @property
    @abstractmethod
    def identity(self) -> str:
        """What goes into the build key: ``hf:org/name@<commit>`` or ``sha256:<hex>``.

        Raises:
            SourceError: a file that it is made of cannot be read.
        """

    @property
    def tokenizer_identity(self) -> str | None:
        """The identity of the place that its tokenizer comes from, where that is another one."""
        return None

    @property
    @abstractmethod
    def licence(self) -> str | None:
        """The licence that the model card names, such as ``apache-2.0``, or None."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The parsed config.json, {} where there is none; fetches no other file.

        Raises:
            SourceError: it cannot be had, or is not a JSON object.
        """

    @abstractmethod
    def modules(self) -> list[Any] | None:
        """The parsed modules.json of a sentence-transformers model, or None where there is none.

        Raises:
            SourceError: it cannot be had, or is not a JSON array.
        """

    @abstractmethod
    def settings(self, path: str) -> dict[str, Any] | None:
        """One of the JSON objects beside its weights, such as 1_Pooling/config.json; None where there is none.

        Raises:
            SourceError: it cannot be had, or is not a JSON object.
        """

    @abstractmethod
    def openvino_graph(self) -> Ir | None:
        """The description of its ready OpenVINO graph; None for any other source. Fetches no weights.

        Raises:
            SourceError: it cannot be had, or is not whole.
        """

    @abstractmethod
    def weight_bytes(self) -> int:
        """The size in all of the weight files that would be loaded.

        Raises:
            SourceError: the index of the shards cannot be had, or names one that is not there.
        """

    @abstractmethod
    def materialize(self, into: Path, progress: Progress | None = None) -> Path:
        """Make ``into`` a folder of exactly the files that are needed, verified, and return it.

        ``into`` is created, or is an empty folder. It holds links to files that belong to somebody
        else (a cache, a checkpoint): read them, never write through them.

        Raises:
            SourceError: a file is missing, truncated, altered or cannot be fetched.
            DiskError: ``into`` is not empty or cannot be written, or the disk is full.
        """


class FileListSource(Source):
    """A source that knows its files by name before it has them: a folder, a bucket, a repository, a version."""

    _choice: ChosenFiles
    _graph = ""
    _inner = ""
    _openvino: Ir | None = None

    def _choose(self, names: Collection[str], where: str, rules: FileRules) -> None:
        """Choose the files that are needed, by their names alone."""
        self._names, self._where = names, where
        choose = file_choice.choose_code if rules.code else file_choice.choose_files
        self._choice = choose(names, where=where, rules=rules)
        self.worker, self._graph = self._choice.worker, self._choice.openvino
        self.support = frozenset(map(self._choice.target, self._choice.support))
        self.left_out, self._inner = self._choice.left_out, self._choice.inner
        self.heads = tuple(name for name in BGE_M3 if name in self._choice.weights)
        self.framework = self._choice.framework
        if self.framework:
            self.framework_file = "" if self._choice.graphs else self._choice.weights[0]
            self.task, self.roles = GENERIC, tuple(self._choice.graphs) or (MODEL,)
            self.brought = generic.variant_by_name(self._choice.graphs.values())
        if self.worker == "export":
            self.graph_beside = next((graph for graph in _GRAPHS if graph in names), "")

    def _with_shards(self) -> ChosenFiles:
        """The choice, with the shards that the index of the weights names."""
        index = self._choice.index
        if index is None:
            return self._choice
        return file_choice.with_shards(self._choice, self._document(index), self._names, where=self._where)

    def _with_data(self, choice: ChosenFiles, path_of: Callable[[str], Path]) -> ChosenFiles:
        """The choice, with the files that ready graphs keep their weights in; ``path_of`` a graph, on this disk."""
        for graph in choice.graphs.values():
            locations = graphs.external_locations(path_of(graph), self._called(graph))
            choice = file_choice.with_external(choice, graph, locations, self._names, where=self._where)
        return choice

    def config(self) -> dict[str, Any]:
        plain = self.settings("config.json")
        if plain is None and lists_static(self.modules() or ()):
            return dict(STATIC_CONFIG)
        if plain is not None and not isinstance(plain.get("model_type", ""), str):
            raise SourceError(f"{self._called('config.json')}: model_type is not a name: {plain['model_type']!r:.80}.")
        return plain or {}

    def settings(self, path: str) -> dict[str, Any] | None:
        if path not in self.support:
            return None
        own = f"{self._inner}{path}"
        # A version has no folder of its own for the transformer, and no choice of files either.
        document = self._document(own if self._inner and own in self._choice.support else path)
        if not isinstance(document, dict):
            raise SourceError(f"{self._called(path)} is not a JSON object.")
        return document

    def modules(self) -> list[Any] | None:
        if "modules.json" not in self.support:
            return None
        document = self._document("modules.json")
        if not isinstance(document, list):
            raise SourceError(f"{self._called('modules.json')} is not a JSON array.")
        return document

    def openvino_graph(self) -> Ir | None:
        if self._graph and self._openvino is None:
            data, size = self._bytes(self._graph), self._size(openvino.data_of(self._graph))
            self._openvino = openvino.read(data, size, self._graph, where=self._where)
        return self._openvino

    def _document(self, name: str) -> Any:
        """One of its JSON files, parsed.

        Raises:
            SourceError: it cannot be had, or is no JSON.
        """
        try:
            return json.loads(self._bytes(name))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{self._called(name)} is not valid JSON: {error}.") from error

    @abstractmethod
    def _bytes(self, name: str) -> bytes:
        """One of its files, which is small enough for the memory.

        Raises:
            SourceError: it cannot be had.
        """

    @abstractmethod
    def _size(self, name: str) -> int:
        """Bytes of one of its files, which is not fetched."""

    def _called(self, name: str) -> str:
        """A file's name as messages give it, with where it is."""
        return f"{name} of {self._where}"
