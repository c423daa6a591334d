"""What keeps one caller from taking all: the size of a body, the time it takes, and how many wait for a turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem

T = TypeVar("T")
_BODY_SECONDS = 30


class BodyLimit:
    """Reads a request's body before anything else: at most ``limit`` bytes, in 30 s."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            with anyio.fail_after(_BODY_SECONDS):
                body = await self._read(scope, receive)
        except TimeoutError:
            await Problem(408, "slow", "The request took too long to arrive.").response()(scope, receive, send)
        except Problem as problem:
            await problem.response()(scope, receive, send)
        except ClientDisconnect:
            return
        else:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > self._limit:
            raise self._too_large()
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"A request has at most {self._limit} bytes. Send fewer texts at a time.")


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class Turns:
    """Runs work in threads, a few at a time; who would have to wait too long is told so at once.

    Args:
        concurrency: how many run at once.
        queue: how many may wait.
        patience: seconds that one waits.
    """

    def __init__(self, concurrency: int, queue: int, patience: float) -> None:
        self._semaphore = anyio.Semaphore(concurrency)
        self._queue = queue
        self._patience = patience

    async def run(self, work: Callable[[], T]) -> T:
        """Wait for a turn, and run ``work`` in a thread.

        Raises:
            Problem: there is no turn to be had.
        """
        busy = Problem(503, "busy", "Too many requests are waiting for their turn.", retry_after=1)
        if self._semaphore.value == 0 and self._semaphore.statistics().tasks_waiting >= self._queue:
            raise busy
        try:
            with anyio.fail_after(self._patience):
                await self._semaphore.acquire()
        except TimeoutError:
            raise busy from None
        try:
            return await anyio.to_thread.run_sync(work)
        finally:
            self._semaphore.release()
