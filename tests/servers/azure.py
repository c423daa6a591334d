"""Azure Blob Storage on 127.0.0.1: Azurite, which Microsoft makes for tests.

Its conditions (create-only, If-Match) hold under races. It checks the signatures of its one account, and
Content-MD5; it knows neither roles nor encryption scopes nor customer networks.
"""

from __future__ import annotations

import http.client
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from azure.storage.blob import ContainerClient

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.node import NodeServer

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The one key of every Azurite, published by Microsoft: no secret."""

_MARK = "end-of-log-"
_LOG_SECONDS = HANG_SECONDS
_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/[\d.]+" (\d{3})')


class AzureServer(NodeServer):
    """See ``CloudServer``."""

    name = "azure"

    def __init__(self) -> None:
        super().__init__(
            "azurite/dist/src/blob/main.js",
            lambda data: [
                "--disableTelemetry",
                "--skipApiVersionCheck",
                "--location",
                str(data),
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                "0",
            ],
        )
        self._seen = 0

    @property
    def endpoint(self) -> str:
        """The address of the account."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """What a client signs in with."""
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.endpoint};"

    def sign_in(self) -> Mapping[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string}

    def registry(self) -> str:
        name = f"container-{secrets.token_hex(6)}"
        with self.container(name) as container:
            container.create_container()
        return f"az://{ACCOUNT}/{name}/team/models"

    def container(self, name: str) -> Any:
        """A client of a container, which need not exist."""
        return ContainerClient.from_connection_string(self.connection_string, name)

    def reset(self) -> None:
        """Forget the requests so far."""
        self._seen = len(self._lines())

    def requests(self) -> list[tuple[str, str]]:
        """Method and path with query of every request that was answered since ``reset``."""
        lines = [(found[1], found[2]) for found in self._lines()[self._seen :]]
        return [line for line in lines if _MARK not in line[1]]

    def _lines(self) -> list[re.Match[str]]:
        """The access log up to now: it is written a little later than the answers, so ask for a line to wait for."""
        mark = f"{_MARK}{secrets.token_hex(8)}"
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_LOG_SECONDS)
        client.request("GET", f"/{mark}")
        client.getresponse().read()
        client.close()
        deadline = time.monotonic() + _LOG_SECONDS
        while mark not in (log := self.log()):
            if time.monotonic() > deadline:
                raise RuntimeError("Azurite does not log its requests.")
            time.sleep(0.005)
        return list(_REQUEST.finditer(log))
