"""The real action.yml: ``current`` ends where main says, and no pull request moves it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.channels import rollback
from modeldrop.storage.write import open_store
from tests.action.machines import USES, Machines
from tests.action.repository import ActionRepository, succeeded, warnings
from tests.runner.events import Event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runner.expressions import GitHub
    from tests.servers.hub import HubServer
    from tests.servers.interface import CloudServer
    from tests.servers.wheels import WheelServer

BRANCH = Event(ref="refs/heads/better")
QUEUE = Event(name="merge_group", ref="refs/heads/gh-readonly-queue/main/pr-17-0123456")


def test_what_was_published_before_the_merge(repository: ActionRepository) -> None:
    """By a branch, a merge queue and a pull request with a channel of its own."""
    succeeded(repository.run("a"), "moved")
    succeeded(repository.run("b", BRANCH), "not-asked")
    succeeded(repository.run("c", QUEUE), "not-asked")
    succeeded(repository.run("d", Event.pull_request(), channel="pr-17"), "moved")
    assert (repository.named(), repository.named("pr-17")) == (1, 4)
    for number, seed in enumerate("bcd", 2):
        merged = repository.run(seed)
        succeeded(merged, "moved")
        assert f"tested v{number} against v{number - 1}" in merged.log
        told = [merged.outputs[name] for name in ("version", "built", "previous-version")]
        assert (told, repository.named()) == ([f"v{number}", "false", f"v{number - 1}"], number)


def test_a_killed_run_is_run_again(repository: ActionRepository) -> None:
    succeeded(repository.run("a"), "moved")
    killed = repository.run("b", test_command="kill -KILL $PPID")
    assert (killed.outcome, killed.outputs["promotion"], repository.named()) == ("failure", "", 1)
    again = repository.run("b", number=2)
    succeeded(again, "moved")
    assert "tested v2 against v1" in again.log
    assert repository.named() == 2


def test_a_revert_a_rollback_and_what_comes_then(repository: ActionRepository) -> None:
    for seed in "ab":
        succeeded(repository.run(seed), "moved")
    reverted = repository.run("a")
    succeeded(reverted, "moved")
    assert "tested v1 against v2" in reverted.log
    assert repository.named() == 1
    succeeded(repository.run("b"), "moved")
    rollback(open_store(repository.registry), "embedder", "current", by="dana", why="slow")
    held = repository.run("b")
    succeeded(held, "held")
    assert "embedder@current stays at v1: it was rolled back to v1 by dana" in warnings(held)[0]
    succeeded(repository.run("c"), "moved")
    assert repository.named() == 3
    rejected = repository.run("d", test_command="exit 1")
    assert (rejected.outcome, rejected.outputs["promotion"], repository.named()) == ("failure", "rejected", 3)
    assert "modeldrop promote" in rejected.errors[0].message


def test_runs_of_two_commits_and_of_the_same(repository: ActionRepository) -> None:
    succeeded(repository.run("a"), "moved")
    succeeded(repository.run("a"), "unchanged")
    late = repository.run("b", number=1)  # it began before the one that has just said what main wants
    succeeded(late, "held")
    assert "a later run has asked for another build: https://github.com/acme/models/actions/runs/2" in warnings(late)[0]
    assert repository.named() == 1


def install_what_plans(python: str, checkout: Path, temporary: Path, part: str) -> None:
    """Put the environment that plans where the action's step finds it made: it has the packages of the tests.

    Args:
        python: the interpreter that the step finds.
        checkout: the action.
        temporary: of the job.
        part: what has been added to the environment.
    """
    program = "from modeldrop.export.environments.locks import digest, read_lock; print(digest(read_lock('plan.txt')))"
    path = {"PYTHONPATH": str(checkout / "src")}
    digest = subprocess.run([python, "-c", program], env=path, check=True, text=True, capture_output=True).stdout
    folder = temporary / "modeldrop" / f"plan-{digest.strip()}"
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    own = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "modeldrop.pth").write_text(f"{checkout / 'src'}\n{own}\n")
    for note in (f".{part}", ".complete"):
        (folder / note).touch()


@pytest.mark.soak
def test_the_same_in_a_bucket(
    github: GitHub,
    checkout: Path,
    hub: HubServer,
    wheels: WheelServer,
    cloud: CloudServer,
    cloud_registry: str,
    tmp_path: Path,
) -> None:
    """Merge, kill, revert and rollback, signed in.

    On S3 the SDK is installed by the first run that uploads; the tests' package index has no other.
    """
    # Not those of the other tests: each cloud begins where nothing is installed.
    folder = tmp_path / "machines"
    folder.mkdir()
    machines = Machines(github=github, folder=folder, checkout=checkout, hub=hub, wheels=wheels)
    if cloud.name != "s3":
        first = machines.job()
        python = first.uses(USES, {"name": "NO"}).step("find").outputs["path"]
        install_what_plans(python, checkout, first.temp, cloud.name)
    repository = ActionRepository(machines, tmp_path, cloud_registry, machine=cloud.environment)
    succeeded(repository.run("a"), "moved")
    succeeded(repository.run("b", BRANCH), "not-asked")
    succeeded(repository.run("b"), "moved")
    assert repository.run("c", test_command="kill -KILL $PPID").outcome == "failure"
    succeeded(repository.run("c", number=4), "moved")
    succeeded(repository.run("a"), "moved")
    assert repository.named() == 1
    succeeded(repository.run("c"), "moved")
    rollback(open_store(cloud_registry), "embedder", "current", by="dana")
    succeeded(repository.run("c"), "held")
    assert repository.named() == 2


FORK = Event.pull_request(fork=True, name="pull_request_target")


@pytest.mark.parametrize(
    ("event", "inputs", "says"),
    [
        (Event.pull_request(), {"channel": "current"}, ("on pull_request it", "pr-${{ github.event.number }}")),
        (FORK, {"channel": "current"}, ("pull_request_target from a fork", "No fork's may")),
        (FORK, {"channel": "current", "allow_channel_from_pull_request": "true"}, ("No fork's may",)),
        (QUEUE, {"promote": "true"}, ("on merge_group it", 'promote: "false"')),
        (Event.workflow_run("pull_request"), {"channel": "current"}, ("set off by pull_request", "workflow_run.id")),
        (Event.workflow_run("merge_group"), {"promote": "true"}, ("set off by merge_group",)),
    ],
)
def test_a_pull_request_cannot_move_production(
    repository: ActionRepository, event: Event, inputs: dict[str, str], says: tuple[str, ...]
) -> None:
    refused = repository.run("b", event, number=0, **inputs)
    assert (refused.outcome, refused.exit_code, refused.outputs["promotion"]) == ("failure", 2, "")
    (annotation,) = refused.errors
    assert annotation.title == "modeldrop: input channel"
    assert "The input channel is 'current'." in annotation.message
    assert all(part in annotation.message for part in says), annotation.message
    assert [step.name for step in refused.steps if step.outcome != "skipped"][-1] == "Check the inputs"
    assert repository.named() is None


def test_a_pull_request_moves_no_channel_that_others_publish_to_and_where_it_may(repository: ActionRepository) -> None:
    succeeded(repository.run("a", channel="production"), "moved")
    held = repository.run("b", Event.pull_request(), channel="production")
    succeeded(held, "held")
    assert "no pull request or merge queue may move it, because others publish to it" in warnings(held)[0]
    assert repository.named("production") == 1
    allowed = {"channel": "production", "allow_channel_from_pull_request": "true"}
    succeeded(repository.run("b", Event.pull_request(), number=0, **allowed), "moved")
    assert repository.named("production") == 2
    # Set off by a push to main, it is main's.
    succeeded(repository.run("c", Event.workflow_run("push")), "moved")
