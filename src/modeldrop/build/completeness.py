"""Is everything there that a runtime needs?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modeldrop.errors import IncompleteError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_complete(folder: Path, needed: Iterable[str], graphs: Iterable[str]) -> None:
    """Refuse a build that lacks a file: tokenizer, config, graphs, external data, pooling configuration.

    Args:
        folder: the build.
        needed: paths of what every runtime needs.
        graphs: paths of the graphs, and of the files that hold their external data.

    Raises:
        IncompleteError: naming the first missing file and who needs it.
    """
    readers = dict.fromkeys(needed, "every runtime")
    readers |= dict.fromkeys(graphs, "a variant")
    modules = folder / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_text("utf-8")):
            kind = str(module.get("type", "")).rpartition(".")[2]
            if kind in {"Pooling", "Dense"}:
                readers[f"{module['path']}/config.json"] = "sentence-transformers"
    for path, reader in readers.items():
        if not (folder / path).is_file():
            raise IncompleteError(
                f"The build has no {path}, which {reader} needs.", "Put it beside the weights of the source."
            )
