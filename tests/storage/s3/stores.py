"""An S3 store, and what its server was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.config import RegistrySettings
from modeldrop.errors import RegistryError
from modeldrop.storage.urls import parse_bucket
from modeldrop.storage.write.s3.store import S3BucketStore
from tests.helpers.builds import PIECE, describe
from tests.servers.s3 import KEY_ID, SECRET, S3Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = "embedder/v1/onnx/model.onnx"
CHANNEL = "embedder/current"
PART = 5 << 20  # the least that S3 takes
LARGE = 2 * PART + 4321
SSO = """\
[profile team]
sso_session = team
sso_account_id = 111122223333
sso_role_name = publisher
region = eu-west-1
[sso-session team]
sso_start_url = https://team.awsapps.com/start
sso_region = eu-west-1
"""


def open_s3(url: str, **settings: Any) -> S3BucketStore:
    return S3BucketStore(parse_bucket(url), RegistrySettings(url, **settings))


def sent(server: S3Server) -> list[str]:
    """The methods of the requests that came, and what kind they were."""
    return [request.method for request in server.requests()]


def upload(store: S3BucketStore, folder: Path, data: bytes, key: str = MODEL) -> list[int]:
    path = folder / "upload"
    path.write_bytes(data)
    told: list[int] = []
    store.upload(key, path, describe("upload", data), PIECE, told.append)
    return told


def refusal(call: Callable[[], object]) -> str:
    """The whole message of the RegistryError that ``call`` raises, which names no secret and no class of an SDK."""
    with pytest.raises(RegistryError) as caught:
        call()
    text = str(caught.value)
    for never in (SECRET, KEY_ID, "boto", "Exception", "Traceback"):
        assert never not in text
    return text


def profile(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, name: str = "team") -> None:
    """Be signed in by a profile and nothing else."""
    config = folder / "config"
    config.write_text(text)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", name)
    monkeypatch.setenv("HOME", str(folder))
