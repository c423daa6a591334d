"""Publishing what did not change: a second ``modeldrop publish`` against the first in the same run.

Two sources, both into a registry that is a folder:

- a checkpoint folder, whose identity is the digest of its 91 MB: they are read again each time;
- a Hub model, whose identity is a commit: one request to a local server (``tests/servers/hub.py``) through
  the real huggingface_hub client. The server hashes its 91 MB to answer that request, and this counts
  against us; the distance to the real Hub is missing. The first publish downloads from this server.

The first publish runs once, the second 5 times, the two sources in turn; medians of whole processes' wall
time. Then once more, untimed, to count which of torch, transformers, optimum and onnxruntime the process
imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.result import Row
from benchmarks.workspace import SOURCE, alternate, modeldrop
from tests.servers.hub import HubServer

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

ROUNDS = 5
_SECONDS, _RATIO = 1.0, 1 / 20
_MODEL = "acme/minilm"
_HEAVY = """\
import sys
from modeldrop.cli import main
if main(sys.argv[1:]): sys.exit("failed")
print(sum(name in sys.modules for name in ("torch", "transformers", "optimum", "onnxruntime")))
"""


def run(workspace: Workspace) -> list[Row]:
    registry = workspace.registry
    with HubServer() as hub:
        hub.add_repo(_MODEL, SOURCE)
        online = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        from_folder = ["publish", str(SOURCE), str(registry / "minilm"), "--quiet"]
        from_hub = ["publish", _MODEL, str(registry / "from-hub"), "--quiet"]
        first = workspace.wall(modeldrop(*from_hub), online)
        workspace.add_manifest(registry / "from-hub" / "v1")
        folder_again, hub_again = alternate(
            workspace.rounds(ROUNDS),
            lambda: workspace.wall(modeldrop(*from_folder)),
            lambda: workspace.wall(modeldrop(*from_hub), online),
        )
        imported = int(workspace.output([sys.executable, "-c", _HEAVY, *from_hub], online).split()[-1])
    versions = sorted(path.name for path in registry.glob("*/v*"))
    if versions != ["v1", "v1"]:
        sys.exit(f"publish: an unchanged recipe made a version: {versions}")
    fast = hub_again < _SECONDS and hub_again / first < _RATIO
    before = workspace.first_publish
    folder_fast = folder_again < _SECONDS and folder_again / before < _RATIO
    target = "< 1 s, ratio < 0.05"
    return [
        Row("publish unchanged, from a folder (peer: first)", folder_again, target, folder_fast, before, "s"),
        Row("publish unchanged, from a Hub (peer: first)", hub_again, target, fast, first, "s"),
        Row("exporter libraries that the latter imports", imported, "0", imported == 0, digits=0),
    ]
