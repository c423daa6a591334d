"""A botocore session whose clients trust and connect by ``modeldrop.util.http``."""

from __future__ import annotations

from typing import Any

import botocore.session
from botocore.httpsession import ProxyConfiguration

from modeldrop.util import http


class Session(botocore.session.Session):  # type: ignore[misc] # botocore has no types
    """A session like any other; its clients, those that sign in included, use our CAs and proxies.

    Raises:
        CertificatesError: a variable names no usable certificates.
    """

    def __init__(self, profile: str | None = None) -> None:
        super().__init__(profile=profile)
        bundle = http.ca_bundle(self.get_scoped_config().get("ca_bundle", ""))
        if bundle:
            self.set_config_variable("ca_bundle", bundle)

    def create_client(self, *args: Any, **kwargs: Any) -> Any:
        client = super().create_client(*args, **kwargs)
        client._endpoint.http_session._proxy_config = _Proxies()  # noqa: SLF001  botocore asks for no proxy per host
        return client

    def get_credentials(self) -> Any:
        instance: Any = self.get_component("credential_provider").get_provider("iam-role")
        instance._role_fetcher._session._proxy_config = _Proxies()  # noqa: SLF001  nor for its metadata service
        return super().get_credentials()


class _Proxies(ProxyConfiguration):  # type: ignore[misc]
    def proxy_url_for(self, url: str) -> str | None:
        return http.proxy_for(url) or None
