"""Who has nothing on the disk waits for a registry in trouble; who has something does not."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import RegistryError
from modeldrop.fetcher.download import transfer
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.watch.follower import UNAVAILABLE
from modeldrop.fetcher.watch.watcher import watch
from modeldrop.storage.read import patience
from modeldrop.storage.read.patience import ask_again, ask_retry_after
from modeldrop.util.retry import Deadline
from tests.helpers.builds import environment, publish_build
from tests.helpers.clouds import sign_out
from tests.helpers.time_limits import REQUESTS, patient_modeldrop
from tests.helpers.waiting import GROWING_SECONDS, HANG_SECONDS, wait_until
from tests.servers.faults import Fault, FaultyServer
from tests.servers.https import HttpsAnswer
from tests.servers.metadata import Metadata
from tests.storage.cloud_addresses import ACCOUNT, authorizations, configure, metadata, models, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.fetcher.events import Event
    from tests.servers.faults import ReceivedRequest
    from tests.servers.https import HttpsServer

__all__ = ["metadata", "models", "server"]


@pytest.fixture
def faulty(registry: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    publish_build(registry)
    sign_out(monkeypatch)
    with FaultyServer(registry) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pauses, a hundredth as long."""
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.0025)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(transfer, "LIMITS", transfer.LIMITS._replace(pause=0.001, busy_pause=0.005, max_pause=0.02))


def busy(share: float, seed: int) -> Callable[[ReceivedRequest], Fault | None]:
    """Answer 503 to that share of requests, by chance, but with the same seed always alike."""
    chance, lock = random.Random(seed), threading.Lock()

    def rule(_: ReceivedRequest) -> Fault | None:
        with lock:
            return Fault(status=503) if chance.random() < share else None

    return rule


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_a_cold_start_gets_through_a_busy_service(
    share: float, faulty: FaultyServer, quick: None, tmp_path: Path
) -> None:
    for start in range(3):
        faulty.rule = busy(share, start)
        assert fetch(f"{faulty.url}/embedder", tmp_path / str(start)).version == 1


@pytest.mark.soak
def test_forty_cold_starts_with_503_on_70_percent(faulty: FaultyServer, tmp_path: Path) -> None:
    faulty.rule = busy(0.7, 1)
    patient = patient_modeldrop({**REQUESTS, "modeldrop.storage.errors.UNAVAILABLE_SECONDS": HANG_SECONDS})
    fetching = [*patient, "fetch", f"{faulty.url}/embedder", "--timeout", f"{HANG_SECONDS:g}s", "-d"]
    started = [
        subprocess.Popen([*fetching, str(tmp_path / str(index))], env=environment(), cwd=tmp_path)
        for index in range(40)
    ]
    assert [process.wait() for process in started] == [0] * 40


def test_a_network_that_comes_late(faulty: FaultyServer, quick: None, tmp_path: Path) -> None:
    told: list[str] = []
    with faulty.deaf():
        heard = threading.Event()

        def listen(text: str) -> None:
            told.append(text)
            heard.set()

        result: list[int] = []
        start = threading.Thread(
            target=lambda: result.append(fetch(f"{faulty.url}/embedder", tmp_path / "home", on_wait=listen).version)
        )
        start.start()
        heard.wait()
    start.join()
    assert result == [1]
    assert "cannot be reached: connection refused. Asking again for up to 20 s." in told[0]
    assert len(told) == 1


def test_who_has_a_snapshot_does_not_wait(faulty: FaultyServer, tmp_path: Path) -> None:
    def fail(text: str) -> None:
        pytest.fail(text)

    reference, home = f"{faulty.url}/embedder", tmp_path / "home"
    fetch(reference, home)
    faulty.rule = lambda _: Fault(status=503)
    faulty.forget()
    assert fetch(reference, home, on_wait=fail).checked == "disk"
    assert len(faulty.asks) == 3
    with faulty.deaf():
        assert fetch(reference, home, on_wait=fail).checked == "disk"
    told: list[str] = []
    for seconds in GROWING_SECONDS:  # as long as asking for the first time takes, at least
        with pytest.raises(RegistryError) as caught:
            fetch(reference, home, on_wait=told.append, on_unavailable="fail", timeout=seconds)
        if told:
            break
    assert told
    assert "the service answered 503" in caught.value.message


@pytest.mark.parametrize("missing", ["current", "manifest.json"])
def test_a_watch_does_not_wait(missing: str, faulty: FaultyServer, tmp_path: Path) -> None:
    faulty.rule = lambda ask: Fault(status=503) if ask.key.endswith(missing) else None
    asked: list[int] = []

    def note(event: Event) -> None:
        if event.name == UNAVAILABLE:
            asked.append(sum(ask.key.endswith(missing) for ask in faulty.asks))

    watcher = watch(
        f"{faulty.url}/embedder", lambda _new, _old: None, directory=tmp_path / "home", interval=600, on_event=note
    )
    with watcher:
        wait_until(lambda: asked)
    assert asked[0] == 3


def test_what_asking_again_cannot_mend_is_told_at_once(faulty: FaultyServer, tmp_path: Path) -> None:
    for status in (400, 401, 403):
        faulty.rule = lambda _, status=status: Fault(status=status)  # type: ignore[misc]
        faulty.forget()
        with pytest.raises(RegistryError):
            fetch(f"{faulty.url}/embedder", tmp_path / "home", on_wait=pytest.fail)
        assert len(faulty.asks) == 1


def test_the_time_limit_is_kept(faulty: FaultyServer, tmp_path: Path) -> None:
    faulty.rule = lambda _: Fault(status=503)
    for seconds in GROWING_SECONDS:
        with pytest.raises(RegistryError) as caught:
            fetch(f"{faulty.url}/embedder", tmp_path / "home", timeout=seconds)
        if "the service answered 503" in caught.value.message:
            break
    assert "the service answered 503" in caught.value.message


def test_retry_after(faulty: FaultyServer) -> None:
    address = f"http://127.0.0.1:{faulty.port}/faulty/embedder/current"
    later = formatdate(time.time() + 3600, usegmt=True)
    for said, seconds in (("7", 7.0), ("9999", 60.0), (later, 60.0), ("soon", 0.0), ("", 0.0)):
        faulty.rule = lambda _, said=said: Fault(status=503, headers={"Retry-After": said})  # type: ignore[misc]
        assert ask_retry_after(address) == seconds
    faulty.rule = lambda _: Fault(status=403, headers={"Retry-After": "7"})
    assert ask_retry_after(address) == 0.0
    faulty.rule = lambda _: None
    assert ask_retry_after(f"{address}?sig=secret") == 0.0
    with faulty.deaf():
        assert ask_retry_after(address) == 0.0


def test_what_a_busy_service_says_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(Deadline, "sleep", lambda _deadline, seconds: slept.append(seconds))
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise RegistryError("busy", patience=100.0)
        return "answer"

    def again() -> str:
        return ask_again(
            ask,
            RegistryError("busy", patience=100.0),
            deadline=Deadline(100),
            retry_after=lambda: 30.0,
            tell=lambda _: None,
        )

    assert again() == "answer"
    assert slept == [30.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("s3://acme/models", "Credential=AKIDMETA"),
        ("gs://acme/models", "Bearer meta"),
        (f"az://{ACCOUNT}/acme/models", "Bearer meta"),
    ],
)
def test_a_metadata_service_that_comes_late(
    url: str,
    signed: str,
    server: HttpsServer,
    metadata: Metadata,
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sign_out(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.host}")
    monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
    monkeypatch.setenv("GCE_METADATA_IP", metadata.host)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://{metadata.host}")
    server.answer = lambda request: None if "authorization" in request.headers else refusal(url)
    metadata.refusal = 503  # as GKE's does until it knows the pod
    told: list[str] = []

    def come(text: str) -> None:
        told.append(text)
        metadata.refusal = 0

    configure(monkeypatch, tmp_path, url, server)
    assert fetch(f"{url}/embedder", tmp_path / "home", on_wait=come).version == 1
    assert "no credentials were found, and the metadata service of this machine does not answer" in told[0]
    assert signed in authorizations(server)[-1]


@pytest.mark.soak
@pytest.mark.parametrize("url", ["s3://acme/models", "gs://acme/models", f"az://{ACCOUNT}/acme/models"])
def test_a_metadata_service_that_takes_four_seconds_for_each_answer(
    url: str, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Metadata):
        def answer(self, path: str, headers: Any) -> tuple[int, str]:
            time.sleep(4)
            return super().answer(path, headers)

    sign_out(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    server.answer = lambda request: None if "authorization" in request.headers else refusal(url)
    with Slow() as metadata:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.host}")
        monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
        monkeypatch.setenv("GCE_METADATA_IP", metadata.host)
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://{metadata.host}")
        configure(monkeypatch, tmp_path, url, server)
        assert fetch(f"{url}/embedder", tmp_path / "home").version == 1


def refusal(url: str) -> HttpsAnswer:
    if url.startswith("az"):
        return HttpsAnswer(404, b"<Error><Code>ResourceNotFound</Code></Error>")
    return HttpsAnswer(403, b"<Error><Code>AccessDenied</Code></Error>")
