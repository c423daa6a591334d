"""What is used when the registry cannot be asked, or says something older than this disk has seen."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.cli import main
from modeldrop.errors import FormatError, NotFoundError, RefusedError, RegistryError, UsageError
from modeldrop.fetcher.events import done
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.notes import read_state, state_path
from modeldrop.fetcher.prometheus import Metrics
from modeldrop.fetcher.status import read_status
from modeldrop.registry.channels import promote, rollback
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import publish_build, publish_folder, read_only, run_python, unprivileged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers

HOUR = 3600


@pytest.fixture
def published(registry: Path) -> Path:
    publish_build(registry, "a")
    return registry


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def gone(registry: Path) -> Path:
    """Take the registry away; return where it went."""
    return registry.rename(registry.with_name("elsewhere"))


def aged(home: Path, seconds: float, link: str = "current") -> None:
    """Let the registry have confirmed the channel so long ago."""
    then = time.time() - seconds
    os.utime(state_path(home / "embedder", link), (then, then))


def test_without_the_registry_the_last_good_snapshot_is_used_and_its_age_told(published: Path, home: Path) -> None:
    reference = f"{published}/embedder"
    first = fetch(reference, home)
    assert (first.checked, first.age, first.generation, first.warnings) == ("registry", 0.0, 1, ())
    gone(published)
    aged(home, 3 * HOUR)
    again = fetch(reference, home)
    assert (again.path, again.version, again.generation, again.checked) == (first.path, 1, 1, "disk")
    assert again.age is not None
    assert 3 * HOUR <= again.age < 4 * HOUR
    (warning,) = again.warnings
    assert "is not a folder, or is not there" in warning
    assert f"Using {first.path.name}, which the registry last confirmed 3.0 h ago." in warning
    assert again.to_json()["age_seconds"] == round(again.age, 3)
    with pytest.raises(RegistryError, match="is not there"):
        fetch(reference, home, on_unavailable="fail")
    with pytest.raises(RegistryError, match=r"last confirmed it 3\.0 h ago; at most 2\.0 h are allowed"):
        fetch(reference, home, max_stale=2 * HOUR)
    assert fetch(reference, home, max_stale=4 * HOUR).version == 1
    with pytest.raises(RegistryError, match="is not there"):
        fetch(reference, home / "new")
    with pytest.raises(RegistryError, match="is not there"):
        fetch(reference, home, variant="fp32")  # never fetched


def test_a_clock_that_was_ahead_makes_nothing_young(published: Path, home: Path) -> None:
    reference = f"{published}/embedder"
    fetch(reference, home)
    aged(home, -48 * HOUR)
    away = gone(published)
    unknown = "last confirmed (it )?at a time that is not known: the clock was set back"
    with pytest.raises(RegistryError, match=f"{unknown}; at most 1000.0 d are allowed"):
        fetch(reference, home, max_stale=1000 * 24 * HOUR)
    snapshot = fetch(reference, home)
    assert (snapshot.age, snapshot.to_json()["age_seconds"]) == (None, None)
    assert re.search(unknown, snapshot.warnings[0])
    assert "at a time that is not known" in done(snapshot).text
    text = Metrics().with_snapshot(snapshot, time.time()).text(time.time())
    assert 'modeldrop_information_age_seconds{model="embedder",channel="current"} +Inf' in text.splitlines()
    [status] = read_status(home)
    assert (status.age, status.code(), status.code(1000 * 24 * HOUR)) == (None, 0, 12)
    aged(home, -60)  # two machines that share a volume
    assert fetch(reference, home, max_stale=HOUR).age == 0
    aged(home, -48 * HOUR)
    away.rename(published)
    fetch(reference, home)
    [status] = read_status(home)
    assert status.code(HOUR) == 0
    gone(published)
    assert fetch(reference, home, max_stale=HOUR).version == 1


def test_an_emptied_registry_takes_nothing_away(published: Path, home: Path) -> None:
    fetch(f"{published}/embedder", home)
    shutil.rmtree(published / "embedder")
    snapshot = fetch(f"{published}/embedder", home)
    assert (snapshot.version, snapshot.checked) == (1, "disk")
    assert "has no channel embedder/current" in snapshot.warnings[0]
    with pytest.raises(NotFoundError):
        fetch(f"{published}/embedder", home, on_unavailable="fail")


def test_a_version_that_cannot_be_brought_leaves_the_last_good_one(published: Path, home: Path) -> None:
    fetch(f"{published}/embedder", home)
    publish_build(published, "b")
    (published / "embedder/v2/onnx/model_quantized.onnx").unlink()
    snapshot = fetch(f"{published}/embedder", home)
    assert (snapshot.version, snapshot.generation, snapshot.checked) == (1, 1, "disk")
    assert (home / "embedder" / "current").resolve() == snapshot.path


def test_offline_never_asks(published: Path, home: Path) -> None:
    reference = f"{published}/embedder"
    with pytest.raises(RegistryError, match="has no snapshot of current, and offline nothing is fetched"):
        fetch(reference, home, on_unavailable="offline")
    with pytest.raises(RegistryError, match="was not asked for v1 of embedder"):
        fetch(f"{reference}@v1", home, on_unavailable="offline")
    fetch(reference, home)
    publish_build(published, "b")
    snapshot = fetch(reference, home, on_unavailable="offline")
    assert (snapshot.version, snapshot.checked, snapshot.warnings) == (1, "disk", ())
    assert fetch(f"{reference}@v1", home, on_unavailable="offline").version == 1
    gone(published)
    assert fetch(reference, home, on_unavailable="offline").version == 1
    aged(home, HOUR)
    with pytest.raises(RegistryError, match=r"last confirmed it 1\.0 h ago; at most 30 min are allowed"):
        fetch(reference, home, on_unavailable="offline", max_stale=HOUR / 2)


def test_a_pinned_version_that_is_there_needs_no_registry(published: Path, home: Path) -> None:
    first = fetch(f"{published}/embedder@v1", home)
    gone(published)
    again = fetch(f"{published}/embedder@v1", home)
    assert (again.path, again.checked, again.age, again.generation) == (first.path, "disk", 0.0, None)


def test_a_channel_that_went_back_counts_as_unavailable(published: Path, home: Path) -> None:
    reference = f"{published}/embedder"
    channel = published / "embedder" / "current"
    old = channel.read_bytes()
    publish_build(published, "b")
    assert fetch(reference, home).generation == 2
    channel.write_bytes(old)
    snapshot = fetch(reference, home)
    assert (snapshot.version, snapshot.generation, snapshot.checked) == (2, 2, "disk")
    assert "went back from generation 2 to 1" in snapshot.warnings[0]
    with pytest.raises(RegistryError, match="went back from generation 2 to 1") as caught:
        fetch(reference, home, on_unavailable="fail")
    above = f"modeldrop promote {published}/embedder@v1 --generation-above 2"
    assert above in caught.value.hint
    assert above in snapshot.warnings[0]
    assert fetch(reference, home / "fresh").version == 1  # a fresh disk cannot know

    # Another history under the same generation is no better.
    shutil.rmtree(published)
    publish_build(published, "c")
    publish_build(published, "d")
    snapshot = fetch(reference, home)
    assert (snapshot.version, snapshot.checked) == (2, "disk")
    assert "has another move under generation 2" in snapshot.warnings[0]
    promote(FolderStore(str(published)), "embedder", 1, "current", by="dana")
    assert fetch(reference, home).generation == 3


def test_a_restored_registry_is_accepted_by_one_command(
    published: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, backup = f"{published}/embedder", tmp_path / "backup"
    shutil.copytree(published, backup)
    for seed in "bcd":
        publish_build(published, seed)
    for container in ("one", "two", "three"):
        assert fetch(reference, home / container).generation == 4
    shutil.rmtree(published)
    backup.rename(published)
    publish_build(published, "e")
    assert fetch(reference, home / "one").version == 4

    # For one container: what it says is believed, and remembered.
    assert main(["fetch", reference, "-d", str(home / "one"), "--accept-older-generation"]) == 0
    assert "/v2-" in capsys.readouterr().out
    again = fetch(reference, home / "one")
    assert (again.version, again.generation, again.checked) == (2, 2, "registry")
    assert (home / "one/embedder/current").resolve() == again.path
    with pytest.raises(RefusedError):
        fetch(reference, home / "three", min_generation=3, accept_older_generation=True, on_unavailable="fail")

    # For all others at once: the command that the error names.
    with pytest.raises(RegistryError) as caught:
        fetch(reference, home / "two", on_unavailable="fail")
    command = caught.value.hint.partition("modeldrop promote ")[2].partition(";")[0]
    assert main(["promote", *command.split()]) == 0
    for container in ("one", "two", "three"):
        found = fetch(reference, home / container)
        assert (found.version, found.generation, found.checked) == (2, 5, "registry")
    publish_build(published, "f")
    assert fetch(reference, home / "two").generation == 6


def test_two_that_accept_an_older_generation_do_not_undo_each_other(
    published: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeldrop.fetcher.fetch import Fetcher

    channel = published / "embedder" / "current"
    old = channel.read_bytes()
    publish_build(published, "b")
    publish_build(published, "c")
    fetch(f"{published}/embedder", home)
    channel.write_bytes(old)
    shutil.rmtree(published / "embedder/.moves")  # by which writers would know
    activate = Fetcher.activate

    def slow(fetcher: Fetcher, *prepared: object) -> object:
        monkeypatch.setattr(Fetcher, "activate", activate)
        promote(FolderStore(str(published)), "embedder", 2, "current", by="dana")
        assert fetch(f"{published}/embedder", home, accept_older_generation=True).generation == 2
        return activate(fetcher, *prepared)  # type: ignore[arg-type]

    monkeypatch.setattr(Fetcher, "activate", slow)
    fetch(f"{published}/embedder", home, accept_older_generation=True)
    assert os.readlink(home / "embedder" / "current").startswith("v2-")  # noqa: PTH115


FOREIGN = {
    "a proxy's page": (
        b"<!DOCTYPE html><html><head><title>Sign in\n to Corp</title>",
        "an HTML page, titled 'Sign in to Corp'",
    ),
    "an error with status 200": (b"<?xml version='1.0'?><Error/>", "XML"),
    "nothing": (b"", "an empty answer"),
    "blanks": (b" \n", "an empty answer"),
    "compressed": (gzip.compress(b"{}"), "gzip-compressed data"),
    "cut": (b'{"schema": ', ": "),
}


def test_a_damaged_channel_is_mended_as_its_error_says(
    published: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_build(published, "b")
    reference = f"{published}/embedder"
    fetch(reference, home)
    channel = published / "embedder/current"
    channel.write_bytes(b"{")
    shutil.rmtree(published / "embedder/.moves")  # which a bucket has not
    assert "or remove it" in fetch(reference, home).warnings[0]
    assert main(["promote", f"{reference}@v1"]) == FormatError.exit_code
    assert f"remove this object, and name a version anew: modeldrop promote {reference}@vN" in capsys.readouterr().err
    channel.unlink()
    assert main(["promote", f"{reference}@v1"]) == 0
    found = fetch(reference, home)
    assert found.checked == "disk"  # its generations began anew with the object
    assert main(found.warnings[0].partition("modeldrop ")[2].partition(";")[0].split()) == 0
    found = fetch(reference, home)
    assert (found.version, found.generation, found.checked) == (1, 3, "registry")


@pytest.mark.parametrize("name", FOREIGN)
def test_an_answer_that_is_no_channel_leaves_the_last_good_one(published: Path, home: Path, name: str) -> None:
    first = fetch(f"{published}/embedder", home)
    answer, kind = FOREIGN[name]
    (published / "embedder/current").write_bytes(answer)
    again = fetch(f"{published}/embedder", home)
    assert (again.path, again.checked) == (first.path, "disk")
    assert kind in again.warnings[0]
    with pytest.raises(FormatError, match="embedder/current") as caught:
        fetch(f"{published}/embedder", home, on_unavailable="fail")
    assert kind in caught.value.message
    with pytest.raises(FormatError):
        fetch(f"{published}/embedder", home / "new")


NEWER = """
import sys
from modeldrop.cli import main
sys.exit(main(["fetch", sys.argv[1], "-d", sys.argv[2], "--log-format", "json", "--json"]))
"""


def test_a_home_that_cannot_take_a_new_version_gives_the_last_good_one(
    published: Path, home: Path, tmp_path: Path
) -> None:
    from tests.helpers.builds import open_to_all

    first = fetch(f"{published}/embedder", home)
    publish_build(published, "b")
    open_to_all(tmp_path)
    with read_only(home):
        (told,) = json.loads(run_python(NEWER, f"{published}/embedder", home, user=unprivileged()))
        with pytest.raises(AssertionError, match="15"):
            run_python(NEWER, f"{published}/embedder@v2", home, user=unprivileged())
    assert (told["path"], told["version"], told["checked"]) == (str(first.path), "v1", "disk")
    assert "Could not write into" in told["warnings"][0]
    assert f"Using {first.path.name}, which the registry last confirmed" in told["warnings"][0]
    assert fetch(f"{published}/embedder", home).version == 2


def test_a_generation_below_the_least_is_refused_even_on_a_fresh_disk(published: Path, home: Path) -> None:
    reference = f"{published}/embedder"
    with pytest.raises(RefusedError, match="has generation 1, below the required 2"):
        fetch(reference, home, min_generation=2)
    assert not (home / "embedder" / "current").exists()
    publish_build(published, "b")
    assert fetch(reference, home, min_generation=2).version == 2
    old = (published / "embedder" / "current").read_bytes()
    rollback(FolderStore(str(published)), "embedder", "current", by="dana")
    assert fetch(reference, home, min_generation=3).version == 1
    (published / "embedder" / "current").write_bytes(old)
    snapshot = fetch(reference, home, min_generation=3)  # the last good one is new enough
    assert (snapshot.version, snapshot.generation, snapshot.checked) == (1, 3, "disk")
    gone(published)
    with pytest.raises(RegistryError):
        fetch(reference, home, min_generation=4)


def test_a_slow_fetch_does_not_take_a_newer_one_back(
    published: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeldrop.fetcher.fetch import Fetcher

    activate = Fetcher.activate

    def slow(fetcher: Fetcher, *prepared: object) -> object:
        monkeypatch.setattr(Fetcher, "activate", activate)
        publish_build(published, "b")
        assert fetch(f"{published}/embedder", home).version == 2
        return activate(fetcher, *prepared)  # type: ignore[arg-type]

    monkeypatch.setattr(Fetcher, "activate", slow)
    assert fetch(f"{published}/embedder", home).version == 1
    assert os.readlink(home / "embedder" / "current").startswith("v2-")  # noqa: PTH115
    state = read_state(home / "embedder", "current")
    assert state is not None
    assert state.generation == 2


def test_a_home_without_state_still_has_its_last_good_snapshot(published: Path, home: Path) -> None:
    first = fetch(f"{published}/embedder", home)
    for damage in (None, b"{", b"{}"):
        path = state_path(home / "embedder", "current")
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        assert fetch(f"{published}/embedder", home, on_unavailable="offline").path == first.path
    gone(published)
    snapshot = fetch(f"{published}/embedder", home)
    assert (snapshot.version, snapshot.generation) == (1, None)


OFFLINE = """
import sys
from modeldrop.fetcher.events import done
from modeldrop.fetcher.fetch import fetch
snapshot = fetch(sys.argv[1], sys.argv[2])
print(snapshot.version, snapshot.checked)
"""


def test_a_read_only_volume_serves_with_and_without_the_registry(published: Path, home: Path, tmp_path: Path) -> None:
    from tests.helpers.builds import open_to_all

    fetch(f"{published}/embedder", home)
    open_to_all(tmp_path)
    with read_only(home):
        assert run_python(OFFLINE, f"{published}/embedder", home, user=unprivileged()) == "1 registry"
        gone(published)
        assert run_python(OFFLINE, f"{published}/embedder", home, user=unprivileged()) == "1 disk"


def test_a_cloud_that_is_down_leaves_the_last_good_snapshot(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    from modeldrop.registry.channels import move_forward
    from modeldrop.storage.write import open_store
    from tests.helpers.builds import make_build
    from tests.helpers.clouds import sign_in

    server = servers["s3"]
    sign_in(monkeypatch, server)
    registry = server.registry()
    store = open_store(registry)
    make_build(tmp_path / "build")
    move_forward(store, "embedder", publish_folder(store, "embedder", tmp_path / "build").version, "current", by="dana")
    fetch(f"{registry}/embedder", home)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    snapshot = fetch(f"{registry}/embedder", home)
    assert (snapshot.version, snapshot.checked) == (1, "disk")
    assert "cannot be reached" in snapshot.warnings[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"on_unavailable": "hope"},
        {"max_stale": -1.0},
        {"timeout": 0.0},
        {"min_generation": -1},
        {"keep": 0},
        {"varant": "fp32"},
    ],
)
def test_options_that_cannot_be_meant(published: Path, home: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        fetch(f"{published}/embedder", home, **wrong)
    assert not home.exists()
