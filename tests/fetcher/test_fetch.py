from __future__ import annotations

import json
import os
import random
import re
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import (
    DiskError,
    FormatError,
    IntegrityError,
    NotFoundError,
    RegistryError,
    UsageError,
    VariantError,
)
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.leases import let_go
from modeldrop.format.manifest import manifest_digest, serialize_manifest
from modeldrop.registry.channels import promote
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import (
    MODELS,
    PIECE,
    SHARED,
    contents,
    digest_of,
    edit,
    finish,
    make_build,
    open_to_all,
    publish_build,
    read_only,
    run_python,
    start,
    tree,
    unprivileged,
)
from tests.helpers.rounds import rounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.fetcher.snapshot import Snapshot

FETCH = """
import sys
from modeldrop.errors import ModeldropError
from modeldrop.fetcher.fetch import fetch
try:
    print(fetch(sys.argv[1], sys.argv[2]).path)
except ModeldropError as error:
    print(type(error).__name__, error.message, error.hint)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def published(registry: Path) -> Path:
    """A registry with one version."""
    publish_build(registry, "a")
    return registry


def check_whole(snapshot: Snapshot | Path, seed: str, variant: str = "int8") -> None:
    """A snapshot holds exactly the files of its variant, read-only, and the manifest."""
    folder = Path(snapshot)
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}
    assert set(found) == {"manifest.json", MODELS[variant], *SHARED}
    for name, path in found.items():
        assert stat.S_IMODE(path.lstat().st_mode) == 0o444, name
        assert name == "manifest.json" or path.read_bytes() == contents(seed)[name], name


def work_left(home: Path) -> list[Path]:
    return list(home.glob("*/.partial/*"))


def links(home: Path, model: str = "embedder") -> dict[str, str]:
    return {path.name: str(path.readlink()) for path in (home / model).iterdir() if path.is_symlink()}


def test_current(published: Path, home: Path) -> None:
    seen: list[tuple[int, int]] = []
    snapshot = fetch(f"{published}/embedder", home, progress=lambda done, total: seen.append((done, total)))
    digest = digest_of(published, 1)
    assert snapshot.path == home / "embedder" / f"v1-int8-{digest[7:19]}"
    assert (snapshot.model, snapshot.version, snapshot.variant) == ("embedder", 1, "int8")
    assert (snapshot.digest, snapshot.registry) == (digest, str(published))
    assert (snapshot.channel, snapshot.generation) == ("current", 1)
    assert snapshot.model_file == snapshot.path / "onnx/model_quantized.onnx"
    assert (snapshot.path / "manifest.json").read_bytes() == serialize_manifest(snapshot.manifest)
    check_whole(snapshot, "a")
    size = sum(len(contents("a")[path]) for path in (*SHARED, MODELS["int8"]))
    assert snapshot.downloaded == size
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert links(home) == {"current": snapshot.path.name}
    assert work_left(home) == []
    assert os.fspath(snapshot) == str(snapshot) == str(snapshot.path)
    assert json.loads(json.dumps(snapshot.to_json()))["version"] == "v1"


def test_every_form_of_reference(registry: Path, home: Path) -> None:
    for seed in "ab":
        publish_build(registry, seed)
    promote(FolderStore(str(registry)), "embedder", 1, "staging", by="dana")
    one, two = digest_of(registry, 1), digest_of(registry, 2)
    expected = {
        "": (2, "current", 2),
        "@current": (2, "current", 2),
        "@staging": (1, "staging", 1),
        "@v1": (1, None, None),
        f"@v2@{two}": (2, None, None),
        f"@current@{one}": (1, "current", 2),
    }
    for selector, (version, channel, generation) in expected.items():
        snapshot = fetch(f"{registry}/embedder{selector}", home / (selector or "none"))
        assert (snapshot.version, snapshot.channel, snapshot.generation) == (version, channel, generation)
        check_whole(snapshot, "ab"[version - 1])
    assert links(home / "@v1") == {}
    assert list(links(home / "@staging")) == ["staging"]


def test_a_pin_moves_no_link(registry: Path, home: Path) -> None:
    for seed in "ab":
        publish_build(registry, seed)
    fetch(f"{registry}/embedder", home)
    before = links(home)
    fetch(f"{registry}/embedder@v1", home)
    assert links(home) == before == {"current": f"v2-int8-{digest_of(registry, 2)[7:19]}"}


def test_variants(published: Path, home: Path) -> None:
    reference = f"{published}/embedder"
    full = fetch(reference, home, variant="fp32")
    check_whole(full, "a", "fp32")
    assert links(home) == {"current-fp32": full.path.name}
    automatic = fetch(reference, home)
    assert automatic.variant == "int8"
    assert links(home) == {"current-fp32": full.path.name, "current": automatic.path.name}
    with pytest.raises(VariantError, match=r"no variant 'int4'.\n.*It has: fp32, int8\."):
        fetch(reference, home, variant="int4")
    assert fetch(f"{reference}@v1", home, variant="fp32").downloaded == 0


def test_auto_takes_what_there_is(registry: Path, home: Path) -> None:
    publish_build(registry, "a", variants=["fp32"])
    assert fetch(f"{registry}/embedder", home).variant == "fp32"
    assert fetch(f"{registry}/embedder", home).downloaded == 0


def snapshots_and_links(home: Path) -> dict[str, tuple[int, int, int]]:
    """All but what remembers when the registry was last asked, and when a snapshot was last used."""
    return {path: status for path, status in tree(home).items() if not re.search(r"/\.(state|used)\b", path)}


def test_a_second_fetch_changes_nothing_on_disk(published: Path, home: Path) -> None:
    for reference in (f"{published}/embedder", f"{published}/embedder@v1"):
        for variant in ("auto", "fp32"):
            first = fetch(reference, home, variant=variant)
            before = snapshots_and_links(home)
            second = fetch(reference, home, variant=variant)
            assert second.downloaded == 0
            assert second.path == first.path
            assert snapshots_and_links(home) == before


def test_a_new_version_swings_the_link_and_keeps_the_old(published: Path, home: Path) -> None:
    first = fetch(f"{published}/embedder", home)
    publish_build(published, "b")
    second = fetch(f"{published}/embedder", home)
    assert (home / "embedder/current").resolve() == second.path
    check_whole(first, "a")
    check_whole(second, "b")


def refused(reference: str, home: Path, error: type[Exception], match: str) -> None:
    """A fetch fails, and nothing of the home changes but the folder for work in progress."""
    kept = {name: entry for name, entry in tree(home).items() if "/.partial" not in name}
    with pytest.raises(error, match=match):
        fetch(reference, home, on_unavailable="fail")
    after = {name: entry for name, entry in tree(home).items() if "/.partial" not in name}
    assert after.keys() == kept.keys()


@pytest.mark.parametrize("damage", ["flip", "cut", "cut to nothing", "longer", "vanished"])
def test_a_damaged_file_in_the_registry(published: Path, home: Path, damage: str) -> None:
    fetch(f"{published}/embedder", home)
    publish_build(published, "b")
    file = published / "embedder/v2/onnx/model_quantized.onnx"
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "vanished":
        file.unlink()
        refused(f"{published}/embedder", home, RegistryError, r"Could not read .*model_quantized\.onnx")
        return
    elif damage == "longer":
        file.write_bytes(data + b"more")
    else:
        file.write_bytes(data[: PIECE + 7] if damage == "cut" else b"")
    refused(f"{published}/embedder", home, IntegrityError, r"embedder/v2/onnx/model_quantized\.onnx is damaged")
    assert links(home)["current"].startswith("v1-")


def test_a_manifest_edited_by_hand(published: Path, home: Path) -> None:
    fetch(f"{published}/embedder", home)
    publish_build(published, "b")
    edit(published / "embedder/v2/manifest.json", b"apache-2.0", b"apache-9.0")
    refused(f"{published}/embedder", home, IntegrityError, r"v2/manifest\.json has the digest sha256:")
    pinned = f"{published}/embedder@v2@sha256:{'0' * 64}"
    refused(pinned, home, IntegrityError, r"v2/manifest\.json has the digest sha256:")


def test_garbage_in_the_registry_is_located(published: Path, home: Path) -> None:
    fetch(f"{published}/embedder", home)
    channel = published / "embedder" / "current"
    good = channel.read_bytes()
    for garbage in (b"", b"{", b"[]", b"\xff" * 100, good.replace(b"channel/1", b"channel/2")):
        channel.write_bytes(garbage)
        with pytest.raises(FormatError, match=rf"^{re.escape(str(channel))}"):
            fetch(f"{published}/embedder", home / "new")
        assert str(channel) in fetch(f"{published}/embedder", home).warnings[0]
    channel.write_bytes(b" " * (2 << 20))
    with pytest.raises(IntegrityError, match=re.escape(f"{channel} has 2097152 bytes")):
        fetch(f"{published}/embedder", home / "new")
    assert fetch(f"{published}/embedder", home).checked == "disk"
    channel.write_bytes(good)
    make_build(home.parent / "b", "b")
    manifest = published / "embedder" / "v2" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_bytes(b'{"schema": "modeldrop/manifest/9", "readable_by": "modeldrop>=7"}')
    refused(f"{published}/embedder@v2", home, FormatError, rf"^{re.escape(str(manifest))}: schema: .*\n.*>=7")


@pytest.mark.parametrize(
    "path",
    [
        "../escaped",
        "/escaped",
        "a/../../escaped",
        "..",
        "a//b",
        "manifest.json",
        "c:\\x",
        "a\\..\\b",
        ".modeldrop",
    ],
)
def test_hostile_paths_write_nothing_anywhere(published: Path, home: Path, path: str) -> None:
    manifest = published / "embedder/v1/manifest.json"
    quoted = json.dumps(path, ensure_ascii=False).encode()
    edit(manifest, b'"config.json"', quoted)
    before = tree(published.parent)
    with pytest.raises(FormatError, match=r"v1/manifest\.json: .*path"):
        fetch(f"{published}/embedder@v1", home)
    assert tree(published.parent) == before


def test_a_link_in_the_registry_does_not_become_one_here(published: Path, home: Path) -> None:
    file = published / "embedder/v1/config.json"
    file.rename(published / "elsewhere")
    file.symlink_to(published / "elsewhere")
    check_whole(fetch(f"{published}/embedder", home), "a")


@pytest.mark.parametrize("damage", ["cut", "vanished", "manifest", "folder emptied"])
def test_a_damaged_snapshot_is_fetched_again(published: Path, home: Path, damage: str) -> None:
    snapshot = fetch(f"{published}/embedder", home)
    if damage == "cut":
        snapshot.model_file.chmod(0o644)
        snapshot.model_file.write_bytes(b"cut")
    elif damage == "vanished":
        snapshot.model_file.unlink()
    elif damage == "manifest":
        (snapshot.path / "manifest.json").chmod(0o644)
        edit(snapshot.path / "manifest.json", b"apache-2.0", b"apache-9.0")
    else:
        subprocess.run(["find", str(snapshot.path), "-mindepth", "1", "-delete"], check=True)
    for reference in (f"{published}/embedder", f"{published}/embedder@v1"):
        again = fetch(reference, home)
        assert again.path == snapshot.path
        check_whole(again, "a")
    assert again.downloaded == 0


def test_a_second_registry_for_the_same_model_is_refused(published: Path, tmp_path: Path, home: Path) -> None:
    other = tmp_path / "other"
    publish_build(other, "b")
    publish_build(other, "c", model="reranker")
    fetch(f"{published}/embedder", home)
    refused(f"{other}/embedder", home, UsageError, f"holds this model from {published}, not from {other}")
    assert fetch(f"{other}/reranker", home).version == 1


def test_a_fetch_that_finds_nothing_leaves_nothing(published: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").mkdir()
    for reference in (
        f"{tmp_path}/wrong/embedder",
        f"{published}/embeder",
        f"{published}/embedder@staging",
        f"{published}/embedder@v7",
        f"{published}/embedder@current@sha256:{'0' * 64}",
    ):
        with pytest.raises(NotFoundError):
            fetch(reference, home)
    assert not home.exists()
    assert fetch(f"{published}/embedder", home).version == 1


def test_the_registry_is_the_same_from_wherever_it_is_named(
    published: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(f"{published}/embedder", home)
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    spellings = [
        "../../registry/embedder",
        f"file://{published}/embedder",
        f"{published}//embedder",
        "embedder",
    ]
    for default in (f"file://{published}", f"{published}/", "../../registry"):
        monkeypatch.setenv("MODELDROP_REGISTRY", default)
        for spelling in spellings:
            assert fetch(spelling, home).downloaded == 0
    monkeypatch.setenv("MODELDROP_REGISTRY", "registry")
    with pytest.raises(UsageError, match="is not the name of a registry"):
        fetch("embedder", home)
    monkeypatch.delenv("MODELDROP_REGISTRY")
    with pytest.raises(UsageError, match="No registry is named"):
        fetch("embedder", home)


def test_the_home_comes_from_the_environment(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert fetch(f"{published}/embedder").path.parent == tmp_path / "me/.cache/modeldrop/embedder"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch(f"{published}/embedder").path.parent == tmp_path / "xdg/modeldrop/embedder"
    monkeypatch.setenv("MODELDROP_HOME", "~/mine")
    assert fetch(f"{published}/embedder").path.parent == tmp_path / "me/mine/embedder"
    assert fetch(f"{published}/embedder", tmp_path / "d").path.parent == tmp_path / "d/embedder"


@pytest.mark.parametrize("name", ["two words", "größe 漢字", "100%", "50%25", "a#b", "q?x[1]~{2}"])
def test_any_name_of_a_registry(tmp_path: Path, home: Path, name: str) -> None:
    registry = tmp_path / name / name
    registry.parent.mkdir()
    publish_build(registry, "a")
    check_whole(fetch(f"{registry}/embedder", home), "a")
    check_whole(fetch(f"{registry}/embedder", tmp_path / name / "home"), "a")


def test_a_registry_that_is_missing_or_of_another_kind(tmp_path: Path, home: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("nowhere", "file"):
        with pytest.raises(RegistryError, match=f"{folder} is not a folder, or is not there"):
            fetch(f"{tmp_path}/{folder}/embedder", home)
    with pytest.raises(UsageError, match="not a scheme of a registry"):
        fetch("ftp://models.example/embedder", home)
    assert not home.exists()


def test_a_destination_that_is_a_file(published: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError, match="file: Not a directory"):
        fetch(f"{published}/embedder", tmp_path / "file")
    with pytest.raises(DiskError, match="file/deeper: Not a directory"):
        fetch(f"{published}/embedder", tmp_path / "file/deeper")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/embedder").write_text("mine")
    with pytest.raises(DiskError, match="Not a directory"):
        fetch(f"{published}/embedder", tmp_path / "home")
    assert (tmp_path / "file").read_text() == (tmp_path / "home/embedder").read_text() == "mine"


def test_something_else_in_the_place_of_the_link(published: Path, home: Path) -> None:
    (home / "embedder/current").mkdir(parents=True)
    with pytest.raises(DiskError, match="current is in the way: it is not a link"):
        fetch(f"{published}/embedder", home)
    assert (home / "embedder/current").is_dir()


def test_a_destination_that_may_not_be_written(published: Path, home: Path, tmp_path: Path) -> None:
    home.mkdir()
    open_to_all(tmp_path)
    with read_only(home):
        printed = run_python(FETCH, f"{published}/embedder", home, user=unprivileged())
    whose = rf"{home} is of user \d+, group \d+, mode 555; this is user \d+, group [\d, ]+\."
    assert re.match(rf"DiskError Could not write into {home}: Permission denied\. {whose} Name a folder", printed)
    fetch(f"{published}/embedder", home)
    with read_only(home):  # a snapshot that is there needs no right to write
        printed = run_python(FETCH, f"{published}/embedder", home, user=unprivileged())
    assert printed == str((home / "embedder/current").resolve())


def test_a_registry_that_may_not_be_read(published: Path, home: Path, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    closed = 0o700 if unprivileged() else 0
    for path, message in (
        (published / "embedder/v1/onnx/model_quantized.onnx", "RegistryError Could not read"),
        (published / "embedder/current", "RegistryError Could not read"),
        (published / "embedder", "RegistryError Could not read"),
        (tmp_path, "DiskError Could not write into"),  # and the home is in it
    ):
        mode = path.stat().st_mode
        path.chmod(closed)
        try:
            printed = run_python(FETCH, f"{published}/embedder", home, user=unprivileged())
            assert printed.startswith(message), path
        finally:
            path.chmod(mode)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 1400 kB: its free space is just above what is kept in reserve. None where nobody may mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1400k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield None
        return
    yield folder
    let_go()
    subprocess.run(["umount", str(folder)], check=True)


LIMITED = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({PIECE}, {PIECE}))\n{FETCH}"


def test_a_full_disk(published: Path, home: Path, small_disk: Path | None) -> None:
    printed = run_python(LIMITED, f"{published}/embedder", home)
    assert printed.startswith(f"DiskError Could not write into {home}: File too large.")
    assert links(home) == {}
    if small_disk is not None:
        fetch(f"{published}/embedder", small_disk)
        before = links(small_disk)
        (small_disk / "filler").write_bytes(bytes(100_000))
        publish_build(published, "b")
        with pytest.raises(DiskError, match=r"small/embedder has too little room for embedder/v2: it needs 131\.1 kB"):
            fetch(f"{published}/embedder", small_disk, on_unavailable="fail")
        with pytest.raises(OSError, match="No space"):
            (small_disk / "more").write_bytes(bytes(2 << 20))  # to the last byte
        assert fetch(f"{published}/embedder", small_disk).version == 1
        assert links(small_disk) == before


def test_many_fetches_at_once_in_one_process(published: Path, home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fetch(f"{published}/embedder", home), range(16)))
    assert len({snapshot.path for snapshot in found}) == 1
    check_whole(found[0], "a")
    assert work_left(home) == []


def test_processes_fetch_at_once(published: Path, home: Path) -> None:
    processes = [start(FETCH, f"{published}/embedder", home) for _ in range(4)]
    (printed,) = {finish(process) for process in processes}
    check_whole(Path(printed), "a")
    assert work_left(home) == []
    assert links(home) == {"current": Path(printed).name}


KILLED = """
import sys
from modeldrop.fetcher.fetch import fetch
print("ready", flush=True)
fetch(sys.argv[1], sys.argv[2])
"""


@pytest.mark.rounds
@pytest.mark.parametrize("before", [False, True], ids=["nothing there", "an older version there"])
def test_a_fetch_killed_at_any_moment(published: Path, home: Path, before: bool) -> None:
    reference = f"{published}/embedder"
    seeds = {1: "a", 2: "b"}
    if before:
        fetch(reference, home)
    publish_build(published, "b")
    chance = random.Random(before)  # whatever the moment: what is there is whole
    for _ in range(rounds(5, 60)):
        process = start(KILLED, reference, home)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        link = home / "embedder/current"
        assert link.is_symlink() or not before
        if link.is_symlink():
            folder = link.resolve()
            version = int(folder.name[1])
            assert version == 2 or before
            check_whole(folder, seeds[version])
    snapshot = fetch(reference, home)
    assert snapshot.version == 2
    check_whole(snapshot, "b")


def test_work_that_killed_processes_left_is_swept_after_a_day(published: Path, home: Path) -> None:
    fetch(f"{published}/embedder@v1", home)
    partial = home / "embedder/.partial"
    for name in ("old", "young"):
        (partial / name / "onnx").mkdir(parents=True)
        (partial / name / "onnx" / "model.onnx").write_bytes(b"half")
        (partial / f"{name}-link").symlink_to("v1")
    yesterday = time.time() - 25 * 3600
    for name in ("old", "old-link"):
        os.utime(partial / name, (yesterday, yesterday), follow_symlinks=False)
    fetch(f"{published}/embedder@v1", home, variant="fp32")
    assert {path.name for path in partial.iterdir()} == {"young", "young-link"}


def test_a_snapshot_survives_without_its_version_in_the_registry(published: Path, home: Path) -> None:
    snapshot = fetch(f"{published}/embedder@v1", home)
    (published / "embedder/v1/manifest.json").unlink()
    assert fetch(f"{published}/embedder@v1", home).path == snapshot.path
    assert manifest_digest((snapshot.path / "manifest.json").read_bytes()) == snapshot.digest
