"""Refuse a build that needs more memory or disk than there is: one killed after an hour does not say why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modeldrop.errors import DiskError, ExportError, RecipeError
from modeldrop.export.graph_files import ONE_FILE
from modeldrop.export.known_failures import NO_MEMORY
from modeldrop.export.preflight.checks import CheckedRequest
from modeldrop.export.preflight.openvino_source import origin_of
from modeldrop.format.variants import FP32, OPENVINO, OPTIMIZED, STATIC, VARIANTS, VariantSpec
from modeldrop.util.text import size_text

# Memory besides the libraries', in times of the weights in fp32, as measured on a model of 568 million parameters.
_EXPORTING = 2.6
_MAKING: Mapping[str, float] = {
    "half": 2.5,
    "dynamic": 2.3,
    "weight_only": 1.9,
    OPENVINO: 2.2,
    STATIC: 3.0,
    OPTIMIZED: 3.5,
}
_LIBRARIES = 500_000_000
# Disk: while a graph over 2 GB is exported, its weights are there twice. The clean copies that are verified are links.
_EXPORTED_TWICE = 2.0
_SMALL_FILES = 16 << 20
_HALF = ("float16", "bfloat16")
# Up to here, variants are made while PyTorch still answers: it is faster, and needs the memory of both.
_BESIDE = 500_000_000
_MEMINFO = Path("/proc/meminfo")
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class ResourceNeeds:
    """What a build takes at most, in bytes."""

    memory: int
    disk: int


def needs(checked: CheckedRequest) -> ResourceNeeds:
    """What building this takes, by what was measured."""
    source = checked.request.source
    weights, origin, fp32 = _weight_bytes(checked), origin_of(source), _fp32_bytes(checked)
    others = [VARIANTS[name] for name in checked.request.recipe.variants if name != origin.name]
    making = max((_MAKING[spec.quantizer] for spec in others), default=0.0)
    times = _EXPORTING + making if makes_beside(checked) else max(_EXPORTING, making)
    kept = 1 + sum(_share(spec) for spec in others)
    return ResourceNeeds(
        memory=int(fp32 * times) + _LIBRARIES,
        disk=int(weights + fp32 * max(kept, _EXPORTED_TWICE)) + _SMALL_FILES,
    )


def check_one_file(checked: CheckedRequest) -> None:
    """Refuse graphs in one file that none can hold.

    Raises:
        RecipeError: the recipe asks for such a variant; says which.
    """
    recipe = checked.request.recipe
    if recipe.external_data != "never":
        return
    fp32 = _fp32_bytes(checked)
    for spec in (VARIANTS[name] for name in recipe.variants):
        size = fp32 * (_share(spec) if spec.quantizer else 1.0)
        # How small the others become shows when they are made.
        if spec.quantizer in {"", "half", OPTIMIZED} and size > ONE_FILE:
            raise RecipeError(
                f"external_data: {spec.name} of this model has about {size_text(int(size))} of weights, and one file "
                f"of ONNX holds at most {size_text(ONE_FILE)}.",
                f'Write external_data = "auto", or leave {spec.name} out of the variants.',
            )


def _weight_bytes(checked: CheckedRequest) -> int:
    state_dict = checked.request.recipe.state_dict
    return checked.request.source.weight_bytes() + (0 if state_dict is None else Path(state_dict).stat().st_size)


def _fp32_bytes(checked: CheckedRequest) -> int:
    """Bytes of the weights in fp32, by the source's configuration."""
    source = checked.request.source
    origin, config = origin_of(source), source.config()
    half = (
        (config.get("dtype") or config.get("torch_dtype")) in _HALF
        if origin is FP32
        else origin.options.get("bits") == 16
    )
    return _weight_bytes(checked) * (2 if half else 1)


def makes_beside(checked: CheckedRequest) -> bool:
    """Whether the model is so small that variants are made while the original still answers."""
    return checked.request.source.weight_bytes() < _BESIDE


def check_resources(need: ResourceNeeds, folder: Path) -> None:
    """Refuse to begin where there is less.

    Raises:
        DiskError, ExportError: says how much there is of disk or memory, and how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < need.disk:
        raise DiskError(
            f"{folder} has {size_text(free)} free; building this model needs about {size_text(need.disk)}.",
            "Free some space, or build in a folder on a larger disk.",
        )
    there = memory_limit()
    if there < need.memory:
        raise ExportError(
            f"This machine has {size_text(there)} of memory; building this model needs about {size_text(need.memory)}.",
            NO_MEMORY,
        )


def memory_limit(meminfo: Path = _MEMINFO, limits: tuple[Path, ...] = _GROUP_LIMITS) -> int:
    """Bytes that a process may use here: memory with swap, or what a container is allowed."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text("utf-8").splitlines() if ":" in line)
        there = sum(int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal") if name in lines)
    for path in limits:
        if path.is_file() and (text := path.read_text("utf-8").strip()).isdecimal():
            there = min(there, int(text))
    return there


def _share(spec: VariantSpec) -> float:
    """Bytes of a variant for one in fp32, at most."""
    whole = (spec.quantizer == OPTIMIZED and spec.options["level"] < 4) or (
        spec.quantizer == OPENVINO and spec.options["bits"] == 32
    )
    return 1.0 if whole else 0.5
