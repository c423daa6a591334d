"""Makes boto3's client: signed in by botocore's own chain, for the right endpoint and region, with time limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3.session
from botocore import UNSIGNED
from botocore.config import Config

from modeldrop._version import __version__
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.botocore_session import Session

if TYPE_CHECKING:
    from modeldrop.config import RegistrySettings

CONNECT_SECONDS = 3
READ_SECONDS = 60
CONNECTIONS = 16
DEFAULT_REGION = "us-east-1"


def make_client(settings: RegistrySettings) -> Any:
    """Sign in and make the client. It makes no retries: ``S3BucketStore`` decides about them.

    Raises:
        RegistryError: half of a credential is set.
        Exception: whatever botocore raises where it cannot sign in; ``s3_errors.explain`` has the sentences.
    """
    _refuse_half_credential(settings.url)
    session = Session()
    session.user_agent_extra = f"modeldrop/{__version__}"
    region = _region(session, settings)
    session.set_config_variable("region", region)
    # Clients that sign-in needs (STS, SSO) are made by the session, with time limits of minutes.
    session.set_default_client_config(
        Config(connect_timeout=CONNECT_SECONDS, read_timeout=10, retries={"total_max_attempts": 2, "mode": "standard"})
    )
    if not settings.anonymous:
        credentials = session.get_credentials()
        if credentials is not None:
            # Here and not with the first request, which is not given the time a person needs to type a code.
            credentials.get_frozen_credentials()
    endpoint, style = _endpoint(session, settings)
    s3: dict[str, Any] = {
        # Every body carries its SHA-256 in a signed header; hashing it once more for the signature says nothing new.
        "payload_signing_enabled": False,
    }
    if style:
        s3["addressing_style"] = style
    client = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version=UNSIGNED if settings.anonymous else None,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
            # Writes name their checksum themselves; services that know none are not sent trailers they refuse.
            request_checksum_calculation="when_required",
            s3=s3,
        ),
    )
    client.meta.events.register("before-call.s3", _do_not_redirect)
    return client


def signing_in_actions() -> str:
    """How to sign in, where this runs; for the error that there are no credentials."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return (
            "Give the job `permissions: id-token: write`, and let aws-actions/configure-aws-credentials "
            "run before this step."
        )
    return (
        "Looked in the environment, the profiles in ~/.aws, web identity and this machine's role. Run `aws sso login` "
        "or `aws configure`, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


def _do_not_redirect(params: Any, **_: Any) -> None:
    """Keep botocore from asking for the bucket's region and sending everything twice: the reader is told instead.

    The fetcher would not find the bucket either, and some S3-compatible services make botocore ask for ever.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _refuse_half_credential(url: str) -> None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    have = [name for name in names if os.environ.get(name)]
    if len(have) == 1:
        missing = next(name for name in names if name not in have)
        raise storage_errors.half_credential(url, have[0], missing)


def _region(session: Any, settings: RegistrySettings) -> str:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):  # botocore reads only the second, other SDKs the first
        if os.environ.get(name):
            return os.environ[name]
    return settings.region or session.get_config_variable("region") or DEFAULT_REGION


def _endpoint(session: Any, settings: RegistrySettings) -> tuple[str | None, str]:
    """The endpoint to pass on, and the addressing style; None and "" leave them to botocore."""
    scoped = session.get_scoped_config()
    ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    named = "" if ignored else os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    endpoint = named or settings.endpoint
    if not endpoint and not ignored:
        services = session.full_config.get("services", {}).get(scoped.get("services", ""), {})
        endpoint = services.get("s3", {}).get("endpoint_url") or scoped.get("endpoint_url", "")
    if not endpoint:
        return None, ""
    host = urlsplit(endpoint).hostname or ""
    amazon = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    # Elsewhere a bucket's own host name rarely resolves.
    style = "" if amazon or (scoped.get("s3") or {}).get("addressing_style") else "path"
    return endpoint, style
