"""Assemble the manifest of a build from the answers of the workers."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from modeldrop.export.messages import ExportAnswer, MadeVariants, VerifyAnswer
from modeldrop.export.onnxruntime_releases import min_onnxruntime
from modeldrop.export.preflight.checks import CheckedRequest
from modeldrop.export.request import EXPORTER_EPOCH
from modeldrop.export.thresholds import Judged
from modeldrop.format.golden import GOLDEN
from modeldrop.format.json_fields import Fields
from modeldrop.format.manifest import (
    File,
    Graph,
    Manifest,
    OriginalModel,
    Provenance,
    SourceInfo,
    Speed,
    Variant,
)
from modeldrop.format.variants import OPENVINO, VARIANTS


def assemble(
    checked: CheckedRequest,
    exported: ExportAnswer,
    made: MadeVariants,
    proven: VerifyAnswer,
    judged: Judged,
    *,
    files: tuple[File, ...],
    variant_files: Mapping[str, list[str]],
    provenance: Provenance,
) -> Manifest:
    """The manifest.

    Args:
        checked: what was asked.
        exported: what the worker answered that has the original.
        made: what those answered that made the variants.
        proven: what the one answered that compared them.
        judged: what came of that.
        files: of the version.
        variant_files: paths of the files that each variant needs.
        provenance: who builds, and when.
    """
    request, recipe = checked.request, checked.request.recipe
    paths = {name: VARIANTS[name].graphs(checked.graphs) for name in judged.faithful}
    variants = []
    for name, fidelity in judged.faithful.items():
        measured = proven.variants[name]
        graphs = made.graphs[name]
        first, *others = paths[name]
        opset = max(graph.opset for graph in graphs.values())
        ir_version = max(graph.ir_version for graph in graphs.values())
        operators = {operator for graph in graphs.values() for operator in graph.operators}
        variants.append(
            Variant(
                name=name,
                model=paths[name][first],
                files=tuple(variant_files[name]),
                opset=opset,
                ir_version=ir_version,
                # OpenVINO's graphs are of no onnxruntime.
                min_onnxruntime=""
                if VARIANTS[name].quantizer == OPENVINO
                else min_onnxruntime(opset, ir_version, operators),
                inputs=tuple(tensor._replace(columns=exported.columns) for tensor in graphs[first].inputs),
                outputs=graphs[first].outputs,
                fidelity=fidelity,
                speed=Speed(*measured.speed),
                role=first,
                others=tuple(
                    Graph(role, paths[name][role], graphs[role].inputs, graphs[role].outputs) for role in others
                ),
                search=made.searches.get(name, ()),
            )
        )
    golden = GOLDEN.read(Fields(proven.golden, "golden"))
    return Manifest(
        build_key=request.key,
        epoch=EXPORTER_EPOCH,
        task=checked.task,
        architecture=checked.architecture,
        recipe=recipe.without_folders(),
        source=SourceInfo(
            identity=request.source.identity,
            repository=request.source.repository or "",
            commit=request.source.commit or "",
            licence=request.source.licence or "",
            gated=request.source.gated,
            left_out=request.source.left_out,
        ),
        provenance=provenance,
        toolchain={**exported.toolchain, **made.toolchain},
        environment=exported.environment,
        machine=_machine(),
        files=files,
        variants=tuple(variants),
        original=OriginalModel(
            exported.framework,
            exported.weight_bytes or request.source.weight_bytes(),
            Speed(*exported.speed),
            proven.original_metrics,
        ),
        golden=golden._replace(
            metrics={name: measured.golden for name, measured in proven.variants.items() if name in judged.faithful}
        ),
        labels=exported.labels,
        max_length=exported.max_length,
        embedding=exported.embedding,
        problem=checked.problem,
        dropped={**made.dropped, **judged.missed},
        exporter=request.exporter if request.source.worker == "export" else "",
    )


def _machine() -> str:
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
        name = f"{model} ({name})" if model else name
    return f"{name}, {os.cpu_count()} CPUs, {platform.system()}"
