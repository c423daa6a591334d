"""An attestation lies beside its version, goes with it, and is asked for where one is required."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.cli import main
from modeldrop.errors import FormatError
from modeldrop.registry.attestations import add_attestation
from modeldrop.registry.versions import get_version, read_channel
from modeldrop.storage.write.folder import FolderStore
from tests.helpers import sigstore_instance
from tests.helpers.builds import publish_build

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "embedder"


@pytest.fixture(autouse=True)
def trusted_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sigstore_instance.trust_it_alone(monkeypatch, tmp_path)


@pytest.fixture
def reference(registry: Path) -> str:
    """v1, which is not attested yet; current names v2."""
    publish_build(registry, "a")
    publish_build(registry, "b")
    return f"{registry}/{MODEL}@v1"


def bundle(registry: Path, number: int = 1, **said: str) -> Path:
    """What actions/attest leaves."""
    digest = get_version(FolderStore(str(registry)), MODEL, number).digest
    path = registry.parent / "attestation.json"
    path.write_bytes(sigstore_instance.attest(digest, **said))
    return path


def test_it_is_added_and_verified(registry: Path, reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = bundle(registry)
    verify = ["attest", "verify", reference, "--repository", "acme/models"]
    assert main(verify) == 21
    assert "v1/attestation.sigstore.json is missing; one by acme/models is required" in capsys.readouterr().err
    assert main(["attest", "add", reference, str(path)]) == 0
    assert "the attestation is stored" in capsys.readouterr().out
    assert (registry / MODEL / "v1" / "attestation.sigstore.json").read_bytes() == path.read_bytes()
    assert main(["attest", "add", reference, str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] is False
    assert main([*verify, "--ref", "refs/heads/main", "--workflow", "models.yml"]) == 0
    said = capsys.readouterr().out
    assert "built by acme/models at refs/heads/main" in said
    assert "acme/models/actions/runs/77" in said
    assert main([*verify, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["commit"] == "c" * 40
    for more, fault in (
        (["--ref", "refs/heads/dev"], "at refs/heads/main"),
        (["--workflow", "evil.yml"], "by the workflow"),
        (["--repository", "eve/models"], "by acme/models"),
    ):
        assert main([*verify, *more]) == 21
        assert fault in capsys.readouterr().err


def test_whose_it_must_be_may_stand_in_the_environment_or_the_file(
    registry: Path, reference: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["attest", "add", reference, str(bundle(registry))]) == 0
    assert main(["attest", "verify", reference]) == 2
    (tmp_path / "modeldrop.toml").write_text('require-attestation = "eve/models"\n', "utf-8")
    assert main(["attest", "verify", reference]) == 21
    monkeypatch.setenv("MODELDROP_REQUIRE_ATTESTATION", "acme/models,ref=refs/heads/main")
    assert main(["attest", "verify", reference]) == 0
    assert main(["attest", "verify", reference, "--ref", "refs/heads/dev"]) == 21


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "REFERENCE"],
        ["add", "REFERENCE", "BUNDLE", "--repository", "acme/models"],
        ["verify", "REFERENCE", "BUNDLE", "--repository", "acme/models"],
        ["verify", "REFERENCE", "--repository", "acme"],
        ["verify", "REFERENCE", "--repository", "acme/models", "--ref", "main"],
    ],
)
def test_arguments_that_do_not_go_together(registry: Path, reference: str, arguments: list[str]) -> None:
    words = {"REFERENCE": reference, "BUNDLE": str(bundle(registry))}
    assert main(["attest", *(words.get(word, word) for word in arguments)]) == 2


def test_one_about_another_version_is_not_added(registry: Path, reference: str, tmp_path: Path) -> None:
    assert main(["attest", "add", reference, str(bundle(registry, 2))]) == 4
    assert main(["attest", "add", reference, str(tmp_path / "nothing")]) == 15
    assert not (registry / MODEL / "v1" / "attestation.sigstore.json").exists()


def test_what_lies_there_already_stays_and_is_named_if_it_is_wrong(registry: Path, reference: str) -> None:
    path = registry / MODEL / "v1" / "attestation.sigstore.json"
    path.write_bytes(b"{}")
    store, version = FolderStore(str(registry)), get_version(FolderStore(str(registry)), MODEL, 1)
    with pytest.raises(FormatError, match="which is there already"):
        add_attestation(store, MODEL, version, bundle(registry).read_bytes(), "x")
    path.write_bytes(sigstore_instance.attest(version.digest, repository="acme/fork"))
    assert not add_attestation(store, MODEL, version, bundle(registry).read_bytes(), "x")
    assert main(["attest", "verify", reference, "--repository", "acme/models"]) == 21


@pytest.mark.parametrize("command", [["promote"], ["mirror", "MIRROR", "--quiet"]])
def test_promote_and_mirror_require_it(
    registry: Path, reference: str, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "mirror") if word == "MIRROR" else word for word in command[1:]]
    arguments = [command[0], reference, *words, "--require-attestation", "acme/models"]
    assert main(arguments) == 21
    assert "is missing" in capsys.readouterr().err
    channel, _ = read_channel(FolderStore(str(registry)), MODEL, "current")
    assert channel is not None
    assert channel.version == 2
    assert not (tmp_path / "mirror" / MODEL).exists()
    assert main(["attest", "add", reference, str(bundle(registry))]) == 0
    assert main([*arguments[:-1], "acme/models,ref=refs/heads/dev"]) == 21
    assert main(arguments) == 0
    if command[0] == "mirror":
        copy = f"{tmp_path}/mirror/{MODEL}@v1"
        assert main(["attest", "verify", copy, "--repository", "acme/models"]) == 0


def test_without_the_library_it_is_said_what_to_install(
    registry: Path, reference: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attest", "add", reference, str(bundle(registry))]) == 0  # storing needs none
    for name in [name for name in sys.modules if name.partition(".")[0] == "sigstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    assert main(["attest", "verify", reference, "--repository", "acme/models"]) == 16
    assert "pip install 'modeldrop[sigstore]'" in capsys.readouterr().err
