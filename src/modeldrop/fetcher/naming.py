"""``--as``: giving the chosen graph the name that a server insists on."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError, UsageError
from modeldrop.format.names import check_distinct, check_path

if TYPE_CHECKING:
    from modeldrop.format.manifest import Manifest, Variant

_OPENVINO = ".xml"
_DATA_ENDINGS = ("_data", ".data", ".bin", ".weight", ".weights")


def renames(manifest: Manifest, variant: Variant, name: str) -> dict[str, str]:
    """Where files of a variant go that are not to keep their place: path in the version to path on the disk.

    Args:
        manifest: the version's.
        variant: the one that was chosen.
        name: the path that its graph is to have in the snapshot, such as ``onnx/model.onnx``.

    Raises:
        UsageError: the path is none, another file of the variant has it, or the graph would lose its weights.
    """
    graph = variant.model
    try:
        check_path(name)
    except FormatError as error:
        raise UsageError(
            f"--as: {error.message.removeprefix('path: ')}.",
            "Give a path inside the snapshot, such as onnx/model.onnx.",
        ) from None
    if name == graph:
        return {}
    ending = posixpath.splitext(graph)[1]
    if posixpath.splitext(name)[1] != ending:
        raise UsageError(
            f"--as {name}: the graph of {variant.name} must keep its ending {ending}.",
            "Runtimes tell by it what the file is.",
        )
    others = [file.path for file in manifest.files if file.path in variant.files and file.path != graph]
    try:
        check_distinct([*others, name])
    except FormatError as error:
        raise UsageError(
            f"--as {name}: the variant {variant.name} has another file there: {error.message.removeprefix('files: ')}.",
            "Choose another name for the graph.",
        ) from None
    data = [path for path in others if _is_data(path, graph)]
    if ending == _OPENVINO:
        raise UsageError(
            f"--as {name}: OpenVINO finds the weights of {graph} by its name.",
            "Fetch this variant without --as, or an ONNX variant with it.",
        )
    if data and posixpath.dirname(name) != posixpath.dirname(graph):
        raise UsageError(
            f"--as {name}: {graph} looks for its weights, {posixpath.basename(data[0])}, in its own folder.",
            f"Give it a name in that folder: --as {posixpath.join(posixpath.dirname(graph), posixpath.basename(name))}",
        )
    return {graph: name}


def _is_data(path: str, graph: str) -> bool:
    """Whether a file holds weights of the graph, as far as names tell."""
    if posixpath.dirname(path) != posixpath.dirname(graph):
        return False
    name, stem = posixpath.basename(path), posixpath.splitext(posixpath.basename(graph))[0]
    return name.startswith(f"{stem}.") or name.endswith(_DATA_ENDINGS)
