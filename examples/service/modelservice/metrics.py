"""Figures for Prometheus: what was counted, and at every scrape what is there."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from .loading import MODEL
from .models import Models

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The figures of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.inference = Histogram(
            "service_inference_seconds",
            "Seconds that a model, or the rules, took to answer a request.",
            ("task", "kind"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.running = Gauge(
            "service_inferences_running", "Requests that a model is at work on.", ("task",), registry=self._registry
        )
        self._swaps = Counter(
            "service_swaps", "Models that were to be replaced.", ("task", "outcome"), registry=self._registry
        )

    def swapped(self, task: str, well: bool) -> None:  # noqa: FBT001
        """Count a replacement."""
        self._swaps.labels(task, "done" if well else "refused").inc()

    def show(self, models: Models) -> None:
        """Tell of these models at every scrape."""
        self._registry.register(_Present(models))

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)


class _Present(Collector):
    """What is there now: a model that was replaced leaves no figures behind."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily("service_model", "What answers a task.", labels=("task",))
        gauges = {
            name: GaugeMetricFamily(f"service_model_{name}", text, labels=("task",))
            for name, text in (
                ("degraded", "1 where a smaller model or rules answer."),
                ("generation", "The channel's generation when the model was fetched."),
                ("age_seconds", "Seconds since the registry last said that this is the model."),
                ("fetch_seconds", "Seconds that fetching took; next to nothing where it was there."),
                ("fetch_bytes", "Bytes that came from the registry."),
                ("load_seconds", "Seconds that opening the model took."),
            )
        }
        for task, slot in self._models.slots.items():
            serving = slot.serving
            if serving is None:
                continue
            said = {name: str(value) for name, value in serving.describe().items() if name != "generation"}
            info.add_metric((task,), {**said, "backend": serving.backend})
            values: dict[str, float | None] = {"degraded": serving.kind != MODEL, "age_seconds": slot.age()}
            if serving.snapshot is not None:
                values |= {
                    "generation": serving.snapshot.generation,
                    "fetch_seconds": serving.snapshot.figures.seconds,
                    "fetch_bytes": serving.snapshot.figures.fetched,
                    "load_seconds": serving.load_seconds,
                }
            for name, value in values.items():
                if value is not None:
                    gauges[name].add_metric((task,), value)
        yield info
        yield from gauges.values()
