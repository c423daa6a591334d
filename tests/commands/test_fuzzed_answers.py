"""Whatever a service or a proxy answers, and to whatever request: a sentence, soon, without secrets.

``make soak`` runs more than a thousand cases on each cloud, ``make test`` a spread of them.
"""

from __future__ import annotations

import gc
import json
import resource
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from modeldrop.registry.channels import move_forward
from modeldrop.registry.publish import read_build
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_folder
from tests.helpers.clouds import CLOUDS, Servers, sign_in
from tests.helpers.fuzzing import FuzzedCommands, publish, run_command, shorten_waits
from tests.helpers.rounds import rounds
from tests.servers.azure import KEY
from tests.servers.fuzzed_answers import SHAPES
from tests.servers.fuzzing_proxy import FuzzingProxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.helpers.fuzzing import Command, Outcome
    from tests.servers.interface import CloudServer

# SDKs leave connections whose answers they give up to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
SECRET_KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCYzEXAMPLEKEY1"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQDfuzzedSessionToken"
HUGE_KIB = 200 << 10
"""A huge body, and as much again for what Python and the proxy in this process do with it."""


class FuzzedRegistry:
    """A registry with two versions of a model, and the commands on it, behind a proxy.

    Attributes:
        proxy: what all of its requests go through.
        commands: by name.
        secrets: what no command may print.
    """

    def __init__(self, server: CloudServer, proxy: FuzzingProxy, folder: Path) -> None:
        self.proxy = proxy
        self.secrets: set[str] = {SECRET_KEY, SESSION_TOKEN, KEY}
        self._folder = folder
        self._registry = server.registry()
        self._new = f"{self._registry}-new"
        for seed in "abc":
            make_build(folder / seed, seed)

    @property
    def urls(self) -> tuple[str, str]:
        """Of the registry, and of one that is published to."""
        return self._registry, self._new

    def fill(self) -> None:
        store = open_store(self._registry)
        for seed in "ab":
            version = publish_folder(store, "embedder", self._folder / seed).version
            move_forward(store, "embedder", version, "current", by="dana")

    @property
    def commands(self) -> Mapping[str, Command]:
        registry, model = self._registry, f"{self._registry}/embedder"
        return {
            "publish": lambda number: publish(self._new, f"m{number}", self._folder / "c"),
            "promote": lambda number: run_command("promote", f"{model}@v{1 + number % 2}"),
            "ls": lambda _: run_command("ls", registry),
            "ls of a model": lambda _: run_command("ls", model),
            "prune": lambda _: run_command("prune", model, "--keep", "1", "--older-than", "1d", "--yes"),
            "doctor": lambda _: run_command("doctor", registry, "--model", "embedder"),
            "fetch and verify": self._fetch,
        }

    def _fetch(self, number: int) -> int:
        home = self._folder / f"home {number}"
        try:
            code = run_command("fetch", f"{self._registry}/embedder", "-d", home, "--quiet")
            assert code or not run_command("verify", "-d", home)
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return code


@pytest.fixture(params=CLOUDS)
def fuzzed(
    request: pytest.FixtureRequest,
    servers: Servers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    publisher_environment: None,
) -> Iterator[FuzzedRegistry]:
    """A registry in each cloud, signed in to with secrets that look like real ones."""
    server = servers[request.param]
    sign_in(monkeypatch, server)
    with FuzzingProxy(server.port) as proxy:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value.replace(f":{server.port}", f":{proxy.port}"))
        made = FuzzedRegistry(server, proxy, tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        if request.param == "s3":
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
        if request.param == "gcs":
            _sign_in_to_gcs(monkeypatch, made, tmp_path, f"http://127.0.0.1:{proxy.port}")
        made.fill()
        shorten_waits(monkeypatch)
        yield made
    gc.collect()


def _sign_in_to_gcs(monkeypatch: pytest.MonkeyPatch, fuzzed: FuzzedRegistry, folder: Path, endpoint: str) -> None:
    """As a service account: with STORAGE_EMULATOR_HOST nobody would sign in."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private_key = rsa.generate_private_key(65537, 2048).private_bytes(*pem).decode()
    account = {"type": "service_account", "client_email": "ci@acme.iam.gserviceaccount.com", "private_key_id": "1"}
    account |= {"private_key": private_key, "token_uri": f"{endpoint}/_token"}
    (folder / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(folder / "account.json"))
    urls = [*fuzzed.urls, fuzzed.urls[0].rpartition("/")[0]]  # where a registry's last part may be a model's name
    tables = [f'[registries.r{n}]\nurl = "{url}"\nendpoint = "{endpoint}"\n' for n, url in enumerate(urls)]
    (folder / "modeldrop.toml").write_text("\n".join(tables))
    monkeypatch.setenv("MODELDROP_CONFIG", str(folder / "modeldrop.toml"))
    fuzzed.secrets |= {line for line in private_key.splitlines() if len(line) == 64}


@pytest.mark.rounds
def test_whatever_is_answered_becomes_a_sentence(fuzzed: FuzzedRegistry) -> None:
    commands = FuzzedCommands(fuzzed.proxy, fuzzed.commands)
    shapes = [shape for shape in SHAPES if not shape.heavy]
    outcomes = [commands.run(*case) for case in commands.cases(rounds(25, 1200), shapes)]
    assert not [str(one) for one in outcomes if one.is_defect()]
    assert not [str(one) for one in outcomes if not one.is_readable()]
    assert not [str(one) for one in outcomes if not one.names_a_failure()]
    assert not [str(one) for one in outcomes if _shows(one, fuzzed.secrets | fuzzed.proxy.secrets)]
    assert fuzzed.proxy.secrets


def _shows(outcome: Outcome, secrets: set[str]) -> bool:
    return any(secret in outcome.said for secret in secrets)


def test_of_a_huge_answer_little_comes_into_memory(fuzzed: FuzzedRegistry) -> None:
    """Of what publishers ask for; obstore takes the whole of a refusal, for the seconds that a request may take."""
    known = {name: command for name, command in fuzzed.commands.items() if name in {"promote", "ls", "publish"}}
    commands = FuzzedCommands(fuzzed.proxy, known)
    cases = commands.cases(rounds(6, 120), [shape for shape in SHAPES if shape.heavy])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = [commands.run(*case) for case in cases]
    assert not [str(one) for one in outcomes if one.is_defect() or not one.is_readable()]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < HUGE_KIB


def test_a_defect_of_our_own_is_not_blamed_on_an_answer(fuzzed: FuzzedRegistry, tmp_path: Path) -> None:
    file = next(file for file in read_build(tmp_path / "c").manifest.files if file.path == "config.json")
    progress: dict[int, None] = {}
    with pytest.raises(KeyError, match=str(file.size)):
        open_store(fuzzed.urls[1]).upload(
            "m/v1/config.json", tmp_path / "c" / file.path, file, 1 << 16, progress.__getitem__
        )
