"""modeldrop: build a model once, drop it in a bucket, pick it up wherever a container starts.

``fetch`` and ``watch``, and ``afetch`` and ``changes`` for asyncio, are the whole public interface for programs; what
they raise is in ``modeldrop.errors``::

    snapshot = modeldrop.fetch("s3://acme-models/embedder")
    session = onnxruntime.InferenceSession(snapshot.model_file)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop._version import __version__
from modeldrop.errors import ModeldropError

if TYPE_CHECKING:
    from modeldrop.fetcher.asynchronous import Change, afetch, changes
    from modeldrop.fetcher.fetch import fetch
    from modeldrop.fetcher.snapshot import Snapshot
    from modeldrop.fetcher.watch.watcher import Watcher, watch

__all__ = ["Change", "ModeldropError", "Snapshot", "Watcher", "__version__", "afetch", "changes", "fetch", "watch"]

# Loaded on first use: a command that does not fetch need not load the fetcher.
_MODULES = {
    "Change": "asynchronous",
    "Snapshot": "snapshot",
    "Watcher": "watch.watcher",
    "afetch": "asynchronous",
    "changes": "asynchronous",
    "fetch": "fetch",
    "watch": "watch.watcher",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'modeldrop' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"modeldrop.fetcher.{_MODULES[name]}"), name)
