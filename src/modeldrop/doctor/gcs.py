"""What doctor checks of a bucket on Google Cloud Storage."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials

from modeldrop.config import anonymous_by
from modeldrop.doctor.checks import (
    EXPOSURE,
    LARGE_FILES,
    LIFECYCLE,
    SIGNED_IN,
    CheckResult,
    FirstResponse,
    Stage,
    advice,
    failed_check,
    first_request,
    no_answer,
    ok,
    seconds_ahead,
    sentence,
    touches,
    unchecked,
    warning,
    within_time_limit,
)
from modeldrop.doctor.policies import policies_for
from modeldrop.errors import ModeldropError
from modeldrop.storage.sdk_answers import UnreadableAnswerError, fields_expected
from modeldrop.storage.write.gcs.errors import MEANT, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modeldrop.storage.write.gcs.store import GCSBucketStore

_TIMEOUT = (3.0, 7.0)
_EVERYBODY = {"allUsers", "allAuthenticatedUsers"}
_NONCURRENT = ("daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions")


class GCSProbe:
    """See ``Probe``."""

    def __init__(self, store: GCSBucketStore) -> None:
        self.store = store
        self.policies = policies_for(store.settings)

    def first_request(self) -> FirstResponse:
        registry, bucket = self.store.url, self.store.bucket
        try:
            client = self.store.client
        except ModeldropError as error:
            return FirstResponse(Stage.NOT_SIGNED_IN, "", error=error)
        endpoint = client._connection.API_BASE_URL  # noqa: SLF001  Google offers no other way

        def ask() -> str | None:
            question = {"maxResults": "1", "prefix": bucket.prefix}
            reply = client._http.get(f"{endpoint}/storage/v1/b/{bucket.name}/o", params=question, timeout=_TIMEOUT)  # noqa: SLF001
            if reply.status_code != 200:
                raise api.from_http_response(reply)
            date = reply.headers.get("Date")
            return None if date is None else str(date)

        def failed(error: Exception) -> FirstResponse:
            response = getattr(error, "response", None)
            ahead = seconds_ahead(None if response is None else response.headers.get("Date"))
            try:
                with explained(registry, endpoint, "list", ""):
                    raise error
            except ModeldropError as why:
                return FirstResponse(_stage(error), endpoint, ahead, why)

        return first_request(registry, endpoint, ask, failed, MEANT)

    def identity(self) -> CheckResult:
        credentials = self.store.client._credentials  # noqa: SLF001  Google offers no other way
        if isinstance(credentials, AnonymousCredentials):
            why = anonymous_by(self.store.settings) if self.store.settings.anonymous else "STORAGE_EMULATOR_HOST"
            return ok(SIGNED_IN, f"as nobody ({why})")
        for name in ("service_account_email", "signer_email", "account"):
            who = getattr(credentials, name, None)
            if who and who != "default":
                return ok(SIGNED_IN, str(who))
        return ok(SIGNED_IN, f"with {type(credentials).__module__.removeprefix('google.')} credentials without a name")

    def bucket_checks(self) -> list[CheckResult]:
        bucket = self.store.client.bucket(self.store.bucket.name)
        error = _look(lambda: bucket.reload(timeout=_TIMEOUT, retry=None))
        if error is not None:
            lifecycle = _unseen(LIFECYCLE, error, "storage.buckets.get")
            return [lifecycle, self._exposure(bucket, prevented=False), self._large_files()]
        try:
            with fields_expected():
                lifecycle = self._lifecycle(bucket)
                prevented = bucket.iam_configuration.public_access_prevention == "enforced"
        except UnreadableAnswerError as strange:
            lifecycle, prevented = no_answer(LIFECYCLE, strange), False
        return [lifecycle, self._exposure(bucket, prevented=prevented), self._large_files()]

    def cleanup(self) -> None:
        pass

    def _large_files(self) -> CheckResult:
        try:
            parallel = self.store.takes_parts(f".doctor/{secrets.token_hex(8)}")
        except ModeldropError as error:
            return failed_check(LARGE_FILES, error, advice(error, self.policies.publisher))
        if parallel:
            return ok(LARGE_FILES, "in parallel parts")
        return warning(
            LARGE_FILES,
            "in one stream each: this service has no multipart uploads of the XML API",
            "Publishing works, slower over a long line. If Google's own service is behind this address, what stands "
            "before it must pass POST /BUCKET/OBJECT?uploads as well.",
        )

    def _lifecycle(self, bucket: Any) -> CheckResult:
        name, prefix = self.store.bucket.name, self.store.bucket.prefix
        effects = [text for rule in bucket.lifecycle_rules if (text := _effect(rule, prefix))]
        if bucket.retention_period:
            effects.append(f"a retention policy keeps channels from moving for {bucket.retention_period} s")
        if effects:
            return warning(
                LIFECYCLE,
                sentence(effects),
                "Versions are for ever until prune removes them. Limit the rules to other prefixes (matchesPrefix), or "
                f"remove them: gcloud storage buckets describe gs://{name} --format='default(lifecycle_config)'",
            )
        kept = "versioning keeps what is deleted or replaced" if bucket.versioning_enabled else ""
        return ok(LIFECYCLE, sentence(["no rule touches versions", kept]))

    def _exposure(self, bucket: Any, *, prevented: bool) -> CheckResult:
        if prevented:
            return ok(EXPOSURE, "public access prevention is enforced")
        found: list[Mapping[str, Any]] = []
        error = _look(
            lambda: found.extend(
                bucket.get_iam_policy(requested_policy_version=3, timeout=_TIMEOUT, retry=None).bindings
            )
        )
        if error is not None:
            return _unseen(EXPOSURE, error, "storage.buckets.getIamPolicy")
        try:
            with fields_expected():
                roles = [str(binding["role"]) for binding in found if _EVERYBODY & set(binding["members"])]
        except UnreadableAnswerError as strange:
            return no_answer(EXPOSURE, strange)
        if roles:
            return warning(
                EXPOSURE,
                f"everybody has {', '.join(roles)}",
                f"If that is not intended: gcloud storage buckets update gs://{self.store.bucket.name} "
                "--public-access-prevention",
            )
        return ok(EXPOSURE, "no role is given to everybody")


def _stage(error: Exception) -> Stage:
    if isinstance(error, auth.GoogleAuthError):
        unreachable = isinstance(error, auth.TransportError | auth.TimeoutError)
        return Stage.NOT_REACHED if unreachable else Stage.NOT_SIGNED_IN
    if isinstance(error, api.Forbidden):
        return Stage.ANSWERED
    return Stage.NOT_SIGNED_IN if isinstance(error, api.Unauthorized) else Stage.NOT_REACHED


def _look(ask: Callable[[], object]) -> Exception | None:
    """What keeps a setting of the bucket from being seen."""
    try:
        within_time_limit(ask, MEANT)
    except (*MEANT, UnreadableAnswerError) as error:
        return error
    return None


def _unseen(name: str, error: Exception, permission: str) -> CheckResult:
    """A setting that cannot be seen; ``permission`` is what it takes."""
    if isinstance(error, api.Forbidden | api.Unauthorized):
        return unchecked(name, f"not allowed to look ({permission})")
    if isinstance(error, api.GoogleAPICallError) and error.code:
        return unchecked(name, f"the service answers {int(error.code)}")
    return no_answer(name, error)


def _effect(rule: Mapping[str, Any], registry: str) -> str:
    """What a rule does to present objects of the registry, or ""."""
    action, condition = rule.get("action", {}), rule.get("condition", {})
    if condition.get("isLive") is False or any(name in condition for name in _NONCURRENT):
        return ""
    prefixes = condition.get("matchesPrefix") or [""]
    if not any(touches(prefix, registry) for prefix in prefixes):
        return ""
    when = f" after {condition['age']} days" if "age" in condition else ""
    if action.get("type") == "Delete":
        return f"a rule deletes objects{when}"
    if action.get("type") == "SetStorageClass":
        return f"a rule moves objects to {action.get('storageClass', 'another class')}{when}"
    return ""
