"""Read a generic model's inputs: arrays by name (.npz, .npy), lines of JSON, or tables (.csv, .parquet).

What does not fit the signature is refused with its name and what was expected, before anything is run.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from modeldrop.errors import RecipeError
from modeldrop.export.inputs import MOST, wrong_count
from modeldrop.export.models.generic.tables import CSV, read_rows
from modeldrop.format.manifest import ANY_RANK, Tensor
from modeldrop.inference.runs import Array, RunStep
from modeldrop.util.text import first_line

_LABELS = frozenset({"label", "labels", "target"})
_HINT = "Inputs are called as the graph's: {}; a label may stand beside, and what an own metric reads."
_NUMBERS = "biuf"


@dataclass(frozen=True, slots=True)
class NamedInput:
    """One input of all graphs it is for: what people are shown, the steps, and what an own metric gets."""

    shown: str
    steps: tuple[RunStep, ...]
    fields: Mapping[str, Any]


def read_inputs(path: Path, signatures: Mapping[str, Sequence[Tensor]], *, further: bool) -> list[NamedInput]:
    """Read the recipe's file.

    Args:
        path: of it.
        signatures: the inputs of every graph, by its role. An input that several graphs have is called ``role/name``.
        further: whether somebody reads what else stands in it.

    Raises:
        RecipeError: it is not what its name says, or does not fit the graphs.
        MissingExtraError: nothing here reads .parquet.
    """
    reader = _ArrayReader(path, signatures, further=further)
    suffix = path.suffix.lower()
    try:
        found = reader.arrays() if suffix in {".npz", ".npy"} else reader.rows(read_rows(path))
        inputs = [one for one, _ in zip(found, range(MOST + 1), strict=False)]
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"inputs: {path} is not UTF-8: {first_line(error)}", "Save it in UTF-8 (encoding='utf-8')."
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        raise RecipeError(f"inputs: {path} is not a whole {suffix} file: {first_line(error)}") from error
    if not inputs or len(inputs) > MOST:
        raise wrong_count(path, inputs, "Take a part of them that has every kind." if inputs else "")
    return inputs


class _ArrayReader:
    def __init__(self, path: Path, signatures: Mapping[str, Sequence[Tensor]], *, further: bool) -> None:
        self._path, self._typed = path, path.suffix.lower() != CSV
        names = [tensor.name for tensors in signatures.values() for tensor in tensors]
        self._roles = signatures
        self._wanted = {
            (tensor.name if names.count(tensor.name) == 1 else f"{role}/{tensor.name}"): (role, tensor)
            for role, tensors in signatures.items()
            for tensor in tensors
        }
        # The long name is no mistake where the short one would do.
        self._aliases = {f"{role}/{tensor.name}": name for name, (role, tensor) in self._wanted.items()}
        self._further = further

    def arrays(self) -> Iterator[NamedInput]:
        """Of numpy's files: an array of the input's own rank is one input as it is; with one more, it has many."""
        # numpy leaves a file open that is not whole.
        with self._path.open("rb") as file:
            try:
                loaded = np.load(file, allow_pickle=False)
                if not isinstance(loaded, np.ndarray):
                    loaded = {name: loaded[name] for name in loaded.files}
            except ValueError as error:
                if not str(error).startswith("Object arrays"):  # it says of everything unknown that it is a pickle
                    raise
                raise RecipeError(
                    f"inputs: {self._path} has an array of Python objects, which is a pickle and is not read.",
                    "Save numbers or texts: array.astype('float32'), or array.astype('U').",
                ) from error
            if isinstance(loaded, np.ndarray):
                if len(self._wanted) != 1:
                    self._refuse(str(self._path), f"is one array, and the model has {len(self._wanted)} inputs")
                arrays = {next(iter(self._wanted)): loaded}
            else:
                arrays = self._by_name(loaded, str(self._path))
        self._check_names(arrays, str(self._path))
        mine = {name: array for name, array in arrays.items() if name in self._wanted}
        many = {array.ndim == len(self._wanted[name][1].shape) + 1 for name, array in mine.items()}
        if many == {True}:
            counts = {len(array) for array in mine.values()}
            if len(counts) != 1:
                self._refuse(str(self._path), f"has arrays of {' and '.join(map(str, sorted(counts)))} inputs")
            for index in range(counts.pop()):
                where = f"input {index + 1} of {self._path}"
                beside = {name: array[index] for name, array in arrays.items() if len(array) > index}
                yield self._input({name: array[index] for name, array in mine.items()}, where, index, beside)
        else:
            yield self._input(mine, str(self._path), 0, arrays)

    def rows(self, rows: Iterator[dict[str, Any]]) -> Iterator[NamedInput]:
        """Of lines and tables: each row is one input, of a batch of one."""
        for index, row in enumerate(rows):
            where = f"row {index + 1} of {self._path}"
            columns = self._by_name(self._columns(row, where), where)
            self._check_names(columns, where)
            mine = {
                name: self._cell(columns[name], self._wanted[name][1], where)
                for name in columns
                if name in self._wanted
            }
            yield self._input(mine, where, index, row)

    def _columns(self, row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """A row by the names of inputs: a model with one matrix has the table's columns in their order."""
        if len(self._wanted) != 1 or not {*self._wanted, *self._aliases}.isdisjoint(row):
            return row
        ((name, (_, tensor)),) = self._wanted.items()
        if tensor.columns:
            lacking = [column for column in tensor.columns if column not in row]
            if lacking:
                self._refuse(where, f"has no column {lacking[0]}: expected are {', '.join(tensor.columns)}")
            rest = {key: value for key, value in row.items() if key not in tensor.columns}
            return {name: [row[column] for column in tensor.columns]} | rest
        columns = {key: value for key, value in row.items() if key not in _LABELS}
        width = tensor.shape[-1] if len(tensor.shape) == 2 else "1"
        if not width.isdecimal() or int(width) == len(columns):
            return {name: list(columns.values())} | {key: row[key] for key in row if key in _LABELS}
        return self._refuse(where, f"has {len(columns)} columns; {_described(tensor)} takes {width}")

    def _by_name(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """What is given, by the shortest names of inputs."""
        named: dict[str, Any] = {}
        for written, value in given.items():
            name = self._aliases.get(written, written)
            if name in named:
                self._refuse(where, f"has {name} twice")
            named[name] = value
        return named

    def _check_names(self, given: Mapping[str, Any], where: str) -> None:
        unknown = [name for name in given if name not in self._wanted and name not in _LABELS]
        if unknown and not self._further:
            self._refuse(where, f"has {unknown[0][:80]!r}, which no input is called")
        there = {self._wanted[name][0] for name in given if name in self._wanted}
        lacking = [name for name, (role, _) in self._wanted.items() if role in there and name not in given]
        if lacking or not there:
            tensor = self._wanted[(lacking or list(self._wanted))[0]][1]
            self._refuse(where, f"has no {tensor.name}: expected is {_described(tensor)}")

    def _cell(self, value: Any, tensor: Tensor, where: str) -> Array:
        array = self._converted(_array(value), tensor, where)
        if array.ndim == len(tensor.shape):
            return array
        if array.ndim < len(tensor.shape):
            return array.reshape(*[1] * (len(tensor.shape) - array.ndim), *array.shape)
        if array.size == 1:
            return array.reshape([1] * len(tensor.shape))
        return self._refuse(where, f"has {tensor.name} of the shape {array.shape}: expected is {_described(tensor)}")

    def _input(self, arrays: Mapping[str, Array], where: str, index: int, beside: Mapping[str, Any]) -> NamedInput:
        steps: dict[str, dict[str, Array]] = {}
        for name, array in arrays.items():
            role, tensor = self._wanted[name]
            converted = self._converted(array, tensor, where)
            self._check_shape(converted, tensor, where)
            steps.setdefault(role, {})[tensor.name] = converted
        if not any(array.size for own in steps.values() for array in own.values()):
            self._refuse(where, "is empty: it would prove nothing")
        ordered = tuple(RunStep(role, steps[role]) for role in self._roles if role in steps)
        fields = {name: _plain(value) for name, value in beside.items()}
        return NamedInput(f"input {index + 1}", ordered, fields)

    def _check_shape(self, array: Array, tensor: Tensor, where: str) -> None:
        if tensor.shape == (ANY_RANK,):
            return
        fits = array.ndim == len(tensor.shape) and all(
            not dim.isdecimal() or int(dim) == size for dim, size in zip(tensor.shape, array.shape, strict=True)
        )
        if not fits:
            self._refuse(where, f"has {tensor.name} of the shape {array.shape}: expected is {_described(tensor)}")

    def _converted(self, array: Array, tensor: Tensor, where: str) -> Array:
        """The array in the input's type, if that loses nothing but a float's digits."""
        kind = array.dtype.kind
        if tensor.dtype == "string":
            if kind not in "OU":
                self._refuse(where, f"has {tensor.name} as {array.dtype}: expected is {_described(tensor)}")
            odd = [one for one in array.ravel() if not isinstance(one, str)]
            if odd:  # None would become the text 'None'
                self._refuse(where, f"has {odd[0]!r:.80} as {tensor.name}: expected is {_described(tensor)}")
            return array.astype(np.str_)
        if kind in "OU":
            array = self._numbers(array, tensor, where)
        elif kind not in _NUMBERS:
            self._refuse(where, f"has {tensor.name} as {array.dtype}: expected is {_described(tensor)}")
        try:
            with np.errstate(all="ignore"):
                converted = array.astype(tensor.dtype)
        except TypeError:
            self._refuse(where, f"cannot hold {tensor.name}, for numpy has no type {tensor.dtype}")
        # Of a float, digits may go, not the number.
        lost = np.isinf(converted) & np.isfinite(array) if converted.dtype.kind == "f" else converted != array
        if lost.any():
            self._refuse(where, f"has {tensor.name} with {array[lost][0].item()!r}: expected is {_described(tensor)}")
        return converted

    def _numbers(self, array: Array, tensor: Tensor, where: str) -> Array:
        def number(text: Any) -> float:
            if text is None or (isinstance(text, str) and not text.strip() and not self._typed):
                return float("nan")
            refused = f"has {str(text)[:80]!r} as {tensor.name}: expected is {_described(tensor)}"
            if isinstance(text, str) and self._typed:  # "1.5" is no number where numbers have a type
                self._refuse(where, refused)
            try:
                return float(text)
            except (TypeError, ValueError):
                self._refuse(where, refused)

        return np.array([number(text) for text in array.ravel()], np.float64).reshape(array.shape)

    def _refuse(self, where: str, what: str) -> NoReturn:
        raise RecipeError(f"inputs: {where} {what}.", _HINT.format(", ".join(self._wanted)))


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} [{', '.join(tensor.shape)}] for {tensor.name}"


def _array(value: Any) -> Array:
    try:
        return np.array(value)
    except ValueError:  # rows of different lengths
        return np.array(value, dtype=object)


def _plain(value: Any) -> Any:
    """What JSON can hold of a value, for an own metric."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value
