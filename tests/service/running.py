"""The example service as a process of its own, in the environment without torch."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
import numpy as np
import onnx
from blake3 import blake3
from onnx import numpy_helper

from modeldrop.format.manifest import File, parse_manifest, serialize_manifest
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import build_key, environment, publish_folder
from tests.helpers.command_line import ROOT, RUNTIME_PYTHON
from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS

EXAMPLE = ROOT / "examples" / "service"
TOKEN = "a token of more than sixteen characters"
REQUESTS: dict[str, dict[str, Any]] = {
    "embed": {"texts": ["The invoice is due within thirty days.", "Whisk the eggs with sugar."]},
    "rerank": {"query": "when do I have to pay", "texts": ["The invoice is due.", "Whisk the eggs.", "A comet."]},
    "classify": {"texts": ["The bridge is closed.", "Thanks, that was great."]},
}
SHIFT = 0.25
_SECONDS = HANG_SECONDS


class Service:
    """Started when entered, ended when left; ``client`` asks it.

    Args:
        folder: where its log and, where nothing else is said, its home are.
        registry: its registry.
        before: a command that starts it, such as ``modeldrop run … --``; ``{port}`` in it is where it is to listen.
        wait: whether to wait until it is ready.
        settings: environment variables.
        python: the interpreter of the environment that it runs in.

    Attributes:
        start_seconds: from its start until it was ready.
    """

    def __init__(
        self,
        folder: Path,
        registry: Path | str,
        *,
        before: tuple[str, ...] = (),
        wait: bool = True,
        settings: Mapping[str, str] | None = None,
        python: Path = RUNTIME_PYTHON,
    ) -> None:
        port = own_port()
        plain = {
            "MODELDROP_REGISTRY": str(registry),
            "MODELDROP_HOME": str(folder / "home"),
            "SERVICE_HOST": "127.0.0.1",
            "SERVICE_PORT": str(port),
            "SERVICE_INTERVAL": "1",
            "SERVICE_VARIANT": "int8",  # of so small models either may have been faster, which auto would take
        }
        self._environment = environment(**(plain | dict(settings or {})))
        self._environment["PYTHONPATH"] += f"{os.pathsep}{EXAMPLE}"
        self._command = [*(word.replace("{port}", str(port)) for word in before), str(python), "-m", "modelservice"]
        self._log = folder / "service.log"
        self._wait = wait
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_SECONDS)

    def __enter__(self) -> Self:
        began = time.perf_counter()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        try:
            self.until(lambda: self.answers("/health/ready" if self._wait else "/health/live"))
        except BaseException:
            self.process.kill()
            self.process.wait(_SECONDS)
            raise
        self.start_seconds = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_SECONDS)
        finally:
            self.process.kill()

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    @property
    def models(self) -> Any:
        """What /health/ml says."""
        return self.client.get("/health/ml").raise_for_status().json()

    def answers(self, path: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.client.get(path).status_code == 200
        return False

    def ask(self, task: str, **changes: Any) -> Any:
        """The answer to a request that must succeed."""
        response = self.client.post(f"/{task}", json=REQUESTS[task] | changes)
        assert response.status_code == 200, response.text
        return response.json()

    def until(self, holds: Any) -> None:
        """Wait until something holds; fail with the log if it does not within a minute, or the process ends."""
        end = time.monotonic() + _SECONDS
        while not holds():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)

    def until_version(self, task: str, version: str) -> None:
        self.until(lambda: self.models[task]["version"] == version)


class Timed(NamedTuple):
    """An answer: when it came, by ``time.perf_counter()``, to which task, and what it took in seconds."""

    at: float
    task: str
    seconds: float


class Load:
    """Threads that ask every task again and again while it is entered, and note every answer.

    Args:
        service: what is asked.
        reranked: the score of the first text that the reranker ranks, by version.
        pause: how many seconds each of them waits between an answer and the next request.

    Attributes:
        failed: what was not an answer with status 200.
        answers: how many there were, by task and version.
        wrong: answers of the reranker that are not those of the version that they say they are of.
        times: of every answer.
    """

    def __init__(self, service: Service, reranked: dict[str, float], pause: float = 0) -> None:
        self.failed: list[str] = []
        self.wrong: list[Any] = []
        self.answers: Counter[tuple[str, str]] = Counter()
        self.times: list[Timed] = []
        self._service = service
        self._reranked = reranked
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(task,)) for task in REQUESTS]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_SECONDS)

    def _ask(self, task: str) -> None:
        # A new connection now and then: a swap must not be felt by these either.
        for number in itertools.count():
            if self._stop.wait(self._pause):
                return
            began = time.perf_counter()
            try:
                client = self._service.client if number % 10 else httpx
                url = self._service.client.base_url.join(f"/{task}")
                response = client.post(url, json=REQUESTS[task], timeout=_SECONDS)
            except httpx.HTTPError as error:
                self.failed.append(f"{task}: {error!r}")
                continue
            if response.status_code != 200:
                self.failed.append(f"{task}: {response.status_code} {response.text}")
                continue
            self.times.append(Timed(time.perf_counter(), task, time.perf_counter() - began))
            answer = response.json()
            version = answer["served_by"]["version"]
            self.answers[task, version] += 1
            if task == "rerank" and abs(answer["results"][0]["score"] - self._reranked[version]) > 1e-6:
                self.wrong.append(answer)


def add_version(registry: Path, model: str, number: int, like: str = "") -> str:
    """Publish v<number> of a model, without moving a channel: the int8 of v1; a reranker gets a bias of its own.

    ``like`` names the model whose v1 it is instead.
    """
    folder = registry.parent / f"{model}-{number}"
    source = registry / (like or model) / "v1"
    manifest = parse_manifest((source / "manifest.json").read_bytes())
    (int8,) = [one for one in manifest.variants if one.name == "int8"]
    files = []
    for file in manifest.files:
        if file.path not in int8.files:
            continue
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (source / file.path).read_bytes()
        if (source.parent.name, file.path) == ("reranker", int8.model):
            data = _shifted(data, SHIFT * number)
            digest = hashlib.sha256(data).hexdigest()
            size = manifest.piece_size
            pieces = (blake3(data[start : start + size]).hexdigest() for start in range(0, len(data), size))
            file = File(file.path, len(data), digest, tuple(pieces))  # noqa: PLW2901
        path.write_bytes(data)
        files.append(file)
    changed = manifest._replace(build_key=build_key(f"{model} {number}"), files=tuple(files), variants=(int8,))
    (folder / "manifest.json").write_bytes(serialize_manifest(changed))
    (folder / "report.html").write_text("<!doctype html>")
    version = publish_folder(FolderStore(str(registry)), model, folder, adopt_seconds=0.2).version
    assert version.number == number
    return f"v{number}"


def expected_score(first: float, number: int) -> float:
    """What v<number> of a reranker says where v1 says ``first``."""
    logit = math.log(first / (1 - first)) + (SHIFT * number if number > 1 else 0)
    return 1 / (1 + math.exp(-logit))


def _shifted(data: bytes, by: float) -> bytes:
    graph = onnx.load_from_string(data)
    # As BERT's and XLM-R's heads call it.
    (bias,) = [one for one in graph.graph.initializer if one.name in {"classifier.bias", "classifier.out_proj.bias"}]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(by), bias.name))
    shifted: bytes = graph.SerializeToString()
    return shifted
