"""The self-test: does a variant answer on this CPU as it was proven to?

8-bit arithmetic differs between CPUs: a version that was proven where it was built may be worse where it serves. The
manifest carries known inputs with the original's answers. They are run through onnxruntime (OpenVINO's graphs through
openvino), on the CPU, in a process of its own, and compared by the variant's own metrics:

- A metric must keep the threshold that the build had to keep.
- Thresholds were kept over all texts of the build, and the known inputs are few. Where these few were beyond a
  threshold on the building machine already, or no threshold was asked, what they reached there is asked, with a
  margin: a tenth of its distance from perfect for a threshold, the whole of it where none was asked.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.errors import FidelityError, FormatError, MissingExtraError, VariantError
from modeldrop.format.golden import GOLDEN
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import hex_digest
from modeldrop.format.recipe import METRICS, PERFECT
from modeldrop.util.files import make_folder, replace_file
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import apart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeldrop.fetcher.machine import Machine
    from modeldrop.format.manifest import Manifest, Variant

DEADLINE_SECONDS = 120.0
_WORKER = "modeldrop.inference"
_FOLDER = ".tests"
_RULES = 1  # raised when the same answers would be judged otherwise
_REMEMBERED = 32
_MAX_BYTES = 256 << 10
_TOLD_FIRST = (
    "decisions", "spans", "transcript", "boxes", "nrmse", "cosine_min", "correlation", "top1", "greedy_prefix",
    "cosine_mean", "kendall_tau", "kl", "perplexity_gap", "max_abs", "label_agreement", "rank_agreement", "rel_error",
    "abs_error",
)  # fmt: skip
_WITHOUT_SCALE = "abs_error"  # of numbers of any size: what was reached elsewhere says nothing

_RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
_ROUNDING = 1e-6  # known answers are kept to seven digits
_SIGNALS = {
    "SIGILL": "it met an instruction that this CPU does not have; install an onnxruntime that is built for it",
    "SIGKILL": "most likely memory ran out; give this machine or container more",
}


class Outcome(NamedTuple):
    """What a self-test found.

    Attributes:
        passed: whether the variant may serve on this CPU.
        variant: its name.
        metric: the one that failed, or that says most; "" where it never came to a comparison.
        value: of that metric on this CPU.
        threshold: the value it must reach, or stay below.
        detail: a sentence for people.
        seconds: that it took.
    """

    passed: bool
    variant: str
    metric: str
    value: float
    threshold: float
    detail: str
    seconds: float


def self_test(
    snapshot_folder: Path, manifest: Manifest, variant: Variant, deadline_seconds: float = DEADLINE_SECONDS
) -> Outcome:
    """Run the known inputs of a version through a variant, here and now.

    Whatever the graph does to the process that runs it, be it a crash or hanging, is an outcome that has not passed.

    Args:
        snapshot_folder: where the variant's files are; ``variant.model`` must name the graph in it.
        manifest: the version's.
        variant: the one to test.
        deadline_seconds: how long it may take in all.

    Raises:
        MissingExtraError: there is no onnxruntime, or openvino, that works here.
        VariantError: the variant is for another runtime, or the version has no known inputs.
    """
    import time

    _check_possible(manifest, variant)
    begun = time.monotonic()
    told = _ask(snapshot_folder, manifest, variant, deadline_seconds)
    if "missing" in told:
        raise _missing(str(told["missing"]), _runtime_of(variant))
    seconds = round(time.monotonic() - begun, 3)
    if "failed" in told:
        detail = f"{variant.name} fails its self-test on this CPU: {told['failed']}."
        return Outcome(
            passed=False, variant=variant.name, metric="", value=0.0, threshold=0.0, detail=detail, seconds=seconds
        )
    return _judge(manifest, variant, told["metrics"], told["worst"], seconds)


def no_variant_passed(where: str, outcomes: Sequence[Outcome]) -> FidelityError:
    """The error where every variant that was tried has failed.

    Args:
        where: the version, such as ``s3://acme-models/embedder/v3``.
        outcomes: of all that were tried, in their order.
    """
    return FidelityError(
        f"{where} does not answer on this CPU as it was proven to:\n  "
        + "\n  ".join(outcome.detail for outcome in outcomes),
        "The snapshot in use is untouched. Fetch another variant (--variant), or publish one that holds here.",
    )


def remembered(home_path: Path, snapshot_name: str, machine: Machine, runtime: str | None) -> Outcome | None:
    """What an earlier self-test of a snapshot found, on a CPU like this and with the same onnxruntime; else None.

    Args:
        home_path: the model's folder in the home.
        snapshot_name: name of the snapshot's folder in it.
        machine: what it is to run on.
        runtime: onnxruntime's version; None where it is not known, and then nothing is remembered.
    """
    found = _load(_path(home_path, snapshot_name)).get(_key(machine, runtime)) if runtime else None
    with contextlib.suppress(FormatError):
        fields = Fields(found, "", "outcome")
        return Outcome(
            passed=fields.boolean("passed"),
            variant=fields.text("variant"),
            metric=fields.text("metric"),
            value=fields.number("value"),
            threshold=fields.number("threshold"),
            detail=fields.text("detail"),
            seconds=fields.number("seconds"),
        )
    return None


def remember(home_path: Path, snapshot_name: str, machine: Machine, runtime: str | None, outcome: Outcome) -> None:
    """Keep an outcome beside the snapshots. Best effort: a volume may be read-only.

    Only what came to a comparison is kept: what killed or stopped the process may be gone the next time.
    """
    if not runtime or not outcome.metric:
        return
    path = _path(home_path, snapshot_name)
    key = _key(machine, runtime)
    # Two processes at once may lose each other's: then one is tested again.
    before = [(name, value) for name, value in _load(path).items() if name != key]
    with contextlib.suppress(OSError):
        make_folder(path.parent)
        replace_file(path, json.dumps(dict([*before[-_REMEMBERED + 1 :], (key, outcome._asdict())])).encode())
        _forget_the_gone(home_path)


def _check_possible(manifest: Manifest, variant: Variant) -> None:
    runtime = _runtime_of(variant)
    if not runtime:
        raise VariantError(
            f"The variant {variant.name} cannot be tested: it is run by neither onnxruntime nor openvino.",
            "Fetch it without --self-test, or name a variant that is (--variant).",
        )
    if not manifest.golden.texts:
        raise VariantError(
            "This version cannot be tested: its manifest has no known inputs.",
            "Fetch it without --self-test, or publish it again with this release.",
        )
    import sys
    from importlib.util import find_spec

    lacking = [name for name in (runtime, "numpy") if find_spec(name) is None]
    if lacking:
        raise _missing(f"{' and '.join(lacking)} not installed beside {sys.executable or 'this interpreter'}", runtime)


def _runtime_of(variant: Variant) -> str:
    """The package that runs a variant; "" where none is known."""
    return next((name for suffix, name in _RUNTIMES.items() if variant.model.endswith(suffix)), "")


def _missing(why: str, runtime: str) -> MissingExtraError:
    return MissingExtraError(
        f"A self-test needs {runtime}, which does not work here: {why}.",
        f"Run it where the model is served, in the service's image, which has {runtime}: modeldrop run --self-test … "
        f"there. Or: pip install {runtime}",
    )


def _ask(folder: Path, manifest: Manifest, variant: Variant, seconds: float) -> dict[str, Any]:
    """The worker's answer; what became of it instead is ``failed`` too."""
    import subprocess
    import sys

    from modeldrop.util.process import end, same_imports

    request = {
        "graphs": variant.graphs,
        "role": variant.role,
        "task": manifest.task,
        "problem": manifest.problem,
        "golden": GOLDEN.write(manifest.golden),
    }
    lifeline, ours = os.pipe()
    try:
        process = subprocess.Popen(
            # -P: an onnxruntime.py in the caller's folder is not the onnxruntime that is meant.
            [sys.executable, "-P", "-m", _WORKER, str(folder), str(lifeline)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(lifeline,),
            env=os.environ
            | same_imports()
            | {
                "ORT_DISABLE_TELEMETRY": "1",  # from 1.29 on onnxruntime tells Microsoft of every model that it opens
            },
        )
    except OSError as error:
        os.close(ours)
        raise _missing(f"{sys.executable} cannot be started ({error.strerror})", _runtime_of(variant)) from None
    finally:
        os.close(lifeline)
    try:
        output, log = process.communicate(json.dumps(request).encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"there was no answer within {seconds:g} seconds"}
    finally:
        end(process)
        os.close(ours)
    return _read(output, log, process.returncode)


def _read(output: bytes, log: bytes, code: int) -> dict[str, Any]:
    if code < 0:
        from modeldrop.util.process import signal_name

        name = signal_name(-code)
        return {
            "failed": f"the process that ran it died by {name}" + (f": {_SIGNALS[name]}" if name in _SIGNALS else "")
        }
    with contextlib.suppress(ValueError):
        told = json.loads(output)
        if code == 0 and isinstance(told, dict):
            return told
    lines = log.decode("utf-8", "replace").strip().splitlines()
    return {
        "failed": f"the process that ran it ended with exit code {code}: {(lines or ['it said nothing'])[-1][:300]}"
    }


def _judge(
    manifest: Manifest, variant: Variant, metrics: Mapping[str, float], worst: Mapping[str, int], seconds: float
) -> Outcome:
    built = manifest.golden.metrics.get(variant.name, {})
    names = [name for name in _TOLD_FIRST if name in metrics]
    limits = {name: limit for name in names if (limit := _limit(variant, name, built)) is not None}
    missed = [name for name, limit in limits.items() if not _holds(name, metrics[name], limit)]
    if not limits:
        # Nothing was asked of it, and nothing is known of it: it must at least give numbers.
        name = names[-1]
        limits, missed = {name: 1e9}, [name] if metrics[name] >= 1e9 else []
    name = next(iter(missed or limits))
    value, limit = metrics[name], limits[name]
    found, asked = apart(value, limit)
    there = f" ({built[name]:.6g} where it was built)" if name in built else ""
    detail = (
        f"{variant.name}: {name} of {len(manifest.golden.texts)} known inputs is {found} on this CPU{there}, "
        f"asked is {METRICS[name]} {asked}"
    )
    if missed and name in worst:
        detail += f"; worst on {manifest.golden.texts[worst[name]][:80]!r}"
    return Outcome(
        passed=not missed,
        variant=variant.name,
        metric=name,
        value=value,
        threshold=limit,
        detail=f"{detail}.",
        seconds=seconds,
    )


def _limit(variant: Variant, metric: str, built: Mapping[str, float]) -> float | None:
    """What a metric of the known inputs must reach or stay below; None where nothing says."""
    side = METRICS[metric]
    threshold = variant.fidelity.thresholds.get(metric)
    reached = built.get(metric)
    if reached is None or metric == _WITHOUT_SCALE:
        return threshold
    if threshold is not None and _holds(metric, reached, threshold):
        return threshold
    distance = abs(PERFECT[side] - reached) * (1.0 if threshold is None else 0.1) + _ROUNDING
    return reached - distance if side == ">=" else reached + distance


def _holds(metric: str, value: float, limit: float) -> bool:
    return value >= limit - _ROUNDING if METRICS[metric] == ">=" else value <= limit + _ROUNDING


def _key(machine: Machine, runtime: str | None) -> str:
    text = "\n".join([machine.arch, *sorted(machine.flags)])
    return f"{_RULES} {hex_digest(text.encode())[:16]} {runtime}"


def _path(home_path: Path, snapshot_name: str) -> Path:
    return home_path / _FOLDER / f"{snapshot_name}.json"


def _load(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        found = json.loads(file.read(_MAX_BYTES))
        return found if isinstance(found, dict) else {}
    return {}


def _forget_the_gone(home_path: Path) -> None:
    """Outcomes of snapshots that were evicted."""
    for entry in list((home_path / _FOLDER).glob("*.json")):
        if not (home_path / entry.stem).is_dir():
            entry.unlink(missing_ok=True)
