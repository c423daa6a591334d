"""Verify GitHub's attestation on a version, offline; or store one beside the version that it is about.

modeldrop attest verify s3://acme-models/embedder@v3 --repository acme/models
modeldrop attest verify embedder --repository acme/models --ref refs/heads/main --workflow models.yml
modeldrop attest add s3://acme-models/embedder@v3 attestation.json

An attestation says, signed by GitHub, which workflow of which repository has built a version, at which commit.
publish-models.yml stores it; the bundle that actions/attest leaves is added by hand with add. Verifying needs
modeldrop[sigstore]. The exit code is 21 where it is missing, not right, or of another repository, workflow or ref.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.config import required_builder
from modeldrop.errors import DiskError, UsageError
from modeldrop.registry.attestations import add_attestation, check_attestation
from modeldrop.registry.versions import resolve_reference
from modeldrop.storage.write import open_store
from modeldrop.trust.attestation import MAX_BYTES, make_builder

if TYPE_CHECKING:
    import argparse

    from modeldrop.trust.attestation import Builder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("verify", "add"), help="what to do")
    parser.add_argument("reference", metavar="REFERENCE", help="REGISTRY/MODEL[@VERSION|@CHANNEL]")
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", type=Path, help="add: the file with the attestation")
    parser.add_argument(
        "--repository", metavar="OWNER/NAME", help="who must have built it (default: MODELDROP_REQUIRE_ATTESTATION)"
    )
    parser.add_argument("--workflow", default="", help="the workflow that must have run, or have attested for it")
    parser.add_argument("--ref", default="", help="the branch or tag that it must have run at, such as refs/heads/main")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    return _verify(arguments) if arguments.action == "verify" else _add(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.bundle is not None:
        raise UsageError("verify takes no file.", "It verifies what lies beside the version: modeldrop attest add")
    builder = _builder(arguments)
    reference = reference_argument(arguments.reference)
    store = open_store(reference.registry)
    version = resolve_reference(store, reference)
    found = check_attestation(store, reference.model, version.number, version.digest, builder)
    if arguments.json:
        attested = found._asdict()
        print_json({"reference": f"{store.url}/{reference.model}@v{version.number}@{version.digest}", **attested})
        return 0
    print(f"{reference.model} v{version.number} {version.digest[:19]}…: built by {found.repository} at {found.ref}")
    print(f"commit    {found.commit}")
    print(f"workflow  {found.workflow}")
    print(f"signed by {found.signer}")
    print(f"run       {found.run}" + (f", logged at {found.at}" if found.at else ""))
    return 0


def _builder(arguments: argparse.Namespace) -> Builder:
    if arguments.repository is not None:
        return make_builder(arguments.repository, "--repository", ref=arguments.ref, workflow=arguments.workflow)
    builder = required_builder()
    if builder is None:
        raise UsageError(
            "Whose attestation it must be is not said.",
            "Name the repository that builds: --repository OWNER/NAME. Anybody on GitHub can attest to anything.",
        )
    return make_builder(
        builder.repository, "--ref", ref=arguments.ref or builder.ref, workflow=arguments.workflow or builder.workflow
    )


def _add(arguments: argparse.Namespace) -> int:
    path = arguments.bundle
    if path is None:
        raise UsageError("No attestation is named.", "Name the file: modeldrop attest add REFERENCE BUNDLE")
    if arguments.repository or arguments.workflow or arguments.ref:
        raise UsageError("add verifies nothing.", "Verify what was added: modeldrop attest verify")
    reference = reference_argument(arguments.reference)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DiskError(f"{path} cannot be read: {error.strerror}.", "Name the file with the attestation.") from None
    store = open_store(reference.registry)
    version = resolve_reference(store, reference)
    added = add_attestation(store, reference.model, version, data, str(path))
    if arguments.json:
        print_json({"reference": f"{store.url}/{reference.model}@v{version.number}@{version.digest}", "added": added})
    else:
        print(f"{reference.model} v{version.number}: the attestation {'is stored' if added else 'was there already'}")
    return 0
