"""The fields of ``Options`` as keyword arguments, for type checkers. A test keeps both alike."""

from __future__ import annotations

from typing import TypedDict


class OptionValues(TypedDict, total=False):
    """See ``Options``."""

    variant: str
    as_name: str
    consumer: str
    on_unavailable: str
    max_stale: float | None
    min_generation: int
    self_test: bool
    timeout: float
    keep: int
    accept_older_generation: bool
    trust: list[str] | tuple[str, ...] | None
    trust_threshold: int | None
    require_attestation: str | None
    no_delta: bool
