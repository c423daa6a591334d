from __future__ import annotations

import pytest

from modeldrop.errors import UsageError
from modeldrop.oci.destination import LayoutDestination, RegistryDestination, parse_destination


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("oci://ghcr.io/acme/embedder", RegistryDestination("ghcr.io", "acme/embedder")),
        ("oci://localhost:5000/e:v3-int8", RegistryDestination("localhost:5000", "e", "v3-int8")),
        ("oci://[::1]:5000/a/b__c/d.e:A_1", RegistryDestination("[::1]:5000", "a/b__c/d.e", "A_1")),
        ("oci:./layout", LayoutDestination("./layout")),
        ("oci:/srv/layout:v3", LayoutDestination("/srv/layout", "v3")),
    ],
)
def test_what_is_written_is_understood(text: str, found: object) -> None:
    assert parse_destination(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ghcr.io/acme/embedder:v3", "no place for an export"),
        ("docker://ghcr.io/acme/embedder", "no place for an export"),
        ("oci:", "names no folder"),
        ("oci:./layout:", "cannot be a tag"),
        ("oci:./layout:a:b", "cannot be a tag"),
        ("oci://ghcr.io", "no registry and repository"),
        ("oci:///embedder", "no registry and repository"),
        ("oci://ghcr.io/", "cannot name a repository"),
        ("oci://ghcr.io/Acme/embedder", "cannot name a repository"),
        ("oci://ghcr.io/a//b", "cannot name a repository"),
        (f"oci://ghcr.io/{'a' * 256}", "cannot name a repository"),
        ("oci://ghcr.io/acme/embedder:", "cannot be a tag"),
        (f"oci://ghcr.io/acme/embedder:{'v' * 129}", "cannot be a tag"),
        ("oci://ghcr.io/acme/embedder@sha256:" + "0" * 64, "names a digest"),
        ("oci://ci:hunter2hunter2@ghcr.io/acme/embedder", "does not belong into an address"),
    ],
)
def test_what_names_no_place_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        parse_destination(text)
    assert "hunter2" not in str(refused.value)


def test_docker_hub_is_asked_where_it_answers() -> None:
    found = parse_destination("oci://docker.io/acme/embedder")
    assert isinstance(found, RegistryDestination)
    assert (found.url, found.address) == ("docker.io/acme/embedder", "registry-1.docker.io")
    assert not found.is_loopback


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.10", "[::1]:5000"])
def test_this_machine_is_known(host: str) -> None:
    assert RegistryDestination(host, "e").is_loopback
    assert not RegistryDestination(f"{host.partition(':')[0].strip('[')}.example.com", "e").is_loopback
