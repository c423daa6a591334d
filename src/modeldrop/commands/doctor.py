"""Check a registry: can it be reached, read and written from here, and does it honour conditional writes?

Prints a line for each check and, below one that failed, how to fix it. --reading checks what fetching needs, and no
more; so do containers without the cloud's SDK, and what is read-only. --policies prints the minimum permissions of a
publisher and a fetcher, without sending a request. The exit code is 12 if a check failed; a warning is no failure.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import default_registry, home_folder, registry_settings
from modeldrop.doctor.checks import CheckResult, CheckState, failed_check, ok, unchecked, warning
from modeldrop.doctor.github_trust import GitHubSubjects, sign_in_script
from modeldrop.doctor.policies import policies_for
from modeldrop.doctor.run import check_registry
from modeldrop.errors import ModeldropError, RegistryError
from modeldrop.fetcher.status import read_status
from modeldrop.util.text import age_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from modeldrop.config import RegistrySettings

LAST_GOOD = "last good"
_MARKS = {
    CheckState.OK: "ok",
    CheckState.WARNING: "warning",
    CheckState.FAILED: "FAILED",
    CheckState.UNCHECKED: "not checked",
}
_DOES_WITHOUT = "modeldrop can do without it: see the table of {} in docs/storage/{}.md."
_HEADINGS = {
    "publisher": "publisher (publish, promote, rollback, mirror)",
    "planner": "planner (plan, the action in pull requests)",
    "fetcher": "fetcher (fetch, run, watch)",
    "prune": "prune, besides the publisher's",
    "doctor": "doctor, besides the publisher's",
    "policy": "for the publisher too, so that only others can set what `modeldrop policy` has set",
    "github": "a script that makes both for a repository on GitHub: its main publishes, its pull requests plan",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default="", help="default: MODELDROP_REGISTRY")
    parser.add_argument("--reading", action="store_true", help="check what fetching needs, as a fetcher does it")
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        default=[],
        help="read this model's channel (NAME@CHANNEL) and manifest too; default: those of the last good versions here",
    )
    parser.add_argument("--policies", action="store_true", help="print the least-privilege policies, and nothing else")
    parser.add_argument(
        "--conformance",
        action="store_true",
        help="also check all that modeldrop requires of a store (writes about 160 MB)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    registry = arguments.registry or default_registry()
    if arguments.policies:
        settings = registry_settings(registry)
        in_bucket = settings.url.startswith(("s3://", "gs://", "az://"))
        return _print_policies(settings if in_bucket else None, as_json=arguments.json)
    here = _last_good()
    results = check_registry(
        registry, dict.fromkeys(arguments.model or here, bool(arguments.model)), reading=arguments.reading
    )
    results += [ok(LAST_GOOD, f"{model}: {text}") for model, text in here.items()]
    if arguments.conformance:
        results += _conformance(registry, results)
    well = all(result.state is not CheckState.FAILED for result in results)
    if arguments.json:
        print_json({"registry": registry, "ok": well, "checks": [dict(result.to_json()) for result in results]})
    else:
        _print(results)
    return 0 if well else RegistryError.exit_code


def _last_good() -> dict[str, str]:
    """What this machine's home would use if the registry did not answer, by ``NAME@CHANNEL``."""
    found = {}
    with contextlib.suppress(ModeldropError):
        for status in read_status(home_folder()):
            if status.link is not None and status.snapshot is not None and not status.fault:
                age = "" if status.age is None else f", confirmed {age_text(status.age)} ago"
                channel = status.link.removesuffix(f"-{status.snapshot.variant}")
                found[f"{status.model}@{channel}"] = f"v{status.snapshot.version}, {status.snapshot.variant}{age}"
    return found


def _conformance(registry: str, results: Iterable[CheckResult]) -> list[CheckResult]:
    if any(result.state is CheckState.FAILED for result in results):
        return [unchecked("conformance", "an earlier check failed")]
    from modeldrop.conformance.run import run_checks
    from modeldrop.storage.write import open_store

    found = []
    try:
        store = open_store(registry)
        pages = ("emulators", "gcs") if store.url.startswith("gs://") else ("services", "s3-compatible")
        without = _DOES_WITHOUT.format(*pages)
        for outcome in run_checks(store):
            title = outcome.check.title
            if outcome.fault:
                found.append(failed_check("conformance", RegistryError(f"{title}: {outcome.fault}.")))
            elif outcome.lack:
                found.append(warning("conformance", f"{title}: {outcome.lack}", without))
            elif outcome.skipped:
                found.append(unchecked("conformance", f"{title}: {outcome.skipped}"))
            else:
                found.append(ok("conformance", title))
    except ModeldropError as error:
        found.append(failed_check("conformance", error))
    return found


def _print_policies(settings: RegistrySettings | None, *, as_json: bool) -> int:
    texts: dict[str, str] = {}
    if settings is not None:
        texts |= policies_for(settings).to_json()
        texts["github"] = sign_in_script(settings, GitHubSubjects("$SUBJECT", "main"))
    if as_json:
        print_json(texts)
    elif not texts:
        print("A folder has no policies: everyone who can write it can publish, everyone who can read it can fetch.")
    else:
        print("\n\n".join(f"# {_HEADINGS[who]}\n{text}" for who, text in texts.items()))
    return 0


def _print(results: Iterable[CheckResult]) -> None:
    said: set[str] = set()
    for result in results:
        print(f"{_MARKS[result.state]:<11}  {result.name:<16}  {result.text}")
        if result.fix in said:
            print("    as above")
        elif result.fix:
            said.add(result.fix)
            print("\n".join(f"    {line}" for line in result.fix.splitlines()))
