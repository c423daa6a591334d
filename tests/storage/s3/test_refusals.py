"""What the S3 store says when a service refuses, is down or is no S3."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import ModeldropError, RegistryError
from modeldrop.storage.write.s3 import connection
from modeldrop.storage.write.s3.store import S3BucketStore
from tests.servers.s3 import SECRET, S3Server
from tests.storage.cloud_addresses import DEAD
from tests.storage.s3.stores import CHANNEL, LARGE, open_s3, refusal, sent, upload

if TYPE_CHECKING:
    from pathlib import Path

REFUSALS = {
    "bucket": ({"status": 404, "code": "NoSuchBucket"}, "there is no bucket bucket-"),
    "permission": ({"status": 403, "code": "AccessDenied"}, "or it is not there and the identity may not list"),
    "key": ({"status": 403, "code": "InvalidAccessKeyId"}, "does not accept these credentials"),
    "signature": ({"status": 403, "code": "SignatureDoesNotMatch"}, "does not accept these credentials"),
    "token": ({"status": 400, "code": "InvalidToken"}, "does not accept these credentials"),
    "expired token": ({"status": 400, "code": "ExpiredToken"}, "has expired"),
    "expired request": ({"status": 403, "code": "RequestExpired"}, "has expired"),
    "clock": ({"status": 403, "code": "RequestTimeTooSkewed"}, "clock is wrong"),
    "redirect": (
        {"status": 301, "code": "PermanentRedirect", "headers": {"x-amz-bucket-region": "eu-west-3"}},
        "the bucket is in the region eu-west-3, not in us-east-1.\n  Set AWS_REGION=eu-west-3",
    ),
    "malformed": (
        {"status": 400, "code": "AuthorizationHeaderMalformed", "extra": "<Region>eu-west-3</Region>"},
        "the bucket is in the region eu-west-3, not in us-east-1",
    ),
    "location": ({"status": 400, "code": "IllegalLocationConstraintException"}, "is in another region"),
    "a new bucket": (
        {"status": 307, "code": "TemporaryRedirect", "headers": {"x-amz-bucket-region": "us-east-1"}},
        "the bucket is new",
    ),
    "encryption key": ({"status": 400, "code": "KMS.DisabledException"}, "its encryption key cannot be used"),
    "anything": ({"status": 400, "code": "MetadataTooLarge"}, "answers 400 (MetadataTooLarge"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_is_one_sentence_after_one_request(store: S3BucketStore, server: S3Server, case: str) -> None:
    answer, sentence = REFUSALS[case]
    server.rule("answer", times=-1, **answer)
    with pytest.raises(RegistryError) as caught:
        store.get(CHANNEL)
    assert sentence in str(caught.value)
    assert SECRET not in str(caught.value)
    assert sent(server) == ["GET"]


def test_a_refused_write_is_not_said_to_be_missing(store: S3BucketStore, server: S3Server) -> None:
    server.rule("answer", status=403, code="AccessDenied", times=-1)
    assert refusal(lambda: store.create(CHANNEL, b"{}")).startswith(f"Not allowed to write {store.url}/{CHANNEL}")
    assert refusal(lambda: store.check_writable(1)).startswith(f"Not allowed to list {store.url}")


def test_a_token_that_expires_before_a_large_file(store: S3BucketStore, server: S3Server, tmp_path: Path) -> None:
    server.rule("answer", status=400, method="HEAD", headers={"Content-Length": "0"}, times=-1)
    server.rule("answer", status=400, code="ExpiredToken", times=-1)
    assert "has expired" in refusal(lambda: upload(store, tmp_path, os.urandom(LARGE)))


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    store = open_s3("s3://not-there/team")
    for call in (
        lambda: store.get(CHANNEL),
        lambda: store.exists(CHANNEL),
        lambda: store.names(""),
        lambda: store.create(CHANNEL, b"{}"),
        lambda: store.swap(CHANNEL, b"{}", '"0"'),
        lambda: store.check_writable(1),
    ):
        assert "there is no bucket not-there" in refusal(call)


def test_what_answers_and_is_no_s3(store: S3BucketStore, server: S3Server) -> None:
    page = {"body": "<html><body>Welcome<br></html>", "headers": {"Content-Type": "text/html"}}
    server.rule("answer", status=200, method="GET", match="list-type", **page)
    server.rule("answer", status=404, method="GET", **page)
    server.rule("answer", status=404, method="GET", match="list-type", body="404 page not found")
    server.rule("answer", status=405, method="PUT", **page)
    for call in (
        lambda: store.check_writable(1),
        lambda: store.get(CHANNEL),
        lambda: store.names(""),
        lambda: store.create(CHANNEL, b"{}"),
    ):
        assert "answers, but not as this service does" in refusal(call)
    assert sent(server) == ["GET", "GET", "GET", "PUT"]


def test_a_service_that_is_down_is_said_to_be(
    store: S3BucketStore, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rule("answer", status=503, code="ServiceUnavailable", times=-1)
    assert "the service answers 503" in refusal(lambda: store.get(CHANNEL))
    server.reset()
    server.rule("cut", times=-1)
    assert "broke the connection off" in refusal(lambda: store.get(CHANNEL))


def test_a_service_that_says_nothing_is_given_up(
    store: S3BucketStore, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_FIRST_ANSWER_SECONDS", 0.3)
    server.rule("silent", times=-1)
    assert "cannot be reached: it does not answer within" in refusal(lambda: store.get(CHANNEL))


def test_an_endpoint_where_nobody_listens(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CONNECT_RETRY_SECONDS", 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{DEAD}")
    text = refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))
    assert f"http://{DEAD} cannot be reached: connection refused" in text


def test_an_endpoint_whose_backlog_is_full_is_given_up(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest to a firewall that drops packets: connecting gets no answer at all."""
    monkeypatch.setattr(connection, "_FIRST_ANSWER_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        assert f"{endpoint} cannot be reached" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_a_name_that_does_not_resolve(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CONNECT_RETRY_SECONDS", 0.0)

    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.invalid:9000")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", no_such_name)  # a real name server is not ours to wait for
        text = refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))
    assert "http://s3.invalid:9000 cannot be reached: its name does not resolve" in text


def test_an_endpoint_that_cannot_be_one(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "not an address")
    assert "not an address" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_no_message_holds_a_signed_address(store: S3BucketStore, server: S3Server) -> None:
    server.rule("answer", status=400, code="Odd", extra="", headers={"Location": "https://x/?X-Amz-Signature=abc"})
    with pytest.raises(ModeldropError) as caught:
        store.get(CHANNEL)
    assert "Signature" not in str(caught.value)
