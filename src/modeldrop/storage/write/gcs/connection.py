"""A bucket's connection: Google's client, signed in when first needed, and requests that it has no methods for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from google.api_core import exceptions as api

from modeldrop.storage.write.gcs import client as gcs_client
from modeldrop.storage.write.gcs.errors import explained, unusable_credentials

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping

    import requests
    from google.cloud import storage

    from modeldrop.config import RegistrySettings
    from modeldrop.storage.urls import Bucket
    from modeldrop.storage.write.multipart import PartBody


class Connection:
    """Nothing is sent, and nobody signs in, before the first request.

    Attributes:
        bucket: the registry's URL, parsed.
        settings: what modeldrop.toml says about it.
    """

    def __init__(self, bucket: Bucket, settings: RegistrySettings) -> None:
        self.bucket = bucket
        self.settings = settings
        emulator = gcs_client.emulator()
        self._anonymous = bool(emulator) or settings.anonymous
        self._endpoint = emulator or settings.endpoint
        self._connected: tuple[storage.Client, requests.Session] | None = None
        self._lock = threading.Lock()

    @property
    def client(self) -> storage.Client:
        """Google's client.

        Raises:
            RegistryError: nobody is signed in.
        """
        return self._connect()[0]

    @property
    def endpoint(self) -> str:
        """The service's address."""
        return str(self.client.api_endpoint).rstrip("/")

    def xml_url(self, key: str, query: Mapping[str, str]) -> str:
        """Where the XML API has an object, or with "" the bucket."""
        where = f"/{quote(self.bucket.prefix + key, safe='/~')}" if key else ""
        return f"{self.endpoint}/{self.bucket.name}{where}?{urlencode(query)}"

    def request(
        self,
        method: str,
        url: str,
        *,
        data: bytes | PartBody | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: tuple[float, float] | None = None,
        retry: gcs_client.Retry | None = gcs_client.QUICK_RETRY,
    ) -> requests.Response:
        """Ask, within QUICK_TIMEOUT unless told otherwise; give the answer: 2xx, or the 308 of an upload that goes on.

        Raises:
            GoogleAPICallError: any other answer.
            RequestException: there was none.
        """
        session = self._connect()[1]
        limits = timeout or gcs_client.QUICK_TIMEOUT

        def once() -> requests.Response:
            reply = session.request(method, url, data=data, headers=headers, timeout=limits, allow_redirects=False)
            if reply.status_code >= 300 and reply.status_code != 308:
                raise api.from_http_status(reply.status_code, reply.text, response=reply)
            return reply

        return once() if retry is None else retry(once)()

    def explained(self, verb: str, key: str) -> contextlib.AbstractContextManager[None]:
        """Raise our own errors for those of the client; see ``errors.explained``."""
        return explained(self.bucket.url, self._endpoint, verb, key, self.settings.encryption_key)

    def _connect(self) -> tuple[storage.Client, requests.Session]:
        with self._lock:
            if self._connected is None:
                try:
                    self._connected = gcs_client.make_client(self._endpoint, anonymous=self._anonymous)
                except Exception as error:  # noqa: BLE001
                    # google-auth parses what others wrote: whatever it raises, the credentials cannot be used.
                    raise unusable_credentials(self.bucket.url, error) from None
            return self._connected
