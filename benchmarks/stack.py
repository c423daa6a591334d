"""The models of a small service, at their true sizes: what embeds, what reranks, and what writes labels.

``embedder`` is the real all-MiniLM-L6-v2. ``reranker`` has the shape of BAAI/bge-reranker-base (278 million parameters)
and ``classifier`` that of google/flan-t5-small (77 million), both with random weights
(``tests/helpers/large_checkpoints.py``): as many bytes and as much work as the real ones, but answers that
mean nothing.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.workspace import ROOT, SOURCE, modeldrop
from modeldrop.export.models.family import TOKENS
from tests.export.recipes import loosened

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

_SCORES = ("correlation", "kendall_tau", "top10")
_RANDOM = {"reranker": ("reranker_base", _SCORES), "classifier": ("flan_t5_small", TOKENS)}
"""Names in the registry, of the checkpoints, and the metrics that random weights are excused from."""
MODELS = ("embedder", *_RANDOM)


def stack(workspace: Workspace) -> Path:
    """A registry with v1 of each of ``MODELS``, in fp32 and int8; nobody writes into it.

    Built when first needed, and again when the code that builds has changed: minutes, and 5 GB of memory. Kept below
    ``.bench``.
    """
    place = ROOT / ".bench" / "stack"
    found = place / _code()
    if not found.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        outdated = list(place.iterdir())
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            _publish(workspace, Path(folder))
            for old in outdated:
                shutil.rmtree(old)
            (Path(folder) / "registry").rename(found)
    return found


def _code() -> str:
    """A digest of what decides what is built."""
    code = [
        *(ROOT / "src" / "modeldrop" / "export").rglob("*.py"),
        ROOT / "tests" / "helpers" / "large_checkpoints.py",
        Path(__file__),
    ]
    digest = hashlib.sha256()
    for path in sorted(code):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _publish(workspace: Workspace, folder: Path) -> None:
    registry = folder / "registry"
    workspace.wall(modeldrop("publish", str(SOURCE), str(registry / "embedder"), "--quiet"))
    for name, (checkpoint, metrics) in _RANDOM.items():
        source = folder / name
        made = [sys.executable, "-m", "tests.helpers.large_checkpoints", checkpoint, str(source)]
        workspace.wall(made, {"PYTHONPATH": str(ROOT)})
        recipe = loosened(source, metrics)
        workspace.wall(modeldrop("publish", str(source), str(registry / name), "--recipe", str(recipe), "--quiet"))
        shutil.rmtree(source)
