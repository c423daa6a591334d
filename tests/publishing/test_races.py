"""Publishers that meet, and publishers that die, while a version is tested: real processes."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from tests.helpers.publisher import Publisher, named, start_publisher, why_rejected
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def meeting(tmp_path: Path, registry: Path, one: str, other: str) -> list[subprocess.Popen[str]]:
    """Two publishers of the same recipe, both in their tests of v1; ``go <name>`` lets one go on."""
    processes = []
    for name, command in (("one", one), ("other", other)):
        wait = f"touch '{tmp_path}/in {name}'; until [ -e '{tmp_path}/go {name}' ]; do sleep 0.01; done; {command}"
        processes.append(start_publisher(tmp_path / name, "a", wait, registry))
        wait_for(tmp_path / f"in {name}", processes[-1])
    return processes


def let_go(tmp_path: Path, name: str, process: subprocess.Popen[str]) -> tuple[int, str, str]:
    (tmp_path / f"go {name}").touch()
    said, error = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, said, error


def test_a_move_after_a_good_test_is_taken_back_where_another_publishers_failed(tmp_path: Path, registry: Path) -> None:
    one, other = meeting(tmp_path, registry, "exit 1", "true")
    code, _, error = let_go(tmp_path, "one", one)
    assert (code, "UserTestError: embedder v1" in error) == (1, True), error
    code, _, error = let_go(tmp_path, "other", other)
    assert (code, "UserTestError: embedder v1" in error) == (1, True), error
    assert (named(str(registry)), why_rejected(str(registry), 1)) == (None, "its test ended with exit code 1")


def test_a_test_that_fails_after_another_publisher_has_moved_the_channel(tmp_path: Path, registry: Path) -> None:
    one, other = meeting(tmp_path, registry, "true", "exit 1")
    assert let_go(tmp_path, "one", one)[:2] == (0, "1 built True 1")
    code, _, error = let_go(tmp_path, "other", other)
    assert (code, "current names it nevertheless, because somebody else has moved it there" in error) == (1, True)
    assert (named(str(registry)), why_rejected(str(registry), 1)) == (1, "its test ended with exit code 1")


def test_a_publisher_killed_before_its_test_has_ended(publisher: Publisher, tmp_path: Path, registry: Path) -> None:
    killed = start_publisher(tmp_path / "killed", "a", "kill -KILL $PPID", registry)
    assert killed.wait(HANG_SECONDS) == -signal.SIGKILL
    killed.communicate()
    # It is a version, and it is not known whether it is good: the next run finds out.
    assert (named(str(registry)), why_rejected(str(registry), 1)) == (None, None)
    (outcome,) = publisher.publish("a", str(registry), test="true")
    assert (outcome.how, outcome.tested, named(str(registry))) == ("unchanged", True, 1)

    killed = start_publisher(tmp_path / "killed again", "b", "kill -KILL $PPID", registry)
    assert killed.wait(HANG_SECONDS) == -signal.SIGKILL
    killed.communicate()
    (outcome,) = publisher.publish("b", str(registry), test="true")
    assert (outcome.how, outcome.tested, outcome.promotion) == ("unchanged", True, "moved")
    assert named(str(registry)) == 2
