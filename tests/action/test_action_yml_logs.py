"""The real action.yml: what a test or an exporter prints is text, and says what a person needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.action.machines import USES, Machines, with_weights
from tests.action.repository import ActionRepository, succeeded

if TYPE_CHECKING:
    from pathlib import Path

EVIL = """
echo "temporary: $TMPDIR"; echo "::error::evil"; echo "##[warning]evil"; echo "::add-mask::embedder"; printf half >&2
printf 'build=true\\nexporter=true\\ncache-key=evil\\n' >> "$GITHUB_OUTPUT"
"""


def test_a_test_cannot_speak_to_the_runner_and_is_tried_again(repository: ActionRepository, tmp_path: Path) -> None:
    flaky = f"{EVIL} test -e '{tmp_path}/tried' || {{ touch '{tmp_path}/tried'; exit 7; }}"
    result = repository.run("a", test_command=flaky, test_retries="2")
    succeeded(result, "moved")
    assert result.annotations == ()
    assert "its test ended with exit code 7; trying again, 1 of 2" in result.log
    assert "trying again, 2 of 2" not in result.log
    (folder,) = {line for line in result.log.splitlines() if line.startswith("temporary: ")}
    assert folder.endswith("/_work/_temp/modeldrop/tmp"), "what a killed job leaves is not emptied"
    plan = result.step("plan").outputs
    assert plan == {"build": "false", "exporter": "", "cache-key": "", "cache-folder": ""}


def test_a_rejection_names_the_input_that_builds_again(machines: Machines, tmp_path: Path) -> None:
    """And with debug logging, where it comes from."""
    repository = ActionRepository(machines, tmp_path, machine={"RUNNER_DEBUG": "1"})
    result = repository.run("a", test_command="exit 1")
    (error,) = result.errors
    assert "set the input force: true" in error.message
    assert "--force" not in error.message
    assert "UserTestError" in result.log
    assert "Traceback" in result.log


def test_the_log_of_a_crash_is_printed_and_not_left(machines: Machines, tmp_path: Path) -> None:
    exporter = tmp_path / "python"
    exporter.write_text("#!/bin/sh\necho '::error::evil' >&2; echo 'the reason' >&2; env >&2; echo last >&2; exit 3\n")
    exporter.chmod(0o755)
    feed = "https://me:open-sesame@pypi.acme.dev/simple"
    machine = {"MODELDROP_EXPORTER_PYTHON": str(exporter), "TMPDIR": str(tmp_path), "A_FEED": feed}
    job = with_weights(machines.job(machine=machine))
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (job.workspace / "weights/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    given = {"model": "./weights", "name": "embedder", "registry": "./registry", "variants": "fp32"}
    result = job.uses(USES, given)
    (error,) = result.errors
    assert "failed (exit code 3): last" in error.message
    assert "Its whole log: the group above." in error.message
    printed = result.log.splitlines()
    assert "the reason" in printed
    assert "modeldrop: ::error::evil" in printed
    names = {line.partition("=")[0] for line in printed}
    assert "PATH" in names
    assert not names & {"GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "A_FEED"}
    assert list(tmp_path.glob("modeldrop-*")) == []
