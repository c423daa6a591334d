"""Where the graphs of a variant are in a snapshot: as published, under ``--as``, or where ``--for`` a program looks.

A snapshot with a renamed file is a different one from the plain snapshot of the same variant: its folder's name ends in
``+`` and a digest of the renaming, and it holds the renaming in a file whose name no version's file can have.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from modeldrop.errors import FormatError, UsageError
from modeldrop.format.json_fields import dump, load_json
from modeldrop.format.names import check_distinct, check_path, hex_digest
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modeldrop.fetcher.consumers import Consumer
    from modeldrop.fetcher.snapshot import LocalSnapshot
    from modeldrop.format.manifest import Manifest, Variant

RENAMES_FILE = ".modeldrop.json"
_MAX_BYTES = 64 << 10
_DIGITS = 8
_OPENVINO = ".xml"
_DATA_ENDINGS = ("_data", ".data", ".bin", ".weight", ".weights")


class Layout(NamedTuple):
    """What a snapshot's layout was asked to be; at most one of the two is given.

    Attributes:
        as_name: the path of its graph, or "".
        consumer: the name of the program that will load it, or "".
    """

    as_name: str = ""
    consumer: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether all files are where the version has them."""
        return not (self.as_name or self.consumer)

    @property
    def link_suffix(self) -> str:
        """How the name of its link ends: a layout has its own."""
        return f"-for-{self.consumer}" if self.consumer else "-as" if self.as_name else ""

    def readable(self, manifest: Manifest, wanted: str | None) -> Manifest:
        """The manifest with only the variants that may be chosen for it; see ``Consumer.readable``."""
        return self._program().readable(manifest, wanted) if self.consumer else manifest

    def renames(self, manifest: Manifest, variant: Variant) -> dict[str, str]:
        """Which files of a variant get another path: path in the version to path on the disk.

        Raises:
            UsageError: they cannot get it.
        """
        if self.as_name:
            return rename_graph(manifest, variant, self.as_name)
        if not self.consumer:
            return {}
        paths = self._program().paths(variant)
        try:
            check_distinct(paths.get(path, path) for path in variant.files)
        except FormatError as error:
            raise UsageError(
                f"--for {self.consumer}: the variant {variant.name} has another file there: "
                f"{error.message.removeprefix('files: ')}.",
                "Fetch it without --for.",
            ) from None
        return paths

    def fits(self, snapshot: LocalSnapshot) -> bool:
        """Whether a snapshot has it.

        Raises:
            FormatError, OSError: the snapshot was changed.
        """
        if self.as_name:
            return snapshot.model == self.as_name
        if not self.consumer:
            return not snapshot.suffix
        program, variant = self._program(), snapshot.manifest.variant(snapshot.variant)
        return variant is not None and program.reads(variant) and program.paths(variant) == dict(snapshot.renamed)

    def _program(self) -> Consumer:
        from modeldrop.fetcher.consumers import consumer_named  # most fetches need no table

        return consumer_named(self.consumer)


PLAIN = Layout()


def rename_graph(manifest: Manifest, variant: Variant, name: str) -> dict[str, str]:
    """Which files of a variant get another path: path in the version to path on the disk.

    Args:
        manifest: the version's.
        variant: the one that was chosen.
        name: the path that its graph is to have in the snapshot, such as ``onnx/model.onnx``.

    Raises:
        UsageError: the path is not allowed, another file of the variant has it, or the graph would lose its weights.
    """
    graph = variant.model
    if variant.others:
        raise UsageError(
            f"--as {name}: one path is for one graph; this model has {', '.join(variant.graphs)}.",
            "Name the program that will load it: --for transformers.js, optimum, … (docs/consumers.md).",
        )
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
    data = [path for path in others if _is_external_data(path, graph)]
    if ending == _OPENVINO:
        raise UsageError(
            f"--as {name}: OpenVINO finds the weights of {graph} by its name.",
            "Fetch this variant without --as, or an ONNX variant with it.",
        )
    # Its weights keep their names, which the graph says, and go where it goes.
    along = {path: posixpath.join(posixpath.dirname(name), posixpath.basename(path)) for path in data}
    try:
        check_distinct([*(along.get(path, path) for path in others), name])
    except FormatError as error:
        raise UsageError(
            f"--as {name}: the variant {variant.name} has another file there: {error.message.removeprefix('files: ')}.",
            "Choose another path for the graph.",
        ) from None
    return {graph: name} | {old: new for old, new in along.items() if old != new}


def renamed_variant(variant: Variant, renamed: Mapping[str, str]) -> Variant:
    """A variant whose graphs have the paths that they have in a snapshot."""
    return variant._replace(
        model=renamed.get(variant.model, variant.model),
        others=tuple(graph._replace(path=renamed.get(graph.path, graph.path)) for graph in variant.others),
    )


def folder_suffix(renamed: Mapping[str, str]) -> str:
    """How the name of a snapshot's folder ends; "" where no file is renamed."""
    return f"+{hex_digest(renames_file(renamed))[:_DIGITS]}" if renamed else ""


def renames_file(renamed: Mapping[str, str]) -> bytes:
    """The content of the file that holds the renaming."""
    pairs: dict[str, Any] = dict(sorted(renamed.items()))
    return dump({"renamed": pairs})


def read_renames(folder: Path) -> dict[str, str]:
    """The renaming of a finished snapshot; {} where no file is renamed.

    Raises:
        FormatError: the file that holds it was changed by hand.
        OSError: it cannot be read.
    """
    try:
        data = (folder / RENAMES_FILE).read_bytes()
    except FileNotFoundError:
        return {}
    found = load_json(data, "note of renamed files", limit=_MAX_BYTES).child("renamed")
    return {old: check_path(found.text(old)) for old in found.names()}


def _is_external_data(path: str, graph: str) -> bool:
    """Whether a file holds weights of the graph, as far as names tell."""
    if posixpath.dirname(path) != posixpath.dirname(graph):
        return False
    name, stem = posixpath.basename(path), posixpath.splitext(posixpath.basename(graph))[0]
    return name.startswith(f"{stem}.") or name.endswith(_DATA_ENDINGS)
