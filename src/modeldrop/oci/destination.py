"""Where an export goes, as it is written: ``oci://HOST/NAME[:TAG]``, or ``oci:FOLDER[:TAG]`` for a layout on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modeldrop.errors import UsageError

REGISTRY, LAYOUT = "oci://", "oci:"
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_NAME = 255
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_HOW = f"Write {REGISTRY}registry.example.com/models/embedder:v3, or {LAYOUT}./folder:v3 for an OCI layout."
# What docker.io stands for: the host that speaks the API, and the name that docker login keeps credentials under.
_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True, slots=True)
class RegistryDestination:
    """A repository of a container registry.

    Attributes:
        host: as it was written, with its port.
        name: the repository's name there.
        tag: "" where none was written.
    """

    host: str
    name: str
    tag: str = ""

    @property
    def url(self) -> str:
        """The repository, as images are called: without a scheme."""
        return f"{self.host}/{self.name}"

    @property
    def address(self) -> str:
        """Host and port that speak the API."""
        return _DOCKER_HUB.get(self.host, self.host)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine."""
        return bool(_LOOPBACK.fullmatch(re.sub(r":[0-9]+$", "", self.host)))


@dataclass(frozen=True, slots=True)
class LayoutDestination:
    """A folder with an OCI image layout.

    Attributes:
        folder: as it was written.
        tag: "" where none was written.
    """

    folder: str
    tag: str = ""

    @property
    def url(self) -> str:
        """The folder, as skopeo calls it."""
        return f"{LAYOUT}{self.folder}"


def parse_destination(text: str) -> RegistryDestination | LayoutDestination:
    """What ``text`` names.

    Raises:
        UsageError: it names no place for an export.
    """
    if text.startswith(REGISTRY):
        return _parse_registry(text)
    if not text.startswith(LAYOUT):
        raise UsageError(f"{text[:200]!r} names no place for an export.", _HOW)
    folder, colon, tag = text.removeprefix(LAYOUT).partition(":")
    if not folder:
        raise UsageError(f"{text[:200]!r} names no folder.", _HOW)
    return LayoutDestination(folder, check_tag(tag) if colon else "")


def check_image_name(name: str) -> str:
    """Return ``name`` if a repository may be called so.

    Raises:
        UsageError: it may not.
    """
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise UsageError(
            f"{name[:200]!r} cannot name a repository.",
            "Its parts between slashes have small letters and digits, with '.', '_' or '-' between them; at most "
            f"{_MAX_NAME} characters in all.",
        )
    return name


def check_tag(tag: str) -> str:
    """Return ``tag`` if a registry takes it.

    Raises:
        UsageError: it does not.
    """
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"{tag[:200]!r} cannot be a tag.",
            "A tag has letters, digits, '.', '_' and '-', at most 128, first a letter, a digit or '_'.",
        )
    return tag


def _parse_registry(text: str) -> RegistryDestination:
    host, slash, rest = text.removeprefix(REGISTRY).partition("/")
    if "@" in host:
        raise UsageError(
            f"{REGISTRY}{host.rpartition('@')[2][:200]}: a user name or password does not belong into an address.",
            "Sign in as docker or podman do: docker login, podman login, or a file that REGISTRY_AUTH_FILE names.",
        )
    if not _HOST.fullmatch(host) or not slash:
        raise UsageError(f"{text[:200]!r} names no registry and repository.", _HOW)
    if "@" in rest:
        raise UsageError(
            f"{text[:200]!r} names a digest; an export goes under a tag.", "The digest follows from the version."
        )
    name, colon, tag = rest.partition(":")
    return RegistryDestination(host, check_image_name(name), check_tag(tag) if colon else "")
