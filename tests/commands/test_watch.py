from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.notes import read_quarantine, read_watch_note
from modeldrop.registry.channels import move_forward, promote
from modeldrop.storage.write import open_store
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import environment, make_build, publish_build, publish_folder, run_python
from tests.helpers.clouds import sign_in
from tests.helpers.command_line import modeldrop
from tests.helpers.process_1 import AS_PROCESS_1, ORPHANS_COME_HERE, needs_namespaces
from tests.helpers.time_limits import REQUESTS, patient_modeldrop
from tests.helpers.waiting import HANG_SECONDS
from tests.helpers.watch_process import Webhook, eventually, link

if TYPE_CHECKING:
    from collections.abc import Sequence


def noting(file: Path, then: str = "") -> str:
    """A command that notes what it is told, and what the link names then."""
    names = "$MODELDROP_MODEL $MODELDROP_VERSION $MODELDROP_GENERATION"
    current = '$(basename "$(readlink "$(dirname "$MODELDROP_PATH")/current")")'
    script = f'echo "{names} {current} $(basename "$MODELDROP_PREVIOUS_PATH")" >> {file}; {then}'
    return f"sh -c {shlex.quote(script)}"


def told(file: Path) -> list[str]:
    """Model, version, generation, and the versions of the link and of the one before."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [" ".join(word.partition("-")[0] for word in line.split()) for line in lines]


def test_a_move_runs_every_hook(
    registry: Path, home: Path, watch: Any, webhook: tuple[Webhook, str], tmp_path: Path
) -> None:
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", home)
    server = subprocess.Popen(
        ["sh", "-c", "trap 'echo reloaded' HUP; echo $$; while :; do sleep 0.02; done"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        pid = server.stdout.readline().strip()
        notice, url = webhook
        one = watch(
            f"{registry}/embedder", "-d", home, "--exec", noting(tmp_path / "told"), "--signal", pid, "--post", url,
            "--post-auth-env", "RELOAD", RELOAD="Bearer abc", no_proxy="127.0.0.1",
        )  # fmt: skip
        one.says("v1 is in use")
        publish_build(registry, "b")
        one.says("v2 int8 is in use, before v1")
        assert server.stdout.readline() == "reloaded\n"
        assert told(tmp_path / "told") == ["embedder v2 2 v2 v1"]
        [document] = notice.documents
        assert (document["event"], document["version"], document["previous_version"]) == ("changed", "v2", "v1")
        assert notice.authorizations == ["Bearer abc"]
        one.process.send_signal(signal.SIGTERM)
        assert one.ends() == 0
        assert "abc" not in "".join(one.lines)
    finally:
        server.kill()
        server.communicate()


def test_a_failing_hook_brings_the_old_version_back(
    registry: Path, home: Path, watch: Any, webhook: tuple[Webhook, str], tmp_path: Path
) -> None:
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", home)
    notice, url = webhook
    notice.status = 500
    one = watch(f"{registry}/embedder", "-d", home, "--exec", noting(tmp_path / "told"), "--post", url, no_proxy="*")
    one.says("v1 is in use")
    publish_build(registry, "b")
    one.says("failed too")  # the old version's hooks have run as well
    assert told(tmp_path / "told") == ["embedder v2 2 v2 v1", "embedder v1 1 v1 v2"]
    assert {document["event"] for document in notice.documents[1:]} == {"returned"}
    assert link(home) == "v1"
    held = read_quarantine(home / "embedder", "current")
    assert held is not None
    assert held.reason.endswith("was answered with status 500.")
    ran = modeldrop("status", home, "--json")
    [channel] = ran.json["channels"]
    assert (ran.code, channel["version"], channel["quarantine"]["version"]) == (20, "v1", "v2")
    assert "was answered with status 500" in channel["untold"]
    notice.status = 200
    one.says("v1 is in use, and that has been told again")
    assert modeldrop("status", home).code == 0
    assert told(tmp_path / "told") == ["embedder v2 2 v2 v1", "embedder v1 1 v1 v2"]  # who has taken it is left alone
    for version in (1, 2):  # the channel has named v2 all the time: only a move makes it be tried again
        promote(FolderStore(str(registry)), "embedder", version, "current", by="dana")
    one.says("v2 int8 is in use, before v1")
    assert link(home) == "v2"
    assert read_quarantine(home / "embedder", "current") is None
    one.process.send_signal(signal.SIGINT)
    assert one.ends() == 130


def test_a_watch_that_is_killed_in_a_hook_runs_it_again(registry: Path, home: Path, watch: Any, tmp_path: Path) -> None:
    publish_build(registry, "a")
    fetch(f"{registry}/embedder", home)
    kills = noting(tmp_path / "told", "kill -9 $PPID")
    one = watch(f"{registry}/embedder", "-d", home, "--exec", kills)
    one.says("v1 is in use")
    publish_build(registry, "b")
    assert one.ends() == -signal.SIGKILL
    assert link(home) == "v2"
    again = watch(f"{registry}/embedder", "-d", home, "--exec", noting(tmp_path / "told"))
    again.says("v2 int8 is in use, before v1")
    assert told(tmp_path / "told") == ["embedder v2 2 v2 v1"] * 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_at_once_in_the_middle_of_a_hook(
    number: signal.Signals, code: int, registry: Path, home: Path, watch: Any, tmp_path: Path
) -> None:
    publish_build(registry, "a")
    pid = tmp_path / "pid"
    one = watch(f"{registry}/embedder", "-d", home, "--exec", f"sh -c 'echo $$ > {pid}; exec sleep 6000'")
    eventually(lambda: pid.exists() and pid.read_text().endswith("\n"))
    one.process.send_signal(number)
    assert one.ends() == code
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert read_quarantine(home / "embedder", "current") is None
    assert not any("defect" in line or "Traceback" in line for line in one.lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_counts_that_another_thread_than_the_main_one_gets(number: signal.Signals, code: int) -> None:
    program = f"""
import signal, threading, time
from modeldrop.commands.watch import _Ended
ended = _Ended()
assert not ended.within(0)
signal.signal(signal.SIGUSR1, lambda *_: None)

def send():
    time.sleep(0.5)  # the main thread waits by then, or finds the signal there
    for number in (signal.SIGUSR1, {number:d}):
        signal.pthread_kill(threading.get_ident(), number)

threading.Thread(target=send).start()
print(ended.wait())
"""
    assert run_python(program).strip() == str(code)


def test_it_ends_at_once_while_a_registry_does_not_answer(
    servers: Any, monkeypatch: pytest.MonkeyPatch, home: Path, watch: Any, tmp_path: Path
) -> None:
    server = servers["s3"]
    sign_in(monkeypatch, server)
    url = server.registry()
    make_build(tmp_path / "build")
    version = publish_folder(open_store(url), "embedder", tmp_path / "build", adopt_seconds=0.2).version
    move_forward(open_store(url), "embedder", version, "current", by="dana")
    server.reset()
    server.rule("silent", method="GET", match="v1/manifest.json", times=100)
    one = watch(f"{url}/embedder", "-d", home, program=patient_modeldrop(REQUESTS))
    eventually(lambda: any("manifest.json" in request.path for request in server.requests()))
    one.process.terminate()
    assert one.ends() == 0
    assert [line.partition(": ")[2][:6] for line in one.lines] == ["asking", "genera"]  # it did not wait for the answer
    server.reset()


def test_several_models_in_json(registry: Path, home: Path, watch: Any, tmp_path: Path) -> None:
    publish_build(registry, "a")
    publish_build(registry, "b", model="reranker")
    one = watch(
        f"{registry}/embedder", f"{registry}/embedder@staging", f"{registry}/reranker",
        "-d", home, "--log-format", "json", "--exec", noting(tmp_path / "told"),
    )  # fmt: skip
    one.says('"event": "unavailable"')
    eventually(lambda: len(told(tmp_path / "told")) == 2)
    promote(FolderStore(str(registry)), "embedder", 1, "staging", by="dana")
    eventually(lambda: link(home, "staging") == "v1")
    eventually(lambda: len(told(tmp_path / "told")) == 3)
    one.process.terminate()
    assert one.ends() == 0
    events = [json.loads(line) for line in one.lines]
    assert {event["model"] for event in events} == {"embedder", "reranker"}
    assert [event["event"] for event in events if event.get("channel") == "staging"][:2] == ["following", "unavailable"]
    changed = [event for event in events if event["event"] == "changed"]
    assert {(event["model"], event["channel"], event["version"]) for event in changed} == {
        ("embedder", "current", 1),
        ("embedder", "staging", 1),
        ("reranker", "current", 1),
    }
    assert all(Path(event["path"]).is_dir() and event["time"].endswith("Z") for event in changed)


def test_what_a_damaged_registry_does(registry: Path, home: Path, watch: Any, tmp_path: Path) -> None:
    publish_build(registry, "a")
    figures = tmp_path / "figures.prom"
    one = watch(f"{registry}/embedder", "-d", home, "--metrics", figures)
    one.says("v1 int8 is in use")
    eventually(figures.exists)
    labels = '{model="embedder",channel="current"}'
    assert {f"modeldrop_model_version{labels} 1", f"modeldrop_fetch_success{labels} 1"} <= {
        *figures.read_text().splitlines()
    }
    (registry / "embedder/current").write_bytes(b"")
    one.says("v1 stays in use.")
    assert link(home) == "v1"
    eventually(lambda: f"modeldrop_fetch_success{labels} 0" in figures.read_text().splitlines())
    assert f"modeldrop_model_version{labels} 1" in figures.read_text().splitlines()
    ran = modeldrop("status", home)
    assert ran.code == 0
    assert "is no channel, but an empty answer" in ran.out


ENDS_BY_ITSELF = """
import sys
from modeldrop.cli import main
from modeldrop.errors import RegistryError
from modeldrop.fetcher.watch.follower import Follower

class PanicException(BaseException):
    pass

def poll(self):
    if self.link == "current":
        raise {error}
    return True

Follower.poll = poll
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("PanicException('no entry found')", 1, "unexpected PanicException: no entry found"),
        ("SystemExit(0)", 1, "unexpected SystemExit"),
    ],
)
def test_a_watch_that_ends_by_itself_ends_the_process(
    error: str, code: int, message: str, registry: Path, home: Path
) -> None:
    publish_build(registry, "a")
    ran = subprocess.run(
        [
            sys.executable, "-c", ENDS_BY_ITSELF.format(error=error), "watch", f"{registry}/embedder@staging",
            f"{registry}/embedder", "-d", home, "--quiet",
        ],
        env=environment(), capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
    )  # fmt: skip
    assert ran.returncode == code
    assert f"modeldrop: The watch of {registry}/embedder has ended: {message}" in ran.stderr
    assert "Start the watch again" in ran.stderr


LEAVES_ORPHANS = "sh -c 'for i in 1 2 3; do setsid sh -c : & done; echo $MODELDROP_VERSION >> {told}; exit {code}'"


def watches_as_process_1(prefix: Sequence[str], *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*prefix, *map(str, arguments)], env=environment(), start_new_session=True)


@pytest.mark.parametrize(
    "prefix",
    [
        [sys.executable, "-c", ORPHANS_COME_HERE],
        pytest.param([*AS_PROCESS_1, sys.executable, "-m", "modeldrop"], marks=needs_namespaces),
    ],
    ids=["subreaper", "namespace"],
)
def test_as_process_1_it_collects_what_its_hooks_leave(
    prefix: list[str], registry: Path, home: Path, tmp_path: Path
) -> None:
    publish_build(registry, "a")
    hook = LEAVES_ORPHANS.format(told=tmp_path / "told", code=0)
    refusing = LEAVES_ORPHANS.format(told=tmp_path / "refused", code=5)
    process = watches_as_process_1(
        prefix, "watch", f"{registry}/embedder", "-d", home, "--interval", "1s", "--exec", hook, "--exec", refusing
    )
    try:
        # Exit codes are not lost to whoever collects.
        eventually(lambda: "ended with exit code 5" in read_watch_note(home / "embedder", "current").refusal)
        [first] = psutil.Process(process.pid).children() if prefix[0] == "unshare" else [psutil.Process(process.pid)]
        eventually(lambda: len(first.children()) == 1)  # the watch, and nothing that a hook has left
        first.send_signal(signal.SIGTERM)
        assert process.wait(HANG_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["embedder@v1"], 2, "it never moves"),
        (["embedder", "embedder@current"], 2, "the same link"),
        (["embedder", "--interval", "soon"], 2, "--interval 'soon' is not a duration"),
        (["embedder", "--interval", "0"], 2, "more than 0 s"),
        (["embedder", "--hook-timeout", "0"], 2, "--hook-timeout is 0"),
        (["embedder", "--exec", "'"], 2, "cannot be split"),
        (["embedder", "--signal", "nginx:NONE"], 2, "no signal"),
        (["embedder", "--post", "ftp://x"], 2, "not an address"),
        (["embedder", "--on-unavailable", "offline"], 2, "offline"),
    ],
)
def test_arguments_that_cannot_be_meant(
    arguments: list[str], code: int, message: str, registry: Path, home: Path
) -> None:
    publish_build(registry, "a")
    ran = modeldrop("watch", *arguments, "-d", home, environment={"MODELDROP_REGISTRY": str(registry)})
    assert ran.code == code
    assert message in ran.err
    assert ran.out == ""
