"""The runner does what GitHub's does: else the tests of the action would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml  # type: ignore[import-untyped]

from tests.runner.events import SHA, TOKEN, Event
from tests.runner.expressions import ExpressionError, GitHub
from tests.runner.file_commands import FileCommandError, parse_pairs
from tests.runner.job import Job
from tests.runner.results import StepResult
from tests.runner.workflow_commands import Annotation, Command, parse, read

Run: TypeAlias = Callable[..., StepResult]


def write_action(folder: Path, *steps: dict[str, Any], inputs: Any = None, outputs: Any = None) -> None:
    shelled = [{"shell": "bash", **step} if "run" in step else step for step in steps]
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "name": "Test",
        "description": "Test",
        "inputs": inputs or {},
        "outputs": outputs or {},
        "runs": {"using": "composite", "steps": shelled},
    }
    (folder / "action.yml").write_text(yaml.safe_dump(content, sort_keys=False, width=10_000), "utf-8")


@pytest.fixture
def job(github: GitHub, tmp_path: Path) -> Job:
    return Job(github, tmp_path / "a machine", actions={"acme/action": tmp_path / "action"})


@pytest.fixture
def run(job: Job, tmp_path: Path) -> Run:
    """Run one step with an action of these steps."""

    def run(*steps: dict[str, Any], inputs: Any = None, outputs: Any = None, **given: str) -> StepResult:
        write_action(tmp_path / "action", *steps, inputs=inputs, outputs=outputs)
        return job.uses("acme/action@v1", given)

    return run


def test_steps_run_in_order_and_stop_at_the_first_that_fails(run: Run) -> None:
    result = run(
        {"id": "one", "run": "echo one"},
        {"id": "two", "run": "echo two; false; echo never"},
        {"id": "three", "run": "echo three"},
        {"id": "four", "if": "always()", "run": "echo four"},
        {"id": "five", "if": "failure()", "run": "echo five"},
        {"id": "six", "if": "${{ !cancelled() }}", "run": "echo ${{ steps.two.outcome }} ${{ github.action_status }}"},
    )
    assert result.outcome == "failure"
    assert result.exit_code == 1
    assert result.log.split("\n") == ["one", "two", "four", "five", "failure failure", ""]
    assert result.step("three").outcome == "skipped"


def test_a_failing_pipe_fails_the_step(run: Run) -> None:
    assert run({"run": "false | true"}).outcome == "failure"


@pytest.mark.parametrize("uses", ["$/", "$//", "$/folder@v1"])
def test_a_reference_to_its_own_repository_names_a_folder(run: Run, uses: str) -> None:
    result = run({"uses": uses})
    assert (result.outcome, [error.message for error in result.errors]) == (
        "failure",
        [f"Expected format {{org}}/{{repo}}[/path]@ref. Actual '{uses}'"],
    )


def test_a_forgiven_failure_keeps_its_outcome(run: Run) -> None:
    result = run(
        {"id": "risky", "run": "exit 3", "continue-on-error": True},
        {"run": "echo ${{ steps.risky.outcome }} ${{ steps.risky.conclusion }}"},
    )
    assert (result.outcome, result.log) == ("success", "failure success\n")


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        ("inputs.flag", True),
        ("${{ inputs.flag == 'YES' }}", True),
        ("inputs.flag == 'no'", False),
        ("inputs.empty", False),
        ("!inputs.empty", True),
        ("inputs.missing == ''", True),
        ("github.event_name == 'push' && github.event.repository.default_branch == github.ref_name", True),
        ('contains(fromJSON(\'["a", "b"]\'), inputs.flag)', False),
        ("runner.os == 'Linux'", True),
        ("env.GREETING == 'hello'", True),
        ("failure()", False),
    ],
)
def test_conditions(run: Run, condition: str, *, runs: bool) -> None:
    inputs = {"flag": {"description": "x"}, "empty": {"description": "x", "default": ""}}
    step = {"id": "step", "if": condition, "env": {"GREETING": "hello"}, "run": ":"}
    assert run(step, inputs=inputs, flag="yes").ran == (["step"] if runs else [])


def test_inputs_are_text_with_defaults_and_whatever_case(run: Run) -> None:
    inputs = {
        "Some-Name": {"description": "x"},
        "flag": {"description": "x", "default": True},
        "token": {"description": "x", "default": "${{ github.token }}"},
        "empty": {"description": "x", "default": "default"},
    }
    step = {"env": {"ALL": "${{ toJSON(inputs) }}"}, "run": 'echo "$ALL"'}
    result = run(step, inputs=inputs, **{"some-name": "a\nb", "empty": "", "else": "1"})
    assert yaml.safe_load(result.log) == {"Some-Name": "a\nb", "flag": "true", "token": TOKEN, "empty": ""}
    assert result.annotations == (Annotation("warning", "Unexpected input(s) else"),)


def test_what_a_script_pastes_is_executed_and_what_its_environment_holds_is_not(run: Run) -> None:
    inputs = {"name": {"description": "x"}}
    evil = '"; echo executed; echo "'
    pasted = run({"run": 'echo "${{ inputs.name }}"'}, inputs=inputs, name=evil)
    held = run({"env": {"NAME": "${{ inputs.name }}"}, "run": 'echo "$NAME"'}, inputs=inputs, name=evil)
    assert "executed" in pasted.log.splitlines()
    assert held.log == f"{evil}\n"


def test_environment_comes_from_job_step_and_files_in_that_order(github: GitHub, tmp_path: Path) -> None:
    write_action(
        tmp_path / "action",
        {"run": 'echo "$A $B $C"; echo "C=file" >> "$GITHUB_ENV"; echo "$HOME/bin" >> "$GITHUB_PATH"'},
        {"env": {"B": "${{ env.B }}+", "A": "step"}, "run": 'echo "$A $B $C ${PATH%%:*}"'},
    )
    job = Job(github, tmp_path / "machine", env={"A": "job", "C": "job"}, actions={"acme/action": tmp_path / "action"})
    result = job.uses("acme/action@v1", {}, {"B": "uses"})
    assert result.log.splitlines() == ["job uses job", f"step uses+ file {job.home}/bin"]


def test_variables_of_github_and_runner(run: Run, tmp_path: Path) -> None:
    result = run({"run": 'echo "$GITHUB_SHA|$GITHUB_EVENT_NAME|$GITHUB_ACTION_PATH|$GITHUB_ACTION_REF|$RUNNER_OS|$CI"'})
    assert result.log == f"{SHA}|push|{tmp_path / 'action'}|v1|Linux|true\n"
    assert "GITHUB_TOKEN" not in run({"run": "env"}).log


def test_outputs_of_steps_become_outputs_of_the_action_even_after_a_failure(run: Run) -> None:
    script = 'printf "%s\\n" "plain=a=b" "multi<<END" "one" "  two" "END" >> "$GITHUB_OUTPUT"; exit 4'
    outputs = {"both": {"description": "x", "value": "${{ steps.s.outputs.plain }}, ${{ steps.s.outputs.multi }}"}}
    result = run({"id": "s", "run": script}, outputs=outputs)
    assert result.outputs == {"both": "a=b, one\n  two"}
    assert result.exit_code == 4


def test_actions_within_an_action(run: Run, job: Job) -> None:
    write_action(
        job.workspace / "inner",
        {"id": "s", "run": 'echo "x=${{ inputs.of }}!" >> "$GITHUB_OUTPUT"'},
        inputs={"of": {"description": "x"}},
        outputs={"x": {"description": "x", "value": "${{ steps.s.outputs.x }}"}},
    )
    result = run(
        {"id": "s", "uses": "./inner", "with": {"of": "a"}},
        {"id": "python", "uses": "actions/setup-python@v6", "with": {"python-version": "3.11"}},
        {"run": 'echo "${{ steps.s.outputs.x }}"; "${{ steps.python.outputs.python-path }}" -c "print(1)"; python -V'},
    )
    assert result.log.splitlines()[:2] == ["a!", "1"]
    assert [(call.action, call.ref, dict(call.inputs)) for call in job.calls] == [
        ("actions/setup-python", "v6", {"python-version": "3.11"})
    ]


@pytest.mark.parametrize("uses", ["actions/setup-python@v6", "acme/unheard-of@v1"])
def test_a_stub_refuses_what_the_action_would_not_know(run: Run, uses: str) -> None:
    with pytest.raises(LookupError, match=r"no stub|has no input pyhton-version"):
        run({"uses": uses, "with": {"pyhton-version": "3.11"}})


def test_an_artifact_reaches_another_job(github: GitHub, tmp_path: Path) -> None:
    jobs = [Job(github, tmp_path / name, service=tmp_path / "service") for name in ("one", "two")]
    (jobs[0].workspace / "built").mkdir()
    (jobs[0].workspace / "built" / "file").write_text("content")
    jobs[0].uses("actions/upload-artifact@v4", {"name": "n", "path": "built"})
    jobs[1].uses("actions/download-artifact@v4", {"name": "n", "path": "there"})
    assert (jobs[1].workspace / "there" / "file").read_text() == "content"
    assert jobs[1].uses("actions/download-artifact@v4", {"name": "none"}).outcome == "failure"


def test_summaries_and_their_limit(run: Run) -> None:
    script = "head -c {} /dev/zero | tr '\\0' x >> \"$GITHUB_STEP_SUMMARY\""
    assert run({"run": script.format(1024 * 1024)}).summary == "x" * 1024 * 1024
    refused = run({"run": script.format(1024 * 1024 + 1)})
    assert refused.summary == ""
    assert refused.outcome == "failure"


def test_masks(run: Run, job: Job) -> None:
    run({"run": "echo ::add-mask::s3cret"})
    assert job.mask(f"a s3cret {TOKEN}") == "a *** ***"


def test_old_commands_that_are_disabled_fail_the_step_and_others_still_work(run: Run) -> None:
    assert run({"id": "s", "run": "echo '::set-output name=A::b'"}).step("s").outputs == {"A": "b"}
    assert run({"run": "echo '::set-env name=A::b'"}).outcome == "failure"


def test_an_action_that_github_refuses_fails(run: Run) -> None:
    result = run({"if": "nonsense.x == 1", "run": ":"})
    assert result.outcome == "failure"
    assert "Unrecognized named-value: 'nonsense'" in result.errors[0].message


@pytest.mark.parametrize("wrong", [{"working-directory": "nowhere"}, {"shell": "zsh-of-nobody {0}"}])
def test_a_missing_folder_or_shell_fails(run: Run, wrong: dict[str, str]) -> None:
    assert run({"run": ":", **wrong}).outcome == "failure"


def test_a_step_after_a_failed_one_is_skipped(run: Run, job: Job) -> None:
    assert run({"run": "false"}).outcome == "failure"
    assert job.failed
    assert run({"run": ":"}).outcome == "skipped"


def test_jobs_of_a_workflow(github: GitHub, tmp_path: Path) -> None:
    file = tmp_path / "workflow.yml"
    file.write_text(
        "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n"
        "      - {id: a, run: 'echo ${{ matrix.name }}; false; true'}\n      - {if: failure(), run: echo after}\n"
    )
    parsed = github.workflow(file, tmp_path)
    assert parsed.errors == ()
    job = Job(github, tmp_path / "machine", contexts={"matrix": {"name": "embedder"}})
    results = job.steps(parsed.tree["jobs"]["test"]["steps"])
    assert [result.log for result in results] == ["embedder\n", "after\n"]
    assert job.failed


def test_hash_of_files_counts_the_workspace_only(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")

    def hashed(pattern: str) -> str:
        contexts = {"github": {"workspace": str(tmp_path / "work")}}
        return github.evaluate(f"hashFiles('{pattern}')", contexts, {}).text

    assert len(hashed("**/*.txt")) == 64
    assert hashed(str(tmp_path / "b.txt")) == ""


def test_unknown_functions_are_refused(github: GitHub) -> None:
    with pytest.raises(ExpressionError, match="Unrecognized function"):
        github.evaluate("shell('id')", {}, {})


def test_events() -> None:
    fork = Event.pull_request(fork=True).context()
    assert fork["event"]["pull_request"]["head"]["repo"] == {"full_name": "somebody/models", "fork": True}
    assert (fork["ref"], fork["base_ref"]) == ("refs/pull/17/merge", "main")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=b\n", {"a": "b"}),
        ("a=b", {"a": "b"}),
        ("\na=b=c<<d\n", {"a": "b=c<<d"}),
        ("a<<E\nE\n", {"a": ""}),
        ("a<<E\nb\n\nc\nE", {"a": "b\n\nc"}),
        ("a<<E=F\nb\nE=F\nc=d\n", {"a": "b", "c": "d"}),
        ("a=1\na=2\n", {"a": "2"}),
    ],
)
def test_file_commands(text: str, pairs: dict[str, str]) -> None:
    assert parse_pairs(text) == pairs


@pytest.mark.parametrize("text", ["a", "a<<E\nb\n", "<<E\nE\n", "a<<\nb\n"])
def test_file_commands_that_the_runner_refuses(text: str) -> None:
    with pytest.raises(FileCommandError, match=r"^Invalid (format|value)"):
        parse_pairs(text)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("::error::x", Command("error", {}, "x")),
        ("  ::error title=a%3A b,line=3::x%0Ay", Command("error", {"title": "a: b", "line": "3"}, "x\ny")),
        ("::error title=::x", Command("error", {}, "x")),
        ("see ::error::x", None),
        ("::unknown::x", None),
        ("::error", None),
        ("text ##[error]x", Command("error", {}, "x")),
        ("##[set-output name=a;]b", Command("set-output", {"name": "a"}, "b")),
    ],
)
def test_workflow_commands(line: str, command: Command | None) -> None:
    assert parse(line) == command


def test_commands_rest_between_stop_and_its_token() -> None:
    printed = "::stop-commands::abc\n::error::no\n::abc::\n::error::yes\n"
    assert [command.data for command in read(printed)] == ["abc", "yes"]
