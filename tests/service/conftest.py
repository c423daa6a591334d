"""A registry with three real models, published once for this folder's tests."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop.export.models.family import CLASSES
from tests.export.recipes import loosened
from tests.helpers.checkpoints import bert
from tests.helpers.command_line import modeldrop
from tests.helpers.made_once import made_once
from tests.helpers.minilm import Published, publish_once

_SCORES = ("correlation", "kendall_tau", "top10")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The real MiniLM, and a reranker and a classifier of random weights; v1 of each. Nobody writes into it."""
    minilm = functools.partial(publish_once, tmp_path_factory, worker_id)
    return made_once(tmp_path_factory, worker_id, "service", lambda folder: _publish(folder, minilm)) / "registry"


def _publish(folder: Path, minilm: Callable[[], Published]) -> None:
    def publish_small(name: str, labels: int, metrics: tuple[str, ...], *variants: str) -> None:
        source = bert(folder / name, "BertForSequenceClassification", labels=labels)
        ran = modeldrop("publish", source, folder / "registry" / name, "--recipe", loosened(source, metrics, variants))
        assert ran.code == 0, ran.err

    with ThreadPoolExecutor(2) as pool:
        published = pool.submit(minilm)
        publish_small("reranker", 1, _SCORES, "int8", "openvino-int8")
        publish_small("classifier", 3, CLASSES, "int8")
        shutil.copytree(published.result().registry / "embedder", folder / "registry/embedder")


@pytest.fixture
def registry(published: Path, tmp_path: Path) -> Path:
    """A copy of ``published`` to write into."""
    # Links suffice: files of a registry are replaced, never changed.
    return Path(shutil.copytree(published, tmp_path / "registry", copy_function=os.link))
