"""Small finished builds without a model in them, and programs that work on a registry in other processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from modeldrop.format.manifest import File, Manifest, manifest_digest, serialize_manifest
from modeldrop.registry.channels import move_forward
from modeldrop.registry.deltas import WantedDeltas, add_deltas
from modeldrop.registry.publish import ADOPT_SECONDS, Published, read_build
from modeldrop.registry.replicate import commit_all, stage_all
from modeldrop.storage.write.folder import FolderStore
from tests.format import examples
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from modeldrop.registry.versions import Version
    from modeldrop.storage.write.store import Store

ROOT = Path(__file__).parents[2]
PIECE = 64 << 10
NOBODY = 65534
CPU = "x86_64:avx2,avx512_vnni"
"""Whom ``auto`` chooses for, wherever the tests run: a CPU that takes int8."""
NO_EXPORTERS = str(Path(tempfile.gettempdir()) / "no-exporters-here")
"""Where the tests look for environments of exporters: nobody makes any there."""
SHARED = ("config.json", "odd names/50%25 größe #1 [漢字]~.txt", "empty.txt")
MODELS = {"fp32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}


# Whoever the other user is may not be able to read the interpreter: all is imported first.
_BECOME = """
def become(user):
    import concurrent.futures.thread, datetime, os
    import modeldrop.registry.channels, modeldrop.storage.write.folder, modeldrop.fetcher.fetch, tests.helpers.builds
    import modeldrop.doctor.run
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
become"""


@pytest.fixture(autouse=True)
def publisher_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests is dana, without a default registry or home."""
    for name in ("MODELDROP_REGISTRY", "MODELDROP_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELDROP_ACTOR", "dana")
    monkeypatch.setenv("MODELDROP_CPU", CPU)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A folder that will be a registry; not made yet."""
    return tmp_path / "registry"


def contents(seed: str) -> dict[str, bytes]:
    """The files of the build ``seed``: empty, of one piece, and of several."""
    return {
        "config.json": b'{"model_type": "bert"}\n',
        "odd names/50%25 größe #1 [漢字]~.txt": f"build {seed}\n".encode(),
        "empty.txt": b"",
        "onnx/model.onnx": _noise(f"{seed} fp32", 3 * PIECE + 4321),
        "onnx/model_quantized.onnx": _noise(f"{seed} int8", 2 * PIECE),
    }


def make_build(
    folder: Path,
    seed: str = "a",
    *,
    variants: Sequence[str] = ("fp32", "int8"),
    own: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write the finished build ``seed``, whose recipe has a build key of its own; return its manifest.

    ``own`` are files that it has in place of the usual ones.
    """
    wanted = {*SHARED, *(MODELS[name] for name in variants)}
    files = []
    for path, data in (contents(seed) | dict(own or {})).items():
        if path in wanted:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            files.append(describe(path, data))
    example = examples.manifest()
    manifest = example._replace(
        build_key=build_key(seed),
        files=tuple(files),
        variants=tuple(
            variant._replace(files=(variant.model, *SHARED)) for variant in example.variants if variant.name in variants
        ),
        piece_size=PIECE,
    )
    (folder / "manifest.json").write_bytes(serialize_manifest(manifest))
    (folder / "report.html").write_text(f"<!doctype html><title>{seed}</title>", "utf-8")
    return manifest


def describe(path: str, data: bytes) -> File:
    pieces = tuple(blake3(data[start : start + PIECE]).hexdigest() for start in range(0, len(data), PIECE))
    return File(path, len(data), hashlib.sha256(data).hexdigest(), pieces)


def build_key(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()


def publish_folder(
    store: Store,
    model: str,
    folder: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    adopt_seconds: float = ADOPT_SECONDS,
    deltas: int = 2,
) -> Published:
    """Publish a finished build in one registry, as the command does."""
    return publish_everywhere(
        [store],
        model,
        folder,
        folder / "never used",
        force=force,
        progress=progress,
        adopt_seconds=adopt_seconds,
        deltas=deltas,
    )[0]


def publish_everywhere(
    stores: Sequence[Store],
    model: str,
    folder: Path,
    scratch: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    adopt_seconds: float = ADOPT_SECONDS,
    deltas: int = 2,
) -> list[Published]:
    """Publish a finished build in several registries, as the command does."""
    staged = stage_all(stores, model, read_build(folder), progress)
    assert add_deltas(staged, WantedDeltas(deltas, "current"), folder / "deltas never used") == []
    return commit_all(staged, scratch, force=force, adopt_seconds=adopt_seconds)


def publish_build(
    registry: Path,
    seed: str = "a",
    *,
    model: str = "embedder",
    channel: str | None = "current",
    variants: Sequence[str] = ("fp32", "int8"),
) -> Version:
    """Publish the build ``seed`` and move the channel to it, as the command does."""
    store = FolderStore(str(registry))
    build = registry.parent / f".build-{seed}-{'-'.join(variants)}"
    make_build(build, seed, variants=variants)
    version = publish_folder(store, model, build, adopt_seconds=0.2).version
    if channel is not None:
        move_forward(store, model, version, channel, by="dana")
    return version


def digest_of(registry: Path, number: int, model: str = "embedder") -> str:
    return manifest_digest((registry / model / f"v{number}" / "manifest.json").read_bytes())


def edit(path: Path, old: bytes, new: bytes) -> None:
    """Change a file by hand."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder: inode, mode and time of the last change."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mode, status.st_mtime_ns)
    return found


def environment(**more: str) -> dict[str, str]:
    """The environment of a subprocess: it imports this code, and knows no default registry or home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODELDROP_")}
    return (
        kept
        | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        | {"MODELDROP_CPU": CPU, "MODELDROP_EXPORTERS": NO_EXPORTERS}
        | more
    )


def start(program: str, *arguments: object, user: int | None = None) -> subprocess.Popen[str]:
    """Start a Python program given as text, as another user if one is named."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            program if user is None else f"{_BECOME}({user})\n{program}",
            *map(str, arguments),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a program that must succeed; return what it printed."""
    output, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, errors
    return output.strip()


def run_python(program: str, *arguments: object, user: int | None = None) -> str:
    return finish(start(program, *arguments, user=user))


def unprivileged() -> int | None:
    """Whom a subprocess must be for permissions to count: nobody, where we are root."""
    return NOBODY if os.geteuid() == 0 else None


def open_to_all(folder: Path) -> None:
    """Let other users reach ``folder`` through pytest's private temporary folders."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write from a folder and all below it."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = [path.stat().st_mode for path in folders]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in zip(folders, modes, strict=True):
            path.chmod(mode)


class ReplyLosingStore(FolderStore):
    """A store whose writes land, and whose answers to them get lost: the retry then finds a conflict."""

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        super().create(key, data)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        super().swap(key, data, previous)
        super().swap(key, data, previous)


def as_store(store: Store) -> Store:
    """Let mypy check that a class is a Store."""
    return store


def _noise(seed: str, size: int) -> bytes:
    return blake3(seed.encode()).digest(size)
