"""Compare a build with what a channel names now: both are run here, one after the other in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modeldrop.errors import ModeldropError
from modeldrop.export.messages import CompareAnswer, CompareRequest
from modeldrop.export.worker_process import run_worker
from modeldrop.publishing.comparison import BuildComparison, variant_changes
from modeldrop.registry.publish import Build

_MOST = 100


def compare_builds(
    before: Build,
    after: Build,
    known: BuildComparison,
    *,
    texts: Sequence[tuple[str, ...]],
    scratch: Path,
    python: str = "",
) -> BuildComparison:
    """Run two builds side by side. What cannot be compared is among the problems; the manifests' figures stay.

    Args:
        before: the version that the channel names, on disk.
        after: the build.
        known: what is said of the comparison already.
        texts: what encoders of texts are asked, at most 100; others are asked the known inputs of the manifests.
        scratch: an empty folder.
        python: the interpreter that has onnxruntime and tokenizers; "" for the exporter's.
    """
    request = CompareRequest(before.folder, after.folder, tuple(texts[:_MOST]))
    try:
        measured = run_worker("compare", request, CompareAnswer, scratch, lambda _: None, python=python)
    except ModeldropError as error:
        return replace(known, problems=(*known.problems, error.message))
    timed = bool(measured.before and measured.after)
    return replace(
        known,
        variants=variant_changes(before.manifest, after.manifest, measured if timed else None),
        measured=timed,
        inputs=measured.inputs,
        answers=measured.answers,
        problems=(*known.problems, *measured.problems),
    )
