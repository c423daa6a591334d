"""Credentials borrowed from an installed SDK, for what obstore cannot sign in with by itself."""

from __future__ import annotations

import functools
import importlib
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from modeldrop.errors import MissingExtraError, RegistryError
from modeldrop.storage.errors import detail, expired

if TYPE_CHECKING:
    from modeldrop.storage.read.credentials import SignIn

_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}
_SECONDS = 5
# obstore asks again when less than five minutes are left. boto3 renews what has less than ten minutes left, so
# that what it gives is good for ten.
_TTL = timedelta(minutes=10)


class Borrowed:
    """What obstore calls for credentials, and calls again before they expire.

    Attributes:
        error: why the SDK could not give any, since obstore passes on nothing but text.
    """

    def __init__(self, url: str, source: str, provider: Any) -> None:
        self.error: RegistryError | None = None
        self._url = url
        self._source = source
        self._provider = provider

    def __call__(self) -> Any:
        try:
            given = self._provider()
        except Exception as error:  # noqa: BLE001  an SDK's errors have no common class
            self.error = _refused(self._url, self._source, error)
            raise self.error from None
        self.error = None
        return given


def borrow(scheme: str, url: str, sign_in: SignIn) -> Borrowed:
    """Let the SDK sign in.

    Args:
        scheme: ``s3``, ``gs`` or ``az``.
        url: the registry, for messages.
        sign_in: what was decided.

    Raises:
        MissingExtraError: it is not installed.
        RegistryError: it cannot make sense of the credentials.
    """
    source = sign_in.source
    try:
        provider = {"s3": _boto3, "gs": _google, "az": _azure}[scheme](sign_in)
        return Borrowed(url, source, provider)
    except ImportError:
        extra = _EXTRAS[scheme]
        raise MissingExtraError(
            f"{url}: signing in with {source} needs the extra [{extra}], which is not installed.",
            f"pip install 'modeldrop[{extra}]'",
        ) from None
    except Exception as error:
        raise _refused(url, source, error) from error


def _boto3(sign_in: SignIn) -> Any:
    auth = importlib.import_module("obstore.auth.boto3")
    session = importlib.import_module("botocore.session").Session(profile=sign_in.profile or None)
    config = importlib.import_module("botocore.config").Config
    session.set_default_client_config(
        config(connect_timeout=3, read_timeout=_SECONDS, retries={"total_max_attempts": 1})
    )
    return auth.Boto3CredentialProvider(session, ttl=_TTL)


def _google(sign_in: SignIn) -> Any:
    auth = importlib.import_module("obstore.auth.google")
    request = importlib.import_module("google.auth.transport.requests").Request()
    with warnings.catch_warnings():
        # It warns of files from strangers; this one the user has named.
        warnings.simplefilter("ignore")
        # Scopes come later: with them it would ask Google for the project's name, which nobody needs here.
        credentials, _ = importlib.import_module("google.auth").load_credentials_from_file(sign_in.file)
    scoped = importlib.import_module("google.auth.credentials").with_scopes_if_required
    credentials = scoped(credentials, ["https://www.googleapis.com/auth/devstorage.read_only"])
    return auth.GoogleCredentialProvider(credentials, request=functools.partial(request, timeout=_SECONDS))


def _azure(_: SignIn) -> Any:
    auth = importlib.import_module("obstore.auth.azure")
    identity = importlib.import_module("azure.identity")
    credential = identity.EnvironmentCredential(
        connection_timeout=3, read_timeout=_SECONDS, retry_total=0, additionally_allowed_tenants=[]
    )
    return auth.AzureCredentialProvider(credential)


def _refused(url: str, source: str, error: Exception) -> RegistryError:
    text = detail(error)
    if "expired" in text.lower():
        return expired(url, f"the sign-in by {source}")
    return RegistryError(f"{url}: could not sign in with {source}: {text}", "Sign in again, and check its settings.")
