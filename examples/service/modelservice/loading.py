"""From a snapshot to something that answers: graphs opened, tokenizer read, one text tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modeldrop import Snapshot

from .classifying import Classifier, Labeller
from .embedding import Embedder
from .engines import Classifies, Embeds, EngineError, Opened, Reranks
from .graphs import open_graph
from .reranking import Reranker
from .rules import RuleClassifier, RuleEmbedder, RuleReranker
from .settings import Settings
from .tokens import open_tokens

Engine = Embeds | Reranks | Classifies

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
        opened = Opened(
            folder=snapshot.path,
            graphs={role: open_graph(snapshot.path / path, settings.threads) for role, path in variant.graphs.items()},
            tokens=open_tokens(snapshot.path, min(manifest.max_length or settings.max_tokens, settings.max_tokens)),
            known_labels=manifest.labels,
            default_labels=settings.labels,
            batch=settings.batch,
        )
        engine = make(opened)
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


def _try(engine: Engine) -> None:
    """The first run of a graph is slow, and shows whether it runs at all: no request has to be that one."""
    match engine:
        case Embedder():
            engine.embed(["ready?"])
        case Reranker():
            engine.rerank("ready?", ["yes"])
        case Classifier() | Labeller():
            engine.classify(["ready?"], ())
