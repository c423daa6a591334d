"""Publishing whose builds are small made ones: all of it but the exporter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.format.manifest import serialize_manifest
from modeldrop.format.recipe import Recipe
from modeldrop.publishing.build import require_whole_build
from modeldrop.publishing.plan import plan
from modeldrop.publishing.publish import publish
from modeldrop.publishing.request import PublishRequest
from modeldrop.registry.versions import find_rejection, read_channel
from modeldrop.storage.write import open_store
from tests.helpers.builds import environment, make_build

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.publishing.plan import Plan
    from modeldrop.registry.publish import Published

MODEL = "embedder"


class Publisher:
    """A folder for sources and builds.

    Attributes:
        own: files that builds have in place of the usual ones, by seed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own: dict[str, Mapping[str, bytes]] = {}

    def source(self, seed: str) -> Path:
        """A checkpoint folder, as far as a plan looks into it."""
        source = self.folder / f"source {seed}"
        source.mkdir(exist_ok=True)
        (source / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 100}')
        (source / "tokenizer.json").write_text("{}")
        (source / "tokenizer_config.json").write_text("{}")
        (source / "model.safetensors").write_bytes(seed.encode() * 100)
        return source

    def request(self, seed: str, *registries: str, **more: Any) -> PublishRequest:
        return PublishRequest(
            source=str(self.source(seed)), model=MODEL, registries=registries, recipe=Recipe(), **more
        )

    def built(self, wanted: Plan, seed: str = "a", name: str = "build") -> Path:
        """The build of a plan."""
        folder = self.folder / f"{name} {wanted.build_request.key[:8]}"
        if not folder.exists():
            manifest = make_build(folder, seed, own=self.own.get(seed))
            (folder / "manifest.json").write_bytes(
                serialize_manifest(manifest._replace(build_key=wanted.build_request.key))
            )
        return folder

    def publish(self, seed: str, *registries: str, **more: Any) -> list[Published]:
        """Plan, and publish the made build ``seed`` where the plan asks for one."""
        wanted = plan(self.request(seed, *registries, **more))
        return publish_built(wanted, self.built(wanted, seed) if wanted.would_build else None)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    folder = tmp_path / "the publisher"
    folder.mkdir()
    return Publisher(folder)


def publish_built(wanted: Plan, folder: Path | None) -> list[Published]:
    """Publish the build in a folder, as the action does whose earlier step has made it."""
    build = None if folder is None else require_whole_build(wanted.build_request, folder)
    return publish(wanted, build=build, quiet=True)


def named(registry: str, channel: str = "current") -> int | None:
    """The version that a channel names."""
    found, _ = read_channel(open_store(registry), MODEL, channel)
    return None if found is None else found.version


def why_rejected(registry: str, number: int) -> str | None:
    """Why a version was rejected, None if it was not."""
    found = find_rejection(open_store(registry), MODEL, number)
    return None if found is None else found.why


def start_publisher(folder: Path, seed: str, test: str, registry: object, run: str = "") -> subprocess.Popen[str]:
    """Publish in a process of its own, as the CI run ``run``."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.publisher", folder, seed, test, str(registry)],
        env=environment(MODELDROP_ACTOR="ci", MODELDROP_RUN=run),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main(folder: str, seed: str, test: str, *registries: str) -> None:
    """Publish in a process of its own; print what became of the first registry."""
    (outcome, *_) = Publisher(Path(folder)).publish(seed, *registries, test=test)
    assert outcome.channel is not None
    sys.stdout.write(f"{outcome.version.number} {outcome.how} {outcome.tested} {outcome.channel.after}")


if __name__ == "__main__":
    main(*sys.argv[1:])
