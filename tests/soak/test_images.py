"""All images are built and run: fetcher, builder, the baked one and the example service's; systemd checks the units."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modeldrop._version import __version__
from modeldrop.fetcher.choose_variant import choose_variant
from modeldrop.fetcher.options import AUTO
from modeldrop.format.manifest import parse_manifest
from tests.deploy.example_files import DEPLOY, UNITS, name_of
from tests.helpers.builds import CPU, publish_build
from tests.helpers.checkpoints import bert
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.buildah import ROOT, Images
from tests.service.running import EXAMPLE, Service

pytestmark = pytest.mark.soak

USER = 65532
FETCHER_MB = 25
SERVICE_MB = 250
EPOCH = 1_750_000_000
STAMP = (
    "--build-arg=VERSION=1.2.3",
    "--build-arg=REVISION=abc",
    f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}",
    f"--timestamp={EPOCH}",  # what docker buildx calls rewrite-timestamp
)
NAMES = ("embedder", "reranker", "classifier")
REFERENCES = tuple(f"/registry/{name}@v1" for name in NAMES)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    found = Images(tmp_path_factory.mktemp("images"))
    found.download("wheel.txt", "fetch.txt")
    yield found
    found.close()


@pytest.fixture(scope="module")
def fetcher(images: Images) -> str:
    images.build("fetcher", "--target=fetcher", *STAMP)
    return "fetcher"


@pytest.fixture(scope="module")
def service(images: Images) -> str:
    images.gather(ROOT, EXAMPLE / "requirements.txt", EXAMPLE / "requirements-alone.txt")
    images.build("service", context=EXAMPLE)
    return "service"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder that the image's user may write, as a volume is."""
    folder = tmp_path / "volume"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


def weight(tree: Path) -> int:
    """Bytes of the files in a tree."""
    return sum(path.lstat().st_size for path in tree.rglob("*") if path.is_symlink() or path.is_file())


def everything(tree: Path) -> dict[str, tuple[object, ...]]:
    """What is in a tree: of each name its kind, mode, date and a digest of what it holds."""
    found: dict[str, tuple[object, ...]] = {}
    for path in tree.rglob("*"):
        status = path.lstat()
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(tree))] = (status.st_mode, status.st_mtime, hashlib.sha256(content).hexdigest())
    return found


def taken_by_auto(manifest: Path) -> str:
    """The variant that an image takes of a version, on the CPU of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELDROP_CPU", CPU)
        return choose_variant(parse_manifest(manifest.read_bytes()), AUTO).name


@contextlib.contextmanager
def serving(images: Images, name: str, folder: Path, settings: dict[str, str], *options: str) -> Iterator[Service]:
    """An image of the example service, started as it says it is; it gets SIGTERM at the end."""
    configured = images.settings(name)
    assert configured["Cmd"] == ["python", "-m", "modelservice"]
    plain = {"SERVICE_HOST": "127.0.0.1", "SERVICE_PORT": "{port}", **settings}
    environment = [f"--env={variable}={value}" for variable, value in plain.items()]
    before = images.command(images.start(name), options=[*environment, *options])
    service = Service(folder, "", before=tuple(before), python=Path("python"))
    try:
        with service as running:
            yield running
            # buildah passes no signal on.
            (program,) = programs(service.client.base_url.port)
            program.terminate()
            running.process.wait(HANG_SECONDS)
    finally:
        for program in programs(service.client.base_url.port):
            program.kill()


def programs(port: int | None) -> list[psutil.Process]:
    """The services in containers that listen there."""
    started = psutil.process_iter(["cmdline"])
    found = (one for one in started if (one.info["cmdline"] or [])[1:] == ["-m", "modelservice"])
    return [one for one in found if one.environ().get("SERVICE_PORT") == str(port)]


def test_without_its_packages_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match=r"apt-get install .* buildah debootstrap"):
        Images(tmp_path)


def test_the_fetcher_is_small_and_has_nothing_that_it_does_not_need(
    images: Images, fetcher: str, record_property: Callable[[str, object], None]
) -> None:
    container = images.start(fetcher)
    tree = images.tree(container) / "opt/modeldrop"
    bytes_over_base = weight(tree)
    record_property("fetcher over its base, MB", bytes_over_base / 1e6)
    assert bytes_over_base <= FETCHER_MB * 1e6
    packages = {path.name.partition("-")[0] for path in tree.rglob("*.dist-info")}
    assert packages == {"blake3", "modeldrop", "obstore", "typing_extensions"}
    sources = {path.relative_to(tree) for path in tree.rglob("*.py")}
    compiled = list(tree.rglob("*.pyc"))
    assert len(compiled) == len(sources), "byte code of each module, once"
    nothing = images.run(container, "sh", "-c", "command -v pip; python3 -c 'import pip' 2>&1; ls /opt /home/modeldrop")
    assert nothing.out.splitlines()[-1] == "modeldrop"
    assert "No module named 'pip'" in nothing.out
    assert "/bin/pip" not in nothing.out


def test_the_fetcher_says_what_it_is(images: Images, fetcher: str) -> None:
    settings = images.settings(fetcher)
    assert settings["User"] == f"{USER}:{USER}"
    assert settings["Entrypoint"] == ["modeldrop"]
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["Healthcheck"]["Test"] == ["CMD", "modeldrop", "status"]
    assert not settings.get("Volumes")
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in settings["Labels"].items()}
    assert labels.items() >= {"version": "1.2.3", "revision": "abc", "licenses": "Apache-2.0"}.items()
    assert labels["title"] == "modeldrop"


def test_a_build_can_be_repeated(images: Images) -> None:
    names = ("first", "second")
    for name in names:
        # Docker's own format keeps the id of the container that an image was built in.
        images.build(name, "--target=fetcher", "--no-cache", "--format=oci", *STAMP)
    first, second = (images.tree(images.start(name)) / "opt/modeldrop" for name in names)
    assert everything(first) == everything(second)
    assert {path.lstat().st_mtime for path in first.rglob("*")} == {EPOCH}
    assert images.digest("first") == images.digest("second")


def test_the_fetcher_fetches_onto_a_volume(images: Images, fetcher: str, tmp_path: Path, volume: Path) -> None:
    registry = tmp_path / "registry"
    publish_build(registry)
    container = images.start(fetcher)
    options = [f"--volume={registry}:/registry:ro", f"--volume={volume}:/models", f"--env=MODELDROP_CPU={CPU}"]
    assert images.run(container, "modeldrop", "--version").out == f"modeldrop {__version__}\n"
    assert images.run(container, "modeldrop", "status", options=options).code == 5
    fetched = images.run(container, "modeldrop", "fetch", "/registry/embedder", options=options)
    assert fetched.code == 0, fetched.err
    assert fetched.out.startswith("/models/embedder/v1-int8-")
    assert {path.lstat().st_uid for path in volume.rglob("*")} == {USER}
    assert images.run(container, "modeldrop", "status", options=options).code == 0
    # Without a volume, /models is the image's own, and the user's.
    own = images.run(container, "modeldrop", "fetch", "/registry/embedder", options=[options[0], options[2]])
    assert own.code == 0, own.err


def test_a_model_is_baked_into_an_image(images: Images, fetcher: str, tmp_path: Path) -> None:
    for seed in "abc":
        publish_build(tmp_path / "registry", seed)
    text = (DEPLOY / "baked/Dockerfile").read_text("utf-8")
    shown = {
        "registry.acme.example/modeldrop:0.1.0": fetcher,
        "registry.acme.example/python-service:3.11": fetcher,
        "s3://acme-models": "/registry",
    }
    for name, here in shown.items():
        assert name in text
        text = text.replace(name, here)
    (tmp_path / "app").mkdir()
    (tmp_path / "app/serve.py").write_text(
        "import os; print(os.environ['MODELDROP_MODEL_EMBEDDER_VERSION'], os.getuid())", "utf-8"
    )
    (tmp_path / "app/Dockerfile").write_text(text, "utf-8")
    images.build("baked", f"--volume={tmp_path}/registry:/registry:ro", context=tmp_path / "app")
    settings = images.settings("baked")
    container = images.start("baked")
    served = images.run(container, *settings["Entrypoint"], *settings["Cmd"])
    assert (served.code, served.out) == (0, f"v3 {USER}\n"), served.err
    assert not (images.tree(container) / "registry/embedder").exists()


def test_the_builder_builds(
    images: Images, tmp_path: Path, volume: Path, record_property: Callable[[str, object], None]
) -> None:
    images.download("build-torch.txt", "build.txt", "plan-s3.txt", "plan-gcs.txt", "plan-azure.txt")
    images.build("builder", "--target=builder")
    container = images.start("builder")
    tree = images.tree(container) / "opt/modeldrop"
    record_property("builder over its base, MB", weight(tree) / 1e6)
    packages = {path.name.partition("-")[0] for path in tree.rglob("*.dist-info")}
    assert packages >= {"torch", "optimum_onnx", "boto3", "google_cloud_storage", "azure_storage_blob"}
    assert not {name for name in packages if name.startswith("nvidia")}
    checkpoint = bert(tmp_path / "checkpoint")
    for path in checkpoint.iterdir():
        path.chmod(0o644)  # the image's user is not who wrote them
    options = [f"--volume={checkpoint}:/checkpoint:ro", f"--volume={volume}:/output"]
    command = ("modeldrop", "publish", "/checkpoint", "/output/registry/embedder", "--json")
    built = images.run(container, *command, options=options)
    assert built.code == 0, built.err
    assert (volume / "registry/embedder/v1/manifest.json").is_file()
    assert images.settings("builder")["User"] == f"{USER}:{USER}"
    assert json.loads(built.out)


def test_the_service_s_image_is_small(
    images: Images, service: str, record_property: Callable[[str, object], None]
) -> None:
    container = images.start(service)
    tree = images.tree(container) / "service"
    record_property("service over its base, MB", weight(tree) / 1e6)
    assert weight(tree) <= SERVICE_MB * 1e6
    packages = {path.name.partition("-")[0] for path in tree.rglob("*.dist-info")}
    assert packages >= {"fastapi", "modeldrop", "onnxruntime", "tokenizers"}
    assert not packages & {"torch", "transformers", "huggingface_hub", "pip", "setuptools"}
    settings = images.settings(service)
    assert (settings["User"], settings["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert settings["Labels"]["org.opencontainers.image.title"] == "modelservice"


def test_the_service_s_image_serves_what_was_fetched(
    images: Images, fetcher: str, service: str, published: Path, tmp_path: Path, volume: Path
) -> None:
    registry, cpu = f"--volume={published}:/registry:ro", f"--env=MODELDROP_CPU={CPU}"
    fetch = ("modeldrop", "fetch", *(reference.partition("@")[0] for reference in REFERENCES))
    fetched = images.run(images.start(fetcher), *fetch, options=[registry, f"--volume={volume}:/models", cpu])
    assert fetched.code == 0, fetched.err
    offline = {"SERVICE_ON_UNAVAILABLE": "offline", "MODELDROP_REGISTRY": "/registry"}
    health = images.settings(service)["Healthcheck"]["Test"][1:]
    with serving(images, service, tmp_path, offline, f"--volume={volume}:/models:ro", cpu) as running:
        assert {model["kind"] for model in running.models.values()} == {"model"}
        assert running.ask("embed")["dimensions"] == 384
        assert "telemetry" not in running.log, "onnxruntime's is switched off"
        port = f"--env=SERVICE_PORT={running.client.base_url.port}"
        asking = images.start(service)
        assert images.run(asking, *health, options=[port]).code == 0
    assert running.process.returncode == 0
    assert images.run(asking, *health, options=[port]).code != 0


def test_models_are_baked_into_the_service_s_image(
    images: Images, service: str, published: Path, tmp_path: Path
) -> None:
    arguments = (f"--build-arg=REFERENCES={' '.join(REFERENCES)}", f"--build-arg=MODELDROP_CPU={CPU}")
    images.build("baked-service", "--target=baked", *arguments, f"--volume={published}:/registry:ro", context=EXAMPLE)
    pinned = dict(zip(("SERVICE_EMBED", "SERVICE_RERANK", "SERVICE_CLASSIFY"), REFERENCES, strict=True))
    with serving(images, "baked-service", tmp_path, pinned, f"--env=MODELDROP_CPU={CPU}") as running:
        models = running.models
        # Of so small models either variant may have been faster, which auto then takes.
        assert {(model["kind"], model["version"], model["variant"]) for model in models.values()} == {
            ("model", "v1", taken_by_auto(published / name / "v1/manifest.json")) for name in NAMES
        }
        assert {model["error"] for model in models.values()} == {""}
        assert running.ask("rerank")["served_by"]["model"] == "reranker"


@pytest.mark.parametrize("path", UNITS, ids=name_of)
def test_systemd_accepts_the_units(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.fail("No systemd-analyze here: apt-get install --no-install-recommends systemd")
    for unit in UNITS:
        # What it starts is not installed here.
        text = unit.read_text("utf-8").replace("/opt/modeldrop/bin/modeldrop", "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("/opt/search/bin/modeldrop", "/bin/true"), "utf-8")
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / path.name)]
    checked = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
    assert (checked.returncode, checked.stderr) == (0, "")
    security = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(tmp_path / path.name)]
    assert subprocess.run(security, capture_output=True, check=False, timeout=HANG_SECONDS).returncode == 0
