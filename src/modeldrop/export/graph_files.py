"""The files of a graph on the disk, ONNX's or OpenVINO's, told by their names; needs neither library."""

from __future__ import annotations

from pathlib import Path

ONE_FILE = 1_900_000_000
"""Bytes up to which an ONNX graph and its weights can be one file: protobuf ends at 2 GiB."""


def graph_parts(path: Path) -> list[Path]:
    """A graph, and the files that hold its weights: ``<file>_data``, or OpenVINO's ``.bin``."""
    return [*path.parent.glob(f"{path.name}*"), *path.parent.glob(f"{path.stem}.bin")]


def graph_bytes(path: Path) -> int:
    """Bytes of a graph and its weights, of either format."""
    return sum(part.stat().st_size for part in graph_parts(path))


def remove_graph(path: Path) -> None:
    """Remove a graph and its weights, of either format, as far as they are there."""
    for part in graph_parts(path):
        part.unlink()
