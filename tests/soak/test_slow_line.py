"""A download over 100 kB/s that is killed five times."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.helpers.builds import finish, start
from tests.helpers.clouds import sign_in
from tests.servers.faults import FaultyServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak

SIZE = 8 << 20
KILLS = 5
_TRANSFER = """
import sys
from pathlib import Path
from blake3 import blake3
from modeldrop.fetcher.download.transfer import transfer
from modeldrop.fetcher.options import time_limit
from modeldrop.format.manifest import File
from modeldrop.storage.read.interface import open_reader
data, into = Path(sys.argv[1]).read_bytes(), Path(sys.argv[3])
pieces = tuple(blake3(data[start : start + (1 << 20)]).hexdigest() for start in range(0, len(data), 1 << 20))
transfer(open_reader(sys.argv[2]), "m/v1", [File("model.onnx", len(data), "", pieces)], 1 << 20, into,
    deadline=time_limit(3600), progress=lambda _: None, unfinished=into.parent)
"""


def test_five_kills_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, into = tmp_path / "served/m/v1/model.onnx", tmp_path / "into"
    file.parent.mkdir(parents=True)
    file.write_bytes(random.Random(1).randbytes(SIZE))
    into.mkdir()
    with FaultyServer(tmp_path / "served") as server:
        sign_in(monkeypatch, server)
        server.rate = 100e3
        for kill in range(1, KILLS + 1):
            process = start(_TRANSFER, file, server.url, into)
            while server.sent < kill * SIZE / (KILLS + 1):
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        finish(start(_TRANSFER, file, server.url, into))
        assert (into / "model.onnx").read_bytes() == file.read_bytes()
        assert SIZE <= server.sent <= 1.15 * SIZE
        assert list(tmp_path.glob("*.unfinished")) == []
