"""Show what differs between two versions of a model.

modeldrop diff ./models/embedder@v1 ./models/embedder@v2
modeldrop diff ./models/embedder@v1 current
"""

from __future__ import annotations

import argparse

from modeldrop.commands.arguments import add_json, print_json, reference_argument
from modeldrop.commands.terminal import print_table
from modeldrop.format.diff import diff
from modeldrop.format.reference import parse_reference
from modeldrop.registry.versions import resolve_reference
from modeldrop.storage.write import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="BEFORE", help="REGISTRY/MODEL@VERSION")
    parser.add_argument("after", metavar="AFTER", help="the same, or only a version or channel of that model")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    before = reference_argument(arguments.before)
    if "/" in arguments.after or "@" in arguments.after:
        after = reference_argument(arguments.after)
    else:
        after = parse_reference(f"{before.model}@{arguments.after}", before.registry)
    one = resolve_reference(open_store(before.registry), before)
    other = resolve_reference(open_store(after.registry), after)
    changes = diff(one.manifest, other.manifest)
    names = (f"{before.model} v{one.number}", f"{after.model} v{other.number}")
    if arguments.json:
        print_json([{"what": change.what, "before": change.before, "after": change.after} for change in changes])
    elif not changes:
        print(f"{names[0]} and {names[1]} do not differ.")
    else:
        rows = [(change.what, change.before or "–", change.after or "–") for change in changes]
        print_table(("", *names), rows, cut=(0, 1, 2))
    return 0
