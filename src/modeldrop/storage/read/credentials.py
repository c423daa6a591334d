"""Who reads a bucket: what the environment and the home folder hold, decided without asking anybody.

obstore signs in by itself with what most containers have: keys in variables, web identity and service
account files, container and instance metadata. The rest (AWS profiles and SSO, Google's external accounts,
certificates in Azure) is borrowed from the cloud's SDK, where that is installed. Where nothing can sign in,
the bucket is read without signing: it may be public.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import RegistryError
from modeldrop.storage.errors import half_credential, wrong_account
from modeldrop.util.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.storage.urls import Bucket

_TRUE = {"1", "true", "yes", "on"}
_OBSTORE_GOOGLE = ("service_account", "authorized_user")
_AWS_SIGN_IN = (
    "aws_access_key_id",
    "credential_process",
    "login_session",
    "role_arn",
    "sso_account_id",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
)
_AZURE_METADATA = "http://169.254.169.254"


class Way(Enum):
    """How a reader signs in."""

    UNSIGNED = "unsigned"
    OBSTORE = "obstore"
    SDK = "sdk"
    METADATA = "metadata"
    """By the machine's metadata service, if one answers; unsigned if not."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """A decision about signing in.

    Attributes:
        way: by whom.
        config: what obstore must be told besides what it reads from the environment itself.
        source: where the credentials are, for messages.
        file: Google's credentials file that the SDK must read.
        profile: the AWS profile that the SDK must use; "" for the default one.
        local: whether obstore asks a service of this machine, which no proxy leads to.
    """

    way: Way
    config: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    file: str = ""
    profile: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """What the AWS files say about the profile in use; "" for what they do not say."""

    name: str = ""
    signs_in: bool = False
    region: str = ""
    endpoint: str = ""


def is_true(text: str | None) -> bool:
    """Whether a variable is set to something that means yes."""
    return (text or "").strip().lower() in _TRUE


def aws_profile(env: Mapping[str, str], home: Path) -> Profile:
    """The AWS profile that the variables name, else the default one.

    Raises:
        RegistryError: the files cannot be parsed, or have no profile of that name.
    """
    named = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or ""
    files = [
        Path(env.get("AWS_CONFIG_FILE") or home / ".aws" / "config").expanduser(),
        Path(env.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials").expanduser(),
    ]
    files = [path for path in files if path.is_file()]
    found: dict[str, str] = {}
    known = False
    if files:
        from configparser import Error, RawConfigParser  # most containers have no such file

        for path in files:
            parser = RawConfigParser(strict=False, default_section="\0")
            try:
                parser.read_string(path.read_text("utf-8"))
            except (OSError, UnicodeDecodeError, Error):
                raise RegistryError(
                    f"{path} cannot be read as an AWS profile file.", "Mend it, or set AWS_ACCESS_KEY_ID instead."
                ) from None
            for section in (named or "default", f"profile {named or 'default'}"):
                if parser.has_section(section):
                    known = True
                    found.update(parser.items(section))
    if named and not known:
        raise RegistryError(
            f"AWS_PROFILE is {named}, but there is no such profile in ~/.aws.", "Mend its name, or unset AWS_PROFILE."
        )
    return Profile(
        named if known else "",
        any(found.get(key) for key in _AWS_SIGN_IN),
        found.get("region", ""),
        found.get("endpoint_url", ""),
    )


def choose_s3(env: Mapping[str, str], profile: Profile, url: str, *, anonymous: bool = False) -> SignIn:
    """Decide how to sign in to S3.

    Raises:
        RegistryError: half of a credential is there.
    """
    if anonymous or is_true(env.get("AWS_SKIP_SIGNATURE")):
        return _UNSIGNED
    if _both(env, url, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        return SignIn(Way.OBSTORE, source="AWS_ACCESS_KEY_ID")
    if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and _both(env, url, "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"):
        return SignIn(Way.OBSTORE, source="AWS_WEB_IDENTITY_TOKEN_FILE")
    if profile.name and profile.signs_in:
        return SignIn(Way.SDK, source=f"the AWS profile {profile.name}", profile=profile.name)
    if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        return SignIn(Way.OBSTORE, source="AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", local=True)
    if env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        # obstore reads the token from a file only; the SDK knows the other ways to give it.
        way = Way.OBSTORE if env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") else Way.SDK
        return SignIn(way, source="AWS_CONTAINER_CREDENTIALS_FULL_URI", local=True)
    if profile.signs_in:
        return SignIn(Way.SDK, source="the default AWS profile")
    if is_true(env.get("AWS_EC2_METADATA_DISABLED")):
        return _UNSIGNED_FOR_LACK
    endpoint = env.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or env.get("AWS_METADATA_ENDPOINT") or ""
    return SignIn(Way.METADATA, {"metadata_endpoint": endpoint.rstrip("/")} if endpoint else {}, "instance metadata")


def choose_gcs(env: Mapping[str, str], home: Path, *, anonymous: bool = False) -> SignIn:
    """Decide how to sign in to Google Cloud Storage.

    Raises:
        RegistryError: the file that GOOGLE_APPLICATION_CREDENTIALS names is not there, or is no credential.
    """
    if anonymous or is_true(env.get("GOOGLE_SKIP_SIGNATURE")):
        return _UNSIGNED
    for name in (
        "GOOGLE_BEARER_TOKEN", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SERVICE_ACCOUNT_KEY",
    ):  # fmt: skip
        if env.get(name):
            return SignIn(Way.OBSTORE, source=name)
    named = env.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = Path(env.get("CLOUDSDK_CONFIG") or home / ".config" / "gcloud")
    path = Path(named) if named else folder / "application_default_credentials.json"
    if named or path.is_file():
        source = "GOOGLE_APPLICATION_CREDENTIALS" if named else str(path)
        if _google_kind(path, source) in _OBSTORE_GOOGLE:
            return SignIn(Way.OBSTORE, {"application_credentials": str(path)}, source)
        return SignIn(Way.SDK, source=source, file=str(path))
    if is_true(env.get("NO_GCE_CHECK")):
        return _UNSIGNED_FOR_LACK
    return SignIn(Way.METADATA, source="instance metadata")


def choose_azure(env: Mapping[str, str], home: Path, bucket: Bucket, *, anonymous: bool = False) -> SignIn:
    """Decide how to sign in to Azure Blob Storage.

    Args:
        env: the environment.
        home: the user's home folder.
        bucket: the account and container to read.
        anonymous: whether the settings say so.

    Raises:
        RegistryError: half of a credential is there, it is another account's, or malformed.
    """
    if anonymous or is_true(env.get("AZURE_SKIP_SIGNATURE")):
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
        from modeldrop.storage.azure_connection import check_key

        check_key(key, bucket.url, "the account key in AZURE_STORAGE_KEY")
        return _azure_key(key)
    if env.get("AZURE_STORAGE_TOKEN"):
        return SignIn(Way.OBSTORE, {"credential_type": "bearer_token"}, "AZURE_STORAGE_TOKEN")
    principal = _azure_principal(env, bucket.url)
    if principal is not None:
        return principal
    if env.get("IDENTITY_ENDPOINT"):
        return SignIn(
            Way.OBSTORE,
            {"credential_type": "managed_identity", "msi_endpoint": env["IDENTITY_ENDPOINT"]},
            "IDENTITY_ENDPOINT",
            local=True,
        )
    folder = Path(env.get("AZURE_CONFIG_DIR") or home / ".azure")
    if is_true(env.get("AZURE_USE_AZURE_CLI")) or ((folder / "azureProfile.json").is_file() and _has_az(env)):
        return SignIn(Way.OBSTORE, {"credential_type": "azure_cli", "use_azure_cli": "true"}, "az login")
    host = env.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or _AZURE_METADATA
    endpoint = f"{host.rstrip('/')}/metadata/identity/oauth2/token"
    return SignIn(Way.METADATA, {"credential_type": "managed_identity", "msi_endpoint": endpoint}, "instance metadata")


_UNSIGNED = SignIn(Way.UNSIGNED)
_UNSIGNED_FOR_LACK = SignIn(Way.UNSIGNED, source="nothing")
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
            f"{source} names {path}, which cannot be read: {error.strerror}.", "Mend its path, or unset it."
        ) from None
    except (ValueError, TypeError, KeyError):
        raise RegistryError(
            f"{path} is not a Google credentials file.", "Get a new one: gcloud auth application-default login."
        ) from None
    return str(kind)


def _azure_principal(env: Mapping[str, str], url: str) -> SignIn | None:
    """The service principal or workload identity in the environment."""
    for name, kind in (("AZURE_CLIENT_SECRET", "client_secret"), ("AZURE_FEDERATED_TOKEN_FILE", "workload_identity")):
        if env.get(name):
            _both(env, url, name, "AZURE_CLIENT_ID")
            _both(env, url, name, "AZURE_TENANT_ID")
            return SignIn(Way.OBSTORE, {"credential_type": kind}, name)
    if env.get("AZURE_CLIENT_CERTIFICATE_PATH"):
        return SignIn(Way.SDK, source="AZURE_CLIENT_CERTIFICATE_PATH")
    if env.get("AZURE_CLIENT_ID") and env.get("AZURE_TENANT_ID"):
        missing = "AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE"
        raise half_credential(url, "AZURE_CLIENT_ID", missing)
    return None


def _azure_connection(text: str, bucket: Bucket) -> SignIn:
    from modeldrop.storage.azure_connection import VARIABLE, parse_connection

    found = parse_connection(text, bucket.url, bucket.account)
    chosen = _azure_key(found.key) if found.key else _azure_sas(found.signature)
    return SignIn(Way.OBSTORE, {**chosen.config, "endpoint": found.endpoint}, VARIABLE)


def _has_az(env: Mapping[str, str]) -> bool:
    from shutil import which  # heavier than all the rest here

    return which("az", path=env.get("PATH", "")) is not None


def _azure_key(key: str) -> SignIn:
    return SignIn(Way.OBSTORE, {"credential_type": "access_key", "account_key": key}, "the account key")


def _azure_sas(token: str) -> SignIn:
    return SignIn(Way.OBSTORE, {"credential_type": "sas_token", "sas_key": token.lstrip("?")}, "the SAS token")
