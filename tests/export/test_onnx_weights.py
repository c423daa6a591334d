"""Where the weights of graphs are written: into the graph, or beside it."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modeldrop.errors import ExportError
from modeldrop.export import onnx_weights
from modeldrop.export.onnx_files import all_graphs, external_files
from modeldrop.export.onnx_weights import arrange, save

PAGE, LINE = 4096, 64
FEED = {"x": np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 64), "first": np.array(True)}


def branching(folder: Path, prefix: str = "", *, more: bool = False, scale: float = 1.0) -> Path:
    """A graph with weights of its own, in both branches of an If, and a constant; large, short and tiny ones.

    Args:
        folder: where it is written, in one file.
        prefix: of the names of all weights, and they stand in another order in the file where there is one.
        more: whether a node without weights comes after it all.
        scale: what its weights are multiplied by.
    """
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.normal(0, 0.1 * scale, shape).astype(np.float32)
        return numpy_helper.from_array(values, f"{prefix}{name}")

    outer = [weight("up", 64, 300), weight("up.bias", 300), weight("one", 1)]
    branches = {}
    for name in ("then_branch", "else_branch"):
        down = weight("down", 300, 50)  # of the same name in both
        nodes = [
            helper.make_node("MatMul", ["inner", f"{prefix}down"], [f"{name}.product"], f"{name}.product"),
            helper.make_node("Mul", [f"{name}.product", f"{prefix}one"], [f"{name}.y"], f"{name}.scaled"),
        ]
        answer = helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph(nodes, name, [], [answer], [down])
    constant = numpy_helper.from_array(np.arange(300, dtype=np.float32) / 300)
    nodes = [
        helper.make_node("Constant", [], ["steps"], "steps", value=constant),
        helper.make_node("MatMul", ["x", f"{prefix}up"], ["product"], f"{prefix}up"),
        helper.make_node("Add", ["product", f"{prefix}up.bias"], ["moved"], f"{prefix}add"),
        helper.make_node("Add", ["moved", "steps"], ["inner"], f"{prefix}steps"),
        helper.make_node("If", ["first"], ["answer"], "choose", **branches),
    ]
    if more:
        nodes.append(helper.make_node("Relu", ["answer"], ["positive"], "relu"))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "branching",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64]),
                helper.make_tensor_value_info("first", TensorProto.BOOL, []),
            ],
            [helper.make_tensor_value_info("positive" if more else "answer", TensorProto.FLOAT, ["batch", 50])],
            outer[::-1] if prefix else outer,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    folder.mkdir(exist_ok=True)
    onnx.save_model(model, folder / "model.onnx")
    return folder / "model.onnx"


def answers(path: Path) -> list[Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [session.run(None, FEED | {"first": np.array(first)})[0] for first in (True, False)]


def places_of(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Where each weight lies, by the names of its graph and its own; {} for one that is in the graph."""
    return {
        (graph.name, tensor.name): {entry.key: entry.value for entry in tensor.external_data}
        for graph in all_graphs(onnx.load(path, load_external_data=False).graph)
        for tensor in graph.initializer
    }


def data_of(path: Path) -> Path:
    return path.with_name(f"{path.name}_data")


def test_weights_beside_a_graph_begin_at_pages_and_answer_the_same(tmp_path: Path) -> None:
    path = branching(tmp_path / "one")
    before = answers(path)
    arrange(path, "always")
    assert {one.name for one in path.parent.iterdir()} == {"model.onnx", "model.onnx_data"}
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o644}
    places = [
        (int(entries["offset"]), int(entries["length"]))
        for entries in places_of(path).values()
        if entries and entries["location"] == "model.onnx_data"
    ]
    assert sorted(length for _, length in places) == [1200, 60000, 60000, 76800]  # "one" is in the graph
    for offset, length in places:
        assert offset % (PAGE if length >= PAGE else LINE) == 0
    assert max(places)[1] == 1200  # behind those that begin at pages
    assert data_of(path).stat().st_size < sum(length for _, length in places) + 4 * PAGE
    for mine, other in zip(answers(path), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_files_that_versions_share_open_whatever_branches_there_are(tmp_path: Path) -> None:
    """onnxruntime refuses a file with two names as the weights of a branch."""
    path = branching(tmp_path / "one")
    before = answers(path)
    arrange(path, "always")
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("model.onnx", "model.onnx_data"):
        (shared / name).hardlink_to(path.parent / name)
    for mine, other in zip(answers(shared / "model.onnx"), before, strict=True):
        np.testing.assert_array_equal(mine, other)
    inner = {name for graph, name in places_of(path) if graph != "branching"}
    assert not inner
    assert {name for _, name in places_of(path)} == {"up", "up.bias", "one", "down_1", "down_2"}


def test_what_two_branches_have_in_common_is_there_once(tmp_path: Path) -> None:
    path = branching(tmp_path / "one")
    model = onnx.load(path)
    one, other = list(all_graphs(model.graph))[1:]
    other.initializer[0].CopyFrom(one.initializer[0])
    extra = numpy_helper.from_array(np.ones((1, 400), np.float32), "made.y")  # a branch's answer must be its own
    one.initializer.append(extra)
    one.output.append(helper.make_tensor_value_info("made.y", TensorProto.FLOAT, None))
    other.initializer.append(numpy_helper.from_array(np.zeros((1, 400), np.float32), "made.z"))
    other.output.append(helper.make_tensor_value_info("made.z", TensorProto.FLOAT, None))
    model.graph.node[-1].output.append("second")
    onnx.save_model(model, path)
    before = answers(path)
    arrange(path, "always")
    places = places_of(path)
    assert sorted(name for _, name in places if name.startswith("down")) == ["down_1"]
    assert [places[graph, name] for graph, name in places if name.startswith("made")] == [{}, {}]
    for mine, expected in zip(answers(path), before, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_a_ready_graph_is_written_anew_where_its_files_could_not_be_shared(tmp_path: Path) -> None:
    path = branching(tmp_path / "one")
    before = answers(path)
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    arrange(path, "auto", ready=True)
    assert external_files(onnx.load(path, load_external_data=False)) == ["model.onnx_data"]
    assert all(graph == "branching" for graph, _ in places_of(path))
    for mine, other in zip(answers(path), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_is_written_twice_is_the_same_and_comes_back(tmp_path: Path) -> None:
    path = branching(tmp_path / "one")
    arrange(path, "always")
    first = path.read_bytes(), data_of(path).read_bytes()
    arrange(path, "always")
    assert (path.read_bytes(), data_of(path).read_bytes()) == first
    before = answers(path)
    arrange(path, "never")
    assert [one.name for one in path.parent.iterdir()] == ["model.onnx"]
    assert not external_files(onnx.load(path, load_external_data=False))
    for mine, other in zip(answers(path), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_change_of_the_graph_alone_keeps_the_file_of_its_weights(tmp_path: Path) -> None:
    paths = [branching(tmp_path / "one"), branching(tmp_path / "two", "onnx::", more=True)]
    for path in paths:
        arrange(path, "always")
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert data_of(paths[0]).read_bytes() == data_of(paths[1]).read_bytes()


def test_weights_that_were_trained_on_stand_where_they_stood(tmp_path: Path) -> None:
    paths = [branching(tmp_path / "one"), branching(tmp_path / "two", scale=1.5)]
    for path in paths:
        arrange(path, "always")
    assert places_of(paths[0]) == places_of(paths[1])
    assert data_of(paths[0]).read_bytes() != data_of(paths[1]).read_bytes()


@pytest.mark.parametrize(("limit", "beside"), [(100_000, True), (1_000_000, False)])
def test_auto_goes_by_the_bytes_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, beside: bool
) -> None:
    monkeypatch.setattr(onnx_weights, "BESIDE", limit)
    path = branching(tmp_path / "one")
    arrange(path, "auto")
    assert data_of(path).exists() is beside
    arrange(path, "always")
    arrange(path, "auto")
    assert data_of(path).exists() is beside


def test_what_the_source_had_so_stays_so_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_weights, "BESIDE", 0)
    path = branching(tmp_path / "one")
    before = path.read_bytes()
    arrange(path, "auto", ready=True)
    assert path.read_bytes() == before
    arrange(path, "always", ready=True)
    assert data_of(path).exists()
    monkeypatch.setattr(onnx_weights, "BESIDE", 1 << 30)
    arrange(path, "auto", ready=True)
    assert data_of(path).exists()


def test_openvino_s_graphs_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "openvino_model.xml"
    path.write_bytes(b"<net/>")
    arrange(path, "always")
    assert path.read_bytes() == b"<net/>"
    assert [one.name for one in tmp_path.iterdir()] == ["openvino_model.xml"]


def test_what_one_file_cannot_hold_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_weights, "ONE_FILE", 100_000)
    path = branching(tmp_path / "one")
    with pytest.raises(ExportError, match=r"model\.onnx has 198,000 bytes of weights.* at most 100,000") as caught:
        arrange(path, "never")
    assert 'external_data = "auto"' in caught.value.hint
    save(onnx.load(path), path)
    assert data_of(path).exists()


def test_data_of_any_other_form_becomes_that_one(tmp_path: Path) -> None:
    """As other programs write it: a file for each weight, constants and short ones too, without lengths."""
    path = branching(tmp_path / "one")
    before = answers(path)
    model, other = onnx.load(path), tmp_path / "other"
    other.mkdir()
    onnx.save_model(
        model, other / "model.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    model = onnx.load(other / "model.onnx", load_external_data=False)
    for graph in all_graphs(model.graph):
        for tensor in graph.initializer:
            kept = [entry for entry in tensor.external_data if entry.key != "length"]
            del tensor.external_data[:]
            tensor.external_data.extend(kept)
    onnx.save_model(model, other / "model.onnx")
    arrange(other / "model.onnx", "always")
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("model.onnx", "model.onnx_data"):
        shutil.copy(other / name, alone / name)
    for mine, one in zip(answers(alone / "model.onnx"), before, strict=True):
        np.testing.assert_array_equal(mine, one)
