"""What a recipe's own inputs may look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldrop.build.request import make_request
from modeldrop.build.samples import sample_of
from modeldrop.build.sources.checkpoint import CheckpointSource
from modeldrop.errors import RecipeError
from modeldrop.format.recipe import Recipe
from tests.build.test_source_checkpoint import model


def samples(folder: Path, name: str, text: str) -> list[tuple[str, ...]]:
    path = folder / name
    path.write_text(text, "utf-8")
    request = make_request(CheckpointSource(model(folder / "m")), Recipe(texts=str(path)))
    return [sample_of(line) for line in request.texts]


def test_lines_are_texts_and_a_tab_parts_a_pair(tmp_path: Path) -> None:
    assert samples(tmp_path, "t.txt", "one\n\n two \nwho\tme\n") == [("one",), ("two",), ("who", "me")]


def test_json_lines_are_texts_and_pairs(tmp_path: Path) -> None:
    text = (
        '"one\\ntwo"\n["who", "me\\tyou"]\n\n{"text": "three\u2028four"}\n{"query": "q", "passage": "p"}\n'
        '{"text": "a", "text_pair": "b"}\n'
    )
    assert samples(tmp_path, "t.jsonl", text) == [
        ("one\ntwo",),
        ("who", "me you"),
        ("three\u2028four",),
        ("q", "p"),
        ("a", "b"),
    ]


@pytest.mark.parametrize("line", ["[1]", "{}", '{"txt": "a"}', '["a", "b", "c"]', '""', "one", "[", "null"])
def test_a_line_of_json_that_is_neither_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"texts: line 2 of .* is neither a text nor a pair"):
        samples(tmp_path, "t.jsonl", f'"fine"\n{line}\n')
