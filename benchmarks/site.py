"""The pages of a registry of 200 models with 50 versions each: written, and updated after one publish.

The registry is a folder that is made here: documents and empty files, no models. What is counted is processor time,
reads of manifests, writes, and bytes. There is no peer: what others show needs a server and its database.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.result import Row
from modeldrop.site.places import FOLDER, FolderPlace, RegistryPlace
from modeldrop.site.writing import update_site, write_site
from tests.helpers.paper_registry import CountingStore, add_paper_version, make_paper_registry, move_paper_channel

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

_MODELS, _VERSIONS = 200, 50
_QUICK_MODELS = 4
_MOST_SECONDS, _MOST_UPDATE_SECONDS, _MOST_WRITES, _MOST_BYTES = 60.0, 1.0, 6, 300_000


def run(workspace: Workspace) -> list[Row]:
    """Write the pages of such a registry into a folder and beside its models, then publish one more version."""
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
    writes = sum(key.startswith(FOLDER) for key in store.writes)
    largest = max(path.stat().st_size for path in Path(pages).rglob("*.html"))
    what = f"site, {models * _VERSIONS} versions"
    return [
        Row(f"{what}: processor time", seconds, "< 60 s", seconds < _MOST_SECONDS, unit="s", digits=1),
        Row(f"{what}: reads of each manifest", reads, "1", reads == 1, digits=0),
        Row(f"{what}: largest page", largest / 1e3, "< 300 kB", largest < _MOST_BYTES, unit="kB", digits=0),
        Row(f"{what}: update, processor time", update, "< 1 s", update < _MOST_UPDATE_SECONDS, unit="s"),
        Row(f"{what}: update, writes", writes, "≤ 6", writes <= _MOST_WRITES, digits=0),
    ]
