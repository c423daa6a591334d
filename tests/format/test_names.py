from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError, UsageError
from modeldrop.format.names import (
    TIME,
    check_channel,
    check_distinct,
    check_model,
    check_path,
    fold,
    parse_version,
)
from tests.format.hostile import HOSTILE_PATHS
from tests.format.strategies import channel_names, names, paths, version_numbers

MEETING_PATHS = {
    "repeated": ("a.txt", "a.txt"),
    "case": ("Config.json", "config.json"),
    "case of a folder": ("ONNX/model.onnx", "onnx/model.onnx"),
    "NFD and NFC": (unicodedata.normalize("NFD", "é"), unicodedata.normalize("NFC", "é")),
    "full width": ("\uff41.txt", "a.txt"),
    "sharp s": ("straße", "STRASSE"),
    "ligature": ("\ufb01le", "file"),
    "sigma": ("σς", "ΣΣ"),
    "file and folder": ("onnx", "onnx/model.onnx"),
    "folder and file": ("onnx/deep/model.onnx", "onnx/deep"),
    "file and folder by case": ("onnx/model.onnx", "ONNX"),
}


@pytest.mark.parametrize("path", HOSTILE_PATHS.values(), ids=HOSTILE_PATHS)
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(FormatError) as caught:
        check_path(path, "files[0].path")
    assert caught.value.field == "files[0].path"
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "model.onnx",
        "onnx/model.onnx_data",
        "onnx/manifest.json",
        ".gitattributes",
        "1_Pooling/config.json",
        "größe/模型.json",
        "a b/c",
        "a" * 255,
        "a/" * 255 + "x",
    ],
)
def test_good_paths_are_kept(path: str) -> None:
    assert check_path(path) == path


@given(st.text())
def test_arbitrary_paths_raise_nothing_else(path: str) -> None:
    try:
        assert check_path(path) == path
    except FormatError:
        return
    assert unicodedata.normalize("NFC", path) == path
    assert not {"", ".", ".."} & set(path.split("/"))


@pytest.mark.parametrize("pair", MEETING_PATHS.values(), ids=MEETING_PATHS)
def test_paths_that_meet_are_refused(pair: tuple[str, str]) -> None:
    for order in (pair, pair[::-1]):
        with pytest.raises(FormatError, match=r"^files: "):
            check_distinct(order)


def test_neighbours_do_not_meet() -> None:
    check_distinct(["onnx/model.onnx", "onnx/model.onnx_data", "onnx.txt", "onnx-model", "a/b", "ab"])


def test_ten_thousand_deep_paths_are_checked_quickly() -> None:
    check_distinct(f"{number}/" + "a/" * 250 + "x" for number in range(10_000))


@given(paths | st.text())
def test_fold_is_idempotent(path: str) -> None:
    assert fold(fold(path)) == fold(path)
    assert fold(unicodedata.normalize("NFD", path)) == fold(path)


@given(names)
def test_good_models(name: str) -> None:
    assert check_model(name) == name


@given(channel_names)
def test_good_channels(name: str) -> None:
    assert check_channel(name) == name


@given(version_numbers)
def test_good_versions(number: int) -> None:
    assert parse_version(f"v{number}") == number


BAD_NAMES = ["", "A", "-a", ".a", "_a", "a/b", "a b", "a\n", "é", "a" * 65, "a@b", "..", "a\0", "٣"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_models(name: str) -> None:
    with pytest.raises(UsageError):
        check_model(name)


@pytest.mark.parametrize("name", [*BAD_NAMES, "builds", "v1", "v0", "v007", "v99999999999"])
def test_bad_channels(name: str) -> None:
    with pytest.raises(UsageError):
        check_channel(name)


@pytest.mark.parametrize("text", ["", "v", "v0", "v01", "V1", "1", "v-1", "v1.0", "v1\n", "v٣", "v1000000000"])
def test_bad_versions(text: str) -> None:
    with pytest.raises(UsageError):
        parse_version(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T09:41:07",
        "2026-11-20T09:41:07+00:00",
        "2026-11-20 09:41:07Z",
        "2026-11-20T09:41:07.5Z",
        "2026-13-20T09:41:07Z",
        "2026-11-32T09:41:07Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T09:60:00Z",
        "٢٠٢٦-11-20T09:41:07Z",
        "2026-11-20T09:41:07Z\n",
    ],
)
def test_bad_times(text: str) -> None:
    assert TIME.fullmatch("2026-11-20T09:41:07Z")
    assert not TIME.fullmatch(text)
