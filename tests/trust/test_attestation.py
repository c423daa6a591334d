"""Attestations: the bundle of a real public build, and those of a Sigstore of the tests' own, right and wrong."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from modeldrop.errors import DiskError, FormatError, TrustError, UsageError
from modeldrop.trust.attestation import (
    MAX_BYTES,
    Attestation,
    Builder,
    check_subject,
    make_builder,
    parse_builder,
    verify_attestation,
)
from tests.helpers import sigstore_instance

REAL = Path(__file__).parents[1] / "fixtures/sigstore/reusable-workflow-attestation.sigstore.json"
REAL_DIGEST = "sha256:49a3aa6075e0f49f82843e74b5baa614ad2a588e6675612bf108a0a008c5ac25"
DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
ACME = Builder("acme/models")
MUTATIONS = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sigstore_instance.write_trusted_root(tmp_path_factory.mktemp("roots") / "trusted_root.json"))


def verify_real(data: bytes | None = None, builder: str = "malancas/attest-demo", **given: Any) -> Attestation:
    found = REAL.read_bytes() if data is None else data
    return verify_attestation(found, parse_builder(builder, ""), **{"digest": REAL_DIGEST, "where": "x", **given})


def test_the_attestation_of_a_real_build_is_verified_by_the_public_roots() -> None:
    found = verify_real()
    assert found.repository == "malancas/attest-demo"
    assert found.ref == "refs/heads/main"
    assert found.commit == "95baf27389e83e6a5c48f42e190d48d7abcea19e"
    assert found.workflow == "malancas/attest-demo/.github/workflows/shared.yml@refs/heads/main"
    assert found.signer.startswith("github/artifact-attestations-workflows/.github/workflows/attest.yml@09b495c3")
    assert found.run == "https://github.com/malancas/attest-demo/actions/runs/9228858953/attempts/1"
    assert found.at == "2024-05-24T19:14:24Z"


@pytest.mark.parametrize(
    "wanted",
    [
        "malancas/attest-demo,ref=refs/heads/main",
        "Malancas/Attest-Demo",
        "https://github.com/malancas/attest-demo",
        "malancas/attest-demo,workflow=shared.yml",
        "malancas/attest-demo,workflow=.github/workflows/shared.yml,ref=refs/heads/main",
        "malancas/attest-demo,workflow=github/artifact-attestations-workflows/.github/workflows/attest.yml",
    ],
)
def test_whose_attestation_it_may_be(wanted: str) -> None:
    assert verify_real(builder=wanted)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("acme/models", "is by malancas/attest-demo; one by acme/models is required"),
        ("github/artifact-attestations-workflows", "is by malancas/attest-demo"),  # it signs for anybody
        ("malancas/attest-demo,ref=refs/heads/dev", "at refs/heads/main; one by .*ref=refs/heads/dev is required"),
        (
            "malancas/attest-demo,workflow=release.yml",
            "is by the workflow malancas/attest-demo/.github/workflows/shared",
        ),
        ("malancas/attest-demo,workflow=attest.yml", "is by the workflow"),  # of this repository, not of another
        ("malancas/attest-demo,workflow=evil/x/.github/workflows/shared.yml", "is by the workflow"),
    ],
)
def test_the_attestation_of_somebody_else_is_refused(wanted: str, said: str) -> None:
    with pytest.raises(TrustError, match=said) as error:
        verify_real(builder=wanted)
    assert error.value.exit_code == 21
    assert "Look at the registry" in error.value.hint


def test_an_attestation_about_something_else_is_refused() -> None:
    with pytest.raises(TrustError, match=f"not about the manifest {DIGEST}"):
        verify_real(digest=DIGEST)


def test_an_attestation_that_another_sigstore_has_signed_is_refused(root: str) -> None:
    with pytest.raises(TrustError, match="The attestation x is not right"):
        verify_real(trusted_root=root)
    with pytest.raises(TrustError, match="is not right"):
        verify_attestation(sigstore_instance.attest(DIGEST), ACME, digest=DIGEST, where="x")


def test_one_attestation_is_about_several_manifests(root: str) -> None:
    data = sigstore_instance.attest(DIGEST, OTHER)
    for digest in (DIGEST, OTHER):
        assert verify_attestation(data, ACME, digest=digest, where="x", trusted_root=root).repository == "acme/models"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "x is missing; one by acme/models is required"),
        (b"{}", "is not right"),
        (b"\xff", "is not right"),
        (b"[" * 5000, "is not right"),
        (b" " * (MAX_BYTES + 1), "has more than"),
        (sigstore_instance.attest(DIGEST, issuer="https://token.example"), "OIDCIssuerV2"),
        (sigstore_instance.attest(DIGEST, predicate="https://cyclonedx.org/bom"), "is no provenance of a build"),
        (sigstore_instance.attest(), "is about something else"),
        (sigstore_instance.sign(b"[]", {8: sigstore_instance.ISSUER, 9: "x"}), "does not say the repository"),
    ],
)
def test_what_is_no_attestation_is_refused(data: bytes | None, said: str, root: str) -> None:
    with pytest.raises(TrustError, match=said) as error:
        verify_attestation(data, ACME, digest=DIGEST, where="x", trusted_root=root)
    assert error.value.hint


def test_no_change_of_a_bundle_is_accepted(root: str) -> None:
    """Bits of what is signed, of signatures, of certificates and of the log's entry; and parts of another bundle."""
    good = json.loads(sigstore_instance.attest(DIGEST))
    other = json.loads(sigstore_instance.attest(OTHER))
    chance = random.Random(21)
    changed = []
    for path in _texts(good):
        for _ in range(MUTATIONS):
            changed.append(_with(good, path, _flipped(_at(good, path), chance)))  # noqa: PERF401
        if _at(good, path) != _at(other, path):
            changed.append(_with(good, path, _at(other, path)))
    assert len(changed) > 100
    for document in changed:
        with pytest.raises(TrustError):
            verify_attestation(json.dumps(document).encode(), ACME, digest=OTHER, where="x", trusted_root=root)
        try:
            found = verify_attestation(json.dumps(document).encode(), ACME, digest=DIGEST, where="x", trusted_root=root)
        except TrustError:
            continue
        # A number that is written otherwise, or what says nothing: it is about what was signed all the same.
        assert found.commit == "c" * 40


def _texts(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, str):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in items for found in _texts(one, (*path, key))]


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _with(document: Any, path: tuple[Any, ...], text: str) -> Any:
    copy = json.loads(json.dumps(document))
    _at(copy, path[:-1])[path[-1]] = text
    return copy


def _flipped(text: str, chance: random.Random) -> str:
    try:
        data = bytearray(base64.b64decode(text, validate=True))
    except ValueError:
        place = chance.randrange(len(text))
        return f"{text[:place]}{'7' if text[place] != '7' else '8'}{text[place + 1 :]}"
    bit = chance.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "acme/models/x",
        "acme models",
        "https://gitlab.com/acme/models",
        "acme/models,main",
        "acme/models,ref=main",
        "acme/models,ref=",
        "acme/models,ref=refs/heads/a,ref=refs/heads/b",
        "acme/models,workflow=models",
        "acme/models,workflow=a/b/c/models.yml",
        "acme/models,branch=refs/heads/main",
    ],
)
def test_what_names_no_builder_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^here: ") as error:
        parse_builder(text, "here")
    assert error.value.hint


def test_a_builder_is_written_in_one_way() -> None:
    builder = make_builder("https://github.com/acme/models/", "", ref="refs/tags/v1", workflow="models.yml")
    assert str(builder) == "acme/models,ref=refs/tags/v1,workflow=models.yml"
    assert parse_builder(str(builder), "") == builder


def test_roots_that_are_none_are_refused(tmp_path: Path) -> None:
    for text in (None, "{}", "[]"):
        file = tmp_path / "trusted_root.json"
        if text is not None:
            file.write_text(text, "utf-8")
        with pytest.raises(DiskError, match="cannot be read") as error:
            verify_real(trusted_root=str(file))
        assert "MODELDROP_SIGSTORE_ROOT" in error.value.hint


def test_what_is_stored_must_be_about_its_version() -> None:
    check_subject(REAL.read_bytes(), REAL_DIGEST, "x")
    for data in (b"{}", b"", b'{"dsseEnvelope": {"payload": "~"}}', b'{"dsseEnvelope": {"payload": "e30="}}'):
        with pytest.raises(FormatError):
            check_subject(data, DIGEST, "x")
    with pytest.raises(FormatError, match="is not about the manifest"):
        check_subject(REAL.read_bytes(), DIGEST, "x")
