"""Keys of the objects in a registry."""

from __future__ import annotations

import re

POLICY_KEY = ".settings/policy.json"
"""Key of the registry's policy; no model can be called as its folder."""
_VERSION_FOLDER = re.compile(r"v([1-9][0-9]{0,8})")


def channel(model: str, name: str) -> str:
    """Key of a channel."""
    return f"{model}/{name}"


def claim(model: str, version: int) -> str:
    """Key of the claim on a version's number."""
    return f"{model}/v{version}/claim.json"


def manifest(model: str, version: int) -> str:
    """Key of a manifest: its presence is what makes the version exist."""
    return f"{model}/v{version}/manifest.json"


def retired(model: str, version: int) -> str:
    """Key of the mark that prune sets a grace before it seals the version, and leaves beside the seal."""
    return f"{model}/v{version}/retired.json"


def rejected(model: str, version: int) -> str:
    """Key of the mark of a version whose own test failed."""
    return f"{model}/v{version}/rejected.json"


def statement(model: str, version: int) -> str:
    """Key of the signed statement on a version."""
    return f"{model}/v{version}/statement.json"


def attestation(model: str, version: int) -> str:
    """Key of the attestation on a version: a Sigstore bundle."""
    return f"{model}/v{version}/attestation.sigstore.json"


def tested(model: str, version: int) -> str:
    """Key of the mark of a version whose own test succeeded."""
    return f"{model}/v{version}/tested.json"


def delta_index(model: str, version: int) -> str:
    """Key of the index of a version's deltas."""
    return f"{model}/v{version}/deltas.json"


def folder(model: str, version: int) -> str:
    """Prefix of everything of a version."""
    return f"{model}/v{version}"


def report(model: str, version: int) -> str:
    """Key of the report for people."""
    return f"{model}/v{version}/report.html"


def bom(model: str, version: int) -> str:
    """Key of the bill of materials."""
    return f"{model}/v{version}/bom.cdx.json"


def file(model: str, version: int, path: str) -> str:
    """Key of a file of a version."""
    return f"{model}/v{version}/{path}"


def build_record(model: str, build_key: str) -> str:
    """Key of the record that says which version a recipe produced."""
    return f"{model}/builds/{build_key}.json"


def version_number(name: str) -> int | None:
    """The number of a version's folder, None for any other name."""
    match = _VERSION_FOLDER.fullmatch(name)
    return int(match[1]) if match else None
