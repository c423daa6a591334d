"""What the pages take for granted: a Hub with the models that they name, and registries for each page."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop.format.manifest import parse_manifest, serialize_manifest
from tests.docs.page_runner import PageRunner, StepOutput
from tests.docs.page_setups import PageSetup, RegistrySetup
from tests.helpers.checkpoints import bert
from tests.helpers.clouds import CLOUDS, Servers, sign_in
from tests.helpers.command_line import modeldrop
from tests.helpers.exporter_python import exporter_python
from tests.helpers.minilm import MINILM, REGISTRY, Published
from tests.servers.https import HttpsServer
from tests.servers.hub import HubServer


class DocsEnvironment:
    """What all readers share: the Hub, and a prebuilt with what was built before.

    Args:
        folder: for its files.
        stack: ends its servers.
        clouds: the servers of S3 and others.
        publish_minilm: publishes the real all-MiniLM-L6-v2, once for all tests.
    """

    def __init__(
        self, folder: Path, stack: contextlib.ExitStack, clouds: Servers, publish_minilm: Callable[[], Published]
    ) -> None:
        self._folder = folder
        self._stack = stack
        self._clouds = clouds
        self._publish_minilm = publish_minilm
        self.checkpoint = bert(folder / "bert")
        self.prebuilt = folder / "prebuilt"
        self._hub = stack.enter_context(HubServer())
        self._hub.add_repo(MINILM, self.checkpoint)
        self._hub.add_repo("org/name", self.checkpoint)
        self._at_hub = {**self._hub.environment, "HF_HOME": str(folder / "hub")}
        ran = modeldrop("publish", MINILM, self.prebuilt / "embedder", environment=self._at_hub)
        assert ran.code == 0, ran.err
        self.built = _without_speed(self.prebuilt / "embedder/v1", folder / "built")

    def publish_minilm(self, reader: PageRunner) -> StepOutput:
        """What a reader has and sees who has published the real all-MiniLM-L6-v2."""
        made = self._publish_minilm()
        # Links suffice: files of a registry are replaced, never changed.
        shutil.copytree(made.registry, reader.folder / REGISTRY, copy_function=os.link, dirs_exist_ok=True)
        return StepOutput(made.ran.code, reader.shown(made.ran.err + made.ran.out))

    def reader(self, setup: PageSetup, folder: Path, monkeypatch: pytest.MonkeyPatch) -> PageRunner:
        """Somebody on this setup, in ``folder``, which is not there yet; signed in to the clouds that it names."""
        sign_in(monkeypatch, *(self._clouds[name] for name in sorted(setup.clouds)))
        substitutions = {"/models": str(folder.parent / "home")}
        addresses = {"folder": str(folder)}
        registries = {name: self._registry(name, place, folder, addresses) for name, place in setup.registries.items()}
        substitutions |= {name: registry for name, registry in registries.items() if not name.startswith("./")}
        for name in setup.clouds - {"azure"}:
            addresses[name] = f"http://127.0.0.1:{self._clouds[name].port}"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, setup, self.checkpoint, self.built)
        substitutions |= {name: here.format(**addresses) for name, here in setup.substitutions.items()}
        variables = {name: here.format(**addresses) for name, here in setup.variables.items()}
        variables = {name: substitutions.get(value, value) for name, value in variables.items()}
        shared = {
            **self._at_hub,
            "DOCS_PREBUILT": str(self.prebuilt),
            "MODELDROP_EXPORTER_PYTHON": exporter_python(),
            "MODELDROP_HOME": substitutions["/models"],
        }
        return PageRunner(folder, registries, substitutions, shared | variables)

    def _registry(self, name: str, place: RegistrySetup, folder: Path, addresses: dict[str, str]) -> str:
        if place.where in CLOUDS:
            registry = self._clouds[place.where].registry()
        elif name.startswith("./"):
            registry = str(folder / name)
        else:
            registry = str(folder.parent / "registry" / name.replace("/", "_"))
        place.fill(registry, folder.parent, self.built)
        if place.where == "https":
            server = self._stack.enter_context(HttpsServer(Path(registry)))
            addresses["ca"] = str(server.ca_file)
            registry = server.url
        return registry


def _without_speed(version: Path, folder: Path) -> Path:
    """A copy of a version without latencies: pages show int8, and of so small a model either may be the faster one."""
    shutil.copytree(version, folder)
    manifest = parse_manifest((version / "manifest.json").read_bytes())
    variants = tuple(variant._replace(speed=None) for variant in manifest.variants)
    (folder / "manifest.json").write_bytes(serialize_manifest(manifest._replace(variants=variants)))
    return folder


def _write(folder: Path, setup: PageSetup, checkpoint: Path, built: Path) -> None:
    for name, text in setup.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    for name in setup.checkpoints:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".onnx"):
            shutil.copyfile(built / "onnx/model.onnx", folder / name)
            shutil.copyfile(built / "config.json", (folder / name).with_name("config.json"))
        else:
            shutil.copytree(checkpoint, folder / name)
