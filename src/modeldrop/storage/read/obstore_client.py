"""Opening a registry with obstore: address, credentials, time limits, CAs and proxy.

Nothing is sent yet, but to the machine's metadata service.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from modeldrop.errors import RegistryError, UsageError
from modeldrop.storage.environment import check_address, clean_environment
from modeldrop.storage.errors import failed_request, panicked, unusable_certificates
from modeldrop.storage.read import metadata
from modeldrop.storage.read.credentials import (
    CredentialSource,
    SdkCredentials,
    Signer,
    choose_azure,
    choose_gcs,
    choose_s3,
    sdk_credentials,
)
from modeldrop.storage.read.metadata import Identity, ask_identity, may_come
from modeldrop.storage.read.obstore_calls import PanickedError, obstore_call
from modeldrop.storage.s3_address import address_here
from modeldrop.storage.urls import Bucket, parse_bucket
from modeldrop.util import http
from modeldrop.util.files import expand_user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modeldrop.config import RegistrySettings
    from modeldrop.storage.s3_address import S3Address

_CONNECT = "3s"
_READ = "8s"  # without a byte
_REQUEST = "15s"  # in all, however steadily its bytes drip in; it is then made again
_GOOGLE = "https://storage.googleapis.com"
_ENTRA = "https://login.microsoftonline.com"
# Retries happen in the fetcher, not in obstore, so that they are counted, and slowed down where a service is busy.
_NO_RETRIES: Any = {"max_retries": 0}


_LATE = "an identity that may come"
_SEARCHED = {
    "s3": "Looked in AWS_ACCESS_KEY_ID, web identity, ~/.aws, container and instance metadata; the bucket is not "
    "public. In a container give it a role; elsewhere: aws configure.",
    "gs": "Looked in GOOGLE_APPLICATION_CREDENTIALS, gcloud's default file and instance metadata; the bucket is not "
    "public. In a container give it a service account; elsewhere: gcloud auth application-default login.",
    "az": "Looked in AZURE_STORAGE_*, AZURE_CLIENT_*, workload and managed identity and az login; the container is "
    "not public. In a container give it a managed identity; elsewhere: az login.",
}


class ObstoreClient:
    """A registry that is ready to be read.

    Attributes:
        store: obstore's store; keys are below the registry's prefix.
        settings: what it was opened with.
        scheme: ``s3``, ``gs``, ``az`` or ``https``.
        what: what the registry is in, such as ``bucket acme-models``.
        endpoint: the service's address, with an S3 bucket in its host's name where that is asked.
        address: of an S3 bucket, else None.
        searched: where credentials were searched for in vain, if it is therefore read unsigned; else "".
        late: whether that is because a metadata service that should be here has not answered.
        sdk: the SDK's credentials, where they are used.
        signed_by: the variable, file or service that holds the credentials, "" where requests are not signed.
    """

    # No NamedTuple: to define one of eight fields takes as long as all the rest of this module.
    __slots__ = ("address", "endpoint", "late", "scheme", "sdk", "searched", "settings", "signed_by", "store", "what")

    def __init__(
        self,
        *,
        store: Any,
        settings: RegistrySettings,
        what: str,
        endpoint: str,
        address: S3Address | None = None,
        searched: str = "",
        sdk: SdkCredentials | None = None,
        signed_by: str = "",
    ) -> None:
        self.store = store
        self.settings = settings
        self.scheme = settings.url.partition("://")[0]
        self.what = what
        self.endpoint = endpoint
        self.address = address
        self.searched = searched
        self.late = False
        self.sdk = sdk
        self.signed_by = signed_by


def open_client(settings: RegistrySettings, region: str = "", seconds: float | None = None) -> ObstoreClient:
    """Open a registry that is no folder.

    Args:
        settings: the registry's.
        region: the region that an S3 bucket has turned out to be in.
        seconds: how long to wait for each answer of a metadata service; None: briefly.

    Raises:
        UsageError: the URL cannot be one.
        RegistryError: half a credential is set, it is another account's, a variable's value cannot be right, or a CA's
            file cannot be read.
        MissingExtraError: the credentials need an SDK that is not installed.
    """
    scheme = settings.url.partition("://")[0]
    if seconds is None:
        seconds = metadata.QUICK_SECONDS
    clean_environment(scheme, settings.url)
    check_address(settings.endpoint, "endpoint in modeldrop.toml", settings.url)
    try:
        with obstore_call():
            if scheme == "https":
                return _open_https(settings)
            bucket = parse_bucket(settings.url)
            if scheme == "s3":
                return _open_s3(settings, bucket, region, seconds)
            return (_open_gcs if scheme == "gs" else _open_azure)(settings, bucket, seconds)
    except http.CertificatesError as error:
        raise unusable_certificates(error) from None
    except PanickedError as error:
        raise panicked(settings.url, error) from error
    except (BaseError, ValueError) as error:
        raise _unopened(settings.url, error) from error


def _open_https(settings: RegistrySettings) -> ObstoreClient:
    parts = urlsplit(settings.url)
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname:
        raise UsageError(
            "An https:// registry is a host and a path, without user name, password, '?' or '#'.",
            "Signed addresses cannot be registries. Read the bucket itself: s3://, gs:// or az://.",
        )
    store = HTTPStore(
        settings.url,
        client_options=_client_options(settings.url, "https") | _proxy_options(settings.url),
        retry_config=_NO_RETRIES,
    )
    return ObstoreClient(
        store=store,
        settings=settings,
        what="bucket behind it",
        endpoint=f"https://{parts.netloc}",
    )


def _open_s3(settings: RegistrySettings, bucket: Bucket, region: str, seconds: float) -> ObstoreClient:
    address, profile = address_here(bucket, settings, region)
    source = choose_s3(os.environ, profile, bucket.url, anonymous=settings.anonymous)
    config: Any = {
        **source.config,
        "region": address.region,
        # All that obstore would else take from variables that the publisher's client does not know.
        "endpoint": address.endpoint,
        "aws_endpoint_url_s3": address.endpoint,
        "virtual_hosted_style_request": str(address.by_host).lower(),
        "s3_express": str(address.express).lower(),
        "aws_endpoint_url_sts": address.sts,
        "request_payer": str(address.requester_pays).lower(),
    }
    source = _resolve_metadata_source(source, "s3", seconds)
    return _open_bucket(
        S3Store,
        settings,
        bucket,
        address.endpoint,
        config,
        source,
        address=address,
    )


def _open_gcs(settings: RegistrySettings, bucket: Bucket, seconds: float) -> ObstoreClient:
    env = os.environ
    emulator = env.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    endpoint = emulator or settings.endpoint
    if endpoint.startswith("http://"):
        # An emulator asks for some token and does not look at it; a real one must not go out unencrypted.
        source = CredentialSource(Signer.OBSTORE, {"bearer_token": "emulator"})
    else:
        source = choose_gcs(env, expand_user("~"), anonymous=settings.anonymous)
    source = _resolve_metadata_source(source, "gs", seconds)
    config: Any = dict(source.config)
    config["base_url"] = endpoint or _GOOGLE  # obstore has a variable of its own for it
    if source.signer is Signer.UNSIGNED:
        # The token is not sent. It keeps obstore from looking for another one, and failing if that is no good.
        config |= {"bearer_token": "unused"}
    return _open_bucket(GCSStore, settings, bucket, endpoint or _GOOGLE, config, source)


def _open_azure(settings: RegistrySettings, bucket: Bucket, seconds: float) -> ObstoreClient:
    source = choose_azure(os.environ, expand_user("~"), bucket, anonymous=settings.anonymous)
    source = _resolve_metadata_source(source, "az", seconds)
    config: Any = dict(source.config)
    endpoint = settings.endpoint or config.get("endpoint") or f"https://{bucket.account}.blob.core.windows.net"
    config |= {"account_name": bucket.account, "endpoint": endpoint, "use_emulator": "false"}
    return _open_bucket(AzureStore, settings, bucket, endpoint, config, source)


def _open_bucket(
    make: Callable[..., Any],
    settings: RegistrySettings,
    bucket: Bucket,
    endpoint: str,
    config: dict[str, Any],
    source: CredentialSource,
    *,
    address: S3Address | None = None,
) -> ObstoreClient:
    """What all buckets have in common: a prefix, limits, CAs, and an SDK's credentials or none."""
    certificates = address.certificates if address else ""
    sdk = (
        sdk_credentials(bucket.scheme, bucket.url, source, address)
        if source.signer in {Signer.SDK, Signer.CONTAINER}
        else None
    )
    if source.signer is Signer.UNSIGNED:
        config = config | {"skip_signature": "true"}
    store = make(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options=_client_options(endpoint, bucket.scheme, certificates)
        | _proxy_options(
            endpoint,
            _sign_in(address, source),
            carries_secret=_carries_secret(bucket.scheme, source),
            certificates=certificates,
        ),
        retry_config=_NO_RETRIES,
        credential_provider=sdk,
    )
    what = f"bucket {bucket.name}"
    if bucket.account:
        what = f"container {bucket.name} in the storage account {bucket.account}"
    # Read unsigned only because there is nothing to sign with, and not because the settings say so.
    in_vain = source.signer is Signer.UNSIGNED and bool(source.name)
    client = ObstoreClient(
        store=store,
        settings=settings,
        what=what,
        endpoint=endpoint,
        address=address,
        searched=_SEARCHED[bucket.scheme] if in_vain else "",
        sdk=sdk,
        signed_by="" if source.signer is Signer.UNSIGNED else source.name,
    )
    client.late = in_vain and source.name == _LATE
    return client


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
            f"Check the files that {', '.join(http.CERTIFICATE_VARIABLES)} or the AWS profile name.",
        )
    if "builder error" in text and http.is_configured():
        return RegistryError(
            f"{url}: a variable names a proxy or certificates that cannot be used.",
            "A proxy is written as http://HOST:PORT, in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY.",
        )
    return failed_request(url, "open", "", text)


def _resolve_metadata_source(source: CredentialSource, scheme: str, seconds: float) -> CredentialSource:
    """The source, once it is known whether the machine's metadata service has an identity."""
    if source.signer is not Signer.METADATA:
        return source
    identity = ask_identity(scheme, source.config, seconds)
    if identity is Identity.THERE:
        return source._replace(signer=Signer.OBSTORE)
    late = identity is Identity.UNKNOWN and may_come(scheme)
    return CredentialSource(Signer.UNSIGNED, name=_LATE if late else "nothing")


def _proxy_options(
    endpoint: str, sign_in: Sequence[str] = (), *, carries_secret: bool = False, certificates: str = ""
) -> dict[str, str]:
    """Obstore's ``proxy_url`` and ``proxy_excludes``, where they are needed.

    It knows one proxy for all addresses, and hosts without ports that are reached without it. It follows redirections,
    and then takes the signature off, but neither S3's security token nor the address that it came from, which it names
    in a header, with Azure's shared access signature in it.

    Args:
        endpoint: the address of the service.
        sign_in: the addresses that obstore gets credentials from.
        carries_secret: whether a redirection would take a secret to another host.
        certificates: one more file of CAs to trust, or "".
    """
    addresses = (endpoint, *sign_in)
    proxied = [address for address in addresses if http.proxy_for(address)]
    proxy, excludes = http.proxy_and_excludes(endpoint)
    ways_differ = any(http.obstores_proxy(one, proxy, excludes) != http.proxy_for(one) for one in sign_in)
    if carries_secret or ways_differ:
        hosts = {urlsplit(address).hostname for address in proxied}
        proxy, excludes = http.direct_only(*(one for one in addresses if urlsplit(one).hostname not in hosts))
        if proxied:
            from modeldrop.storage.read.proxy_filter import proxy_filter

            proxy = proxy_filter(addresses if carries_secret else None, certificates)
    return {"proxy_url": proxy, "proxy_excludes": excludes} if proxy else {}


def _carries_secret(scheme: str, source: CredentialSource) -> bool:
    """Whether a request that is redirected takes more with it than its own host should see."""
    if scheme == "az":
        return "sas_key" in source.config
    keys_alone = source.name == "AWS_ACCESS_KEY_ID" and not os.environ.get("AWS_SESSION_TOKEN")
    return scheme == "s3" and source.signer is not Signer.UNSIGNED and not keys_alone


def _sign_in(address: S3Address | None, source: CredentialSource) -> tuple[str, ...]:
    """The addresses beyond the endpoint that obstore asks for credentials, but for metadata services."""
    if address is not None:
        return (address.sts,) if source.name == "AWS_WEB_IDENTITY_TOKEN_FILE" else ()
    if source.config.get("credential_type") in {"client_secret", "workload_identity"}:
        return (os.environ.get("AZURE_AUTHORITY_HOST", _ENTRA),)
    return ()


def _client_options(endpoint: str, scheme: str, certificates: str = "") -> Any:
    """What obstore's ``client_options`` are to be, but for proxies.

    Raises:
        CertificatesError: a variable names no usable certificates.
    """
    options: Any = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": _CONNECT,
        "read_timeout": _READ,
        "timeout": _REQUEST,
    }
    if scheme != "s3":
        # obstore would sign it, and what stands before some S3-compatible services rewrites it. S3 never compresses.
        options["default_headers"] = {"Accept-Encoding": "identity"}
    added = http.added_certificates(certificates)
    if added:
        options["root_certificate"] = added
    return options
