"""A publisher that is told to end while it uploads: what it has sent is freed, and nothing that it started stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import NotFoundError
from modeldrop.format.manifest import serialize_manifest
from modeldrop.registry.versions import get_version
from modeldrop.storage.write import open_store
from tests.helpers.builds import describe, environment, make_build, publish_folder
from tests.helpers.time_limits import PUBLISHERS, patient_modeldrop
from tests.helpers.waiting import HANG_SECONDS, wait_for_end, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.s3 import S3Server

LARGE = "onnx/model.onnx"
PARTS = 3
SIZE = PARTS << 24

CLEANING = """
import sys, time
from modeldrop.util.process import end_in_order, exit_code_of
end_in_order()
try:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
except KeyboardInterrupt as interrupt:
    print("cleaning", flush=True)
    sys.stdin.read()
    print("cleaned", flush=True)
    sys.exit(exit_code_of(interrupt))
"""
WORKING = """
import sys, time
from pathlib import Path
from modeldrop.export import worker_process
from modeldrop.util.process import end_in_order, exit_code_of
end_in_order()
folder = Path(sys.argv[1])
python = folder / "python"
python.write_text("#!/bin/sh\\nexec sleep 6000\\n")
python.chmod(0o755)
try:
    with worker_process.Worker("verify", {}, dict, folder, python=str(python)) as worker:
        print(worker._process.pid, flush=True)
        worker.result(print)
except KeyboardInterrupt as interrupt:
    sys.exit(exit_code_of(interrupt))
"""


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A folder that holds a version with a file of several parts."""
    manifest = make_build(tmp_path / "build")
    data = bytes(SIZE)
    (tmp_path / "build" / LARGE).write_bytes(data)
    files = tuple(describe(LARGE, data) if file.path == LARGE else file for file in manifest.files)
    (tmp_path / "build/manifest.json").write_bytes(serialize_manifest(manifest._replace(files=files)))
    registry = str(tmp_path / "registry")
    publish_folder(open_store(registry), "embedder", tmp_path / "build")
    return f"{registry}/embedder@v1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_publisher_that_is_told_to_end_leaves_no_unfinished_upload(
    s3: S3Server, large: str, number: signal.Signals
) -> None:
    registry = s3.registry()
    store: Any = open_store(registry)
    s3.rule("silent", method="PUT", match="partNumber=2", times=-1)
    publisher = subprocess.Popen(
        [*patient_modeldrop(PUBLISHERS["s3"]), "mirror", large, registry, "--quiet"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def sent() -> set[str]:
        return {part for one in s3.requests() for part in ("partNumber=1", "partNumber=2") if part in one.path}

    try:
        wait_until(lambda: len(sent()) == 2 or publisher.poll() is not None)
        assert publisher.poll() is None, publisher.communicate()
        assert len(store.unfinished("embedder")) == 1
        publisher.send_signal(number)
        said, errors = publisher.communicate(timeout=HANG_SECONDS)
    finally:
        publisher.kill()
    assert (publisher.returncode, said, errors) == (128 + number, "", "modeldrop: interrupted\n")
    uploads = store.client.list_multipart_uploads(Bucket=store.bucket.name)
    assert uploads.get("Uploads", []) == []
    with pytest.raises(NotFoundError, match="has no manifest"):
        get_version(store, "embedder", 1)


@pytest.mark.parametrize(
    ("first", "next_"),
    [
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGHUP),
    ],
)
def test_what_is_undone_is_not_interrupted_by_the_next_signal(first: signal.Signals, next_: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CLEANING],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(first)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(next_)
    said, _ = process.communicate(timeout=HANG_SECONDS)
    assert (said, process.returncode) == ("cleaned\n", 128 + first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_ends_with_its_publisher(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKING, tmp_path], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.send_signal(number)
    process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 128 + number
    wait_for_end(worker)
