"""The example service's parts that need neither a process nor a model."""

from __future__ import annotations

import asyncio
import re
import threading
import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from examples.service.modelservice import limits
from examples.service.modelservice.classifying import match, prompt
from examples.service.modelservice.graphs import choose_providers
from examples.service.modelservice.limits import BodyLimit, Turns
from examples.service.modelservice.problems import Problem
from examples.service.modelservice.rules import RuleClassifier, RuleEmbedder, RuleReranker
from examples.service.modelservice.settings import SettingsError, read_settings
from examples.service.modelservice.tokens import open_tokens
from tests.helpers.command_line import ROOT
from tests.helpers.waiting import HANG_SECONDS
from tests.service.running import EXAMPLE

REGISTRY = {"MODELDROP_REGISTRY": "s3://acme-models/team"}


def test_settings_have_defaults_for_all_but_the_registry() -> None:
    settings = read_settings(REGISTRY)
    assert [(one.task, one.reference, one.variant) for one in settings.wanted] == [
        ("embed", "embedder", "auto"),
        ("rerank", "reranker", "auto"),
        ("classify", "classifier", "auto"),
    ]
    assert settings.threads * settings.concurrency >= 1


def test_settings_are_read() -> None:
    settings = read_settings(
        {
            "SERVICE_EMBED": "s3://acme-models/team/minilm@staging",
            "SERVICE_EMBED_VARIANT": "openvino-int8",
            "SERVICE_RERANK": "",
            "SERVICE_CLASSIFY": "./models/flan@v3",
            "SERVICE_CLASSIFY_FALLBACK": "./models/small",
            "SERVICE_VARIANT": "fp32",
            "SERVICE_LOAD": "lazy",
            "SERVICE_RULES": "no",
            "SERVICE_LABELS": "spam, ham",
            "SERVICE_THREADS": "3",
            "SERVICE_RELOAD_TOKEN": "0123456789abcdef",
        }
    )
    embed, rerank, classify = settings.wanted
    assert (embed.variant, rerank.reference, classify.variant) == ("openvino-int8", "", "fp32")
    assert classify.fallback == "./models/small"
    assert (settings.lazy, settings.rules, settings.labels, settings.threads) == (True, False, ("spam", "ham"), 3)
    assert "0123456789abcdef" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_PORT", "http"),
        ("SERVICE_PORT", "70000"),
        ("SERVICE_PORT", "-1"),
        ("SERVICE_BATCH", "0"),
        ("SERVICE_QUEUE", "1.5"),
        ("SERVICE_THREADS", "9" * 5000),
        ("SERVICE_LOAD", "eager"),
        ("SERVICE_RULES", "maybe"),
        ("SERVICE_ON_UNAVAILABLE", "hope"),
        ("SERVICE_RELOAD_TOKEN", "short"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings(REGISTRY | {name: value})


def test_a_bare_name_needs_a_registry() -> None:
    with pytest.raises(SettingsError, match="SERVICE_RERANK_FALLBACK is 'small'"):
        read_settings(
            {f"SERVICE_{task}": "./models/x" for task in ("EMBED", "RERANK", "CLASSIFY")}
            | {"SERVICE_RERANK_FALLBACK": "small"}
        )


def test_a_gpu_is_used_where_there_is_one() -> None:
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    assert choose_providers(["AzureExecutionProvider", cpu]) == [cpu]
    assert choose_providers(["TensorrtExecutionProvider", cuda, cpu]) == [cuda, cpu]


def test_rules_prefer_what_shares_words() -> None:
    near, far, same = RuleEmbedder().embed(["pay the invoice", "a comet", "Invoice: pay the!"]).rows
    assert sum(a * b for a, b in zip(near, same, strict=True)) == pytest.approx(1)
    assert sum(a * b for a, b in zip(near, far, strict=True)) < 0.5
    scores = RuleReranker().rerank("pay the invoice", ["pay the invoice now", "the comet", "nothing"]).values
    assert scores[0] == pytest.approx(1)
    assert scores[0] > scores[1] > scores[2] == 0
    labels = RuleClassifier(("positive", "negative"))
    assert labels.classify(["I love it", "it is broken", "a comet"], ()).rows[0].label == "positive"
    assert [row.label for row in labels.classify(["spam for you", "a comet"], ["spam"]).rows] == ["spam", None]
    assert RuleEmbedder().embed([""]).rows[0] == [0.0] * 256


def test_a_version_shares_its_predecessor_s_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    for name, padding in (("v1", 0), ("v2", 0), ("v3", 1)):
        (tmp_path / name).mkdir()
        tokenizer.save(str(tmp_path / name / "tokenizer.json"))
        (tmp_path / name / "config.json").write_text(f'{{"pad_token_id": {padding}}}')
    first = open_tokens(tmp_path / "v1", 8)
    assert open_tokens(tmp_path / "v2", 8) is first
    assert open_tokens(tmp_path / "v2", 9) is not first
    assert open_tokens(tmp_path / "v3", 8) is not first


def test_only_what_was_offered_is_a_label() -> None:
    assert match(" Positive.", ["negative", "positive"]) == "positive"
    assert match("rather positive", ["negative", "positive"]) is None
    assert prompt("a comet", ["x", "y"]) == "Which of these fits the text best: x, y?\nText: a comet"


def test_who_would_wait_too_long_is_told_at_once() -> None:
    async def scenario() -> None:
        turns = Turns(concurrency=1, queue=1, patience=HANG_SECONDS)
        begun, go_on = threading.Event(), threading.Event()

        def work() -> str:
            begun.set()
            assert go_on.wait(HANG_SECONDS)
            return "done"

        first = asyncio.create_task(turns.run(work))
        assert await asyncio.to_thread(begun.wait, HANG_SECONDS)
        second = asyncio.create_task(turns.run(lambda: "done too"))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await turns.run(lambda: "never")
        assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "busy", 1)
        go_on.set()
        assert [await first, await second] == ["done", "done too"]

    asyncio.run(scenario())


def test_a_turn_is_not_waited_for_without_end() -> None:
    async def scenario() -> None:
        turns = Turns(concurrency=1, queue=8, patience=0.01)
        go_on = threading.Event()
        first = asyncio.create_task(turns.run(lambda: go_on.wait(HANG_SECONDS)))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await turns.run(lambda: True)
        assert refused.value.code == "busy"
        go_on.set()
        assert await first
        assert await turns.run(lambda: "the turn was given back")

    asyncio.run(scenario())


def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_BODY_SECONDS", 0.01)
    sent: list[MutableMapping[str, Any]] = []

    async def never(*_: object) -> MutableMapping[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(BodyLimit(never, 1000)({"type": "http", "headers": []}, never, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408


def test_every_setting_is_in_the_docs() -> None:
    code = (EXAMPLE / "modelservice" / "settings.py").read_text("utf-8")
    read = {f"SERVICE_{name}" for name in re.findall(r'read\.\w+\(\s*"([A-Z_]+)"', code)}
    assert len(read) > 15
    page = set(re.findall(r"SERVICE_[A-Z_]+", (ROOT / "docs" / "service.md").read_text("utf-8")))
    tasks = {"SERVICE_EMBED", "SERVICE_RERANK", "SERVICE_CLASSIFY", "SERVICE_VARIANT", "SERVICE_RERANK_FALLBACK"}
    assert page == read | tasks | {"SERVICE_RELOAD_TOKEN", "SERVICE_HOST"}


def test_what_the_image_installs_is_what_the_tests_run_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    lines = (EXAMPLE / "requirements.txt").read_text("utf-8").splitlines()
    lines += (EXAMPLE / "requirements-alone.txt").read_text("utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith(("#", "modeldrop"))}
    assert wanted >= set(project["service"])
    assert wanted - set(project["service"]) <= set(project["build"])
