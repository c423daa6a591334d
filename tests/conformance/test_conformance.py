from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.run import run_checks
from modeldrop.conformance.scratch import NonconformantError, NotApplicableError, scratch_model
from modeldrop.errors import ConflictError
from modeldrop.storage.write import open_store
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_store_conforms(check: Check, any_registry: str) -> None:
    store = open_store(any_registry)
    try:
        with scratch_model(store) as scratch:
            check.run(scratch)
    except NotApplicableError:
        assert check.name == "headers"
        assert "://" not in any_registry
    assert list(store.objects("")) == []


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=check.name, marks=pytest.mark.soak if check.slow else ()) for check in CHECKS],
)
def test_a_storage_service_of_others_conforms(check: Check, foreign_gcs: str) -> None:
    """But for what is known of it: fake-gcs-server ignores the condition of a deletion."""
    store = open_store(foreign_gcs)
    lacking = (
        pytest.raises(NonconformantError, match="a deletion with the tag of what was there before was accepted")
        if check.name == "deletion"
        else contextlib.nullcontext()
    )
    with lacking, scratch_model(store) as scratch:
        check.run(scratch)
    assert list(store.objects("")) == []


def test_a_lookalike_that_ignores_conditions_is_caught_and_cleaned_up(lookalike: str) -> None:
    outcomes = {outcome.check.name: outcome for outcome in run_checks(open_store(lookalike))}
    assert len(outcomes) == sum(not check.slow for check in CHECKS)
    for name in ("create_only", "swap", "swap_created", "swap_missing", "race_to_create", "race_to_swap"):
        assert outcomes[name].fault, name
    for name in ("nothing_is_there", "empty_objects", "upload_small"):
        assert not outcomes[name].fault, outcomes[name]
    assert list(open_store(lookalike).objects("")) == []


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plugins = ("-p", "no:cacheprovider", "-p", "modeldrop.conformance.plugin")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-W", "error", "--pyargs", "modeldrop.conformance", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_user_can_run_the_suite_with_pytest(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    ran = run_pytest(tmp_path, "--registry", str(registry))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(CHECKS) - 1} passed, 1 skipped" in ran.stdout
    assert list(registry.iterdir()) == []


def test_without_a_registry_the_suite_says_what_it_needs(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path)
    assert ran.returncode != 0
    assert "Name the registry to try: --registry" in ran.stdout + ran.stderr


class _Forgetful(FolderStore):
    """Replaces what is there."""

    def create(self, key: str, data: bytes) -> None:
        try:
            super().create(key, data)
        except ConflictError:
            self.delete(key)
            super().create(key, data)


def test_a_check_that_fails_says_what_the_store_did_and_leaves_nothing(tmp_path: Path) -> None:
    forgetful = _Forgetful(str(tmp_path / "registry"))
    check = next(check for check in CHECKS if check.name == "create_only")
    with pytest.raises(NonconformantError, match="a second create was accepted"), scratch_model(forgetful) as scratch:
        check.run(scratch)
    assert list((tmp_path / "registry").iterdir()) == []
