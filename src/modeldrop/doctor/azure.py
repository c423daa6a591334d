"""What doctor checks of a container on Azure Blob Storage."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ClientAuthenticationError

from modeldrop.doctor.checks import (
    EXPOSURE,
    LIFECYCLE,
    SIGNED_IN,
    CheckResult,
    FirstResponse,
    Stage,
    first_request,
    no_answer,
    ok,
    seconds_ahead,
    unchecked,
    warning,
    within_time_limit,
)
from modeldrop.doctor.policies import policies_for
from modeldrop.storage.sdk_answers import UnreadableAnswerError
from modeldrop.storage.write.azure import errors as azure_errors

if TYPE_CHECKING:
    from modeldrop.storage.write.azure.store import AzureContainerStore

_MEANT = (AzureError, OSError)
_SCOPE = "https://storage.azure.com/.default"
_KEYS_FORBIDDEN = "KeyBasedAuthenticationNotPermitted"


class AzureProbe:
    """See ``Probe``."""

    def __init__(self, store: AzureContainerStore) -> None:
        self.store = store
        self.policies = policies_for(store.settings)

    def first_request(self) -> FirstResponse:
        store, endpoint = self.store, self.store.sign_in.endpoint
        dates: list[str] = []

        def note(response: Any) -> None:
            dates.append(response.http_response.headers.get("Date", ""))

        def ask() -> str:
            blobs = store.client.list_blobs(store.bucket.prefix, results_per_page=1, raw_response_hook=note)
            next(blobs.by_page(), None)
            return dates[-1] if dates else ""

        def explained(error: Exception) -> FirstResponse:
            context = azure_errors.StoreContext(store.bucket, store.sign_in, tags=bool(store.settings.tags))
            response = getattr(error, "response", None)
            ahead = seconds_ahead(response.headers.get("Date") if response is not None else None)
            return FirstResponse(_stage(error), endpoint, ahead, azure_errors.explain(error, context, "list", ""))

        return first_request(store.url, endpoint, ask, explained, _MEANT)

    def identity(self) -> CheckResult:
        sign_in = self.store.sign_in
        if not sign_in.identity:
            return ok(SIGNED_IN, f"with {sign_in.how}" if sign_in.credential is not None else sign_in.how)
        try:
            token = within_time_limit(lambda: sign_in.credential.get_token(_SCOPE).token, _MEANT)
        except (*_MEANT, UnreadableAnswerError) as error:
            return no_answer(SIGNED_IN, error)
        return ok(SIGNED_IN, f"{_bearer(token)}, by azure-identity")

    def bucket_checks(self) -> list[CheckResult]:
        account = self.store.bucket.account
        lifecycle = unchecked(
            LIFECYCLE,
            "the rules belong to the storage account and cannot be seen from here; look at: "
            f"az storage account management-policy show --account-name {account} --resource-group $GROUP",
        )
        return [lifecycle, self._exposure()]

    def cleanup(self) -> None:
        pass

    def _exposure(self) -> CheckResult:
        bucket = self.store.bucket
        try:
            public = within_time_limit(lambda: self.store.client.get_container_properties().public_access, _MEANT)
        except AzureError as error:
            if azure_errors.status(error) in {401, 403, 404}:
                return unchecked(EXPOSURE, "not allowed to look at the container's properties")
            return no_answer(EXPOSURE, error)
        except (OSError, UnreadableAnswerError) as error:
            return no_answer(EXPOSURE, error)
        if public:
            what = "read and list" if str(public) == "container" else "read"
            return warning(
                EXPOSURE,
                f"everybody may {what} it (public access: {public})",
                f"If that is not intended: az storage container set-permission --account-name {bucket.account} "
                f"--name {bucket.name} --public-access off",
            )
        return ok(EXPOSURE, "private")


def _stage(error: Exception) -> Stage:
    status, code = azure_errors.status(error), azure_errors.code(error)
    if status is None:
        return Stage.NOT_SIGNED_IN if isinstance(error, (ClientAuthenticationError, ValueError)) else Stage.NOT_REACHED
    if status == 401 or code in {"AuthenticationFailed", "InvalidAuthenticationInfo", _KEYS_FORBIDDEN}:
        message = f"{getattr(error, 'additional_info', '')} {error}".lower()
        return Stage.WRONG_CLOCK if "date header" in message else Stage.NOT_SIGNED_IN
    return Stage.ANSWERED if status == 403 else Stage.NOT_REACHED


def _bearer(token: str) -> str:
    """Who a token is for, by its claims. They are not verified: the service does that."""
    try:
        text = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return "an identity without a name"
    if not isinstance(claims, dict):
        return "an identity without a name"
    person = claims.get("upn") or claims.get("unique_name")
    name = str(person or claims.get("app_displayname") or claims.get("appid") or "an identity without a name")
    return f"{name} (object {claims['oid']})" if claims.get("oid") else name
