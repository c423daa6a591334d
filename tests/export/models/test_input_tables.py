"""A generic model's inputs in tables and arrays: what is read of each form, and what is refused by which name."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from modeldrop.errors import RecipeError
from modeldrop.export.models.generic.inputs import read_inputs
from modeldrop.format.manifest import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

AGE = Tensor("age", "float32", ("rows", "1"))
CITY = Tensor("city", "string", ("rows", "1"))
ROOMS = Tensor("rooms", "int64", ("rows", "1"))
PEOPLE = [AGE, CITY, ROOMS]
GOOD = {"age": [30.5, 41.0], "city": ["Oslo", "Rome"], "rooms": [3, 4]}
NAMED = Tensor("X", "float32", ("rows", "2"), columns=("height", "width"))


def save(folder: Path, form: str, columns: Mapping[str, Any]) -> Path:
    path = folder / f"rows.{form}"
    frame = pd.DataFrame(columns)
    if form == "parquet":
        parquet.write_table(pa.table(dict(columns)), path)
    elif form == "jsonl":
        path.write_text(frame.to_json(orient="records", lines=True, date_format="iso"))
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_table_is_read_by_its_columns(form: str, tmp_path: Path) -> None:
    path = save(tmp_path, form, dict(reversed(GOOD.items())) | {"label": [1, 0]})
    found = read_inputs(path, {"model": PEOPLE}, further=False)
    arrays = [one.steps[0].inputs for one in found]
    assert [{name: array.tolist() for name, array in one.items()} for one in arrays] == [  # type: ignore[union-attr]
        {"age": [[30.5]], "city": [["Oslo"]], "rooms": [[3]]},
        {"age": [[41.0]], "city": [["Rome"]], "rooms": [[4]]},
    ]
    assert {name: array.dtype.kind for name, array in arrays[0].items()} == {"age": "f", "city": "U", "rooms": "i"}  # type: ignore[union-attr]
    assert found[1].fields["label"] == ("0" if form == "csv" else 0)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"city": None}, r"row 1 of .* has no city: expected is string \[rows, 1\] for city"),
        ({"colour": ["red", "blue"]}, "row 1 of .* has 'colour', which no input is called"),
        ({"age": ["old", "young"]}, r"has 'old' as age: expected is float32 \[rows, 1\]"),
        ({"rooms": [3, 4.5]}, r"row 2 of .* has rooms with .*4\.5.*: expected is int64"),
        ({"age": [1e300, 1.0]}, r"has age with 1e\+300: expected is float32"),
        (
            {"age": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 2},
            "has '2026-01-01.* as age: expected is float32",
        ),
    ],
    ids=["no column", "another column", "text", "a fraction", "too large", "a time"],
)
def test_a_table_that_does_not_fit_is_refused_by_name(
    form: str, change: Mapping[str, Any], says: str, tmp_path: Path
) -> None:
    columns = {name: values for name, values in {**GOOD, **change}.items() if values is not None}
    with pytest.raises(RecipeError, match=says):
        read_inputs(save(tmp_path, form, columns), {"model": PEOPLE}, further=False)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"age": ["30.5", "41"]}, r"has '30\.5' as age: expected is float32"),
        ({"city": [1, 2]}, "has city as int64: expected is string"),
        ({"city": ["Oslo", None]}, "row 2 of .* has None as city: expected is string"),
    ],
    ids=["a number as text", "text as a number", "nothing"],
)
def test_forms_with_types_are_held_to_them(form: str, change: Mapping[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=says):
        read_inputs(save(tmp_path, form, {**GOOD, **change}), {"model": PEOPLE}, further=False)


@pytest.mark.parametrize(
    ("columns", "numbers"),
    [
        ({"width": [1, 2], "height": [3, 4]}, [[3.0, 1.0], [4.0, 2.0]]),
        ({"height": [Decimal("1.5"), Decimal(2)], "width": [True, False]}, [[1.5, 1.0], [2.0, 0.0]]),
        ({"X": [[1.0, 2.0], [3.0, 4.0]]}, [[1.0, 2.0], [3.0, 4.0]]),
    ],
    ids=["by name", "other types", "lists"],
)
def test_columns_of_parquet_are_those_of_a_matrix(columns: Mapping[str, Any], numbers: Any, tmp_path: Path) -> None:
    found = read_inputs(save(tmp_path, "parquet", columns), {"model": [NAMED]}, further=False)
    assert np.concatenate([one.steps[0].inputs["X"] for one in found]).tolist() == numbers


def test_nothing_in_a_column_of_numbers_is_no_number(tmp_path: Path) -> None:
    for form in ("parquet", "csv", "jsonl"):
        path = save(tmp_path, form, {"height": [None, 1.0], "width": [2.0, 3.0]})
        first, _ = read_inputs(path, {"model": [NAMED]}, further=False)
        assert np.isnan(first.steps[0].inputs["X"][0][0])  # type: ignore[index]


def test_what_pandas_writes_besides_is_known(tmp_path: Path) -> None:
    frame = pd.DataFrame({"height": [1.0, 2.0, 3.0], "width": [1.0, 2.0, 3.0]})
    frame.index = pd.Index([5, 1, 9])
    frame.to_parquet(tmp_path / "rows.parquet")
    assert "__index_level_0__" in parquet.read_schema(tmp_path / "rows.parquet").names
    assert len(read_inputs(tmp_path / "rows.parquet", {"model": [NAMED]}, further=False)) == 3
    frame.to_csv(tmp_path / "rows.csv")
    with pytest.raises(RecipeError, match="has a column without a name") as caught:
        read_inputs(tmp_path / "rows.csv", {"model": [NAMED]}, further=False)
    assert "index=False" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"height,height\n1,2\n", "two columns 'height'"),
        ("a.csv", b"height;width\n1;2\n", "parts its cells by semicolons"),
        ("a.csv", b"height,width\n1,2,3\n", "line 2 of .* has not as many cells"),
        ("a.csv", b"height,width\n\xff,2\n", "is not UTF-8"),
        ("a.csv", "height,width\n1,2\n".encode("utf-16"), "is not UTF-8"),
        ("a.csv", b"height,width\n" + b"1,2\n" * 2010, "has more than 2000 inputs"),
        ("a.jsonl", b'{"X": "\xe4"}', "is not UTF-8"),
        ("a.csv", b"", "no inputs"),
        ("a.csv", b"height\n1\n", "has no column width: expected are height, width"),
        ("a.jsonl", b'{"height": 1, "width": 2}\n{', "line 2 of .* is no object"),
        ("a.jsonl", b'{"X": [1, [2]]}\n', "as X: expected is float32"),
        ("a.parquet", b"PAR1 and no more", r"is not a whole \.parquet file"),
        ("a.parquet", b"", r"is not a whole \.parquet file"),
        ("a.npz", b"PK\3\4", r"is not a whole \.npz file"),
        ("a.npy", b"\x93NUMPY", r"is not a whole \.npy file"),
    ],
)
def test_files_that_are_not_what_they_say(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=says):
        read_inputs(tmp_path / name, {"model": [NAMED]}, further=False)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((2, 3)), r"has X of the shape \(2, 3\): expected is float32 \[rows, 2\]"),
        (np.array([["a", "b"]]), "has 'a' as X"),
        (np.array([["1", "2"]]), "has '1' as X"),
        (np.array([[1j, 2]]), "has X as complex128"),
        (np.array([["2026-01-01", "2026-01-02"]], "datetime64[D]"), "has X as datetime64"),
        (np.array([[None, "a"]], object), "has an array of Python objects, which is a pickle"),
        (np.ones((0, 2)), "is empty: it would prove nothing"),
        (np.array([[1e39, 0]]), r"has X with .*1e\+39"),
    ],
    ids=["shape", "texts", "numbers as texts", "complex", "times", "objects", "empty", "too large"],
)
def test_arrays_that_do_not_fit_are_refused_by_name(array: Any, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", X=array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(RecipeError, match=says):
            read_inputs(tmp_path / name, {"model": [NAMED]}, further=False)


def test_the_long_name_of_an_input_does_as_well(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"read/x": np.ones((1, 2)), "find/x": np.ones((1, 2)), "read/rate": np.ones((1, 1))}
    np.savez(tmp_path / "a.npz", **arrays)
    x = Tensor("x", "float32", ("1", "2"))
    signatures = {"find": [x], "read": [x, Tensor("rate", "float32", ("1", "1"))]}
    (one,) = read_inputs(tmp_path / "a.npz", signatures, further=False)
    assert [(step.graph, sorted(step.inputs)) for step in one.steps] == [("find", ["x"]), ("read", ["rate", "x"])]
    (tmp_path / "a.jsonl").write_text('{"model/X": [1, 2], "X": [1, 2]}\n')
    with pytest.raises(RecipeError, match="has X twice"):
        read_inputs(tmp_path / "a.jsonl", {"model": [NAMED]}, further=False)
    (tmp_path / "a.jsonl").write_text('{"model/X": [1, 2]}\n')
    assert read_inputs(tmp_path / "a.jsonl", {"model": [NAMED]}, further=False)[0].shown == "input 1"
