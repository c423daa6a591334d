"""modeldrop: build a model once, drop it in a bucket, pick it up wherever a container starts.

``fetch`` and ``watch`` are the whole public interface for programs::

    snapshot = modeldrop.fetch("s3://acme-models/embedder")
    session = onnxruntime.InferenceSession(snapshot.model_file)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop._version import __version__

if TYPE_CHECKING:
    from modeldrop.runtime.fetch import fetch
    from modeldrop.runtime.snapshot import Snapshot
    from modeldrop.runtime.watch import watch

__all__ = ["Snapshot", "__version__", "fetch", "watch"]


def __getattr__(name: str) -> object:
    # Loaded on first use: a command that does not fetch need not load the fetcher.
    if name == "fetch":
        from modeldrop.runtime.fetch import fetch

        return fetch
    if name == "watch":
        from modeldrop.runtime.watch import watch

        return watch
    if name == "Snapshot":
        from modeldrop.runtime.snapshot import Snapshot

        return Snapshot
    raise AttributeError(f"module 'modeldrop' has no attribute {name!r}")
