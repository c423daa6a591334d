"""The real action.yml, given inputs that are wrong: one annotation each, before anything is installed or asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.action.machines import PIP_LOG, TINY, USES, Machines, readable
from tests.runner.job import Job
from tests.runner.results import StepResult
from tests.servers.hub import HubServer
from tests.servers.wheels import WheelServer

GOOD = {"model": TINY, "name": "embedder", "registry": "./registry"}

WRONG: list[tuple[dict[str, str], str, list[str]]] = [
    ({"model": ""}, "model", ["Required"]),
    ({"model": "./nothing-here"}, "model", ["'./nothing-here'", "nothing-here"]),
    ({"registry": ""}, "registry", ["Required", "s3://"]),
    ({"registry": "./registry\n./registry"}, "registry", ["twice"]),
    ({"promote": "maybe"}, "promote", ["'maybe'", "auto, true, false"]),
    ({"config": "nowhere.toml"}, "config", ["'nowhere.toml'", "no such file"]),
    ({"thresholds": "int8.beauty=0.9"}, "thresholds", ["'beauty'", "Allowed:", "cosine_mean"]),
    ({"phase": "publish", "build-folder": "elsewhere"}, "build-folder", ["'elsewhere'"]),
    ({"python-version": "2.7"}, "python-version", ["'2.7'", "3.11"]),
    ({"working-directory": "no such folder"}, "working-directory", ["'no such folder'"]),
]
# test_inputs.py has the same mistakes, without a machine.
MORE: list[tuple[dict[str, str], str, list[str]]] = [
    ({"model": "acme/tiny/x/y"}, "model", ["'acme/tiny/x/y'"]),
    ({"model": "https://models.acme.example/x"}, "model", ["'https://models.acme.example/x'"]),
    ({"revision": "a b"}, "revision", ["'a b'"]),
    ({"model": "s3://acme/weights", "revision": "main"}, "revision", ["Only models on the Hugging Face Hub"]),
    ({"name": "Embedder"}, "name", ["'Embedder'", "lower-case letters"]),
    ({"task": "sing"}, "task", ["'sing'", "Allowed:", "feature-extraction"]),
    ({"variants": "fp32, int3"}, "variants", ["'int3'", "Allowed:", "int8"]),
    ({"registry": "ftp://acme/models"}, "registry", ["'ftp://acme/models'"]),
    ({"registry": "https://models.acme.example"}, "registry", ["read-only"]),
    ({"channel": "v3"}, "channel", ["'v3'"]),
    ({"thresholds": "int8.cosine_mean>0.9"}, "thresholds", ["'int8.cosine_mean>0.9'", "cosine_mean=0.98"]),
    ({"force": "yes"}, "force", ["'yes'", "true, false"]),
    ({"dry-run": "1"}, "dry-run", ["'1'", "true, false"]),
    ({"summary": "no"}, "summary", ["'no'", "true, false"]),
    ({"phase": "deploy"}, "phase", ["'deploy'", "plan, build, publish"]),
]


def refused(job: Job, inputs: dict[str, str], hub: HubServer, wheels: WheelServer) -> StepResult:
    """Run the action; it must fail without having installed, downloaded or asked for anything."""
    before = len(hub.requests), len(wheels.requests)
    result = job.uses(USES, inputs)
    assert result.outcome == "failure"
    assert (len(hub.requests), len(wheels.requests)) == before
    assert not (job.folder / PIP_LOG).exists(), "pip was called"
    assert not list(job.temp.rglob("pyvenv.cfg")), "an environment was made"
    assert not (job.workspace / "registry").exists()
    return result


@pytest.mark.parametrize(
    ("inputs", "name", "parts"),
    [*WRONG, *(pytest.param(*one, marks=pytest.mark.soak) for one in MORE)],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_one_annotation_names_input_value_and_what_is_allowed(
    machines: Machines, hub: HubServer, wheels: WheelServer, inputs: dict[str, str], name: str, parts: list[str]
) -> None:
    result = refused(machines.job(), GOOD | inputs, hub, wheels)
    assert len(result.errors) == 1, result.log
    message = result.errors[0].message
    assert message.startswith(f"The input {name} is ")
    assert [part for part in parts if part not in message] == []
    assert set(result.outputs.values()) <= {"", "false"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "https://me:hunter2hunter2@models.example/x"),
        ("registry", "s3://AKIA:hunter2hunter2@acme-models/x"),
        ("registry", "https://models.example/x?sig=hunter2hunter2"),
        ("torch-index", "ftp://me:hunter2hunter2@mirror.example/simple"),
    ],
)
def test_a_secret_in_an_input_is_not_shown(
    machines: Machines, hub: HubServer, wheels: WheelServer, name: str, value: str
) -> None:
    result = refused(machines.job(), GOOD | {name: value}, hub, wheels)
    assert [error.message.startswith(f"The input {name} is ") for error in result.errors] == [True]
    assert "[redacted]" in result.errors[0].message
    assert "hunter2" not in result.log + readable(result.summary)


def test_several_wrong_inputs_are_told_at_once(machines: Machines, hub: HubServer, wheels: WheelServer) -> None:
    wrong = {"name": "A", "channel": "v1", "force": "x", "promote": "y"}
    result = refused(machines.job(), GOOD | wrong, hub, wheels)
    assert sorted(error.message.split()[2] for error in result.errors) == sorted(wrong)


def test_an_input_that_does_not_exist_is_a_warning_of_the_runner(machines: Machines) -> None:
    result = machines.job().uses(USES, {"modell": "x"})
    assert any("modell" in found.message for found in result.annotations if found.level == "warning")


def test_a_file_with_several_models_needs_a_name(machines: Machines, hub: HubServer, wheels: WheelServer) -> None:
    job = machines.job()
    write_config(job.workspace)
    result = refused(job, {"config": "modeldrop.toml"}, hub, wheels)
    assert len(result.errors) == 1
    assert all(word in result.errors[0].message for word in ("one", "two", "matrix"))


def test_a_name_that_is_not_in_the_file(machines: Machines, hub: HubServer, wheels: WheelServer) -> None:
    job = machines.job()
    write_config(job.workspace)
    result = refused(job, {"config": "modeldrop.toml", "name": "three"}, hub, wheels)
    assert len(result.errors) == 1
    assert "one, two" in result.errors[0].message


def test_a_mistake_in_the_file_names_the_key(machines: Machines, hub: HubServer, wheels: WheelServer) -> None:
    job = machines.job()
    (job.workspace / "modeldrop.toml").write_text('[models.one]\nsource = "acme/tiny"\nvariant = "int8"\n')
    result = refused(job, {"config": "modeldrop.toml", "name": "one"}, hub, wheels)
    assert len(result.errors) == 1
    assert "variant" in result.errors[0].message


def write_config(folder: Path) -> None:
    (folder / "modeldrop.toml").write_text(
        '[registries.local]\nurl = "./registry"\n'
        '[models.one]\nsource = "acme/tiny"\nvariants = ["fp32"]\n'
        '[models.two]\nsource = "acme/tiny"\nvariants = ["int8"]\n'
    )
