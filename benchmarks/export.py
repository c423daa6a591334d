"""Exporting 1 GiB as an image to a container registry on this machine.

Ours: a process, ``modeldrop export --format image`` of a version that is on the disk, every piece compared with its
BLAKE3 digest as it is read; the layer is read twice at the same time, to learn its digest and to send it.

Peer: ``skopeo copy --all --preserve-digests`` of the same image from an OCI layout, which knows the digests, and
compares them while it sends. Without ``--preserve-digests`` skopeo would compress the layer, and push another image.

Both sides: whole processes, cold interpreter, the same layer of random bytes, on a RAM disk where there is one, an
empty registry (Debian's docker-registry, its files there too). Wall and processor time, 5 rounds, the sides in turn,
every second round in reverse order; medians.
"""

from __future__ import annotations

import os
import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks.bucket import MODEL_FILE, add_version, ram_disk, random_file
from benchmarks.process import measure
from benchmarks.result import Row
from benchmarks.workspace import ROOT, alternate
from tests.servers.docker_registry import DockerRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.process import Measured
    from benchmarks.workspace import Workspace

ROUNDS = 5
SIZE = 1 << 30
_MEGABYTES = 100
_RATIO = 1.2


def run(workspace: Workspace) -> list[Row]:
    with ram_disk(5 * SIZE) as ram, DockerRegistry(ram) as registry:
        environment = {"PATH": os.environ["PATH"], "HOME": str(ram), "PYTHONPATH": str(ROOT / "src")}
        export = [sys.executable, "-m", "modeldrop", "export", _publish(ram), "--quiet", "--format=image"]
        export += ["-d", str(ram / "home")]
        layout = f"oci:{ram}/layout:v1"
        measure([*export, layout], environment)
        there = f"{registry.host}/model:v1"
        commands = {
            "ours": [*export, f"oci://{there}"],
            "skopeo": [
                *("skopeo", "copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"),
                *(layout, f"docker://{there}"),
            ],
        }
        measured: dict[str, list[Measured]] = {name: [] for name in commands}

        def side(name: str) -> float:
            registry.empty()
            measured[name].append(measure(commands[name], environment))
            return measured[name][-1].seconds

        ours, theirs = alternate(workspace.rounds(ROUNDS), *(lambda name=name: side(name) for name in measured))
    processor = {name: statistics.median(one.processor for one in found) for name, found in measured.items()}
    memory = {name: statistics.median(one.megabytes for one in found) for name, found in measured.items()}
    what, few = "export 1 GiB to docker-registry", memory["ours"] <= _MEGABYTES
    return [
        Row(f"{what} (peer: skopeo copy)", ours, f"ratio ≤ {_RATIO}", ours / theirs <= _RATIO, theirs, "s"),
        Row(f"{what}, processor (peer: skopeo)", processor["ours"], "none", True, processor["skopeo"], "s"),
        Row(f"{what}, memory (peer: skopeo)", memory["ours"], f"≤ {_MEGABYTES} MB", few, memory["skopeo"], "MB", 0),
    ]


def _publish(folder: Path) -> str:
    """A model whose only graph is a GiB of random bytes; its address."""
    model = folder / "models/model"
    random_file(model / "v1" / MODEL_FILE, SIZE)
    add_version(model, [MODEL_FILE])
    return f"{model}@v1"
