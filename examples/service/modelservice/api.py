"""The three endpoints that answer, and the one that reloads."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Header

from .engines import UnknownLabelError
from .limits import Turns
from .loading import Serving
from .messages import (
    ClassifyRequest,
    ClassifyResponse,
    EmbedRequest,
    EmbedResponse,
    Labelled,
    Ranked,
    RerankRequest,
    RerankResponse,
    ServedBy,
)
from .metrics import Metrics
from .models import Models
from .problems import Problem
from .settings import Settings

T = TypeVar("T")


def make_api(settings: Settings, models: Models, metrics: Metrics) -> APIRouter:
    """The routes."""
    router = APIRouter()
    answering = _Answering(settings, models, metrics)
    check, run = answering.check, answering.run

    @router.post("/embed")
    async def embed(request: EmbedRequest) -> EmbedResponse:
        """Texts as vectors."""
        check(request.texts)
        serving, vectors = await run("embed", lambda engine: engine.embed(request.texts))
        return EmbedResponse(
            served_by=_served_by(serving),
            truncated=vectors.truncated,
            embeddings=vectors.rows,
            dimensions=len(vectors.rows[0]),
        )

    @router.post("/rerank")
    async def rerank(request: RerankRequest) -> RerankResponse:
        """Texts, the one first that answers the query best."""
        check([request.query])
        check(request.texts)
        serving, scores = await run("rerank", lambda engine: engine.rerank(request.query, request.texts))
        ranked = sorted(enumerate(scores.values), key=lambda one: -one[1])[: request.top]
        return RerankResponse(
            served_by=_served_by(serving),
            truncated=scores.truncated,
            results=[Ranked(index=index, score=score) for index, score in ranked],
        )

    @router.post("/classify")
    async def classify(request: ClassifyRequest) -> ClassifyResponse:
        """A label per text."""
        check(request.texts)
        serving, labels = await run("classify", lambda engine: engine.classify(request.texts, request.labels or ()))
        return ClassifyResponse(
            served_by=_served_by(serving),
            truncated=labels.truncated,
            results=[Labelled(label=row.label, score=row.score, text=row.text) for row in labels.rows],
        )

    @router.post("/reload")
    async def reload(authorization: Annotated[str, Header()] = "") -> dict[str, Any]:
        """Ask the registry now, and swap to what it names: for a sidecar, or a person in a hurry."""
        if not settings.reload_token:
            raise Problem(404, "off", "There is no reload here: SERVICE_RELOAD_TOKEN is not set.")
        scheme, _, token = authorization.partition(" ")
        right = hmac.compare_digest(token.strip().encode(), settings.reload_token.encode())
        if not right or scheme.lower() != "bearer":
            raise Problem(401, "unauthorized", "Reloading takes the header 'Authorization: Bearer …'.")
        return await anyio.to_thread.run_sync(models.reload)

    return router


class _Answering:
    """What the endpoints have in common: what is too much, and a turn on what answers the task."""

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self._settings = settings
        self._models = models
        self._metrics = metrics
        self._turns = Turns(settings.concurrency, settings.queue, settings.patience)

    def check(self, texts: Sequence[str]) -> None:
        """Refuse too many texts, or one that is too long.

        Raises:
            Problem: they are.
        """
        most, longest = self._settings.max_texts, self._settings.max_characters
        if len(texts) > most:
            raise Problem(422, "too_many_texts", f"{len(texts)} texts; a request has at most {most}.")
        if max(map(len, texts)) > longest:
            message = f"A text has {max(map(len, texts))} characters; at most {longest} are read."
            raise Problem(422, "text_too_long", message)

    async def run(self, task: str, work: Callable[[Any], T]) -> tuple[Serving, T]:
        """Run ``work`` on the engine of a task; return who answered, and what.

        Raises:
            Problem: nothing answers, too many wait, or the request cannot be meant.
        """
        # From here on this request keeps what it runs on, whatever the channel is moved to.
        serving = await self._models.serving(task)

        def timed() -> T:
            with self._metrics.running.labels(task).track_inprogress():
                began = time.perf_counter()
                result = work(serving.engine)
                self._metrics.inference.labels(task, serving.kind).observe(time.perf_counter() - began)
                return result

        try:
            return serving, await self._turns.run(timed)
        except UnknownLabelError as error:
            raise Problem(422, "unknown_label", str(error)) from None


def _served_by(serving: Serving) -> ServedBy:
    return ServedBy.model_validate(serving.describe())
