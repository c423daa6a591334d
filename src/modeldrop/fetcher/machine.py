"""What this machine runs graphs with: the CPU's instruction sets, CUDA, and the installed onnxruntime.

Nothing is imported to find that out: importing onnxruntime takes longer than a fetch of what is there already.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.config import variable
from modeldrop.errors import UsageError, VariantError
from modeldrop.format.variants import MERGED_PARTS, VARIANTS
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from modeldrop.format.manifest import Variant

_MAX_BYTES = 64 << 10
_SECONDS = 2
_ARCHES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_CUDA = ("/dev/nvidiactl", "/proc/driver/nvidia/version")
_SPELLED = re.compile(r"[A-Za-z0-9_]+(?::[A-Za-z0-9_,]*)?")
# As macOS spells them, as Linux does.
_APPLE_FLAGS = {"avx2": "avx2", "avx20": "avx2", "avx512f": "avx512f", "avx512vnni": "avx512_vnni"}

_GPU = "onnxruntime_gpu"
# Distributions that all bring the module onnxruntime. Others of similar name (onnxruntime_genai) do not.
_DISTRIBUTIONS = {
    "onnxruntime",
    _GPU,
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
_UNFIT = {(1, 25), (1, 26)}
"""Releases that do not open a decoder of two branches with a table in 8 bits: microsoft/onnxruntime#28306."""
_RELEASE = re.compile(r"[0-9]+(?:\.[0-9]+)*")


class Machine(NamedTuple):
    """What graphs run on.

    Attributes:
        arch: ``x86_64``, ``aarch64``, or what the system calls another one.
        flags: the CPU's features by the names that Linux gives them, such as ``avx512_vnni`` or ``asimddp``;
            empty where they cannot be read, and then nothing is assumed.
        cuda: whether there is a driver for NVIDIA's GPUs and an onnxruntime built for them.
    """

    arch: str
    flags: frozenset[str]
    cuda: bool = False

    @property
    def dot_products(self) -> bool:
        """Whether 8-bit integers multiply in one instruction, without intermediate sums that overflow."""
        wanted = {"x86_64": {"avx512_vnni", "avx_vnni"}, "aarch64": {"asimddp"}}
        return bool(self.flags & wanted.get(self.arch, set()))

    @property
    def key(self) -> str:
        """A short text that differs between machines which may be served by different variants."""
        features = zlib.crc32(" ".join(sorted(self.flags)).encode())
        return f"{self.arch}:{features:08x}{':cuda' if self.cuda else ''}"


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """The machine this process runs on, or that ``MODELDROP_CPU`` names: ``x86_64:avx2``, for what others will serve.

    Args:
        cpuinfo: where Linux describes the CPU.

    Raises:
        UsageError: ``MODELDROP_CPU`` is not ``ARCH`` or ``ARCH:FLAG,FLAG…``.
    """
    named = variable("cpu")
    return _parse(named) if named else _look(cpuinfo)


@functools.lru_cache(maxsize=8)
def _look(cpuinfo: Path) -> Machine:
    arch = os.uname().machine
    arch = _ARCHES.get(arch.lower(), arch)
    flags = _apple_flags(arch) if sys.platform == "darwin" else read_flags(cpuinfo)
    return Machine(arch, flags, _has_cuda())


def read_flags(cpuinfo: Path) -> frozenset[str]:
    """The features of the first CPU that Linux describes; the kernel lists only what all of them have."""
    data = b""
    with contextlib.suppress(OSError), cpuinfo.open("rb", buffering=0) as file:
        # A machine has hundreds of them, and each costs the kernel time: no more is read than is needed.
        while b"\n\n" not in data and len(data) < _MAX_BYTES:
            more = file.read(4096)
            if not more:
                break
            data += more
    for line in data.partition(b"\n\n")[0].decode("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in {"flags", "features"}:
            return frozenset(value.lower().split())
    return frozenset()


def apple_flags(text: str) -> frozenset[str]:
    """The features in what macOS's sysctl tells of an Intel CPU, by Linux's names."""
    spelled = (re.sub("[._]", "", word.lower()) for word in text.split())
    return frozenset(_APPLE_FLAGS[word] for word in spelled if word in _APPLE_FLAGS)


def _apple_flags(arch: str) -> frozenset[str]:
    if arch == "aarch64":
        return frozenset({"asimd", "asimddp"})  # every CPU of Apple's that runs macOS has them
    import subprocess

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        return apple_flags(told.stdout.decode("ascii", "replace"))
    return frozenset()


def _has_cuda() -> bool:
    return any(Path(path).exists() for path in _CUDA) and _GPU in installed_distributions()


def _parse(text: str) -> Machine:
    if not _SPELLED.fullmatch(text):
        raise UsageError(
            f"MODELDROP_CPU={text[:80]!r} does not name a CPU.",
            "Write its architecture and features as /proc/cpuinfo has them: x86_64:avx2,avx512_vnni or "
            "aarch64:asimddp; or unset it.",
        )
    arch, _, flags = text.partition(":")
    return Machine(_ARCHES.get(arch.lower(), arch), frozenset(filter(None, flags.lower().split(","))))


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
    """Refuse a variant that the installed onnxruntime is too old to load, or is known to fail at.

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
    spec = VARIANTS.get(variant.name)
    merged = not MERGED_PARTS.keys().isdisjoint(variant.graphs)
    if merged and spec is not None and spec.has_small_weights and _parts(installed)[:2] in _UNFIT:
        raise VariantError(
            f"onnxruntime {installed} does not open the variant {variant.name}: 1.25 and 1.26 fail at decoders of two "
            "branches with a table in 8 bits (microsoft/onnxruntime#28306).",
            "pip install 'onnxruntime>=1.27', or fetch another variant (--variant).",
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
