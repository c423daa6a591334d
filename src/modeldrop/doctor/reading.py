"""What a fetcher needs, checked as a fetcher does it: with obstore, so that a container can do it without any SDK."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request

from modeldrop.config import anonymous_by
from modeldrop.doctor.checks import (
    CREATE_ONLY,
    DELETE,
    EXPOSURE,
    LIFECYCLE,
    LIST,
    READ,
    REGISTRY,
    SIGNED_IN,
    SWAP,
    WRITE,
    CheckResult,
    CheckState,
    FirstResponse,
    Stage,
    advice,
    failed_check,
    first_request,
    first_results,
    ok,
    seconds_ahead,
    unchecked,
)
from modeldrop.doctor.policies import policies_for
from modeldrop.errors import FormatError, IntegrityError, ModeldropError, NotFoundError
from modeldrop.format import channel, keys, manifest
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import conditional
from modeldrop.util import http

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.storage.read.interface import RegistryReader
    from modeldrop.storage.read.obstore_client import ObstoreClient
    from modeldrop.storage.read.obstore_errors import FailedRequest

_WRITING = (LIST, WRITE, DELETE, CREATE_ONLY, SWAP, LIFECYCLE, EXPOSURE)
_CLOCK_SECONDS = 5


def check_reading(registry: str, models: Mapping[str, bool], why: str) -> list[CheckResult]:
    """Check what fetching needs, and no more.

    Args:
        registry: its URL, its folder, or its name in modeldrop.toml.
        models: to read, as ``NAME`` or ``NAME@CHANNEL``, and whether they must be there.
        why: the rest is left out.
    """
    try:
        reader = open_reader(registry)
    except ModeldropError as error:
        return [failed_check(REGISTRY, error)]
    results = [ok(REGISTRY, f"{reader.url}, read as a fetcher does")]
    results += check_access(reader)
    if all(result.state is not CheckState.FAILED for result in results):
        results += check_models(reader, models)
    return [*results, *(unchecked(name, why) for name in _WRITING)]


def check_access(reader: RegistryReader) -> list[CheckResult]:
    """Whether a bucket can be reached, signed in to and read, by one request for an object that may be missing.

    Of a folder, whose reader would not have opened otherwise, nothing.
    """
    client: ObstoreClient | None = getattr(reader, "client", None)
    if client is None:
        return []
    answer = _first_request(reader, client)
    results = first_results(answer)
    if answer.stage is not Stage.ANSWERED:
        return results
    results.append(ok(SIGNED_IN, _identity(client)))
    if answer.error is None:
        return [*results, ok(READ, "objects; one that is not there is told from one denied")]
    policy = policies_for(client.settings).fetcher if client.scheme != "https" else ""
    return [*results, failed_check(READ, answer.error, advice(answer.error, policy))]


def check_models(reader: RegistryReader, models: Mapping[str, bool]) -> list[CheckResult]:
    """Whether the channels of models, and the manifests that they name, can be read and are right."""
    return [_check_model(reader, *_split(model), required=required) for model, required in models.items()]


def _split(model: str) -> tuple[str, str]:
    name, _, channel_name = model.partition("@")
    return name, channel_name or DEFAULT_CHANNEL


def _check_model(reader: RegistryReader, name: str, channel_name: str, *, required: bool) -> CheckResult:
    title, key = f"{name}@{channel_name}", keys.channel(name, channel_name)
    try:
        data = reader.get(key, channel.MAX_BYTES)
        if data is None or data == channel.REMOVED:
            missing = f"{reader.url} has no {key}"
            return failed_check(title, NotFoundError(missing)) if required else unchecked(title, missing)
        present = channel.parse_channel(data).present
        key = keys.manifest(name, present.version)
        data = reader.get(key, manifest.MAX_BYTES)
        if data is None or manifest.manifest_digest(data) != present.digest:
            what = "is not there" if data is None else f"has not the digest {present.digest}"
            return failed_check(title, IntegrityError(f"{reader.url}/{key} {what}, though {channel_name} names it."))
        variants = ", ".join(variant.name for variant in manifest.parse_manifest(data).variants)
    except FormatError as error:
        return failed_check(title, FormatError(f"{reader.url}/{key}: {error.message}", error.hint))
    except ModeldropError as error:
        return failed_check(title, error)
    return ok(title, f"v{present.version}, generation {present.generation}: {variants}")


def _first_request(reader: RegistryReader, client: ObstoreClient) -> FirstResponse:
    from obstore.exceptions import NotFoundError

    from modeldrop.storage.read.obstore_errors import missing_bucket, parse

    def ask() -> None:
        reader.stream(conditional.KEY, 0, None, "", 1)

    def explained(error: Exception) -> FirstResponse:
        request = parse(error)
        missing = isinstance(error, (FileNotFoundError, NotFoundError)) or request.status == 404
        if missing and missing_bucket(client, request) is None:
            return FirstResponse(Stage.ANSWERED, client.endpoint)
        why = reader.fault(conditional.KEY, error).error
        return FirstResponse(_stage(client, request, why), client.endpoint, error=why)

    answer = first_request(reader.url, client.endpoint, ask, explained, (Exception,))
    if client.address is not None:
        answer = replace(answer, certificates=client.address.certificates)
    silent = answer.stage is Stage.NOT_REACHED
    return answer if silent else replace(answer, ahead=_seconds_ahead(client))


def _stage(client: ObstoreClient, request: FailedRequest, error: ModeldropError) -> Stage:
    if request.code == "RequestTimeTooSkewed":
        return Stage.WRONG_CLOCK
    if client.sdk is not None and client.sdk.error is not None:
        return Stage.NOT_SIGNED_IN
    if request.status == 403 and storage_errors.WHICH_RIGHTS in error.hint:
        return Stage.ANSWERED
    return Stage.NOT_SIGNED_IN if request.status in {400, 401, 403} else Stage.NOT_REACHED


def _identity(client: ObstoreClient) -> str:
    if client.signed_by:
        return f"with {client.signed_by}"
    if client.searched:
        return "as nobody: no credentials were found, and the bucket is public"
    return f"as nobody ({anonymous_by(client.settings)})" if client.settings.anonymous else "as nobody"


def _seconds_ahead(client: ObstoreClient) -> float | None:
    """How far this clock is ahead of the service's; obstore does not show the header that tells."""
    certificates = client.address.certificates if client.address else ""
    request = Request(client.endpoint, method="HEAD")  # noqa: S310  http or https
    try:
        with http.opener(client.endpoint, certificates).open(request, timeout=_CLOCK_SECONDS) as answer:
            return seconds_ahead(answer.headers.get("Date"))
    except HTTPError as error:
        with error:
            return seconds_ahead(error.headers.get("Date"))
    except (OSError, ValueError):
        return None
