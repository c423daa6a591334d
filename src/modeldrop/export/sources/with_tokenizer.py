"""A source that takes its tokenizer from a second source, for graphs and checkpoints that were saved without one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modeldrop.errors import SourceError
from modeldrop.export.openvino_ir import Ir
from modeldrop.export.sources import disk
from modeldrop.export.sources.interface import Progress, Source

_TOKENIZER = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "tekken.json",
    "*.model", "*.spm", "*.tiktoken", "chat_template.*",
)  # fmt: skip


class SourceWithTokenizer(Source):
    """The weights of one source, with the tokenizer of another.

    The tokenizer's files all come from the second, so that they belong together; of its other files (config.json, …)
    those that the first has not.

    Raises:
        SourceError: neither has a config.json.
    """

    def __init__(self, source: Source, tokenizer: Source) -> None:
        self._source = source
        self._tokenizer_source = tokenizer
        self._config = source.config() or tokenizer.config()
        if not self._config:
            raise SourceError(
                f"Neither {source.spec} nor {tokenizer.spec} has a config.json.",
                "Put the config.json of the model that was exported beside the graph.",
            )
        self.spec, self.worker, self.task = source.spec, source.worker, source.task
        self.repository, self.commit = source.repository, source.commit
        self.gated, self.left_out = source.gated or tokenizer.gated, source.left_out
        self.graph_beside, self.heads = source.graph_beside, source.heads
        self.support = source.support | tokenizer.support

    @property
    def identity(self) -> str:
        return self._source.identity

    @property
    def tokenizer_identity(self) -> str | None:
        return self._tokenizer_source.identity

    @property
    def licence(self) -> str | None:
        return self._source.licence

    def openvino_graph(self) -> Ir | None:
        return self._source.openvino_graph()

    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def modules(self) -> list[Any] | None:
        return self._source.modules()

    def settings(self, path: str) -> dict[str, Any] | None:
        found = self._source.settings(path)
        return self._tokenizer_source.settings(path) if found is None else found

    def weight_bytes(self) -> int:
        return self._source.weight_bytes()

    def materialize(self, into: Path, progress: Progress | None = None) -> Path:
        self._source.materialize(into, progress)
        other = self._tokenizer_source.materialize(into.with_name(f"{into.name}-tokenizer"), progress)
        for pattern in _TOKENIZER:
            for path in into.glob(pattern):
                path.unlink()
        there = {path.name for path in into.iterdir()}
        more = {path.name: Path(os.path.realpath(path)) for path in other.iterdir() if path.name not in there}
        disk.link_more(into, more)
        return into
