"""All checks of a registry in their order; after one that makes the rest pointless, the rest is not made."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from modeldrop.config import RegistrySettings, load_config_file, registry_url
from modeldrop.doctor.checks import (
    CLOCK,
    CREATE_ONLY,
    DELETE,
    EXPOSURE,
    FETCHER,
    LIFECYCLE,
    LIST,
    POLICY_CHECK,
    REACHABLE,
    READ,
    REGISTRY,
    SERVICE,
    SETTINGS,
    SIGNED_IN,
    SWAP,
    WRITE,
    CheckResult,
    CheckState,
    Probe,
    Stage,
    advice,
    failed_check,
    first_results,
    ok,
    unchecked,
    warning,
)
from modeldrop.doctor.reading import check_access, check_models, check_reading
from modeldrop.errors import ConflictError, FormatError, MissingExtraError, ModeldropError, RegistryError
from modeldrop.format import keys
from modeldrop.format.policy import parse_policy, policy_text
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import conditional, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeldrop.storage.write.azure.store import AzureContainerStore
    from modeldrop.storage.write.gcs.store import GCSBucketStore
    from modeldrop.storage.write.s3.store import S3BucketStore
    from modeldrop.storage.write.store import Store

ORDER = (
    REGISTRY,
    SETTINGS,
    REACHABLE,
    SERVICE,
    SIGNED_IN,
    LIST,
    READ,
    WRITE,
    DELETE,
    CREATE_ONLY,
    SWAP,
    CLOCK,
    LIFECYCLE,
    EXPOSURE,
    POLICY_CHECK,
    FETCHER,
)
_NOT_EVERYWHERE = (SETTINGS, SERVICE, POLICY_CHECK)
_OVERRIDING = {
    ("s3", "endpoint"): ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    ("s3", "region"): ("AWS_REGION", "AWS_DEFAULT_REGION"),
    ("gs", "endpoint"): ("STORAGE_EMULATOR_HOST",),
}
_WHAT = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}


def check_registry(
    registry: str, models: Mapping[str, bool] = MappingProxyType({}), *, reading: bool = False
) -> list[CheckResult]:
    """Check a registry, given by its URL, folder or name.

    Args:
        registry: the registry.
        models: whose channels and manifests are to be read, as ``NAME`` or ``NAME@CHANNEL``, and whether they must be
            there.
        reading: check what fetching needs, and no more. So it is, too, where the cloud's SDK is not installed, and of
            what is read-only.

    The results are in ORDER, those that an earlier failure has made pointless included; what makes no sense for
    a folder is left out, and its free space is added.

    It writes a small object below ``.doctor/`` and deletes it again; where it may not delete, it uses the one
    that publishing proves conditions with.
    """
    return _in_order([*_settings(registry), *_checked(registry, models, reading=reading)])


def _settings(registry: str) -> list[CheckResult]:
    """Which table of modeldrop.toml applies, and which of its settings a variable overrides; nothing without tables."""
    try:
        file = load_config_file()
        settings = file.registry(registry)
    except ModeldropError:
        return []  # the next check says it
    if not settings.section:
        known = ", ".join(dict.fromkeys(known.url for known in file.registries.values()))
        return [ok(SETTINGS, f"no table of {file.what} applies; it has those of {known}")] if known else []
    said = []
    for key, value, default in zip(settings._fields, settings, RegistrySettings(settings.url), strict=True):
        if value != default and key != "section":
            wins = next((name for name in _OVERRIDING.get((settings.url[:2], key), ()) if os.environ.get(name)), "")
            said.append(f"{key.replace('_', '-')}{f' (overridden by {wins})' if wins else ''}")
    origin = f"[registries.{settings.section}] of {file.what}, {file.registries[settings.section].url}"
    return [ok(SETTINGS, f"{origin}: {', '.join(said) or 'nothing but its URL'}")]


def _checked(registry: str, models: Mapping[str, bool], *, reading: bool) -> list[CheckResult]:
    try:
        left_out = _why_reading(registry) if not reading else "left out: --reading"
        if left_out:
            return check_reading(registry, models, left_out)
        probe = _probe_for(open_store(registry))
    except MissingExtraError as error:
        return check_reading(registry, models, f"needs an SDK: {error.hint}")
    except ModeldropError as error:
        return _complete([failed_check(REGISTRY, error)])
    results = [ok(REGISTRY, _kind(probe.store.url))]
    answer = probe.first_request()
    results += first_results(answer)
    if answer.stage is not Stage.ANSWERED:
        return _complete(results)
    results.append(probe.identity())
    try:
        results += _rights(probe)
    finally:
        probe.cleanup()
    results += [*_policy(probe.store), *probe.bucket_checks()]
    if "://" in probe.store.url or (models and Path(probe.store.url).is_dir()):
        results += _fetcher(registry, models)
    return results


def _policy(store: Store) -> list[CheckResult]:
    """What the registry requires before a channel is moved; nothing where it requires nothing."""
    try:
        stored = store.get(keys.POLICY_KEY)
        if stored is None:
            return []
        policy = parse_policy(stored.data)
    except FormatError as error:
        return [failed_check(POLICY_CHECK, error, f"Set it anew: modeldrop policy {store.url} --require …")]
    except ModeldropError:
        return []  # whether objects can be read is another check's
    by = f"set by {policy.by} at {policy.at}"
    holds = "" if "://" not in store.url else "; --policies prints what keeps publishers from changing it"
    return [ok(POLICY_CHECK, f"{policy_text(policy)}, {by}{holds}")]


def _why_reading(registry: str) -> str:
    """Why only reading can be checked, "" where all can."""
    return "it is read-only" if registry_url(registry).startswith("https://") else ""


def _fetcher(registry: str, models: Mapping[str, bool]) -> list[CheckResult]:
    """Whether a fetcher with these settings can read what can be published; of a folder, its models alone."""
    try:
        reader = open_reader(registry)
    except ModeldropError as error:
        return [failed_check(FETCHER, error)]
    access = check_access(reader)
    failures = [replace(result, name=FETCHER) for result in access if result.state is CheckState.FAILED]
    if failures:
        return failures
    return [*([ok(FETCHER, "reads it too")] if access else []), *check_models(reader, models)]


def _probe_for(store: Store) -> Probe:
    scheme, separator, _ = store.url.partition("://")
    if not separator:
        from modeldrop.doctor.folder import FolderProbe

        return FolderProbe(store)
    if scheme == "s3":
        from modeldrop.doctor.s3 import S3Probe

        return S3Probe(cast("S3BucketStore", store))
    if scheme == "gs":
        from modeldrop.doctor.gcs import GCSProbe

        return GCSProbe(cast("GCSBucketStore", store))
    from modeldrop.doctor.azure import AzureProbe

    return AzureProbe(cast("AzureContainerStore", store))


def _kind(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return f"{url}, on {_WHAT[scheme]}" if separator else f"{url}, a folder"


def _rights(probe: Probe) -> list[CheckResult]:
    store, fix = probe.store, probe.policies.publisher
    key = f".doctor/{secrets.token_hex(8)}"
    results = [_tried(LIST, lambda: store.names(""), "the registry's names", fix)]
    results.append(_tried(READ, lambda: store.get(key), "objects; one that is not there is told from one denied", fix))
    undeletable: ModeldropError | None = None
    try:
        store.delete(key)  # it is not there: only the right is tried
    except ModeldropError as error:
        # What is written now would have to stay, so it is the object that stays anyway.
        undeletable, key = error, conditional.KEY
    try:
        store.create(key, conditional.TEXT)
    except ConflictError:
        pass
    except ModeldropError as error:
        return [*results, *_unwritable(error, fix)]
    results += [ok(WRITE, "objects"), _create_only(store, key), _swap(store, key)]
    if undeletable is None:
        results.append(_tried(DELETE, lambda: _delete(store, key), "objects", probe.policies.prune))
    else:
        text = f"{undeletable.message} Publishing needs no right to delete; prune does."
        results.append(warning(DELETE, text, probe.policies.prune))
    return results


def _tried(name: str, action: Callable[[], object], text: str, fix: str) -> CheckResult:
    try:
        action()
    except ModeldropError as error:
        return failed_check(name, error, advice(error, fix))
    return ok(name, text)


def _unwritable(error: ModeldropError, fix: str) -> list[CheckResult]:
    if error.hint == storage_errors.no_conditional_writes("", "").hint:  # it refuses all conditional writes
        return [
            unchecked(WRITE, "only conditional writes are tried"),
            failed_check(CREATE_ONLY, error),
            unchecked(SWAP, "create-only is not honoured"),
            unchecked(DELETE, "nothing could be written"),
        ]
    why = "nothing can be written"
    return [
        failed_check(WRITE, error, advice(error, fix)),
        *(unchecked(name, why) for name in (DELETE, CREATE_ONLY, SWAP)),
    ]


def _create_only(store: Store, key: str) -> CheckResult:
    try:
        if conditional.honours_create_only(store, key):
            return ok(CREATE_ONLY, "honoured")
        return failed_check(CREATE_ONLY, storage_errors.no_conditional_writes(store.url, conditional.IGNORED_CREATE))
    except ModeldropError as error:
        return failed_check(CREATE_ONLY, error)


def _swap(store: Store, key: str) -> CheckResult:
    try:
        if not conditional.honours_swap(store, key):
            return failed_check(SWAP, storage_errors.no_conditional_writes(store.url, conditional.IGNORED_SWAP))
        present = store.get(key)
        if present is None:
            return failed_check(
                SWAP, storage_errors.no_conditional_writes(store.url, "what was just written is not there")
            )
        store.swap(key, present.data, present.tag)
        return ok(SWAP, "honoured")
    except ConflictError:
        return failed_check(SWAP, storage_errors.no_conditional_writes(store.url, conditional.REFUSED_SWAP))
    except ModeldropError as error:
        return failed_check(SWAP, error)


def _delete(store: Store, key: str) -> None:
    store.delete(key)
    if store.exists(key):
        raise RegistryError(f"{store.url}/{key} is still there after it was deleted.", "Look at it, and remove it.")


def _complete(results: list[CheckResult]) -> list[CheckResult]:
    """The results, and what was therefore not looked at."""
    names = {result.name for result in results}
    rest = [unchecked(name, "an earlier check failed") for name in ORDER if name not in {*names, *_NOT_EVERYWHERE}]
    return [*results, *rest]


def _in_order(results: list[CheckResult]) -> list[CheckResult]:
    return sorted(results, key=lambda result: ORDER.index(result.name) if result.name in ORDER else len(ORDER))
