"""A GCS store, and what its server was asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.config import RegistrySettings
from modeldrop.storage.urls import parse_bucket
from modeldrop.storage.write.gcs.store import GCSBucketStore
from tests.helpers.builds import PIECE, describe
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from tests.servers.gcs import GCSServer
import http.client
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.servers.gcs import GCSServer


KMS_KEY = "projects/acme/locations/eu/keyRings/models/cryptoKeys/publisher"
MODEL_KEY = "embedder/v1/onnx/model.onnx"
SECRET = "c2VjcmV0LW9mLXRoZS10ZXN0"
LARGE = (20 << 20) + 7
BUCKET = "acme-models"


def open_gcs(url: str, **settings: Any) -> GCSBucketStore:
    return GCSBucketStore(parse_bucket(url), RegistrySettings(url, **settings))


def put(store: GCSBucketStore, path: Path, data: bytes, key: str = MODEL_KEY) -> int:
    """Upload ``data`` and return how many bytes progress was told of."""
    path.write_bytes(data)
    told: list[int] = []
    store.upload(key, path, describe("f", data), PIECE, told.append)
    return sum(told)


def stored(store: GCSBucketStore, key: str = MODEL_KEY) -> bytes | None:
    found = store.get(key)
    return None if found is None else found.data


def sent(server: GCSServer) -> list[str]:
    """The methods of the requests since the last reset."""
    return [method for method, _ in server.requests()]


def raw(server: GCSServer, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HANG_SECONDS)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
