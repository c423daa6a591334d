"""Which credentials a bucket is read with, from the environment, the home folder and the machine's metadata service.

obstore signs in by itself with what most containers have: keys in variables, web identity and service
account files, container and instance metadata. For the rest (AWS profiles and SSO, Google's external accounts,
certificates in Azure) the cloud's SDK is asked, where it is installed. Where there are no credentials at all,
the bucket is read without signing: it may be public.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from modeldrop.errors import MissingExtraError, RegistryError
from modeldrop.storage.errors import UNREACHABLE_SECONDS, detail, expired, half_credential, wrong_account
from modeldrop.storage.read.metadata import ADDRESS as METADATA_ADDRESS
from modeldrop.storage.read.metadata import ContainerCredentials, has_plain_token
from modeldrop.storage.urls import CONNECTION_VARIABLE, check_key, parse_connection
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import is_true

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.storage.aws_profile import AwsProfile
    from modeldrop.storage.s3_address import S3Address
    from modeldrop.storage.urls import Bucket

_OBSTORE_GOOGLE = ("service_account", "authorized_user")
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}
_SDK_SECONDS = 5
_CONNECTION_ERRORS = ("Connect", "ServiceRe", "Timeout", "Transport")  # botocore's, azure-core's and google-auth's
# obstore asks again when less than five minutes are left. boto3 renews credentials that have less than ten left, so
# those that it gives are valid for ten.
_SDK_VALID_SECONDS = 600


class Signer(Enum):
    """What signs the requests for a bucket."""

    UNSIGNED = "unsigned"
    OBSTORE = "obstore"
    SDK = "sdk"
    CONTAINER = "container"
    """obstore with what ``ContainerCredentials`` gives it."""
    METADATA = "metadata"
    """obstore with the machine's metadata service, if that has an identity; else nothing."""


_NOTHING: Mapping[str, str] = MappingProxyType({})


class CredentialSource(NamedTuple):
    """Where the credentials of a bucket come from.

    Attributes:
        signer: what signs requests with them.
        config: settings for obstore besides those that it reads from the environment itself.
        name: the variable, file or service that holds them, for messages.
        file: the Google credentials file that the SDK must read.
        profile: the AWS profile that the SDK must use; "" for the default one.
    """

    signer: Signer
    config: Mapping[str, str] = _NOTHING
    name: str = ""
    file: str = ""
    profile: str = ""


def choose_s3(env: Mapping[str, str], profile: AwsProfile, url: str, *, anonymous: bool = False) -> CredentialSource:
    """Decide how to sign in to S3.

    Raises:
        RegistryError: half of a credential is there.
    """
    if anonymous:
        return _UNSIGNED
    if _both(env, url, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        return CredentialSource(Signer.OBSTORE, name="AWS_ACCESS_KEY_ID")
    if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and _both(env, url, "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"):
        return CredentialSource(Signer.OBSTORE, name="AWS_WEB_IDENTITY_TOKEN_FILE")
    if profile.name and profile.signs_in:
        return CredentialSource(Signer.SDK, name=f"the AWS profile {profile.name}", profile=profile.name)
    if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return CredentialSource(Signer.OBSTORE, name="AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        # obstore reads the token from a file only, and panics at a line break there.
        way = Signer.OBSTORE if has_plain_token(env, url) else Signer.CONTAINER
        return CredentialSource(way, name="AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if profile.signs_in:
        return CredentialSource(Signer.SDK, name="the default AWS profile")
    if is_true(env.get("AWS_EC2_METADATA_DISABLED")):
        return _UNSIGNED_FOR_LACK
    endpoint = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or env.get("AWS_METADATA_ENDPOINT") or ""
    return CredentialSource(
        Signer.METADATA, {"metadata_endpoint": endpoint.rstrip("/")} if endpoint else {}, "instance metadata"
    )


def choose_gcs(env: Mapping[str, str], home: Path, *, anonymous: bool = False) -> CredentialSource:
    """Decide how to sign in to Google Cloud Storage.

    Raises:
        RegistryError: the file that GOOGLE_APPLICATION_CREDENTIALS names is not there, or is no credential.
    """
    if anonymous:
        return _UNSIGNED
    for name in (
        "GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SERVICE_ACCOUNT_KEY",
    ):  # fmt: skip
        if env.get(name):
            return CredentialSource(Signer.OBSTORE, name=name)
    named = env.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = Path(env.get("CLOUDSDK_CONFIG") or home / ".config" / "gcloud")
    path = Path(named) if named else folder / "application_default_credentials.json"
    if named or path.is_file():
        source = "GOOGLE_APPLICATION_CREDENTIALS" if named else str(path)
        if _google_kind(path, source) in _OBSTORE_GOOGLE:
            return CredentialSource(Signer.OBSTORE, {"application_credentials": str(path)}, source)
        return CredentialSource(Signer.SDK, name=source, file=str(path))
    if is_true(env.get("NO_GCE_CHECK")):
        return _UNSIGNED_FOR_LACK
    return CredentialSource(Signer.METADATA, name="instance metadata")


def choose_azure(env: Mapping[str, str], home: Path, bucket: Bucket, *, anonymous: bool = False) -> CredentialSource:
    """Decide how to sign in to Azure Blob Storage.

    Args:
        env: the environment.
        home: the user's home folder.
        bucket: the account and container to read.
        anonymous: whether the settings say so.

    Raises:
        RegistryError: half of a credential is there, it is another account's, or malformed.
    """
    if anonymous:
        return _UNSIGNED
    connection = env.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection:
        return _azure_connection(connection, bucket)
    key = next((env[name] for name in _AZURE_KEYS if env.get(name)), "")
    sas = next((env[name] for name in _AZURE_SAS if env.get(name)), "")
    if key or sas:
        have = env.get("AZURE_STORAGE_ACCOUNT") or env.get("AZURE_STORAGE_ACCOUNT_NAME") or bucket.account
        if have != bucket.account:
            raise wrong_account(bucket.url, have, bucket.account)
        if not key:
            return _azure_sas(sas)
        check_key(key, bucket.url, "the account key in AZURE_STORAGE_KEY")
        return _azure_key(key)
    if env.get("AZURE_STORAGE_TOKEN"):
        return CredentialSource(Signer.OBSTORE, {"credential_type": "bearer_token"}, "AZURE_STORAGE_TOKEN")
    principal = _azure_principal(env, bucket.url)
    if principal is not None:
        return principal
    if env.get("IDENTITY_ENDPOINT"):
        return CredentialSource(
            Signer.OBSTORE,
            {"credential_type": "managed_identity", "msi_endpoint": env["IDENTITY_ENDPOINT"]},
            "IDENTITY_ENDPOINT",
        )
    folder = Path(env.get("AZURE_CONFIG_DIR") or home / ".azure")
    if is_true(env.get("AZURE_USE_AZURE_CLI")) or ((folder / "azureProfile.json").is_file() and _has_az(env)):
        return CredentialSource(Signer.OBSTORE, {"credential_type": "azure_cli", "use_azure_cli": "true"}, "az login")
    host = env.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or f"http://{METADATA_ADDRESS}"
    endpoint = f"{host.rstrip('/')}/metadata/identity/oauth2/token"
    return CredentialSource(
        Signer.METADATA, {"credential_type": "managed_identity", "msi_endpoint": endpoint}, "instance metadata"
    )


_UNSIGNED = CredentialSource(Signer.UNSIGNED)
_UNSIGNED_FOR_LACK = CredentialSource(Signer.UNSIGNED, name="nothing")
_AZURE_KEYS = (
    "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY",
)  # fmt: skip
_AZURE_SAS = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")


def _both(env: Mapping[str, str], url: str, one: str, other: str) -> bool:
    """Whether both variables are set; one without the other is an error."""
    if bool(env.get(one)) != bool(env.get(other)):
        have, missing = (one, other) if env.get(one) else (other, one)
        raise half_credential(url, have, missing)
    return bool(env.get(one))


def _google_kind(path: Path, source: str) -> str:
    try:
        document = json.loads(path.read_bytes())
        kind = document["type"]
    except OSError as error:
        raise RegistryError(
            f"{source} names {path}, which cannot be read: {error.strerror}.", "Fix its path, or unset it."
        ) from None
    except (ValueError, TypeError, KeyError):
        raise RegistryError(
            f"{path} is not a Google credentials file.", "Get a new one: gcloud auth application-default login."
        ) from None
    return str(kind)


def _azure_principal(env: Mapping[str, str], url: str) -> CredentialSource | None:
    """The service principal or workload identity in the environment."""
    for name, kind in (("AZURE_CLIENT_SECRET", "client_secret"), ("AZURE_FEDERATED_TOKEN_FILE", "workload_identity")):
        if env.get(name):
            _both(env, url, name, "AZURE_CLIENT_ID")
            _both(env, url, name, "AZURE_TENANT_ID")
            return CredentialSource(Signer.OBSTORE, {"credential_type": kind}, name)
    if env.get("AZURE_CLIENT_CERTIFICATE_PATH"):
        return CredentialSource(Signer.SDK, name="AZURE_CLIENT_CERTIFICATE_PATH")
    if env.get("AZURE_CLIENT_ID") and env.get("AZURE_TENANT_ID"):
        missing = "AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE"
        raise half_credential(url, "AZURE_CLIENT_ID", missing)
    return None


def _azure_connection(text: str, bucket: Bucket) -> CredentialSource:
    found = parse_connection(text, bucket.url, bucket.account)
    chosen = _azure_key(found.key) if found.key else _azure_sas(found.signature)
    return CredentialSource(Signer.OBSTORE, {**chosen.config, "endpoint": found.endpoint}, CONNECTION_VARIABLE)


def _has_az(env: Mapping[str, str]) -> bool:
    from shutil import which  # heavier than all the rest here

    return which("az", path=env.get("PATH", "")) is not None


def _azure_key(key: str) -> CredentialSource:
    return CredentialSource(Signer.OBSTORE, {"credential_type": "access_key", "account_key": key}, "the account key")


def _azure_sas(token: str) -> CredentialSource:
    return CredentialSource(
        Signer.OBSTORE, {"credential_type": "sas_token", "sas_key": token.lstrip("?")}, "the SAS token"
    )


class SdkCredentials:
    """Credentials that obstore cannot get by itself; it calls this, and again before they expire.

    Args:
        url: the registry, for errors.
        name: what holds the credentials.
        provider: an installed SDK's, or ``ContainerCredentials``.

    Attributes:
        error: why there were none; obstore passes on nothing but text.
    """

    def __init__(self, url: str, name: str, provider: Any) -> None:
        self.error: RegistryError | None = None
        self._url = url
        self._name = name
        self._provider = provider

    def __call__(self) -> Any:
        from modeldrop.storage.sdk_answers import answers_explained

        try:
            with answers_explained(Exception):
                given = self._provider()
        except RegistryError as error:
            self.error = error
            raise
        except Exception as error:  # noqa: BLE001  an SDK's errors have no common class
            self.error = _refused(self._url, self._name, error)
            raise self.error from None
        self.error = None
        return given


def sdk_credentials(scheme: str, url: str, source: CredentialSource, address: S3Address | None) -> SdkCredentials:
    """Let the cloud's SDK sign in, or what stands in for it.

    Args:
        scheme: ``s3``, ``gs`` or ``az``.
        url: the registry, for messages.
        source: where the SDK finds the credentials.
        address: of an S3 bucket.

    Raises:
        MissingExtraError: the SDK is not installed.
        RegistryError: it cannot use these credentials.
    """
    if source.signer is Signer.CONTAINER and address is not None:
        return SdkCredentials(url, source.name, ContainerCredentials(url, os.environ, address.certificates))
    try:
        return SdkCredentials(url, source.name, _PROVIDERS[scheme](source, address))
    except ImportError:
        extra = _EXTRAS[scheme]
        raise MissingExtraError(
            f"{url}: signing in with {source.name} needs the extra [{extra}], which is not installed.",
            f"pip install 'modeldrop[{extra}]'",
        ) from None
    except Exception as error:
        raise _refused(url, source.name, error) from error


def _boto3_provider(source: CredentialSource, address: S3Address | None) -> Any:
    from datetime import timedelta

    auth = import_module("obstore.auth.boto3")
    session = import_module("modeldrop.storage.botocore_session").Session(address, source.profile)
    config = import_module("botocore.config").Config
    session.set_default_client_config(
        config(connect_timeout=3, read_timeout=_SDK_SECONDS, retries={"total_max_attempts": 1})
    )
    return auth.Boto3CredentialProvider(session, ttl=timedelta(seconds=_SDK_VALID_SECONDS))


def _google_provider(source: CredentialSource, _: None) -> Any:
    import functools
    import warnings

    auth = import_module("obstore.auth.google")
    session = import_module("modeldrop.storage.requests_adapter").new_session()
    request = import_module("google.auth.transport.requests").Request(session)
    with warnings.catch_warnings():
        # It warns of files from strangers; this one the user has named.
        warnings.simplefilter("ignore")
        # Scopes come later: with them it would ask Google for the project's name, which nobody needs here.
        credentials, _ = import_module("google.auth").load_credentials_from_file(source.file)
    scoped = import_module("google.auth.credentials").with_scopes_if_required
    credentials = scoped(credentials, ["https://www.googleapis.com/auth/devstorage.read_only"])
    return auth.GoogleCredentialProvider(credentials, request=functools.partial(request, timeout=_SDK_SECONDS))


def _azure_provider(_source: CredentialSource, _: None) -> Any:
    auth = import_module("obstore.auth.azure")
    identity = import_module("azure.identity")
    session = import_module("modeldrop.storage.requests_adapter").new_session()
    transport = import_module("azure.core.pipeline.transport").RequestsTransport
    credential = identity.EnvironmentCredential(
        transport=transport(session=session, session_owner=False, connection_timeout=3, read_timeout=_SDK_SECONDS),
        retry_total=0,
        additionally_allowed_tenants=[],
    )
    return auth.AzureCredentialProvider(credential)


_PROVIDERS: Mapping[str, Any] = {"s3": _boto3_provider, "gs": _google_provider, "az": _azure_provider}


def _refused(url: str, name: str, error: Exception) -> RegistryError:
    from modeldrop.storage.sdk_answers import latest_answer, not_the_service

    answer = latest_answer()
    if answer is not None and answer.is_outage:
        return not_the_service(answer, url=url, verb="sign in to", key="", endpoint=name)
    text = detail(error)
    if "expired" in text.lower():
        return expired(url, f"the sign-in by {name}")
    lost = isinstance(error, OSError) or any(word in type(error).__name__ for word in _CONNECTION_ERRORS)
    return RegistryError(
        f"{url}: could not sign in with {name}: {text}",
        "Sign in again, and check its settings.",
        patience=UNREACHABLE_SECONDS if lost else 0.0,
    )
