"""What fetches say while they run: bars, lines, JSON, metrics; and what they take from the environment."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modeldrop.commands.fetch_options import add_fetch_options, fetch_settings
from modeldrop.errors import NotFoundError, UsageError
from modeldrop.fetcher import events
from modeldrop.fetcher.display import JsonDisplay, open_display
from modeldrop.fetcher.options import Options
from modeldrop.fetcher.snapshot import Snapshot, TransferStats
from modeldrop.util.progress import Bars, Display
from tests.helpers.builds import digest_of, environment, publish_build
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.https import HttpsAnswer, HttpsRequest, HttpsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THIS: dict[str, Any] = {"path": Path("/m"), "model": "embedder", "version": 3, "variant": "int8", "digest": "sha256:00"}
SNAPSHOT = Snapshot(**THIS, registry="s3://acme", channel="current", generation=7)


class Screen:
    """A terminal: enough of one to know what stands on it after all that was written."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns = columns
        self.lines = [""]
        self.widest = 0
        self._row = self._column = 0
        self.ours, self.theirs = os.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.stream = open(self.theirs, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        self.raw = b""

    def read(self) -> None:
        """Take in what was written; waits for something."""
        assert select.select([self.ours], [], [], HANG_SECONDS)[0], f"nothing came after: {self.text}"
        data = os.read(self.ours, 65536)
        self.raw += data
        self._feed(data.decode())

    def wait_for(self, pattern: str) -> str:
        """Read until what stands on the screen matches."""
        while not re.search(pattern, self.text):
            self.read()
        return self.text

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")

    def close(self) -> None:
        self.stream.close()
        os.close(self.theirs)
        os.close(self.ours)

    def _feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Z]|[\r\n]|[^\x1b\r\n]+", text):
            if part == "\r":
                self._column = 0
            elif part == "\n":
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif part == "\x1b[J":
                self.lines[self._row] = self.lines[self._row][: self._column]
                del self.lines[self._row + 1 :]
            elif part.startswith("\x1b"):
                assert part.endswith("A"), part
                self._row -= int(part[2:-1])
                assert self._row >= 0
            else:
                line = self.lines[self._row]
                self.lines[self._row] = line[: self._column] + part + line[self._column + len(part) :]
                self._column += len(part)
                if "MB" in part and "verified" not in part:
                    self.widest = max(self.widest, self._column)


@pytest.fixture
def screen() -> Iterator[Screen]:
    with contextlib.closing(Screen()) as one:
        yield one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Display, "pause", 0.01)
    monkeypatch.setattr(Bars, "pause", 0.01)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("quick")
def test_plain_lines_come_only_when_something_moves() -> None:
    stream = io.StringIO()
    with open_display(stream=stream) as display:
        assert type(display) is Display
        display.emit(events.started("embedder", "./models/embedder"))
        track, other = display.track("embedder"), display.track("reranker")
        track.progress(1_000_000, 4_000_000)
        until(lambda: "25%" in stream.getvalue())
        other.progress(1_000_000, 2_000_000)
        until(lambda: "reranker: 50%" in stream.getvalue())
        track.end()
        display.emit(events.done(SNAPSHOT))
    first, second, last = stream.getvalue().splitlines()
    assert re.fullmatch(r"embedder: 25% of 4\.0 MB, \d+\.\d MB/s(, [\d:]+ left)?", first)
    assert re.fullmatch(r"reranker: 50% of 2\.0 MB, \d+\.\d MB/s(, [\d:]+ left)?", second)
    assert last == "embedder v3 int8: already there"


@pytest.mark.usefixtures("quick")
def test_bars_share_the_screen_with_what_happens_and_leave_nothing(screen: Screen) -> None:
    with open_display(stream=screen.stream) as display:
        assert type(display) is Bars
        tracks = [display.track("embedder"), display.track("reranker")]
        for track in tracks:
            track.progress(1_000_000, 4_000_000)
        text = screen.wait_for(r"reranker .*25%")
        assert re.fullmatch(r"embedder █{6}░{18}  25% of 4\.0 MB .*\nreranker █{6}░{18}  25% of 4\.0 MB .*", text)
        display.emit(events.warned("embedder", "The registry was slow."))
        tracks[1].progress(2_000_000, 4_000_000)
        text = screen.wait_for(r"reranker .*50%")
        assert re.match(r"modeldrop: warning: embedder: The registry was slow\.\nembedder █.*\nreranker █.*", text)
        tracks[0].end()
        display.emit(events.done(SNAPSHOT))
        text = screen.wait_for(r"already there")
        tracks[1].progress(3_000_000, 4_000_000)
        text = screen.wait_for(r"reranker .*75%")
    screen.stream.write("the end")
    screen.stream.flush()
    assert screen.wait_for("the end") == (
        "modeldrop: warning: embedder: The registry was slow.\nembedder v3 int8: already there\nthe end"
    )


@pytest.mark.parametrize("columns", [10, 30, 60, 81, 200])
@pytest.mark.usefixtures("quick")
def test_a_bar_is_never_wider_than_the_terminal(columns: int) -> None:
    with contextlib.closing(Screen(columns)) as screen:
        with open_display(stream=screen.stream) as display:
            track = display.track("a-model-whose-name-is-long")
            track.progress(1_000_000, 123_456_000_000)
            screen.wait_for("a-model")
            track.progress(2_000_000, 123_456_000_000)
        screen.stream.write("the end")
        screen.stream.flush()
        assert screen.wait_for("the end") == "the end"
        assert screen.widest < columns


@pytest.mark.usefixtures("quick")
def test_more_models_than_the_terminal_has_rows() -> None:
    with contextlib.closing(Screen(rows=4)) as screen, open_display(stream=screen.stream) as display:
        for number in range(6):
            display.track(f"model-{number}").progress(1, 2)
        assert screen.wait_for("more").splitlines()[-1] == "and 4 more"
        assert len(screen.lines) == 3


def test_a_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    track = Display(None, quiet=True).track("embedder")
    track.progress(90_000_000, 200_000_000)  # adopted from an earlier attempt: not downloaded, and not in the rate
    found = []
    for _ in range(20):
        now += 1
        track.progress(track.done + 3_000_000, 200_000_000)
        found.append(track.sample())
    assert {round(rate) for _, _, rate in found} == {3_000_000}
    for _ in range(7):
        now += 1
        last = track.sample()
    assert last == (150_000_000, 200_000_000, 0.0)


def test_a_terminal_that_knows_nothing_gets_lines(monkeypatch: pytest.MonkeyPatch, screen: Screen) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert type(open_display(stream=screen.stream)) is Display


@pytest.mark.usefixtures("quick")
def test_json_lines() -> None:
    stream = io.StringIO()
    secret = "https://acme.blob.example/models?sig=c2VjcmV0&se=1"
    with open_display("json", stream=stream) as display:
        assert type(display) is JsonDisplay
        display.emit(events.started("embedder", secret))
        track = display.track("embedder")
        track.progress(1, 4)
        until(lambda: "progress" in stream.getvalue())
        track.end()
        display.emit(events.warned("embedder", "größe 漢字 \udc80\n"))
        display.emit(events.failed_event("embedder", NotFoundError(f"Nothing at {secret}.", "Look.")))
        display.emit(events.done(SNAPSHOT))
    assert "c2VjcmV0" not in stream.getvalue()
    assert stream.getvalue().isascii()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["start", "progress", "warning", "error", "done"]
    assert {line["model"] for line in lines} == {"embedder"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    assert (lines[1]["bytes"], lines[1]["total"]) == (1, 4)
    assert lines[2]["message"] == "größe 漢字 \udc80\n"
    assert (lines[3]["error"], lines[3]["hint"], lines[3]["exit_code"]) == ("NotFoundError", "Look.", 5)
    wanted = {"version": 3, "variant": "int8", "generation": 7, "bytes": 0, "age": 0.0, "checked": "registry"}
    assert wanted.items() <= lines[4].items()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_quiet_tells_warnings_and_errors(log_format: str) -> None:
    stream = io.StringIO()
    with open_display(log_format, quiet=True, stream=stream) as display:
        display.emit(events.started("embedder", "embedder"))
        display.track("embedder").progress(1, 4)
        display.emit(events.warned("embedder", "old"))
        display.emit(events.failed_event("embedder", NotFoundError("gone")))
        display.emit(events.done(SNAPSHOT))
    assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.usefixtures("quick")
def test_a_log_that_nobody_reads_any_more_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8", buffering=1)
    with open_display(stream=stream) as display:
        display.track("embedder").progress(1, 4)
        display.emit(events.done(SNAPSHOT))
    with contextlib.suppress(BrokenPipeError):
        stream.close()
    with Display(None) as display:
        display.emit(events.done(SNAPSHOT))


@pytest.mark.parametrize(
    ("figures", "more", "said"),
    [
        (TransferStats(), {}, "already there"),
        (TransferStats(fetched=131_072, seconds=2), {}, "0.1 MB fetched and verified"),
        (TransferStats(fetched=90_000_000, seconds=2), {}, "90.0 MB fetched and verified in 2.0 s (45.0 MB/s)"),
        (
            TransferStats(fetched=5_000_000, adopted=4_000_000, linked=3_000_000),
            {},
            "5.0 MB fetched and verified, 4.0 MB were left by an earlier attempt, 3.0 MB shared with other versions",
        ),
        (
            TransferStats(fetched=1_000_000, saved=22_000_000),
            {},
            "1.0 MB fetched and verified, 22.0 MB saved by deltas",
        ),
        (TransferStats(), {"checked": "disk", "age": 3725.0}, "already there; current as it was 1.0 h ago"),
        (TransferStats(), {"checked": "disk", "channel": None, "generation": None}, "already there"),
    ],
)
def test_what_came_of_it(figures: TransferStats, more: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {"channel": "current", "generation": 7, **more}
    snapshot = Snapshot(**THIS, registry="s3://acme", figures=figures, **values)
    assert events.done(snapshot).text == f"embedder v3 int8: {said}"


# Options and the environment.


def settings(*arguments: str) -> Any:
    from argparse import ArgumentParser

    parser = ArgumentParser()
    add_fetch_options(parser)
    return fetch_settings(parser.parse_args(["embedder", *arguments]))


def test_options_come_from_flags_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().options == Options()
    for name, value in {
        "VARIANT": "fp32",
        "ON_UNAVAILABLE": "fail",
        "MAX_STALE": "24h",
        "MIN_GENERATION": "7",
        "ACCEPT_OLDER_GENERATION": "yes",
        "TIMEOUT": "5m",
        "START_JITTER": "90",
        "METRICS": "m.prom",
    }.items():
        monkeypatch.setenv(f"MODELDROP_{name}", value)
    found = settings()
    assert found.options == Options(
        variant="fp32",
        as_name="",
        on_unavailable="fail",
        max_stale=86400,
        min_generation=7,
        timeout=300,
        accept_older_generation=True,
    )
    assert (found.start_jitter, found.metrics) == (90, "m.prom")
    monkeypatch.setenv("MODELDROP_ACCEPT_OLDER_GENERATION", "no")
    assert settings("--accept-older-generation").options.accept_older_generation
    found = settings(
        "--variant=auto", "--on-unavailable=offline", "--max-stale=0", "--min-generation=0", "--timeout=90s",
        "--start-jitter=0", "--metrics=n.prom", "--as=onnx/model.onnx", "--self-test", "--keep=1",
    )  # fmt: skip
    assert found.options == Options(
        variant="auto",
        as_name="onnx/model.onnx",
        on_unavailable="offline",
        max_stale=0,
        min_generation=0,
        self_test=True,
        timeout=90,
        keep=1,
    )
    assert (found.start_jitter, found.metrics) == (0, "n.prom")
    monkeypatch.setenv("MODELDROP_TIMEOUT", "")
    assert settings().options.timeout == Options().timeout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on-unavailable", "maybe"),
        ("max-stale", "old"),
        ("max-stale", "-1s"),
        ("min-generation", "seven"),
        ("min-generation", "-1"),
        ("timeout", "0"),
        ("timeout", "5 minutes"),
        ("start-jitter", "1.5"),
        ("log-format", "xml"),
    ],
)
def test_a_wrong_value_names_where_it_stands(name: str, value: str, tmp_path: Path) -> None:
    variable = f"MODELDROP_{name.upper().replace('-', '_')}"
    ways: list[tuple[list[str], dict[str, str], str]] = [
        ([f"--{name}={value}"], {}, f"--{name}"),
        ([], {variable: value}, variable),
    ]
    for arguments, variables, where in ways:
        result = fetch("./registry/embedder", "-d", "home", *arguments, cwd=tmp_path, variables=variables)
        assert result.returncode == UsageError.exit_code
        assert result.stderr.startswith(f"modeldrop: {where} ")
        assert not list(tmp_path.iterdir())


# Real processes.


def start_fetch(
    *arguments: object,
    cwd: Path | None = None,
    streams: dict[str, Any] | None = None,
    variables: dict[str, str] | None = None,
) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "modeldrop", "fetch", *map(str, arguments)],
        env=environment(**(variables or {})),
        text=True,
        cwd=cwd,
        **(pipes | (streams or {})),
    )


def fetch(
    *arguments: object, cwd: Path | None = None, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    process = start_fetch(*arguments, cwd=cwd, variables=variables)
    output, errors = process.communicate(timeout=HANG_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture
def published(registry: Path) -> Path:
    publish_build(registry, "a")
    publish_build(registry, "b", model="reranker")
    return registry


class Gate:
    """Holds what a server is asked of the graphs until it is opened; knows which models have been asked for."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.asked: set[str] = set()

    def __call__(self, request: HttpsRequest) -> HttpsAnswer | None:
        if ".onnx" in request.path:
            self.asked.add(request.path.split("/")[1])
            self.opened.wait(HANG_SECONDS)
        return None


@pytest.fixture
def gate() -> Iterator[Gate]:
    one = Gate()
    yield one
    one.opened.set()


@pytest.fixture
def https(published: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsServer]:
    with HttpsServer(published) as server:
        server.answer = gate
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
        yield server


def test_two_models_are_fetched_at_once_with_a_bar_each(
    https: HttpsServer, gate: Gate, tmp_path: Path, screen: Screen
) -> None:
    process = start_fetch(
        f"{https.url}/embedder", f"{https.url}/reranker", "-d", tmp_path / "home", streams={"stderr": screen.theirs}
    )
    screen.wait_for(r"embedder .*\d+% of 0\.1 MB(.|\n)*reranker .*\d+% of 0\.1 MB")
    until(lambda: gate.asked == {"embedder", "reranker"})
    gate.opened.set()
    output, _ = process.communicate(timeout=HANG_SECONDS)
    paths = [str(tmp_path / "home" / name / folder(https, name)) for name in ("embedder", "reranker")]
    assert (process.returncode, output.splitlines()) == (0, paths)
    screen.wait_for(r"embedder v1(.|\n)*reranker v1|reranker v1(.|\n)*embedder v1")
    assert sorted(screen.text.splitlines()) == [
        "embedder v1 int8: 0.1 MB fetched and verified",
        "reranker v1 int8: 0.1 MB fetched and verified",
    ]
    assert screen.widest < screen.columns


def folder(https: HttpsServer, model: str) -> str:
    return f"v1-int8-{digest_of(https.folder, 1, model)[7:19]}"


@pytest.mark.parametrize("models", [["embedder"], ["embedder", "reranker"]])
def test_an_interrupt_stops_all_and_leaves_a_clean_screen(
    https: HttpsServer, gate: Gate, tmp_path: Path, screen: Screen, models: list[str]
) -> None:
    references = [f"{https.url}/{model}" for model in models]
    process = start_fetch(*references, "-d", tmp_path / "home", streams={"stderr": screen.theirs})
    until(lambda: gate.asked == set(models))
    screen.wait_for(f"{models[-1]} .*%")
    process.send_signal(signal.SIGINT)
    gate.opened.set()
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, output) == (130, "")
    assert screen.wait_for("interrupted") == "modeldrop: interrupted"
    assert fetch(*references, "-d", tmp_path / "home").returncode == 0


def test_one_that_fails_does_not_stop_the_others(published: Path, tmp_path: Path) -> None:
    references = [f"{published}/{name}" for name in ("nothing", "embedder", "reranker@v9", "reranker")]
    result = fetch(*references, "-d", tmp_path / "home", "--metrics", tmp_path / "m.prom")
    assert (result.returncode, result.stdout) == (NotFoundError.exit_code, "")
    # What ends second links the files that both have: ", 0.0 MB shared with other versions".
    lines = [line.partition(", ")[0] for line in result.stderr.splitlines()]
    for said in (
        f"modeldrop: {published} has no channel nothing/current.",
        f"modeldrop: {published}/reranker has no version v9.",
        "embedder v1 int8: 0.1 MB fetched and verified",
        "reranker v1 int8: 0.1 MB fetched and verified",
    ):
        assert lines.count(said) == 1
    families = {one.name: one.samples for one in text_string_to_metric_families((tmp_path / "m.prom").read_text())}
    assert {
        (sample.labels["model"], sample.labels["channel"]): sample.value
        for sample in families["modeldrop_fetch_success"]
    } == {("nothing", "current"): 0, ("embedder", "current"): 1, ("reranker", ""): 0, ("reranker", "current"): 1}


def test_every_reference_is_read_before_anything_is_fetched(published: Path, tmp_path: Path) -> None:
    variables = {"MODELDROP_LOG_FORMAT": "json"}
    result = fetch(f"{published}/embedder", f"{published}/NO", "-d", tmp_path / "home", variables=variables)
    assert (result.returncode, result.stdout) == (UsageError.exit_code, "")
    (line,) = result.stderr.splitlines()
    assert json.loads(line)["error"] == "UsageError"
    assert not (tmp_path / "home").exists()


def test_the_log_in_json_and_metrics_of_real_fetches(published: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "m.prom"
    variables = {"MODELDROP_LOG_FORMAT": "json", "MODELDROP_METRICS": str(metrics), "MODELDROP_START_JITTER": "1s"}
    found = []
    for _ in range(2):
        result = fetch(f"{published}/embedder", "-d", tmp_path / "home", "--json", variables=variables)
        assert result.returncode == 0
        (snapshot,) = json.loads(result.stdout)
        lines = [json.loads(line) for line in result.stderr.splitlines()]
        lines = [line for line in lines if line["event"] != "progress"]  # of a fetch that takes long
        assert [line["event"] for line in lines] == ["start", "done"]
        assert lines[1]["path"] == snapshot["path"]
        assert lines[1]["registry"] == snapshot["registry"] == str(published)
        samples = {
            (sample.name, sample.labels.get("source")): sample.value
            for family in text_string_to_metric_families(metrics.read_text())
            for sample in family.samples
        }
        assert samples["modeldrop_fetch_bytes_total", "registry"] == lines[1]["bytes"] == snapshot["downloaded_bytes"]
        found.append((lines[1]["bytes"] > 0, samples["modeldrop_cache_hits_total", None]))
    assert found == [(True, 0), (False, 1)]


def test_metrics_that_cannot_be_written_are_a_warning(published: Path, tmp_path: Path) -> None:
    result = fetch(f"{published}/embedder", "-d", tmp_path / "home", "--metrics", tmp_path / "no" / "m.prom", "--quiet")
    assert result.returncode == 0
    assert Path(result.stdout.strip()).is_dir()
    assert result.stderr.startswith("modeldrop: warning: Metrics cannot be written to")


def test_an_error_has_no_secret(tmp_path: Path) -> None:
    result = fetch("https://user:hunter2@localhost/embedder", "-d", tmp_path / "home", "--log-format=json")
    assert result.returncode == UsageError.exit_code
    assert [json.loads(line)["event"] for line in result.stderr.splitlines()][-1] == "error"
    assert "hunter2" not in result.stderr


def test_a_traceback_is_for_who_asks(published: Path, tmp_path: Path) -> None:
    result = fetch(f"{published}/nothing", "-d", tmp_path / "home", "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-2].endswith(f"NotFoundError: {published} has no channel nothing/current.")
