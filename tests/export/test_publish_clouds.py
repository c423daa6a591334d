"""One build, four registries: the whole way from a checkpoint to a container without any cloud's SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.checkpoints import bert
from tests.helpers.clouds import Servers, sign_in
from tests.helpers.command_line import RUNTIME_PYTHON, modeldrop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.heavy


def test_one_command_publishes_to_all_and_a_rerun_fills_what_lags(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clouds = [servers[name] for name in ("s3", "gcs", "azure")]
    sign_in(monkeypatch, *clouds)
    registries = [cloud.registry() for cloud in clouds]
    folder = str(tmp_path / "registry")
    checkpoint = str(bert(tmp_path / "checkpoint"))
    command = ["publish", checkpoint, f"{registries[0]}/embedder", "--json"]
    for registry in registries[1:]:
        command += ["--also", registry]

    built = modeldrop(*command)
    assert built.code == 0, built.err
    everywhere = [built.json, *built.json["also"]]
    assert [item["registry"] for item in everywhere] == registries
    assert len({item["digest"] for item in everywhere}) == 1
    assert all(item["built"] and item["channel"]["moved"] for item in everywhere)

    # What lags behind is filled without an exporter.
    nothing = {"MODELDROP_EXPORTER_PYTHON": "/nowhere"}
    filled = modeldrop(*command, "--also", folder, environment=nothing)
    assert filled.code == 0, filled.err
    assert not filled.json["built"]
    added = filled.json["also"][-1]
    assert (added["registry"], added["mirrored"], added["digest"]) == (folder, True, built.json["digest"])
    assert added["channel"]["moved"]
    assert not any(item["channel"]["moved"] for item in [filled.json, *filled.json["also"][:-1]])

    unchanged = modeldrop(*command, "--also", folder, environment=nothing)
    assert unchanged.code == 0, unchanged.err
    assert not any(item["built"] or item["mirrored"] for item in [unchanged.json, *unchanged.json["also"]])
    assert modeldrop("plan", checkpoint, f"{registries[1]}/embedder", "--json").json["would_build"] is False

    twice = modeldrop(*command, "--also", f"{registries[0]}/")
    assert (twice.code, "is named twice" in twice.err) == (2, True)

    snapshots = []
    for number, registry in enumerate([*registries, folder]):
        fetched = modeldrop("fetch", f"{registry}/embedder", "-d", tmp_path / f"home {number}", python=RUNTIME_PYTHON)
        assert fetched.code == 0, fetched.err
        snapshots.append(tmp_path / f"home {number}" / "embedder" / "current")
    for snapshot in snapshots[1:]:
        for path in snapshots[0].rglob("*.*"):
            assert (snapshot / path.relative_to(snapshots[0])).read_bytes() == path.read_bytes()
