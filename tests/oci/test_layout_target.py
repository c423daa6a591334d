"""``modeldrop export`` into a folder with an OCI layout."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.oci.conftest import Run


def index(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "index.json").read_text())
    assert (found["schemaVersion"], found["mediaType"]) == (2, "application/vnd.oci.image.index.v1+json")
    return {one["annotations"]["org.opencontainers.image.ref.name"]: one for one in found["manifests"]}


def check_whole(folder: Path) -> None:
    """All that the index names, and what that names in turn, is there and has its digest; nothing else is."""
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    waiting, seen = [*index(folder).values()], set()
    while waiting:
        one = waiting.pop()
        data = (folder / "blobs/sha256" / one["digest"].removeprefix("sha256:")).read_bytes()
        assert (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) == (one["digest"], one["size"])
        seen.add(one["digest"].removeprefix("sha256:"))
        if "index" in one["mediaType"] or "manifest" in one["mediaType"]:
            document = json.loads(data)
            waiting += [*document.get("manifests", ()), *document.get("layers", ())]
            waiting += [document["config"]] if "config" in document else []
    assert {path.name for path in (folder / "blobs/sha256").iterdir()} == seen
    assert {path.name for path in folder.iterdir()} == {"oci-layout", "index.json", "blobs"}


def test_a_layout_is_made_and_added_to(export: Run, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "layout"
    assert export(f"oci:{folder}:x")[0] == 0
    check_whole(folder)
    code, out, err = export(f"oci:{folder}", variant="fp32")
    assert code == 0, err
    check_whole(folder)
    assert {*index(folder)} == {"x", "x-modelpack", "v1-fp32", "v1-fp32-modelpack"}
    before = (folder / "index.json").stat()
    code, out, _ = export(f"oci:{folder}:x")
    assert (code, out.count("there already")) == (0, 2)
    assert (folder / "index.json").stat() == before


def test_a_tag_of_a_layout_moves_only_when_told(export: Run, tmp_path: Path) -> None:
    folder = tmp_path / "layout"
    assert export(f"oci:{folder}:x")[0] == 0
    before = index(folder)["x"]["digest"]
    code, _, err = export(f"oci:{folder}:x", variant="fp32")
    assert code == 17
    assert f"names {index(folder)['x-modelpack']['digest']}, and not" in err
    check_whole(folder)
    assert export(f"oci:{folder}:x", "--replace", variant="fp32")[0] == 0
    assert index(folder)["x"]["digest"] != before


def test_a_folder_that_is_something_else_is_refused(export: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    code, _, err = export(f"oci:{other}:x")
    assert (code, "is no OCI layout" in err) == (2, True)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]
    (other / "oci-layout").write_text("{}")
    for damaged in ("no JSON", "[]", '{"manifests": 5}', '{"manifests": [{"digest": 5}]}', '{"manifests": [5]}'):
        (other / "index.json").write_text(damaged)
        code, _, err = export(f"oci:{other}:x")
        assert (code, "is no index of an OCI layout" in err) == (2, True), damaged
        assert (other / "index.json").read_text() == damaged


def test_a_full_disk_leaves_nothing_half_written(export: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "layout"

    def full(_descriptor: int) -> None:
        if any(path.stat().st_size > 100_000 for path in folder.rglob("*.tmp")):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = export(f"oci:{folder}:x")
    assert (code, "No space left on device" in err) == (15, True)
    assert not folder.exists()
    monkeypatch.undo()
    assert export(f"oci:{folder}:y")[0] == 0
    monkeypatch.setattr(os, "fsync", full)
    code, _, _ = export(f"oci:{folder}:x", variant="fp32")
    assert code == 15
    check_whole(folder)


def test_a_place_that_cannot_be_written_is_told(export: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = export(f"oci:{tmp_path}/file/layout:x")
    assert (code, "cannot be used: Not a directory" in err) == (15, True), err
