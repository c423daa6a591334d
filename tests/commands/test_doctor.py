from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from modeldrop.cli import main
from modeldrop.conformance.checks import CHECKS
from modeldrop.conformance.scratch import LackError
from tests.helpers.builds import publish_build
from tests.helpers.clouds import Servers, sign_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.interface import CloudServer

_SECRET_NAMES = ("SECRET", "CONNECTION_STRING")


class Said(NamedTuple):
    code: int
    out: str


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    monkeypatch.setenv("MODELDROP_HOME", str(tmp_path / "home"))
    return Doctor(capsys)


class Doctor:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Said:
        code = main(["doctor", *map(str, arguments)])
        out, err = self._capsys.readouterr()
        assert err == ""
        return Said(code, out)


def secrets_of(cloud: CloudServer) -> list[str]:
    found = []
    for name, value in cloud.environment.items():
        if any(word in name for word in _SECRET_NAMES):
            found += [part.partition("=")[2] if "Key=" in part else part for part in value.split(";") if len(part) > 8]
    return [secret for secret in found if not secret.startswith(("http", "Default", "Account", "Blob"))]


def test_a_line_for_each_check(doctor: Doctor, cloud: CloudServer) -> None:
    registry = cloud.registry()
    said = doctor(registry)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split() == ["ok", "registry", f"{registry},", "on", *lines[0].split()[4:]]
    assert [line[:11].strip() for line in lines].count("ok") >= len(lines) - 1
    assert not [secret for secret in secrets_of(cloud) if secret in said.out]


def test_secrets_are_there_to_be_looked_for(cloud: CloudServer) -> None:
    assert bool(secrets_of(cloud)) == (cloud.name != "gcs")


def test_json_for_programs(doctor: Doctor, cloud: CloudServer) -> None:
    registry = cloud.registry()
    said = doctor(registry, "--json")
    document = json.loads(said.out)
    assert (said.code, document["registry"], document["ok"]) == (0, registry, True)
    assert [check["name"] for check in document["checks"]][:2] == ["registry", "reachable"]
    assert {check["state"] for check in document["checks"]} <= {"ok", "not checked"}
    assert set(document["checks"][0]) == {"name", "state", "text", "fix"}


def test_a_failure_comes_with_its_fix_and_exit_code(doctor: Doctor, lookalike: str) -> None:
    said = doctor(lookalike)
    assert said.code == 12
    assert said.out.count("FAILED") == 2
    assert "\n    Two publishers could overwrite each other there." in said.out
    assert "\n    as above\n" in said.out
    assert "large files       in parallel parts; but what an interrupted upload has sent cannot be freed." in said.out
    assert json.loads(doctor(lookalike, "--json").out)["ok"] is False


def test_what_cannot_be_opened_is_a_failed_check(doctor: Doctor) -> None:
    said = doctor("s3://No_Bucket/models")
    assert said.code == 12
    assert said.out.startswith("FAILED       registry          'No_Bucket' cannot be a bucket")
    assert "not checked  reachable" in said.out


def test_publishing_to_a_lookalike_is_refused(
    lookalike: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_build(tmp_path / "registry")
    assert main(["mirror", str(tmp_path / "registry" / "embedder"), lookalike]) == 12
    assert "cannot be a registry to publish to: it accepted a create-only write" in capsys.readouterr().err


def test_policies_ask_nobody(doctor: Doctor, tmp_path: Path) -> None:
    said = doctor("s3://acme-models/team", "--policies")
    assert said.code == 0
    assert said.out.startswith("# publisher (publish, promote")
    assert "arn:aws:s3:::acme-models/team/*" in said.out
    fetcher = json.loads(json.loads(doctor("s3://acme-models", "--policies", "--json").out)["fetcher"])
    assert fetcher["Version"] == "2012-10-17"
    assert "az role assignment create" in doctor("az://acme/models", "--policies").out
    assert (
        "gcloud storage buckets add-iam-policy-binding gs://acme-models" in doctor("gs://acme-models", "--policies").out
    )
    assert "has no policies" in doctor(tmp_path, "--policies").out
    assert json.loads(doctor(tmp_path, "--policies", "--json").out) == {}


@pytest.mark.parametrize("url", ["s3://acme-models", "gs://acme-models", "az://acme/models"])
def test_the_script_for_github_makes_two_roles(doctor: Doctor, tmp_path: Path, url: str) -> None:
    """It is run, with the clouds' own commands replaced by ones that only note what they are asked."""
    (tmp_path / "bin").mkdir()
    for program in ("aws", "gcloud", "az", "gh"):
        path = tmp_path / "bin" / program
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> asked\necho 42\n')
        path.chmod(0o755)
    script = json.loads(doctor(url, "--policies", "--json").out)["github"]
    subject = "repo:acme@1/models@2"
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.defpath}", "SUBJECT": subject}
    script = f"PROJECT=p GROUP=g SUBSCRIPTION=s\n{script}"
    subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, check=True)
    asked = (tmp_path / "asked").read_text() + "".join(path.read_text() for path in tmp_path.glob("*-trust.json"))
    assert f"{subject}:ref:refs/heads/main" in asked
    assert f"{subject}:pull_request" in asked
    assert "$SUBJECT" not in asked


def test_the_settings_of_modeldrop_toml_are_in_the_policies(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[registries.prod]\nurl = "s3://acme-models"\nencryption-key = "alias/models"\ntags = {team = "search"}\n'
    (tmp_path / "modeldrop.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    said = doctor("prod", "--policies")
    assert "kms:GenerateDataKey" in said.out
    assert "s3:PutObjectTagging" in said.out


def test_the_default_registry_is_looked_at(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_REGISTRY", str(tmp_path / "registry"))
    assert f"{tmp_path / 'registry'}, a folder" in doctor().out


def test_conformance_runs_every_check_that_is_not_slow(doctor: Doctor, tmp_path: Path) -> None:
    said = doctor(tmp_path / "registry", "--conformance", "--json")
    found = [check for check in json.loads(said.out)["checks"] if check["name"] == "conformance"]
    assert said.code == 0
    assert [check["state"] for check in found].count("ok") == sum(not check.slow for check in CHECKS) - 2
    assert [check["text"] for check in found if check["state"] != "ok"] == [
        "unfinished uploads are listed and aborted: the store itself removes what was begun and never finished",
        "types and cache headers are served: a folder serves no headers",
    ]


@pytest.mark.parametrize(("name", "page"), [("s3", "services in docs/storage/s3-compatible"), ("gcs", "emulators in")])
def test_what_a_service_lacks_has_a_page_of_its_own(
    name: str, page: str, doctor: Doctor, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(_: object) -> None:
        raise LackError("it has none")

    monkeypatch.setattr("modeldrop.conformance.run.CHECKS", [replace(CHECKS[0], run=lacks)])
    sign_in(monkeypatch, servers[name])
    assert f"can do without it: see the table of {page}" in doctor(servers[name].registry(), "--conformance").out


def test_conformance_is_not_tried_on_what_is_not_well(doctor: Doctor, lookalike: str) -> None:
    assert "not checked  conformance" in doctor(lookalike, "--conformance").out


def test_reading_alone(doctor: Doctor, registry: Path) -> None:
    publish_build(registry)
    said = doctor(registry, "--reading", "--model", "embedder")
    assert said.code == 0
    assert "embedder@current  v1, generation 1: fp32, int8" in said.out
    assert "left out: --reading" in said.out
    missing = doctor(registry, "--model", "embedder@staging")
    assert missing.code == 12
    assert "has no embedder/staging" in missing.out
