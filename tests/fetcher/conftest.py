from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fetcher.crash_setup import place
from tests.helpers.builds import publisher_environment, registry
from tests.helpers.clouds import sign_in
from tests.servers.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.clouds import Servers

__all__ = ["place", "publisher_environment", "registry"]


@pytest.fixture
def s3(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """S3, with no rules; this process is signed in to it."""
    server = servers["s3"]
    assert isinstance(server, S3Server)
    sign_in(monkeypatch, server)
    server.reset()
    yield server
    server.reset()
