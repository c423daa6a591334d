"""Remove old versions and what crashed publishers left. Prints what it would do; makes the changes with --yes.

modeldrop prune s3://acme-models/embedder
modeldrop prune s3://acme-models --keep 10 --older-than 90d --yes

There are two phases. First, a version that is older than --older-than and not among the newest is retired, which
deletes nothing. A run at least --grace later seals it and deletes its files, unless a channel names it, has named it
within the grace, or would roll back to it. Schedule it to run every day.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict

from modeldrop.commands.arguments import add_json, model_argument, print_json
from modeldrop.config import read_duration
from modeldrop.errors import ModeldropError, UsageError
from modeldrop.format.names import parse_version
from modeldrop.registry.channels import unretire
from modeldrop.registry.provenance import provenance
from modeldrop.registry.prune import DONE, RETIRE, Pruned, PruneRules, PruneStep, duration_text, prune, store_clock
from modeldrop.registry.versions import claimed_numbers, models_named
from modeldrop.site.upkeep import keep_site
from modeldrop.storage.write import open_store
from modeldrop.storage.write.store import Store
from modeldrop.util.text import size_text, table

_LEAST_GRACE = 3600
_WILL = {
    "retire": "retire",
    "unretire": "un-retire",
    "seal": "seal and delete",
    "abandon": "seal and delete",
    "sweep": "delete leftovers",
    "abort": "abort upload",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="REGISTRY[/MODEL]", nargs="?", default="", help="default: MODELDROP_REGISTRY")
    parser.add_argument("--keep", type=int, default=5, metavar="N", help="keep the newest N versions (default: 5)")
    parser.add_argument("--older-than", default="30d", metavar="AGE", help="retire only older versions (default: 30d)")
    parser.add_argument(
        "--grace", default="24h", metavar="AGE", help="time from retiring to sealing, at least 1h (default: 24h)"
    )
    parser.add_argument("--yes", action="store_true", help="make the changes")
    parser.add_argument("--unretire", metavar="VERSION", help="only un-retire this version of a model")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.unretire is not None:
        return _unretire(arguments.what, parse_version(arguments.unretire), as_json=arguments.json)
    rules = _rules(arguments)
    store, models, single = models_named(arguments.what)
    if not single:
        models = [model for model in models if claimed_numbers(store, model)]  # other folders are no models
    now = store_clock(store) if arguments.yes else time.time()
    pruned, failed = [], None
    for model in models:
        try:
            pruned.append(prune(store, model, rules, now=now, apply=arguments.yes, by=provenance().actor))
            changed = [step.version for step in pruned[-1].steps if step.outcome == DONE and step.version is not None]
            if changed:
                keep_site(store, model, changed)
        except ModeldropError as error:
            if single:
                raise
            print(f"modeldrop: {model}: {error}", file=sys.stderr)
            failed = failed or error
    if arguments.json:
        print_json([_json(one) for one in pruned])
    else:
        _print(store, pruned, rules, done=arguments.yes)
    return 0 if failed is None else failed.exit_code


def _rules(arguments: argparse.Namespace) -> PruneRules:
    grace = read_duration(arguments.grace, "--grace")
    if grace < _LEAST_GRACE:
        raise UsageError(
            f"--grace {arguments.grace} is too short: it must cover everyone who is still fetching, promoting "
            "or uploading what is about to be removed, and clocks that differ.",
            "At least 1h; longer than your longest upload.",
        )
    if arguments.keep < 0:
        raise UsageError(f"--keep {arguments.keep} is not a number of versions.", "Write 0 or more.")
    return PruneRules(arguments.keep, read_duration(arguments.older_than, "--older-than"), grace)


def _unretire(what: str, number: int, *, as_json: bool) -> int:
    reference = model_argument(what)
    store = open_store(reference.registry)
    changed = unretire(store, reference.model, number)
    keep_site(store, reference.model, [number])
    if as_json:
        print_json({"model": reference.model, "version": f"v{number}", "unretired": changed})
    else:
        print(f"v{number} of {reference.model} {'is no longer' if changed else 'was not'} retired.")
    return 0


def _json(pruned: Pruned) -> dict[str, object]:
    return {
        "model": pruned.model,
        "frees_now": pruned.frees_now,
        "frees_later": pruned.frees_later,
        "steps": [asdict(step) | {"version": _version(step) or None} for step in pruned.steps],
        "kept": [{"version": f"v{kept.version}", "why": kept.why} for kept in pruned.kept],
    }


def _print(store: Store, pruned: list[Pruned], rules: PruneRules, *, done: bool) -> None:
    rows = [
        (one.model, _version(step), _WILL[step.action], size_text(step.size) if step.size else "", _why(step))
        for one in pruned
        for step in one.steps
    ]
    if rows:
        print(table(("model", "version", "did" if done else "would", "bytes", "why"), rows, right=(3,)))
    for one in pruned:
        for kept in one.kept:
            print(f"{one.model} v{kept.version} {kept.why}")
    if not rows:
        print(f"{store.url}: nothing to prune.")
        return
    now, later = (sum(one.frees_now for one in pruned), sum(one.frees_later for one in pruned))
    line = f"{'Freed' if done else 'Would free'} {size_text(now)}"
    if any(step.action == RETIRE for one in pruned for step in one.steps):
        line += f"; sealing what {'was' if done else 'would be'} retired frees {size_text(later)} more"
        line += f", by a run {duration_text(rules.grace)} later"
    print(f"{line}.")
    if not done:
        print("Nothing was changed. To do it: the same with --yes.")


def _version(step: PruneStep) -> str:
    return f"v{step.version}" if step.version is not None else ""


def _why(step: PruneStep) -> str:
    return f"NOT done: {step.outcome}" if step.outcome not in {"", DONE} else step.why
