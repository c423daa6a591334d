"""From a loaded model to what a build needs of it: graphs, side files, the original's answers, and its speed.

What every worker does that has an original, whatever loads it.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modeldrop.export.environments.exporters import is_made
from modeldrop.export.messages import ExportAnswer, ExportRequest, OpenVinoTokenizer
from modeldrop.export.models.shared.loaded_model import LoadedModel
from modeldrop.export.models.shared.reference import ReferenceRuns
from modeldrop.export.models.shared.timing import median_ms
from modeldrop.export.workers.protocol import Events


def record(
    model: LoadedModel,
    request: ExportRequest,
    events: Events,
    *,
    framework: Callable[[], str],
    libraries: Iterable[str],
    extras: Iterable[str],
    tokenize: Callable[[ExportRequest], OpenVinoTokenizer] = lambda _: OpenVinoTokenizer(),
    before_answers: Callable[[], None] = lambda: None,
) -> ExportAnswer:
    """Export a model, and ask it everything. The graphs are complete when the step ``answers`` begins.

    Args:
        model: as it was loaded.
        request: what is asked.
        events: to tell the parent how far it is.
        framework: what the original is run by; asked when it has answered.
        libraries: those that did the work.
        extras: of modeldrop, which brought them.
        tokenize: makes the tokenizer's form for OpenVINO.
        before_answers: called before the answers where variants are made beside them.
    """
    events.step("export")
    model.export(request.output)
    model.save_side_files(request.output)
    tokenizer = tokenize(request)
    timed = model.timed_runs(request.samples)
    one, batch = (median_ms(each.original) for each in timed)
    events.step("answers")
    if request.beside:
        before_answers()
    runs = []
    for run in model.runs(request.samples):
        runs.append(run)
        events.progress(len(runs), max(len(request.samples), len(runs)))
    golden = model.golden_runs(runs, request.golden)
    ReferenceRuns(runs, golden, [each.run for each in timed]).save(request.reference)
    return ExportAnswer(
        labels=tuple(model.labels),
        columns=model.columns,
        max_length=model.max_length,
        embedding=model.embedding(runs),
        framework=framework(),
        speed=(one, batch),
        weight_bytes=model.weight_bytes,
        openvino_tokenizer=tokenizer,
        environment=_installed("modeldrop", extras),
        toolchain={"python": platform.python_version()}
        | {library: importlib.metadata.version(library) for library in (*libraries, *tokenizer.made_by)},
    )


def _installed(package: str, extras: Iterable[str] = ()) -> dict[str, str]:
    """Releases by name of what a package and its extras require, and what that requires, as far as it is installed.

    Nothing else that is installed here is recorded: its names may be a company's own business.
    """
    if is_made(sys.executable):  # which holds nothing else, and no modeldrop that would say what it requires
        return dict(sorted((canonicalize_name(one.name), one.version) for one in importlib.metadata.distributions()))
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    left = [(package, extra) for extra in ("", *extras)]
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = distribution.version
        for line in distribution.requires or ():
            if not extra and "extra ==" in line and " or " not in line:
                continue  # of most packages nearly all lines, and to parse them takes as long as a small export
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(needed.name), more) for more in ("", *needed.extras)]
    return dict(sorted(found.items()))
