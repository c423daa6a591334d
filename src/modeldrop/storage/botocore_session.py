"""A botocore session whose clients trust and connect by ``modeldrop.util.http``."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore import exceptions
from botocore.httpsession import ProxyConfiguration
from botocore.loaders import create_loader

from modeldrop.storage.botocore_answers import look_at_answers, note_answers
from modeldrop.util import http

if TYPE_CHECKING:
    from modeldrop.storage.aws_profile import AwsProfile
    from modeldrop.storage.s3_address import S3Address, SignInPlace


def named_profile(profile: AwsProfile) -> str:
    """The profile to name to botocore, "" for none.

    To it a profile that is named means that the variables do not count; to the fetcher, and to aws, they win.
    """
    signed_in = os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    return "" if signed_in else profile.name


@functools.cache
def _service_data(folders: str | None) -> Any:
    """What botocore reads of its own files about the services, once in a process: 0.1 s for each session otherwise."""
    return create_loader(folders)


class Session(botocore.session.Session):  # type: ignore[misc] # botocore has no types
    """A session like any other; its clients, those that sign in included, use our CAs, proxies and addresses.

    Args:
        address: of what it signs in for.
        profile: the AWS profile, "" for the default one.

    Raises:
        CertificatesError: a variable names no usable certificates.
    """

    def __init__(self, address: S3Address | SignInPlace, profile: str = "") -> None:
        super().__init__(profile=profile or None)
        self._components.lazy_register_component(
            "data_loader", lambda: _service_data(self.get_config_variable("data_path"))
        )
        # What sign-in needs, STS before all, is where our rule says: botocore reads some of the variables otherwise.
        self.set_config_variable("region", address.region)
        self.set_config_variable("use_fips_endpoint", address.fips)
        self.set_config_variable("use_dualstack_endpoint", address.dual_stack)
        self._certificates = address.certificates
        bundle = http.ca_bundle(self._certificates)
        if bundle:
            self.set_config_variable("ca_bundle", bundle)

    def create_client(self, *args: Any, **kwargs: Any) -> Any:
        client = super().create_client(*args, **kwargs)
        if http.is_ca_as_server(client.meta.endpoint_url, self._certificates):
            reason = f"certificate verify failed: {http.CA_AS_SERVER}"
            raise exceptions.SSLError(endpoint_url=client.meta.endpoint_url, error=reason)
        http_session = client._endpoint.http_session  # noqa: SLF001
        http_session._proxy_config = _Proxies()  # noqa: SLF001  botocore asks for no proxy per host
        note_answers(http_session)
        look_at_answers(client)
        return client

    def get_credentials(self) -> Any:
        instance: Any = self.get_component("credential_provider").get_provider("iam-role")
        http_session = instance._role_fetcher._session  # noqa: SLF001
        http_session._proxy_config = _Proxies()  # noqa: SLF001  nor for its metadata service
        note_answers(http_session)
        return super().get_credentials()


class _Proxies(ProxyConfiguration):  # type: ignore[misc]
    def proxy_url_for(self, url: str) -> str | None:
        return http.proxy_for(url) or None
