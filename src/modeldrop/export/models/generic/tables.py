"""Rows of a table by its columns: .csv, .jsonl and .parquet, read row by row."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modeldrop.errors import MissingExtraError, RecipeError
from modeldrop.util.text import first_line

CSV = ".csv"
"""The form that has no types: whatever a cell holds is text."""
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_ROWS = 256


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, each by the names of its columns.

    Raises:
        RecipeError: a row is no row, or columns have no name or the same one.
        MissingExtraError: nothing here reads .parquet.
        ValueError, OSError, csv.Error: it is not what its name says.
    """
    suffix = path.suffix.lower()
    return _json_lines(path) if suffix == ".jsonl" else _csv(path) if suffix == CSV else _parquet(path)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise RecipeError(
                f"inputs: line {number} of {path} is no object.",
                'Write {"name of the input": [numbers], …}, one a line.',
            )
        yield value


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        _check_columns(rows.fieldnames or (), path)
        for row in rows:
            if None in row or None in row.values():
                raise RecipeError(f"inputs: line {rows.line_num} of {path} has not as many cells as the first line.")
            yield {name: value for name, value in row.items() if name is not None}


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError(
            "inputs: .parquet is read by pyarrow, which is not installed in the exporter's environment.",
            "pip install pyarrow, or save the table as .csv.",
        ) from None
    try:
        with parquet.ParquetFile(path) as table:
            names = [name for name in table.schema_arrow.names if not _PANDAS_INDEX.fullmatch(name)]
            _check_columns(names, path)
            for batch in table.iter_batches(_ROWS, columns=names):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ValueError(first_line(error)) from error


def _check_columns(names: Sequence[str], path: Path) -> None:
    if not all(names):
        raise RecipeError(
            f"inputs: {path} has a column without a name.",
            "Name it, or leave it out; pandas writes its index so, unless it is told index=False.",
        )
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise RecipeError(f"inputs: {path} has two columns {twice[:80]!r}.", "Names must be unique.")
    if len(names) == 1 and ";" in names[0]:
        raise RecipeError(f"inputs: {path} parts its cells by semicolons.", "Save it with commas (sep=',').")
