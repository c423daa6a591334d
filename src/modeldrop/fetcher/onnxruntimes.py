"""Which onnxruntime is installed beside modeldrop, found without importing it, and whether it loads a variant."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from typing import TYPE_CHECKING

from modeldrop.errors import VariantError

if TYPE_CHECKING:
    from modeldrop.format.manifest import Variant

GPU = "onnxruntime_gpu"
# Distributions that all bring the module onnxruntime. Others of similar name (onnxruntime_genai) do not.
_DISTRIBUTIONS = {
    "onnxruntime",
    GPU,
    "onnxruntime_azure",
    "onnxruntime_cann",
    "onnxruntime_directml",
    "onnxruntime_migraphx",
    "onnxruntime_openvino",
    "onnxruntime_qnn",
    "onnxruntime_rocm",
    "onnxruntime_silicon",
    "onnxruntime_training",
}
_RELEASE = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def installed_onnxruntime() -> str | None:
    """The version of the onnxruntime that this interpreter would import; None where none is found."""
    found = installed_distributions()
    # Two distributions in one folder overwrite each other's files: the older one is what can be counted on.
    return min(found.values(), key=_parts, default=None)


def installed_runtime(variant: Variant) -> str | None:
    """The version of what this interpreter would run a variant with, onnxruntime or openvino; None without it."""
    return installed_openvino() if variant.model.endswith(".xml") else installed_onnxruntime()


def installed_openvino() -> str | None:
    """``openvino`` with its version; None where none is found."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"openvino {version('openvino')}"
    except PackageNotFoundError:
        return None


def installed_distributions() -> dict[str, str]:
    """The distributions of onnxruntime in the first folder of ``sys.path`` that has one, with their versions."""
    return dict(_scan(tuple(sys.path)))


def check_runtime(variant: Variant) -> None:
    """Refuse a variant that the installed onnxruntime is too old to load.

    Silent where none is installed, for then it runs elsewhere, and where a version cannot be read.

    Raises:
        VariantError: says which is needed and why, which is installed, and what to do.
    """
    installed = installed_onnxruntime()
    needed = _parts(variant.min_onnxruntime)
    if installed is None or not variant.model.endswith(".onnx") or not needed or not _parts(installed):
        return
    if _parts(installed) < needed:
        raise VariantError(
            f"The variant {variant.name} needs onnxruntime >= {variant.min_onnxruntime} (opset {variant.opset}, "
            f"IR {variant.ir_version}); installed is {installed}.",
            f"pip install 'onnxruntime>={variant.min_onnxruntime}', or fetch another variant (--variant) or version.",
        )


@functools.lru_cache(maxsize=4)
def _scan(folders: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            found = {}
            for entry in entries:
                if entry.name.startswith("onnxruntime") and entry.name.endswith(".dist-info"):
                    name, _, version = entry.name.removesuffix(".dist-info").partition("-")
                    if name in _DISTRIBUTIONS:
                        found[name] = version
            if found:
                return tuple(sorted(found.items()))
    return ()


def _parts(version: str) -> tuple[int, ...]:
    """What two versions are compared by; () for what is none. A development build counts as its release."""
    match = _RELEASE.match(version)
    if match is None:
        return ()
    parts = [int(part[:9]) for part in match.group().split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
