"""Exports in a real container registry, read back by skopeo, buildah and oras: the files of the snapshot."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import oras.provider
import pytest

from benchmarks.bucket import describe, random_file
from modeldrop.fetcher.fetch import fetch
from modeldrop.format.manifest import Manifest, serialize_manifest
from modeldrop.registry.channels import move_forward
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import describe as describe_bytes
from tests.helpers.builds import make_build, publish_folder
from tests.helpers.command_line import Ran, modeldrop
from tests.servers.docker_registry import DockerRegistry

pytestmark = pytest.mark.soak

NAME = "models/embedder"
DEEP = f"{'a folder of a long name/' * 6}größe 漢字.json"
GIB = 1 << 30


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("docker-registry")) as server:
        yield server


def publish(registry: Path, build: Path, manifest: Manifest) -> str:
    (build / "manifest.json").write_bytes(serialize_manifest(manifest))
    store = FolderStore(str(registry))
    version = publish_folder(store, "embedder", build, adopt_seconds=0.2).version
    move_forward(store, "embedder", version, "current", by="dana")
    return f"{registry}/embedder"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with an empty file, one whose path is longer than tar's, and one whose name is no ASCII."""
    folder = tmp_path_factory.mktemp("oci")
    manifest = make_build(folder / "build", variants=["int8"])
    (folder / "build" / DEEP).parent.mkdir(parents=True)
    (folder / "build" / DEEP).write_bytes(b"{}")
    [variant] = manifest.variants
    files = (*manifest.files, describe_bytes(DEEP, b"{}"))
    return publish(
        folder / "registry",
        folder / "build",
        manifest._replace(files=files, variants=(variant._replace(files=(*variant.files, DEEP)),)),
    )


@pytest.fixture(scope="module")
def expected(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(fetch(source, tmp_path_factory.mktemp("home"), variant="int8").path)


@pytest.fixture(scope="module")
def pushed(source: str, docker_registry: DockerRegistry) -> str:
    ran = export(source, f"oci://{docker_registry.host}/{NAME}:v1")
    assert ran.code == 0, ran.err
    return f"{docker_registry.host}/{NAME}:v1"


def export(source: str, destination: str, *more: str) -> Ran:
    """Run the command, with a home beside the registry."""
    return modeldrop("export", source, destination, "-d", Path(source).parents[1] / "home", *more)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def skopeo(*arguments: str | Path) -> str:
    return run("skopeo", *arguments)


class Containers:
    """buildah with a store of its own, as root in a chroot."""

    def __init__(self, folder: Path) -> None:
        self._options = ["--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]

    def files(self, image: str, *options: str) -> tuple[dict[str, bytes], Path]:
        name = run("buildah", *self._options, "from", *options, image).strip().splitlines()[-1]
        root = Path(run("buildah", *self._options, "mount", name).strip())
        return files_of(root / "models"), root


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    yield Containers(tmp_path / "containers")
    shutil.rmtree(tmp_path / "containers", ignore_errors=True)


def test_without_its_packages_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match=r"apt-get install .* docker-registry skopeo buildah"):
        DockerRegistry(tmp_path)


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_a_mounted_image_has_the_files(
    pushed: str, containers: Containers, expected: dict[str, bytes], architecture: str
) -> None:
    found, root = containers.files(f"docker://{pushed}", "--tls-verify=false", f"--arch={architecture}")
    assert found == expected
    assert {path.name for path in root.iterdir()} == {"models"}
    modes = {(path.is_dir(), path.stat().st_mode & 0o777, path.stat().st_uid) for path in (root / "models").rglob("*")}
    assert modes == {(True, 0o755, 0), (False, 0o444, 0)}
    assert {path.stat().st_mtime for path in (root / "models").rglob("*")} == {0}


def test_an_image_that_is_built_on_it_can_copy_the_files(
    source: str, containers: Containers, expected: dict[str, bytes], tmp_path: Path
) -> None:
    ran = export(source, f"oci:{tmp_path}/layout:v1", "--format=image")
    assert ran.code == 0, ran.err
    assert containers.files(f"oci:{tmp_path}/layout:v1")[0] == expected


def test_skopeo_reads_both(pushed: str, tmp_path: Path) -> None:
    told = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{pushed}"))
    assert (told["Os"], len(told["Layers"])) == ("linux", 1)
    assert told["Labels"]["org.opencontainers.image.title"] == "embedder"
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{pushed}-modelpack"))
    assert raw["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    skopeo("copy", "--src-tls-verify=false", f"docker://{pushed}-modelpack", f"dir:{tmp_path}/artifact")
    assert {path.name for path in (tmp_path / "artifact").iterdir()} >= {
        layer["digest"].removeprefix("sha256:") for layer in raw["layers"]
    }


def test_what_skopeo_has_carried_from_a_layout_is_what_export_pushes(
    source: str, pushed: str, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    layout = f"oci:{tmp_path}/layout:v1"
    assert export(source, layout).code == 0
    for suffix in ("", "-modelpack"):
        there = f"docker://{docker_registry.host}/carried:v1{suffix}"
        skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"{layout}{suffix}", there)
        carried = skopeo("inspect", "--raw", "--tls-verify=false", there)
        assert carried == skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{pushed}{suffix}")
    ran = export(source, f"oci://{docker_registry.host}/carried:v1")
    assert (ran.code, ran.out.count("there already")) == (0, 2)


def test_oras_pulls_the_files_of_the_artifact(pushed: str, expected: dict[str, bytes], tmp_path: Path) -> None:
    oras.provider.Registry(insecure=True).pull(f"{pushed}-modelpack", outdir=str(tmp_path / "pulled"))
    assert files_of(tmp_path / "pulled") == expected


def test_blobs_are_mounted(source: str, pushed: str, docker_registry: DockerRegistry) -> None:
    ran = export(source, f"oci://{docker_registry.host}/other:v1", f"--mount-from={NAME}", "--json")
    assert ran.code == 0, ran.err
    assert [one["sent_bytes"] for one in ran.json["exports"]] == [0, 0]
    assert [one["pushed"] for one in ran.json["exports"]] == [True, True]


# The most memory that this program had, and not the one that has started it: ru_maxrss is handed on.
_MEASURED = """\
import re, sys
from pathlib import Path
from modeldrop.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


def test_a_gibibyte_needs_no_memory(docker_registry: DockerRegistry, tmp_path: Path) -> None:
    build, graph = tmp_path / "build", "onnx/model.onnx"
    manifest = make_build(build, variants=["fp32"])
    random_file(build / graph, GIB)
    described = describe(build / graph, graph, manifest.piece_size)
    files = tuple(described if one.path == graph else one for one in manifest.files)
    model = publish(tmp_path / "registry", build, manifest._replace(files=files))
    fetch(model, tmp_path / "home", variant="fp32")
    command = ["export", model, f"oci://{docker_registry.host}/big:v1", "-d", f"{tmp_path}/home", "--quiet"]
    said = run(sys.executable, "-c", _MEASURED, *command)
    assert said.count(", pushed") == 2
    assert int(said.splitlines()[-1]) < 100_000
    docker_registry.empty()
