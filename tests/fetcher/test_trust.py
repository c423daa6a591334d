"""With a list of trusted keys nothing is used that they have not signed, whoever can write the registry."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import modeldrop
from modeldrop.cli import main
from modeldrop.errors import NotFoundError, RegistryError, TrustError, UsageError
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.resolve import Resolver
from modeldrop.registry.channels import promote, refresh
from modeldrop.storage.write.folder import FolderStore
from tests.fetcher.watch.watch_setup import WatchSetup
from tests.helpers.builds import publish_build, tree
from tests.helpers.imported_packages import imported
from tests.helpers.signing import public, signing_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = "embedder"


@pytest.fixture(autouse=True)
def nobody_is_trusted_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODELDROP_TRUST", "MODELDROP_TRUST_THRESHOLD", "MODELDROP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def signed(registry: Path) -> Path:
    """Key 1 has published v1, and then v2; somebody without a key has published v3 and moved no channel."""
    with signing_with(1):
        publish_build(registry, "a")
        publish_build(registry, "b")
    publish_build(registry, "c", channel=None)
    return registry


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a registry was asked for."""
    return note_requests(monkeypatch)


def note_requests(patch: pytest.MonkeyPatch) -> list[str]:
    keys: list[str] = []
    get = Resolver._get

    def note(self: Resolver, key: str, limit: int) -> bytes | None:
        keys.append(key)
        return get(self, key, limit)

    patch.setattr(Resolver, "_get", note)
    return keys


def write(registry: Path, change: Callable[[dict[str, Any]], object], name: str = "current") -> None:
    """Change a channel as whoever can write the bucket, and has no key."""
    path = registry / MODEL / name
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.unlink()  # the store's own files may be read-only, or linked
    path.write_text(json.dumps(document), "utf-8")


def name_version(registry: Path, number: int) -> None:
    """Have the channel name another version that is there, with its true digest, as an attacker does."""
    digest = modeldrop.fetch(f"{registry}/{MODEL}@v{number}", registry.parent / "attacker").digest
    write(registry, lambda found: found.update(version=f"v{number}", digest=digest, generation=found["generation"] + 1))


def refused(registry: Path, home: Path, said: str, reference: str = MODEL, **options: Any) -> TrustError:
    """A fetch with key 1 trusted is refused; what the disk has is untouched, and nothing of a version was asked for."""
    before = tree(home) if home.exists() else None
    with pytest.MonkeyPatch.context() as patch:
        keys = note_requests(patch)
        with pytest.raises(TrustError, match=said) as error:
            fetch(f"{registry}/{reference}", home, **{"trust": [public(1)], **options})
    assert error.value.exit_code == 21
    assert error.value.hint
    assert {key.rpartition("/")[2] for key in keys} <= {"current", "staging", "statement.json"}
    assert (tree(home) if home.exists() else None) == before
    return error.value


def test_what_trusted_keys_have_signed_is_used(signed: Path, home: Path, asked: list[str]) -> None:
    snapshot = fetch(f"{signed}/{MODEL}", home, trust=[public(2), public(1)])
    assert snapshot.version == 2
    assert asked == [f"{MODEL}/current", f"{MODEL}/v2/statement.json", f"{MODEL}/v2/manifest.json"]
    del asked[:]
    assert fetch(f"{signed}/{MODEL}", home, trust=[public(1)]).path == snapshot.path
    assert asked == [f"{MODEL}/current"]  # whose statement was verified is remembered
    refused(signed, home, "not trusted here", trust=[public(2)])


def test_without_a_list_nothing_changes(signed: Path, home: Path, asked: list[str]) -> None:
    assert fetch(f"{signed}/{MODEL}", home).version == 2
    assert asked == [f"{MODEL}/current", f"{MODEL}/v2/manifest.json"]
    assert not (home / MODEL / ".statements").exists()
    program = """
import sys
from modeldrop.fetcher.fetch import fetch
fetch(sys.argv[1], sys.argv[2])
assert not [name for name in sys.modules if "trust" in name or "signed" in name]
"""
    imported(program, f"{signed}/{MODEL}", home)


def test_an_unsigned_channel_is_refused(registry: Path, home: Path) -> None:
    publish_build(registry, "a")
    refused(registry, home, "The channel .*/embedder/current is not signed. Trusted is ed25519:")


def test_a_stripped_signature_is_refused(signed: Path, home: Path) -> None:
    fetch(f"{signed}/{MODEL}", home, trust=[public(1)])
    write(signed, lambda found: found.pop("signed"))
    refused(signed, home, "current is not signed")


def test_a_wrong_key_is_refused(signed: Path, home: Path) -> None:
    fetch(f"{signed}/{MODEL}", home, trust=[public(1)])
    with signing_with(2):
        publish_build(signed, "d", channel="staging")
    error = refused(signed, home, f"is signed by {public(2)}, which is not trusted here", f"{MODEL}@staging")
    assert "modeldrop key show" in error.hint
    (signed / MODEL / "current").unlink()
    shutil.copy(signed / MODEL / "staging", signed / MODEL / "current")
    refused(signed, home, f"is signed by {public(2)}")


def test_a_channel_that_names_what_nobody_has_signed_is_refused(signed: Path, home: Path) -> None:
    fetch(f"{signed}/{MODEL}", home, trust=[public(1)])
    name_version(signed, 3)
    refused(signed, home, "names v3 .* in generation 3; what is signed is v2 .* in generation 2")


def test_an_old_pointer_is_not_replayed(signed: Path, home: Path) -> None:
    """A disk that has seen a newer one stays with it; a fresh one can tell by ``expires`` alone."""
    old = (signed / MODEL / "current").read_bytes()
    with signing_with(1):
        promote(FolderStore(str(signed)), MODEL, 1, "current", by="dana")
    assert fetch(f"{signed}/{MODEL}", home, trust=[public(1)]).version == 1
    (signed / MODEL / "current").unlink()
    (signed / MODEL / "current").write_bytes(old)
    snapshot = fetch(f"{signed}/{MODEL}", home, trust=[public(1)])
    assert (snapshot.version, snapshot.checked) == (1, "disk")
    assert "went back from generation 3 to 2" in snapshot.warnings[0]
    write(signed, lambda found: found.update(generation=9))  # nor under a new generation
    refused(signed, home, "in generation 9; what is signed is v2")


def test_a_frozen_registry_is_noticed_by_a_fresh_disk(
    signed: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(str(signed))
    with signing_with(1):
        refresh(store, MODEL, "current", expires_in=3600)
    frozen = (signed / MODEL / "current").read_bytes()
    assert fetch(f"{signed}/{MODEL}", home, trust=[public(1)]).version == 2
    later = "2999-01-01T00:00:00Z"
    with monkeypatch.context() as patch:
        patch.setattr("modeldrop.fetcher.trust_check.iso_time", lambda _seconds: later)
        error = refused(signed, tmp_path / "fresh", f"expired at .*; here it is {later}")
        refused(signed, home, "expired at")
    assert "modeldrop refresh" in error.hint
    with signing_with(1):
        refresh(store, MODEL, "current", expires_in=0)
    assert (signed / MODEL / "current").read_bytes() != frozen
    monkeypatch.setattr("modeldrop.fetcher.trust_check.iso_time", lambda _seconds: later)
    assert fetch(f"{signed}/{MODEL}", home, trust=[public(1)]).generation == 2


def test_the_pointer_of_another_model_or_channel_is_refused(signed: Path, home: Path) -> None:
    with signing_with(1):
        publish_build(signed, "a", model="toy")
        publish_build(signed, "d", channel="staging")
    for other, said in ((f"{MODEL}/staging", "embedder@staging"), ("toy/current", "toy@current")):
        (signed / MODEL / "current").unlink()
        shutil.copy(signed / other, signed / MODEL / "current")
        refused(signed, home, f"the signature of another channel: of {said}")


def test_files_of_another_version_cannot_be_mixed_in(signed: Path, home: Path) -> None:
    """Everything of v1, statement and all, in the place of v2."""
    shutil.rmtree(signed / MODEL / "v2")
    shutil.copytree(signed / MODEL / "v1", signed / MODEL / "v2")
    refused(signed, home, "v2/statement.json is about a manifest with the digest sha256:.*, not sha256:")


def test_the_version_of_another_model_is_refused(signed: Path, home: Path) -> None:
    with signing_with(1):
        publish_build(signed, "d", model="toy")
    shutil.copytree(signed / "toy" / "v1", signed / MODEL / "v9")
    refused(signed, home, "v9/statement.json is about the model toy, not about embedder", f"{MODEL}@v9")


@pytest.mark.parametrize("pin", ["@v3", "@v3@{digest}"])
def test_a_pinned_version_must_be_signed_too(signed: Path, home: Path, pin: str) -> None:
    unsigned = fetch(f"{signed}/{MODEL}@v3", home)  # is here, and was never verified
    error = refused(signed, home, "v3/statement.json is missing", MODEL + pin.format(digest=unsigned.digest))
    assert "--vouch" in error.hint


def test_a_pinned_version_that_was_verified_is_asked_for_no_more(signed: Path, home: Path, asked: list[str]) -> None:
    first = fetch(f"{signed}/{MODEL}@v1", home, trust=[public(1)])
    assert asked == [f"{MODEL}/v1/statement.json", f"{MODEL}/v1/manifest.json"]
    signed.rename(signed.with_name("gone"))
    assert fetch(f"{signed}/{MODEL}@v1", home, trust=[public(1)]).path == first.path
    with pytest.raises(RegistryError):
        fetch(f"{signed}/{MODEL}@v1", home, trust=[public(2)])


def test_two_signatures_of_one_key_are_one(signed: Path, home: Path) -> None:
    def double(found: dict[str, Any]) -> None:
        found["signed"]["signatures"] *= 2

    write(signed, double)
    both: dict[str, Any] = {"trust": [public(1), public(2)], "trust_threshold": 2}
    refused(signed, home, "signed by 1 of the trusted keys .*; 2 are needed", **both)
    with signing_with(1, 2):
        publish_build(signed, "d")
    assert fetch(f"{signed}/{MODEL}", home, **both).version == 4


def test_a_version_needs_as_many_signatures_as_its_channel(signed: Path, home: Path) -> None:
    with signing_with(1, 2):
        promote(FolderStore(str(signed)), MODEL, 1, "current", by="dana")  # whose statement key 1 alone has signed
    both: dict[str, Any] = {"trust": [public(1), public(2)], "trust_threshold": 2}
    refused(signed, home, "v1/statement.json is signed by 1 of the trusted keys", **both)


def test_a_key_is_rotated_without_a_gap(signed: Path, home: Path, tmp_path: Path) -> None:
    """Readers list both; then the new key signs; then readers list that one alone, once it has signed a version."""
    old, both, new = [public(1)], [public(1), public(2)], [public(2)]
    assert fetch(f"{signed}/{MODEL}", home, trust=both).version == 2
    with signing_with(1, 2):
        promote(FolderStore(str(signed)), MODEL, 1, "current", by="dana")
    for trust in (old, both):
        assert fetch(f"{signed}/{MODEL}", tmp_path / f"of {len(trust)}", trust=trust).version == 1
    refused(signed, home, "v1/statement.json is signed by", trust=new)
    with signing_with(2):
        publish_build(signed, "d")
    assert fetch(f"{signed}/{MODEL}", home, trust=new).version == 4
    refused(signed, home, f"is signed by {public(2)}, which is not trusted here", trust=old)


def test_last_good_is_only_what_was_verified_so(signed: Path, home: Path, tmp_path: Path) -> None:
    verified, never = home, tmp_path / "never verified"
    fetch(f"{signed}/{MODEL}", verified, trust=[public(1)])
    fetch(f"{signed}/{MODEL}", never)
    signed.rename(signed.with_name("gone"))
    snapshot = fetch(f"{signed}/{MODEL}", verified, trust=[public(1)])
    assert (snapshot.version, snapshot.checked) == (2, "disk")
    for place, trust in ((never, public(1)), (verified, public(2))):
        for policy in ("last-good", "offline"):
            with pytest.raises(TrustError, match="was not verified under the keys that are trusted"):
                fetch(f"{signed}/{MODEL}", place, trust=[trust], on_unavailable=policy)
    assert fetch(f"{signed}/{MODEL}", never).checked == "disk"


def test_a_version_that_was_pruned_meanwhile_is_looked_for_again(
    signed: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (signed / MODEL / "current").read_bytes()
    with signing_with(1):
        promote(FolderStore(str(signed)), MODEL, 1, "current", by="dana")
    (signed / MODEL / "v2" / "statement.json").unlink()
    get, answers = Resolver._get, [before]

    def once(self: Resolver, key: str, limit: int) -> bytes | None:
        return answers.pop() if key.endswith("current") and answers else get(self, key, limit)

    monkeypatch.setattr(Resolver, "_get", once)
    assert fetch(f"{signed}/{MODEL}", home, trust=[public(1)]).version == 1
    with pytest.raises(NotFoundError):
        fetch(f"{signed}/{MODEL}@nothing", home, trust=[public(1)])


@pytest.mark.parametrize("where", ["option", "variable", "file"])
def test_every_place_where_keys_are_listed_counts(
    signed: Path, home: Path, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ["fetch", f"{signed}/{MODEL}", "-d", str(home), "--quiet"]

    def run(key: str) -> int:
        if where == "variable":
            monkeypatch.setenv("MODELDROP_TRUST", f"{public(8)}, {key}")
        elif where == "file":
            (tmp_path / "modeldrop.toml").write_text(f'trust = ["{public(8)}", "{key}"]\n', "utf-8")
        return main([*arguments, "--trust", public(8), "--trust", key] if where == "option" else arguments)

    assert run(public(2)) == 21
    assert not home.exists()
    assert run(public(1)) == 0
    assert run(public(1)[:-1] + ("A" if public(1)[-1] != "A" else "B")) == 2
    if where != "option":  # the interface of Python heeds the same places
        run(public(2))
        with pytest.raises(TrustError):
            modeldrop.fetch(f"{signed}/{MODEL}", home)


def test_a_threshold_in_the_file_counts(signed: Path, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "modeldrop.toml"
    file.write_text(f'trust = ["{public(1)}", "{public(2)}"]\nthreshold = 2\n', "utf-8")
    with pytest.raises(TrustError, match="2 are needed"):
        fetch(f"{signed}/{MODEL}", home)
    assert fetch(f"{signed}/{MODEL}", home, trust_threshold=1).version == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trust": []}, "no keys"),
        ({"trust": [""]}, "no keys"),
        ({"trust": ["ed25519:abc"]}, "is no public key"),
        ({"trust": [public(1)], "trust_threshold": 2}, "that can never be met"),
        ({"trust_threshold": 1}, "none is named"),
    ],
)
def test_a_list_that_is_none_trusts_nobody(signed: Path, home: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fetch(f"{signed}/{MODEL}", home, **options)


def test_a_watch_stays_with_what_it_has(signed: Path, tmp_path: Path) -> None:
    watched = WatchSetup(str(signed), tmp_path)
    follower = watched.follower(trust=[public(1)])
    assert follower.poll()
    name_version(signed, 3)
    assert not follower.poll()
    assert follower.snapshot is not None
    assert follower.snapshot.version == 2
    assert any("what is signed is v2" in event.text for event in watched.app.events)
    with signing_with(1):
        publish_build(signed, "d", channel="other")
    shutil.copy(signed / MODEL / "other", signed / MODEL / "current")
    assert not follower.poll()
    assert follower.snapshot.version == 2
    follower.release()


def test_a_watch_notices_a_registry_that_is_frozen(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever keeps answering that nothing has changed."""
    with signing_with(1):
        refresh(FolderStore(str(signed)), MODEL, "current", expires_in=3600)
    watched = WatchSetup(str(signed), tmp_path)
    follower = watched.follower(trust=[public(1)])
    assert follower.poll()
    assert follower.poll()
    with monkeypatch.context() as patch:
        for module in ("trust_check", "watch.follower"):
            patch.setattr(f"modeldrop.fetcher.{module}.iso_time", lambda _seconds: "2999-01-01T00:00:00Z")
        for _ in range(3):
            assert not follower.poll()
    assert follower.snapshot is not None
    assert follower.snapshot.version == 2
    assert ["expired at" in event.text for event in watched.app.events].count(True) == 1
    with signing_with(1):
        refresh(FolderStore(str(signed)), MODEL, "current")
    assert follower.poll()
    follower.release()


def test_a_watch_begins_with_nothing_that_was_not_verified(signed: Path, tmp_path: Path) -> None:
    watched = WatchSetup(str(signed), tmp_path)
    fetch(f"{signed}/{MODEL}", watched.home)
    write(signed, lambda found: found.pop("signed"))
    for resume in (False, True):
        follower = watched.follower(trust=[public(1)], resume=resume)
        assert not follower.poll()
        assert follower.snapshot is None
        follower.release()
    assert watched.app.log == []


def test_what_is_forgotten_is_verified_and_remembered_again(signed: Path, home: Path, asked: list[str]) -> None:
    fetch(f"{signed}/{MODEL}", home, trust=[public(1)])
    shutil.rmtree(home / MODEL / ".statements")
    for _ in range(2):
        fetch(f"{signed}/{MODEL}", home, trust=[public(1)])
    assert asked.count(f"{MODEL}/v2/statement.json") == 2
