"""Pages on this machine: read-only, to this machine alone."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop.commands import serve
from modeldrop.errors import DiskError, RegistryError
from modeldrop.site.places import RegistryPlace
from modeldrop.site.serving import PageServer, is_shown
from modeldrop.site.writing import write_site
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.paper_registry import make_paper_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = make_paper_registry(tmp_path_factory.mktemp("site") / "registry", 1, 2)
    (registry / "model-000/v1/onnx/model.onnx").write_bytes(b"weights")
    return registry


@pytest.fixture(params=["made now", "published"], scope="module")
def server(registry: Path, request: pytest.FixtureRequest) -> Iterator[PageServer]:
    store = FolderStore(str(registry))
    if request.param == "published":
        write_site(store, RegistryPlace(store))
    with serve._pages(str(registry), fresh=False) as read, PageServer(read, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: PageServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_it_shows_the_pages_and_the_documents_beside_them(server: PageServer) -> None:
    status, data, headers = ask(server, "/_site/m/model-000/v2.html")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"../../../model-000/v2/report.html" in data
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, "/model-000/v2/manifest.json")[0] == 200
    status, data, headers = ask(server, "/_site/m/model-000/v2.html", "HEAD")
    assert (status, data) == (200, b"")
    status, _, headers = ask(server, "/")
    assert (status, headers["Location"]) == (302, "/_site/index.html")


@pytest.mark.parametrize(
    "path",
    [
        "/model-000/v1/onnx/model.onnx",
        "/model-000/current",
        "/_site/../model-000/v1/onnx/model.onnx",
        "/_site/%2e%2e/model-000/current",
        "/_site//etc/passwd",
        "/etc/passwd",
        "/_site/m",
        "/nothing",
    ],
)
def test_it_shows_nothing_else(server: PageServer, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_nobody_changes_anything_or_comes_by_another_name(server: PageServer) -> None:
    assert [ask(server, "/_site/index.html", method)[0] for method in ("POST", "PUT", "DELETE")] == [501] * 3
    assert ask(server, "/_site/index.html", Host="registry.example")[0] == 403


def test_a_registry_that_refuses_is_named() -> None:
    def refuse(_: str) -> bytes | None:
        raise RegistryError("s3://acme-models refuses.", "Its identity needs s3:GetObject.")

    with PageServer(refuse, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        status, data, _ = ask(server, "/_site/index.html")
        server.shutdown()
        thread.join()
        assert (status, data) == (502, b"s3://acme-models refuses.\n  Its identity needs s3:GetObject.\n")
        with pytest.raises(DiskError, match="cannot be used"):
            PageServer(refuse, server.server_port)


def test_what_is_shown() -> None:
    assert is_shown("_site/index.html")
    assert is_shown("embedder/v3/bom.cdx.json")
    assert not is_shown("_site/a\x00b")
    assert not is_shown("Embedder/v3/manifest.json")
