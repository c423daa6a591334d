"""The command lines of the examples, run against registries that are here: fetched, followed, carried, baked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modeldrop.registry.channels import move_forward
from modeldrop.storage.write import open_store
from tests.deploy.example_files import COMPOSE, DEPLOY, containers, docker_words, documents, script_words, unit
from tests.helpers.builds import environment, make_build, publish_folder
from tests.helpers.clouds import Servers, sign_in, sign_out
from tests.helpers.command_line import Ran
from tests.helpers.waiting import HANG_SECONDS
from tests.helpers.watch_process import Webhook, eventually, link

ACME = "s3://acme-models"
HOMES = ("/models", "/var/lib/modeldrop")
SERVE = """
import json, os
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith("MODELDROP_MODEL_")}))
"""


def publish_to(registry: str, folder: Path, seed: str, *models: str) -> None:
    """Publish the build ``seed`` as each of the models."""
    build = folder / f".build-{seed}"
    make_build(build, seed)
    store = open_store(registry)
    for model in models:
        move_forward(store, model, publish_folder(store, model, build, adopt_seconds=0.2).version, "current", by="dana")


def here(words: list[str], registry: str, home: Path) -> list[str]:
    """The arguments of a command that is shown, with the registry and the folder that are here."""
    assert words[0].endswith("modeldrop"), words
    return [
        str(home) if word in HOMES else registry + word.removeprefix(ACME) if word.startswith(ACME) else word
        for word in words[1:]
    ]


def run(arguments: list[str], home: Path, cwd: Path) -> Ran:
    """Run modeldrop as in the image: MODELDROP_HOME is set, and nothing else."""
    (cwd / "serve.py").write_text(SERVE, "utf-8")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [sys.executable, "-m", "modeldrop", *arguments],
        env=environment(MODELDROP_HOME=str(home), PATH=path),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def served(ran: Ran) -> dict[str, str]:
    """The versions of the models that a program was given."""
    assert ran.code == 0, ran.err
    given = json.loads(ran.out.splitlines()[-1])
    return {
        name.removeprefix("MODELDROP_MODEL_").removesuffix("_VERSION").lower(): version
        for name, version in given.items()
        if name.endswith("_VERSION") and Path(given[name.removesuffix("_VERSION")]).is_dir()
    }


def test_compose_fetches_serves_and_follows(
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    home: Path,
    watch: Any,
    webhook: tuple[Webhook, str],
) -> None:
    s3 = servers["s3"]
    sign_in(monkeypatch, s3)
    registry = s3.registry()
    publish_to(registry, tmp_path, "a", "embedder", "reranker")
    services = documents(COMPOSE)[0]["services"]
    fetched = run(here(["modeldrop", *services["fetch"]["command"]], registry, home), home, tmp_path)
    assert (fetched.code, len(fetched.out.splitlines())) == (0, 2), fetched.err
    arguments = here(["modeldrop", *services["watch"]["command"]], registry, home)
    notice, url = webhook
    arguments = [url if word == "http://search:8080/reload" else word for word in arguments]
    assert url in arguments
    one = watch(*arguments[1:], MODELDROP_HOME=str(home), MODELDROP_POST_AUTHORIZATION="Bearer abc", no_proxy="*")
    eventually(lambda: sum("v1 is in use" in line for line in list(one.lines)) == 2)
    publish_to(registry, tmp_path, "b", "embedder")
    eventually(lambda: notice.authorizations == ["Bearer abc"])
    one.process.send_signal(signal.SIGTERM)
    assert one.ends() == 0
    # The service has no credentials, and no registry that it could ask.
    sign_out(monkeypatch)
    words = here(services["search"]["command"], registry, home)
    assert served(run(words, home, tmp_path)) == {"embedder": "v2", "reranker": "v1"}


def test_a_sidecar_follows_what_was_fetched_before_it(
    registry: Path, tmp_path: Path, home: Path, watch: Any, webhook: tuple[Webhook, str]
) -> None:
    found = containers(DEPLOY / "kubernetes/sidecar-watch.yaml")
    publish_to(str(registry), tmp_path, "a", "embedder")
    fetching = here(["modeldrop", *found["models"]["args"]], str(registry), home)
    assert run([*fetching, "--start-jitter=0s"], home, tmp_path).code == 0
    notice, url = webhook
    shown = here(["modeldrop", *found["watch"]["args"]], str(registry), home)
    arguments = [f"--post={url}" if word.startswith("--post=") else word for word in shown]
    assert arguments != shown
    one = watch(*arguments[1:], MODELDROP_HOME=str(home), MODELDROP_POST_AUTHORIZATION="Bearer abc", no_proxy="*")
    one.says('"event": "following"')
    publish_to(str(registry), tmp_path, "b", "embedder")
    eventually(lambda: notice.documents)
    assert [document["version"] for document in notice.documents] == ["v2"]
    eventually(lambda: link(home) == "v2")
    one.process.send_signal(signal.SIGTERM)
    assert one.ends() == 0
    assert all(json.loads(line) for line in one.lines)
    assert notice.authorizations == ["Bearer abc"]
    words = here(found["search"]["command"], str(registry), home)
    assert served(run(words, home, tmp_path)) == {"embedder": "v2"}


def test_an_init_container_leaves_what_the_service_takes(registry: Path, tmp_path: Path, home: Path) -> None:
    publish_to(str(registry), tmp_path, "a", "embedder", "reranker")
    found = containers(DEPLOY / "kubernetes/init-container.yaml")
    arguments = here(["modeldrop", *found["models"]["args"]], str(registry), home)
    fetched = run([*arguments, "--start-jitter=0s"], home, tmp_path)
    assert fetched.code == 0, fetched.err
    words = here(found["search"]["command"], str(registry), home)
    assert served(run(words, home, tmp_path)) == {"embedder": "v1", "reranker": "v1"}


def test_a_service_beside_a_node_cache_waits_for_it(registry: Path, tmp_path: Path, home: Path, watch: Any) -> None:
    found = containers(DEPLOY / "kubernetes/node-cache.yaml")
    words = here(found["search"]["command"], str(registry), home)
    publish_to(str(registry), tmp_path, "a", "embedder", "reranker")
    cold = run(words, home, tmp_path)
    assert (cold.code, cold.out) == (12, ""), cold.err
    arguments = here(["modeldrop", *found["watch"]["args"]], str(registry), home)
    one = watch(*arguments[1:], "--start-jitter=0s", MODELDROP_HOME=str(home))
    eventually(lambda: link(home) == "v1" and link(home, model="reranker") == "v1")
    assert run(here(found["watch"]["readinessProbe"]["exec"]["command"], "", home), home, tmp_path).code == 0
    assert served(run(words, home, tmp_path)) == {"embedder": "v1"}
    one.process.send_signal(signal.SIGTERM)
    assert one.ends() == 0


def test_units_fetch_and_serve(registry: Path, tmp_path: Path, home: Path) -> None:
    publish_to(str(registry), tmp_path, "a", "embedder", "reranker")

    def start(name: str) -> Ran:
        words = unit(DEPLOY / f"systemd/{name}.service")["Service"]["ExecStart"].split()
        own = {"/opt/search/bin/python": sys.executable, "/opt/search/serve.py": "serve.py"}
        return run(here([own.get(word, word) for word in words], str(registry), home), home, tmp_path)

    assert start("modeldrop-fetch").code == 0
    assert served(start("search")) == {"embedder": "v1", "reranker": "v1"}


def test_a_disk_is_carried_to_a_site_without_network(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3 = servers["s3"]
    sign_in(monkeypatch, s3)
    registry, disk, site = s3.registry(), tmp_path / "a disk", tmp_path / "site"
    publish_to(registry, tmp_path, "a", "embedder", "reranker")
    publish_to(registry, tmp_path, "b", "embedder")
    script(DEPLOY / "air-gap/carry.sh", registry, disk, tmp_path)
    sign_out(monkeypatch)
    monkeypatch.setenv("MODELDROP_REGISTRY", str(site))
    listed = script(DEPLOY / "air-gap/receive.sh", registry, disk, tmp_path)
    assert "embedder" in listed
    digests = {
        (place / model / "v1/manifest.json").read_bytes()
        for place in (disk / "models", site)
        for model in ("embedder", "reranker")
    }
    assert len(digests) == 2, "the copies are those of the source"
    home = tmp_path / "home"
    assert run(["fetch", f"{site}/embedder", "-d", str(home)], home, tmp_path).code == 0


def script(path: Path, registry: str, disk: Path, folder: Path) -> str:
    """Run a script that is shown, with the registry that is here and this modeldrop on its path."""
    assert script_words(path)
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    program = bin_folder / "modeldrop"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m modeldrop "$@"\n', "utf-8")
    program.chmod(0o755)
    copy = folder / path.name
    copy.write_text(path.read_text("utf-8").replace(ACME, registry), "utf-8")
    more = {"PATH": f"{bin_folder}:/usr/bin:/bin", "MODELDROP_REGISTRY": str(folder / "site")}
    done = subprocess.run(
        ["bash", copy, disk], env=environment(**more), capture_output=True, text=True, check=False, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_is_baked_and_served_without_its_registry(registry: Path, tmp_path: Path, home: Path) -> None:
    for seed in "abc":
        publish_to(str(registry), tmp_path, seed, "embedder")
    fetching, serving = docker_words(DEPLOY / "baked/Dockerfile")
    baked = run(here(fetching, str(registry), home), home, tmp_path)
    assert baked.code == 0, baked.err
    registry.rename(tmp_path / "gone")
    assert served(run(here(serving, str(registry), home), home, tmp_path)) == {"embedder": "v3"}


def test_a_start_hook_fetches_and_becomes_the_service(registry: Path, tmp_path: Path, home: Path) -> None:
    publish_to(str(registry), tmp_path, "a", "embedder")
    *_, serving = docker_words(DEPLOY / "start-hook/Dockerfile")
    assert served(run(here(serving, str(registry), home), home, tmp_path)) == {"embedder": "v1"}
    registry.rename(tmp_path / "gone")
    again = run(here(serving, str(registry), home), home, tmp_path)
    assert served(again) == {"embedder": "v1"}
    assert "v1" in again.err, "says that it is the last good one"
