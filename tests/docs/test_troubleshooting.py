"""Every message of the page about troubleshooting is provoked, and ends with the exit code that the page tells."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from modeldrop.errors import ConflictError, ModeldropError
from modeldrop.export.messages import Measurement
from modeldrop.export.own_metric import OwnMetric
from modeldrop.export.preflight.files import check_complete
from modeldrop.export.preflight.resources import ResourceNeeds, check_resources
from modeldrop.export.thresholds import check_sizes, check_speeds, judge
from modeldrop.export.worker_process import run_worker
from modeldrop.fetcher.download.volume import check_volume
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.notes import Quarantine, WatchNote, read_state, write_quarantine, write_watch_note
from modeldrop.format.recipe import Recipe, VariantOptions
from modeldrop.format.records import Seal, serialize_seal
from modeldrop.registry.channels import move_forward, promote, refresh, rollback
from modeldrop.registry.versions import get_version
from modeldrop.storage.write.folder import FolderStore
from tests.docs.pages import DOCS, read
from tests.helpers.builds import digest_of, edit, environment, publish_build, publisher_environment, registry
from tests.helpers.clouds import Servers, sign_in
from tests.helpers.command_line import RUNTIME_PYTHON, modeldrop, ran_here
from tests.helpers.signing import public, signing_with
from tests.servers.https import HttpsAnswer, HttpsServer
from tests.servers.s3 import S3Server

__all__ = ["publisher_environment", "registry"]
ROWS = re.findall(r"^\| (`[^`]+`|[^|`]*`current`[^|]*) \| (\d+) \|", read(DOCS / "troubleshooting.md"), re.MULTILINE)
SHOWN = {message.strip("`"): int(code) for message, code in ROWS}


@dataclass(frozen=True)
class Ended:
    """What was said, and the exit code."""

    code: int
    text: str


class Bench:
    """A registry with one version of noise, and a home to fetch into."""

    def __init__(self, folder: Path, registry: Path) -> None:
        self.folder = folder
        self.registry = registry
        self.home = folder / "home"
        publish_build(registry)

    def run(self, command: str, *arguments: str | Path, python: str | Path | None = None, **more: str) -> Ended:
        """Run modeldrop: in this process, unless an interpreter is named."""
        if python is not None:
            ran = modeldrop(command, *arguments, python=python, cwd=self.folder, environment=environment(**more))
        else:
            ran = ran_here(command, *arguments, cwd=self.folder, environment=more)
        return Ended(ran.code, ran.out + ran.err)

    def fetch(self, *options: str | Path, reference: str = "", home: Path | None = None, **more: str) -> Ended:
        """Fetch the embedder."""
        return self.run("fetch", reference or f"{self.registry}/embedder", "-d", home or self.home, *options, **more)


def fails(what: Callable[[], object]) -> Ended:
    """How an error would end the command, for those that no command makes in a short time."""
    with pytest.raises(ModeldropError) as caught:
        what()
    return Ended(caught.value.exit_code, str(caught.value))


def checkpoint(bench: Bench) -> Path:
    """A folder that looks like a BERT without a tokenizer, as far as it is looked at before it is loaded."""
    folder = bench.folder / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 9}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


Provoke = Callable[[Bench], Ended]
PROVOKED: dict[str, Provoke] = {}


def provokes(message: str) -> Callable[[Provoke], Provoke]:
    def note(function: Provoke) -> Provoke:
        PROVOKED[message] = function
        return function

    return note


@provokes("is not trusted")
def _(bench: Bench) -> Ended:
    with HttpsServer(bench.registry) as server:
        return bench.fetch(reference=f"{server.url}/embedder")


@provokes("cannot be reached")
def _(bench: Bench) -> Ended:
    with socket.socket() as deaf:  # ours, and nobody listens
        deaf.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        for limit in ("1s", "10s", "100s"):  # as long as asking for the first time takes, at least
            ended = bench.fetch("--timeout", limit, reference=f"{url}/embedder")
            if "cannot be reached" in ended.text:
                break
    return ended


@provokes("the service answered 403")
def _(bench: Bench) -> Ended:
    with HttpsServer(bench.registry) as server:
        server.answer = lambda _: HttpsAnswer(403, b"no")
        return bench.fetch(reference=f"{server.url}/embedder", SSL_CERT_FILE=str(server.ca_file))


@provokes("is no channel, but")
def _(bench: Bench) -> Ended:
    with HttpsServer(bench.registry) as server:
        server.answer = lambda _: HttpsAnswer(200, b"<!DOCTYPE html><html><body>Sign in</body></html>")
        return bench.fetch(reference=f"{server.url}/embedder", SSL_CERT_FILE=str(server.ca_file))


@provokes("has expired")
def _(bench: Bench) -> Ended:
    with S3Server() as server:
        registry = server.registry()
        server.rule("answer", status=400, code="ExpiredToken", times=9)
        return bench.run("fetch", f"{registry}/embedder", "-d", bench.home, **server.environment)


@provokes("has no channel")
def _(bench: Bench) -> Ended:
    return bench.fetch(reference=f"{bench.registry}/embedder@stagin")


@provokes("was pruned on")
def _(bench: Bench) -> Ended:
    seal = serialize_seal(Seal(at="2026-11-20T00:00:00Z", by="dana", why="older than 30 days"))
    (bench.registry / "embedder/v1/manifest.json").write_bytes(seal)
    return bench.fetch(reference=f"{bench.registry}/embedder@v1")


@provokes("has no variant")
def _(bench: Bench) -> Ended:
    return bench.fetch("--variant", "fp64")


@provokes("as promised")
def _(bench: Bench) -> Ended:
    edit(bench.registry / "embedder/v1/manifest.json", b"feature-extraction", b"feature-extracting")
    return bench.fetch()


@provokes("is in quarantine here")
def _(bench: Bench) -> Ended:
    why = Quarantine(
        version=1,
        digest=digest_of(bench.registry, 1),
        generation=1,
        reason="the hook failed",
        at="2026-11-20T00:00:00Z",
    )
    (bench.home / "embedder").mkdir(parents=True)
    write_quarantine(bench.home / "embedder", "current", why)
    return bench.fetch()


@provokes("not every hook has been told")
def _(bench: Bench) -> Ended:
    assert bench.fetch().code == 0
    model = bench.home / "embedder"
    write_watch_note(model, "current", WatchNote(telling=read_state(model, "current")))
    return bench.run("status", bench.home)


@provokes("and offline nothing is fetched")
def _(bench: Bench) -> Ended:
    return bench.fetch("--on-unavailable", "offline")


@provokes("Could not write into")
def _(bench: Bench) -> Ended:
    (bench.folder / "file").write_text("")
    return bench.fetch(home=bench.folder / "file/home")


@provokes("cannot write the parts of a file in any order")
def _(bench: Bench) -> Ended:
    (bench.home / "embedder").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.pread", lambda *_: b"")
        return fails(lambda: check_volume(bench.home / "embedder/.partial", ()))


@provokes("cannot be read in this forked child")
def _(bench: Bench) -> Ended:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.executable", "/usr/bin/uwsgi")
        patch.setattr("modeldrop.storage.read.runtime.runs_here", lambda: False)
        return fails(lambda: fetch("s3://acme-models/embedder", bench.home))


@provokes("holds no snapshots: nothing was verified")
def _(bench: Bench) -> Ended:
    return bench.run("verify", "-d", bench.home)


@provokes("does not belong there")
def _(bench: Bench) -> Ended:
    assert bench.fetch().code == 0
    (bench.home / "embedder/current/cache").write_text("")
    return bench.run("verify", "-d", bench.home)


@provokes("has too little room for")
def _(bench: Bench) -> Ended:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeldrop.fetcher.download.room.free_bytes", lambda _: 1)
        return fails(lambda: fetch(f"{bench.registry}/embedder", bench.home))


@provokes("became full while")
def _(bench: Bench) -> Ended:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.pwrite", write)
        return fails(lambda: fetch(f"{bench.registry}/embedder", bench.home))


@provokes("is no channel, but")
def _(bench: Bench) -> Ended:
    (bench.registry / "embedder/current").write_text("<html><title>Sign in</title>")
    return bench.fetch()


@provokes("went back from generation")
def _(bench: Bench) -> Ended:
    channel = bench.registry / "embedder/current"
    old = channel.read_bytes()
    publish_build(bench.registry, "b")
    assert bench.fetch().code == 0
    channel.write_bytes(old)
    return bench.fetch("--on-unavailable", "fail")


@provokes("holds this model from")
def _(bench: Bench) -> Ended:
    assert bench.fetch().code == 0
    publish_build(bench.folder / "other")
    return bench.fetch(reference=f"{bench.folder}/other/embedder")


@provokes("which is not installed")
def _(bench: Bench) -> Ended:
    profile = bench.folder / "config"
    profile.write_text("[profile acme]\nsso_start_url = https://acme.awsapps.com/start\nsso_region = eu-west-1\n")
    more = {"AWS_CONFIG_FILE": str(profile), "AWS_PROFILE": "acme"}
    return bench.run("fetch", "s3://acme-models/embedder", "-d", bench.home, python=RUNTIME_PYTHON, **more)


@provokes("needs boto3 for writing")
def _(bench: Bench) -> Ended:
    return bench.run("promote", "s3://acme-models/embedder@v3", python=RUNTIME_PYTHON)


@provokes("does not answer on this CPU as it was proven to")
def _(bench: Bench) -> Ended:
    return bench.fetch("--self-test", "--variant", "int8")


@provokes("the process that ran it died by")
def _(bench: Bench) -> Ended:
    package = bench.folder / "site/onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    path = f"{package.parent}{os.pathsep}{environment()['PYTHONPATH']}"
    options = ("-d", bench.home, "--self-test", "--variant", "int8")
    return bench.run("fetch", f"{bench.registry}/embedder", *options, python=sys.executable, PYTHONPATH=path)


@provokes("is a Git LFS pointer of")
def _(bench: Bench) -> Ended:
    source = checkpoint(bench)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"
    (source / "model.safetensors").write_text(pointer)
    return bench.run("plan", source, f"{bench.registry}/embedder")


@provokes("and the Hub is not asked")
def _(bench: Bench) -> Ended:
    cache = str(bench.folder / "cache")
    # huggingface_hub reads them when it is imported.
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": cache}
    return bench.run("plan", "org/name", f"{bench.registry}/embedder", python=sys.executable, **offline)


@provokes("most likely because memory ran out")
def _(bench: Bench) -> Ended:
    killed = bench.folder / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    metric = OwnMetric(
        spelled="quality:accuracy", file=Path("quality.py"), module="", function="accuracy", digest="0" * 64
    )
    return fails(lambda: run_worker("own_metric", metric, type(None), bench.folder, print, python=str(killed)))


@provokes("of memory; building this model needs about")
def _(bench: Bench) -> Ended:
    return fails(lambda: check_resources(ResourceNeeds(memory=1 << 60, disk=0), bench.folder))


@provokes("free; building this model needs about")
def _(bench: Bench) -> Ended:
    return fails(lambda: check_resources(ResourceNeeds(memory=0, disk=1 << 60), bench.folder))


@provokes("The build does not behave like the original")
def _(bench: Bench) -> Ended:
    metrics = {"cosine_mean": 0.5, "cosine_min": 0.1}
    measured = Measurement(metrics=metrics, worst={"cosine_min": (0, 0.1)}, golden={}, speed=(1.0, 1.0))
    return fails(lambda: judge(Recipe(), "int8", measured, ["a text"], {}))


@provokes("The build is larger than the recipe allows")
def _(bench: Bench) -> Ended:
    return fails(lambda: check_sizes({"int8": VariantOptions(max_size="10%")}, {"int8": 25}, 100))


@provokes("The build is slower than the recipe allows")
def _(bench: Bench) -> Ended:
    return fails(lambda: check_speeds({"int8": VariantOptions(must_be_faster=2.0)}, {"int8": (1.0, 10.0)}, (1.0, 10.0)))


@provokes("has no tokenizer, and this model reads or writes texts")
def _(bench: Bench) -> Ended:
    return bench.run("build", checkpoint(bench), "-o", bench.folder / "out")


@provokes("Put it beside the weights of the source")
def _(bench: Bench) -> Ended:
    return fails(lambda: check_complete(bench.folder, ["tokenizer.json"], []))


@provokes("has no such metric")
def _(bench: Bench) -> Ended:
    source, recipe = checkpoint(bench), bench.folder / "recipe.toml"
    (source / "tokenizer.json").write_text("{}")
    recipe.write_text("[thresholds.int8]\ntop1 = 0.9\n")
    return bench.run("build", source, "-o", bench.folder / "out", "--recipe", recipe)


@provokes("cannot be a registry to publish to")
def _(bench: Bench) -> Ended:
    registry = os.environ["DOCS_LOOKALIKE"]
    return bench.run("mirror", f"{bench.registry}/embedder@v1", registry)


@provokes("answers, but not as this service does")
def _(bench: Bench) -> Ended:
    with S3Server() as server:
        registry = server.registry()
        page = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
        server.rule("answer", status=200, body=page, headers={"Content-Type": "text/html"}, times=-1)
        return bench.run("ls", registry, **server.environment)


@provokes("does not speak TLS there")
def _(bench: Bench) -> Ended:
    with S3Server() as server:
        there = {"AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{server.port}"}
        return bench.run("ls", server.registry(), **(dict(server.environment) | there))


@provokes("was moved by others")
def _(bench: Bench) -> Ended:
    class AlwaysMoved(FolderStore):
        def swap(self, key: str, data: bytes, previous: str | None) -> None:
            raise ConflictError("somebody else wrote it")

    publish_build(bench.registry, "b")
    return fails(lambda: promote(AlwaysMoved(str(bench.registry)), "embedder", 1, "current", by="dana"))


@provokes("there is nothing to go back to")
def _(bench: Bench) -> Ended:
    return bench.run("rollback", f"{bench.registry}/embedder")


@provokes("published, but `current` did not move")
def _(bench: Bench) -> Ended:
    version = publish_build(bench.registry, "b")
    store = FolderStore(str(bench.registry))
    rollback(store, "embedder", "current", by="dana")
    moved = move_forward(store, "embedder", version, "current", by="ci")
    assert not moved.moved
    assert "modeldrop promote" in moved.reason
    assert get_version(store, "embedder", version.number).digest == version.digest
    return Ended(0, "published, but `current` did not move")


@provokes("is not signed")
def _(bench: Bench) -> Ended:
    return bench.fetch("--trust", public(1))


@provokes("which is not trusted here")
def _(bench: Bench) -> Ended:
    with signing_with(2):
        publish_build(bench.registry, "b")
    return bench.fetch(MODELDROP_TRUST=public(1))


@provokes("attestation.sigstore.json is missing")
def _(bench: Bench) -> Ended:
    return bench.fetch("--require-attestation", "acme/models")


@provokes("may not be named by")
def _(bench: Bench) -> Ended:
    bench.run("policy", bench.registry, "--require", "test")
    return bench.run("promote", f"{bench.registry}/embedder@v1", "--channel", "staging")


@provokes("statement.json is missing")
def _(bench: Bench) -> Ended:
    return bench.fetch("--trust", public(1), reference=f"{bench.registry}/embedder@v1")


@provokes("expired at")
def _(bench: Bench) -> Ended:
    with signing_with(1):
        publish_build(bench.registry, "b")
        refresh(FolderStore(str(bench.registry)), "embedder", "current", expires_in=-60)
    return bench.fetch("--trust", public(1))


@provokes("was not verified under the keys that are trusted")
def _(bench: Bench) -> Ended:
    bench.fetch()
    return bench.fetch("--on-unavailable", "offline", "--trust", public(1))


@provokes("is no public key")
def _(bench: Bench) -> Ended:
    return bench.fetch("--trust", public(1).swapcase())


@provokes("and there is no key here")
def _(bench: Bench) -> Ended:
    with signing_with(1):
        publish_build(bench.registry, "b")
        publish_build(bench.registry, "c")
    return bench.run("rollback", f"{bench.registry}/embedder")


@provokes("neither a private key nor the path of a file")
def _(bench: Bench) -> Ended:
    return bench.run("promote", f"{bench.registry}/embedder@v1", MODELDROP_SIGNING_KEY="/secret")


def test_every_message_of_the_page_is_provoked() -> None:
    assert len(SHOWN) > 25
    assert set(PROVOKED) == set(SHOWN)


@pytest.mark.parametrize("message", PROVOKED)
def test_a_message_comes_with_its_exit_code(
    message: str, tmp_path: Path, registry: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.registry.channel_writes.ATTEMPTS", 2)
    if message.startswith("cannot be a registry"):
        server = servers["s3rver"]
        sign_in(monkeypatch, server)
        monkeypatch.setenv("DOCS_LOOKALIKE", server.registry())
    ended = PROVOKED[message](Bench(tmp_path, registry))
    said = " ".join(ended.text.split())
    assert message in said, ended.text
    assert ended.code == SHOWN[message], ended.text
