"""Is everything there that a runtime needs?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modeldrop.errors import IncompleteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_ALWAYS = ("config.json", "tokenizer.json", "tokenizer_config.json")


def check_complete(folder: Path, models: Iterable[str], external: Sequence[str]) -> None:
    """Refuse a build that lacks a file: tokenizer, config, graphs, external data, pooling configuration.

    Args:
        folder: the build.
        models: paths of the graphs.
        external: paths of the files that hold the graphs' external data.

    Raises:
        IncompleteError: naming the first missing file and who needs it.
    """
    needed = dict.fromkeys(_ALWAYS, "every runtime")
    needed |= dict.fromkeys(models, "the graph's variant")
    needed |= dict.fromkeys(external, "a graph, as its external data")
    modules = folder / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_text("utf-8")):
            kind = str(module.get("type", "")).rpartition(".")[2]
            if kind in {"Pooling", "Dense"}:
                needed[f"{module['path']}/config.json"] = "sentence-transformers"
    for path, reader in needed.items():
        if not (folder / path).is_file():
            raise IncompleteError(
                f"The build has no {path}, which {reader} needs.", "Put it beside the weights of the source."
            )
