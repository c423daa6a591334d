"""s3rver: an S3 look-alike that accepts conditional writes and ignores their conditions.

It is what ``publish`` and ``doctor`` must refuse.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.servers.node import NodeServer
from tests.servers.s3 import create_bucket, environment

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
        return environment(f"http://127.0.0.1:{self.port}", KEY, KEY)

    def registry(self) -> str:
        return f"s3://{create_bucket(self.environment)}/team/models"
