"""How the Hub is reached: the variables of huggingface_hub, read at each call and without importing it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from modeldrop.util.files import expand_user
from modeldrop.util.text import is_true

_PUBLIC = "https://huggingface.co"
_TIMEOUT = 10.0


def wants_offline() -> bool:
    """Whether the environment forbids asking the Hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def endpoint() -> str:
    """Where the Hub is: HF_ENDPOINT or the public one."""
    return (os.environ.get("HF_ENDPOINT") or _PUBLIC).rstrip("/")


def shown_endpoint() -> str:
    """The endpoint as it may be printed: people put passwords of mirrors into it."""
    try:
        parts = urlsplit(endpoint())
    except ValueError:
        return "the address in HF_ENDPOINT"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def timeout() -> float:
    """How long to wait for an answer, in seconds: HF_HUB_ETAG_TIMEOUT or 10."""
    try:
        return float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _TIMEOUT)
    except ValueError:
        return _TIMEOUT


def cache() -> Path:
    """The client's cache, by the client's own rules; known without importing it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return expand_user(os.environ[variable])
    return expand_user(_home()) / "hub"


def storage(repository: str) -> Path:
    """The folder of one repository in the cache."""
    return cache() / f"models--{repository.replace('/', '--')}"


def token() -> str:
    """What signs in: HF_TOKEN, or what `hf auth login` has saved; "" for nothing."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if found := os.environ.get(variable, "").strip():
            return found
    if is_true(os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return ""
    try:
        return expand_user(os.environ.get("HF_TOKEN_PATH") or _home() / "token").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _home() -> Path:
    return Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
