"""What doctor checks of a bucket on S3, or on a service that speaks its protocol."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError  # noqa: A004

from modeldrop.config import anonymous_by
from modeldrop.doctor.checks import (
    EXPOSURE,
    LARGE_FILES,
    LIFECYCLE,
    SERVICE,
    SIGNED_IN,
    CheckResult,
    FirstResponse,
    Stage,
    advice,
    failed_check,
    first_request,
    ok,
    seconds_ahead,
    sentence,
    shortened_key_id,
    touches,
    unchecked,
    warning,
    within_time_limit,
)
from modeldrop.doctor.policies import policies_for
from modeldrop.doctor.services import WITHOUT_CONDITIONS, recognise
from modeldrop.errors import ModeldropError
from modeldrop.storage.botocore_session import Session
from modeldrop.storage.sdk_answers import UnreadableAnswerError
from modeldrop.storage.urls import access_point, express_zone
from modeldrop.storage.write.s3 import errors as s3_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeldrop.storage.s3_address import S3Address
    from modeldrop.storage.write.s3.store import S3BucketStore

_FORBIDDEN = {"AccessDenied", "Forbidden", "AllAccessDisabled", "403"}
_NOBODY_SPECIAL = (
    "http://acs.amazonaws.com/groups/global/AllUsers",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
)
_BLOCK = (
    "aws s3api put-public-access-block --bucket {bucket} --public-access-block-configuration "
    "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
)


_MEANT = (BotoCoreError, ClientError)


class S3Probe:
    """See ``Probe``."""

    def __init__(self, store: S3BucketStore) -> None:
        self.store = store
        self.policies = policies_for(store.settings)
        self._headers: Mapping[str, str] = {}

    def first_request(self) -> FirstResponse:
        store = self.store
        try:
            client = store.client
        except ModeldropError as error:
            return FirstResponse(Stage.NOT_SIGNED_IN, "", error=error)
        endpoint, region = store.address.service, store.address.region

        def ask() -> str | None:
            reply = client.list_objects_v2(Bucket=store.bucket.name, Prefix=store.bucket.prefix, MaxKeys=1)
            self._headers = _headers(reply)
            return self._headers.get("date")

        def explained(error: Exception) -> FirstResponse:
            context = s3_errors.RequestContext(
                url=store.url, bucket=store.bucket.name, verb="list", key="", endpoint=endpoint, region=region
            )
            self._headers = _headers(error.response) if isinstance(error, ClientError) else {}
            ahead = seconds_ahead(self._headers.get("date"))
            return FirstResponse(_stage(error), endpoint, ahead, s3_errors.explain(error, context))

        answer = first_request(store.url, endpoint, ask, explained, _MEANT)
        return replace(answer, certificates=store.address.certificates)

    def identity(self) -> CheckResult:
        client, address = self.store.client, self.store.address
        if address.anonymous:
            return ok(SIGNED_IN, f"as nobody ({anonymous_by(self.store.settings)})")
        if address.amazon:
            try:
                return ok(SIGNED_IN, within_time_limit(lambda: _caller(client, address), _MEANT))
            except (*_MEANT, UnreadableAnswerError, OSError):
                pass  # a private network may reach S3 and not STS
        return ok(SIGNED_IN, f"with the access key {shortened_key_id(_credentials(client).access_key)}")

    def bucket_checks(self) -> list[CheckResult]:
        name = self.store.bucket.name
        found = [self._service(), self._large_files()]
        if access_point(name) or express_zone(name):
            why = "an access point does not tell" if access_point(name) else "directory buckets have no such settings"
            return [*found, unchecked(LIFECYCLE, why), unchecked(EXPOSURE, why)]
        return [*found, self._lifecycle(), self._exposure()]

    def cleanup(self) -> None:
        pass

    def _service(self) -> CheckResult:
        service = recognise(self.store.address.service, self._headers)
        if service is None:
            return ok(SERVICE, "not one that is known here; what it does for publishing: --conformance")
        text = f"{service.name}. {service.summary}"
        return ok(SERVICE, text) if service.publish else warning(SERVICE, text, WITHOUT_CONDITIONS)

    def _large_files(self) -> CheckResult:
        store, policy = self.store, self.policies.publisher
        try:
            upload = store.begin_parts(f".doctor/{secrets.token_hex(8)}")
        except ModeldropError as error:
            return failed_check(LARGE_FILES, error, advice(error, policy))
        try:
            store.abort(upload)
        except ModeldropError as error:
            text = f"in parallel parts; but what an interrupted upload has sent cannot be freed. {error.message}"
            return warning(LARGE_FILES, text, advice(error, policy))
        return ok(LARGE_FILES, "in parallel parts")

    def _lifecycle(self) -> CheckResult:
        client, bucket = self.store.client, self.store.bucket
        reply, why = _look(lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket.name), "rules")
        if why:
            return unchecked(LIFECYCLE, why)
        rules = reply.get("Rules", ())
        effects = [text for rule in rules for text in _effects(rule, bucket.prefix)]
        if effects:
            return warning(
                LIFECYCLE,
                sentence(effects),
                f"Versions are for ever until prune removes them. Limit the rules to other prefixes than "
                f"{bucket.prefix or 'the whole bucket'!r}, or remove them: aws s3api get-bucket-lifecycle-configuration"
                f" --bucket {bucket.name}",
            )
        versioning, _ = _look(lambda: client.get_bucket_versioning(Bucket=bucket.name), "versioning")
        kept = "versioning keeps what is deleted or replaced" if versioning.get("Status") == "Enabled" else ""
        sweeps = any("AbortIncompleteMultipartUpload" in rule for rule in rules)
        advice = "" if sweeps else "one that aborts incomplete multipart uploads after 7 days would save room"
        return ok(LIFECYCLE, sentence(["no rule touches versions", kept, advice]))

    def _exposure(self) -> CheckResult:
        client, name = self.store.client, self.store.bucket.name
        block, block_why = _look(lambda: client.get_public_access_block(Bucket=name), "public access block")
        status, status_why = _look(lambda: client.get_bucket_policy_status(Bucket=name), "policy status")
        acl, acl_why = _look(lambda: client.get_bucket_acl(Bucket=name), "ACL")
        blocked = block.get("PublicAccessBlockConfiguration", {})
        ways = []
        if status.get("PolicyStatus", {}).get("IsPublic") and not blocked.get("RestrictPublicBuckets"):
            ways.append("the bucket's policy is public")
        open_acl = any(grant.get("Grantee", {}).get("URI") in _NOBODY_SPECIAL for grant in acl.get("Grants", ()))
        if open_acl and not blocked.get("IgnorePublicAcls"):
            ways.append("the bucket's ACL lets everybody in")
        if ways:
            fix = f"If that is not intended: {_BLOCK.format(bucket=name)}"
            return warning(EXPOSURE, sentence(ways), fix)
        if status_why or acl_why:
            return unchecked(EXPOSURE, sentence([status_why, acl_why, block_why]))
        return ok(EXPOSURE, sentence(["not public", block_why]))


def _stage(error: Exception) -> Stage:
    if isinstance(error, ClientError):
        code, status = s3_errors.code_of(error), s3_errors.status_of(error)
        if code == "RequestTimeTooSkewed":
            return Stage.WRONG_CLOCK
        if code in _FORBIDDEN:
            return Stage.ANSWERED
        signing = error.operation_name != "ListObjectsV2" or (status in {400, 401, 403} and code != "NoSuchBucket")
        return Stage.NOT_SIGNED_IN if signing else Stage.NOT_REACHED
    unreadable = isinstance(error, UnreadableAnswerError)
    silent = isinstance(error, (ConnectionError, HTTPClientError, OSError))
    return Stage.NOT_REACHED if unreadable or silent else Stage.NOT_SIGNED_IN


def _headers(reply: Mapping[str, Any]) -> Mapping[str, str]:
    """The headers of an answer, by their small-letter names."""
    found: Mapping[str, str] = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return found


def _credentials(client: Any) -> Any:
    return client._request_signer._credentials  # noqa: SLF001  botocore offers no other way


def _caller(client: Any, address: S3Address) -> str:
    """Who the credentials belong to, as Amazon knows them."""
    session = Session(address)
    session._credentials = _credentials(client)  # noqa: SLF001  the very same ones, not found anew
    sts = session.create_client(
        "sts",
        config=Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1, "mode": "standard"}),
    )
    return str(sts.get_caller_identity()["Arn"])


def _look(ask: Callable[[], Any], what: str) -> tuple[Mapping[str, Any], str]:
    """A setting of the bucket; or {} and why it cannot be seen. One that was never set is {} as well."""
    try:
        return within_time_limit(ask, _MEANT), ""
    except ClientError as error:
        code, status = s3_errors.code_of(error), s3_errors.status_of(error)
        if code.startswith("NoSuch") and code != "NoSuchBucket":
            return {}, ""
        if status in {401, 403}:
            return {}, f"{what}: not allowed to look"
        return {}, f"{what}: the service answers {status} {code}".rstrip()
    except UnreadableAnswerError:
        return {}, f"{what}: no answer that S3 gives"
    except (BotoCoreError, OSError, TimeoutError):
        return {}, f"{what}: no answer"


def _effects(rule: Mapping[str, Any], registry: str) -> list[str]:
    """What an enabled rule does to present objects of the registry."""
    chosen = rule.get("Filter", {})
    prefix = chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
    if rule.get("Status") != "Enabled" or not touches(prefix, registry):
        return []
    name = f"rule {rule.get('ID', '')!r}"
    expiration = rule.get("Expiration", {})
    effects = []
    if "Days" in expiration or "Date" in expiration:
        effects.append(f"{name} deletes objects {_when(expiration)}")
    effects += [
        f"{name} moves objects to {move.get('StorageClass', 'another class')} {_when(move)}"
        for move in rule.get("Transitions", ())
    ]
    return effects


def _when(timing: Mapping[str, Any]) -> str:
    return f"after {timing['Days']} days" if "Days" in timing else f"on {timing.get('Date', 'a date')}"
