"""Bring versions to this disk, complete and verified, and print the folders they are in.

The folder printed never changes; the link named after the channel moves. Several models are fetched at once; if one
fails, the others are finished, and nothing is printed but the errors. With --all these are the models of
modeldrop.toml, each in the variant that its table [models.<name>.fetch] names.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Self

from modeldrop.commands.arguments import add_json, reference_argument
from modeldrop.commands.fetch_options import (
    ENVIRONMENT,
    add_fetch_options,
    fetch_settings,
    log_format,
    variant_is_given,
)
from modeldrop.config import load_config_file
from modeldrop.errors import ModeldropError, UsageError
from modeldrop.fetcher import events
from modeldrop.fetcher.display import open_display
from modeldrop.fetcher.fetch import fetch_with
from modeldrop.fetcher.options import AUTO, OFFLINE
from modeldrop.format.reference import Reference
from modeldrop.util.retry import jittered

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from modeldrop.commands.fetch_options import FetchSettings
    from modeldrop.fetcher.snapshot import Snapshot
    from modeldrop.util.progress import Display

_AT_ONCE = 2  # each may have a hundred megabytes in hand, and all the connections that a network needs
_STOP_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_fetch_options(parser, references="*")
    parser.add_argument("--all", action="store_true", help="all models of modeldrop.toml")
    add_json(parser)
    parser.epilog = ENVIRONMENT


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    with Reporting(arguments) as report:
        variants = _take_from_settings(arguments)
        references = [reference_argument(text) for text in arguments.references]
        snapshots = fetch_all(references, arguments, report.display, variants)
        if arguments.json:
            from modeldrop.commands.arguments import print_json

            print_json([snapshot.to_json() for snapshot in snapshots])
        else:
            for snapshot in snapshots:
                print(snapshot.path)
    return report.exit_code


class Reporting:
    """Opens the display that was asked for, and shows expected failures there, which end the ``with`` statement.

    Attributes:
        display: shows events.
        exit_code: of the error that was shown there; 0 if there was none.

    Raises:
        UsageError: there is no such display.
        ModeldropError: with ``--debug``, what failed.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.display = open_display(log_format(arguments), quiet=arguments.quiet)
        self.exit_code = 0
        self._debug = arguments.debug

    def __enter__(self) -> Self:
        self.display.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self.display.__exit__(kind, error, trace)
        if isinstance(error, ModeldropError):
            self.display.emit(events.failed_event("", error))
        if isinstance(error, ShownError):
            if self._debug:
                raise error.error
            error = error.error
        if not isinstance(error, ModeldropError):
            return False
        self.exit_code = error.exit_code
        return not self._debug


def _take_from_settings(arguments: argparse.Namespace) -> list[str]:
    """With ``--all``, make the models of modeldrop.toml the references; return the variant of each, or "".

    Raises:
        UsageError: references as well, or none at all.
        RecipeError: modeldrop.toml is wrong.
    """
    if not arguments.all:
        if not arguments.references:
            raise UsageError("No REFERENCE is named.", "Name one, such as ./models/embedder, or write --all.")
        return []
    if arguments.references:
        raise UsageError("--all and references exclude each other.", "Write one of them.")
    from modeldrop.model_settings import chosen_models, registries_of  # a container that names its models needs it not

    settings = load_config_file()
    models = chosen_models(settings)
    arguments.references = [
        str(Reference(registries_of(model, settings)[0], model.name, model.channel)) for model in models
    ]
    return [model.variant for model in models]


def fetch_all(
    references: Sequence[Reference], arguments: argparse.Namespace, display: Display, variants: Sequence[str] = ()
) -> list[Snapshot]:
    """Fetch the references at the same time; tell how far they are, and how they ended.

    Args:
        references: what to fetch.
        arguments: of the command line.
        display: where to tell.
        variants: of each reference, where neither the command line nor the environment names one; "" for none.

    Raises:
        UsageError: an invalid option.
        ShownError: one or several failed, and the display has said so.
    """
    settings = fetch_settings(arguments)
    if settings.start_jitter and settings.options.on_unavailable != OFFLINE:
        time.sleep(jittered(settings.start_jitter, 0))
    models = [reference.model for reference in references]
    labels = [
        text.rpartition("/")[2] if models.count(model) > 1 else model
        for model, text in zip(models, arguments.references, strict=True)
    ]
    options = [settings.options] * len(references)
    if variants and not variant_is_given(arguments):
        options = [settings.options._replace(variant=variant or AUTO) for variant in variants]
    stopped: list[bool] = []

    def one(index: int) -> Snapshot | ModeldropError:
        reference = references[index]
        display.emit(events.started(reference.model, arguments.references[index]))
        track = display.track(reference.model, labels[index], index)

        def progress(done: int, total: int) -> None:
            if stopped:
                raise KeyboardInterrupt
            track.progress(done, total)

        try:
            snapshot = fetch_with(
                reference,
                arguments.directory,
                options[index],
                progress=progress,
                on_wait=lambda text: display.emit(events.warned(reference.model, text)),
            )
        except ModeldropError as error:
            track.end()
            display.emit(events.failed_event(reference.model, error))
            return error
        track.end()
        for warning in snapshot.warnings:
            display.emit(events.warned(snapshot.model, warning))
        display.emit(events.done(snapshot))
        return snapshot

    count = len(references)
    results = [one(0)] if count == 1 else _at_once(one, count, stop=lambda: stopped.append(True))
    if settings.metrics:
        _write_metrics(settings, references, results, display)
    snapshots = [result for result in results if not isinstance(result, ModeldropError)]
    for result in results:
        if isinstance(result, ModeldropError):
            raise ShownError(result)
    return snapshots


class ShownError(Exception):
    """Something failed, and the display has said so."""

    def __init__(self, error: ModeldropError) -> None:
        super().__init__(error.message)
        self.error = error


def _at_once(
    one: Callable[[int], Snapshot | ModeldropError], count: int, *, stop: Callable[[], None]
) -> list[Snapshot | ModeldropError]:
    """Results by index, a few made at the same time. An interrupt, or a defect, stops them all."""
    import threading

    results: dict[int, Snapshot | ModeldropError] = {}
    defects: list[BaseException] = []
    waiting = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while not defects:
            with lock:
                index = next(waiting, None)
            if index is None:
                return
            try:
                results[index] = one(index)
            except BaseException as defect:  # noqa: BLE001  raised again below
                defects.append(defect)
                stop()

    # Daemons: what does not react to an interrupt within a while must not keep the process alive.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(count, _AT_ONCE))]
    started = []
    try:
        for thread in threads:
            with contextlib.suppress(RuntimeError):  # no more threads are to be had
                thread.start()
                started.append(thread)
        if not started:
            work()
        for thread in started:
            thread.join()
    except KeyboardInterrupt as interrupt:
        defects.append(interrupt)
        stop()
        end = time.monotonic() + _STOP_SECONDS
        for thread in started:
            thread.join(max(end - time.monotonic(), 0))
        raise
    if defects:
        raise defects[0]
    return [results[index] for index in range(count)]


def _write_metrics(
    settings: FetchSettings,
    references: Sequence[Reference],
    results: Sequence[Snapshot | ModeldropError],
    display: Display,
) -> None:
    """Best effort: the model is there, whether or not somebody counts."""
    from modeldrop.errors import DiskError
    from modeldrop.fetcher.prometheus import Metrics

    metrics, now = Metrics(), time.time()
    for reference, result in zip(references, results, strict=True):
        if isinstance(result, ModeldropError):
            metrics = metrics.with_failure(reference.model, reference.channel, now)
        else:
            metrics = metrics.with_snapshot(result, now)
    try:
        metrics.write(settings.metrics, now)
    except DiskError as error:
        display.emit(events.warned("", str(error)))
