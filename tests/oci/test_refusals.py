"""What a registry may refuse: a sentence, its exit code, and no tag that names half an export."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.helpers.ports import own_port
from tests.helpers.waiting import HANG_SECONDS
from tests.oci.conftest import Run
from tests.servers.oci_registry import OciAnswer, OciRegistry, OciRequest, error
from tests.servers.tls import ForwardProxy, TlsServer

NAME = "models/embedder"
PAGE = OciAnswer(
    200, b"<!doctype html><html><title>Sign in to this network</title></html>", {"Content-Type": "text/html"}
)


@pytest.mark.parametrize(
    ("method", "part", "said", "code", "says"),
    [
        (
            "POST",
            "uploads",
            error(403, "DENIED", "requested access is denied"),
            12,
            "to push to it are needed. Nobody is signed in",
        ),
        ("POST", "uploads", error(404, "NAME_UNKNOWN"), 12, "There is no repository .*Amazon ECR"),
        ("POST", "uploads", error(405, "UNSUPPORTED"), 12, "takes no images"),
        ("POST", "uploads", error(403, "DENIED", "proxy project: pushes are denied"), 12, "takes no images"),
        ("PUT", "uploads", OciAnswer(413, b"<html><head><title>413 Request Entity Too Large</title>"), 12, "web page"),
        ("PUT", "uploads", error(413, "SIZE_INVALID", "too large"), 14, "did not arrive"),
        ("PUT", "uploads", OciAnswer(413, b"body too large"), 12, "client_max_body_size"),
        ("PUT", "uploads", error(403, "DENIED", "quota exceeded: 5 GiB of 5 GiB"), 12, "has no room for this"),
        ("PUT", "uploads", OciAnswer(507, b"Insufficient Storage"), 12, "has no room for this"),
        ("PUT", "uploads", error(400, "DIGEST_INVALID"), 14, "did not arrive as it was sent"),
        ("PUT", "manifests", error(400, "TAG_INVALID", "tag x is immutable"), 17, "choose another tag"),
        ("PUT", "manifests", error(400, "MANIFEST_INVALID", "no indexes"), 12, "MANIFEST_INVALID: no indexes"),
        ("PUT", "manifests", OciAnswer(429, b"slow down", {"Retry-After": "0"}), 12, "429 .slow down.*overloaded"),
        ("PUT", "manifests", OciAnswer(503, b""), 12, "503.*overloaded or down"),
        ("GET", "/v2/", OciAnswer(404, b"nothing here"), 12, "no container registry: 404"),
        ("GET", "/v2/", PAGE, 12, "no container registry: 200 with a web page .Sign in to this network."),
        ("HEAD", "blobs", OciAnswer(404, b"<html>"), 0, ""),
        ("POST", "uploads", OciAnswer(307, b"", {"Location": "https://a.example"}), 12, "no container registry: 307"),
        ("POST", "uploads", OciAnswer(202, b""), 12, "202 without an address"),
        ("PUT", "manifests", OciAnswer(201, b"", {"Docker-Content-Digest": "sha256:0"}), 14, "has stored sha256:0"),
    ],
)
def test_a_refusal_is_a_sentence(
    export: Run, oci: OciRegistry, method: str, part: str, said: OciAnswer, code: int, says: str
) -> None:
    oci.answer = lambda asked: said if asked.method == method and part in asked.path else None
    found, _, err = export(f"oci://{oci.host}/{NAME}:x")
    assert found == code, err
    if code:
        last = err[err.index("modeldrop: ") :]
        assert len(last.splitlines()) == 2
        assert_says(" ".join(last.split()), says)
        assert not oci.of(NAME).tags


def assert_says(text: str, pattern: str) -> None:
    import re

    assert re.search(pattern, text), text


def test_a_closed_port_and_an_unknown_name_are_told(export: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    port = own_port()
    code, _, err = export(f"oci://127.0.0.1:{port}/{NAME}", "--plain-http")
    assert code == 12, err
    assert f"127.0.0.1:{port}/{NAME}: the registry cannot be reached: Connection refused." in err

    def unknown(*_: object, **__: object) -> None:  # asking a real resolver may take long
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    code, _, err = export(f"oci://no-such-registry.invalid/{NAME}")
    assert code == 12, err
    assert "the registry cannot be reached: Name or service not known." in err


def test_what_answers_in_no_http_is_told(export: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANG_SECONDS)
        import threading

        def answer() -> None:
            for _ in range(20):
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        code, _, err = export(f"oci://127.0.0.1:{listener.getsockname()[1]}/{NAME}", "--plain-http")
        listener.close()
    assert code == 12
    assert "does not answer in HTTP" in err


def test_tls_under_a_private_ca(export: Run, oci: OciRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TlsServer(oci.port, tmp_path) as tls:
        code, _, err = export(f"oci://localhost:{tls.port}/{NAME}:x")
        assert code == 12
        assert "the certificate of the registry is not trusted" in err
        assert "SSL_CERT_FILE" in err
        monkeypatch.setenv("SSL_CERT_FILE", tls.ca_file)
        code, _, err = export(f"oci://localhost:{tls.port}/{NAME}:x")
        assert code == 0, err
    assert "x" in oci.of(NAME).tags


def test_through_a_proxy(export: Run, oci: OciRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TlsServer(oci.port, tmp_path) as tls, ForwardProxy(tmp_path) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", tls.ca_file)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        code, _, err = export(f"oci://localhost:{tls.port}/{NAME}:x")
        assert code == 0, err
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        code, _, err = export(f"oci://{oci.host}/{NAME}:y", "--plain-http")
        assert code == 0, err
    log = (tmp_path / "proxy.log").read_text()
    assert f"CONNECT localhost:{tls.port}" in log
    assert f"127.0.0.1:{oci.port}" in log


def test_a_registry_without_tls_elsewhere_needs_the_option(
    export: Run, oci: OciRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that is no loopback address as it is written, and leads here all the same.
    real = socket.getaddrinfo

    def here(host: object, *rest: object, **more: object) -> object:
        return real("127.0.0.1" if host == "registry.test" else host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", here)
    code, _, err = export(f"oci://registry.test:{oci.port}/{NAME}:x")
    assert code == 12
    assert "does not speak TLS there" in err
    assert "--plain-http" in err
    assert export(f"oci://registry.test:{oci.port}/{NAME}:x", "--plain-http")[0] == 0


def test_no_secret_goes_to_another_host(export: Run, tmp_path: Path) -> None:
    with OciRegistry("basic") as oci, OciRegistry() as store:
        auth = {"auths": {oci.host: {"auth": "Y2k6czNjcmV0LW9mLWNp"}}}
        (tmp_path / "user/.docker").mkdir()
        (tmp_path / "user/.docker/config.json").write_text(json.dumps(auth))
        oci.elsewhere = f"http://{store.host}"

        def take(asked: OciRequest) -> OciAnswer:
            return OciAnswer(201)

        store.answer = take
        code, _, err = export(f"oci://{oci.host}/{NAME}:x", "--format=modelpack")
        assert code == 12, err  # the manifest names blobs that this registry has not
        assert "MANIFEST_BLOB_UNKNOWN" in err
        assert store.asked("PUT")
        assert not any("authorization" in one.headers for one in store.requests)


def test_an_address_without_tls_is_not_followed(
    export: Run, oci: OciRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsServer(oci.port, tmp_path) as tls:
        monkeypatch.setenv("SSL_CERT_FILE", tls.ca_file)
        oci.elsewhere = f"http://localhost:{tls.port}"
        code, _, err = export(f"oci://localhost:{tls.port}/{NAME}:x")
        assert code == 12
        assert "X-Forwarded-Proto" in err
        oci.sign_in, oci.realm, oci.elsewhere = "bearer", f"http://{oci.host}/token", ""
        code, _, err = export(f"oci://localhost:{tls.port}/{NAME}:x")
        assert code == 12
        assert "wants a password sent to" in err


def test_a_repository_takes_no_options_for_folders_and_the_other_way_round(export: Run, tmp_path: Path) -> None:
    for option in ("--plain-http", "--mount-from=a"):
        code, _, err = export(f"oci:{tmp_path}/layout", option)
        assert (code, "are for registries" in err) == (2, True)
    code, _, err = export("oci://localhost:1/a", "--mount-from=NOT A NAME")
    assert (code, "cannot name a repository" in err) == (2, True)
    code, _, err = export(f"oci://localhost:1/a:{'v' * 120}")
    assert (code, "cannot be a tag" in err) == (2, True)  # with -modelpack it is too long
