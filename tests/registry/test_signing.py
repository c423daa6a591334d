"""Who publishes with a key signs versions and channels, and signs nothing for whoever can write the registry."""

from __future__ import annotations

import base64
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from modeldrop.cli import main
from modeldrop.errors import FormatError, RefusedError, TrustError, UsageError
from modeldrop.export.worker_process import worker_environment
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.verify import find_damage_of_copy
from modeldrop.registry.channels import move_forward, promote, refresh, rollback
from modeldrop.registry.prune import PruneRules, prune
from modeldrop.registry.publish import read_build, stage
from modeldrop.registry.replicate import replicate
from modeldrop.registry.signing import find_signer, read_keys, signing_keys, vouch
from modeldrop.registry.versions import get_version, read_channel
from modeldrop.storage.write.folder import FolderStore
from modeldrop.trust.rules import verify_statement
from tests.helpers.builds import ReplyLosingStore, edit, make_build, publish_build, publish_folder
from tests.helpers.signing import private, public, secret, signing_with, trusting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.format.channel import Channel

MODEL = "embedder"


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODELDROP_SIGNING_KEY", "MODELDROP_EXPIRES_IN", "MODELDROP_TRUST", "MODELDROP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def store_of(registry: Path) -> FolderStore:
    return FolderStore(str(registry))


def channel_of(registry: Path, name: str = "current") -> Channel:
    found, _ = read_channel(store_of(registry), MODEL, name)
    assert found is not None
    return found


def signed_move(registry: Path, name: str = "current") -> dict[str, Any]:
    signed = channel_of(registry, name).signed
    assert signed is not None
    found: dict[str, Any] = json.loads(base64.b64decode(signed.payload))
    return found


def test_a_publish_signs_the_version_and_the_channel(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/models")
    monkeypatch.setenv("GITHUB_WORKFLOW_REF", "acme/models/.github/workflows/models.yml@refs/heads/main")
    monkeypatch.setenv("GITHUB_SHA", "c" * 40)
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    with signing_with(1):
        version = publish_build(registry, "a")
    data = (registry / MODEL / "v1" / "statement.json").read_bytes()
    found = verify_statement(trusting(1), data, model=MODEL, digest=version.digest, where="")
    assert found.signers == (public(1),)
    statement = json.loads(base64.b64decode(json.loads(data)["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": MODEL, "digest": {"sha256": version.digest.removeprefix("sha256:")}}]
    assert statement["predicate"]["build"] == {
        "repository": "https://github.com/acme/models",
        "workflow": "acme/models/.github/workflows/models.yml@refs/heads/main",
        "commit": "c" * 40,
        "run": "https://github.com/acme/models/actions/runs/77",
    }
    move = signed_move(registry)
    present = channel_of(registry).present
    assert (move["model"], move["channel"], move["version"]) == (MODEL, "current", "v1")
    assert (move["digest"], move["generation"], move["nonce"]) == (present.digest, 1, present.nonce)
    assert "expires" not in move


def test_every_move_is_signed(registry: Path, tmp_path: Path) -> None:
    store = store_of(registry)
    with signing_with(1, expires_in="7d"):
        publish_build(registry, "a")
        publish_build(registry, "b")
        seen = [signed_move(registry)]
        promote(store, MODEL, 1, "current", by="dana")
        seen.append(signed_move(registry))
    with signing_with(1):  # a channel that expires goes on expiring
        promote(store, MODEL, 2, "current", by="dana")
        seen.append(signed_move(registry))
        rollback(store, MODEL, "current", by="dana")
        seen.append(signed_move(registry))
        other = store_of(tmp_path / "other")
        (copied,) = replicate(store, MODEL, get_version(store, MODEL, 1), [other], tmp_path / "scratch")
        move_forward(other, MODEL, copied.version, "current", by="dana")
    assert [(move["version"], move["generation"]) for move in seen] == [("v2", 2), ("v1", 3), ("v2", 4), ("v1", 5)]
    for move in seen:
        assert move["expires"][:10] > move["at"][:10]
    assert fetch(f"{other.url}/{MODEL}", tmp_path / "home", trust=[public(1)]).version == 1
    statement = f"{MODEL}/v1/statement.json"
    assert (registry / statement).read_bytes() == (tmp_path / "other" / statement).read_bytes()


def test_a_lost_reply_leaves_one_signed_move(registry: Path, tmp_path: Path) -> None:
    with signing_with(1):
        make_build(tmp_path / "build", "a")
        store = ReplyLosingStore(str(registry))
        version = publish_folder(store, MODEL, tmp_path / "build", adopt_seconds=0.1).version
        move_forward(store, MODEL, version, "current", by="dana")
        refresh(store, MODEL, "current")
    assert fetch(f"{registry}/{MODEL}", tmp_path / "home", trust=[public(1)]).generation == 1


def test_a_signed_channel_is_not_moved_without_a_key(registry: Path) -> None:
    with signing_with(1):
        publish_build(registry, "a")
        version = publish_build(registry, "b")
    before = (registry / MODEL / "current").read_bytes()
    store = store_of(registry)
    unsigned = publish_build(registry, "c", channel=None)
    moves: tuple[Callable[[], object], ...] = (
        lambda: promote(store, MODEL, 1, "current", by="dana"),
        lambda: rollback(store, MODEL, "current", by="dana"),
        lambda: move_forward(store, MODEL, unsigned, "current", by="dana"),
    )
    for move in moves:
        with pytest.raises(RefusedError, match=f"is signed by {public(1)}, and there is no key here") as error:
            move()
        assert "--unsigned" in error.value.hint
    assert (registry / MODEL / "current").read_bytes() == before
    assert not move_forward(store, MODEL, version, "current", by="dana").moved  # nothing is to be done
    assert promote(store, MODEL, 2, "current", by="dana", unsigned=True).moved
    assert channel_of(registry).signed is None
    assert move_forward(store, MODEL, unsigned, "current", by="dana").moved


@pytest.mark.parametrize("action", ["publish", "promote", "rollback"])
def test_with_a_key_no_channel_is_moved_to_what_nobody_has_signed(registry: Path, action: str) -> None:
    """Whoever can write the registry may have put it there, under the recipe's own build key."""
    store = store_of(registry)
    old = publish_build(registry, "a")
    publish_build(registry, "b")
    before = (registry / MODEL / "current").read_bytes()
    moves: dict[str, Callable[[], object]] = {
        "publish": lambda: move_forward(store, MODEL, old, "current", by="dana"),
        "promote": lambda: promote(store, MODEL, 1, "current", by="dana"),
        "rollback": lambda: rollback(store, MODEL, "current", by="dana"),
    }
    move = moves[action]
    with signing_with(1), pytest.raises(TrustError, match=r"v1/statement\.json is missing") as error:
        move()
    assert "--vouch" in error.value.hint
    assert "--force" in error.value.hint
    assert (registry / MODEL / "current").read_bytes() == before


def test_what_was_published_unsigned_is_signed_when_somebody_vouches_for_it(registry: Path, tmp_path: Path) -> None:
    publish_build(registry, "a")
    publish_build(registry, "b")
    with signing_with(1):
        assert main(["promote", f"{registry}/{MODEL}@v2", "--vouch"]) == 0
        assert channel_of(registry).generation == 2  # it stays where it was
        assert main(["promote", f"{registry}/{MODEL}@v2", "--vouch"]) == 0
    assert fetch(f"{registry}/{MODEL}", tmp_path / "home", trust=[public(1)]).version == 2
    with signing_with(2), pytest.raises(TrustError, match="is not trusted here"):
        vouch(store_of(registry), MODEL, 2, get_version(store_of(registry), MODEL, 2).digest)
    with pytest.raises(UsageError, match="without a key"):
        vouch(store_of(registry), MODEL, 1, get_version(store_of(registry), MODEL, 1).digest)


def test_an_unchanged_publish_signs_what_is_not_signed_by_its_key(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a rotation: a person need not move the channel for it."""
    store = store_of(registry)
    with signing_with(1):
        version = publish_build(registry, "a")
        before = channel_of(registry)
        assert not move_forward(store, MODEL, version, "current", by="dana").moved
        assert channel_of(registry) == before
    monkeypatch.setenv("MODELDROP_TRUST", f"{public(1)} {public(2)}")
    with signing_with(1, 2):
        assert not move_forward(store, MODEL, version, "current", by="dana").moved
    after = channel_of(registry)
    assert (after.present, after.history) == (before.present, before.history)
    assert after.signed is not None
    assert {one.keyid for one in after.signed.signatures} == {public(1), public(2)}


def test_nothing_is_renewed_that_was_not_signed_so(registry: Path) -> None:
    """A schedule must not sign what somebody else has written."""
    store = store_of(registry)
    with signing_with(1):
        publish_build(registry, "a")
        publish_build(registry, "b")
    path = registry / MODEL / "current"
    true = path.read_bytes()
    digest = get_version(store, MODEL, 1).digest
    with signing_with(1):
        for change in ({"version": "v1", "digest": digest}, {"generation": 9}, {"signed": None}):
            shutil.rmtree(registry / MODEL / ".moves", ignore_errors=True)  # a folder's own memory of what was written
            path.write_text(json.dumps(json.loads(true) | change), "utf-8")
            with pytest.raises(TrustError):
                refresh(store, MODEL, "current")
        path.write_bytes(true)
        refresh(store, MODEL, "current")
        (registry / MODEL / "v2" / "statement.json").unlink()
        with pytest.raises(TrustError, match=r"v2/statement\.json is missing"):
            refresh(store, MODEL, "current")
    with signing_with(2), pytest.raises(TrustError, match="not trusted here"):
        refresh(store, MODEL, "current")
    with pytest.raises(UsageError, match="without a key"):
        refresh(store, MODEL, "current")


def test_what_a_channel_names_is_promoted_and_mirrored_only_if_that_is_signed(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else whoever can write the registry chooses among the signed versions."""
    with signing_with(1):
        publish_build(registry, "a")
        publish_build(registry, "b", channel="staging")
        assert main(["promote", f"{registry}/{MODEL}@staging"]) == 0
        assert main(["mirror", f"{registry}/{MODEL}", str(tmp_path / "mirror"), "--channel", "current"]) == 0
        edit(registry / MODEL / "staging", b'"version": "v2"', b'"version": "v1"')
        shutil.rmtree(registry / MODEL / ".moves", ignore_errors=True)
        for command in (["promote"], ["mirror", str(tmp_path / "mirror")]):
            assert main([command[0], f"{registry}/{MODEL}@staging", *command[1:]]) == 21
            assert f"name it: {MODEL}@vN" in capsys.readouterr().err
    assert channel_of(registry).version == 2
    assert fetch(f"{tmp_path}/mirror/{MODEL}", tmp_path / "home", trust=[public(1)]).version == 1


def test_refresh_renews_all_signed_channels(registry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_build(registry, "a", channel="pr-17")
    with signing_with(1):
        publish_build(registry, "b")
        publish_build(registry, "c", model="toy")
        before = channel_of(registry)
        assert main(["refresh", str(registry), "--expires-in", "7d"]) == 0
        said = capsys.readouterr().out
        after = channel_of(registry)
        assert main(["refresh", f"{registry}/{MODEL}", "--channel", "pr-17"]) == 21
        assert "is not signed" in capsys.readouterr().err
        assert main(["refresh", f"{registry}/{MODEL}", "--channel", "nothing", "--json"]) == 5
    assert "embedder@current stays at v2: its signature was renewed" in said
    assert "toy@current stays at v1: its signature was renewed" in said
    assert "embedder@pr-17 is not signed" in said
    assert (after.present, after.history, after.wanted) == (before.present, before.history, before.wanted)
    assert signed_move(registry)["expires"] > signed_move(registry)["at"]
    assert main(["refresh", str(registry)]) == 2


def test_a_key_that_readers_do_not_trust_signs_nothing(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_TRUST", public(1))
    with signing_with(2), pytest.raises(UsageError, match=f"has the key {public(2)}; trusted here are {public(1)}"):
        publish_build(registry, "a")
    with signing_with(1):
        publish_build(registry, "b")


def test_keys_are_read_from_a_value_a_file_and_pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = private(3).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    file = tmp_path / "the key"
    for text in (secret(3), f"{secret(3)}\n", pem):
        file.write_text(text, "utf-8")
        for value in (text, str(file)):
            monkeypatch.setenv("MODELDROP_SIGNING_KEY", value)
            assert [key.public for key in signing_keys()] == [public(3)]
    assert [key.public for key in read_keys(f"{secret(1)},{secret(2)} {secret(1)}", "")] == [public(1), public(2)]
    assert [key.public for key in read_keys(pem * 2, "")] == [public(3)]
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", " ")
    assert find_signer() is None


def test_a_key_that_is_none_is_refused_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = secret(3)
    locked = private(3).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    empty = tmp_path / "empty"
    empty.touch()
    for value, said in (
        (right[:-1], "word 1 of 1 is no private key, or a mistyped one"),
        (right[:-3] + "AAA", "a mistyped one"),
        (public(3), "word 1 of 1 is a public key"),
        (right.removeprefix("ed25519-secret:"), "neither a private key nor the path of a file"),
        (str(tmp_path / "nothing"), "neither a private key nor the path"),
        (str(empty), "holds no private key"),
        (locked, "has a passphrase"),
        (other, "is not of Ed25519"),
        (other.replace("M", "N", 3), "cannot be read"),
    ):
        monkeypatch.setenv("MODELDROP_SIGNING_KEY", value)
        with pytest.raises(UsageError, match=said) as error:
            signing_keys()
        assert right[20:40] not in str(error.value)


def test_the_private_key_reaches_no_worker_no_test_and_no_file(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from modeldrop.publishing.user_test import run_test

    monkeypatch.setenv("MODELDROP_SIGNING_KEY", secret(1))
    assert secret(1) not in worker_environment({"MODELDROP_SIGNING_KEY": secret(1), "HOME": "/"}).values()
    assert run_test('env; test -z "$MODELDROP_SIGNING_KEY"', {"MORE": "1"}, 60) == ""
    publish_build(registry, "a")
    assert main(["promote", f"{registry}/{MODEL}@v1", "--generation-above", "4"]) == 0
    assert main(["key", "show"]) == 0
    said = capfd.readouterr()
    assert public(1) in said.out
    assert secret(1)[15:] not in said.out + said.err
    seed = private(1).private_bytes_raw()
    for path in registry.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert secret(1)[15:].encode() not in data
            assert seed not in data


def test_key_new_and_key_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "signing.key"
    assert main(["key", "new", str(file)]) == 0
    printed = capsys.readouterr().out.strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text("ascii").strip() not in printed
    assert main(["key", "show", str(file)]) == 0
    assert capsys.readouterr().out.strip() == printed
    before = file.read_bytes()
    assert main(["key", "new", str(file)]) == 2
    assert file.read_bytes() == before
    assert "there already" in capsys.readouterr().err
    assert main(["key", "new"]) == 2
    assert main(["key", "show"]) == 2
    assert main(["key", "new", str(tmp_path / "no" / "folder")]) == 15
    assert main(["key", "show", str(tmp_path / "no")]) == 15
    assert main(["key", "show", str(file), "--json"]) == 0
    assert printed in capsys.readouterr().out


def test_prune_takes_the_statement_with_the_version(registry: Path) -> None:
    with signing_with(1):
        publish_build(registry, "a")
        publish_build(registry, "b")
        publish_build(registry, "c")
    store = store_of(registry)
    for days in (1, 3):
        prune(store, MODEL, PruneRules(keep=1, older_than=0), now=time.time() + days * 86400, apply=True)
    left = {path.name for path in (registry / MODEL / "v1").iterdir()}
    assert left == {"claim.json", "manifest.json", "retired.json"}


def test_a_file_of_that_name_is_not_published_and_a_copy_with_a_statement_is_whole(
    registry: Path, tmp_path: Path
) -> None:
    with signing_with(1):
        version = publish_build(registry, "a")
    copy = tmp_path / "copy"
    shutil.copytree(registry / MODEL / "v1", copy)
    assert find_damage_of_copy(copy, version.manifest, all_variants=True)[0] == []
    manifest = make_build(tmp_path / "build", "a")
    build = read_build(tmp_path / "build")
    first = manifest.files[0]._replace(path="Statement.json")
    named = type(build)(build.folder, manifest._replace(files=(first, *manifest.files[1:])), build.data)
    with pytest.raises(FormatError, match="keeps for itself"):
        stage(store_of(registry), MODEL, named)


def test_another_library_verifies_a_statement(registry: Path) -> None:
    """Nothing of ours: the envelope is DSSE, and the signature Ed25519 as everybody has it."""
    with signing_with(1):
        publish_build(registry, "a")
    envelope = json.loads((registry / MODEL / "v1" / "statement.json").read_text("utf-8"))
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    message = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    private(1).public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)
