"""Amazon S3 on 127.0.0.1, by moto."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3

from tests.helpers.waiting import HANG_SECONDS

ROOT = Path(__file__).parents[2]
KEY_ID, SECRET = "AKIATESTONLYTESTONLY", "a-secret-that-no-message-may-hold"

PAGE = 100
"""So many entries a page of a listing holds; Amazon's holds 1000, which take moto long to make."""


@dataclass(frozen=True, slots=True)
class S3Request:
    """A request as it came in: ``path`` with its query, ``headers`` by their small-letter names."""

    method: str
    path: str
    headers: Mapping[str, str]


class S3Server:
    """moto in a process of its own. It tests our client, and says little about Amazon's service.

    Mended here, in front of moto: conditional writes are serialized (moto checks and then writes, without a lock);
    a body with a wrong x-amz-checksum-sha256 or Content-MD5 is refused, and a right one is returned; Nagle is off.

    What it still gets wrong: signatures, permissions and regions are not checked (only unsigned reads are refused);
    If-Match on CompleteMultipartUpload is ignored; nothing is throttled, expires or is eventually consistent; a 409
    ConditionalRequestConflict never comes by itself; all uploads in parts began in November 2010; it takes 28 MiB/s
    at best, and rereads the object for each ranged read; other checksums than SHA-256 and MD5 are taken on trust.
    What it does not do by itself can be ordered: ``rule``.
    """

    name = "s3"
    port = 0
    environment: Mapping[str, str]

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._numbers = itertools.count(1)
        self.environment = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.s3_app"],
            cwd=ROOT,
            env=os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.environment = environment(f"http://127.0.0.1:{self.port}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.communicate()

    def registry(self) -> str:
        """The URL of a registry in a new bucket."""
        bucket = f"bucket-{next(self._numbers)}"
        self._send("PUT", f"/{bucket}", b"")
        return f"s3://{bucket}/team/models"

    def requests(self) -> list[S3Request]:
        """All requests since ``reset``."""
        return [S3Request(*entry) for entry in json.loads(self._send("GET", "/_admin/requests", b""))]

    def reset(self) -> None:
        """Forget requests and rules."""
        self._send("POST", "/_admin/reset", b"")

    def rule(self, kind: str, **options: Any) -> None:
        """Do something to coming requests; the first rule that matches counts.

        Args:
            kind: ``answer`` (with ``status``, ``code``, ``message``, ``headers``, ``extra`` XML in the error, or a
                ``body`` instead of the error), ``ignored`` (as if ``header`` had not been sent), ``silent`` (never
                answer), ``cut`` (close the connection before moto sees the request), ``landed`` (the same after it
                did), ``plain`` (like a service that knows no checksums; ``headers`` replace those of the answer),
                ``corrupt`` (the same, and change the last byte of the body), ``unquoted`` (like Ceph: honour If-Match
                only without quotes).
            **options: ``method``, ``match`` (part of path and query), ``header`` (its name in small letters) and
                ``times`` (1; -1 for all) say which requests.
        """
        self._send("POST", "/_admin/rule", json.dumps({"kind": kind, **options}).encode())

    def _send(self, method: str, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
        try:
            # moto tells services apart by the signature's scope, and checks nothing else of it.
            scope = f"Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request"
            headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, data
        return data


def environment(endpoint: str, key_id: str = KEY_ID, secret: str = SECRET) -> dict[str, str]:
    """What reaches an S3 service at ``endpoint``, whatever the developer's own profiles say."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ALLOW_HTTP": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def client(signed_in: Mapping[str, str]) -> Any:
    """A client of the S3 service that ``signed_in``, an environment, reaches."""
    return boto3.client(
        "s3",
        endpoint_url=signed_in["AWS_ENDPOINT_URL_S3"],
        region_name=signed_in["AWS_REGION"],
        aws_access_key_id=signed_in["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=signed_in["AWS_SECRET_ACCESS_KEY"],
    )


def create_bucket(signed_in: Mapping[str, str]) -> str:
    """Create a bucket at the S3 service that ``signed_in``, an environment, reaches; its name."""
    name = f"bucket-{secrets.token_hex(6)}"
    with contextlib.closing(client(signed_in)) as connection:
        connection.create_bucket(Bucket=name)
    return name
