"""What sentence-transformers writes, read and written so that all of its releases can read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.cli import main
from modeldrop.errors import MissingExtraError, TaskError
from modeldrop.export.sentence_modules import pooling_modes, readable_modules, readable_pooling
from tests.helpers.checkpoints import bert, make_embedder
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from pathlib import Path

# As 6.2 writes it.
_NEWEST: list[dict[str, Any]] = [
    {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.{own}.{kind}"}
    for place, (path, own, kind) in enumerate(
        [
            ("", "base.modules.transformer", "Transformer"),
            ("1_Pooling", "sentence_transformer.modules.pooling", "Pooling"),
            ("2_Dense", "base.modules.dense", "Dense"),
            ("3_Normalize", "base.modules.normalize", "Normalize"),
        ]
    )
]


def test_modules_get_the_names_that_every_release_knows() -> None:
    found = readable_modules(_NEWEST)
    assert [one["type"] for one in found] == [
        f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Dense", "Normalize")
    ]
    assert [one | {"type": ""} for one in found] == [one | {"type": ""} for one in _NEWEST]
    assert readable_modules(found) == found
    own = {"path": "0_Transformer", "type": "custom_st.Transformer"}
    assert readable_modules([own]) == [own | {"path": ""}]


@pytest.mark.parametrize("mode", ["mean", ["cls", "mean"]])
def test_a_pooling_is_written_with_the_keys_that_every_release_reads(mode: Any) -> None:
    newest = {"embedding_dimension": 8, "pooling_mode": mode, "include_prompt": True}
    written = readable_pooling(newest)
    assert written["word_embedding_dimension"] == 8
    assert "embedding_dimension" not in written  # those before 5.4 end in an error
    assert pooling_modes(written, {}) == pooling_modes(newest, {})
    assert readable_pooling(written) == written


def test_an_order_that_the_old_keys_cannot_say_stays() -> None:
    newest = {"embedding_dimension": 8, "pooling_mode": ["mean", "cls"]}
    assert readable_pooling(newest) == newest


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("1_Pooling", {"include_prompt": False}, "leaves out the words of the prompts (query)"),
        ("1_Pooling", {"pooling_mode": "attention"}, "The Pooling module asks for attention"),
        ("2_Dense", {"activation_function": "torch.nn.SiLU"}, "an activation that cannot be put into the graph"),
    ],
)
def test_plan_refuses_what_build_refuses(tmp_path: Path, file: str, change: dict[str, Any], said: str) -> None:
    source = make_embedder(bert(tmp_path / "source"), {"pooling_mode_mean_tokens": True}, dense=True, normalize=False)
    (source / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: "}}')
    assert modeldrop("plan", source, tmp_path / "registry/m").code == 0
    path = source / file / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for command in (("plan", source, tmp_path / "registry/m"), ("build", source, "-o", tmp_path / "out")):
        ran = modeldrop(*command)
        assert (ran.code, said in ran.err) == (TaskError.exit_code, True), ran.err


def test_plan_needs_none_of_the_exporters_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise MissingExtraError("openvino-int8 needs openvino and nncf, not installed in the exporter's environment.")

    monkeypatch.setattr("modeldrop.export.preflight.checks.check_variants", lacking)
    source = make_embedder(bert(tmp_path / "source"), {"pooling_mode_mean_tokens": True}, dense=False, normalize=False)
    assert main(["plan", str(source), str(tmp_path / "registry/m"), "--variants", "openvino-int8"]) == 0
