import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modeldrop.action.event import WorkflowEvent
from modeldrop.action.input_reader import InputsError
from modeldrop.action.inputs import ActionInputs, read_action_inputs

Read = Callable[..., ActionInputs]
MODEL = {"model": "acme/Mini LM".replace(" ", "-"), "registry": "s3://acme-models"}
ON_MAIN = WorkflowEvent("push", "refs/heads/main", "main")
ON_BRANCH = WorkflowEvent("push", "refs/heads/better", "main")
PULL = WorkflowEvent("pull_request", "refs/pull/17/merge", "main")
FORK = WorkflowEvent("pull_request_target", "refs/heads/main", "main", fork=True)
QUEUE = WorkflowEvent("merge_group", "refs/heads/gh-readonly-queue/main/pr-17-0123", "main")
SET_OFF = WorkflowEvent("workflow_run", "refs/heads/main", "main", cause="pull_request", head_branch="better")
SET_OFF_BY_QUEUE = WorkflowEvent("workflow_run", "refs/heads/main", "main", cause="merge_group")
TWO = """
[registries.prod]
url = "gs://acme-models"
[models.embedder]
source = "acme/embedder@v2"
variants = ["fp32", "int8"]
channel = "staging"
test = "true"
[models.embedder.thresholds.int8]
cosine_mean = 0.97
cosine_min = 0.9
[models.ranker]
source = "acme/ranker"
"""


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.chdir(tmp_path)
    # What reading sets is taken back after the test.
    monkeypatch.setenv("MODELDROP_CONFIG", "")
    monkeypatch.delenv("MODELDROP_REGISTRY", raising=False)

    def read(event: WorkflowEvent = ON_MAIN, **inputs: str) -> ActionInputs:
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        return read_action_inputs(json.dumps(given), event, tmp_path / "temp")

    return read


def problems(read: Read, /, event: WorkflowEvent = ON_MAIN, **inputs: Any) -> dict[str, str]:
    with pytest.raises(InputsError) as caught:
        read(event, **inputs)
    return {problem.name: str(problem) for problem in caught.value.problems}


def test_little_is_enough(read: Read) -> None:
    inputs = read(**MODEL)
    assert inputs.request is not None
    assert (inputs.request.source, inputs.request.model, inputs.request.channel) == (
        "acme/Mini-LM",
        "mini-lm",
        "current",
    )
    assert inputs.parts == ("hub", "s3")
    assert json.loads(inputs.matrix)["include"][0]["name"] == "mini-lm"


@pytest.mark.parametrize(
    ("event", "given", "publishes", "channel"),
    [
        (ON_MAIN, {}, True, "current"),
        (ON_MAIN, {"promote": "false"}, True, None),
        (ON_MAIN, {"channel": "staging"}, True, "staging"),
        (ON_BRANCH, {}, True, None),
        (ON_BRANCH, {"promote": "true", "channel": "staging"}, True, "staging"),
        (PULL, {}, False, None),
        (PULL, {"promote": "true"}, False, None),
        (PULL, {"channel": "pr-17"}, True, "pr-17"),
        (PULL, {"channel": "pr-17", "promote": "false"}, True, None),
        (WorkflowEvent("pull_request_target", "refs/heads/main", "main"), {}, False, None),
        (QUEUE, {}, True, None),
        (QUEUE, {"channel": "current"}, True, None),
        (QUEUE, {"channel": "queue", "promote": "true"}, True, "queue"),
        (SET_OFF, {}, False, None),
        (SET_OFF, {"channel": "pr-4711"}, True, "pr-4711"),
        (PULL, {"channel": "current", "promote": "FALSE"}, True, None),
        (PULL, {"channel": "current", "phase": "build"}, False, None),
        (PULL, {"channel": "current", "allow_channel_from_pull_request": "TRUE"}, True, "current"),
        (FORK, {"channel": "pr-17"}, True, "pr-17"),
        (ON_MAIN, {"promote": "TRUE"}, True, "current"),
        (ON_MAIN, {"dry_run": "true"}, False, None),
        (ON_MAIN, {"phase": "build"}, False, None),
        (ON_MAIN, {"phase": "publish"}, True, "current"),
    ],
)
def test_what_is_published_and_promoted(
    read: Read, event: WorkflowEvent, given: dict[str, str], publishes: bool, channel: str | None
) -> None:
    inputs = read(event, **MODEL, **given)
    assert inputs.request is not None
    assert (inputs.publishes, inputs.request.channel) == (publishes, channel)
    assert bool(inputs.reason) is (channel is None)
    assert inputs.channel == given.get("channel", "current")


@pytest.mark.parametrize(
    ("event", "given", "says"),
    [
        (PULL, {"channel": "current"}, ("on pull_request it may", "channel: pr-${{ github.event.number }}")),
        (PULL, {"channel": "staging"}, ("on pull_request it may", "allow-channel-from-pull-request: true")),
        (FORK, {"channel": "current"}, ("on pull_request_target from a fork", "No fork's may")),
        (FORK, {"channel": "current", "allow_channel_from_pull_request": "true"}, ("from a fork", "No fork's may")),
        (QUEUE, {"promote": "true"}, ("on merge_group it may", 'promote: "false"', "allow-channel")),
        (SET_OFF, {"channel": "staging"}, ("workflow_run set off by pull_request", "github.event.workflow_run.id")),
        (SET_OFF_BY_QUEUE, {"promote": "true"}, ("workflow_run set off by merge_group", 'promote: "false"')),
    ],
)
def test_a_proposal_moves_no_channel_that_the_default_branch_uses(
    read: Read, tmp_path: Path, event: WorkflowEvent, given: dict[str, str], says: tuple[str, ...]
) -> None:
    (tmp_path / "modeldrop.toml").write_text(TWO, "utf-8")
    found = problems(read, event=event, config="modeldrop.toml", name="embedder", **given)
    assert list(found) == ["channel"]
    channel = given.get("channel", "staging")
    assert found["channel"].startswith(f"The input channel is '{channel}'. The default branch uses that channel")
    assert all(part in found["channel"] for part in says), found["channel"]


@pytest.mark.parametrize(
    ("event", "given", "proposal"),
    [
        (ON_MAIN, {}, False),
        (ON_BRANCH, {"promote": "true"}, False),
        (PULL, {"channel": "preview"}, True),
        (PULL, {"channel": "preview", "allow_channel_from_pull_request": "true"}, False),
        (FORK, {"channel": "preview", "allow_channel_from_pull_request": "true"}, True),
        (QUEUE, {"channel": "preview", "promote": "true"}, True),
    ],
)
def test_channels_of_other_names_are_the_pull_requests_if_nobody_elses(
    read: Read, event: WorkflowEvent, given: dict[str, str], proposal: bool
) -> None:
    request = read(event, **MODEL, **given).request
    assert request is not None
    assert request.proposal is proposal


@pytest.mark.parametrize(
    ("event", "given", "propose"),
    [
        (ON_MAIN, {}, True),
        (ON_MAIN, {"propose": "false"}, False),
        (PULL, {"channel": "preview"}, False),
        (PULL, {"channel": "current", "allow_channel_from_pull_request": "true"}, True),
        (QUEUE, {"channel": "preview", "promote": "true"}, False),
    ],
)
def test_an_approval_is_needed_for_all_but_a_pull_requests_own_channel(
    read: Read, event: WorkflowEvent, given: dict[str, str], propose: bool
) -> None:
    request = read(event, **{**MODEL, "propose": "true", **given}).request
    assert request is not None
    assert request.propose is propose


def test_inputs_override_the_configuration(read: Read, tmp_path: Path) -> None:
    (tmp_path / "modeldrop.toml").write_text(TWO, "utf-8")
    inputs = read(config="modeldrop.toml", name="embedder", thresholds="int8.cosine_min=0.8\nfp32.max_abs = 1e-2")
    request = inputs.request
    assert request is not None
    assert (request.source, request.channel, request.test) == ("acme/embedder@v2", "staging", "true")
    assert request.recipe.thresholds == {"int8": {"cosine_mean": 0.97, "cosine_min": 0.8}, "fp32": {"max_abs": 0.01}}
    assert inputs.parts == ("gcs", "hub")
    pinned = read(name="embedder", revision="v3", variants="fp32", registry="prod\n./copy").request
    assert pinned is not None
    assert (pinned.source, pinned.recipe.variants) == ("acme/embedder@v3", ("fp32",))
    assert pinned.registries == ("prod", "./copy")


def test_a_url_below_a_registry_of_the_configuration_is_itself(read: Read, tmp_path: Path) -> None:
    (tmp_path / "modeldrop.toml").write_text('[registries.lab]\nurl = "s3://models"\nregion = "eu-west-1"\n', "utf-8")
    given = {"model": "acme/embedder", "registry": "s3://models/team\ns3://models"}
    request = read(config="modeldrop.toml", **given).request
    assert request is not None
    assert request.registries == ("s3://models/team", "s3://models")


def test_a_recipe_may_bring_inputs_and_a_metric_of_its_own(read: Read, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    lines = ['inputs = "pictures"', 'metric = "quality:accuracy"', "[thresholds.int8]", 'accuracy = ">= 0.9"']
    (tmp_path / "recipes" / "seer.toml").write_text("\n".join(lines), "utf-8")
    asked = "int8.accuracy >= 99%\nint4.accuracy>=0.5\nint8.cosine_mean>=0.9"
    request = read(model="acme/seer", registry="./r", recipe="recipes/seer.toml", thresholds=asked).request
    assert request is not None
    assert (request.recipe.inputs, request.recipe.metric) == ("recipes/pictures", "recipes/quality:accuracy")
    assert request.recipe.thresholds == {"int8": {"cosine_mean": 0.9}}
    limits = {name: str(own["accuracy"]) for name, own in request.recipe.own_thresholds.items()}
    assert limits == {"int8": ">= 99%", "int4": ">= 0.5"}


def test_several_models_are_a_matrix_and_need_a_name(read: Read, tmp_path: Path) -> None:
    (tmp_path / "modeldrop.toml").write_text(TWO, "utf-8")
    inputs = read(phase="plan")
    assert inputs.request is None
    assert [row["name"] for row in json.loads(inputs.matrix)["include"]] == ["embedder", "ranker"]
    with pytest.raises(InputsError) as caught:
        read()
    assert caught.value.matrix == inputs.matrix
    (problem,) = caught.value.problems
    assert "embedder, ranker" in str(problem)
    assert "modeldrop matrix" in str(problem)


def test_the_working_directory_is_where_paths_start(read: Read, tmp_path: Path) -> None:
    folder = tmp_path / "a sub"
    folder.mkdir()
    (folder / "my texts.txt").write_text("a text\n", "utf-8")
    inputs = read(**MODEL, working_directory="a sub", texts="my texts.txt", build_folder="b")
    assert inputs.build_folder == folder / "b"


def test_a_folder_that_is_no_checkpoint_is_refused_before_anything_is_installed(read: Read, tmp_path: Path) -> None:
    (tmp_path / "check point").mkdir()
    assert "config.json" in problems(read, model="./check point", registry="./r")["model"]


def test_a_model_is_on_the_hub_unless_its_file_is_there(read: Read, tmp_path: Path) -> None:
    hub = read(model="acme/mini#onnx/model.onnx", revision="v3", registry="./r")
    assert hub.request is not None
    assert (hub.request.source, hub.parts) == ("acme/mini@v3#onnx/model.onnx", ("hub",))
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/mini.skops").write_bytes(b"trees")
    assert read(model="acme/mini.skops", registry="./r").parts == ()
    assert "revision" in problems(read, model="acme/mini.skops", revision="v3", registry="./r")


def test_the_same_inputs_find_the_same_folder_and_others_do_not(read: Read) -> None:
    build = read(**MODEL, phase="build")
    publish = read(**MODEL, phase="publish", channel="staging", test_command="true")
    assert build.build_folder == publish.build_folder
    assert read(**MODEL, variants="fp32").build_folder != build.build_folder
    assert read(**MODEL, revision="v2").build_folder != build.build_folder


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("model", "--flag", "./folder"),
        ("model", "./missing", "missing"),
        ("model", "https://huggingface.co/acme/mini", "Did you mean acme/mini?"),
        ("name", "Mini LM", "lower-case letters"),
        ("revision", "a b", "branch, a tag or a commit"),
        ("task", "sing", "feature-extraction"),
        ("variants", "fp32 int3", "int8"),
        ("variants", "fp32, fp32", "named twice"),
        ("registry", "acme", "./acme"),
        ("registry", "https://acme.dev/models", "read-only"),
        ("registry", "s3://A_B", "bucket"),
        ("channel", "v3", "taken"),
        ("promote", "perhaps", "auto, true, false"),
        ("config", "missing.toml", "no such file"),
        ("recipe", "missing.toml", "cannot be read"),
        ("thresholds", "int8.cosine_mean>0.98", "VARIANT.METRIC=NUMBER"),
        ("thresholds", "int3.cosine_mean=0.98", "Allowed: fp32"),
        ("thresholds", "int8.beauty=0.98", "cosine_mean"),
        ("thresholds", "int8.beauty>=0.98", "cosine_mean"),
        ("thresholds", "int8.cosine_mean=nan", "no number"),
        ("thresholds", "int8.cosine_mean<=0.98", "A faithful cosine_mean is >="),
        ("texts", "missing.txt", "no such file"),
        ("max-length", "3", "from 8"),
        ("test-command", "if true", "no shell command"),
        ("test-timeout", "soon", "90m"),
        ("force", "yes", "true, false"),
        ("dry-run", "1", "true, false"),
        ("summary", "no", "true, false"),
        ("phase", "test", "all, plan, build, publish"),
        ("torch-index", "--extra", "https://"),
        ("working-directory", "missing", "No such file"),
    ],
)
def test_a_wrong_input(read: Read, name: str, value: str, says: str) -> None:
    found = problems(read, ON_MAIN, **{**MODEL, name: value})
    assert list(found) == [name]
    assert says in found[name]
    assert (repr(value) if name != "test-command" else "'…'") in found[name]


def test_what_is_missing(read: Read) -> None:
    assert list(problems(read, name="x")) == ["model", "registry"]
    assert "s3://bucket/prefix" in problems(read, model="acme/mini")["registry"]


def test_all_problems_are_told_at_once(read: Read) -> None:
    found = problems(read, model="acme/mini@v1", revision="v2", registry="./a\n./a\nb", variants="x", force="?")
    assert set(found) == {"revision", "registry", "variants", "force"}


@pytest.mark.parametrize("name", ["model", "name", "revision", "channel", "recipe", "config", "build-folder"])
@pytest.mark.parametrize("value", ["a\nb", "x\x1b[2J", "y" * 10_000])
def test_odd_texts_are_refused_in_one_short_line(read: Read, name: str, value: str) -> None:
    found = problems(read, ON_MAIN, **{**MODEL, name: value})
    assert name in found
    assert all(text.isprintable() and len(text) < 1500 for text in found.values())


def test_publish_refuses_a_folder_without_a_build(read: Read, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no build" in problems(read, ON_MAIN, **MODEL, phase="publish", build_folder="empty")["build-folder"]
