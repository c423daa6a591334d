"""Copy a version to another registry, byte for byte. Nothing is built.

modeldrop mirror s3://acme-models/embedder gs://acme-models-eu
modeldrop mirror s3://acme-models/embedder@v3 /mnt/usb/models --channel current

The copy has the same manifest digest, signature and attestation, and a number of its own. A registry that has it
already keeps what it has. With MODELDROP_SIGNING_KEY set the channel's move is signed.
To a folder on a disk without hard links (exFAT, FAT, SMB) only one mirror may write at a time.
"""

from __future__ import annotations

import argparse

from modeldrop.commands.arguments import add_json, add_require_attestation, print_json, reference_argument
from modeldrop.commands.summary import channel_json, channel_line
from modeldrop.config import required_builder
from modeldrop.errors import UsageError
from modeldrop.format.names import check_channel
from modeldrop.publishing.mirror import mirror_version, work_folder
from modeldrop.registry.attestations import check_attestation
from modeldrop.registry.channels import move_forward
from modeldrop.registry.provenance import provenance
from modeldrop.registry.replicate import copy_evidence, find_copy
from modeldrop.registry.signing import find_signer, refuse_unsigned, resolve_followed
from modeldrop.registry.versions import read_channel
from modeldrop.site.upkeep import keep_site
from modeldrop.storage.write import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REFERENCE", help="what to copy: REGISTRY/MODEL[@VERSION]")
    parser.add_argument("registry", metavar="REGISTRY", help="the registry to copy to; the model keeps its name")
    parser.add_argument("--channel", help="have this channel of the other registry name the copy, as a publish would")
    add_require_attestation(parser, "only what")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    channel = None if arguments.channel is None else check_channel(arguments.channel)
    reference = reference_argument(arguments.reference)
    source, target = open_store(reference.registry), open_store(arguments.registry, carrier=True)
    if source.url == target.url:
        raise UsageError(f"{source.url} is both the source and the destination.", "Name another registry.")
    model, builder = reference.model, required_builder(arguments.require_attestation)
    if channel is not None and find_signer() is None:
        refuse_unsigned(target, model, channel, read_channel(target, model, channel)[0])
    version = resolve_followed(source, reference)
    if builder is not None:
        check_attestation(source, model, version.number, version.digest, builder)
    there = find_copy(target, model, version)
    copied = there
    if copied is not None:
        copy_evidence(source, target, model, version, copied)
    else:
        with work_folder() as work:
            (made,) = mirror_version(source, version, model, [target], work / "copy", quiet=arguments.quiet)
        copied = made.version
    by = provenance().actor
    moved = None if channel is None else move_forward(target, model, copied, channel, by=by)
    if there is None or (moved is not None and moved.moved):
        keep_site(target, model, [copied.number])
    if arguments.json:
        print_json(
            {
                "registry": target.url,
                "model": model,
                "version": f"v{copied.number}",
                "reference": f"{target.url}/{model}@v{copied.number}@{copied.digest}",
                "digest": copied.digest,
                "copied": there is None,
                "source": f"{source.url}/{model}@v{version.number}",
                "channel": moved and channel_json(moved),
            }
        )
        return 0
    what = "mirrored" if there is None else "there already"
    print(f"{target.url}/{model} v{copied.number} {copied.digest[:19]}…: {what}, v{version.number} of {source.url}")
    if moved is not None:
        print(channel_line(moved))
    return 0
