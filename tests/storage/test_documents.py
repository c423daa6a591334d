"""A registry's documents through obstore: what is left of a store where no SDK is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.config import RegistrySettings, registry_settings
from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.run import run_check
from modeldrop.errors import MissingExtraError
from modeldrop.registry.channels import move_forward
from modeldrop.registry.promotion import Asked, Promotion
from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import read_channel
from modeldrop.storage.write import open_store, open_store_or_documents
from modeldrop.storage.write.documents import DocumentStore, serves
from tests.helpers.builds import build_key, make_build, publish_folder
from tests.helpers.clouds import sign_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers
    from tests.servers.interface import CloudServer

OF_DOCUMENTS = {
    "create_only",
    "nothing_is_there",
    "odd_names",
    "race_to_create",
    "race_to_swap",
    "swap",
    "swap_created",
    "swap_missing",
}


class Both:
    """Documents through obstore, and what that cannot do through the SDK."""

    def __init__(self, registry: str) -> None:
        self._sdk = open_store(registry)
        self._documents = DocumentStore(registry_settings(registry), MissingExtraError("the SDK"))

    def __getattr__(self, name: str) -> Any:
        ours = {"get", "exists", "names", "create", "swap", "url"}
        return getattr(self._documents if name in ours else self._sdk, name)


@pytest.mark.parametrize("check", [one for one in CHECKS if one.name in OF_DOCUMENTS], ids=lambda check: check.name)
def test_documents_conform(check: Check, cloud: CloudServer) -> None:
    outcome = run_check(check, Both(cloud.registry()))
    assert (outcome.fault, outcome.lack, outcome.skipped) == ("", "", "")


def test_what_the_settings_say_of_new_objects_is_left_to_the_sdk() -> None:
    assert serves(RegistrySettings("s3://acme", endpoint="https://minio.acme.example", region="eu-west-1"))
    for said in ({"encryption_key": "k"}, {"tags": {"a": "b"}}, {"encryption": "AES256"}, {"acl": "private"}):
        assert not serves(RegistrySettings("s3://acme", **said))


def without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed: what has imported it is imported anew."""
    for name in [name for name in sys.modules if name.startswith("modeldrop.storage.write.s3")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("boto3", "botocore"):
        monkeypatch.setitem(sys.modules, name, None)


def test_what_has_a_version_is_found_and_promoted_without_an_sdk(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sign_in(monkeypatch, servers["s3"])
    registry = servers["s3"].registry()
    for seed in ("a", "b"):
        make_build(tmp_path / seed, seed)
        publish_folder(open_store(registry), "embedder", tmp_path / seed)
    without_boto3(monkeypatch)
    with pytest.raises(MissingExtraError):
        open_store(registry)
    store = open_store_or_documents(registry)
    for number, seed in enumerate(("a", "b", "b"), 1):
        version = find_build(store, "embedder", build_key(seed))
        assert version is not None
        asked = Asked(f"2026-11-30T03:00:0{number}Z", f"https://github.com/acme/models/actions/runs/{number}")
        moved = move_forward(store, "embedder", version, "current", by="dana", asked=asked)
        assert moved.promotion is (Promotion.UNCHANGED if number == 3 else Promotion.MOVED)
    channel, _ = read_channel(store, "embedder", "current")
    assert channel is not None
    assert channel.wanted is not None
    assert (channel.version, channel.generation) == (2, 2)
    assert channel.wanted.run == "https://github.com/acme/models/actions/runs/3"  # noted, though nothing moved
    with pytest.raises(MissingExtraError, match="boto3"):
        store.download("embedder/v1/config.json", tmp_path / "config.json", lambda _: None)
    with pytest.raises(MissingExtraError, match="boto3"):
        publish_folder(store, "embedder", tmp_path / "a", force=True)
