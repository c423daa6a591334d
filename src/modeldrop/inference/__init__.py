"""Running a variant's graphs, and comparing its answers with the original's.

The self-test's process (``python -m modeldrop.inference``) and the workers that build use it. The fetcher starts that
process and never imports this: a graph that crashes it, or takes all its memory, takes nothing else along.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeldrop.inference.runs import OpenVariant


def needs_openvino(graphs: Mapping[str, str]) -> bool:
    """Whether a variant's graphs are OpenVINO's; ``graphs`` are paths by role."""
    return any(path.endswith(".xml") for path in graphs.values())


def open_variant(folder: Path, graphs: Mapping[str, str]) -> OpenVariant:
    """A variant's graphs, open on the CPU.

    Args:
        folder: where its files are.
        graphs: the path of every graph in the folder, by its role.
    """
    if needs_openvino(graphs):
        from modeldrop.inference.openvino import OpenVinoVariant

        return OpenVinoVariant(folder, graphs)
    from modeldrop.inference.runs import OnnxVariant

    return OnnxVariant(folder, graphs)
