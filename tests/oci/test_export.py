"""``modeldrop export`` to a registry that follows the specification."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.helpers.builds import environment, publish_build
from tests.helpers.command_line import run_here
from tests.helpers.time_limits import UPLOADS, patient_modeldrop
from tests.oci.conftest import Run
from tests.oci.pushed import FILES, NAME, artifact_files, image_files, manifest, sign_in, without_manifest
from tests.servers.oci_registry import OciAnswer, OciRegistry, OciRequest


def test_an_image_and_an_artifact_are_pushed(export: Run, oci: OciRegistry) -> None:
    code, out, err = export(f"oci://{oci.host}/{NAME}")
    assert code == 0, err
    pushed = oci.of(NAME)
    assert {*pushed.tags} == {"v1-int8", "v1-int8-modelpack"}
    assert out.splitlines() == [
        f"{oci.host}/{NAME}:v1-int8-modelpack {pushed.tags['v1-int8-modelpack']}: ModelPack artifact, pushed",
        f"{oci.host}/{NAME}:v1-int8 {pushed.tags['v1-int8']}: image for linux/amd64, linux/arm64, pushed",
    ]
    assert without_manifest(image_files(pushed, "v1-int8"), "models/") == FILES
    assert without_manifest(artifact_files(pushed, "v1-int8-modelpack")) == FILES
    assert not pushed.uploads
    assert "[3/3] push" in err


def test_the_same_again_changes_nothing(export: Run, oci: OciRegistry) -> None:
    assert export(f"oci://{oci.host}/{NAME}:x", "--quiet")[0] == 0
    oci.requests.clear()
    code, out, err = export(f"oci://{oci.host}/{NAME}:x", "--quiet")
    assert (code, err) == (0, "")
    assert [line.rpartition(", ")[2] for line in out.splitlines()] == ["there already"] * 2
    assert {one.method for one in oci.requests} == {"GET"}


def test_the_same_version_has_the_same_digests_everywhere(
    export: Run, oci: OciRegistry, tmp_path: Path, source: str
) -> None:
    # Another registry has it under another number, another machine fetches it into another home.
    other = tmp_path / "other registry"
    publish_build(other, "b")
    publish_build(other, "a")
    assert export(f"oci://{oci.host}/one:x")[0] == 0
    second = run_here(
        "export", f"{other}/embedder@v2", f"oci://{oci.host}/two:x", "-d", tmp_path / "h", "--variant=int8"
    )
    assert second[0] == 0, second[2]
    assert oci.of("one").tags == oci.of("two").tags


def test_a_tag_that_names_something_else_is_left(export: Run, oci: OciRegistry) -> None:
    destination = f"oci://{oci.host}/{NAME}:x"
    assert export(destination, "--format=image")[0] == 0
    before = dict(oci.of(NAME).tags)
    oci.requests.clear()
    code, _, err = export(destination, "--format=image", "--quiet", variant="fp32")
    assert code == 17
    assert {one.method for one in oci.requests} == {"GET"}
    assert oci.of(NAME).tags == before
    assert export(destination, "--format=image", "--replace", variant="fp32")[0] == 0
    after = oci.of(NAME).tags["x"]
    assert after != before["x"]
    assert f"{oci.host}/{NAME}:x names {before['x']}, and not {after}" in err
    assert "--replace" in err


@pytest.mark.parametrize("form", ["image", "modelpack"])
def test_one_form_alone_has_the_tag_itself(export: Run, oci: OciRegistry, form: str) -> None:
    assert export(f"oci://{oci.host}/{NAME}:x", f"--format={form}")[0] == 0
    assert {*oci.of(NAME).tags} == {"x"}
    assert ("artifactType" in manifest(oci.of(NAME), "x")) == (form == "modelpack")


def test_as_json(export: Run, oci: OciRegistry, source: str) -> None:
    code, out, _ = export(f"oci://{oci.host}/{NAME}:x", "--json", "--quiet")
    assert code == 0
    told = json.loads(out)
    assert told["source"].startswith(f"{source}@v1@sha256:")
    tags = oci.of(NAME).tags
    assert {one["reference"] for one in told["exports"]} == {f"{oci.host}/{NAME}:{tag}@{tags[tag]}" for tag in tags}
    assert [one["format"] for one in told["exports"]] == ["modelpack", "image"]
    assert all(one["pushed"] and one["bytes"] == one["sent_bytes"] > 0 for one in told["exports"])


def test_what_is_there_is_not_sent_again(export: Run, oci: OciRegistry) -> None:
    assert export(f"oci://{oci.host}/{NAME}:x")[0] == 0
    oci.requests.clear()
    assert export(f"oci://{oci.host}/{NAME}:y")[0] == 0
    assert not oci.asked("POST")
    assert {tag: oci.of(NAME).tags[tag[0].replace("y", "x") + tag[1:]] for tag in ("y", "y-modelpack")} == {
        tag: oci.of(NAME).tags[tag] for tag in ("y", "y-modelpack")
    }


@pytest.mark.parametrize("there", [True, False])
def test_blobs_are_mounted_from_another_repository(export: Run, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with OciRegistry("bearer") as oci:
        sign_in(oci)
        if there:
            assert export(f"oci://{oci.host}/staging:x")[0] == 0
        oci.requests.clear()
        code, out, err = export(f"oci://{oci.host}/prod:x", "--mount-from=staging", "--json")
        assert code == 0, err
        sent = [one["sent_bytes"] for one in json.loads(out)["exports"]]
        assert (sent == [0, 0]) == there
        assert bool(oci.asked("PUT", "/blobs/")) != there
        assert without_manifest(image_files(oci.of("prod"), "x"), "models/") == FILES
        assert not oci.of("prod").uploads


def test_for_a_program_the_graphs_are_where_it_looks(export: Run, oci: OciRegistry) -> None:
    assert export(f"oci://{oci.host}/{NAME}:x", "--for=kserve")[0] == 0
    files = image_files(oci.of(NAME), "x")
    assert files["models/model/1/model.onnx"] == FILES["onnx/model_quantized.onnx"]
    assert b"onnxruntime" in files["models/model/config.pbtxt"]
    assert {f"models/{path}" for path in artifact_files(oci.of(NAME), "x-modelpack")} == {*files}


def test_the_variant_is_never_what_this_machine_would_run(oci: OciRegistry, source: str, tmp_path: Path) -> None:
    code, _, err = run_here("export", source, f"oci://{oci.host}/{NAME}", "-d", tmp_path / "home")
    assert code == 6
    assert "has several variants: fp32, int8" in err
    assert not (tmp_path / "home").exists()
    publish_build(tmp_path / "single", variants=["int8"])
    code, _, err = run_here(
        "export", f"{tmp_path}/single/embedder", f"oci://{oci.host}/{NAME}", "-d", tmp_path / "home"
    )
    assert code == 0, err
    assert "v1-int8" in oci.of(NAME).tags


def test_the_registry_of_models_is_what_counts(export: Run, oci: OciRegistry, source: str, tmp_path: Path) -> None:
    assert export(f"oci://{oci.host}/{NAME}:x")[0] == 0
    Path(source).rename(tmp_path / "gone")
    code, _, err = export(f"oci://{oci.host}/{NAME}:y")
    assert code == 5, err  # last-good would have given what this disk has
    assert "y" not in oci.of(NAME).tags


def test_an_upload_that_breaks_off_is_begun_anew(export: Run, oci: OciRegistry) -> None:
    oci.cut_after = [40_000, 40_000]
    code, _, err = export(f"oci://{oci.host}/{NAME}:x")
    assert code == 0, err
    assert not oci.cut_after
    assert without_manifest(image_files(oci.of(NAME), "x"), "models/") == FILES


def test_a_registry_that_is_busy_is_asked_again(export: Run, oci: OciRegistry) -> None:
    busy = [
        OciAnswer(429, b"", {"Retry-After": "0"}),
        OciAnswer(503, b"busy"),
        OciAnswer(502, b"<html><title>Bad Gateway</title>"),
    ]
    oci.answer = lambda asked: busy.pop() if busy and asked.method in {"POST", "PUT"} else None
    code, _, err = export(f"oci://{oci.host}/{NAME}:x")
    assert code == 0, err
    assert not busy
    assert not oci.of(NAME).uploads


def test_a_tag_that_moves_meanwhile_is_left(export: Run, oci: OciRegistry) -> None:
    def other_was_first(asked: OciRequest) -> None:
        if asked.method == "PUT" and "/blobs/" in asked.path:
            oci.of(NAME).manifests.setdefault("sha256:other", ("application/vnd.oci.image.index.v1+json", b"{}"))
            oci.of(NAME).tags["x"] = "sha256:other"

    oci.answer = other_was_first
    code, _, err = export(f"oci://{oci.host}/{NAME}:x", "--format=image")
    assert code == 13
    assert "was moved by somebody else meanwhile" in err
    assert oci.of(NAME).tags["x"] == "sha256:other"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_export_that_is_ended_gives_its_upload_up(
    oci: OciRegistry, source: str, tmp_path: Path, number: signal.Signals
) -> None:
    processes: list[subprocess.Popen[str]] = []

    def end(asked: OciRequest) -> OciAnswer | None:
        if asked.method != "PUT" or "/blobs/" not in asked.path:
            return None
        processes[0].send_signal(number)
        processes[0].wait()  # so it is told while it waits for an answer
        return OciAnswer(500)

    oci.answer = end
    command = [*patient_modeldrop(UPLOADS), "export", source, f"oci://{oci.host}/{NAME}:x", "--variant=int8"]
    processes.append(
        subprocess.Popen([*command, "-d", str(tmp_path / "home")], stderr=subprocess.PIPE, text=True, env=environment())
    )
    _, err = processes[0].communicate()
    assert processes[0].returncode == 128 + number
    assert err.splitlines()[-1] == "modeldrop: interrupted"
    assert not oci.of(NAME).tags
    assert not oci.of(NAME).uploads
    assert len(oci.asked("DELETE", "/blobs/uploads/")) == 1
