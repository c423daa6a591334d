"""A torch module of somebody's own: what its code may give, what is refused, and the way to a container."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import modeldrop as library
from modeldrop.config import load_config_file
from modeldrop.errors import ExportError, MissingExtraError, ModeldropError, RecipeError, SourceError, UsageError
from modeldrop.export.environments.exporters import TORCH, find_exporter
from modeldrop.export.models.generic import module_export
from modeldrop.export.models.generic.own_module import OwnModule, load_own_module
from modeldrop.export.preflight.checks import check_request
from modeldrop.export.sources import resolve_source
from modeldrop.format.dynamic_shapes import Dimension, dimensions
from modeldrop.format.recipe import Recipe, parse_recipe
from modeldrop.model_settings import read_models
from modeldrop.publishing.plan import build_request_of
from tests.export import generic_graphs as graphs
from tests.helpers.command_line import ROOT, modeldrop
from tests.helpers.second_exporter import PYTHON

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = ROOT / "docs" / "sources.md"
FREE = {"x": {"0": "batch", "1": "length"}}
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, x, scale=None):
        return self.layer(x)

def make_model():
    return Net(), torch.ones(2, 4)
"""


def page_files(folder: Path) -> list[list[str]]:
    """Write the files that the page shows under the module's heading; the arguments of its commands.

    A program without a name is run: it writes what a training run leaves.
    """
    section = PAGE.read_text("utf-8").partition("## A torch module of your own")[2].partition("\n## ")[0]
    commands = []
    for language, block in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
        name = re.match(r"# (\S+\.\w+)\n", block)
        if name:
            (folder / name[1]).write_text(block)
        elif language == "python":
            subprocess.run([sys.executable, "-c", block], cwd=folder, check=True)
        if language == "sh":
            commands.append(block.split()[1:])
    return commands


@pytest.mark.heavy
@pytest.mark.soak
def test_a_class_with_its_weights_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, arguments = page_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = modeldrop(*arguments, environment={"MODELDROP_EXPORTER_PYTHON": str(PYTHON)})
    assert ran.code == 0, ran.err
    snapshot = library.fetch("./models/tagger", tmp_path / "home", self_test=True, variant="fp32")
    weights, inputs = tmp_path / "weights.safetensors", tmp_path / "inputs.npz"
    module = load_own_module(tmp_path, "net.py", "Tagger", state_dict=weights, inputs=inputs).module
    ids = np.load(inputs)["ids"]
    tags, topic = onnxruntime.InferenceSession(snapshot.model_file).run(["tags", "topic"], {"ids": ids})
    with torch.inference_mode():
        wanted = module.eval()(torch.from_numpy(ids))
    assert np.allclose(tags, wanted["tags"].numpy(), atol=1e-5)
    assert np.allclose(topic, wanted["topic"].numpy(), atol=1e-5)


@pytest.mark.heavy
def test_the_pages_example_goes_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, _ = page_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused = modeldrop(*arguments[:3])
    assert refused.code == SourceError.exit_code
    assert "trust_code = true" in refused.err
    ran = modeldrop(*arguments, environment={"MODELDROP_EXPORTER_PYTHON": str(PYTHON)})
    assert ran.code == 0, ran.err
    snapshot = library.fetch("./models/tagger", tmp_path / "home", self_test=True, variant="fp32")
    assert [(one.name, one.dtype, one.shape) for one in snapshot.signature["model"].inputs] == [
        ("ids", "int64", ("batch", "length"))
    ]
    assert {one.name: one.shape for one in snapshot.signature["model"].outputs} == {
        "tags": ("batch", "length", "3"),
        "topic": ("batch", "16"),
    }
    manifest = snapshot.manifest
    assert manifest.original.framework.startswith("PyTorch ")
    assert manifest.original.weight_bytes == sum(
        tensor.nbytes for tensor in page_module(tmp_path).state_dict().values()
    )
    assert [variant.name for variant in manifest.variants] == ["fp32", "fp16"]
    assert manifest.variants[0].fidelity.metrics["rel_error"] < 1e-5
    assert not list(snapshot.path.rglob("*.py"))
    session = onnxruntime.InferenceSession(snapshot.model_file)
    module = page_module(tmp_path)
    for shape in ((1, 1), (5, 33), (2, 64)):
        ids = np.random.default_rng(1).integers(0, 64, shape)
        tags, topic = session.run(["tags", "topic"], {"ids": ids})
        with torch.inference_mode():
            wanted = module(torch.from_numpy(ids))
        assert np.allclose(tags, wanted["tags"].numpy(), atol=1e-5)
        assert np.allclose(topic, wanted["topic"].numpy(), atol=1e-5)


def page_module(folder: Path) -> nn.Module:
    return load_own_module(folder, "train.py", "make_model").module


def written(folder: Path, code: str = CODE, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(code)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def key(folder: Path, name: str = "make_model", **recipe: Any) -> str:
    return build_request_of(f"python:{folder}/train.py:{name}", Recipe(trust_code=True, **recipe), offline=None).key


def test_the_key_is_of_all_that_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", net="x = 1\n")
    plain, named = key(folder), key(folder, files=("net.py",))
    assert key(folder, "Net") != plain != named
    (folder / "net.py").write_text("x = 2\n")
    assert key(folder) == plain
    assert key(folder, files=("net.py",)) != named
    weights = folder / "w.safetensors"
    save_file({"a": torch.ones(1)}, weights)
    one = key(folder, state_dict=str(weights))
    save_file({"a": torch.zeros(1)}, weights)
    assert len({plain, one, key(folder, state_dict=str(weights)), key(folder, dynamic_shapes=FREE)}) == 4
    assert key(written(tmp_path / "other")) == plain
    assert key(written(tmp_path / "other", CODE + "\n")) != plain


def test_code_stays_out_of_the_version_and_other_files_travel(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", net="")
    (folder / "labels.txt").write_text("a\n")
    (folder / "secret.txt").write_text("a\n")
    source = resolve_source(f"python:{folder}/train.py:make_model", files=("net.py", "labels.txt"))
    into = source.materialize(tmp_path / "into")
    assert sorted(path.name for path in into.iterdir()) == ["labels.txt", "net.py", "train.py"]
    assert source.support == {"labels.txt"}
    assert (source.framework, source.framework_file, source.function) == ("PyTorch", "train.py", "make_model")


def test_paths_of_settings_are_below_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_CONFIG", str(tmp_path / "modeldrop.toml"))
    (tmp_path / "modeldrop.toml").write_text(
        '[models.net]\nsource = "python:src/train.py:make_model"\nregistry = "./r"\nstate_dict = "w.pt"\n'
    )
    (model,) = read_models(load_config_file()).values()
    assert model.source == f"python:{tmp_path}/src/train.py:make_model"
    assert model.recipe["state_dict"] == f"{tmp_path}/w.pt"


@pytest.mark.parametrize(
    ("spec", "recipe", "error", "says"),
    [
        ("train.py", {}, UsageError, "names no function of a Python file"),
        ("train.txt:f", {}, UsageError, "names no function"),
        ("none.py", {}, UsageError, "names no function"),
        ("none.py:f", {}, SourceError, "none.py, which does not exist"),
        ("train.py:other", {}, SourceError, r"has no function other; it defines Net, make_model, nn, torch"),
        ("bad.py:f", {}, SourceError, "is not Python"),
        ("train.py:make_model", {"files": ["net.py"]}, SourceError, "no file net.py"),
        ("train.py:make_model", {"trust_code": False}, SourceError, "does not allow to run"),
        (
            "train.py:make_model",
            {"trust_remote_code": True},
            RecipeError,
            "trust_remote_code: .* is code that you name",
        ),
        ("train.py:make_model", {"state_dict": "w.pt"}, SourceError, "w.pt is a pickle"),
        ("train.py:make_model", {"state_dict": "w.bytes"}, SourceError, r"none of \.safetensors, \.pt"),
        ("train.py:make_model", {"state_dict": "none.safetensors"}, RecipeError, "state_dict: .* cannot be read"),
        ("train.py:make_model", {"opset": 17}, RecipeError, "opset 18 to 20, not with 17"),
        ("train.py:Net", {}, SourceError, "without weights it would answer by chance"),
        ("train.py:Net", {"state_dict": "w.safetensors"}, RecipeError, "gives no example inputs"),
        ("train.py:make_model", {"task": "text-generation"}, ModeldropError, "is a generic model"),
    ],
)
def test_what_is_refused_without_torch(
    spec: str, recipe: Mapping[str, Any], error: type[ModeldropError], says: str, tmp_path: Path
) -> None:
    folder = written(tmp_path, bad="def f(:\n")
    for name in ("w.pt", "w.bytes", "w.safetensors"):
        (folder / name).write_bytes(b"")
    plain = {"trust_code": True} | dict(recipe)
    if "state_dict" in plain:
        plain["state_dict"] = str(folder / plain["state_dict"])
    with pytest.raises(error, match=says):
        check_request(build_request_of(f"python:{folder}/{spec}", parse_recipe(plain), offline=None))


@pytest.mark.parametrize("spec", ["train.py", "train.py:make_model", "./train.py"])
def test_a_file_of_code_is_told_how_it_is_written(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written(tmp_path))
    with pytest.raises(UsageError, match="is Python code") as caught:
        resolve_source(spec)
    assert caught.value.hint.endswith(f"python:{spec.partition(':')[0]}:make_model")


def test_an_environment_without_onnxscript_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_EXPORTERS", str(tmp_path))
    monkeypatch.setenv("MODELDROP_EXPORTER_PYTHON", sys.executable)
    with pytest.raises(MissingExtraError, match="needs torch with onnxscript") as caught:
        find_exporter(TORCH)
    assert "modeldrop exporter install transformers" in caught.value.hint
    assert "pip install 'modeldrop[torch]'" in caught.value.hint
    monkeypatch.setenv("MODELDROP_EXPORTER_PYTHON", str(PYTHON))
    assert find_exporter(TORCH) == str(PYTHON)


@pytest.mark.parametrize("given", [{"trust_code": True}, {"dynamic_shapes": FREE}, {"state_dict": "w.safetensors"}])
def test_a_modules_keys_are_refused_for_other_sources(given: Mapping[str, Any], tmp_path: Path) -> None:
    graphs.scorer(tmp_path / "net.onnx")
    (tmp_path / "w.safetensors").write_bytes(b"")
    (name,) = given
    recipe = parse_recipe({name: str(tmp_path / "w.safetensors") if name == "state_dict" else given[name]})
    with pytest.raises(RecipeError, match=f"{name}: is for a torch module"):
        check_request(build_request_of(str(tmp_path / "net.onnx"), recipe, offline=None))


def test_a_checkpoints_code_is_not_allowed_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    graphs.scorer(tmp_path / "net.onnx")
    with pytest.raises(RecipeError, match="trust_remote_code: is for code that comes with a checkpoint"):
        check_request(build_request_of(str(tmp_path / "net.onnx"), Recipe(trust_remote_code=True), offline=None))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ('x = { a = "batch" }', r"dynamic_shapes\.x\.a: .*counted from 0"),
        ('x = { 0 = "2 batches" }', r"'2 batches' is no name of a size, such as batch, length <= 512 or 8\*blocks"),
        ("x = { 0 = 3 }", r"dynamic_shapes\.x\.0"),
        ('x = "batch"', r"dynamic_shapes\.x"),
    ],
)
def test_dimensions_that_are_written_otherwise(shapes: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_recipe(tomllib.loads(f"[dynamic_shapes]\n{shapes}"))


def test_dimensions_are_read_as_they_are_written() -> None:
    read = dimensions({"x": {"1": "8*blocks", "0": "batch", "2": "length <= 512"}})
    assert read == {"x": {0: Dimension("batch"), 1: Dimension("blocks", 8), 2: Dimension("length", 1, 512)}}
    assert [str(dim) for dim in read["x"].values()] == ["batch", "8*blocks", "length"]


def load(folder: Path, code: str = CODE, name: str = "make_model", **more: Any) -> OwnModule:
    return load_own_module(written(folder, code), "train.py", name, **more)


def made(body: str) -> str:
    return f"{CODE}\ndef make_model():\n    {body}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "says", "hint"),
    [
        (
            "raise ValueError('no weights')",
            "make_model of train.py fails: ValueError: no weights",
            "line 16, in make_model: r",
        ),
        ("import sys; sys.exit(3)", "fails: SystemExit: 3", ""),
        ("return Net()", "gives a module without example inputs", "inputs.npz"),
        ("return 'net'", r"gives a str, not \(module, example inputs\)", "return module, inputs"),
        ("return torch.ones(1), Net()", r"gives a tuple \(Tensor, Net\)", ""),
        ("return Net(), [1.0]", "gives a float as the example input x, not a tensor", ""),
        ("return Net(), {'x': torch.ones(1, 4), 'scale': True}", "gives a bool as the example input scale", ""),
        ("return Net(), {'y': torch.ones(1, 4)}", r"inputs y, which Net.forward\(x, scale\) does not take", ""),
        ("return Net(), (torch.ones(1), torch.ones(1), torch.ones(1))", "gives 3 inputs, which Net.forward", ""),
        ("return Net(), ()", "does not take: missing", ""),
        (
            "return Net(), torch.ones(2, 5)",
            "fails on its example inputs: RuntimeError: mat1 and mat2",
            "line 10, in forward",
        ),
        (
            "return Net().half(), torch.ones(1, 4)",
            "half precision: layer.weight is torch.float16",
            "fp16 is made of it",
        ),
        (
            "n = Net(); nn.init.constant_(n.layer.bias, float('nan')); return n, torch.ones(1, 4)",
            "NaN in layer.bias",
            "",
        ),
        ("return torch.jit.trace(Net(), torch.ones(1, 4)), torch.ones(1, 4)", "a module of TorchScript", ""),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_a_function_must_not_give(body: str, says: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        load(tmp_path, made(body))
    assert hint in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 3", "answers a int, not a tensor"),
        ("return {'a': {'b': 'c'}}", "answers a str as a_b"),
        ("return ()", "no tensor"),
    ],
)
def test_what_a_module_must_not_answer(body: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=says):
        load(tmp_path, CODE.replace("return self.layer(x)", body))


@pytest.mark.slow
def test_imports_that_lack_are_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    written(tmp_path / "own", "import helper_of_mine\ndef f(): ...", helper_of_mine="")
    into = resolve_source(f"python:{tmp_path}/own/train.py:f").materialize(tmp_path / "into")
    with pytest.raises(SourceError, match="cannot be run: ModuleNotFoundError") as caught:
        load_own_module(into, "train.py", "f")
    assert 'files = ["helper_of_mine.py"]' in caught.value.hint
    with pytest.raises(SourceError) as caught:
        load(tmp_path / "other", "import library_of_nobody\ndef f(): ...", "f")
    assert "library_of_nobody is not installed" in caught.value.hint
    assert "MODELDROP_EXPORTER_PYTHON" in caught.value.hint


@pytest.mark.slow
def test_outputs_are_called_by_their_place(tmp_path: Path) -> None:
    code = CODE.replace(
        "return self.layer(x)",
        "import collections, dataclasses\n"
        "        Pair = collections.namedtuple('Pair', 'low high')\n"
        "        Box = dataclasses.make_dataclass('Box', ['at', 'score'])\n"
        "        return {'x': x, 'pair': Pair(x, x + 1), 'boxes': [Box(x, None), Box(x, (x, x))]}",
    )
    own = load(tmp_path, code)
    assert list(own.answer(own.example)) == [
        "x_out",
        "pair_low",
        "pair_high",
        "boxes_0_at",
        "boxes_1_at",
        "boxes_1_score_0",
        "boxes_1_score_1",
    ]
    assert list(load(tmp_path).answer({"x": torch.ones(1, 4)})) == ["output"]
    pair = load(tmp_path, CODE.replace("return self.layer(x)", "return x, x"))
    assert list(pair.answer(pair.example)) == ["output_0", "output_1"]


@pytest.mark.slow
def test_a_class_has_its_weights_and_inputs_from_files(tmp_path: Path) -> None:
    weights = {"layer.weight": torch.full((3, 4), 2.0), "layer.bias": torch.zeros(3)}
    save_file(weights, tmp_path / "w.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "w.ckpt")
    np.savez(tmp_path / "inputs.npz", x=np.ones((5, 4)), label=np.zeros(5))
    for name in ("w.safetensors", "w.ckpt"):
        own = load(tmp_path, name="Net", state_dict=tmp_path / name, inputs=tmp_path / "inputs.npz", allow_pickle=True)
        assert own.answer(own.example)["output"].tolist() == [[8.0] * 3] * 5
    np.savez(tmp_path / "other.npz", y=np.ones((5, 4)))
    with pytest.raises(RecipeError, match=r"has no x, which Net of train\.py takes"):
        load(tmp_path, name="Net", state_dict=tmp_path / "w.ckpt", inputs=tmp_path / "other.npz", allow_pickle=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "says", "hint"),
    [
        ({"layer.weight": (3, 4), "head.bias": (3,)}, "it lacks layer.bias; it has besides head.bias", ""),
        ({"module.layer.weight": (3, 4), "module.layer.bias": (3,)}, "it lacks layer.weight", "begin with module."),
        ({"layer.weight": (3, 5), "layer.bias": (3,)}, r"layer.weight .* has the shape \[3, 5\], .* \[3, 4\]", ""),
        (None, "cannot be read", ".safetensors"),
        ([1], "holds a list, not tensors by name", ""),
    ],
)
def test_weights_that_do_not_fit(weights: Any, says: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    if weights is None:
        path.write_bytes(b"PK")
    else:
        made = {name: torch.zeros(shape) for name, shape in weights.items()} if isinstance(weights, dict) else weights
        torch.save(made, path)
    with pytest.raises(SourceError, match=says) as caught:
        load(tmp_path, state_dict=path, allow_pickle=True)
    assert hint in caught.value.hint


class Adds(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y.sum()


class Frozen(Adds):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1) if x.shape[0] == 2 else x


class Branches(Adds):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else y


def own(kind: type[nn.Module]) -> OwnModule:
    return OwnModule(kind().eval(), {"x": torch.ones(2, 4), "y": torch.ones(3, 4)}, by_name=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"z": {"0": "n"}}, "the module takes no z; it takes x, y"),
        ({"x": {"2": "n"}}, r"no dimension 2 of x, whose example has the shape \[2, 4\]"),
        ({"x": {"0": "n"}, "y": {"0": "n"}}, "n is 2 by dimension 0 of x, and 3 by dimension 0 of y"),
        ({"y": {"0": "2*n"}}, r"has the size 3 in its example, not 2\*n"),
        ({"x": {"1": "n <= 3"}}, "has the size 4"),
    ],
)
def test_free_dimensions_that_are_not_there(shapes: Mapping[str, Mapping[str, str]], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        module_export.check_shapes(own(Adds), dimensions(shapes))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "says", "hint"),
    [
        (Frozen, "The dimension n of dynamic_shapes does not stay free: .*constant .2.*torch proposes: n = 2", "bound"),
        (
            Branches,
            "torch.export cannot trace Branches: .*data-dependent",
            "in forward: return x if x.sum() > 0 else y",
        ),
    ],
)
def test_what_torch_cannot_leave_free_is_named(kind: type[nn.Module], says: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=says) as caught:
        module_export.export_module(own(kind), dimensions({"x": {"0": "n"}}), tmp_path / "net.onnx", None)
    assert hint in caught.value.hint


@pytest.mark.slow
def test_a_size_that_the_module_does_not_take_is_said_before_tracing(tmp_path: Path) -> None:
    shapes = dimensions({"x": {"0": "n"}, "y": {"0": "m"}})
    fixed = OwnModule(Two().eval(), {"x": torch.ones(1, 4), "y": torch.ones(3, 4)}, by_name=True)
    with pytest.raises(ExportError, match="fails where these are repeated to n 2, m 3: shape"):
        module_export.export_module(fixed, shapes, tmp_path / "net.onnx", None)


class Two(Adds):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 4)


@pytest.mark.slow
def test_a_graph_that_is_right_for_one_size_alone_is_refused(tmp_path: Path) -> None:
    path = graphs.scorer(tmp_path / "net.onnx", rows=4)
    (output, *_) = (tensor.name for tensor in onnxruntime.InferenceSession(path).get_outputs())

    class Other(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {output: torch.zeros(len(x), 3)}

    module = OwnModule(Other().eval(), {"x": torch.ones(2, 4)}, by_name=True)
    shapes = dimensions({"x": {"0": "rows"}})
    with pytest.raises(ExportError, match=r"The dimension rows .* with rows 1 the graph answers another"):
        module_export._check_sizes(module, shapes, module.example, {"rows": 2}, path)
