from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.run import ConformanceResult, run_check, run_checks
from modeldrop.conformance.scratch import NonconformantError, scratch_model
from modeldrop.doctor.checks import PROMISES
from modeldrop.errors import ConflictError
from modeldrop.storage.write import open_store
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import environment
from tests.helpers.clouds import sign_in
from tests.servers.s3 import PAGE, S3Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers


SERVICES = ("folder", "s3", "gcs", "azure", "seaweedfs", "fakegcs")
LACKS = {
    "s3": {"unfinished_uploads"},  # moto began all of them in November 2010
    "gcs": {"completion_over_another"},  # as Google's XML API, which has no condition there
    "fakegcs": {"completion_over_another", "unfinished_uploads"},
}
"""What these services do without, and docs/storage/s3-compatible.md or gcs.md says so."""

LONG = {("seaweedfs", "long_listing"), ("fakegcs", "long_listing"), ("azure", "long_listing")} | {
    ("s3", "unfinished_uploads")  # moto fails with a 500 at what was aborted, which is tried again and again
}
"""What ``make soak`` runs."""

FOREIGN = {"seaweedfs", "fakegcs"}
"""Asked by the same clients as S3 and Cloud Storage: in ``make test`` for one check of each kind."""
REPRESENTATIVES = {"create_only", "swap", "listing", "upload_in_parts", "completion_over_another", "publish_and_fetch"}

SKIPPED = {"folder": {"headers", "unfinished_uploads"}, "azure": {"unfinished_uploads"}}


def is_for_soak(service: str, check: Check) -> bool:
    return (service, check.name) in LONG or (service in FOREIGN and check.name not in REPRESENTATIVES)


@pytest.mark.parametrize(
    ("service", "check"),
    [
        pytest.param(
            service,
            check,
            id=f"{service}-{check.name}",
            marks=pytest.mark.soak if is_for_soak(service, check) else (),
        )
        for service in SERVICES
        for check in CHECKS
    ],
)
def test_every_store_conforms_or_lacks_what_is_known(
    service: str, check: Check, servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry = str(tmp_path / "registry")
    if service != "folder":
        sign_in(monkeypatch, servers[service])
        registry = servers[service].registry()
    if service == "s3":
        monkeypatch.setattr("modeldrop.conformance.documents.MANY", PAGE + 5)
    store = open_store(registry)
    outcome = run_check(check, store)
    assert outcome.fault == ""
    assert bool(outcome.lack) == (check.name in LACKS.get(service, ())), outcome.lack
    assert bool(outcome.skipped) == (check.name in SKIPPED.get(service, ())), outcome.skipped
    assert list(store.objects("")) == []


def test_all_that_the_doctor_promises_is_checked() -> None:
    assert {check.promise for check in CHECKS} == set(PROMISES)


def test_parts_are_really_sent(s3: S3Server) -> None:
    """One request up to the size of a part; above it, two parts and what is around them."""
    store = open_store(s3.registry())
    s3.reset()
    check = named("upload_around_the_part_size")
    assert run_check(check, store) == ConformanceResult(check)
    sent = [request for request in s3.requests() if "uploadId=" in request.path]
    assert [request.method for request in sent].count("PUT") == 2
    assert [request.method for request in sent].count("POST") == 1
    assert len({request.path.partition("?")[0] for request in sent}) == 1


@pytest.mark.parametrize(
    ("match", "method", "status", "code"),
    [
        ("uploads", "POST", 501, "NotImplemented"),
        ("uploadId=", "PUT", 501, "NotImplemented"),
        ("uploadId=", "POST", 400, "InvalidPart"),
    ],
    ids=["begin", "send", "complete"],
)
def test_a_store_whose_uploads_in_parts_are_broken_fails(
    match: str, method: str, status: int, code: str, s3: S3Server
) -> None:
    store = open_store(s3.registry())
    s3.rule("answer", match=match, method=method, status=status, code=code, times=10_000)
    for check in (named("upload_around_the_part_size"), named("upload_in_parts")):
        outcome = run_check(check, store)
        assert str(status) in outcome.fault or code in outcome.fault, check.name
    assert not run_check(named("upload_small"), store).fault
    s3.reset()
    assert list(store.objects("")) == []


def named(name: str) -> Check:
    return next(check for check in CHECKS if check.name == name)


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
    assert f"{len(CHECKS) - 2} passed, 2 skipped" in ran.stdout
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
    check = named("create_only")
    with pytest.raises(NonconformantError, match="a second create was accepted"), scratch_model(forgetful) as scratch:
        check.run(scratch)
    assert list((tmp_path / "registry").iterdir()) == []
