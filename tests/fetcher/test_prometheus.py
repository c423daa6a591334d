"""Metrics as Prometheus reads them: through its own parser."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modeldrop.errors import DiskError
from modeldrop.fetcher.prometheus import Metrics
from modeldrop.fetcher.snapshot import Snapshot, TransferStats

NOW = 1_700_000_000.25
DIGEST = f"sha256:{'ab' * 32}"


def snapshot(model: str = "embedder", channel: str | None = "current", **more: object) -> Snapshot:
    values: dict[str, object] = {"generation": None if channel is None else 7, "age": 0.0, "figures": TransferStats()}
    values |= more
    return Snapshot(
        path=Path("/models"), model=model, version=3, variant="int8", digest=DIGEST, registry="s3://acme",
        channel=channel, **values,  # type: ignore[arg-type]
    )  # fmt: skip


def parse(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and the values of its labels; each family once, with help and a type."""
    families = list(text_string_to_metric_families(text))
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(set(names)) == len(names) == len(families)
    samples = {}
    for family in families:
        assert family.documentation
        assert family.type in {"counter", "gauge"}
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            key = (sample.name.removeprefix("modeldrop_"), tuple(sample.labels.values()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def test_a_fetch() -> None:
    figures = TransferStats(fetched=1000, adopted=200, linked=30, retries=4, seconds=1.5, saved=5)
    text = Metrics().with_snapshot(snapshot(figures=figures, age=10.0), NOW).text(NOW + 5)
    here = ("embedder", "current")
    assert parse(text) == {
        ("fetch_bytes_total", (*here, "registry")): 1000,
        ("fetch_bytes_total", (*here, "disk")): 200,
        ("fetch_bytes_total", (*here, "linked")): 30,
        ("fetch_bytes_total", (*here, "delta")): 5,
        ("cache_hits_total", here): 0,
        ("fetches_total", here): 1,
        ("fetch_failures_total", here): 0,
        ("fetch_retries_total", here): 4,
        ("fetch_seconds", here): 1.5,
        ("fetch_success", here): 1,
        ("last_fetch_timestamp_seconds", here): NOW,
        ("last_success_timestamp_seconds", here): NOW,
        ("information_age_seconds", here): 15,
        ("model_version", here): 3,
        ("channel_generation", here): 7,
        ("model_info", (*here, "v3", "int8", DIGEST)): 1,
    }


def test_counters_add_up_and_a_failure_keeps_what_is_in_use() -> None:
    metrics = Metrics().with_snapshot(snapshot(figures=TransferStats(fetched=1000, retries=1)), NOW)
    metrics = metrics.with_snapshot(snapshot(), NOW + 30).with_snapshot(snapshot(), NOW + 60)
    metrics = metrics.with_failure("embedder", "current", NOW + 90)
    found = {name: value for (name, labels), value in parse(metrics.text(NOW + 100)).items() if len(labels) == 2}
    assert found == {
        "cache_hits_total": 2,
        "fetches_total": 4,
        "fetch_failures_total": 1,
        "fetch_retries_total": 1,
        "fetch_seconds": 0,
        "fetch_success": 0,
        "last_fetch_timestamp_seconds": NOW + 90,
        "last_success_timestamp_seconds": NOW + 60,
        "information_age_seconds": 40,
        "model_version": 3,
        "channel_generation": 7,
    }


def test_what_is_not_known_is_not_said() -> None:
    metrics = Metrics().with_snapshot(snapshot("pinned", None), NOW).with_failure("lost", "current", NOW)
    samples = parse(metrics.text(NOW))
    assert {name for name, labels in samples if labels[0] == "lost"} == {
        "cache_hits_total",
        "fetch_bytes_total",
        "fetch_failures_total",
        "fetch_retries_total",
        "fetch_success",
        "fetches_total",
        "last_fetch_timestamp_seconds",
    }
    assert ("channel_generation", ("pinned", "")) not in samples
    assert ("information_age_seconds", ("pinned", "")) not in samples
    assert samples["model_version", ("pinned", "")] == 3
    assert Metrics().text(NOW) == ""


def test_labels_are_escaped() -> None:
    strange = 'a"b\\n\nc\\'
    samples = parse(Metrics().with_snapshot(snapshot(channel=strange), NOW).text(NOW))
    assert samples["fetch_success", ("embedder", strange)] == 1


def test_the_order_does_not_depend_on_what_came_first() -> None:
    one, other = snapshot("a"), snapshot("b", None)
    first = Metrics().with_snapshot(one, NOW).with_snapshot(other, NOW)
    assert first.text(NOW) == Metrics().with_snapshot(other, NOW).with_snapshot(one, NOW).text(NOW)
    names = [line.split()[2] for line in first.text(NOW).splitlines() if line.startswith("# HELP")]
    assert names == sorted(names)


def test_a_file_is_replaced_at_once_and_readable_by_all(tmp_path: Path) -> None:
    file = tmp_path / "modeldrop.prom"
    metrics = Metrics().with_snapshot(snapshot(), NOW)
    before = os.umask(0o077)
    try:
        metrics.write(file, NOW)
        with file.open() as reader:
            metrics.with_failure("other", None, NOW).write(file, NOW)
            assert reader.read() == metrics.text(NOW)  # whoever had opened it reads the old text to its end
    finally:
        os.umask(before)
    assert file.read_text() == metrics.with_failure("other", None, NOW).text(NOW)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["modeldrop.prom"]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot be written to .*/nowhere/m\.prom: No such file or directory"):
        Metrics().write(tmp_path / "nowhere" / "m.prom", NOW)
    with pytest.raises(DiskError, match="it is no file"):
        Metrics().write(tmp_path, NOW)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DiskError, match="it is no file"):
        Metrics().write(pipe, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
