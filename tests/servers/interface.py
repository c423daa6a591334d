"""What the tests need of a cloud that runs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self


class CloudServer(Protocol):
    """A server, started by ``with`` and stopped after it, on a free port of 127.0.0.1.

    It runs in a process of its own, so that many clients at once do not share its interpreter.
    """

    name: str
    """What tests are called after: ``s3``, ``gcs``, ``azure``."""

    environment: Mapping[str, str]
    """What a client's environment must hold to reach it and be signed in."""

    port: int

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def registry(self) -> str:
        """The URL of a registry with a prefix, in a bucket of its own that exists and is empty."""
