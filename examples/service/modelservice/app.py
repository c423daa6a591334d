"""The application, put together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from .api import make_api
from .health import make_health
from .limits import BodyLimit
from .metrics import Metrics
from .models import Models
from .problems import Problem, on_defect, on_http, on_invalid, on_problem
from .settings import Settings, read_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; for ``uvicorn --factory modelservice.app:create_app`` too.

    Raises:
        SettingsError: the environment says something that cannot be meant.
    """
    settings = settings or read_settings(os.environ)
    metrics = Metrics()
    models = Models(settings, metrics.swapped)
    metrics.show(models)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        models.start()  # returns at once: health endpoints answer while models are loaded
        yield
        await anyio.to_thread.run_sync(models.stop)

    # No /docs: that page loads its scripts from somebody else's server.
    app = FastAPI(title="Models", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, limit=settings.max_body)
    app.include_router(make_api(settings, models, metrics))
    app.include_router(make_health(models, metrics))
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_defect)
    return app
