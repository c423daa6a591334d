"""A layer that is sent while it is hashed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from modeldrop.oci import registry_target
from modeldrop.oci.blobs import Content, blob_of
from modeldrop.oci.client import Client
from modeldrop.oci.destination import RegistryDestination
from modeldrop.oci.registry_target import RegistryTarget
from modeldrop.util.retry import Deadline
from tests.helpers.time_limits import UPLOADS, lift_limits
from tests.helpers.waiting import HANG_SECONDS
from tests.oci.conftest import Run
from tests.oci.pushed import FILES, NAME, image_files, sign_in, without_manifest
from tests.servers.oci_registry import OciAnswer, OciRegistry, OciRequest, error

DATA = b"a layer" * 100_000


@pytest.fixture(autouse=True)
def every_layer_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_target, "_MIN_AHEAD", 0)


@pytest.fixture
def target(oci: OciRegistry) -> Iterator[RegistryTarget]:
    made = RegistryTarget(Client(RegistryDestination(oci.host, NAME), Deadline(HANG_SECONDS), plain_http=True))
    yield made
    made.close(failed=False)


def content_of(data: bytes) -> Content:
    return Content(len(data), blob_of(data).read)


def test_it_is_sent_once_and_named_at_the_end(export: Run, oci: OciRegistry) -> None:
    code, out, err = export(f"oci://{oci.host}/{NAME}:x", "--format=image", "--json")
    assert code == 0, err
    assert len(oci.asked("PATCH")) == 1
    [told] = json.loads(out)["exports"]
    assert told["bytes"] == told["sent_bytes"]
    bodies = [int(one.headers["content-length"]) for one in oci.requests if one.method in {"PATCH", "PUT"}]
    assert max(bodies) * 2 > sum(bodies)
    assert without_manifest(image_files(oci.of(NAME), "x"), "models/") == FILES
    assert not oci.of(NAME).uploads


def test_digests_are_those_of_an_upload_that_waits(
    export: Run, oci: OciRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(f"oci://{oci.host}/one:x")[0] == 0
    monkeypatch.setattr(registry_target, "_MIN_AHEAD", 1 << 40)
    assert export(f"oci://{oci.host}/two:x")[0] == 0
    assert (len(oci.asked("PATCH", "/one/")), len(oci.asked("PATCH", "/two/"))) == (1, 0)
    assert oci.of("one").tags == oci.of("two").tags


def test_where_a_tag_names_something_nothing_is_sent_before_it_is_known(export: Run, oci: OciRegistry) -> None:
    assert export(f"oci://{oci.host}/{NAME}:x")[0] == 0
    oci.requests.clear()
    assert export(f"oci://{oci.host}/{NAME}:x")[0] == 0
    assert export(f"oci://{oci.host}/{NAME}:x", variant="fp32")[0] == 17
    assert {one.method for one in oci.requests} == {"GET"}


def test_what_turns_out_to_be_there_is_given_up(export: Run, oci: OciRegistry) -> None:
    assert export(f"oci://{oci.host}/{NAME}:x")[0] == 0
    code, out, err = export(f"oci://{oci.host}/{NAME}:y", "--json")
    assert code == 0, err
    assert [one["sent_bytes"] for one in json.loads(out)["exports"]] == [0, 0]
    assert not oci.of(NAME).uploads


@pytest.mark.parametrize("there", [True, False])
def test_a_mount_counts_first(export: Run, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with OciRegistry("bearer") as oci:
        sign_in(oci)
        if there:
            assert export(f"oci://{oci.host}/staging:x")[0] == 0
        code, out, err = export(f"oci://{oci.host}/prod:x", "--mount-from=staging", "--json")
        assert code == 0, err
        assert (json.loads(out)["exports"][1]["sent_bytes"] == 0) == there
        assert without_manifest(image_files(oci.of("prod"), "x"), "models/") == FILES
        assert not oci.of("prod").uploads


@pytest.mark.parametrize("fault", ["cut", "refused", "busy", "busy at the end"])
def test_one_that_fails_is_begun_anew_as_a_whole(export: Run, oci: OciRegistry, fault: str) -> None:
    answers = {
        "refused": ("PATCH", error(405, "UNSUPPORTED")),
        "busy": ("POST", OciAnswer(503)),
        "busy at the end": ("PUT", OciAnswer(429)),
    }
    left = [answers[fault]] if fault in answers else []
    oci.cut_after = [40_000] if fault == "cut" else []
    oci.answer = lambda asked: left.pop()[1] if left and asked.method == left[0][0] else None
    code, _, err = export(f"oci://{oci.host}/{NAME}:x", "--format=image")
    assert code == 0, err
    assert not oci.cut_after
    assert not left
    assert without_manifest(image_files(oci.of(NAME), "x"), "models/") == FILES
    assert not oci.of(NAME).uploads


def test_bytes_that_changed_on_the_way_are_refused_once(export: Run, oci: OciRegistry) -> None:
    def change(asked: OciRequest) -> None:
        if asked.method == "PUT":
            for session in oci.of(NAME).uploads:
                oci.of(NAME).uploads[session] = bytes(len(oci.of(NAME).uploads[session]))

    oci.answer = change
    oci.of(NAME)
    code, _, err = export(f"oci://{oci.host}/{NAME}:x", "--format=image")
    assert code == 14
    assert "did not arrive as it was sent" in err
    assert len(oci.asked("PATCH")) == 1
    assert not oci.of(NAME).uploads
    assert not oci.of(NAME).tags


def test_what_ends_meanwhile_gives_it_up(
    target: RegistryTarget, oci: OciRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lift_limits(UPLOADS, monkeypatch.setattr)
    sent, given_up = threading.Event(), threading.Event()

    def hang(asked: OciRequest) -> OciAnswer | None:
        if asked.method == "PATCH":
            sent.set()
            assert given_up.wait(HANG_SECONDS)
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if asked.method == "DELETE":
            given_up.set()
        return None

    oci.answer = hang
    target.begin(content_of(DATA))
    assert sent.wait(HANG_SECONDS)
    target.close(failed=True)
    assert given_up.is_set()
    assert not oci.of(NAME).uploads


def test_progress_ends_at_the_size(target: RegistryTarget, oci: OciRegistry) -> None:
    for cut in ([], [1000]):
        oci.cut_after = cut
        data = DATA + bytes(len(cut))
        content = content_of(data)
        told: list[int] = []
        target.begin(content)
        blob = blob_of(data)
        target.push(type(blob)(blob.digest, content.size, content.read), told.append)
        assert sum(told) == len(data)
        assert oci.of(NAME).blobs[blob.digest] == data
