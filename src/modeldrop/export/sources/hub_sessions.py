"""How huggingface_hub reaches the Hub: with our rule for CAs and proxies, whichever HTTP library its release has.

Below 1.0 it is requests, then httpx, from 2 on httpx2; these two have the same classes.
"""

from __future__ import annotations

import ssl
from importlib import import_module
from typing import Any

from modeldrop.util import http


def use_our_sessions(hub: Any) -> None:
    """Let huggingface_hub make its sessions as we do; those that it has, of another environment, are dropped.

    Args:
        hub: the module.
    """
    if hasattr(hub, "configure_http_backend"):
        from modeldrop.storage.requests_adapter import new_session

        hub.configure_http_backend(new_session)
    else:
        hub.set_client_factory(_new_client)


def _new_client() -> Any:
    """A client as huggingface_hub makes it, which sends through our transport."""
    own = import_module("huggingface_hub.utils._http")
    library = getattr(own, "httpx2", None) or own.httpx
    return library.Client(
        event_hooks={"request": [own.hf_request_event_hook]},
        follow_redirects=True,
        timeout=None,  # each request brings its own
        trust_env=False,
        transport=_transport(library),
    )


def _transport(library: Any) -> Any:
    bundle = http.ca_bundle()
    trusted = ssl.create_default_context(cafile=bundle) if bundle else True

    class HubTransport(library.BaseTransport):  # type: ignore[misc]
        """Trusts and connects by ``modeldrop.util.http``."""

        def __init__(self) -> None:
            self._by_proxy: dict[str, Any] = {}
            self._checked: set[str] = set()

        def handle_request(self, request: Any) -> Any:
            url = str(request.url)
            if request.url.host not in self._checked and http.is_ca_as_server(url):
                raise library.ConnectError(f"CERTIFICATE_VERIFY_FAILED: {http.CA_AS_SERVER}", request=request)
            self._checked.add(request.url.host)
            proxy = http.proxy_for(url)
            if proxy not in self._by_proxy:
                self._by_proxy[proxy] = library.HTTPTransport(verify=trusted, trust_env=False, proxy=proxy or None)
            return self._by_proxy[proxy].handle_request(request)

        def close(self) -> None:
            for transport in self._by_proxy.values():
                transport.close()

    return HubTransport()
