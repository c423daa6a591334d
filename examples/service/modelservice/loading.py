"""From a snapshot to something that answers: graphs opened, tokenizer read, one text tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modeldrop import Snapshot

from .classifying import Classifier, Labeller
from .embedding import Embedder
from .engines import Classifies, Embeds, EngineError, Opened, Reranks
from .graphs import on_cpu, open_graph
from .reranking import Reranker
from .rules import RuleClassifier, RuleEmbedder, RuleReranker
from .settings import Settings
from .sharing import prepared
from .tokens import open_tokens

Engine = Embeds | Reranks | Classifies

_TEXTS = ("ready?", "Is this the answer that the graph gave before it was copied, too?")
_CLOSE = 1e-4
MODEL, FALLBACK, RULES = "model", "fallback", "rules"
_ENGINES: Mapping[tuple[str, str], Callable[[Opened], Engine]] = {
    ("embed", "feature-extraction"): Embedder,
    ("rerank", "text-classification"): Reranker,
    ("classify", "text-classification"): Classifier,
    ("classify", "text2text-generation"): Labeller,
}


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers a task from some moment on. Requests hold it while they run: what replaces it takes it from nobody.

    Attributes:
        engine: answers.
        kind: ``model``, ``fallback`` or ``rules``.
        backend: what computes.
        snapshot: where it comes from; None for rules.
        load_seconds: what opening it took.
        since: when it was taken, by ``time.time()``.
    """

    engine: Engine
    kind: str
    backend: str
    snapshot: Snapshot | None
    load_seconds: float
    since: float

    def describe(self) -> dict[str, str | int | None]:
        """What a response says of who answered."""
        if self.snapshot is None:
            return {"kind": self.kind, "model": None, "version": None, "variant": None, "generation": None}
        return {
            "kind": self.kind,
            "model": self.snapshot.model,
            "version": f"v{self.snapshot.version}",
            "variant": self.snapshot.variant,
            "generation": self.snapshot.generation,
        }


def load(task: str, snapshot: Snapshot, kind: str, settings: Settings) -> Serving:
    """Open a snapshot for a task, and try it.

    Raises:
        EngineError: it cannot serve the task; says why.
    """
    began = time.perf_counter()
    what = f"{snapshot.model} v{snapshot.version} {snapshot.variant}"
    try:
        manifest = snapshot.manifest
        make = _ENGINES.get((task, manifest.task))
        if make is None:
            raise EngineError(f"it was built for {manifest.task}")
        variant = next(one for one in manifest.variants if one.name == snapshot.variant)
        paths = {role: snapshot.path / path for role, path in variant.graphs.items()}
        tokens = open_tokens(snapshot.path, min(manifest.max_length or settings.max_tokens, settings.max_tokens))

        def open_engine(graphs: Mapping[str, Path]) -> tuple[Engine, Opened]:
            opened = Opened(
                folder=snapshot.path,
                graphs={
                    role: open_graph(path, settings.threads, prepared=graphs is not paths)
                    for role, path in graphs.items()
                },
                tokens=tokens,
                known_labels=manifest.labels,
                default_labels=settings.labels,
                batch=settings.batch,
            )
            return make(opened), opened

        def proves(copies: Mapping[str, Path]) -> bool:
            return _same(_try(open_engine(copies)[0]), _try(open_engine(paths)[0]))

        shared = prepared(snapshot.path, paths, proves) if settings.share and on_cpu() else paths
        engine, opened = open_engine(shared)
        _try(engine)
    except Exception as error:  # every library has its own; a model that cannot be used must not end the service
        raise EngineError(f"{what} cannot {task}: {error}") from error
    backend = next(iter(opened.graphs.values())).backend
    return Serving(engine, kind, backend, snapshot, time.perf_counter() - began, time.time())


def rules(task: str, settings: Settings) -> Serving:
    """What answers a task without any model."""
    engines: Mapping[str, Engine] = {
        "embed": RuleEmbedder(),
        "rerank": RuleReranker(),
        "classify": RuleClassifier(settings.labels),
    }
    return Serving(engines[task], RULES, "rules", None, 0.0, time.time())


def _try(engine: Engine) -> list[float]:
    """The first run of a graph is slow, and shows whether it runs at all: no request has to be that one.

    Returns:
        What it answers, in numbers.
    """
    match engine:
        case Embedder():
            return [number for row in engine.embed(list(_TEXTS)).rows for number in row]
        case Reranker():
            return engine.rerank("ready?", list(_TEXTS)).values
        case Classifier() | Labeller():
            return [row.score for row in engine.classify(list(_TEXTS), ()).rows]
    return []


def _same(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) > 0 and bool(np.allclose(one, other, rtol=_CLOSE, atol=_CLOSE))
