"""The build: source → export → quantize → prove → measure → a folder that can be published."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.build.completeness import check_complete
from modeldrop.build.epoch import EXPORTER_EPOCH
from modeldrop.build.fidelity import judge
from modeldrop.build.files import describe_file
from modeldrop.build.layout import MODEL_PATHS
from modeldrop.build.onnx_versions import min_onnxruntime
from modeldrop.build.report import render
from modeldrop.build.tasks import architecture_of, choose_task, metrics_of
from modeldrop.build.texts import BUILT_IN, GOLDEN
from modeldrop.build.worker_process import run_worker
from modeldrop.errors import DiskError, RecipeError, SourceError
from modeldrop.format.manifest import (
    Golden,
    GoldenCase,
    Manifest,
    Original,
    Provenance,
    SourceInfo,
    Speed,
    Tensor,
    Variant,
    serialize_manifest,
)
from modeldrop.terminal import size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.build.request import BuildRequest
    from modeldrop.format.manifest import File
    from modeldrop.progress import Steps

STEPS = 5
"""How many steps of progress a build takes."""

_GOLDEN_CASES = 4
# fp32 graph, int8 graph, and the clean copies where they cannot be linked.
_DISK_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Checked:
    """A request whose source was looked at: it can be built for this task."""

    request: BuildRequest
    task: str
    architecture: str


def check(request: BuildRequest) -> Checked:
    """Everything that can be refused before slow work.

    Raises:
        SourceError, TaskError: the source cannot be built for the task asked for.
        RecipeError: a threshold on a metric that this task does not have: a gate that would never close.
    """
    config = request.source.config()
    if "rope_parameters" in config and "rope_theta" not in config:
        raise SourceError(
            "config.json has rope_parameters, as transformers 5 writes them. The exporter's transformers 4 would "
            "ignore them, and the model would answer wrongly without a word.",
            "Write the values back as rope_theta (and rope_scaling) into a copy of the checkpoint.",
        )
    task = choose_task(config, request.recipe.task, embedder=request.source.modules() is not None)
    metrics = metrics_of(config, task)
    for variant, limits in request.recipe.thresholds.items():
        for metric in limits:
            if metric not in metrics:
                raise RecipeError(
                    f"thresholds.{variant}.{metric}: this model's task, {task}, has no such metric.",
                    f"Its metrics are: {', '.join(metrics)}.",
                )
    return Checked(request, task, architecture_of(config))


def build(checked: Checked, output: Path, provenance: Provenance, steps: Steps) -> Manifest:
    """Build into ``output``, a folder that does not exist yet; it appears only when all is proven.

    Work in progress lies beside it, in ``.<name>.partial-…``, and is removed in any case.

    Raises:
        ModeldropError: see ``errors``: SourceError, TaskError, ExportError, FidelityError, IncompleteError,
            DiskError, MissingExtraError.
    """
    _check_disk(output.parent, checked.request.source.weight_bytes())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.partial-", dir=output.parent) as scratch:
            manifest = _build_in(checked, Path(scratch), provenance, steps)
            (Path(scratch) / "out").rename(output)
    except OSError as error:
        raise DiskError(
            f"Could not write the build into {output.parent}: {error.strerror or error}.",
            "Free some space there or name another folder; nothing was published.",
        ) from error
    return manifest


def _build_in(checked: Checked, scratch: Path, provenance: Provenance, steps: Steps) -> Manifest:
    request, recipe = checked.request, checked.request.recipe
    output = scratch / "out"
    output.mkdir()

    steps.start("source")
    source = request.source.materialize(scratch / "source", lambda name, done, total: steps.update(done, total, name))
    steps.finish(f"{request.source.spec}: {checked.architecture}, {size_text(request.source.weight_bytes())}")

    exported = _export(checked, source, scratch, steps)
    models = {name: MODEL_PATHS[name] for name in recipe.variants}
    external = {
        name: [f"{Path(models[name]).parent.as_posix()}/{file}" for file in graph["external"]]
        for name, graph in exported["graphs"].items()
    }
    check_complete(output, models.values(), [path for paths in external.values() for path in paths])
    files = _describe(output)
    graph_files = {*models.values(), *(path for paths in external.values() for path in paths)}
    shared = [file.path for file in files if file.path not in graph_files]
    variant_files = {name: sorted([*shared, models[name], *external[name]]) for name in models}

    proven = _prove(checked, output, scratch, variant_files, models, exported, steps)
    variants = []
    for name, model in models.items():
        measured, graph = proven["variants"][name], exported["graphs"][name]
        variants.append(
            Variant(
                name=name,
                model=model,
                files=tuple(variant_files[name]),
                opset=graph["opset"],
                ir_version=graph["ir_version"],
                min_onnxruntime=min_onnxruntime(graph["opset"], graph["ir_version"]),
                inputs=_tensors(graph["inputs"]),
                outputs=_tensors(graph["outputs"]),
                fidelity=judge(recipe, name, measured, request.texts),
                speed=Speed(*measured["speed"]),
            )
        )
    manifest = Manifest(
        build_key=request.key,
        epoch=EXPORTER_EPOCH,
        task=checked.task,
        architecture=checked.architecture,
        recipe=recipe,
        source=SourceInfo(
            request.source.identity,
            request.source.repository or "",
            request.source.commit or "",
            request.source.licence or "",
        ),
        provenance=provenance,
        toolchain=exported["toolchain"],
        machine=_machine(),
        files=files,
        variants=tuple(variants),
        original=Original(exported["framework"], request.source.weight_bytes(), Speed(*exported["speed"])),
        golden=Golden(
            exported["output_name"],
            tuple(
                GoldenCase(
                    case["text"],
                    {key: tuple(ids) for key, ids in case["inputs"].items()},
                    tuple(case["values"]),
                )
                for case in proven["golden"]
            ),
            {name: measured["golden"] for name, measured in proven["variants"].items()},
        ),
        labels=tuple(exported["labels"]),
        max_length=exported["max_length"],
    )
    (output / "report.html").write_bytes(render(manifest))
    (output / "manifest.json").write_bytes(serialize_manifest(manifest))
    return manifest


def _export(checked: Checked, source: Path, scratch: Path, steps: Steps) -> dict[str, Any]:
    recipe, output = checked.request.recipe, scratch / "out"
    steps.start("export")

    def on_event(event: dict[str, Any]) -> None:
        if event.get("step") == "quantize":
            steps.finish(f"ONNX for {checked.task}")
            steps.start("quantize" if "int8" in recipe.variants else "answers")
        elif "done" in event:
            steps.update(event["done"], event["total"], "answers of the original")

    exported = run_worker(
        "export",
        {
            "source": str(source),
            "output": str(output),
            "reference": str(scratch / "reference.npz"),
            "task": checked.task,
            "variants": list(recipe.variants),
            "texts": list(checked.request.texts),
            "max_length": recipe.max_length,
            "allow_pickle": recipe.allow_pickle,
            "trust_remote_code": recipe.trust_remote_code,
        },
        scratch,
        on_event,
        python=os.environ.get("MODELDROP_EXPORTER_PYTHON") or sys.executable,
    )
    sizes = {name: _graph_bytes(output / MODEL_PATHS[name]) for name in recipe.variants}
    steps.finish(", ".join(f"{name} {size_text(size)}" for name, size in sizes.items()))
    return exported


def _prove(
    checked: Checked,
    output: Path,
    scratch: Path,
    variant_files: Mapping[str, list[str]],
    models: Mapping[str, str],
    exported: Mapping[str, Any],
    steps: Steps,
) -> dict[str, Any]:
    texts = checked.request.texts
    for name, paths in variant_files.items():
        _clean_copy(output, scratch / f"clean-{name}", paths)
    golden = list(GOLDEN) if texts is BUILT_IN else list(range(min(_GOLDEN_CASES, len(texts))))

    def on_event(event: dict[str, Any]) -> None:
        if event.get("step") == "measure":
            steps.finish(f"{len(texts)} texts, in a clean folder, without torch or transformers")
            steps.start("measure")
        elif "done" in event:
            steps.update(event["done"], event["total"])

    steps.start("prove")
    proven = run_worker(
        "verify",
        {
            "variants": {
                name: {"folder": str(scratch / f"clean-{name}"), "model": model} for name, model in models.items()
            },
            "reference": str(scratch / "reference.npz"),
            "output_name": exported["output_name"],
            "classifies": checked.task != "feature-extraction",
            "texts": list(texts),
            "golden": golden,
        },
        scratch,
        on_event,
    )
    speeds = {"PyTorch": exported["speed"]} | {name: measured["speed"] for name, measured in proven["variants"].items()}
    steps.finish(", ".join(f"{name} {one:.1f}/{batch:.0f} ms" for name, (one, batch) in speeds.items()))
    return proven


def _clean_copy(output: Path, target: Path, paths: list[str]) -> None:
    for path in paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(output / path, target / path)
        except OSError:
            shutil.copyfile(output / path, target / path)


def _describe(output: Path) -> tuple[File, ...]:
    paths = sorted(path for path in output.rglob("*") if path.is_file())
    return tuple(describe_file(output, path) for path in paths)


def _tensors(plain: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(item["name"], item["dtype"], tuple(item["shape"])) for item in plain)


def _graph_bytes(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def _check_disk(folder: Path, weight_bytes: int) -> None:
    need = int(weight_bytes * _DISK_FACTOR) + (16 << 20)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise DiskError(
            f"{folder} has {size_text(free)} free; building this model needs about {size_text(need)}.",
            "Free some space, or set TMPDIR to a larger disk.",
        )


def _machine() -> str:
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
        name = f"{model} ({name})" if model else name
    return f"{name}, {os.cpu_count()} CPUs, {platform.system()}"
