"""Who signs in to a container registry: credentials as docker and podman keep them.

Files are read in the order of containers-auth.json(5): what ``REGISTRY_AUTH_FILE`` names and nothing else, or podman's
``auth.json`` and then docker's ``config.json`` (in ``DOCKER_CONFIG``). In each file a program of ``credHelpers`` is
asked for its registry, then the entries of ``auths`` count, the longest that fits first, then ``credsStore``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modeldrop.errors import RegistryError, UsageError
from modeldrop.storage.errors import detail
from modeldrop.util.files import expand_user

_MAX_BYTES = 4 << 20
_HELPER_SECONDS = 60.0
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_TOKEN_USER = "<token>"  # noqa: S105  what a helper answers as the name where it has a token
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs in.

    Attributes:
        where: the file or the helper that it is from; "" where nobody signs in.
        user: a name, or "".
        password: that user's.
        identity_token: a token that gets others, or "".
        registry_token: a token that is sent as it is, or "".
    """

    where: str = ""
    user: str = ""
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")
    registry_token: str = field(repr=False, default="")

    @property
    def basic(self) -> str:
        """The header Authorization for user and password; "" without."""
        if not self.user:
            return ""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def credentials_for(host: str, name: str) -> Credentials:
    """What docker or podman would sign in with.

    Args:
        host: the registry, as images are called after it.
        name: the repository; podman keeps credentials for parts of a registry too.

    Raises:
        UsageError: REGISTRY_AUTH_FILE names a file that is not there.
        RegistryError: a file that is there cannot be read, or a helper fails.
    """
    for path in auth_files():
        found = _credentials_in(path, host, name)
        if found is not None:
            return found
    return Credentials()


def auth_files() -> tuple[Path, ...]:
    """Where credentials are looked for, in this order."""
    named = os.environ.get("REGISTRY_AUTH_FILE", "")
    if named:
        return (expand_user(named),)
    runtime = os.environ.get("XDG_RUNTIME_DIR", "") or f"/run/containers/{os.getuid()}"
    settings = os.environ.get("XDG_CONFIG_HOME", "") or "~/.config"
    docker = os.environ.get("DOCKER_CONFIG", "") or "~/.docker"
    places = (f"{runtime}/containers/auth.json", f"{settings}/containers/auth.json", f"{docker}/config.json")
    return tuple(expand_user(place) for place in places)


def _credentials_in(path: Path, host: str, name: str) -> Credentials | None:
    document = _read(path)
    helpers = _table(document, "credHelpers", path)
    for key in _hosts(host):
        if isinstance(helpers.get(key), str):
            return _ask_helper(helpers[key], key, path)
    auths = {_key(key): value for key, value in _table(document, "auths", path).items()}
    for key in _keys(host, name):
        if isinstance(auths.get(key), dict) and (found := _entry(auths[key], key, path)) is not None:
            return found
    store = document.get("credsStore")
    if isinstance(store, str) and store:
        for key in _hosts(host):
            if (found := _ask_helper(store, key, path)) is not None:
                return found
    return None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as source:
            data = source.read(_MAX_BYTES)
        document = json.loads(data or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        if os.environ.get("REGISTRY_AUTH_FILE"):
            raise UsageError(f"REGISTRY_AUTH_FILE names {path}, which is not there.", "Correct or unset it.") from None
        return {}
    except OSError as error:
        raise RegistryError(
            f"The credentials in {path} cannot be read: {error.strerror or error}.",
            "Let this user read it, or name another file: REGISTRY_AUTH_FILE.",
        ) from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RegistryError(f"{path} is no file of credentials: it holds no JSON object.", "docker login writes one.")
    return document


def _table(document: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    found = document.get(key) or {}
    if not isinstance(found, dict):
        raise RegistryError(f"{path} is no file of credentials: {key} is no object.", "docker login writes one.")
    return found


def _entry(entry: Mapping[str, Any], key: str, path: Path) -> Credentials | None:
    """What an entry of ``auths`` says; None where it is empty, as docker leaves those that a helper keeps."""

    def text(name: str) -> str:
        value = entry.get(name)
        return value if isinstance(value, str) else ""

    user, password = text("username"), text("password")
    if encoded := text("auth"):
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise RegistryError(
                f"The entry {key} in {path} is damaged.", f"Sign in again: docker login {key}"
            ) from None
    found = Credentials(
        where=str(path),
        user=user,
        password=password.rstrip("\0"),
        identity_token=text("identitytoken"),
        registry_token=text("registrytoken"),
    )
    return found if found.user or found.identity_token or found.registry_token else None


def _ask_helper(helper: str, host: str, path: Path) -> Credentials | None:
    """What a credential helper answers; None where it has nothing for this registry.

    Raises:
        RegistryError: it is not there, or fails.
    """
    program = f"docker-credential-{helper}"
    if not _HELPER.fullmatch(helper):
        raise RegistryError(f"{path} names a credential helper {helper[:80]!r}, which is no program's name.")
    try:
        done = subprocess.run(
            [program, "get"], input=host.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise RegistryError(
            f"{path} names the credential helper {program}, which is not installed.", "Install it, or sign in anew."
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"The credential helper {program} of {path} does not answer: {detail(error)}.") from None
    said = done.stdout[:_MAX_BYTES].decode("utf-8", "replace")
    if done.returncode:
        # The protocol has no code for it, only this sentence, on standard output.
        if "credentials not found" in said.lower():
            return None
        reason = detail(done.stderr.decode("utf-8", "replace") or said)
        raise RegistryError(
            f"The credential helper {program} of {path} fails: {reason}.", "Sign in again with its tool."
        )
    try:
        answer = json.loads(said)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"The credential helper {program} of {path} answers no credentials.") from None
    where = f"{program}, which {path} names"
    return Credentials(where, identity_token=secret) if user == _TOKEN_USER else Credentials(where, user, secret)


def _hosts(host: str) -> tuple[str, ...]:
    """The names that credentials of a registry are kept under."""
    return ("https://index.docker.io/v1/", *_DOCKER_HUB) if host in _DOCKER_HUB else (host,)


def _keys(host: str, name: str) -> Iterator[str]:
    """The same with the parts of a registry that podman keeps credentials for, the longest first."""
    hosts = [_key(one) for one in _hosts(host)]
    parts = name.split("/")
    for length in range(len(parts), 0, -1):
        yield from (f"{one}/{'/'.join(parts[:length])}" for one in hosts)
    yield from hosts


def _key(key: str) -> str:
    """A key of ``auths`` without scheme and the path of the API, which docker's old entries have."""
    return re.sub(r"/v[12]/?$", "", re.sub(r"^https?://", "", key)).rstrip("/")
