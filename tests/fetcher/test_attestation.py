"""With an attestation required nothing is used that a repository's workflow has not attested to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.cli import main
from modeldrop.errors import TrustError
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.resolve import Resolver
from modeldrop.registry.attestations import add_attestation
from modeldrop.registry.versions import get_version
from modeldrop.storage.write.folder import FolderStore
from tests.helpers import sigstore_instance
from tests.helpers.builds import publish_build, tree
from tests.helpers.imported_packages import imported
from tests.helpers.signing import public, signing_with

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "embedder"


@pytest.fixture(autouse=True)
def trusted_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sigstore_instance.trust_it_alone(monkeypatch, tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    keys: list[str] = []
    get = Resolver._get

    def note(self: Resolver, key: str, limit: int) -> bytes | None:
        keys.append(key.removeprefix(f"{MODEL}/"))
        return get(self, key, limit)

    monkeypatch.setattr(Resolver, "_get", note)
    return keys


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def attest(registry: Path, number: int, **said: str) -> None:
    store = FolderStore(str(registry))
    version = get_version(store, MODEL, number)
    assert add_attestation(store, MODEL, version, sigstore_instance.attest(version.digest, **said), "x")


def test_what_is_attested_is_used_and_verified_once(registry: Path, home: Path, asked: list[str]) -> None:
    publish_build(registry, "a")
    attest(registry, 1)
    snapshot = fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models")
    assert asked == ["current", "v1/attestation.sigstore.json", "v1/manifest.json"]
    del asked[:]
    assert fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models").path == snapshot.path
    assert asked == ["current"]
    program = """
import sys
from modeldrop.fetcher.fetch import fetch
fetch(sys.argv[1], sys.argv[2], require_attestation="acme/models")
assert "sigstore" not in sys.modules and "cryptography" not in sys.modules
"""
    imported(program, f"{registry}/{MODEL}", home)
    with pytest.raises(TrustError, match="ref=refs/heads/dev"):  # something else is wanted: it is verified anew
        fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models,ref=refs/heads/dev")


@pytest.mark.parametrize(("said", "fault"), [(None, "is missing"), ({"repository": "eve/models"}, "by eve/models")])
def test_what_is_not_is_refused_before_any_byte_of_it(
    registry: Path, home: Path, asked: list[str], said: dict[str, str] | None, fault: str
) -> None:
    publish_build(registry, "a")
    attest(registry, 1)
    fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models")
    publish_build(registry, "b")
    if said is not None:
        attest(registry, 2, **said)
    before = tree(home)
    del asked[:]
    with pytest.raises(TrustError, match=fault) as error:
        fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models")
    assert error.value.exit_code == 21
    assert set(asked) == {"current", "v2/attestation.sigstore.json"}
    assert tree(home) == before


def test_a_pinned_version_too(registry: Path, home: Path, asked: list[str]) -> None:
    publish_build(registry, "a")
    with pytest.raises(TrustError, match="is missing"):
        fetch(f"{registry}/{MODEL}@v1", home, require_attestation="acme/models")
    attest(registry, 1)
    snapshot = fetch(f"{registry}/{MODEL}@v1", home, require_attestation="acme/models")
    del asked[:]
    assert fetch(f"{registry}/{MODEL}@v1", home, require_attestation="acme/models").path == snapshot.path
    assert asked == []


def test_last_good_is_only_what_was_verified_so(registry: Path, home: Path) -> None:
    publish_build(registry, "a")
    fetch(f"{registry}/{MODEL}", home)
    attest(registry, 1)
    registry.rename(registry.with_name("away"))
    with pytest.raises(TrustError, match="was not verified"):
        fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models")
    registry.with_name("away").rename(registry)
    assert fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models").checked == "registry"
    registry.rename(registry.with_name("away"))
    assert fetch(f"{registry}/{MODEL}", home, require_attestation="acme/models").checked == "disk"


def test_signatures_and_attestations_are_both_asked_for(
    registry: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with signing_with(1):
        publish_build(registry, "a")
    monkeypatch.setenv("MODELDROP_TRUST", public(1))
    monkeypatch.setenv("MODELDROP_REQUIRE_ATTESTATION", "acme/models")
    command = ["fetch", f"{registry}/{MODEL}", "-d", str(home)]
    assert main(command) == 21
    assert "attestation.sigstore.json is missing" in capsys.readouterr().err
    attest(registry, 1)
    assert main(command) == 0
    monkeypatch.setenv("MODELDROP_TRUST", public(2))
    assert main(command) == 21
    monkeypatch.setenv("MODELDROP_TRUST", public(1))
    assert main([*command, "--require-attestation", "eve/models"]) == 21
    assert main([*command, "--require-attestation", "eve"]) == 2
