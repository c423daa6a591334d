"""From a registry's settings to the obstore store that reads it. Nothing is sent, but to metadata services."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from modeldrop.errors import RegistryError, UsageError
from modeldrop.storage.read.client import NO_RETRIES, client_options
from modeldrop.storage.read.credentials import (
    SignIn,
    Way,
    aws_profile,
    choose_azure,
    choose_gcs,
    choose_s3,
    is_true,
)
from modeldrop.storage.urls import Bucket, parse_bucket
from modeldrop.util.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.config import RegistrySettings
    from modeldrop.storage.read.borrowed import Borrowed

_LOOKED = {
    "s3": "Looked in AWS_ACCESS_KEY_ID, web identity, ~/.aws, container and instance metadata; the bucket is not "
    "public. In a container give it a role; elsewhere: aws configure.",
    "gs": "Looked in GOOGLE_APPLICATION_CREDENTIALS, gcloud's default file and instance metadata; the bucket is not "
    "public. In a container give it a service account; elsewhere: gcloud auth application-default login.",
    "az": "Looked in AZURE_STORAGE_*, AZURE_CLIENT_*, workload and managed identity and az login; the container is "
    "not public. In a container give it a managed identity; elsewhere: az login.",
}


@dataclass(frozen=True, slots=True)
class Access:
    """A registry that is ready to be read.

    Attributes:
        store: obstore's store; keys are below the registry's prefix.
        settings: what it was opened with.
        scheme: ``s3``, ``gs``, ``az`` or ``https``.
        what: what the registry is in, such as ``bucket acme-models``.
        endpoint: the service's address.
        region: what an S3 store signs for, else "".
        looked: where credentials were looked for in vain, when it is therefore read unsigned; else "".
        borrowed: the SDK's credentials, when they are used.
    """

    store: Any
    settings: RegistrySettings
    scheme: str
    what: str
    endpoint: str
    region: str = ""
    looked: str = ""
    borrowed: Borrowed | None = None


def open_access(settings: RegistrySettings, region: str = "") -> Access:
    """Open a registry that is no folder.

    Args:
        settings: the registry's.
        region: the region that an S3 bucket has turned out to be in.

    Raises:
        UsageError: the URL cannot be one.
        RegistryError: half a credential is set, it is another account's, or a CA's file cannot be read.
        MissingExtraError: the credentials need an SDK that is not installed.
    """
    scheme = settings.url.partition("://")[0]
    try:
        if scheme == "https":
            return _open_https(settings)
        bucket = parse_bucket(settings.url)
        if scheme == "s3":
            return _open_s3(settings, bucket, region)
        return (_open_gcs if scheme == "gs" else _open_azure)(settings, bucket)
    except (BaseError, ValueError) as error:
        raise _unopened(settings.url, error) from error


def _open_https(settings: RegistrySettings) -> Access:
    parts = urlsplit(settings.url)
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname:
        raise UsageError(
            "An https:// registry is a host and a path, without user name, password, '?' or '#'.",
            "Signed addresses cannot be registries. Read the bucket itself: s3://, gs:// or az://.",
        )
    store = HTTPStore(
        settings.url,
        client_options=client_options(settings.url, "https", SignIn(Way.UNSIGNED)),
        retry_config=NO_RETRIES,
    )
    return Access(store, settings, "https", "bucket behind it", f"https://{parts.netloc}")


def _open_s3(settings: RegistrySettings, bucket: Bucket, region: str) -> Access:
    env = os.environ
    profile = aws_profile(env, Path.home())
    sign_in = choose_s3(env, profile, bucket.url, anonymous=settings.anonymous)
    region = (
        region
        or env.get("AWS_REGION")
        or env.get("AWS_DEFAULT_REGION")
        or settings.region
        or profile.region
        or "us-east-1"
    )
    ignored = is_true(env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))
    custom = "" if ignored else env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
    custom = custom or settings.endpoint or ("" if ignored else profile.endpoint)
    # A name with dots is no single label, so no certificate covers bucket.name.s3.….
    by_host = not custom and "." not in bucket.name
    endpoint = custom.rstrip("/") or _amazon(bucket.name if by_host else "", region)
    config: Any = {
        **sign_in.config,
        "region": region,
        "endpoint": endpoint,
        "virtual_hosted_style_request": str(by_host).lower(),
    }
    return _access(S3Store, settings, bucket, endpoint, config, _settled(sign_in, "s3"), region=region)


def _open_gcs(settings: RegistrySettings, bucket: Bucket) -> Access:
    env = os.environ
    emulator = env.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    endpoint = emulator or settings.endpoint
    if endpoint.startswith("http://"):
        # An emulator asks for some token and does not look at it; a real one must not go out unencrypted.
        sign_in = SignIn(Way.OBSTORE, {"bearer_token": "emulator"})
    else:
        sign_in = choose_gcs(env, Path.home(), anonymous=settings.anonymous)
    sign_in = _settled(sign_in, "gs")
    config: Any = dict(sign_in.config)
    if endpoint:
        config["base_url"] = endpoint
    if sign_in.way is Way.UNSIGNED:
        # The token is not sent. It keeps obstore from looking for another one, and failing if that is no good.
        config |= {"bearer_token": "unused"}
    return _access(GCSStore, settings, bucket, endpoint or "https://storage.googleapis.com", config, sign_in)


def _open_azure(settings: RegistrySettings, bucket: Bucket) -> Access:
    sign_in = choose_azure(os.environ, Path.home(), bucket, anonymous=settings.anonymous)
    sign_in = _settled(sign_in, "az")
    config: Any = dict(sign_in.config)
    endpoint = settings.endpoint or config.get("endpoint") or f"https://{bucket.account}.blob.core.windows.net"
    config |= {"account_name": bucket.account, "endpoint": endpoint}
    return _access(AzureStore, settings, bucket, endpoint, config, sign_in)


def _access(
    make: Callable[..., Any],
    settings: RegistrySettings,
    bucket: Bucket,
    endpoint: str,
    config: dict[str, Any],
    sign_in: SignIn,
    *,
    region: str = "",
) -> Access:
    """What all buckets have in common: a prefix, limits, and credentials that are borrowed or not needed."""
    borrowed = _borrow(sign_in, bucket)
    if sign_in.way is Way.UNSIGNED:
        config = config | {"skip_signature": "true"}
    store = make(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options=client_options(endpoint, bucket.scheme, sign_in),
        retry_config=NO_RETRIES,
        credential_provider=borrowed,
    )
    what = f"bucket {bucket.name}"
    if bucket.account:
        what = f"container {bucket.name} in the storage account {bucket.account}"
    looked = _LOOKED[bucket.scheme] * _lacks(sign_in)
    return Access(store, settings, bucket.scheme, what, endpoint, region, looked, borrowed)


def _amazon(bucket: str, region: str) -> str:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{bucket}{'.' if bucket else ''}s3.{region}.{domain}"


def _lacks(sign_in: SignIn) -> bool:
    """Whether it is read unsigned only because there is nothing to sign with."""
    return sign_in.way is Way.UNSIGNED and bool(sign_in.source)


def _unopened(url: str, error: Exception) -> RegistryError:
    text = str(error)
    if "No CA certificates" in text:
        return RegistryError(
            f"{url}: this machine has no CA certificates to trust.",
            "Install its package ca-certificates, or set SSL_CERT_FILE to a PEM file.",
        )
    if "certificate" in text.lower():
        return RegistryError(
            f"{url}: a file of CA certificates holds one that cannot be read.",
            "Check the files that SSL_CERT_FILE, REQUESTS_CA_BUNDLE and AWS_CA_BUNDLE name.",
        )
    from modeldrop.storage.errors import failed

    return failed(url, "open", "", text)


def _borrow(sign_in: SignIn, bucket: Bucket) -> Borrowed | None:
    if sign_in.way is not Way.SDK:
        return None
    from modeldrop.storage.read.borrowed import borrow

    return borrow(bucket.scheme, bucket.url, sign_in)


def _settled(sign_in: SignIn, scheme: str) -> SignIn:
    """The decision, once it is known whether the machine's metadata service can sign in."""
    if sign_in.way is not Way.METADATA:
        return sign_in
    from modeldrop.storage.read.metadata import has_identity

    if has_identity(scheme, sign_in.config):
        return replace(sign_in, way=Way.OBSTORE, local=True)
    return SignIn(Way.UNSIGNED, source="nothing")
