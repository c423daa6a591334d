"""Choose a generic model's files by their names: graphs as they are, or a framework's model, and what travels along.

What is known of no task is taken as it is: one ONNX graph, or several that lie in a folder, which are one model. A
model that a tabular framework saved is one file. Side files (labels, vocabularies, what preprocesses) are what the
recipe names; else, of a folder, what lies beside the graphs and looks like such; of a file, what is called like it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from modeldrop.errors import SourceError
from modeldrop.export.sources import graphs
from modeldrop.format.manifest import MODEL
from modeldrop.format.names import is_own_file
from modeldrop.format.variants import FP32, OPENVINO, VARIANTS

ONNX = "ONNX"
PYTORCH = "PyTorch"
FRAMEWORKS = {
    ".skops": "scikit-learn",
    ".joblib": "scikit-learn",
    ".pkl": "scikit-learn",
    ".pickle": "scikit-learn",
    ".txt": "LightGBM",
    ".json": "XGBoost",
    ".ubj": "XGBoost",
    ".cbm": "CatBoost",
}
"""The frameworks whose models are converted, by the endings of the files that they save."""
PICKLES = (".joblib", ".pkl", ".pickle")
_TOLD_BY_NAME = frozenset(FRAMEWORKS) - {".txt", ".json"}
"""Endings that nothing else has: a file with one is a model without being named."""
_SIDE_FILE = re.compile(
    r".+\.(?:txt|json|ya?ml|labels|names|classes|vocab|model|spm|bpe|dict|proto|cfg|ini|md)|(?:LICEN[CS]E|NOTICE)[^/]*",
    re.IGNORECASE,
)
_NO_SIDE_FILE = re.compile(r"requirements[^/]*\.txt|(?:manifest|package|package-lock)\.json|mkdocs\.yml|\..*")
_SUFFIXES = tuple(spec.suffix for spec in VARIANTS.values() if spec.suffix and spec.quantizer != OPENVINO)
_ROLE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_ROLE = 64


def is_model(name: str) -> bool:
    """Whether a file that is named as a source is one model: a graph, or what a framework saved."""
    return name.endswith(".onnx") or PurePosixPath(name).suffix in FRAMEWORKS


def choose_graphs(names: Sequence[str], wanted: str, *, where: str) -> dict[str, str]:
    """The graphs of a generic model by role; {} where there are none.

    Args:
        names: every file of the source.
        wanted: a graph's file, a folder of them, or "" for those at the root or in ``onnx/``.
        where: how messages call the source.

    Raises:
        SourceError: the one that is named is not there; or two would have the same role.
    """
    if wanted.endswith(".onnx"):
        if wanted not in names:
            raise graphs.missing_graph(names, wanted, where=where)
        return {MODEL: wanted}
    folders = (f"{wanted.strip('/')}/".removeprefix("./"),) if wanted.strip("/.") else ("", "onnx/")
    for folder in folders:
        here = [name for name in names if name.endswith(".onnx") and name.rpartition("/")[0] + "/" == (folder or "/")]
        stems = {PurePosixPath(name).stem for name in here}
        # onnx/model_fp16.onnx beside onnx/model.onnx is the same model again.
        whole = [name for name in here if not _is_other_form(PurePosixPath(name).stem, stems)]
        if len(whole) == 1:
            return {MODEL: whole[0]}
        roles = {_ROLE.sub("_", PurePosixPath(name).stem)[:_LONGEST_ROLE]: name for name in sorted(whole)}
        if len(roles) < len(whole):
            raise SourceError(
                f"{where} has graphs whose names differ in odd letters alone: {', '.join(sorted(whole)[:4])}.",
                "Give them names of letters, digits, '.', '_' and '-'.",
            )
        if roles:
            return roles
    return {}


def _is_other_form(stem: str, stems: Iterable[str]) -> bool:
    return any(stem.endswith(suffix) and stem.removesuffix(suffix) in stems for suffix in _SUFFIXES)


def named_model(names: Sequence[str], wanted: str, *, where: str) -> str:
    """The file of a framework's model; "" where there is none.

    Args:
        names: every file of the source.
        wanted: the file, or "" for the only one whose name tells it.
        where: how messages call the source.

    Raises:
        SourceError: the one that is named is not there, or there are several.
    """
    if PurePosixPath(wanted).suffix in FRAMEWORKS:
        if wanted not in names:
            raise SourceError(f"{where} has no file {wanted}.", "Check its name.")
        return wanted
    if wanted:  # something else, whatever models lie beside it
        return ""
    found = [name for name in names if PurePosixPath(name).suffix in _TOLD_BY_NAME and "/" not in name]
    if len(found) > 1:
        raise SourceError(
            f"{where} has {len(found)} models: {', '.join(found[:4])}.", f"Name one of them: SOURCE#{found[0]}"
        )
    return found[0] if found else ""


def side_files(
    names: Sequence[str], models: Sequence[str], wanted: str, files: Sequence[str], *, where: str
) -> list[str]:
    """The files that travel with graphs.

    Args:
        names: every file of the source.
        models: the graphs, or the framework's model.
        wanted: the file that was named as the model; "", or a folder, where all that lies beside it travels.
        files: the recipe's own patterns; () for what looks like a side file.
        where: how messages call the source.

    Raises:
        SourceError: a pattern matches nothing, or a name that a version needs itself.
    """
    others = [name for name in names if name not in models]
    if files:
        found = []
        for pattern in files:
            matching = [name for name in others if fnmatchcase(name, pattern)]
            if not matching:
                raise SourceError(
                    f"files: {where} has no file {pattern}.", "Paths are those in the source; * stands for any letters."
                )
            found += matching
        taken = sorted(filter(is_own_file, found))
        if taken:
            raise SourceError(f"files: a version has its own {taken[0]}.", "Give the file another name.")
        return sorted(set(found))
    folders = {"", *(name.rpartition("/")[0] for name in models)}
    beside = [name for name in others if name.rpartition("/")[0] in folders and _is_side_file(name)]
    if is_model(wanted):
        stem = PurePosixPath(wanted).stem
        beside = [name for name in beside if re.match(rf"{re.escape(stem)}[._-]", PurePosixPath(name).name)]
    return beside


def _is_side_file(name: str) -> bool:
    file = PurePosixPath(name).name
    looks = _SIDE_FILE.fullmatch(file) is not None and _NO_SIDE_FILE.fullmatch(file) is None
    return looks and not is_own_file(name)


def variant_by_name(names: Iterable[str]) -> str:
    """The variant that graphs are by their names, where their content is not at hand: fp32 unless these say another."""
    for name in names:
        stem = PurePosixPath(name).stem
        for spec in VARIANTS.values():
            if spec.suffix and spec.quantizer != OPENVINO and stem.endswith(spec.suffix):
                return spec.name
    return FP32.name
