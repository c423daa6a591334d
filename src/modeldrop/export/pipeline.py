"""The build: source → export → quantize → prove → measure → a folder that can be published."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from modeldrop.errors import DiskError, ModeldropError
from modeldrop.export.exporter_choice import find_interpreter
from modeldrop.export.graph_files import graph_bytes, remove_graph
from modeldrop.export.manifest import assemble
from modeldrop.export.messages import (
    Checkpoint,
    Comparison,
    ExportAnswer,
    ExportRequest,
    GenericSettings,
    MadeVariants,
    QuantizeRequest,
    ReportRequest,
    SearchRequest,
    VariantFolder,
    VerifyAnswer,
    VerifyRequest,
    WorkerEvent,
)
from modeldrop.export.preflight.checks import CheckedRequest, check_request
from modeldrop.export.preflight.files import TOKENIZER, check_complete
from modeldrop.export.preflight.inputs import check_rates
from modeldrop.export.preflight.resources import check_one_file, check_resources, makes_beside, needs
from modeldrop.export.thresholds import Judged, check_sizes, check_speeds, judge_all
from modeldrop.export.worker_process import Worker, run_worker
from modeldrop.format.manifest import Manifest, Provenance, serialize_manifest
from modeldrop.format.recipe import METRICS, Threshold
from modeldrop.format.variants import OPENVINO, VARIANTS
from modeldrop.storage.digests import describe_file
from modeldrop.util.progress import Steps
from modeldrop.util.text import latencies_text, size_text

__all__ = ["STEPS", "CheckedRequest", "build", "check_request"]

_DATA_SUFFIX = "_data"

STEPS = 5
"""How many steps of progress a build takes."""
_REFERENCE = "reference.npz"


def build(checked: CheckedRequest, output: Path, provenance: Provenance, steps: Steps) -> Manifest:
    """Build into ``output``, a folder that does not exist yet; it appears only when every variant is verified.

    Work in progress lies beside it, in ``.<name>.partial-…``, and is removed in any case.

    Raises:
        ModeldropError: see ``errors``: SourceError, TaskError, ExportError, FidelityError, IncompleteError,
            DiskError, MissingExtraError.
    """
    python = find_interpreter(checked.request.source, checked.request.exporter)
    check_one_file(checked)
    check_resources(needs(checked), output.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.partial-", dir=output.parent) as scratch:
            manifest = _build_in(checked, Path(scratch), provenance, steps, python)
            (Path(scratch) / "out").rename(output)
    except OSError as error:
        raise DiskError(
            f"Could not write the build into {output.parent}: {error.strerror or error}.",
            "Free some space there or name another folder; nothing was published.",
        ) from error
    return manifest


def _build_in(checked: CheckedRequest, scratch: Path, provenance: Provenance, steps: Steps, python: str) -> Manifest:
    request = checked.request
    output = scratch / "out"
    output.mkdir()

    steps.start("source")
    if request.metric is not None:  # what cannot be loaded is said before the download
        run_worker("own_metric", request.metric, type(None), scratch, lambda _: None, python=python)
    source = request.source.materialize(scratch / "source", lambda name, done, total: steps.update(done, total, name))
    left_out = ", ".join(request.source.left_out)
    size = request.source.weight_bytes()
    steps.finish(
        f"{request.source.spec}: {checked.architecture}"
        + (f", {size_text(size)}" if size else "")
        + (f"; in no graph: {left_out}" if left_out else "")
    )

    check_rates(checked.samples, source)
    exported, made = _export(checked, source, scratch, steps, python)
    paths = {name: VARIANTS[name].graphs(checked.graphs) for name in made.graphs}
    own_files = {
        name: [
            *paths[name].values(),
            *(
                (Path(paths[name][role]).parent / file).as_posix()
                for role, graph in made.graphs[name].items()
                for file in graph.external
            ),
            *(exported.openvino_tokenizer.files if VARIANTS[name].quantizer == OPENVINO else ()),
        ]
        for name in paths
    }
    every_file = {path for own in own_files.values() for path in own}
    plain = paths.get("fp32", {}).values() if len(paths) > 1 else ()
    flag_external_data(output, every_file, {PurePosixPath(path).name for path in plain})
    check_complete(output, checked.needed, every_file)
    shared = sorted(set(_files(output)) - every_file)
    variant_files = {name: sorted([*shared, *own]) for name, own in own_files.items()}

    proven = _prove(checked, scratch, variant_files, paths, steps, python)
    judged = _judge(checked, exported, made, proven, steps)
    variant_files = {name: files for name, files in variant_files.items() if name in judged.faithful}
    for path in set(_files(output)).difference(*variant_files.values()):
        (output / path).unlink()
    manifest = assemble(
        checked,
        exported,
        made,
        proven,
        judged,
        files=tuple(describe_file(output, output / path) for path in _files(output)),
        variant_files=variant_files,
        provenance=provenance,
    )
    (output / "manifest.json").write_bytes(serialize_manifest(manifest))
    run_worker("report", ReportRequest(output), type(None), scratch, lambda _: None, python=python)
    # Some libraries write for the owner alone, and the umask is the builder's: a version is the same everywhere.
    for path in _files(output):
        (output / path).chmod(0o644)
    return manifest


def _export(
    checked: CheckedRequest, source: Path, scratch: Path, steps: Steps, python: str
) -> tuple[ExportAnswer, MadeVariants]:
    """Export and quantize."""
    recipe, origin, output = checked.request.recipe, checked.origin, scratch / "out"
    searched = tuple(name for name in recipe.variants if name in recipe.options and recipe.options[name].auto)
    to_make = QuantizeRequest(
        output=output,
        roles=checked.graphs,
        origin=origin.name,
        variants=tuple(name for name in recipe.variants if name not in searched),
        optional=checked.request.optional,
        keep={name: options.keep_layers for name, options in recipe.options.items()},
        calibration=None if recipe.calibration is None else Path(recipe.calibration).resolve(),
        external_data=recipe.external_data,
        ready=checked.request.source.worker != "export" and not checked.request.source.framework_file,
    )
    to_export = ExportRequest(
        checkpoint=Checkpoint(
            folder=source,
            task=checked.task,
            max_length=recipe.max_length,
            truncate_dim=recipe.truncate_dim,
            opset=recipe.opset,
            allow_pickle=recipe.allow_pickle,
            trust_remote_code=recipe.trust_remote_code,
            exporter=checked.request.exporter,
        ),
        output=output,
        reference=scratch / _REFERENCE,
        samples=checked.samples,
        golden=checked.golden,
        openvino=any(VARIANTS[name].quantizer == OPENVINO for name in recipe.variants),
        beside=makes_beside(checked),
        generic=_generic_model(checked),
    )
    steps.start("export")
    with contextlib.ExitStack() as processes:
        making: list[Worker[MadeVariants]] = []

        def make_variants() -> None:
            making.append(processes.enter_context(Worker("quantize", to_make, MadeVariants, scratch, python=python)))

        def on_event(event: WorkerEvent) -> None:
            if event.step == "answers":
                steps.finish(f"{'OpenVINO' if origin.quantizer == OPENVINO else 'ONNX'} for {checked.task}")
                steps.start("quantize" if recipe.variants != (origin.name,) else "answers")
                if to_export.beside:
                    make_variants()
            elif event.total:
                steps.update(event.done, event.total, "answers of the original")

        worker = checked.request.source.worker
        exported = run_worker(worker, to_export, ExportAnswer, scratch, on_event, python=python)
        if not making:
            make_variants()
        made = making[0].result(lambda event: steps.update(event.done, event.total, "of the variants"))
    if searched:
        made = _search(checked, searched, to_make, scratch, steps, made, python)
    origin_bytes = sum(graph_bytes(output / origin.path(role)) for role in checked.graphs)
    if origin.name not in recipe.variants:
        for role in checked.graphs:
            remove_graph(output / origin.path(role))
    sizes = {
        name: sum(graph_bytes(output / path) for path in VARIANTS[name].graphs(checked.graphs).values())
        for name in made.graphs
    }
    lacks = exported.openvino_tokenizer.lacks
    steps.finish(
        ", ".join(f"{name} {size_text(size)}" for name, size in sizes.items()) + (f"; no {lacks}" if lacks else "")
    )
    check_sizes(recipe.options, sizes, origin_bytes, origin.name)
    return exported, made


def _generic_model(checked: CheckedRequest) -> GenericSettings | None:
    source, recipe = checked.request.source, checked.request.recipe
    if not source.framework:
        return None
    return GenericSettings(
        framework=source.framework,
        file=source.framework_file,
        function=source.function,
        state_dict=None if recipe.state_dict is None else Path(recipe.state_dict).resolve(),
        dynamic_shapes=recipe.dynamic_shapes,
        roles=source.roles,
        variant=checked.origin.name,
        inputs=None if recipe.inputs is None else Path(recipe.inputs).resolve(),
        further=recipe.metric is not None,
    )


def _search(
    checked: CheckedRequest,
    names: tuple[str, ...],
    to_make: QuantizeRequest,
    scratch: Path,
    steps: Steps,
    made: MadeVariants,
    python: str,
) -> MadeVariants:
    """Search for the smallest variants; ``made`` with them, in the recipe's order."""
    recipe = checked.request.recipe
    thresholds = {
        name: {
            metric: Threshold(side, number)
            for metric, side in METRICS.items()
            if (number := recipe.threshold(name, metric)) is not None
        }
        for name in names
    }
    request = SearchRequest(
        output=to_make.output,
        roles=to_make.roles,
        variants=names,
        keep=to_make.keep,
        thresholds={name: {**own, **recipe.own_thresholds.get(name, {})} for name, own in thresholds.items()},
        external_data=recipe.external_data,
        comparison=_comparison(checked, scratch),
    )

    def on_event(event: WorkerEvent) -> None:
        if event.total:
            steps.update(event.done, event.total, "of the search")

    found = run_worker("search", request, MadeVariants, scratch, on_event, python=python)
    graphs = {**made.graphs, **found.graphs}
    in_order = {name: graphs[name] for name in recipe.variants if name in graphs}
    return MadeVariants(in_order, made.toolchain, found.searches, made.dropped)


def _prove(
    checked: CheckedRequest,
    scratch: Path,
    variant_files: Mapping[str, list[str]],
    paths: Mapping[str, Mapping[str, str]],
    steps: Steps,
    python: str,
) -> VerifyAnswer:
    folders = {name: VariantFolder(scratch / f"clean-{name}", graphs) for name, graphs in paths.items()}
    for name, files in variant_files.items():
        _clean_copy(scratch / "out", folders[name].folder, files)
    inputs = 0

    def on_event(event: WorkerEvent) -> None:
        nonlocal inputs
        inputs = event.inputs or inputs
        if event.step == "measure":
            steps.finish(f"{inputs} inputs, in a clean folder, without torch or transformers")
            steps.start("measure")
        elif event.total:
            steps.update(event.done, event.total)

    steps.start("prove")
    request = VerifyRequest(folders, _comparison(checked, scratch))
    return run_worker("verify", request, VerifyAnswer, scratch, on_event, python=python)


def _judge(
    checked: CheckedRequest, exported: ExportAnswer, made: MadeVariants, proven: VerifyAnswer, steps: Steps
) -> Judged:
    speeds = {name: measured.speed for name, measured in proven.variants.items()}
    shown = {exported.framework.partition(" ")[0]: exported.speed} | speeds
    measured = ", ".join(f"{name} {latencies_text(*speed)}" for name, speed in shown.items())
    try:
        check_speeds(checked.request.recipe.options, speeds, speeds.get(checked.origin.name, ()))
        judged = judge_all(checked.request, proven)
    except ModeldropError:
        steps.finish(measured)
        raise
    dropped = "; ".join({**made.dropped, **judged.missed}.values())
    steps.finish(measured + (f"; not built: {dropped}" if dropped else ""))
    return judged


def _comparison(checked: CheckedRequest, scratch: Path) -> Comparison:
    return Comparison(
        reference=scratch / _REFERENCE,
        task=checked.task,
        problem=checked.problem,
        texts=TOKENIZER in checked.needed,
        metric=checked.request.metric,
        samples=tuple(sample.fields for sample in checked.samples),
    )


def _clean_copy(output: Path, target: Path, paths: list[str]) -> None:
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(output / path, target / path)
        except OSError:
            shutil.copyfile(output / path, target / path)


def _files(output: Path) -> list[str]:
    return [path.relative_to(output).as_posix() for path in sorted(output.rglob("*")) if path.is_file()]


def flag_external_data(output: Path, files: Iterable[str], plain: Collection[str] = ()) -> None:
    """Name the graphs whose weights are in files of their own in config.json: transformers.js downloads no others.

    Args:
        output: the version's folder.
        files: paths of the graphs and of the files that hold their weights.
        plain: names that are not said: whoever fetches a variant ``--for transformers.js`` gets its graphs under them,
            and the file of their weights under its own name. In Node such a file is found by the graph.
    """
    names = {PurePosixPath(path).name for path in files}
    flags = {
        graph: 1
        for name in sorted(names)
        if (graph := name.removesuffix(_DATA_SUFFIX)) != name and graph.endswith(".onnx") and graph not in plain
    }
    path = output / "config.json"
    if not flags or not path.is_file():  # a generic model has none, and transformers.js does not load it
        return
    config = json.loads(path.read_text("utf-8"))
    own = config.setdefault("transformers.js_config", {})
    own["use_external_data_format"] = flags
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
