"""Keys that never leave a cloud's key management service: AWS KMS and Google Cloud KMS sign with them.

They are named as cosign does: ``awskms:///ARN`` and ``gcpkms://projects/…/cryptoKeyVersions/N``. Whoever signs
needs the right to sign with the key and to read its public key, and no other.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modeldrop.errors import MissingExtraError, RegistryError, UsageError
from modeldrop.storage.errors import detail
from modeldrop.storage.s3_address import sign_in_place
from modeldrop.trust.ed25519 import is_key, verify
from modeldrop.util import http

SCHEMES = ("awskms://", "gcpkms://")
_AWS = re.compile(r"awskms:///(arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(?:key|alias)/\S+)")
_GOOGLE = re.compile(
    r"gcpkms://(projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+/cryptoKeyVersions/[0-9]+)"
)
_GOOGLE_API = "https://cloudkms.googleapis.com/"
_SCOPE = "https://www.googleapis.com/auth/cloudkms"
_SECONDS = 20.0
# What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
_SPKI = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A key that a service signs with: its 32 public bytes, and what signs."""

    public: bytes
    sign: Callable[[bytes], bytes]


@functools.lru_cache(maxsize=16)
def kms_key(url: str) -> KmsKey:
    """The key that a URL names.

    Args:
        url: such as ``awskms:///arn:aws:kms:eu-west-1:123456789012:key/…``.

    Raises:
        UsageError: the URL names no key, or one that is not of Ed25519.
        RegistryError: the service cannot be reached, or refuses.
        MissingExtraError: its SDK is not installed.
    """
    if aws := _AWS.fullmatch(url):
        encoded, ask = _aws(url, aws[1], aws[2])
    elif google := _GOOGLE.fullmatch(url):
        encoded, ask = _google(url, google[1])
    else:
        raise UsageError(
            f"{url[:200]} names no key.",
            "Write awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID, or gcpkms://projects/PROJECT/locations/LOCATION/"
            "keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/1.",
        )
    public = encoded.removeprefix(_SPKI)
    if not encoded.startswith(_SPKI) or not is_key(public):
        raise UsageError(
            f"{url} is no key of Ed25519.",
            "Make one to sign with: ECC_NIST_EDWARDS25519 (AWS), or EC_SIGN_ED25519 (Google Cloud).",
        )

    def sign(message: bytes) -> bytes:
        signature = ask(message)
        if not verify(public, message, signature):
            raise RegistryError(f"{url} has signed something else than it was given.", "Sign with another key.")
        return signature

    return KmsKey(public, sign)


def _aws(url: str, arn: str, region: str) -> tuple[bytes, Callable[[bytes], bytes]]:
    try:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        from modeldrop.storage.botocore_session import Session, named_profile
    except ImportError as error:
        raise _missing(url, "boto3", "s3") from error
    config = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 3})

    def ask(operation: str, **values: Any) -> Any:
        try:
            place, profile = sign_in_place(region)
            client = Session(place, named_profile(profile)).create_client("kms", region_name=region, config=config)
            return getattr(client, operation)(KeyId=arn, **values)
        except (BotoCoreError, ClientError, http.CertificatesError) as error:
            raise _refused(url, error, "kms:Sign and kms:GetPublicKey") from error

    encoded: bytes = ask("get_public_key")["PublicKey"]
    return encoded, lambda message: bytes(
        ask("sign", Message=message, MessageType="RAW", SigningAlgorithm="ED25519_SHA_512")["Signature"]
    )


def _google(url: str, name: str) -> tuple[bytes, Callable[[bytes], bytes]]:
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession, Request
        from requests.exceptions import RequestException

        from modeldrop.storage.requests_adapter import new_session, prepare_session
    except ImportError as error:
        raise _missing(url, "google-auth", "gcs") from error
    import os

    # As gcloud has it, for private endpoints.
    api = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS") or _GOOGLE_API

    def ask(method: str, path: str, body: Any = None) -> Any:
        try:
            sign_in = Request(new_session())
            credentials, _ = google.auth.default(scopes=[_SCOPE], request=sign_in)
            session = AuthorizedSession(credentials, auth_request=sign_in)
            prepare_session(session, redirects=False)
            answer = session.request(method, f"{api.rstrip('/')}/v1/{name}{path}", json=body, timeout=_SECONDS)
            answer.raise_for_status()
            return answer.json()
        except (GoogleAuthError, RequestException, http.CertificatesError, ValueError) as error:
            raise _refused(url, error, "the role cloudkms.signerVerifier") from error

    pem = str(ask("GET", "/publicKey").get("pem", ""))
    try:
        encoded = base64.b64decode("".join(line for line in pem.splitlines() if "-----" not in line))
    except ValueError:
        encoded = b""
    return encoded, lambda message: base64.b64decode(
        ask("POST", ":asymmetricSign", {"data": base64.b64encode(message).decode()}).get("signature", "")
    )


def _missing(url: str, package: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        f"Signing with {url.partition(':')[0]} needs {package}, which is not installed here.",
        f"pip install 'modeldrop[sign,{extra}]'",
    )


def _refused(url: str, error: Exception, right: str) -> RegistryError:
    return RegistryError(
        f"{url} cannot be used to sign: {detail(error)}",
        f"Sign in as somebody who may use the key ({right}), and check its name and that it is enabled.",
    )
