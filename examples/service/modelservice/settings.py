"""What the service is told by its environment, read once and checked before anything slow begins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

TASKS = {"embed": "embedder", "rerank": "reranker", "classify": "classifier"}
"""What the service does, and what its models are called where nothing else is said."""
_POLICIES = ("last-good", "fail", "offline")
_LEAST_SECRET = 16


class SettingsError(Exception):
    """The environment says something that cannot be meant."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The model of a task: its reference, its variant, and the reference of a smaller one to fall back to, or ""."""

    task: str
    reference: str
    variant: str
    fallback: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; times are in seconds, sizes in bytes. docs/service.md has the environment variables.

    Attributes:
        wanted: a model per task.
        on_unavailable: what to do while the registry does not answer, as ``modeldrop fetch`` takes it.
        self_test: whether a version's golden inputs must pass on this CPU before it is used.
        share: whether processes share weights as onnxruntime arranges them, in copies beside the snapshots.
        lazy: load a model when it is first asked for, not at the start.
        rules: whether rules answer where there is no model.
        interval: between two looks at a channel.
        fetch_seconds: how long a fetch may take.
        threads: of one inference.
        concurrency: how many inferences run at once.
        queue: how many requests may wait for their turn.
        patience: how long a request waits for its turn, and for a model that is being loaded.
        max_body: of a request.
        max_texts: in a request.
        max_characters: of a text.
        max_tokens: of a text; what is longer is cut, and the answer says so.
        batch: how many texts go through a model at once.
        labels: what ``classify`` chooses from where neither the model nor the request says it.
        reload_token: what ``POST /reload`` asks for; "" switches it off.
        host: the address to listen on.
        port: the port to listen on.
        grace: how long requests may go on after SIGTERM.
    """

    wanted: tuple[Wanted, ...]
    on_unavailable: str = "last-good"
    self_test: bool = False
    share: bool = False
    lazy: bool = False
    rules: bool = True
    interval: float = 30.0
    fetch_seconds: float = 600.0
    threads: int = 1
    concurrency: int = 1
    queue: int = 64
    patience: float = 30.0
    max_body: int = 2 << 20
    max_texts: int = 256
    max_characters: int = 20_000
    max_tokens: int = 512
    batch: int = 32
    labels: tuple[str, ...] = ("positive", "negative", "neutral")
    reload_token: str = field(default="", repr=False)
    host: str = "0.0.0.0"  # noqa: S104  a container's port is published by whoever starts it
    port: int = 8000
    grace: int = 20


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from ``SERVICE_…`` variables.

    Raises:
        SettingsError: a value that cannot be meant; names the variable.
    """
    read = _Reader(environment)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    token = environment.get("SERVICE_RELOAD_TOKEN", "")
    if token and len(token) < _LEAST_SECRET:
        raise SettingsError(f"SERVICE_RELOAD_TOKEN is shorter than {_LEAST_SECRET} characters: too easy to guess.")
    threads = read.whole("THREADS", min(cores, 4), low=1, high=256)
    return Settings(
        wanted=tuple(_wanted(task, name, environment) for task, name in TASKS.items()),
        on_unavailable=read.choice("ON_UNAVAILABLE", _POLICIES),
        self_test=read.yes("SELF_TEST", default=False),
        share=read.yes("SHARE", default=False),
        lazy=read.choice("LOAD", ("start", "lazy")) == "lazy",
        rules=read.yes("RULES", default=True),
        interval=read.whole("INTERVAL", 30, low=1, high=86_400),
        fetch_seconds=read.whole("FETCH_SECONDS", 600, low=1, high=86_400),
        threads=threads,
        concurrency=read.whole("CONCURRENCY", max(1, cores // threads), low=1, high=32),
        queue=read.whole("QUEUE", 64, low=0, high=10_000),
        patience=read.whole("PATIENCE", 30, low=1, high=3600),
        max_body=read.whole("MAX_BODY", 2 << 20, low=1024, high=1 << 30),
        max_texts=read.whole("MAX_TEXTS", 256, low=1, high=100_000),
        max_characters=read.whole("MAX_CHARACTERS", 20_000, low=1, high=10_000_000),
        max_tokens=read.whole("MAX_TOKENS", 512, low=8, high=1 << 17),
        batch=read.whole("BATCH", 32, low=1, high=1024),
        labels=read.names("LABELS", ("positive", "negative", "neutral")),
        reload_token=token,
        host=environment.get("SERVICE_HOST", "") or "0.0.0.0",  # noqa: S104
        port=read.whole("PORT", 8000, low=0, high=65_535),
        grace=read.whole("GRACE", 20, low=0, high=3600),
    )


def _wanted(task: str, name: str, environment: Mapping[str, str]) -> Wanted:
    variable = f"SERVICE_{task.upper()}"
    reference = environment.get(variable, name)
    fallback = environment.get(f"{variable}_FALLBACK", "")
    for where, text in ((variable, reference), (f"{variable}_FALLBACK", fallback)):
        if text and "/" not in text and not environment.get("MODELDROP_REGISTRY"):
            raise SettingsError(
                f"{where} is {text!r}, and MODELDROP_REGISTRY does not say which registry that is in.\n"
                f"  Set MODELDROP_REGISTRY=s3://bucket/prefix, or {where}=s3://bucket/prefix/{text}; "
                f"or {where}= (empty) to go without a model."
            )
    variant = environment.get(f"{variable}_VARIANT", environment.get("SERVICE_VARIANT", "auto"))
    return Wanted(task, reference, variant, fallback)


class _Reader:
    """Values by the names they have after ``SERVICE_``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        text = self._environment.get(f"SERVICE_{name}", "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and low <= int(text[:20]) <= high):
            raise SettingsError(f"SERVICE_{name} is {text[:80]!r}: write a whole number from {low} to {high}.")
        return int(text)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        text = self._environment.get(f"SERVICE_{name}", "") or choices[0]
        if text not in choices:
            raise SettingsError(f"SERVICE_{name} is {text[:80]!r}: write one of {', '.join(choices)}.")
        return text

    def yes(self, name: str, *, default: bool) -> bool:
        return self.choice(name, ("yes", "no") if default else ("no", "yes")) == "yes"

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        text = self._environment.get(f"SERVICE_{name}", "")
        found = tuple(part.strip() for part in text.split(",") if part.strip())
        return found or default
