"""The example service: real models, a real registry, a process of its own, no torch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from modeldrop.format.manifest import parse_manifest
from tests.helpers.command_line import RUNTIME_PYTHON, modeldrop, run_here
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.s3 import environment as s3_environment
from tests.service.running import REQUESTS, TOKEN, Load, Service, add_version, expected_score

pytestmark = pytest.mark.heavy

# Rules embed: a start is sooner done.
WITHOUT_EMBEDDER = {"SERVICE_EMBED": ""}
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def kinds(service: Service) -> dict[str, str]:
    return {task: model["kind"] for task, model in service.models.items()}


def move(registry: Path, *command: str) -> None:
    code, _, said = run_here(command[0], f"{registry}/{command[1]}", *command[2:])
    assert code == 0, said


@pytest.fixture(scope="module")
def service(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Service(tmp_path_factory.mktemp("shared"), published, settings={"SERVICE_MAX_BODY": "100000"}) as running:
        yield running


def test_it_embeds_as_the_model_does(service: Service, published: Path) -> None:
    manifest = parse_manifest((published / "embedder" / "v1" / "manifest.json").read_bytes())
    cases = manifest.golden.cases
    answer = service.ask("embed", texts=[case.text for case in cases])
    assert answer["dimensions"] == 384
    assert answer["truncated"] == 0
    for row, case in zip(answer["embeddings"], cases, strict=True):
        assert np.dot(row, case.values) / np.linalg.norm(case.values) > 0.95
    assert answer["served_by"] == {
        "kind": "model",
        "model": "embedder",
        "version": "v1",
        "variant": "int8",
        "generation": 1,
    }


def test_it_embeds_many_texts_in_their_order(service: Service) -> None:
    texts = [f"{'word ' * (number % 7)}{number}" for number in range(70)]
    together = np.array(service.ask("embed", texts=texts)["embeddings"])
    alone = np.array([service.ask("embed", texts=[text])["embeddings"][0] for text in texts[::10]])
    # Dynamic int8 varies a little with what else is in the batch.
    assert ((together[::10] * alone).sum(1) > 0.98).all()


def test_a_long_text_is_cut_and_it_says_so(service: Service) -> None:
    assert service.ask("embed", texts=["word " * 2000, "short"])["truncated"] == 1


def test_it_reranks(service: Service) -> None:
    results = service.ask("rerank")["results"]
    assert sorted(one["index"] for one in results) == [0, 1, 2]
    scores = [one["score"] for one in results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    assert service.ask("rerank", top=1)["results"] == results[:1]


def test_it_classifies(service: Service) -> None:
    answer = service.ask("classify")
    assert all(one["label"].startswith("LABEL_") and 1 / 3 <= one["score"] <= 1 for one in answer["results"])
    assert {one["label"] for one in service.ask("classify", labels=["LABEL_1"])["results"]} == {"LABEL_1"}


def test_health_says_what_is_served(service: Service) -> None:
    assert service.client.get("/health/live").json() == {"status": "alive"}
    for model in service.models.values():
        assert (model["kind"], model["version"], model["variant"], model["generation"]) == ("model", "v1", "int8", 1)
        assert model["backend"] == "onnxruntime/CPUExecutionProvider"
        assert model["age_seconds"] < 3600
        assert (model["degraded"], model["error"]) == (False, "")


def test_metrics_are_prometheus_s(service: Service) -> None:
    service.ask("embed")
    text = service.client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (info,) = [one for one in families["service_model_info"].samples if one.labels["task"] == "embed"]
    assert (info.labels["version"], info.labels["variant"], info.labels["kind"]) == ("v1", "int8", "model")
    counts = [one for one in families["service_inference_seconds"].samples if one.name.endswith("_count")]
    assert any(one.labels == {"task": "embed", "kind": "model"} and one.value >= 1 for one in counts)
    assert {one.value > 20e6 for one in families["service_model_fetch_bytes"].samples} == {True, False}
    assert "service_model_age_seconds" in families


def test_three_models_take_little_memory_and_no_torch(service: Service) -> None:
    process = psutil.Process(service.process.pid)
    assert process.memory_info().rss < 2 << 30
    loaded = {Path(one.path).name for one in process.memory_maps()} if hasattr(process, "memory_maps") else set()
    assert not any("torch" in name for name in loaded)


@pytest.mark.parametrize(
    ("task", "body", "status", "code"),
    [
        ("embed", {"texts": []}, 422, "invalid"),
        ("embed", {"texts": "a"}, 422, "invalid"),
        ("embed", {"texts": [1]}, 422, "invalid"),
        ("embed", {"texts": ["a"], "text": "b"}, 422, "invalid"),
        ("embed", {"texts": ["\ud800"]}, 422, "invalid"),
        ("embed", {"texts": ["a"] * 257}, 422, "too_many_texts"),
        ("embed", {"texts": ["a" * 20_001]}, 422, "text_too_long"),
        ("embed", {"texts": ["a" * 100_000]}, 413, "too_large"),
        ("rerank", {"query": "", "texts": ["a"]}, 422, "invalid"),
        ("rerank", {"query": "a", "texts": ["a"], "top": 0}, 422, "invalid"),
        ("rerank", {"query": "a" * 20_001, "texts": ["a"]}, 422, "text_too_long"),
        ("classify", {"texts": ["a"], "labels": ["nobody knows"]}, 422, "unknown_label"),
        ("classify", {"texts": ["a"], "labels": ["a" * 101]}, 422, "invalid"),
        ("classify", {"texts": ["a"], "labels": [""]}, 422, "invalid"),
        ("nothing", {}, 404, "http"),
        ("health/live", {}, 405, "http"),
        ("reload", {}, 404, "off"),
    ],
)
def test_bad_requests_are_told_why(service: Service, task: str, body: dict[str, Any], status: int, code: str) -> None:
    content = json.dumps(body).encode()
    response = service.client.post(f"/{task}", content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]


def test_a_body_of_unknown_length_is_bounded_too(service: Service) -> None:
    response = service.client.post("/embed", content=(b"x" * 1000 for _ in range(200)))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")


def test_what_is_no_json_is_told_so(service: Service) -> None:
    response = service.client.post("/embed", content=b"{", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid")


def swap_under_load(folder: Path, registry: Path, swaps: int, pause: float = 0) -> None:
    """Move all channels ``swaps`` times and roll them back once, while every task is asked, with ``pause`` between."""
    models = {"embed": "embedder", "rerank": "reranker", "classify": "classifier"}
    versions = [f"v{number}" for number in range(2, swaps + 2)]
    for name in models.values():
        for version in versions:
            assert add_version(registry, name, int(version[1:])) == version
    with Service(folder, registry) as service:
        first = service.ask("rerank")["results"][0]["score"]
        reranked = {f"v{number}": expected_score(first, number) for number in range(1, swaps + 2)}
        with Load(service, reranked, pause) as load:
            service.until(lambda: load.answers["rerank", "v1"])
            for version in versions:
                for task, name in models.items():
                    move(registry, "promote", f"{name}@{version}")
                    if name == "reranker" or version == versions[-1]:
                        service.until_version(task, version)
                service.until(lambda version=version: load.answers["rerank", version])
            for task, name in models.items():
                move(registry, "rollback", name)
                service.until_version(task, versions[-2])
            answered = load.answers.copy()
            service.until(
                lambda: all(load.answers[task, versions[-2]] > answered[task, versions[-2]] for task in models)
            )
        assert load.failed == []
        assert load.wrong == []
        assert {version for task, version in load.answers if task == "rerank"} == {"v1", *versions}
        assert service.process.poll() is None


def test_no_request_fails_over_three_swaps_and_a_rollback(tmp_path: Path, registry: Path) -> None:
    swap_under_load(tmp_path, registry, 3, pause=0.03)


@pytest.mark.soak
def test_no_request_fails_over_ten_swaps_and_a_rollback(tmp_path: Path, registry: Path) -> None:
    swap_under_load(tmp_path, registry, 10)


def test_a_version_that_cannot_serve_is_refused(tmp_path: Path, registry: Path) -> None:
    add_version(registry, "reranker", 2, like="classifier")
    with Service(tmp_path, registry, settings=WITHOUT_EMBEDDER) as service:
        move(registry, "promote", "reranker@v2")
        service.until(lambda: "a reranker has one label; this model has 3" in service.models["rerank"]["error"])
        assert service.ask("rerank")["served_by"]["version"] == "v1"
        assert 'service_swaps_total{outcome="refused",task="rerank"} 1.0' in service.client.get("/metrics").text


def test_without_a_model_a_smaller_one_or_rules_answer_until_it_comes(tmp_path: Path, registry: Path) -> None:
    (registry / "reranker").rename(registry / "reranker-small")
    (registry / "classifier").rename(tmp_path / "classifier")
    (registry / "embedder").rename(tmp_path / "embedder")
    with Service(tmp_path, registry, settings={"SERVICE_RERANK_FALLBACK": "reranker-small"}) as service:
        assert kinds(service) == {"embed": "rules", "rerank": "fallback", "classify": "rules"}
        assert service.ask("rerank")["served_by"]["model"] == "reranker-small"
        assert service.ask("classify")["results"][1] == {"label": "positive", "score": 1.0, "text": None}
        assert service.ask("embed")["served_by"] == dict.fromkeys(("model", "version", "variant", "generation")) | {
            "kind": "rules"
        }
        assert "has no channel" in service.models["classify"]["error"]
        assert 'service_model_degraded{task="embed"} 1.0' in service.client.get("/metrics").text
        (tmp_path / "classifier").rename(registry / "classifier")
        service.until(lambda: kinds(service)["classify"] == "model")
        service.until(lambda: service.models["classify"]["error"] == "")  # the watch says so a moment later


def test_without_rules_it_is_alive_but_not_ready(tmp_path: Path, registry: Path) -> None:
    (registry / "reranker").rename(tmp_path / "reranker")
    with Service(tmp_path, registry, wait=False, settings={"SERVICE_RULES": "no"} | WITHOUT_EMBEDDER) as service:
        service.until(lambda: kinds(service)["classify"] == "model")
        off = service.client.post("/embed", json=REQUESTS["embed"])
        assert (off.status_code, off.json()["error"]["code"]) == (404, "off")
        assert service.client.get("/health/ready").status_code == 503
        refused = service.client.post("/rerank", json=REQUESTS["rerank"])
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_model")
        assert int(refused.headers["Retry-After"]) > 0
        (tmp_path / "reranker").rename(registry / "reranker")
        service.until(lambda: service.answers("/health/ready"))


def test_first_use_loads_once_for_all_who_wait(tmp_path: Path, published: Path) -> None:
    with Service(tmp_path, published, settings={"SERVICE_LOAD": "lazy"}) as service:
        assert set(kinds(service).values()) == {None}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: service.ask("embed"), range(8)))
        assert {answer["served_by"]["kind"] for answer in answers} == {"model"}
        assert kinds(service) == {"embed": "model", "rerank": None, "classify": None}
        assert service.log.count("embed is answered by") == 1


def test_a_start_hook_fetches_and_the_service_finds_it(tmp_path: Path, published: Path) -> None:
    names = ("embedder", "reranker", "classifier")
    before = (str(RUNTIME_PYTHON), "-m", "modeldrop", "run", "--variant", "int8", *names, "--")
    with Service(tmp_path, published, before=before, settings={"SERVICE_ON_UNAVAILABLE": "offline"}) as service:
        assert set(kinds(service).values()) == {"model"}
        assert 'service_model_fetch_bytes{task="embed"} 0.0' in service.client.get("/metrics").text
        assert "modelservice" in " ".join(psutil.Process(service.process.pid).cmdline())


def test_what_is_baked_into_an_image_needs_no_registry(tmp_path: Path, registry: Path) -> None:
    references = [f"{registry}/{name}@v1" for name in ("embedder", "reranker", "classifier")]
    fetched = modeldrop("fetch", *references, "--variant", "int8", "-d", tmp_path / "home", python=RUNTIME_PYTHON)
    assert fetched.code == 0, fetched.err
    registry.rename(tmp_path / "gone")
    pinned = dict(zip(("SERVICE_EMBED", "SERVICE_RERANK", "SERVICE_CLASSIFY"), references, strict=True))
    with Service(tmp_path, registry, settings=pinned) as service:
        assert set(kinds(service).values()) == {"model"}
        assert service.models["embed"]["generation"] is None


def test_a_sidecar_watches_and_the_service_reloads(tmp_path: Path, registry: Path) -> None:
    add_version(registry, "reranker", 2)
    references = [f"{registry}/{name}" for name in ("reranker", "classifier")]
    assert modeldrop("fetch", *references, "--variant", "int8", "-d", tmp_path / "home").code == 0
    offline = {"SERVICE_ON_UNAVAILABLE": "offline", "SERVICE_RELOAD_TOKEN": TOKEN} | WITHOUT_EMBEDDER
    with Service(tmp_path, registry, settings=offline) as service:
        wrong = service.client.post("/reload", headers={"Authorization": f"Bearer {TOKEN}x"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "unauthorized")
        assert wrong.headers["WWW-Authenticate"] == "Bearer"
        assert service.client.post("/reload").status_code == 401
        assert service.client.post("/reload", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
        # The scheme's name is not case-sensitive.
        same = service.client.post("/reload", headers={"Authorization": f"bearer {TOKEN}"}).json()["rerank"]
        assert same["before"] == same["after"]
        move(registry, "promote", "reranker@v2")
        watch = [str(RUNTIME_PYTHON), "-m", "modeldrop", "watch", references[0], "-d", str(tmp_path / "home")]
        hook = ["--variant", "int8", "--interval", "1s", "--post", str(service.client.base_url.join("/reload"))]
        environment = os.environ | {"MODELDROP_POST_AUTHORIZATION": f"Bearer {TOKEN}"}
        with (tmp_path / "watch.log").open("wb") as log:
            sidecar = subprocess.Popen([*watch, *hook], env=environment, stdout=log, stderr=log)
        try:
            service.until_version("rerank", "v2")
        finally:
            sidecar.terminate()
            sidecar.wait(HANG_SECONDS)
        assert TOKEN not in service.log


def test_a_reload_that_fails_says_why_and_changes_nothing(tmp_path: Path, registry: Path) -> None:
    options = {"SERVICE_ON_UNAVAILABLE": "fail", "SERVICE_RELOAD_TOKEN": TOKEN, "SERVICE_INTERVAL": "3600"}
    options |= WITHOUT_EMBEDDER
    with Service(tmp_path, registry, settings=options) as service:
        (registry / "reranker" / "current").unlink()
        (registry / "reranker" / "current").write_text("{")
        failed = service.client.post("/reload", headers=AUTHORIZED)
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "reload_failed")
        assert failed.json()["error"]["message"].startswith("rerank: ")
        assert service.ask("rerank")["served_by"]["version"] == "v1"


def test_sigterm_lets_requests_end(tmp_path: Path, published: Path) -> None:
    texts = [f"{number} {'long text ' * 250}" for number in range(48)]
    with Service(tmp_path, published, settings={"SERVICE_GRACE": "3600"}) as service, ThreadPoolExecutor(1) as pool:
        running = pool.submit(service.ask, "embed", texts=texts)

        def at_work() -> bool:
            nonlocal running
            if running.done():  # before anybody saw it
                assert len(running.result()["embeddings"]) == 48
                running = pool.submit(service.ask, "embed", texts=texts)
            return 'service_inferences_running{task="embed"} 1.0' in service.client.get("/metrics").text

        service.until(at_work)
        service.process.send_signal(signal.SIGTERM)
        assert len(running.result()["embeddings"]) == 48
        assert service.process.wait(HANG_SECONDS) == 0


@pytest.fixture
def silent() -> Iterator[dict[str, str]]:
    """What leads to an S3 service that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield s3_environment(f"http://127.0.0.1:{listening.getsockname()[1]}")


def test_sigterm_ends_a_start_that_still_fetches(tmp_path: Path, silent: dict[str, str]) -> None:
    with Service(tmp_path, "s3://acme-models/team", wait=False, settings=silent) as service:
        assert service.client.get("/health/ready").json() == {"status": "loading"}
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(HANG_SECONDS) == 0
        assert "has no model" not in service.log, "it did not wait for the registry"


def test_a_port_that_is_taken_ends_it(tmp_path: Path, silent: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = {"SERVICE_PORT": str(taken.getsockname()[1])}
        with pytest.raises(AssertionError, match="address already in use"):
            Service(tmp_path, "s3://acme-models/team", wait=False, settings=silent | port).__enter__()


def test_settings_that_cannot_be_meant_end_it_at_once(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "examples" / "service"), "PATH": os.defpath}
    done = subprocess.run(
        [RUNTIME_PYTHON, "-m", "modelservice"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 2
    assert "SERVICE_EMBED is 'embedder', and MODELDROP_REGISTRY does not say" in done.stderr
