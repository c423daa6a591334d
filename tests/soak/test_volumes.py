"""Homes and registries on mounts that are no POSIX disk. As root, with bindfs, exfat-fuse, exfatprogs and rclone."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.fetcher.home import find_links, find_snapshots
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.verify import find_damage
from tests.helpers.builds import digest_of, publish_build, registry
from tests.helpers.command_line import modeldrop
from tests.helpers.waiting import HANG_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["registry"]

pytestmark = pytest.mark.soak

KINDS = ("exfat", "no chmod", "rclone", "rclone that forgets", "overlay")
FETCHES = 6


def call(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=HANG_SECONDS)
    return done.stdout.strip()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a volume of a kind, and returns its folder."""
    undo: list[Sequence[str | Path]] = []

    def make(kind: str) -> Path:
        name = kind.replace(" ", "-")
        folder, behind = tmp_path / name, tmp_path / f"{name}-behind"
        folder.mkdir()
        behind.mkdir()
        if kind == "exfat":
            image = tmp_path / f"{name}.img"
            with image.open("wb") as file:
                file.truncate(100 << 20)
            call("mkfs.exfat", image)
            device = call("losetup", "-f", "--show", image)
            undo.append(("losetup", "-d", device))
            call("mount.exfat-fuse", device, folder)
        elif kind == "no chmod":
            call("bindfs", "--chmod-deny", behind, folder)
        elif kind == "overlay":
            for part in ("lower", "upper", "work"):
                (behind / part).mkdir()
            layers = f"lowerdir={behind}/lower,upperdir={behind}/upper,workdir={behind}/work,redirect_dir=off,index=off"
            call("mount", "-t", "overlay", "overlay", "-o", layers, folder)
        else:
            options = {
                "rclone": ("--vfs-cache-mode", "writes"),
                "rclone that forgets": ("--vfs-cache-mode", "writes", "--dir-cache-time", "1s", "--attr-timeout", "0s"),
                "rclone without a cache": (),
            }[kind]
            cache = ("--cache-dir", tmp_path / "cache")  # it would remember an earlier test's files of the same names
            call("rclone", "mount", f":local:{behind}", folder, "--daemon", *cache, *options)
            wait_until(folder.is_mount, folder)
        undo.append(("umount", folder))
        return folder

    yield make
    for command in reversed(undo):
        call(*command)


def fetch(reference: str, home: Path, *options: str) -> tuple[Path, bool]:
    """Fetch in a process of its own: one that has fetched holds the volume. Where it is, and whether it was there."""
    ran = modeldrop("fetch", reference, "-d", home, "--timeout", f"{HANG_SECONDS:.0f}s", "--json", "--quiet", *options)
    assert ran.code == 0, ran.err
    [found] = ran.json
    return Path(found["path"]), not found["downloaded_bytes"] + found["adopted_bytes"] + found["linked_bytes"]


def whole(path: Path) -> bool:
    return list(find_damage(LocalSnapshot(path), read_files=True)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_home_works_there(registry: Path, mount: Callable[[str], Path], kind: str) -> None:
    home = mount(kind) / "home"
    publish_build(registry, "a")
    first, _ = fetch(f"{registry}/embedder", home)
    assert whole(first)
    assert find_links(home / "embedder") == {"current": first.name}
    assert fetch(f"{registry}/embedder", home) == (first, True)
    publish_build(registry, "b")
    second, _ = fetch(f"{registry}/embedder", home)
    assert whole(second)
    assert find_links(home / "embedder") == {"current": second.name}
    fp32, _ = fetch(f"{registry}/embedder", home, "--variant", "fp32")
    assert whole(fp32)
    assert modeldrop("status", home).code == 0
    assert modeldrop("verify", "-d", home).code == 0
    seen = modeldrop("run", f"{registry}/embedder", "-d", home, "--", "sh", "-c", "echo $MODELDROP_MODEL_EMBEDDER")
    assert seen.out.strip() == str(second)
    pruned = modeldrop("cache", "prune", "-d", home, "--keep", "0", "--older-than", "0s")
    assert pruned.code == 0
    assert {one.path for one in find_snapshots(home / "embedder")} == {second, fp32}
    registry.rename(registry.with_name("gone"))
    assert fetch(f"{registry}/embedder", home) == (second, True)


@pytest.mark.parametrize("kind", ["rclone", "rclone that forgets"])
def test_no_fetch_waits_for_itself(registry: Path, mount: Callable[[str], Path], kind: str) -> None:
    folder = mount(kind)
    publish_build(registry, "a")
    for number in range(FETCHES):
        ran = modeldrop(
            "fetch", f"{registry}/embedder", "-d", folder / str(number), "--timeout", f"{HANG_SECONDS:.0f}s"
        )
        assert ran.code == 0, ran.err


def test_a_mount_that_cannot_be_used_says_what_it_lacks(registry: Path, mount: Callable[[str], Path]) -> None:
    publish_build(registry, "a")
    home = mount("rclone without a cache") / "home"
    ran = modeldrop("fetch", f"{registry}/embedder", "-d", home)
    assert ran.code == 15
    assert f"The volume of {home}/embedder cannot write the parts of a file in any order" in ran.err
    assert "--vfs-cache-mode writes" in ran.err


@pytest.mark.parametrize("kind", ["exfat", "rclone"])
def test_a_version_is_carried_on_it(registry: Path, mount: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    disk = mount(kind) / "models"
    for seed in "ab":
        publish_build(registry, seed)
        ran = modeldrop("mirror", f"{registry}/embedder", disk, "--channel", "current", "--quiet")
        assert ran.code == 0, ran.err
    wait_until(lambda: modeldrop("verify", f"{disk}/embedder").code == 0, disk)  # written back by then
    ran = modeldrop("promote", f"{disk}/embedder@v1")
    assert ran.code == 12
    assert "has no hard links" in ran.err
    inside = tmp_path / "inside"
    ran = modeldrop("mirror", f"{disk}/embedder", inside, "--channel", "current", "--json", "--quiet")
    assert (ran.json["version"], ran.json["digest"]) == ("v1", digest_of(registry, 2))
    assert fetch(f"{disk}/embedder", tmp_path / "home")[0].name.startswith("v2-")


def test_what_an_image_brings_is_replaced_and_evicted(
    registry: Path, tmp_path: Path, mount: Callable[[str], Path]
) -> None:
    """Folders of an image's layers cannot be renamed: EXDEV."""
    for seed in "abc":
        publish_build(registry, seed)
    home = mount("overlay")
    lower = tmp_path / "overlay-behind/lower"
    call("umount", home)
    for number in (1, 2):
        fetch(f"{registry}/embedder@v{number}", lower)
    left = lower / f"embedder/.partial/{digest_of(registry, 3)[7:39]}-int8/0123456789abcdef"
    left.mkdir(parents=True)
    (left / "config.json").write_bytes(b"{")
    [damaged] = [one.path for one in find_snapshots(lower / "embedder") if one.version == 2]
    (damaged / "config.json").unlink()
    options = f"lowerdir={lower},upperdir={lower.parent}/upper,workdir={lower.parent}/work,redirect_dir=off,index=off"
    call("mount", "-t", "overlay", "overlay", "-o", options, home)
    assert whole(fetch(f"{registry}/embedder@v2", home)[0])
    assert whole(fetch(f"{registry}/embedder", home)[0])
    assert modeldrop("cache", "prune", "-d", home, "--keep", "0", "--older-than", "0s").code == 0
    assert [one.version for one in find_snapshots(home / "embedder")] == [3]
    assert list((home / "embedder/.partial").iterdir()) == []
