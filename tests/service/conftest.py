"""A registry with three real models, published once for this folder's tests."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop.export.models.family import CLASSES
from tests.export.recipes import loosened
from tests.helpers.checkpoints import bert
from tests.helpers.command_line import modeldrop
from tests.helpers.minilm import publish_once

SCORES = ("correlation", "kendall_tau", "top10")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The real MiniLM, and a reranker and a classifier of random weights; v1 of each. Nobody writes into it."""
    folder = tmp_path_factory.mktemp("service")

    def publish(name: str, source: Path, *options: str | Path) -> None:
        ran = modeldrop("publish", source, folder / "registry" / name, *options)
        assert ran.code == 0, ran.err

    def publish_small(name: str, labels: int, metrics: tuple[str, ...]) -> None:
        source = bert(folder / name, "BertForSequenceClassification", labels=labels)
        publish(name, source, "--recipe", loosened(source, metrics))

    with ThreadPoolExecutor(2) as pool:
        minilm = pool.submit(publish_once, tmp_path_factory, worker_id)
        publish_small("reranker", 1, SCORES)
        publish_small("classifier", 3, CLASSES)
        shutil.copytree(minilm.result().registry / "embedder", folder / "registry/embedder")
    return folder / "registry"


@pytest.fixture
def registry(published: Path, tmp_path: Path) -> Path:
    """A copy of ``published`` to write into."""
    # Links suffice: files of a registry are replaced, never changed.
    return Path(shutil.copytree(published, tmp_path / "registry", copy_function=os.link))
