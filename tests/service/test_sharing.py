"""Copies of graphs that all processes of a machine map."""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from examples.service.modelservice.graphs import OnnxGraph
from examples.service.modelservice.sharing import PREPARED_FOLDER, prepared
from tests.helpers.waiting import HANG_SECONDS
from tests.service.running import REQUESTS, Service

X = np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 256)


def snapshot(home: Path, name: str = "v1-fp32-0123456789ab") -> tuple[Path, Mapping[str, Path]]:
    """A snapshot with two graphs, of a product each."""
    random, graphs = np.random.default_rng(0), {}
    for role in ("encoder", "decoder"):
        weight = numpy_helper.from_array(random.normal(0, 0.1, (256, 300)).astype(np.float32), "w")
        model = helper.make_model(
            helper.make_graph(
                [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
                role,
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 256])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 300])],
                [weight],
            ),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=9,
        )
        graphs[role] = home / "embedder" / name / "onnx" / f"{role}.onnx"
        graphs[role].parent.mkdir(parents=True, exist_ok=True)
        onnx.save_model(model, graphs[role])
    return home / "embedder" / name, graphs


def answer(path: Path, *, copy: bool) -> Any:
    return OnnxGraph(path, 1, prepared=copy).run({"x": X})["y"]


def agrees(graphs: Mapping[str, Path]) -> Any:
    def proves(copies: Mapping[str, Path]) -> bool:
        return all(
            np.allclose(answer(copies[role], copy=True), answer(path, copy=False)) for role, path in graphs.items()
        )

    return proves


def never(_: Mapping[str, Path]) -> bool:
    raise AssertionError("it is there already")


def test_a_copy_is_made_once_and_its_weights_are_mapped(tmp_path: Path) -> None:
    folder, graphs = snapshot(tmp_path)
    copies = prepared(folder, graphs, agrees(graphs))
    assert copies.keys() == graphs.keys()
    assert {path.parent.parent for path in copies.values()} == {tmp_path / PREPARED_FOLDER}
    assert prepared(folder, graphs, never) == copies
    held = OnnxGraph(copies["encoder"], 1, prepared=True)
    np.testing.assert_array_equal(held.run({"x": X})["y"], answer(graphs["encoder"], copy=False))
    assert f"{copies['encoder']}_data" in Path("/proc/self/maps").read_text("utf-8")
    assert not [path for path in (tmp_path / PREPARED_FOLDER).iterdir() if path.name.startswith(".new")]


def test_those_who_come_at_once_wait_for_the_first(tmp_path: Path) -> None:
    folder, graphs = snapshot(tmp_path)
    asked, gate = [], threading.Barrier(4)

    def proves(copies: Mapping[str, Path]) -> bool:
        asked.append(copies)
        return True

    def ask(_: int) -> Mapping[str, Path]:
        gate.wait(HANG_SECONDS)
        return prepared(folder, graphs, proves)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(asked) == 1
    assert all(one == found[0] != graphs for one in found)


@pytest.mark.parametrize("fault", ["answers otherwise", "cannot be opened"])
def test_a_copy_that_is_not_the_graph_is_not_used(fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, graphs = snapshot(tmp_path)

    def proves(copies: Mapping[str, Path]) -> bool:
        if fault == "cannot be opened":
            copies["encoder"].write_bytes(b"no graph")
            answer(copies["encoder"], copy=True)
        return False

    assert prepared(folder, graphs, proves) is graphs
    assert "v1-fp32-0123456789ab is not shared: " in caplog.text
    assert prepared(folder, graphs, never) is graphs  # remembered
    (refused,) = [path for path in (tmp_path / PREPARED_FOLDER).iterdir() if path.is_dir()]
    assert {path.name for path in refused.iterdir()} == {"snapshot", "refused"}


def test_where_nothing_can_be_written_the_graphs_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, graphs = snapshot(tmp_path)
    (tmp_path / PREPARED_FOLDER).write_text("a file is in the way")
    assert prepared(folder, graphs, never) is graphs
    assert "is not shared" in caplog.text


def test_graphs_of_openvino_are_left_alone(tmp_path: Path) -> None:
    graphs = {"model": tmp_path / "embedder/v1-openvino-int8-0123456789ab/openvino/openvino_model.xml"}
    assert prepared(tmp_path / "embedder/v1-openvino-int8-0123456789ab", graphs, never) is graphs
    assert not (tmp_path / PREPARED_FOLDER).exists()


def test_another_onnxruntime_or_cpu_has_copies_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, graphs = snapshot(tmp_path)
    first = prepared(folder, graphs, agrees(graphs))
    monkeypatch.setattr(onnxruntime, "__version__", "1.99.0")
    second = prepared(folder, graphs, agrees(graphs))
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    third = prepared(folder, graphs, agrees(graphs))
    assert len({path["encoder"].parent for path in (first, second, third)}) == 3


def test_copies_of_evicted_snapshots_go_when_others_come(tmp_path: Path) -> None:
    old, graphs = snapshot(tmp_path)
    copies = prepared(old, graphs, agrees(graphs))
    new, others = snapshot(tmp_path, "v2-fp32-ba9876543210")
    kept = prepared(new, others, agrees(others))
    assert copies["encoder"].exists()
    for path in sorted(old.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    old.rmdir()
    newest, more = snapshot(tmp_path, "v3-fp32-aaaaaaaaaaaa")
    prepared(newest, more, agrees(more))
    assert not copies["encoder"].parent.exists()
    assert kept["encoder"].exists()


@pytest.mark.heavy
def test_a_service_that_shares_answers_as_one_that_does_not(published: Path, tmp_path: Path) -> None:
    answers = {}
    for share in ("no", "yes"):
        with Service(tmp_path, published, settings={"SERVICE_SHARE": share}) as service:
            answers[share] = {task: service.ask(task) for task in REQUESTS}
            maps = Path(f"/proc/{service.process.pid}/maps").read_text("utf-8")
            assert service.log.count("is not shared") == 0
            mapped = {
                line.rpartition(f"/{PREPARED_FOLDER}/")[2].partition("-")[0]
                for line in maps.splitlines()
                if PREPARED_FOLDER in line
            }
            assert mapped == ({"embedder", "reranker", "classifier"} if share == "yes" else set())
    for task, plain in answers["no"].items():
        assert answers["yes"][task]["served_by"] == plain["served_by"]
    vectors = {share: np.array(answer["embed"]["embeddings"]) for share, answer in answers.items()}
    np.testing.assert_allclose(vectors["yes"], vectors["no"], atol=1e-4)
    scores = {share: [one["score"] for one in answer["rerank"]["results"]] for share, answer in answers.items()}
    np.testing.assert_allclose(scores["yes"], scores["no"], atol=1e-4)
