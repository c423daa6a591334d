from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import ConflictError, IntegrityError, RegistryError
from modeldrop.storage.write.azure import store as azure
from tests.helpers.builds import as_store, describe
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.azure import ACCOUNT, AzureServer
from tests.servers.reply_dropping_proxy import ReplyDroppingProxy
from tests.servers.tampering_proxy import ProxyAnswer, ProxyRequest, TamperingProxy
from tests.storage.azure.stores import (
    CHANNEL,
    MIB,
    WEIGHTS,
    Large,
    answer,
    assert_matches,
    blob,
    go_through,
    open_azure,
    refusal,
    tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_it_is_a_store(url: str) -> None:
    store = open_azure(url)
    assert as_store(store) is store
    assert (store.url, store.bucket.account, store.settings.url) == (url, ACCOUNT, url)
    assert store.client.container_name == store.bucket.name


def test_every_small_thing_is_one_request(server: AzureServer, url: str, tmp_path: Path) -> None:
    store = open_azure(url)
    (tmp_path / "config.json").write_bytes(b"{}")
    file = describe("config.json", b"{}")
    for ask in (
        lambda: store.create(CHANNEL, b"1"),
        lambda: store.get(CHANNEL),
        lambda: store.exists(CHANNEL),
        lambda: store.names("embedder"),
        lambda: list(store.objects("embedder")),
        lambda: store.upload("embedder/v1/config.json", tmp_path / "config.json", file, MIB, lambda _: None),
        lambda: store.download(CHANNEL, tmp_path / "current", lambda _: None),
        lambda: store.check_writable(1),
        lambda: store.delete(CHANNEL),
    ):
        server.reset()
        ask()
        assert len(server.requests()) == 1
    assert store.names("") == ["embedder"]


def test_asking_whether_it_is_writable_writes_nothing(url: str) -> None:
    store = open_azure(url)
    store.check_writable(1 << 40)
    assert list(store.objects("")) == []


def test_a_leased_blob_is_a_conflict_that_says_so(server: AzureServer, url: str) -> None:
    store = open_azure(url)
    store.create(CHANNEL, b"1")
    before = tag(store)
    lease = blob(server, store, CHANNEL).acquire_lease(15)
    writes: list[Callable[[], object]] = [lambda: store.swap(CHANNEL, b"2", before), lambda: store.delete(CHANNEL)]
    for ask in writes:
        with pytest.raises(ConflictError, match=r"team/models/embedder/current is leased") as caught:
            ask()
        assert "az storage blob lease break" in caught.value.hint
    with pytest.raises(ConflictError, match="written by somebody else"):
        store.create(CHANNEL, b"2")
    lease.release()
    store.swap(CHANNEL, b"2", before)


def test_headers_tags_and_checksum_are_stored(server: AzureServer, url: str, large: Large) -> None:
    store = open_azure(url, tags={"team": "search", "stage": "live now"})
    store.create("embedder/v1/manifest.json", b"{}")
    store.create(CHANNEL, b"{}")
    large.upload(store)
    for key, kind, cache in (
        ("embedder/v1/manifest.json", "application/json", "no-cache"),
        (CHANNEL, "application/json", "no-cache"),
        (WEIGHTS, "application/octet-stream", "public, max-age=31536000, immutable"),
    ):
        client = blob(server, store, key)
        headers = client.get_blob_properties().content_settings
        assert (headers.content_type, headers.cache_control) == (kind, cache)
        assert (headers.content_md5 is None) == (key == WEIGHTS)
        assert client.get_blob_tags() == {"team": "search", "stage": "live now"}


def test_every_write_names_the_encryption_scope(proxy: TamperingProxy, url: str, large: Large) -> None:
    store = open_azure(url, encryption_key="models-scope")
    store.create(CHANNEL, b"1")
    large.upload(store)
    scopes = {request.headers.get("x-ms-encryption-scope") for request in proxy.requests if request.method == "PUT"}
    assert scopes == {"models-scope"}


def test_blocks_go_up_and_come_down_side_by_side(
    server: AzureServer, proxy: TamperingProxy, url: str, large: Large, tmp_path: Path
) -> None:
    store = open_azure(url)
    begun: list[ProxyRequest] = []
    lock, second = threading.Lock(), threading.Event()

    def hold(request: ProxyRequest) -> None:
        """Answer no block before a second one has begun."""
        if "comp=block&" in request.path:
            with lock:
                begun.append(request)
                if len(begun) == 2:
                    second.set()
            second.wait(HANG_SECONDS)

    sent: list[int] = []
    proxy.tamper = hold
    server.reset()
    large.upload(store, sent.append)
    asked = [(method, path.partition("?")[2].partition("&")[0]) for method, path in server.requests()]
    assert asked == [("PUT", "comp=block")] * len(large.file.pieces) + [
        ("PUT", "comp=blocklist"),
        ("GET", "comp=blocklist"),
    ]
    assert (sum(sent), len(sent)) == (large.file.size, len(large.file.pieces))
    assert second.is_set()
    got: list[int] = []
    store.download(WEIGHTS, tmp_path / "copy", got.append)
    assert (tmp_path / "copy").read_bytes() == large.path.read_bytes()
    assert sum(got) == large.file.size


def test_a_file_that_changed_on_disk_is_never_committed(url: str, large: Large, tmp_path: Path) -> None:
    store = open_azure(url)
    data = bytearray(large.path.read_bytes())
    data[9 * MIB] ^= 1
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(IntegrityError, match="changed while it was published"):
        store.upload(WEIGHTS, tmp_path / "model.onnx", large.file, MIB, lambda _: None)
    assert not store.exists(WEIGHTS)


def test_what_is_damaged_on_the_way_is_sent_again(proxy: TamperingProxy, url: str, large: Large) -> None:
    damaged: list[str] = []
    lock = threading.Lock()

    def flip(request: ProxyRequest) -> bytes | None:
        kind = next((kind for kind in ("current", "comp=block&") if kind in request.path), None)
        with lock:  # blocks come side by side
            if request.method != "PUT" or kind is None or kind in damaged:
                return None
            damaged.append(kind)
        return request.body[:-1] + bytes([request.body[-1] ^ 1])

    store = open_azure(url)
    proxy.tamper = flip
    store.create(CHANNEL, b"what was meant")
    large.upload(store)
    assert sorted(damaged) == ["comp=block&", "current"]
    stored = store.get(CHANNEL)
    assert stored is not None
    assert stored.data == b"what was meant"


def test_blocks_that_are_not_the_ones_sent_are_noticed(proxy: TamperingProxy, url: str, large: Large) -> None:
    def other_list(request: ProxyRequest) -> ProxyAnswer | None:
        if request.method == "GET" and "comp=blocklist" in request.path:
            blocks = "<CommittedBlocks><Block><Name>eA==</Name><Size>1</Size></Block></CommittedBlocks>"
            headers = {"x-ms-request-id": "1", "Content-Type": "application/xml"}
            return ProxyAnswer(200, headers, f"<BlockList>{blocks}</BlockList>".encode())
        return None

    proxy.tamper = other_list
    with pytest.raises(IntegrityError, match="not stored as it was sent"):
        large.upload(open_azure(url))


def test_our_own_bytes_after_a_lost_reply_are_no_conflict(
    server: AzureServer, url: str, large: Large, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    key, file = "embedder/v1/config.json", describe("config.json", b"{}")
    with ReplyDroppingProxy(server.port) as cutting:
        go_through(monkeypatch, server, cutting.port)
        store = open_azure(url)
        for match in ("comp=blocklist", "comp=block&", "config.json"):
            cutting.drop("PUT", match)
        large.upload(store)
        store.upload(key, tmp_path / "config.json", file, MIB, lambda _: None)
        assert len(cutting.dropped) == 3
    go_through(monkeypatch, server, server.port)
    store = open_azure(url)
    store.delete(WEIGHTS)
    store.create(WEIGHTS, bytes(large.file.size))
    with pytest.raises(ConflictError):
        large.upload(store)


def test_a_busy_service_is_asked_again_and_a_refusing_one_is_not(proxy: TamperingProxy, url: str, large: Large) -> None:
    left = {"PUT": 6, "GET": 2}

    def busy(request: ProxyRequest) -> ProxyAnswer | None:
        left[request.method] -= 1
        return answer(503, "ServerBusy") if left[request.method] >= 0 else None

    store = open_azure(url)
    proxy.tamper = busy
    large.upload(store)
    assert store.names("embedder") == ["v1"]
    assert max(left.values()) < 0

    proxy.tamper = lambda _: answer(403, "AuthorizationPermissionMismatch")
    proxy.requests.clear()
    refusal(lambda: store.create(CHANNEL, b"1"))
    proxy.tamper = lambda _: None
    assert store.get(CHANNEL) is None
    assert len(proxy.requests) == 2


def test_a_service_that_stays_busy_is_said_to_be(
    proxy: TamperingProxy, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.tamper = lambda _: answer(503, "ServerBusy")
    for seconds in (0.5, 5.0, 50.0):  # on a busy machine the first answer may take all of it
        monkeypatch.setattr(azure._RetryLimits, "seconds", lambda *_, limit=seconds: limit)
        proxy.requests.clear()
        said = refusal(lambda: open_azure(url).get(CHANNEL))
        if len(proxy.requests) > 1:
            break
    assert said.startswith(f"Could not read {url}/{CHANNEL}: the service answered 503 ServerBusy (")
    assert "again later" in said
    assert len(proxy.requests) > 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (answer(403, "AuthorizationPermissionMismatch"), "Not allowed to write .*the right to write"),
        (answer(403, "AuthorizationFailure"), "does not accept these credentials .*firewall"),
        (answer(403, "KeyBasedAuthenticationNotPermitted"), "the account allows no keys"),
        (answer(403, "AccountIsDisabled"), "storage account devstoreaccount1 is disabled"),
        (
            answer(403, "AuthenticationFailed", detail="The MAC signature found in the HTTP request is not the same."),
            "does not accept these credentials .the connection string",
        ),
        (
            answer(403, "AuthenticationFailed", detail="Signature not valid in the specified time frame: Start [x]"),
            "has expired",
        ),
        (
            answer(403, "AuthenticationFailed", detail="Request date header too old: yesterday"),
            "the clock of this machine is wrong",
        ),
        (
            answer(401, "InvalidAuthenticationInfo", "Lifetime validation failed. The token is expired."),
            "the token of these credentials has expired",
        ),
        (answer(401, "InvalidAuthenticationInfo", "Issuer validation failed."), "does not accept these credentials"),
        (answer(401, "NoAuthenticationInformation"), "no credentials were found"),
        (answer(404, "ContainerNotFound"), "there is no container container-"),
        (answer(409, "BlobImmutableDueToPolicy"), "an immutability policy"),
        (answer(400, "InvalidHeaderValue", "The value for one header is wrong."), "The value for one header is wrong"),
        (
            ProxyAnswer(404, {"Content-Type": "text/html"}, b"<h1>Welcome to nginx"),
            "not as this service does: 404 with a web page",
        ),
        (ProxyAnswer(407), "not as this service does: 407"),
    ],
)
def test_each_refusal_has_its_sentence(proxy: TamperingProxy, url: str, given: ProxyAnswer, said: str) -> None:
    proxy.tamper = lambda _: given
    with pytest.raises(RegistryError, match=url):
        open_azure(url).create(CHANNEL, b"1")
    told = refusal(lambda: open_azure(url).create(CHANNEL, b"1"))
    assert_matches(said, told)
    assert len(proxy.requests) == 2


def test_every_method_says_that_there_is_no_container(url: str, large: Large, tmp_path: Path) -> None:
    store = open_azure(url.replace("container-", "contoso-"))
    for ask in (
        lambda: store.get(CHANNEL),
        lambda: store.exists(CHANNEL),
        lambda: store.names(""),
        lambda: list(store.objects("")),
        lambda: store.create(CHANNEL, b""),
        lambda: store.swap(CHANNEL, b"", '"0x1"'),
        lambda: large.upload(store),
        lambda: store.download(CHANNEL, tmp_path / "x", lambda _: None),
        lambda: store.delete(CHANNEL),
        lambda: store.check_writable(1),
    ):
        assert "there is no container contoso-" in refusal(ask)
