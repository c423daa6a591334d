"""Find the ready OpenVINO graph among the files of a source, and read its description.

Decided without openvino, which the machine that only plans need not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from modeldrop.errors import SourceError
from modeldrop.export.openvino_ir import Ir, parse_ir

FOLDER, MODEL = "openvino/", "openvino_model"
_FOLDERS = (FOLDER, "")
_SUFFIX, _DATA = ".xml", ".bin"
_GRAPH = re.compile(r"openvino_.*model.*\.xml|openvino_text_embeddings.*\.xml|openvino_vision_embeddings.*\.xml")
_ORIGIN = "Give the model they were made of (its card's base_model)."


def choose_openvino(names: Iterable[str], wanted: str, *, where: str) -> str:
    """The graph that is the model; "" where there are none and none is named.

    Args:
        names: every file of the source.
        wanted: a graph's file, or "" for the one in ``openvino/`` or at the root.
        where: how messages call the source.

    Raises:
        SourceError: the named one is not there, it is not clear which is the model, the model is in several graphs, or
            the weights are missing.
    """
    known = frozenset(names)
    if wanted:
        if wanted not in known:
            there = ", ".join(sorted(name for name in known if name.endswith(_SUFFIX))[:8])
            raise SourceError(
                f"{where} has no file {wanted}.", f"It has: {there}." if there else "It has no .xml at all."
            )
        return _with_data(wanted, known, where)
    for folder in _FOLDERS:
        names = (name for name in known if name[: name.rfind("/") + 1] == folder)
        here = sorted(name for name in names if _GRAPH.fullmatch(PurePosixPath(name).name))
        whole = f"{folder}{MODEL}{_SUFFIX}"
        alone = [name for name in here if PurePosixPath(name).name.startswith(MODEL)]
        if here and not alone:
            raise SourceError(
                f"{where} has no weights but OpenVINO graphs of parts of a model ({some_of(here)}); one graph alone is "
                "taken as it is.",
                _ORIGIN,
            )
        if whole not in alone and len(alone) > 1:
            raise SourceError(
                f"{where} has {len(alone)} OpenVINO graphs and none called {MODEL}{_SUFFIX}: {some_of(alone)}.",
                f"Name the most exact one: SOURCE#{alone[0]}",
            )
        if alone:
            return _with_data(whole if whole in alone else alone[0], known, where)
    return ""


def data_of(graph: str) -> str:
    """Where OpenVINO looks for a graph's weights."""
    return graph.removesuffix(_SUFFIX) + _DATA


def target(name: str, graph: str) -> str:
    """Where the file of a graph belongs in the folder that the worker gets."""
    return f"{FOLDER}{MODEL}{_SUFFIX if name == graph else _DATA}"


def read(data: bytes, size: int, graph: str, *, where: str) -> Ir:
    """Read a graph's description.

    Args:
        data: of the ``.xml``.
        size: bytes of the ``.bin``.
        graph: path of the ``.xml``.
        where: how messages call the source.

    Raises:
        SourceError: one of them is not whole.
    """
    try:
        ir = parse_ir(data)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{graph} of {where} is not a whole OpenVINO graph ({error}).", "Export or copy it again."
        ) from error
    if size < ir.data_bytes:
        raise SourceError(
            f"{data_of(graph)} of {where} is truncated: it has {size} bytes, {PurePosixPath(graph).name} asks for "
            f"{ir.data_bytes}.",
            "Copy or download it again; or it belongs to another graph.",
        )
    return ir


def _with_data(graph: str, known: frozenset[str], where: str) -> str:
    if data_of(graph) not in known:
        raise SourceError(
            f"{where} has {graph} without its weights: there is no {data_of(graph)}.",
            f"Put it beside {graph}: the .xml alone is not the model.",
        )
    return graph


def some_of(names: list[str]) -> str:
    """The first names of a list, for messages."""
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
