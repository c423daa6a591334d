from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from modeldrop.errors import DiskError, NotExecutableError, UsageError
from modeldrop.fetcher.exec import exec_command, variable_name
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.leases import user_of
from tests.helpers.builds import digest_of, environment, publish_build
from tests.helpers.command_line import without_progress
from tests.helpers.process_1 import AS_PROCESS_1, needs_namespaces
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.https import HttpsRequest, HttpsServer

SAY = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], os.getpid(), "
    "{n: v for n, v in os.environ.items() if n.startswith('MODELDROP_MODEL_')}]))"
)


@pytest.fixture
def published(registry: Path) -> Path:
    publish_build(registry, "a")
    publish_build(registry, "b", model="re-ranker.v2")
    return registry


def start_run(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modeldrop", "run", *map(str, arguments)],
        env=environment(PATH=os.defpath),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: object) -> tuple[int, str, str]:
    process = start_run(*arguments)
    output, errors = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, output, errors


def test_the_program_finds_the_models_and_takes_our_place(published: Path, tmp_path: Path) -> None:
    process = start_run(
        f"{published}/embedder", f"{published}/re-ranker.v2@v1", "-d", tmp_path / "home", "--quiet",
        "--", sys.executable, "-c", SAY, "--debug", "--variant", "--", "-d", "two words", "",
    )  # fmt: skip
    output, errors = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, errors) == (0, "")
    arguments, pid, variables = json.loads(output)
    assert arguments == ["--debug", "--variant", "--", "-d", "two words", ""]
    assert pid == process.pid
    expected: dict[str, str] = {}
    for model, name in (("embedder", "MODELDROP_MODEL_EMBEDDER"), ("re-ranker.v2", "MODELDROP_MODEL_RE_RANKER_V2")):
        digest = digest_of(published, 1, model)
        folder = tmp_path / "home" / model / f"v1-int8-{digest[7:19]}"
        expected |= {
            name: str(folder),
            f"{name}_FILE": str(folder / "onnx" / "model_quantized.onnx"),
            f"{name}_VERSION": "v1",
            f"{name}_VARIANT": "int8",
            f"{name}_DIGEST": digest,
        }
    assert variables == expected | {"MODELDROP_MODEL_EMBEDDER_GENERATION": "1"}  # a pinned version has none


def test_what_a_run_around_this_one_said_of_the_model_is_gone(published: Path, tmp_path: Path) -> None:
    inner = [sys.executable, "-m", "modeldrop", "run", f"{published}/embedder@v1", "-d", tmp_path / "home"]
    code, output, errors = run(
        f"{published}/embedder", f"{published}/re-ranker.v2", "-d", tmp_path / "home", "--quiet",
        "--", *inner, "--quiet", "--variant", "fp32", "--", sys.executable, "-c", SAY,
    )  # fmt: skip
    assert (code, errors) == (0, "")
    variables = json.loads(output)[2]
    assert variables["MODELDROP_MODEL_EMBEDDER_VARIANT"] == "fp32"
    assert "MODELDROP_MODEL_EMBEDDER_GENERATION" not in variables
    assert variables["MODELDROP_MODEL_RE_RANKER_V2_GENERATION"] == "1"


def test_its_exit_code_is_ours(published: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; sys.exit(37)"]
    code, _, errors = run(f"{published}/embedder", "-d", tmp_path / "home", "--", *program)
    assert code == 37
    assert re.fullmatch(r"embedder v1 int8: 0\.1 MB fetched and verified\n", without_progress(errors))


def test_signals_reach_it(published: Path, tmp_path: Path) -> None:
    program = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(41))
print("ready", flush=True)
time.sleep(6000)
"""
    process = start_run(f"{published}/embedder", "-d", tmp_path / "home", "--", sys.executable, "-c", program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 41


def open_files(about: Path) -> list[str]:
    """What a process has open besides its standard streams. Its loader opens libraries for a moment."""
    files = []
    for path in (about / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if int(path.name) > 2:
                files.append(str(path.readlink()))
    return files


def signal_masks(about: Path) -> dict[str, int]:
    """Which signals a process ignores, catches and blocks, as sets of bits."""
    status = dict(line.split(":", 1) for line in (about / "status").read_text().splitlines())
    return {name: int(status[name], 16) for name in ("SigIgn", "SigCgt", "SigBlk")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_nothing_of_modeldrop_stays_and_signals_do_what_they_do(
    published: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start_run(f"{published}/embedder", "-d", tmp_path / "home", "--", "sleep", "6000")
    try:
        about = Path("/proc") / str(process.pid)
        deadline = time.monotonic() + HANG_SECONDS
        while (about / "cmdline").read_bytes() != b"sleep\x006000\x00":
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (snapshot,) = (tmp_path / "home" / "embedder").glob("v1-*")
        while open_files(about) != [str(snapshot)]:  # never, if anything else stays open
            assert time.monotonic() < deadline, open_files(about)
            time.sleep(0.01)
        maps = (about / "maps").read_text()
        for trace in ("python", "obstore", "blake3", str(tmp_path)):
            assert trace not in maps
        assert len(list((about / "task").iterdir())) == 1
        # What whoever started us ignores or blocks stays so; Python's own habits do not.
        ours, theirs = signal_masks(Path("/proc/self")), signal_masks(about)
        pythons = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
        assert theirs == {"SigIgn": ours["SigIgn"] & ~pythons, "SigCgt": 0, "SigBlk": ours["SigBlk"]}
    finally:
        process.send_signal(number)
        process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == -number


def test_the_program_holds_its_snapshots_until_it_ends(published: Path, tmp_path: Path) -> None:
    references = (f"{published}/embedder", f"{published}/re-ranker.v2")
    process = start_run(*references, "-d", tmp_path / "home", "--", "sh", "-c", "echo ready; exec sleep 6000")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        snapshots = list((tmp_path / "home").glob("*/v1-*"))
        assert len(snapshots) == 2
        assert [user_of(snapshot, time.time()) for snapshot in snapshots] == ["a process holds it"] * 2
    finally:
        process.kill()
        process.communicate(timeout=HANG_SECONDS)
    assert [user_of(snapshot, time.time()) for snapshot in snapshots] == ["", ""]


def test_a_snapshot_that_was_removed_meanwhile(published: Path, tmp_path: Path) -> None:
    snapshot = fetch(f"{published}/embedder", tmp_path / "home")
    snapshot.path.rename(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="was removed after it was fetched"):
        exec_command(["true"], [snapshot])


@needs_namespaces
def test_process_1_hands_its_place_on(published: Path, tmp_path: Path) -> None:
    arguments = (
        "run",
        f"{published}/embedder",
        "-d",
        tmp_path / "home",
        "--quiet",
        "--",
        "sh",
        "-c",
        "echo $$; exit 7",
    )
    done = subprocess.run(
        [*AS_PROCESS_1, sys.executable, "-m", "modeldrop", *map(str, arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "1\n", "")


@needs_namespaces
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["run", "fetch"])
def test_process_1_can_be_stopped_while_it_fetches(
    command: str, number: signal.Signals, published: Path, tmp_path: Path
) -> None:
    asked, opened = threading.Event(), threading.Event()

    def answer(request: HttpsRequest) -> None:
        if ".onnx" in request.path:
            asked.set()
            opened.wait(HANG_SECONDS)

    with HttpsServer(published) as server:
        server.answer = answer
        then = ["--", "true"] if command == "run" else []
        arguments = (command, f"{server.url}/embedder", "-d", tmp_path / "home", *then)
        process = subprocess.Popen(
            [*AS_PROCESS_1, sys.executable, "-m", "modeldrop", *map(str, arguments)],
            env=environment(SSL_CERT_FILE=str(server.ca_file)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert asked.wait(HANG_SECONDS)
            (child,) = psutil.Process(process.pid).children()
            child.send_signal(number)
            output, _ = process.communicate(timeout=HANG_SECONDS)
        finally:
            opened.set()
    assert (process.returncode, output) == (128 + number, b"")


def test_a_pipeline_ends_when_its_reader_does(published: Path, tmp_path: Path) -> None:
    """Python ignores SIGPIPE, and what it ignores a shell could not even trap."""
    code, output, errors = run(
        f"{published}/embedder", "-d", tmp_path / "home", "--quiet", "--", "sh", "-c", "yes | head -n 1"
    )
    assert (code, output, errors) == (0, "y\n", "")


def test_the_terminal_and_standard_input_are_the_programs(published: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    program = "import os; print(os.isatty(0), os.isatty(1), os.isatty(2), input())"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "modeldrop", "run", f"{published}/embedder", "-d", tmp_path / "home", "--quiet",
            "--", sys.executable, "-c", program,
        ],
        env=environment(PATH=os.defpath), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.write(ours, b"a line that was typed before the program began\n")
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other end open any more
        while select.select([ours], [], [], HANG_SECONDS)[0] and (piece := os.read(ours, 4096)):
            shown += piece
    os.close(ours)
    assert process.wait(HANG_SECONDS) == 0
    assert b"True True True a line that was typed before the program began\r\n" in shown


@pytest.mark.parametrize("end", [[], ["--"]])
def test_no_command(published: Path, tmp_path: Path, end: list[str]) -> None:
    code, output, errors = run(f"{published}/embedder", "-d", tmp_path / "home", *end)
    assert (code, output) == (UsageError.exit_code, "")
    assert errors.startswith("modeldrop: No command to run.\n  Write it after '--'")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        ("no-such-command", 127, "Could not start no-such-command: No such file or directory."),
        ("./file/command", 127, "Could not start ./file/command: Not a directory."),
        ("./file", 126, "Could not start ./file: Permission denied."),
        ("./script", 126, "./script: No such file or directory. It is there; what its first line names"),
    ],
)
def test_a_command_that_cannot_be_started(
    program: str, code: int, message: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not executable")
    Path("script").write_text("#!/no/such/interpreter\n")
    Path("script").chmod(0o755)
    found, _, errors = run(f"{published}/embedder", "--quiet", "-d", tmp_path, "--", program, "x")
    assert found == code
    assert message in errors
    assert "Check the command after '--'." in errors


def test_no_reference(published: Path) -> None:
    code, _, errors = run("--", "true")
    assert code == UsageError.exit_code
    assert "REFERENCE" in errors


def test_nothing_starts_where_a_fetch_fails(published: Path, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    code, _, errors = run(f"{published}/other", "-d", tmp_path / "home", "--", "touch", marker)
    assert code == 5
    assert "has no channel other/current" in errors
    assert not marker.exists()


def test_two_models_that_would_share_a_variable(published: Path, tmp_path: Path) -> None:
    publish_build(published, "c", model="re.ranker-v2")
    references = (f"{published}/re-ranker.v2", f"{published}/re.ranker-v2")
    code, _, errors = run(*references, "-d", tmp_path / "home", "--", "true")
    assert code == UsageError.exit_code
    assert "Two models would share the variable MODELDROP_MODEL_RE_RANKER_V2" in errors


def test_a_model_named_like_another_ones_variable(published: Path, tmp_path: Path) -> None:
    code, _, errors = run(f"{published}/embedder", f"{published}/embedder-file", "-d", tmp_path / "home", "--", "true")
    assert code == UsageError.exit_code
    assert "Two models would share the variable MODELDROP_MODEL_EMBEDDER_FILE" in errors
    assert not (tmp_path / "home").exists()


def test_names_of_variables() -> None:
    assert variable_name("embedder") == "MODELDROP_MODEL_EMBEDDER"
    assert variable_name("all-minilm.l6_v2") == "MODELDROP_MODEL_ALL_MINILM_L6_V2"


def test_execute_says_what_it_could_not_start(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGXFSZ)]
    with pytest.raises(NotExecutableError, match=r"Could not start .*: Permission denied"):
        exec_command([os.fspath(tmp_path)], [])
    assert [signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGXFSZ)] == handlers
