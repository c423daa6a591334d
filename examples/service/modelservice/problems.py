"""What goes wrong for a caller: a status, a code for programs, and a sentence for people."""

from __future__ import annotations

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


class Problem(Exception):  # noqa: N818  what a caller is told, not a defect
    """An answer that is not what was asked for."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def response(self) -> JSONResponse:
        """As it is sent."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        content = {"error": {"code": self.code, "message": self.message}}
        return JSONResponse(content, self.status, headers)


async def on_problem(_request: Request, error: Exception) -> JSONResponse:
    """Answer with a problem."""
    assert isinstance(error, Problem)
    return error.response()


async def on_invalid(_request: Request, error: Exception) -> JSONResponse:
    """Answer a body that is not what is expected; what was sent is not sent back."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return Problem(422, "invalid", f"{where}: {first['msg']}").response()


async def on_http(_request: Request, error: Exception) -> JSONResponse:
    """Answer an unknown path or a wrong method as everything else is answered."""
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, "http", str(error.detail)).response()


async def on_defect(_request: Request, _error: Exception) -> JSONResponse:
    """Answer after an unexpected error; its traceback is in the log."""
    return Problem(500, "internal", "The service failed on this request. Its log says more.").response()
