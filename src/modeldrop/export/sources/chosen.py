"""What is common to sources whose files are chosen by their names: folders, buckets, repositories of the Hub."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from modeldrop.errors import SourceError
from modeldrop.export.sources import openvino
from modeldrop.export.sources.file_choice import Choice
from modeldrop.export.sources.interface import Source

if TYPE_CHECKING:
    from modeldrop.export.openvino_ir import Ir


class ChosenSource(Source):
    """A source that has made its choice, in ``_choice``, when it has been made itself."""

    _spec: str
    _choice: Choice
    _openvino: Ir | None = None

    @property
    def worker(self) -> str:
        return self._choice.worker

    @property
    def spec(self) -> str:
        return self._spec

    @property
    def support(self) -> frozenset[str]:
        return frozenset(self._choice.support)

    def config(self) -> dict[str, Any]:
        if "config.json" not in self._choice.support:
            return {}
        document = self._document("config.json")
        if not isinstance(document, dict):
            raise SourceError(f"{self._called('config.json')} is not a JSON object.")
        return document

    def modules(self) -> list[Any] | None:
        if "modules.json" not in self._choice.support:
            return None
        document = self._document("modules.json")
        if not isinstance(document, list):
            raise SourceError(f"{self._called('modules.json')} is not a JSON array.")
        return document

    def openvino_graph(self) -> Ir | None:
        graph = self._choice.openvino
        if graph and self._openvino is None:
            weights = openvino.data_of(graph)
            self._openvino = openvino.read(
                self._bytes(graph),
                self._size(weights),
                graph=graph,
                xml=self._called(graph),
                weights=self._called(weights),
            )
        return self._openvino

    @abstractmethod
    def _bytes(self, name: str) -> bytes:
        """One of its files, which is small enough for the memory.

        Raises:
            SourceError: it cannot be had.
        """

    @abstractmethod
    def _size(self, name: str) -> int:
        """Bytes of one of its files, which is not fetched."""

    @abstractmethod
    def _document(self, name: str) -> Any:
        """One of its JSON files, parsed.

        Raises:
            SourceError: it cannot be had, or is no JSON.
        """

    @abstractmethod
    def _called(self, name: str) -> str:
        """A file's name as messages give it, with where it is."""
