"""The pages of a registry of 200 models with 50 versions each: written, updated after one publish, and opened.

The registry is a folder that is made here: documents and empty files, no models. What is counted is processor time,
reads of manifests, writes, bytes, and how soon Debian's Chromium has filtered the largest page (``interactive.mjs``),
from a folder and from ``modeldrop serve``, on this processor and on one that is four times slower. There is no peer:
what others show needs a server and its database.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.result import Row
from modeldrop.site.places import SITE_FOLDER, FolderPlace, RegistryPlace
from modeldrop.site.writing import update_site, write_site
from tests.helpers.paper_registry import CountingStore, add_paper_version, make_paper_registry, move_paper_channel
from tests.helpers.served_pages import served_pages
from tests.servers.node import NODE_FOLDER, node

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

_MODELS, _VERSIONS = 200, 50
_QUICK_MODELS = 4
_MOST_SECONDS, _MOST_UPDATE_SECONDS, _MOST_WRITES, _MOST_BYTES = 60.0, 1.0, 6, 300_000
_OPENINGS = 7
_PROCESSORS = (("", 1, 1000), (", a processor 4 times slower", 4, 2000))
"""What is said of a processor, how much slower it is, and the milliseconds that a page may take there."""


def run(workspace: Workspace) -> list[Row]:
    """Write the pages of such a registry into a folder and beside its models, publish one more version, and look."""
    models = _QUICK_MODELS if workspace.rounds(_MODELS) == 1 else _MODELS
    registry = make_paper_registry(workspace.folder / "registry", models, _VERSIONS)
    pages, store = workspace.folder / "pages", CountingStore(str(registry))
    begun = time.process_time()
    write_site(store, FolderPlace(pages))
    seconds, reads = time.process_time() - begun, len(store.manifests) / (models * _VERSIONS)
    write_site(store, RegistryPlace(store))
    store.forget()
    number = _VERSIONS + 1
    digest = add_paper_version(registry, "model-000", number)
    move_paper_channel(registry, "model-000", {_VERSIONS: "sha256:" + "0" * 64, number: digest})
    begun = time.process_time()
    update_site(store, "model-000", [number])
    update = time.process_time() - begun
    writes = sum(key.startswith(SITE_FOLDER) for key in store.writes)
    largest = max(Path(pages).rglob("*.html"), key=lambda path: path.stat().st_size)
    size = largest.stat().st_size
    what = f"site, {models * _VERSIONS} versions"
    rows = [
        Row(f"{what}: processor time", seconds, "< 60 s", seconds < _MOST_SECONDS, unit="s", digits=1),
        Row(f"{what}: reads of each manifest", reads, "1", reads == 1, digits=0),
        Row(f"{what}: largest page", size / 1e3, "< 300 kB", size < _MOST_BYTES, unit="kB", digits=0),
        Row(f"{what}: update, processor time", update, "< 1 s", update < _MOST_UPDATE_SECONDS, unit="s"),
        Row(f"{what}: update, writes", writes, "≤ 6", writes <= _MOST_WRITES, digits=0),
    ]
    rounds = workspace.rounds(_OPENINGS)
    with served_pages(registry) as address:
        page = largest.relative_to(pages).as_posix()
        for title, opened in (("from a folder", largest.as_uri()), ("served", f"{address}{page}")):
            for processor, slowdown, most in _PROCESSORS:
                took = _filtered(opened, slowdown, rounds)
                name = f"{what}: largest page filtered, {title}{processor}"
                rows.append(Row(name, took, f"< {most} ms", took < most, unit="ms", digits=0))
    return rows


def _filtered(address: str, slowdown: int, rounds: int) -> float:
    """Milliseconds from the navigation's start until a filtered table is painted; the median of some rounds."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not there: apt-get install --no-install-recommends chromium")
    script, modules = Path(__file__).with_name("interactive.mjs"), NODE_FOLDER / "browser" / "node_modules"
    command = [str(part) for part in (node(), script, modules, chromium, address, slowdown, rounds)]
    times: list[float] = json.loads(subprocess.check_output(command, text=True))
    return statistics.median(times)
