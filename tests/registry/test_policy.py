"""What a registry's policy requires, no channel goes without, whoever moves it and from wherever."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modeldrop.cli import main
from modeldrop.errors import FormatError, RefusedError
from modeldrop.format.policy import Policy
from modeldrop.format.recipe import Recipe
from modeldrop.publishing.request import PublishRequest
from modeldrop.publishing.user_test import UserTests
from modeldrop.registry.attestations import add_attestation
from modeldrop.registry.channels import move_forward, promote, rollback
from modeldrop.registry.policy import mark_tested, read_policy, refuse_unmeetable, require_allowed, write_policy
from modeldrop.registry.publish import UNCHANGED, Published
from modeldrop.registry.versions import get_version, read_channel
from modeldrop.storage.write.folder import FolderStore
from tests.helpers import sigstore_instance
from tests.helpers.builds import publish_build
from tests.helpers.signing import public, signing_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = "embedder"
AT = "2026-11-29T20:00:00Z"


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sigstore_instance.trust_it_alone(monkeypatch, tmp_path)


@pytest.fixture
def store(registry: Path) -> FolderStore:
    """A registry with v1 and v2, which current names; nobody has signed, attested or tested them."""
    publish_build(registry, "a")
    publish_build(registry, "b")
    return FolderStore(str(registry))


def policy(*require: str, channels: tuple[str, ...] = ()) -> Policy:
    return Policy(require=require, at=AT, by="dana", channels=channels, trust=(public(1),), attested_by="acme/models")


def named(store: FolderStore, channel: str = "current") -> int | None:
    found, _ = read_channel(store, MODEL, channel)
    return None if found is None else found.version


def provide(store: FolderStore, number: int, requirement: str) -> None:
    """Have a version have it."""
    version = get_version(store, MODEL, number)
    if requirement == "signature":
        with signing_with(1):
            assert main(["promote", f"{store.url}/{MODEL}@v{number}", "--vouch", "--channel", "signed"]) == 0
    elif requirement == "attestation":
        assert add_attestation(store, MODEL, version, sigstore_instance.attest(version.digest), "x")
    else:
        mark_tested(store, MODEL, number, version.digest)


MOVES: dict[str, Callable[[FolderStore], object]] = {
    "promote": lambda store: promote(store, MODEL, 1, "current", by="dana"),
    "rollback": lambda store: rollback(store, MODEL, "current", by="dana"),
    "publish": lambda store: move_forward(store, MODEL, get_version(store, MODEL, 1), "current", by="dana"),
    "unsigned": lambda store: promote(store, MODEL, 1, "current", by="dana", unsigned=True),
}


@pytest.mark.parametrize("move", MOVES)
def test_no_move_goes_around_the_policy(store: FolderStore, move: str) -> None:
    write_policy(store, policy("test"))
    with pytest.raises(
        RefusedError, match=r"v1 of embedder may not be named by current: the policy of .* requires a test"
    ):
        MOVES[move](store)
    assert named(store) == 2
    provide(store, 1, "test")
    MOVES[move](store)
    assert named(store) == 1


@pytest.mark.parametrize("requirement", ["signature", "attestation", "test"])
def test_what_a_version_lacks_is_named_and_once_it_is_there_it_goes(store: FolderStore, requirement: str) -> None:
    write_policy(store, policy(requirement))
    with pytest.raises(RefusedError, match=rf"requires an? {requirement}\. .*is missing") as error:
        promote(store, MODEL, 1, "current", by="dana")
    assert error.value.exit_code == 17
    assert error.value.hint
    provide(store, 1, requirement)
    require_allowed(store, MODEL, "current", 1, get_version(store, MODEL, 1).digest)
    if requirement != "signature":
        assert promote(store, MODEL, 1, "current", by="dana").moved


def test_what_somebody_else_has_signed_attested_or_tested_does_not_count(store: FolderStore, registry: Path) -> None:
    digest, other = get_version(store, MODEL, 1).digest, get_version(store, MODEL, 2).digest
    with signing_with(2):
        assert main(["promote", f"{store.url}/{MODEL}@v1", "--vouch", "--channel", "elsewhere"]) == 0
    (registry / MODEL / "v1" / "attestation.sigstore.json").write_bytes(
        sigstore_instance.attest(digest, repository="eve/models")
    )
    mark_tested(store, MODEL, 2, other)
    shutil.copy(registry / MODEL / "v2" / "tested.json", registry / MODEL / "v1" / "tested.json")
    for requirement, said in (
        ("signature", f"is signed by {public(2)}, which is not trusted here"),
        ("attestation", "is by eve/models; one by acme/models is required"),
        ("test", "is about another version"),
    ):
        write_policy(store, policy(requirement))
        with pytest.raises(RefusedError, match=said):
            promote(store, MODEL, 1, "current", by="dana")


def test_a_policy_is_about_the_channels_that_it_names(store: FolderStore) -> None:
    write_policy(store, policy("test", channels=("current",)))
    assert promote(store, MODEL, 1, "pr-17", by="dana").moved
    with pytest.raises(RefusedError):
        promote(store, MODEL, 1, "current", by="dana")
    assert not promote(store, MODEL, 2, "current", by="dana").moved  # it is there already: nothing moves


def test_a_mirror_takes_with_it_what_the_policy_there_requires(
    store: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = FolderStore(str(tmp_path / "other"))
    write_policy(other, policy("attestation", "test"))
    command = ["mirror", f"{store.url}/{MODEL}@v1", other.url, "--channel", "current", "--quiet"]
    assert main(command) == 17
    assert "requires an attestation" in capsys.readouterr().err
    provide(store, 1, "attestation")  # it came later: the copy, which is there already, gets it too
    assert main(command) == 17
    assert "requires a test" in capsys.readouterr().err
    provide(store, 1, "test")
    assert main(command) == 0
    assert named(other) == 1
    for name in ("attestation.sigstore.json", "tested.json"):
        key = f"{MODEL}/v1/{name}"
        assert (tmp_path / "other" / key).read_bytes() == (store._root / key).read_bytes()


def test_nothing_is_built_that_could_not_be_promoted(store: FolderStore) -> None:
    for requirement, said in (
        ("signature", "there is no key here to sign with"),
        ("test", "it has no test"),
        ("attestation", "only once it is published"),
    ):
        write_policy(store, policy(requirement))
        with pytest.raises(RefusedError, match=f"{said}. Nothing was built") as error:
            refuse_unmeetable(store, MODEL, "current", signs=False, tests=False)
        assert error.value.hint
    write_policy(store, policy("signature", "test"))
    refuse_unmeetable(store, MODEL, "current", signs=True, tests=True)
    write_policy(store, policy("attestation", channels=("current",)))
    refuse_unmeetable(store, MODEL, "pr-17", signs=False, tests=False)


def test_the_command_sets_and_shows_it(store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", store.url]) == 0
    assert "has no policy" in capsys.readouterr().out
    arguments = ["--require", "test", "--require", "signature", "--trust", public(1), "--channel", "current"]
    assert main(["policy", store.url, *arguments, "--require", "attestation", "--attested-by", "acme/models"]) == 0
    said = f"current requires a signature by 1 of {public(1)}, an attestation by acme/models, a test that succeeded"
    assert said in capsys.readouterr().out
    assert main(["policy", store.url]) == 0
    assert said in capsys.readouterr().out
    assert main(["policy", store.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["require"] == ["signature", "attestation", "test"]
    assert main(["promote", f"{store.url}/{MODEL}@v1"]) == 17
    assert main(["policy", store.url, "--require", "none"]) == 0
    assert "no channel requires anything" in capsys.readouterr().out
    assert main(["promote", f"{store.url}/{MODEL}@v1"]) == 0
    assert main(["ls", store.url]) == 0
    assert "settings" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--require", "none", "--require", "test"],
        ["--require", "signature"],
        ["--require", "signature", "--trust", "ed25519:typo"],
        ["--require", "signature", "--trust", public(1), "--threshold", "2"],
        ["--require", "attestation"],
        ["--require", "attestation", "--attested-by", "acme"],
        ["--channel", "current"],
        ["--require", "test", "--channel", "v3"],
    ],
)
def test_a_policy_that_says_nothing_is_refused(store: FolderStore, arguments: list[str]) -> None:
    assert main(["policy", store.url, *arguments]) == 2
    assert read_policy(store) == (None, None)


def test_a_policy_that_cannot_be_read_lets_nothing_pass(store: FolderStore, registry: Path) -> None:
    """Nor does one of a later release, which requires what this one cannot check."""
    write_policy(store, policy("test"))
    path = registry / ".settings" / "policy.json"
    document = json.loads(path.read_text("utf-8"))
    document["promote"]["require"].append("reviews")
    for text, said in (("{", "not JSON"), (json.dumps(document), "'reviews' cannot be checked by this release")):
        shutil.rmtree(path.parent / ".moves", ignore_errors=True)  # a folder's own memory of what was written
        path.unlink()
        path.write_text(text, "utf-8")
        with pytest.raises(FormatError, match=said) as error:
            promote(store, MODEL, 1, "current", by="dana")
        assert "modeldrop policy" in error.value.hint
    write_policy(store, policy())  # it is replaced as a whole
    assert promote(store, MODEL, 1, "current", by="dana").moved


def test_a_test_that_succeeds_leaves_a_mark(registry: Path, tmp_path: Path) -> None:
    version = publish_build(registry, "a", channel=None)
    store = FolderStore(str(registry))
    one = Published(store=store, version=version, how=UNCHANGED)
    request = PublishRequest(source="./x", model=MODEL, registries=(store.url,), recipe=Recipe(), test="exit 1")
    assert UserTests(request, [one], tmp_path / "failed").check(one, None) is not None
    assert not (registry / MODEL / "v1" / "tested.json").exists()
    (registry / MODEL / "v1" / "rejected.json").unlink()
    assert UserTests(replace(request, test="exit 0"), [one], tmp_path / "passed").check(one, None) is None
    document = json.loads((registry / MODEL / "v1" / "tested.json").read_text("utf-8"))
    assert (document["schema"], document["digest"], document["by"]) == ("modeldrop/tested/1", version.digest, "dana")
