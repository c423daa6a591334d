"""What a publisher's process takes of memory while it uploads a file of 1 GiB to a service that it did not bring."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.storage.write import open_store
from tests.helpers.builds import PIECE, describe
from tests.helpers.clouds import sign_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers

SIZE = 1 << 30
MEGABYTES = 100
KEY = "embedder/v1/onnx/model.onnx"
UPLOAD = """\
import json, sys
from pathlib import Path
from modeldrop.format.manifest import File
from modeldrop.storage.write import open_store
registry, key, path, described, piece_size = sys.argv[1:]
path_in_version, size, sha256, pieces = json.loads(Path(described).read_text())
file = File(path_in_version, size, sha256, tuple(pieces))
open_store(registry).upload(key, Path(path), file, int(piece_size), lambda done: None)
"""
# A process begins with the memory that its parent had: this small one is the parent, and not the tests.
_WATCH = """\
import os, subprocess, sys
_, status, usage = os.wait4(subprocess.Popen(sys.argv[1:]).pid, 0)
print(usage.ru_maxrss)
sys.exit(1 if status else 0)
"""


@pytest.mark.soak
def test_uploading_a_large_file_takes_little_memory(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers["seaweedfs"]
    sign_in(monkeypatch, server)
    registry = server.registry()
    path, described = tmp_path / "model.onnx", tmp_path / "described.json"
    with path.open("wb") as file:
        file.truncate(SIZE)
    one = describe("model.onnx", bytes(PIECE))
    digest = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True).stdout.split()[0]
    described.write_text(json.dumps(("model.onnx", SIZE, digest, one.pieces * (SIZE // PIECE))))
    command = [sys.executable, "-c", UPLOAD, registry, KEY, str(path), str(described), str(PIECE)]
    child = subprocess.Popen([sys.executable, "-S", "-c", _WATCH, *command], stdout=subprocess.PIPE, text=True)
    told, _ = child.communicate()
    assert child.returncode == 0
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(told) * unit / 1e6 < MEGABYTES
    stored = open_store(registry)
    assert [(found.key, found.size) for found in stored.objects("embedder/v1")] == [(KEY, SIZE)]
