"""config.json tells transformers.js which graphs have their weights beside them: it downloads only what it is told."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SUFFIX = "_data"


def flag_external_data(output: Path, files: Iterable[str]) -> None:
    """Set ``transformers.js_config.use_external_data_format``, where there is external data.

    Args:
        output: the version's folder.
        files: paths of the graphs and of the files that hold their weights.
    """
    names = {PurePosixPath(path).name for path in files}
    flags = {
        graph: 1 for name in sorted(names) if (graph := name.removesuffix(_SUFFIX)) != name and graph.endswith(".onnx")
    }
    if not flags:
        return
    path = output / "config.json"
    config = json.loads(path.read_text("utf-8"))
    own = config.setdefault("transformers.js_config", {})
    own["use_external_data_format"] = flags
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
