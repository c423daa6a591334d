"""Signing in as docker and podman do: their files, their helpers, passwords and tokens."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from modeldrop.errors import RegistryError, UsageError
from modeldrop.oci.credentials import auth_files, credentials_for
from tests.oci.conftest import Json, Run
from tests.servers.oci_registry import IDENTITY_TOKEN, PASSWORD, USER, OciRegistry

NAME = "models/embedder"


def login(user: str = USER, password: str = PASSWORD) -> Json:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.fixture
def docker_file(nobody_signed_in: Path) -> Path:
    return nobody_signed_in / ".docker/config.json"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper, ``docker-credential-ours``; what it does with a server's name is the test's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "docker-credential-ours"


def program(path: Path, script: str) -> None:
    path.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 3\nread -r server\n{script}\n')
    path.chmod(0o755)


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_a_password_signs_in(export: Run, docker_file: Path, kind: str) -> None:
    with OciRegistry(kind) as oci:
        write(docker_file, {"auths": {oci.host: login()}})
        code, out, err = export(f"oci://{oci.host}/{NAME}:x")
        assert code == 0, err
        assert PASSWORD not in out + err
        # A token is for what is done, and not for more.
        scopes = {scope for granted in oci.tokens.values() for scope in granted}
        assert scopes == ({f"{NAME}:pull", f"{NAME}:push"} if kind == "bearer" else set())


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_nobody_and_a_wrong_password_are_told_apart(export: Run, docker_file: Path, kind: str) -> None:
    with OciRegistry(kind) as oci:
        code, _, err = export(f"oci://{oci.host}/{NAME}:x")
        assert code == 12
        assert "nobody is signed in" in err
        assert str(docker_file) in err
        assert f"docker login {oci.host}" in err
        write(docker_file, {"auths": {oci.host: login(password="wrong-password")}})
        code, _, err = export(f"oci://{oci.host}/{NAME}:x")
        assert code == 12
        assert f"does not accept the credentials of {docker_file}" in err
        assert "wrong-password" not in err
        assert not oci.of(NAME).tags


def test_an_identity_token_gets_others(export: Run, docker_file: Path) -> None:
    with OciRegistry("bearer") as oci:
        write(docker_file, {"auths": {oci.host: {"identitytoken": IDENTITY_TOKEN}}})
        code, _, err = export(f"oci://{oci.host}/{NAME}:x")
        assert code == 0, err


def test_a_token_that_expires_on_the_way_is_replaced(export: Run, docker_file: Path) -> None:
    with OciRegistry("bearer") as oci:
        write(docker_file, {"auths": {oci.host: login()}})
        asked = []

        def expire(one: Any) -> None:
            asked.append(one)
            if len(asked) % 7 == 0:
                oci.tokens.clear()

        oci.answer = expire
        code, _, err = export(f"oci://{oci.host}/{NAME}:x")
        assert code == 0, err
        assert len(oci.asked("GET", "/token")) > 2


def test_a_token_without_the_right_to_push_is_refused(export: Run, docker_file: Path) -> None:
    with OciRegistry("bearer") as oci:
        write(docker_file, {"auths": {oci.host: login()}})
        oci.may = {"pull"}
        code, _, err = export(f"oci://{oci.host}/{NAME}:x")
        assert code == 12
        assert f"does not accept the credentials of {docker_file}" in err


def test_the_files_are_looked_at_in_podmans_order(
    docker_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, name = "registry.example.com:5000", "team/embedder"
    write(docker_file, {"auths": {host: login("docker")}})
    assert credentials_for(host, name).user == "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "elsewhere"))
    assert credentials_for(host, name).user == ""
    write(tmp_path / "elsewhere/config.json", {"auths": {f"https://{host}/v1/": login("elsewhere")}})
    assert credentials_for(host, name).user == "elsewhere"
    write(docker_file.parents[1] / ".config/containers/auth.json", {"auths": {host: login("settings")}})
    assert credentials_for(host, name).user == "settings"
    write(tmp_path / "run/containers/auth.json", {"auths": {host: login("runtime"), "other.example.com": login()}})
    assert credentials_for(host, name).user == "runtime"
    named = write(tmp_path / "named.json", {"auths": {"other.example.com": login("named")}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert auth_files() == (named,)
    assert credentials_for(host, name).user == ""
    assert credentials_for("other.example.com", name).where == str(named)


def test_the_longest_entry_that_fits_counts(docker_file: Path) -> None:
    host = "registry.example.com"
    auths = {host: login("all"), f"{host}/team": login("team"), f"{host}/team/embedder": login("one")}
    write(docker_file, {"auths": auths})
    assert [credentials_for(host, name).user for name in ("team/embedder", "team/other", "teams/embedder")] == [
        "one", "team", "all",
    ]  # fmt: skip


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hubs_entry_has_a_name_of_its_own(docker_file: Path, host: str) -> None:
    write(docker_file, {"auths": {"https://index.docker.io/v1/": login("hub")}})
    assert credentials_for(host, "acme/embedder").user == "hub"


def test_helpers_are_asked(docker_file: Path, helper: Path) -> None:
    program(helper, 'printf \'{"ServerURL":"%s","Username":"of %s","Secret":"s"}\' "$server" "$server"')
    write(docker_file, {"credHelpers": {"a.example.com": "ours"}, "auths": {"a.example.com": login("file")}})
    assert credentials_for("a.example.com", NAME).user == "of a.example.com"
    assert credentials_for("b.example.com", NAME).user == ""
    write(docker_file, {"credsStore": "ours", "auths": {"a.example.com": {}}})
    assert credentials_for("a.example.com", NAME).user == "of a.example.com"
    assert credentials_for("docker.io", NAME).user == "of https://index.docker.io/v1/"
    program(helper, f'printf \'{{"Username":"<token>","Secret":"{IDENTITY_TOKEN}"}}\'')
    assert credentials_for("a.example.com", NAME).identity_token == IDENTITY_TOKEN
    program(helper, "echo credentials not found in native keychain; exit 1")
    assert credentials_for("a.example.com", NAME).where == ""


def test_a_helper_that_fails_is_told(docker_file: Path, helper: Path) -> None:
    write(docker_file, {"credsStore": "ours"})
    with pytest.raises(RegistryError, match="docker-credential-ours, which is not installed"):
        credentials_for("a.example.com", NAME)
    program(helper, "echo the keychain is locked >&2; exit 1")
    with pytest.raises(RegistryError, match="fails: the keychain is locked"):
        credentials_for("a.example.com", NAME)
    program(helper, "echo Welcome!")
    with pytest.raises(RegistryError, match="answers no credentials"):
        credentials_for("a.example.com", NAME)
    write(docker_file, {"credsStore": "../../bin/sh"})
    with pytest.raises(RegistryError, match="which is no program's name"):
        credentials_for("a.example.com", NAME)


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"auths": 5}', '{"auths": {"a": {"auth": "%%%"}}}', "[" * 9999])
def test_a_damaged_file_is_told(docker_file: Path, text: str) -> None:
    write(docker_file, text)
    with pytest.raises(RegistryError, match=r"config\.json"):
        credentials_for("a", NAME)


def test_a_file_that_is_named_and_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no.json"))
    with pytest.raises(UsageError, match="REGISTRY_AUTH_FILE names"):
        credentials_for("a", NAME)
