"""Makes boto3's client: signed in by botocore's own chain, for the right endpoint and region, with time limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3.session
from botocore import UNSIGNED
from botocore.config import Config

from modeldrop._version import __version__
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.botocore_session import Session, named_profile
from modeldrop.storage.sdk_answers import UnreadableAnswerError, latest_answer
from modeldrop.storage.write.multipart import PartBody

if TYPE_CHECKING:
    from modeldrop.config import RegistrySettings
    from modeldrop.storage.aws_profile import AwsProfile
    from modeldrop.storage.s3_address import S3Address

CONNECT_SECONDS = 3
READ_SECONDS = 60
CONNECTIONS = 16


def make_client(settings: RegistrySettings, address: S3Address, profile: AwsProfile) -> Any:
    """Sign in and make the client. It makes no retries: ``S3BucketStore`` decides about them.

    Raises:
        RegistryError: half of a credential is set.
        Exception: whatever botocore raises where it cannot sign in; ``s3_errors.explain`` has the sentences.
    """
    _refuse_half_credential(settings.url)
    session = Session(address, named_profile(profile))
    session.user_agent_extra = f"modeldrop/{__version__}"
    # Clients that sign-in needs (STS, SSO) are made by the session, with time limits of minutes.
    session.set_default_client_config(
        Config(connect_timeout=CONNECT_SECONDS, read_timeout=10, retries={"total_max_attempts": 2, "mode": "standard"})
    )
    if not address.anonymous:
        credentials = session.get_credentials()
        answer = latest_answer()
        if credentials is not None:
            # Here and not with the first request, which is not given the time a person needs to type a code.
            credentials.get_frozen_credentials()
        elif answer is not None and answer.is_outage:  # botocore takes it for: there is no metadata service
            raise UnreadableAnswerError("", answer)
    client = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=address.service,
        config=Config(
            signature_version=UNSIGNED if address.anonymous else None,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
            # Writes name their checksum themselves; services that know none are not sent trailers they refuse.
            request_checksum_calculation="when_required",
            use_fips_endpoint=False,  # the address has it already
            use_dualstack_endpoint=False,
            s3={
                # Every body carries its SHA-256 in a signed header; hashing it once more for the signature says
                # nothing new.
                "payload_signing_enabled": False,
                "addressing_style": "virtual" if address.by_host else "path",
                "use_accelerate_endpoint": False,
                "use_dualstack_endpoint": False,
            },
        ),
    )
    client.meta.events.register("before-call.s3", _do_not_redirect)
    client.meta.events.register("before-send.s3.UploadPart", _send_in_blocks)
    if address.requester_pays:
        client.meta.events.register("before-call.s3", _pay)
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


def _pay(params: Any, **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def _send_in_blocks(request: Any, **_: Any) -> None:
    """Give a part's body to urllib3 as it is read, a block at a time: of files it reads 16 KiB at a time.

    Nor is the service first asked whether it may be sent, as botocore does for files alone: some never answer that.
    """
    if isinstance(request.body, PartBody):
        request.body = iter(request.body)
        del request.headers["Expect"]


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
