"""What orchestrators and people ask of the service itself."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from .metrics import Metrics
from .models import Models


def make_health(models: Models, metrics: Metrics) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers. It is not restarted because a registry is down."""
        return {"status": "alive"}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Whether requests may be sent here."""
        well = models.ready()
        return JSONResponse({"status": "ready" if well else "loading"}, 200 if well else 503)

    @router.get("/health/ml")
    async def ml() -> dict[str, Any]:
        """What answers every task, how old that is, and what is wrong."""
        return models.describe()

    @router.get("/metrics")
    async def figures() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
