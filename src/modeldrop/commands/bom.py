"""Print a version's bill of materials (CycloneDX 1.6): a machine-learning model, its files, hashes, licence and tools.

modeldrop bom s3://acme-models/embedder
modeldrop bom ./models/embedder@v3 > embedder.cdx.json

It is made of the manifest, also for versions that were published before there was a bom.cdx.json beside it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import reference_argument
from modeldrop.format.bom import render_bom
from modeldrop.registry.versions import resolve_reference
from modeldrop.storage.write import open_store

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REFERENCE", help="REGISTRY/MODEL[@VERSION|@CHANNEL]")


def run(arguments: argparse.Namespace) -> int:
    reference = reference_argument(arguments.reference)
    store = open_store(reference.registry)
    version = resolve_reference(store, reference)
    sys.stdout.write(render_bom(reference.model, version.manifest, version.digest).decode())
    return 0
