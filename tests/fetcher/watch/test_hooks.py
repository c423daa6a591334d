from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from modeldrop.errors import HookError, UsageError
from modeldrop.fetcher.snapshot import Snapshot
from modeldrop.fetcher.watch.hooks import ExecHook, HookCall, Hooks, PostHook, SignalHook
from tests.helpers.waiting import GROWING_SECONDS, HANG_SECONDS, wait_for_end, wait_for_line
from tests.servers.tls import TlsServer

if TYPE_CHECKING:
    from collections.abc import Iterator


def snapshot(version: int) -> Snapshot:
    return Snapshot(
        path=Path(f"/models/embedder/v{version}-int8-0123456789ab"),
        model="embedder",
        version=version,
        variant="int8",
        digest=f"sha256:{version:064}",
        registry="/srv/models",
        channel="current",
        generation=version + 10,
    )


CALL = HookCall(snapshot(2), snapshot(1))


def test_a_command_finds_all_in_its_environment(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ["MODEL", "PATH", "VERSION", "GENERATION", "PREVIOUS_PATH"]
    script = "; ".join(f'echo "$MODELDROP_{name}"' for name in names)
    ExecHook(f"sh -c '{script}'").run(CALL)
    ExecHook(f"sh -c '{script}'").run(HookCall(snapshot(1), None))
    out, err = capfd.readouterr()
    assert out == ""
    one, two = "/models/embedder/v1-int8-0123456789ab", "/models/embedder/v2-int8-0123456789ab"
    assert err.split("\n") == ["embedder", two, "v2", "12", one, "embedder", one, "v1", "11", "", ""]


def test_no_shell_reads_a_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ExecHook(f"printf '%s|' a 'b  c' $HOME '*' ';' > {tmp_path}/made").run(CALL)
    assert capfd.readouterr().err == f"a|b  c|$HOME|*|;|>|{tmp_path}/made|"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sh -c 'exit 3'", "--exec sh ended with exit code 3."),
        ("sh -c 'kill -USR1 $$'", "--exec sh was ended by SIGUSR1."),
        ("/no/such/program --token=secret", "--exec /no/such/program could not be started: No such file or directory."),
    ],
)
def test_a_command_that_fails(command: str, message: str) -> None:
    with pytest.raises(HookError) as caught:
        ExecHook(command).run(CALL)
    assert str(caught.value) == message


@pytest.mark.parametrize("command", ["", "  ", "sh -c 'never closed"])
def test_what_is_no_command(command: str) -> None:
    with pytest.raises(UsageError):
        ExecHook(command)


def test_a_command_that_takes_too_long_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    for seconds in GROWING_SECONDS:
        hook = ExecHook(f"sh -c 'sleep 6000 & echo $! $$ > {pids}; wait'", seconds)
        with pytest.raises(HookError, match=rf"--exec sh took longer than {seconds:g} s and was killed"):
            hook.run(CALL)
        if pids.exists() and pids.read_text().endswith("\n"):  # it may be killed before it has written
            break
    child, parent = map(int, wait_for_line(pids).split())
    wait_for_end(child)
    wait_for_end(parent)


def test_a_command_is_killed_when_the_watch_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    hook = ExecHook(f"sh -c 'sleep 6000 & echo $! > {pids}; wait'")
    failed: list[str] = []

    def run() -> None:
        try:
            hook.run(CALL)
        except HookError as error:
            failed.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    child = int(wait_for_line(pids))
    hook.stop()
    thread.join(HANG_SECONDS)
    assert failed == ["--exec sh was ended by SIGKILL."]
    wait_for_end(child)
    with pytest.raises(HookError, match="was not started"):
        hook.run(CALL)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that are ended after the test."""
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for program in programs:
        program.kill()
        program.communicate()


def listener(started: list[subprocess.Popen[str]], name: str, more: str = "", shell: str = "sh") -> Any:
    """A program that says which signal came, and then ends."""
    script = f"trap 'echo got {name}; exit 0' {name}; {more} echo ready; while :; do sleep 0.02; done"
    program = subprocess.Popen([shell, "-c", script], stdout=subprocess.PIPE, text=True)
    started.append(program)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


def own_shell(folder: Path, name: str) -> str:
    """A shell that nothing else on this machine is called after."""
    return str(shutil.copy(os.path.realpath(shutil.which("sh") or "/bin/sh"), str(folder / name)))


def test_signals_by_number_and_by_file(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    program = listener(started, "HUP")
    SignalHook(str(program.pid)).run(CALL)
    assert program.communicate(timeout=HANG_SECONDS)[0] == "got HUP\n"
    program = listener(started, "USR1")
    file = tmp_path / "app.pid"
    file.write_text(f"{program.pid}\n")
    hook = SignalHook(f"{file}:usr1")
    hook.run(CALL)
    assert program.communicate(timeout=HANG_SECONDS)[0] == "got USR1\n"
    with pytest.raises(HookError, match=rf"--signal {file}:SIGUSR1: there is no process {program.pid}"):
        hook.run(CALL)


@pytest.mark.parametrize("name", ["reload{pid}", "with a blank) {pid}", "longer-than-15-{pid}"])
def test_signals_by_name(name: str, tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    name = name.format(pid=os.getpid())
    program = listener(started, "USR2", shell=own_shell(tmp_path, name))
    other = listener(started, "USR2")
    SignalHook(f"{name}:SIGUSR2").run(CALL)
    assert program.communicate(timeout=HANG_SECONDS)[0] == "got USR2\n"
    assert other.poll() is None
    with pytest.raises(HookError, match="no process has this name"):
        SignalHook(f"{name}:SIGUSR2").run(CALL)


def test_a_master_is_signalled_and_not_its_workers(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    shell = own_shell(tmp_path, f"master{os.getpid()}")
    worker = f"{shell} -c 'echo $$ > {tmp_path}/worker; while :; do sleep 0.02; done' > /dev/null &"
    program = listener(started, "HUP", worker, shell)
    pid = int(wait_for_line(tmp_path / "worker"))
    SignalHook(Path(shell).name).run(CALL)
    assert program.communicate(timeout=HANG_SECONDS)[0] == "got HUP\n"
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    SignalHook(f"{Path(shell).name}:KILL").run(CALL)  # now nobody of that name is above it
    wait_for_end(pid)


@pytest.mark.parametrize("target", ["", ":HUP", "0", "-1", "99999999999", "nginx:NOSUCH", "nginx:0", "{pid}"])
def test_what_cannot_be_signalled(target: str) -> None:
    with pytest.raises(UsageError):
        SignalHook(target.format(pid=os.getpid()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\n", "If that is meant, write --signal 1"),
        ("{pid}\n", "the number of this watch"),
        ("", "no number of a process"),
        ("-5", "no number of a process"),
        ("12 13", "no number of a process"),
        ("9" * 100, "no number of a process"),
    ],
)
def test_a_file_without_a_usable_number(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "app.pid"
    file.write_text(content.format(pid=os.getpid()))
    with pytest.raises(HookError, match=message):
        SignalHook(str(file)).run(CALL)


def test_no_file_and_no_proc(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="cannot be read: No such file or directory"):
        SignalHook(str(tmp_path / "app.pid")).run(CALL)
    with pytest.raises(UsageError, match="to find a process by its name"):
        SignalHook("nginx", tmp_path / "proc")
    assert str(SignalHook("1", tmp_path / "proc")) == "--signal 1:SIGHUP"


@dataclass
class Receiver:
    """A small HTTP server that notes what it gets."""

    port: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.seen.append((self.path, headers, json.loads(body)))
        if self.path == "/silent":
            self.receiver.over.wait(HANG_SECONDS)
            return
        if self.path == "/drip":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            while not self.receiver.over.wait(0.02):
                self.wfile.write(b"x")
            return
        status = self.receiver.answers.get(self.path, 200)
        self.send_response(status)
        if status in {301, 302, 303, 307, 308}:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815  a redirection that is followed would be one

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client has given up, as it should."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": found}))
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    found.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.delenv("MODELDROP_POST_AUTHORIZATION", raising=False)


def test_a_post(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    PostHook(receiver.url("/reload?x=1")).run(CALL)
    monkeypatch.setenv("RELOAD_TOKEN", "Bearer abc\n")
    receiver.answers["/reload"] = 204
    PostHook(receiver.url("/reload"), "RELOAD_TOKEN").run(HookCall(snapshot(1), None, returned=True))
    (path, headers, document), (_, authorized, first) = receiver.seen
    assert path == "/reload?x=1"
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers
    assert authorized["authorization"] == "Bearer abc"
    assert document == {
        "event": "changed",
        "model": "embedder",
        "channel": "current",
        "generation": 12,
        "version": "v2",
        "variant": "int8",
        "digest": f"sha256:{2:064}",
        "path": "/models/embedder/v2-int8-0123456789ab",
        "previous_version": "v1",
        "previous_path": "/models/embedder/v1-int8-0123456789ab",
    }
    assert (first["event"], first["version"], first["previous_path"]) == ("returned", "v1", None)


@pytest.mark.slow
def test_a_post_trusts_a_private_ca(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TlsServer(receiver.port, tmp_path) as server:
        hook = PostHook(f"https://localhost:{server.port}/reload")
        with pytest.raises(HookError, match="certificate verify failed"):
            hook.run(CALL)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", server.ca_file)
        hook.run(CALL)
    assert [path for path, _, _ in receiver.seen] == ["/reload"]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 500, 503])
def test_any_other_answer_is_a_failure(status: int, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_POST_AUTHORIZATION", "Bearer abc")
    receiver.answers["/hooks/a-secret"] = status
    with pytest.raises(HookError) as caught:
        PostHook(receiver.url("/hooks/a-secret")).run(CALL)
    assert str(caught.value) == f"--post http://127.0.0.1:{receiver.port} was answered with status {status}."
    assert [path for path, _, _ in receiver.seen] == ["/hooks/a-secret"]


@pytest.mark.parametrize("path", ["/silent", "/drip"])
def test_a_post_that_is_not_answered(path: str, receiver: Receiver) -> None:
    with pytest.raises(HookError, match=r"was not answered within 0.3 s"):
        PostHook(receiver.url(path), seconds=0.3).run(CALL)


def test_a_post_waits_for_who_does_not_listen_yet() -> None:
    found = Receiver()
    handler = type("Handler", (_Handler,), {"receiver": found})
    with _Server(("127.0.0.1", 0), handler, bind_and_activate=False) as late, ThreadPoolExecutor(1) as pool:
        late.server_bind()  # until it listens, connections are refused
        posting = pool.submit(PostHook(f"http://127.0.0.1:{late.socket.getsockname()[1]}/reload").run, CALL)
        assert not wait([posting], 0.4).done
        late.server_activate()
        late.handle_request()
        posting.result(HANG_SECONDS)
    assert [path for path, _, _ in found.seen] == ["/reload"]


def test_a_post_to_nobody(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in GROWING_SECONDS:  # connecting is tried again until this time is over
        with pytest.raises(HookError) as caught:
            PostHook("http://127.0.0.1:9/hooks/a-secret", seconds=seconds).run(CALL)
        if "refused" in str(caught.value):
            break
    assert re.match(r"--post http://127.0.0.1:9 failed: .*refused", str(caught.value))
    monkeypatch.setenv("MODELDROP_POST_AUTHORIZATION", "Bearer\nabc")
    with pytest.raises(HookError, match="MODELDROP_POST_AUTHORIZATION holds characters") as caught:
        PostHook(receiver.url("/")).run(CALL)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:80", "ftp://x/", "file:///etc/passwd", "http://", "http://a:b@c/", "http://x:y/", "http://a b/"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError):
        PostHook(url)


class _Told:
    """A hook that notes what it is told, and fails if told to."""

    def __init__(self, name: str, log: list[str], *, fails: bool = False) -> None:
        self.name, self.log, self.fails = name, log, fails

    def __str__(self) -> str:
        return self.name

    def run(self, call: HookCall) -> None:
        self.log.append(f"{self.name} v{call.new.version}{' returned' if call.returned else ''}")
        if self.fails:
            raise HookError(f"{self.name} failed.")

    def stop(self) -> None:
        self.log.append(f"{self.name} stopped")


def test_those_who_have_heard_of_the_new_hear_of_the_old_again() -> None:
    log: list[str] = []
    hooks = Hooks([_Told("a", log), _Told("b", log, fails=True), _Told("c", log)], threading.Lock())
    with pytest.raises(HookError, match=r"^b failed\.$"):
        hooks.changed(snapshot(2), snapshot(1))
    with pytest.raises(HookError, match=r"^b failed\.$"):
        hooks.returned(snapshot(1), snapshot(2))
    assert log == ["a v2", "b v2", "a v1 returned", "b v1 returned"]
    with pytest.raises(HookError, match=r"^b failed\.$"):
        hooks.returned(snapshot(1), snapshot(2))
    assert log[4:] == ["b v1 returned"]  # the other has taken it
    hooks.stop()
    assert log[5:] == ["a stopped", "b stopped", "c stopped"]


def test_all_are_told_where_an_earlier_watch_may_have_begun() -> None:
    log: list[str] = []
    hooks = Hooks([_Told("a", log), _Told("b", log)], threading.Lock())
    hooks.returned(snapshot(1), snapshot(2))
    assert log == []
    hooks.doubt()
    hooks.returned(snapshot(1), None)
    hooks.returned(snapshot(1), None)
    assert log == ["a v1 returned", "b v1 returned"]
