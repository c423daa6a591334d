"""GitHub's attestations, verified offline: that a manifest was built by a repository's own workflow.

What is verified is a Sigstore bundle, as actions/attest writes it: its certificate, the transparency log's entry and
the signature by the library ``sigstore``, with the roots that came with it; who it is of, and what it is about, here.
That library is imported where an attestation is wanted, and nowhere else: it brings 29 packages.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any

from modeldrop.errors import DiskError, FormatError, MissingExtraError, TrustError, UsageError
from modeldrop.format.json_fields import load_json
from modeldrop.format.names import HEX64
from modeldrop.format.signed import IN_TOTO, STATEMENT_TYPE
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import iso_time

if TYPE_CHECKING:
    from sigstore.models import Bundle

    from modeldrop.format.json_fields import Fields

MAX_BYTES = 1 << 20
_GITHUB = "https://github.com/"
_ISSUER = "https://token.actions.githubusercontent.com"
_PROVENANCE = "https://slsa.dev/provenance/v1"
_MAX_SUBJECTS = 10_000
# What GitHub's token said of the run, in the certificate: github.com/sigstore/fulcio, docs/oid-info.md.
_OIDS = {
    "signer": "1.3.6.1.4.1.57264.1.9",
    "repository": "1.3.6.1.4.1.57264.1.12",
    "commit": "1.3.6.1.4.1.57264.1.13",
    "ref": "1.3.6.1.4.1.57264.1.14",
    "workflow": "1.3.6.1.4.1.57264.1.18",
    "run": "1.3.6.1.4.1.57264.1.21",
}
_ROOT = ("_store", "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev", "trusted_root.json")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}")
_WORKFLOW = re.compile(
    r"(?:(?P<repository>[A-Za-z0-9][^/\s]*/[^/\s]+)/)?(?:\.github/workflows/)?(?P<file>[^/\s@]+\.ya?ml)"
)
_LOOK = "Nothing of this version is used. Look at the registry, and at the workflow that has published it."


class Builder(NamedTuple):
    """Whose attestation is wanted.

    Attributes:
        repository: such as ``acme/models``, on github.com.
        ref: the branch or tag that it must have been at, such as ``refs/heads/main``; "" for any.
        workflow: the workflow that must have run, or the reusable one that must have attested; "" for any.
    """

    repository: str
    ref: str = ""
    workflow: str = ""

    def __str__(self) -> str:
        parts = (self.repository, self.ref and f"ref={self.ref}", self.workflow and f"workflow={self.workflow}")
        return ",".join(part for part in parts if part)


class Attestation(NamedTuple):
    """What a verified attestation says: which run of which workflow has built what is attested."""

    repository: str
    ref: str
    commit: str
    workflow: str
    signer: str
    run: str
    at: str


def parse_builder(text: str, where: str) -> Builder:
    """Whose attestation is wanted, as it is written: ``acme/models,ref=refs/heads/main,workflow=models.yml``.

    Args:
        text: the repository, and what else must be so.
        where: where that was written, for the message.

    Raises:
        UsageError: it is none.
    """
    repository, *rest = (part.strip() for part in text.split(","))
    values: dict[str, str] = {}
    for part in rest:
        name, _, value = part.partition("=")
        if name not in {"ref", "workflow"} or not value or name in values:
            raise UsageError(
                f"{where}: {part[:80]!r} says nothing of an attestation.",
                "Write the repository, and if wanted ref= and workflow=: acme/models,ref=refs/heads/main",
            )
        values[name] = value
    return make_builder(repository, where, **values)


def make_builder(repository: str, where: str, *, ref: str = "", workflow: str = "") -> Builder:
    """Whose attestation is wanted, of its parts.

    Raises:
        UsageError: one of them is none.
    """
    repository = repository.removeprefix(_GITHUB).removesuffix("/")
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"{where}: {repository[:80]!r} is no repository on GitHub.", "Write it as OWNER/REPOSITORY.")
    if ref and not ref.startswith("refs/"):
        raise UsageError(f"{where}: {ref[:80]!r} is no ref.", f"Write it whole: refs/heads/{ref[:80]}, or refs/tags/…")
    if workflow and not _WORKFLOW.fullmatch(workflow):
        raise UsageError(
            f"{where}: {workflow[:80]!r} is no workflow.",
            "Write models.yml, or OWNER/REPOSITORY/.github/workflows/models.yml of another repository.",
        )
    return Builder(repository, ref, workflow)


def check_subject(data: bytes, digest: str, where: str) -> None:
    """Refuse bytes that are no attestation about a manifest, without verifying who has signed it.

    Raises:
        FormatError: they are none, or about something else.
    """
    try:
        envelope = load_json(data, "the bundle", limit=MAX_BYTES).child("dsseEnvelope")
        payload = binascii.a2b_base64(envelope.text("payload", limit=MAX_BYTES))
        subjects = _subjects(load_json(payload, "the payload", limit=MAX_BYTES))
    except (FormatError, ValueError) as error:
        raise FormatError(
            f"{where} is no attestation: {error}", "It is the file that actions/attest names in its output bundle-path."
        ) from None
    if digest.removeprefix("sha256:") not in subjects:
        raise FormatError(f"{where} is not about the manifest {digest}.", "Name the version that it is about.")


def verify_attestation(
    data: bytes | None, builder: Builder, *, digest: str, where: str, trusted_root: str = ""
) -> Attestation:
    """Check the attestation on a version. Asks nobody.

    Args:
        data: the bundle, None if there is none.
        builder: whose it must be.
        digest: of the version's manifest.
        where: its address, for messages.
        trusted_root: the file with Sigstore's roots; "" for those that came with the library.

    Raises:
        TrustError: it is missing, not right, of another builder, or about something else.
        MissingExtraError: the library is not installed.
        DiskError: the file cannot be read.
    """
    document = f"The attestation {where}"
    if data is None:
        raise TrustError(
            f"{document} is missing; one by {builder} is required.",
            "publish-models.yml stores it after it has attested (docs/action.md); by hand: modeldrop attest add. "
            "Or somebody has put this version there, or taken the attestation away.",
        )
    if len(data) > MAX_BYTES:
        raise TrustError(f"{document} has more than {MAX_BYTES} bytes.", _LOOK)
    bundle, payload = _verified(data, document, trusted_root)
    try:
        attestation = _identity(bundle)
        statement = load_json(payload, "attestation", limit=MAX_BYTES)
        kinds = (statement.text("_type"), statement.text("predicateType"))
        subjects = _subjects(statement)
    except (FormatError, ValueError) as error:
        raise TrustError(f"{document} cannot be read: {error}.", _LOOK) from None
    if kinds != (IN_TOTO, _PROVENANCE):
        raise TrustError(f"{document} is no provenance of a build: it is a {kinds[1][:80]!r}.", _LOOK)
    fault = _difference(attestation, builder)
    if fault:
        raise TrustError(f"{document} is {fault}; one by {builder} is required.", _LOOK)
    if digest.removeprefix("sha256:") not in subjects:
        raise TrustError(f"{document} is about something else: not about the manifest {digest}.", _LOOK)
    return attestation


def _verified(data: bytes, document: str, trusted_root: str) -> tuple[Bundle, bytes]:
    """The bundle, and what is signed in it, by a run of GitHub Actions."""
    try:
        from sigstore.models import Bundle, TrustedRoot
        from sigstore.verify import Verifier
        from sigstore.verify.policy import OIDCIssuerV2
    except ImportError as error:
        raise MissingExtraError(
            "Attestations are verified by the package sigstore, which is not installed here.",
            "pip install 'modeldrop[sigstore]'",
        ) from error
    try:
        if trusted_root:
            root = TrustedRoot.from_file(trusted_root)
        else:
            import importlib.resources

            # The library's own way there keeps a copy in the user's home, which then is never replaced.
            with importlib.resources.as_file(importlib.resources.files("sigstore").joinpath(*_ROOT)) as path:
                root = TrustedRoot.from_file(str(path))
        verifier = Verifier(trusted_root=root)
    except Exception as error:
        what = trusted_root or "sigstore's own"
        reason = getattr(error, "strerror", None) or "it is no trusted root of Sigstore"
        raise DiskError(
            f"Sigstore's roots ({what}) cannot be read: {reason}.",
            "MODELDROP_SIGSTORE_ROOT names a trusted_root.json; without it sigstore's own is used: install that anew.",
        ) from error
    try:
        bundle = Bundle.from_json(data)
        kind, payload = verifier.verify_dsse(bundle, OIDCIssuerV2(_ISSUER))
    except Exception as error:  # noqa: BLE001  parsers of certificates and of the log raise their own
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise TrustError(f"{document} is not right: {said}", _LOOK) from None
    if kind != STATEMENT_TYPE:
        raise TrustError(f"{document} is signed as something else: {kind[:80]!r}, not {STATEMENT_TYPE}.", _LOOK)
    return bundle, payload


def _identity(bundle: Bundle) -> Attestation:
    """Who has attested, as the certificate says, and when, as the log does."""
    found: dict[str, str] = {}
    values: dict[str, Any] = {one.oid.dotted_string: one.value for one in bundle.signing_certificate.extensions}
    for name, oid in _OIDS.items():
        if oid not in values:
            raise ValueError(f"its certificate does not say the {name}")
        found[name] = _der_text(values[oid].value).removeprefix(_GITHUB if name != "run" else "")
    logged = bundle.log_entry._inner.integrated_time  # noqa: SLF001  the library has no other way to it
    return Attestation(**found, at=iso_time(logged) if logged else "")


def _der_text(data: bytes) -> str:
    """A UTF8String in DER."""
    if len(data) < 2 or data[0] != 0x0C:
        raise ValueError("its certificate has a text that is none")
    size, start = data[1], 2
    if size & 0x80:
        start = 2 + (size & 0x7F)
        size = int.from_bytes(data[2:start], "big")
    if len(data) != start + size:
        raise ValueError("its certificate has a text that is none")
    return data[start:].decode("utf-8")


def _subjects(statement: Fields) -> set[str]:
    """The SHA-256 of what a statement is about."""
    return {
        one.child("digest").text("sha256", pattern=HEX64)
        for one in statement.children("subject", limit=_MAX_SUBJECTS)
        if one.child("digest").has("sha256")
    }


def _difference(found: Attestation, wanted: Builder) -> str:
    """How an attestation is of another builder than wanted; "" if it is of this one. GitHub ignores names' case."""
    if found.repository.casefold() != wanted.repository.casefold():
        return f"by {found.repository}"
    if wanted.ref and found.ref != wanted.ref:
        return f"by {found.repository} at {found.ref}"
    if wanted.workflow:
        match = _WORKFLOW.fullmatch(wanted.workflow)
        assert match is not None  # noqa: S101  make_builder has seen to it
        path = f"{match['repository'] or wanted.repository}/.github/workflows/{match['file']}".casefold()
        ran = [workflow.partition("@")[0] for workflow in (found.workflow, found.signer)]
        if path not in {one.casefold() for one in ran}:
            return f"by the workflow {' and '.join(dict.fromkeys(ran))}"
    return ""
