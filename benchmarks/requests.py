"""What the everyday commands ask of a cloud: requests, and the seconds of ``plan``.

For each of S3 (moto), GCS (our own small server) and Azure (Azurite) on this machine: a registry with two versions,
the second of which has the recipe that ``plan`` is asked about. Then whole processes:

- ``modeldrop plan SOURCE MODEL``: that recipe, and one that was never built; the checkpoint's 91 MB are read each
  time, and the cloud's SDK is imported. Wall time is that of the former: 7 rounds, the clouds in turn; medians;
- ``modeldrop promote MODEL@v1``, which moves the channel;
- ``modeldrop fetch MODEL``, whose snapshot is there already.

Requests are those that the servers logged, whatever was answered; the row has the most of the three clouds.
Signing in is not among them: these servers take fixed keys. The servers are on this machine: add your round trips.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.result import Row
from benchmarks.workspace import ROOT, SOURCE, alternate, modeldrop
from tests.servers.azure import AzureServer
from tests.servers.gcs import GCSServer
from tests.servers.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.workspace import Workspace

ROUNDS = 7
_SECONDS = 1.5
_MOST = {"plan": 3, "promote": 6, "fetch what is there": 1}
# The second of two small builds has the build key that is asked for.
_FILL = """\
import sys
from pathlib import Path
from modeldrop.format.manifest import parse_manifest, serialize_manifest
from modeldrop.registry.channels import move_forward

from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_folder
registry, folder, key = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
store = open_store(registry)
for seed in "ab":
    manifest = make_build(folder / seed, seed)
    if seed == "b":
        (folder / seed / "manifest.json").write_bytes(serialize_manifest(manifest._replace(build_key=key)))
    move_forward(store, "embedder", publish_folder(store, "embedder", folder / seed).version, "current", by="benchmark")
"""


def run(workspace: Workspace) -> list[Row]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server()) for server in (S3Server, GCSServer, AzureServer)]
        clouds = [_Cloud(workspace, server) for server in servers]
        counts = [cloud.counts() for cloud in clouds]
        seconds = alternate(workspace.rounds(ROUNDS), *(cloud.plan for cloud in clouds))
    return [
        *(
            Row(f"plan unchanged, {cloud.name}", taken, f"< {_SECONDS} s", taken < _SECONDS, unit="s")
            for cloud, taken in zip(clouds, seconds, strict=True)
        ),
        *(_row(what, max(count[what] for count in counts)) for what in _MOST),
    ]


def _row(what: str, most: int) -> Row:
    return Row(f"requests of {what}", most, f"≤ {_MOST[what]}", most <= _MOST[what], digits=0)


class _Cloud:
    """A registry in a test server, and what commands ask of it."""

    def __init__(self, workspace: Workspace, server: Any) -> None:
        self.name: str = server.name
        self._workspace = workspace
        self._server = server
        self._folder: Path = workspace.folder / f"requests-{self.name}"
        self._environment: Mapping[str, str] = dict(server.environment) | {
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "MODELDROP_HOME": str(self._folder / "home"),
        }
        registry = server.registry()
        self._model = f"{registry}/embedder"
        said = workspace.output(modeldrop(*self._plan_of("fp32,int8"), "--json"), self._environment)
        key = json.loads(said)["build_key"]
        workspace.wall([sys.executable, "-c", _FILL, registry, str(self._folder), key], self._environment)
        said = workspace.output(modeldrop(*self._plan_of("fp32,int8"), "--json"), self._environment)
        if json.loads(said)["would_build"]:
            sys.exit(f"requests: {self.name} does not have the recipe that was published")

    def plan(self) -> float:
        """Seconds of planning what was built."""
        return self._workspace.wall(modeldrop(*self._plan_of("fp32,int8")), self._environment)

    def counts(self) -> dict[str, int]:
        """Requests of each command."""
        plans = [self._count(*self._plan_of(variants)) for variants in ("fp32,int8", "fp32")]
        promoted = self._count("promote", f"{self._model}@v1")
        self._workspace.wall(modeldrop("fetch", self._model), self._environment)
        fetched = self._count("fetch", self._model)
        return {"plan": max(plans), "promote": promoted, "fetch what is there": fetched}

    def _plan_of(self, variants: str) -> list[str]:
        return ["plan", str(SOURCE), self._model, "--variants", variants]

    def _count(self, *command: str) -> int:
        self._server.reset()
        self._workspace.wall(modeldrop(*command), self._environment)
        return len(self._server.requests())
