"""The recipe's own metric, loaded and called: only ever in a worker, which can sign in nowhere.

Runs as ``python -m modeldrop.export.workers.own_metric REQUEST`` to see early whether it can be loaded; the request is
an ``OwnMetric``, and there is no answer.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from modeldrop.errors import RecipeError
from modeldrop.export.messages import Comparison
from modeldrop.export.models.shared.own_code import run_file
from modeldrop.export.own_metric import OwnMetric
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.names import OWN_NAME
from modeldrop.format.recipe import METRICS
from modeldrop.inference.runs import ModelRun
from modeldrop.util.text import first_line

_CALLED = "It is called as metric(original, variant, samples) and gives a number, or a dict of numbers by name"
_HINT = f"{_CALLED}; --debug shows its traceback."
_MOST_FIGURES = 32
_SECONDS = 1800.0


class OwnMeasure:
    """An own metric that is loaded.

    ``original`` is what it gives of the original itself.

    Args:
        metric: where it is.
        samples: the model's inputs, as the metric gets them.
        expected: the original's answers, by input: arrays, of a generic model by output; () to load the metric and
            not call it.
        seconds: how long a call may take.

    Raises:
        RecipeError: it cannot be loaded, or not be called with three arguments; or see ``of``.
    """

    def __init__(
        self,
        metric: OwnMetric,
        samples: Sequence[Mapping[str, Any]] = (),
        expected: Sequence[Any] = (),
        seconds: float = _SECONDS,
    ) -> None:
        self._spelled, self._name = metric.spelled, metric.function
        self._samples = samples
        self._expected = expected
        self._seconds = seconds
        self.original: dict[str, float] = {}
        with self._explained("cannot be loaded"):
            self._function = getattr(_module(metric), self._name)
            inspect.signature(self._function).bind(None, None, None)
        if expected:
            self.original = self.of(expected, "the original")

    def of(self, answers: Sequence[Any], whose: str) -> dict[str, float]:
        """What it measures.

        Args:
            answers: of the same shapes as the original's.
            whose: the variant's name, for messages.

        Raises:
            RecipeError: it fails, takes too long, gives something else than numbers, or others than of the original.
        """
        # Copies: what it does to them must not reach what is compared next.
        mine, its = ([_copied(one) for one in side] for side in (self._expected, answers))
        with self._explained(f"failed on the answers of {whose}"), _limit(self._seconds):
            given = self._function(mine, its, [dict(sample) for sample in self._samples])
        figures = given if isinstance(given, Mapping) else {self._name: given}
        if not 1 <= len(figures) <= _MOST_FIGURES:
            self._refuse(f"gave {len(figures)} figures for {whose}; between 1 and {_MOST_FIGURES} are kept")
        found = {self._known(name): self._number(name, value, whose) for name, value in figures.items()}
        if self.original and found.keys() != self.original.keys():
            self._refuse(f"gave {_listed(found)} for {whose}, and {_listed(self.original)} for the original")
        return found

    def _known(self, name: object) -> str:
        if not isinstance(name, str) or not OWN_NAME.fullmatch(name):
            self._refuse(f"named a figure {name!r:.80}; names are made of ASCII letters, digits and underscores")
        if name in METRICS:
            self._refuse(f"named a figure {name}, as one of modeldrop's own is called")
        return str(name)

    def _number(self, name: object, value: object, whose: str) -> float:
        real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not real or not math.isfinite(value):  # type: ignore[arg-type]
            self._refuse(f"gave {value!r:.80} as {name} of {whose}, which is not a finite number")
        return float(f"{float(value):.10g}")  # type: ignore[arg-type]

    def _refuse(self, what: str) -> NoReturn:
        raise RecipeError(f"metric: {self._spelled} {what}.", f"{_CALLED}.")

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        # SystemExit: a script that was not meant to be imported.
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise RecipeError(f"metric: {self._spelled} {what}: {said}", _HINT) from error


def own_measure(comparison: Comparison, proof: Sequence[ModelRun]) -> OwnMeasure | None:
    """The recipe's own metric, if it has one, with its figures of the original.

    Raises:
        RecipeError: see ``OwnMeasure``.
    """
    if comparison.metric is None:
        return None
    samples = comparison.samples or [run.fields or {"name": run.text} for run in proof]
    return OwnMeasure(comparison.metric, samples, [run.answer.named or run.answer.values for run in proof])


def _copied(answer: Any) -> Any:
    return (
        {name: np.array(array) for name, array in answer.items()} if isinstance(answer, Mapping) else np.array(answer)
    )


def _listed(figures: Mapping[str, float]) -> str:
    return ", ".join(sorted(figures))


def _module(metric: OwnMetric) -> ModuleType:
    return importlib.import_module(metric.module) if metric.module else run_file(metric.file)


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"it had no answer within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def work(metric: OwnMetric, _: Events) -> None:
    """Load it, and nothing else."""
    OwnMeasure(metric)


if __name__ == "__main__":
    serve(work, OwnMetric)
