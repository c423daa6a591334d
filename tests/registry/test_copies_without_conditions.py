"""A service without conditional writes serves what was published to a folder, once the objects are copied over."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.fetcher.fetch import fetch
from tests.helpers.builds import contents, publish_build
from tests.helpers.clouds import sign_in
from tests.helpers.command_line import modeldrop
from tests.servers.s3 import client

if TYPE_CHECKING:
    from tests.helpers.clouds import Servers
    from tests.servers.s3 import S3Server


@pytest.fixture(params=["refuses", "ignores"])
def unconditional(
    request: pytest.FixtureRequest, servers: Servers, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A registry's URL where conditions are refused by 501, as by Backblaze B2, or ignored."""
    if request.param == "ignores":
        sign_in(monkeypatch, servers["s3rver"])
        return servers["s3rver"].registry()
    for header in ("if-none-match", "if-match"):
        s3.rule("answer", method="PUT", header=header, status=501, code="NotImplemented", times=-1)
    return s3.registry()


def sync(registry: Path, url: str) -> None:
    """What the page's two commands do: every version, and then the channels."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    with contextlib.closing(client(os.environ)) as service:
        for pattern in ("*/v*/**/*", "*/current"):
            for path in sorted(path for path in registry.glob(pattern) if path.is_file()):
                key = f"{prefix}/{path.relative_to(registry).as_posix()}"
                service.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


@pytest.mark.usefixtures("publisher_environment")
def test_what_was_copied_is_fetched_and_nothing_can_be_published(
    unconditional: str, registry: Path, tmp_path: Path
) -> None:
    for number, seed in enumerate(("a", "b"), 1):
        publish_build(registry, seed)
        sync(registry, unconditional)
        snapshot = fetch(f"{unconditional}/embedder", tmp_path / "home", variant="fp32")
        assert snapshot.version == number
        assert snapshot.model_file.read_bytes() == contents(seed)["onnx/model.onnx"]
    ran = modeldrop("mirror", f"{registry}/embedder", unconditional.replace("models", "others"))
    assert ran.code == 12
    assert "cannot be a registry to publish to" in ran.err
    assert "Traceback" not in ran.err
