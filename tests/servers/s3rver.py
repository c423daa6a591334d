"""s3rver: an S3 look-alike that accepts conditional writes and ignores their conditions.

It is what ``publish`` and ``doctor`` must refuse.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import boto3

from tests.servers.node import NodeServer

KEY = "S3RVER"
"""Its one user, and that user's secret."""


class S3RverServer(NodeServer):
    """See ``CloudServer``."""

    name = "s3rver"

    def __init__(self) -> None:
        super().__init__(
            "s3rver/bin/s3rver.js",
            lambda data: ["--directory", str(data), "--address", "127.0.0.1", "--port", "0", "--silent"],
        )

    def sign_in(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ALLOW_HTTP": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def registry(self) -> str:
        bucket = f"bucket-{secrets.token_hex(6)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL_S3"],
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=KEY,
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        return f"s3://{bucket}/team/models"
