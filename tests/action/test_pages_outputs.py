from __future__ import annotations

from pathlib import Path

import pytest

from modeldrop.action.result import RegistryResult, RunFolder, RunResult, outputs_of
from modeldrop.publishing.comparison import BuildComparison


@pytest.mark.parametrize(
    ("version", "before", "in_use", "page", "comparison"),
    [
        ("v3", "v2", "", "m/embedder/v3.html", "compare.html?model=embedder&a=2&b=3"),
        ("v3", "", "v1", "m/embedder/v3.html", "compare.html?model=embedder&a=1&b=3"),  # a pull request's own channel
        ("v3", "v3", "", "m/embedder/v3.html", ""),
        ("v1", "", "", "m/embedder/v1.html", ""),
        ("", "v2", "v2", "", ""),
    ],
)
def test_where_the_pages_are(
    tmp_path: Path, version: str, before: str, in_use: str, page: str, comparison: str
) -> None:
    run = RunFolder(tmp_path)
    if in_use:
        run.keep_comparison(BuildComparison(channel="current", version=in_use, before="", after="", variants=()))
    result = RunResult(model="embedder", registries=[RegistryResult("s3://acme-models", version, before=before)])
    outputs = outputs_of(result, run)
    assert (outputs["version-page"], outputs["comparison-page"]) == (page, comparison)
