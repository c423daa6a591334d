"""Show or set what a version must have before a channel of a registry may name it.

modeldrop policy s3://acme-models/team
modeldrop policy s3://acme-models/team --require signature --trust ed25519:… --channel current
modeldrop policy s3://acme-models/team --require attestation --attested-by acme/models,ref=refs/heads/main
modeldrop policy s3://acme-models/team --require none

A policy lies in the registry. From then on every promote, rollback, publish and mirror there is refused (exit code 17)
where the version lacks what is required: signature, by the keys in --trust; attestation, by a workflow of the
repository in --attested-by; test, one that succeeded when it was published. It is set as a whole. Who may set it, and
who may move channels at all, is a matter of the bucket's own policies: docs/security.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import default_registry, trusted_keys
from modeldrop.errors import UsageError
from modeldrop.format.names import check_channel
from modeldrop.format.policy import ATTESTATION, REQUIREMENTS, SIGNATURE, Policy, policy_text
from modeldrop.registry.policy import read_policy, write_policy
from modeldrop.registry.provenance import now, provenance
from modeldrop.storage.write import open_store
from modeldrop.trust.attestation import parse_builder

if TYPE_CHECKING:
    import argparse

NONE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default="", help="default: MODELDROP_REGISTRY")
    parser.add_argument(
        "--require", action="append", choices=(*REQUIREMENTS, NONE),
        help="what a version must have (can be repeated); none: nothing any more",
    )  # fmt: skip
    parser.add_argument(
        "--channel", action="append", default=[], metavar="C", help="only for this channel (can be repeated)"
    )
    parser.add_argument(
        "--trust", action="append", metavar="KEY",
        help="a public key whose signature counts (can be repeated; default: MODELDROP_TRUST, or modeldrop.toml's)",
    )  # fmt: skip
    parser.add_argument("--threshold", type=int, metavar="N", help="how many of the keys must have signed (default: 1)")
    parser.add_argument(
        "--attested-by", default="", metavar="REPOSITORY",
        help="whose attestation counts: OWNER/NAME[,ref=…][,workflow=…]",
    )  # fmt: skip
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    store = open_store(arguments.registry or default_registry())
    policy: Policy | None
    if arguments.require:
        policy = _policy(arguments)
        write_policy(store, policy)
    elif arguments.channel or arguments.trust or arguments.threshold or arguments.attested_by:
        raise UsageError("What is required is not said.", "Say it: --require signature, attestation, test or none")
    else:
        policy, _ = read_policy(store)
    if arguments.json:
        print_json(None if policy is None else policy._asdict())
    elif policy is None:
        print(f"{store.url} has no policy: no channel requires anything.")
    else:
        print(f"{store.url}: {policy_text(policy)} (set by {policy.by} at {policy.at})")
    return 0


def _policy(arguments: argparse.Namespace) -> Policy:
    require = tuple(one for one in REQUIREMENTS if one in arguments.require)
    if require and NONE in arguments.require:
        raise UsageError("none stands alone.", "Name what is required, or none.")
    trust = trusted_keys(arguments.trust, arguments.threshold) if SIGNATURE in require else None
    if SIGNATURE in require and trust is None:
        raise UsageError(
            "Whose signatures count is not said.", "List the public keys: --trust, MODELDROP_TRUST, or modeldrop.toml."
        )
    if ATTESTATION in require and not arguments.attested_by:
        raise UsageError(
            "Whose attestation counts is not said.", "Name the repository that builds: --attested-by OWNER/NAME"
        )
    return Policy(
        require=require,
        at=now(),
        by=provenance().actor,
        channels=tuple(dict.fromkeys(check_channel(name) for name in arguments.channel)),
        trust=() if trust is None else tuple(trust.keys),
        threshold=1 if trust is None else trust.threshold,
        attested_by=str(parse_builder(arguments.attested_by, "--attested-by")) if ATTESTATION in require else "",
    )
