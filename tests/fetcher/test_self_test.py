from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from modeldrop.errors import FidelityError, MissingExtraError, VariantError
from modeldrop.fetcher.machine import Machine
from modeldrop.fetcher.self_test import Outcome, no_variant_passed, remember, remembered, self_test
from tests.fetcher.small_versions import TEXTS, WORDS, make_version, off_by, weights
from tests.helpers.builds import ROOT
from tests.helpers.waiting import wait_for_end, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Machine("x86_64", frozenset({"avx2", "avx512_vnni"}))
THERE = Machine("x86_64", frozenset({"avx2"}))


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a program run where the worker imports onnxruntime."""

    def install(program: str) -> None:
        (tmp_path / "site" / "onnxruntime").mkdir(parents=True)
        (tmp_path / "site" / "onnxruntime" / "__init__.py").write_text(program)
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


@pytest.mark.slow
def test_a_faithful_variant_passes(tmp_path: Path) -> None:
    outcome = self_test(*make_version(tmp_path))
    assert outcome.passed
    assert (outcome.variant, outcome.metric, outcome.threshold) == ("int8", "cosine_min", 0.93)
    assert outcome.value > 0.99999
    assert "3 known inputs" in outcome.detail
    assert outcome.seconds > 0


@pytest.mark.slow
def test_a_variant_that_answers_differently_here_fails(tmp_path: Path) -> None:
    outcome = self_test(*make_version(tmp_path, off_by(0.9), built={"cosine_min": 0.97, "cosine_mean": 0.99}))
    assert not outcome.passed
    assert outcome.metric == "cosine_min"
    assert outcome.value < outcome.threshold == 0.93
    assert "0.97 where it was built" in outcome.detail
    assert any(text in outcome.detail for text in TEXTS)
    error = no_variant_passed("./models/embedder/v1", [outcome])
    assert isinstance(error, FidelityError)
    assert outcome.detail in error.message


@pytest.mark.slow
def test_every_threshold_counts(tmp_path: Path) -> None:
    outcome = self_test(*make_version(tmp_path, off_by(0.25), thresholds={"cosine_min": 0.5, "cosine_mean": 0.999}))
    assert not outcome.passed
    assert outcome.metric == "cosine_mean"
    outcome = self_test(*make_version(tmp_path, 1.5 * weights(), thresholds={"cosine_min": 0.9, "max_abs": 0.001}))
    assert not outcome.passed
    assert (outcome.metric, outcome.threshold) == ("max_abs", 0.001)


@pytest.mark.slow
def test_what_the_known_inputs_missed_when_built_is_not_asked_of_them_here(tmp_path: Path) -> None:
    """Thresholds are kept over all texts of a build; a few of them may lie beyond."""
    table = off_by(0.3)
    reached = self_test(*make_version(tmp_path, table, thresholds={"cosine_min": 0.9999})).value
    assert reached < 0.999
    thresholds, built = {"cosine_min": 0.9999}, {"cosine_min": reached}
    assert self_test(*make_version(tmp_path, table, thresholds=thresholds, built=built)).passed
    worse = self_test(*make_version(tmp_path, off_by(0.5), thresholds=thresholds, built=built))
    assert not worse.passed
    assert reached - 0.1 * (1 - reached) == pytest.approx(worse.threshold, abs=1e-5)


@pytest.mark.slow
def test_without_a_threshold_the_building_machine_is_the_measure(tmp_path: Path) -> None:
    built = {"cosine_min": 0.98}
    assert self_test(*make_version(tmp_path, off_by(0.1), thresholds={}, built=built)).passed
    outcome = self_test(*make_version(tmp_path, off_by(0.9), thresholds={}, built=built))
    assert not outcome.passed
    assert outcome.threshold == pytest.approx(0.96, abs=1e-5)


@pytest.mark.slow
def test_where_nothing_is_asked_it_must_give_numbers(tmp_path: Path) -> None:
    assert self_test(*make_version(tmp_path, thresholds={})).passed
    assert not self_test(*make_version(tmp_path, weights() * np.float32("nan"), thresholds={})).passed


@pytest.mark.slow
def test_another_shape_a_broken_graph_and_other_inputs_fail(tmp_path: Path) -> None:
    outcome = self_test(*make_version(tmp_path, weights()[:, :-1]))
    assert not outcome.passed
    assert "answers 15 numbers where the original answers 16" in outcome.detail
    folder, manifest, variant = make_version(tmp_path)
    cases = tuple(case._replace(inputs={"pixels": (1,)}) for case in manifest.golden.cases)
    outcome = self_test(folder, manifest._replace(golden=manifest.golden._replace(cases=cases)), variant)
    assert not outcome.passed
    assert "wants other inputs than the known ones: input_ids" in outcome.detail
    cases = tuple(case._replace(inputs={"input_ids": (WORDS + 5,)}) for case in manifest.golden.cases)
    outcome = self_test(folder, manifest._replace(golden=manifest.golden._replace(cases=cases)), variant)
    assert not outcome.passed
    assert "does not run" in outcome.detail
    (folder / variant.model).write_bytes(b"no graph")
    outcome = self_test(folder, manifest, variant)
    assert not outcome.passed
    assert "does not load" in outcome.detail
    assert outcome.metric == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"), [("SIGILL", "an instruction that this CPU does not have"), ("SIGKILL", "memory ran out")]
)
def test_a_crash_is_a_failed_test(tmp_path: Path, instead: Callable[[str], None], name: str, why: str) -> None:
    instead(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    outcome = self_test(*make_version(tmp_path))
    assert not outcome.passed
    assert f"died by {name}: " in outcome.detail
    assert why in outcome.detail


@pytest.mark.slow
def test_whatever_else_ends_it_is_a_failed_test(tmp_path: Path, instead: Callable[[str], None]) -> None:
    instead("raise RuntimeError('CPU dispatcher tracer already initialized')")
    outcome = self_test(*make_version(tmp_path))
    assert not outcome.passed
    assert "ended with exit code 1: RuntimeError: CPU dispatcher tracer" in outcome.detail


@pytest.mark.slow
def test_what_hangs_is_ended_at_the_deadline(tmp_path: Path, instead: Callable[[str], None]) -> None:
    instead("import time; time.sleep(6000)")
    others = {child.pid for child in psutil.Process().children()}
    outcome = self_test(*make_version(tmp_path), 1)
    assert not outcome.passed
    assert "no answer within 1 seconds" in outcome.detail
    for child in psutil.Process().children():
        if child.pid not in others:
            wait_for_end(child.pid)


@pytest.mark.slow
def test_it_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    (tmp_path / "site" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "site" / "onnxruntime" / "__init__.py").write_text(
        "import os, time\n"
        f"open({str(tmp_path / 'new')!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pid')!r})\n"
        "time.sleep(6000)\n"
    )
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from modeldrop.fetcher.self_test import self_test\n"
        "from tests.fetcher.small_versions import make_version\n"
        "self_test(*make_version(Path(sys.argv[1])))\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=os.environ | {"PYTHONPATH": path})
    try:
        wait_until((tmp_path / "pid").exists)
        worker = int((tmp_path / "pid").read_text())
        assert psutil.pid_exists(worker)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for_end(worker)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process offer itself to the OOM killer")
def test_the_kernel_takes_it_before_the_service(tmp_path: Path, instead: Callable[[str], None]) -> None:
    instead("raise RuntimeError('score ' + open('/proc/self/oom_score_adj').read())")
    assert "score 1000" in self_test(*make_version(tmp_path)).detail


@pytest.mark.slow
def test_an_onnxruntime_in_the_callers_folder_is_not_the_one_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "onnxruntime.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert self_test(*make_version(tmp_path)).passed


@pytest.mark.slow
def test_an_onnxruntime_that_cannot_be_imported_is_told(tmp_path: Path, instead: Callable[[str], None]) -> None:
    instead("raise ImportError('libgomp.so.1: cannot open shared object file')")
    with pytest.raises(MissingExtraError, match=r"does not work here: libgomp\.so\.1") as caught:
        self_test(*make_version(tmp_path))
    assert "in the service's image" in caught.value.hint


@pytest.mark.slow
def test_without_onnxruntime_it_says_where_to_run_it_instead() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from pathlib import Path\n"
        "from modeldrop.errors import MissingExtraError\n"
        "from modeldrop.fetcher.self_test import self_test\n"
        "from tests.format import examples\n"
        "manifest = examples.manifest()\n"
        "try:\n    self_test(Path(), manifest, manifest.variants[0])\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    # -S: as an interpreter that has no packages.
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(ROOT / "src"), str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "onnxruntime and numpy not installed" in told
    assert "in the service's image, which has onnxruntime" in told


def test_what_cannot_be_tested_is_an_error_and_no_failed_test(tmp_path: Path) -> None:
    folder, manifest, variant = make_version(tmp_path)
    with pytest.raises(VariantError, match="run by neither onnxruntime nor openvino"):
        self_test(folder, manifest, variant._replace(name="gguf", model="gguf/model.gguf"))
    with pytest.raises(VariantError, match="no known inputs"):
        self_test(folder, manifest._replace(golden=manifest.golden._replace(cases=())), variant)


def outcome_of(name: str = "int8", *, passed: bool = True, metric: str = "cosine_min") -> Outcome:
    return Outcome(
        passed=passed, variant=name, metric=metric, value=0.98, threshold=0.93, detail="int8: fine.", seconds=0.5
    )


def test_an_outcome_is_remembered_for_this_cpu_and_this_onnxruntime(tmp_path: Path) -> None:
    for name in ("v1-int8-0123456789ab", "v2-int8-0123456789ab"):
        (tmp_path / name).mkdir()
    remember(tmp_path, "v1-int8-0123456789ab", HERE, "1.31.1", outcome_of())
    remember(tmp_path, "v1-int8-0123456789ab", THERE, "1.31.1", outcome_of(passed=False))
    remember(tmp_path, "v2-int8-0123456789ab", THERE, "1.31.1", outcome_of(passed=False))
    assert remembered(tmp_path, "v1-int8-0123456789ab", HERE, "1.31.1") == outcome_of()
    assert remembered(tmp_path, "v1-int8-0123456789ab", THERE, "1.31.1") == outcome_of(passed=False)
    assert remembered(tmp_path, "v1-int8-0123456789ab", HERE, "1.32.0") is None
    assert remembered(tmp_path, "v1-int8-0123456789ab", HERE, None) is None
    assert remembered(tmp_path, "v2-int8-0123456789ab", HERE, "1.31.1") is None


def test_only_comparisons_are_remembered_and_only_of_snapshots_that_are_there(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
    remember(tmp_path, "v1", HERE, "1.31.1", outcome_of(passed=False, metric=""))
    remember(tmp_path, "v1", HERE, None, outcome_of())
    assert not (tmp_path / ".tests").exists()
    remember(tmp_path, "v1", HERE, "1.31.1", outcome_of())
    (tmp_path / "v1").rmdir()
    remember(tmp_path, "v2", HERE, "1.31.1", outcome_of())
    assert [path.name for path in (tmp_path / ".tests").iterdir()] == ["v2.json"]


def test_many_runtimes_do_not_make_the_note_grow_for_ever(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    for minor in range(50):
        remember(tmp_path, "v1", HERE, f"1.{minor}", outcome_of())
    assert remembered(tmp_path, "v1", HERE, "1.49") == outcome_of()
    assert remembered(tmp_path, "v1", HERE, "1.10") is None


@pytest.mark.parametrize("note", [b"", b"[]", b'{"1": 2}', b"\xff", b"[" * 100_000])
def test_a_note_that_was_damaged_is_as_none(tmp_path: Path, note: bytes) -> None:
    (tmp_path / "v1").mkdir()
    remember(tmp_path, "v1", HERE, "1.31.1", outcome_of())
    path = tmp_path / ".tests" / "v1.json"
    path.write_bytes(path.read_bytes().replace(b"0.98", b'"0.98"'))
    assert remembered(tmp_path, "v1", HERE, "1.31.1") is None
    path.write_bytes(note)
    assert remembered(tmp_path, "v1", HERE, "1.31.1") is None
    remember(tmp_path, "v1", HERE, "1.31.1", outcome_of())
    assert remembered(tmp_path, "v1", HERE, "1.31.1") == outcome_of()


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path: Path) -> None:
    (tmp_path / ".tests").write_text("in the way")
    remember(tmp_path, "v1", HERE, "1.31.1", outcome_of())
    assert remembered(tmp_path, "v1", HERE, "1.31.1") is None
