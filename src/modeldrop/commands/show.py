"""Show a version: source, variants, measurements, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.commands.summary import variant_table
from modeldrop.commands.terminal import print_table
from modeldrop.format.channel import Channel
from modeldrop.format.manifest import serialize_manifest
from modeldrop.format.signature import signatures
from modeldrop.registry.deltas import read_delta_index
from modeldrop.registry.versions import list_channels, resolve_reference
from modeldrop.storage.write import open_store
from modeldrop.util.text import size_text, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REFERENCE", help="REGISTRY/MODEL[@VERSION|@CHANNEL]")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    reference = reference_argument(arguments.reference)
    store = open_store(reference.registry)
    all_channels = list_channels(store, reference.model)
    version = resolve_reference(store, reference, all_channels)
    manifest = version.manifest
    channels = [name for name, one in all_channels.items() if one.version == version.number]
    index = read_delta_index(store, reference.model, version.number)
    deltas = {} if index is None else {base.manifest: base.size for base in index.bases}
    if arguments.json:
        print_json(
            {
                "model": reference.model,
                "version": f"v{version.number}",
                "digest": version.digest,
                "channels": channels,
                "deltas": [{"base": digest, "bytes": size} for digest, size in deltas.items()],
                "manifest": json.loads(serialize_manifest(manifest)),
            }
        )
        return 0
    made = manifest.provenance
    facts = {
        "digest": version.digest,
        "channels": ", ".join(channels) or "none",
        "task": f"{manifest.task} ({manifest.architecture})",
        "source": manifest.source.identity,
        "licence": manifest.source.licence or "unknown",
        "built": " ".join(part for part in (made.created, "by", made.actor, made.run, made.commit) if part),
        "on": manifest.machine,
        "with": ", ".join(f"{name} {release}" for name, release in manifest.toolchain.items()),
        "deltas": _deltas(deltas, all_channels),
        "report": f"{store.url}/{reference.model}/v{version.number}/report.html",
    }
    print(f"{reference.model} v{version.number}")
    print(table(("", ""), [(f"  {name}", value) for name, value in facts.items()]).lstrip("\n"))
    print(f"\n{variant_table(manifest)}\n")
    for graphs, tensors in signatures(manifest.variants):
        shown = [(kind, name, f"{tensor.dtype} [{', '.join(tensor.shape)}]") for kind, name, tensor in tensors]
        print(f"{table((graphs, '', ''), shown)}\n")
    rows = [(file.path, size_text(file.size), f"sha256:{file.sha256[:16]}…") for file in manifest.files]
    print_table(("file", "size", "digest"), rows, right=(1,), cut=(0,))
    return 0


def _deltas(sizes: Mapping[str, int], channels: Mapping[str, Channel]) -> str:
    """From which versions there are deltas, by their numbers where a channel still knows them, and their sizes."""
    numbers = {move.digest: f"v{move.version}" for channel in channels.values() for move in channel.moves()}
    return (
        ", ".join(f"from {numbers.get(digest, digest[:19])} {size_text(size)}" for digest, size in sizes.items())
        or "none"
    )
