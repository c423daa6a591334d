"""A Sigstore of the tests' own: its authority, its two logs, and attestations as actions/attest writes them.

Everything in a bundle is as the public instance makes it, but signed by keys of the tests: ``sigstore`` verifies it by
the file ``trusted_root.json``. tests/trust has a bundle of a real public build besides.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from modeldrop.trust.rules import pre_authentication

if TYPE_CHECKING:
    import pytest

ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "acme/models/.github/workflows/models.yml@refs/heads/main"
SIGNER = "modeldrop/modeldrop/.github/workflows/publish-models.yml@" + "d" * 40
_TYPE = "application/vnd.in-toto+json"
_HASH = ec.ECDSA(hashes.SHA256())
_MADE = dt.datetime(2026, 11, 29, 20, 0, tzinfo=dt.UTC)
_SCTS = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_FULCIO = "1.3.6.1.4.1.57264.1"


@functools.cache
def _key(who: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(hashlib.sha256(who.encode()).digest(), "big") >> 2
    return ec.derive_private_key(number, ec.SECP256R1())


def _public(who: str) -> bytes:
    return _key(who).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _id(who: str) -> bytes:
    return hashlib.sha256(_public(who)).digest()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


@functools.cache
def _authority() -> x509.Certificate:
    day = dt.timedelta(days=1)
    builder = x509.CertificateBuilder(
        _name("ca"), _name("ca"), _key("ca").public_key(), 1, _MADE - day, _MADE + 90 * day
    )
    key = _key("ca").public_key()
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.BasicConstraints(ca=True, path_length=1), True),
        (_usage(certificates=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key), False),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(_key("ca"), hashes.SHA256())


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def trust_it_alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Take this instance's roots for Sigstore's, and be in an empty folder, with no settings of trust around."""
    for name in ("MODELDROP_SIGNING_KEY", "MODELDROP_TRUST", "MODELDROP_CONFIG", "MODELDROP_REQUIRE_ATTESTATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELDROP_SIGSTORE_ROOT", str(write_trusted_root(folder / "trusted_root.json")))
    monkeypatch.chdir(folder)


def write_trusted_root(path: Path) -> Path:
    """The file that says whom to trust here."""
    valid = {"start": "2026-01-01T00:00:00Z"}

    def log(who: str) -> dict[str, Any]:
        key = {"rawBytes": _text(_public(who)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid}
        return {
            "baseUrl": f"https://{who}.example",
            "hashAlgorithm": "SHA2_256",
            "publicKey": key,
            "logId": {"keyId": _text(_id(who))},
        }

    authority = {
        "subject": {"organization": "acme", "commonName": "ca"},
        "uri": "https://ca.example",
        "certChain": {"certificates": [{"rawBytes": _text(_authority().public_bytes(Encoding.DER))}]},
        "validFor": valid,
    }
    document = {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log("rekor")],
        "certificateAuthorities": [authority],
        "ctlogs": [log("ctfe")],
        "timestampAuthorities": [],
    }
    path.write_text(json.dumps(document), "utf-8")
    return path


def attest(
    *digests: str,
    repository: str = "acme/models",
    ref: str = "refs/heads/main",
    workflow: str = WORKFLOW,
    signer: str = SIGNER,
    issuer: str = ISSUER,
    predicate: str = "https://slsa.dev/provenance/v1",
) -> bytes:
    """The bundle of an attestation to manifests, by their digests."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": f"manifest-{number}.json", "digest": {"sha256": digest.removeprefix("sha256:")}}
            for number, digest in enumerate(digests)
        ],
        "predicateType": predicate,
        "predicate": {"buildDefinition": {"externalParameters": {"workflow": {"ref": ref}}}},
    }
    said = {
        8: issuer,
        9: f"https://github.com/{signer}",
        12: f"https://github.com/{repository}",
        13: "c" * 40,
        14: ref,
        18: f"https://github.com/{workflow}",
        21: f"https://github.com/{repository}/actions/runs/77/attempts/1",
    }
    return sign(json.dumps(statement).encode(), said)


def sign(payload: bytes, said: dict[int, str]) -> bytes:
    """The bundle of a payload, with a certificate that says all that."""
    certificate = _certificate(said)
    signature = _key("run").sign(pre_authentication(_TYPE, payload), _HASH)
    pem = certificate.public_bytes(Encoding.PEM)
    body = {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": _text(signature), "verifier": _text(pem)}],
        },
    }
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": _text(certificate.public_bytes(Encoding.DER))},
            "tlogEntries": [_logged(json.dumps(body, separators=(",", ":"), sort_keys=True).encode())],
            "timestampVerificationData": {},
        },
        "dsseEnvelope": {"payload": _text(payload), "payloadType": _TYPE, "signatures": [{"sig": _text(signature)}]},
    }
    return json.dumps(bundle).encode()


def _certificate(said: dict[int, str]) -> x509.Certificate:
    minutes = dt.timedelta(minutes=10)
    builder = x509.CertificateBuilder(_name("ca"), x509.Name([]), _key("run").public_key(), 2, _MADE, _MADE + minutes)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (_usage(certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
        (x509.SubjectKeyIdentifier.from_public_key(_key("run").public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(_key("ca").public_key()), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(said[9])]), True),
    ]
    for number, text in said.items():
        data = text.encode()
        size = bytes([len(data)]) if len(data) < 128 else bytes([0x81, len(data)])
        value = x509.UnrecognizedExtension(ObjectIdentifier(f"{_FULCIO}.{number}"), b"\x0c" + size + data)
        extensions.append((value, False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    # What the log has signed is the certificate without the log's own signature in it.
    before = builder.sign(_key("ca"), hashes.SHA256()).tbs_certificate_bytes
    at = struct.pack(">Q", int(_MADE.timestamp() * 1000))
    entry = b"\x00\x01" + _id("ca") + len(before).to_bytes(3, "big") + before + b"\x00\x00"
    signature = _key("ctfe").sign(b"\x00\x00" + at + entry, _HASH)
    stamp = b"\x00" + _id("ctfe") + at + b"\x00\x00\x04\x03" + struct.pack(">H", len(signature)) + signature
    stamps = struct.pack(">HH", len(stamp) + 2, len(stamp)) + stamp
    octets = b"\x04" + (bytes([len(stamps)]) if len(stamps) < 128 else bytes([0x81, len(stamps)])) + stamps
    return builder.add_extension(x509.UnrecognizedExtension(_SCTS, octets), False).sign(_key("ca"), hashes.SHA256())


def _logged(body: bytes) -> dict[str, Any]:
    """An entry of a log that has no other."""
    at, root = int(_MADE.timestamp()) + 60, hashlib.sha256(b"\x00" + body).digest()
    promised = {"body": _text(body), "integratedTime": at, "logID": _id("rekor").hex(), "logIndex": 0}
    promise = _key("rekor").sign(json.dumps(promised, separators=(",", ":"), sort_keys=True).encode(), _HASH)
    note = f"rekor.example\n1\n{_text(root)}\n"
    signed = _text(_id("rekor")[:4] + _key("rekor").sign(note.encode(), _HASH))
    return {
        "logIndex": "0",
        "logId": {"keyId": _text(_id("rekor"))},
        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
        "integratedTime": str(at),
        "inclusionPromise": {"signedEntryTimestamp": _text(promise)},
        "inclusionProof": {
            "logIndex": "0",
            "rootHash": _text(root),
            "treeSize": "1",
            "hashes": [],
            "checkpoint": {"envelope": f"{note}\n— rekor.example {signed}\n"},
        },
        "canonicalizedBody": _text(body),
    }
