"""Check Hub ids and revisions, and suggest the correct spelling of a wrong one."""

from __future__ import annotations

import re

from modeldrop.errors import UsageError

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/(?=.{{1,96}}\Z){_PART}")
_FORBIDDEN = re.compile(r"--|\.\.|\.git\Z")
_BAD_REVISION = re.compile(r"[\s\\\x00-\x1f\x7f:?*\[^~]")
_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(.+)|hf:/+(.+)")
_FORM = "A Hub id is org/name, of letters, digits, `-`, `_` and `.`; a revision follows an @."


def is_repository(name: str) -> bool:
    """Whether the Hub allows such an id."""
    return bool(_REPOSITORY.fullmatch(name)) and not _FORBIDDEN.search(name)


def check_repository(name: str, spec: str) -> None:
    """Refuse what the Hub would refuse as an id.

    Raises:
        UsageError: it is malformed; the hint names the well-formed id that is near, if one is.
    """
    if not is_repository(name):
        raise UsageError(f"{spec!r} is not a Hugging Face model id.", near_spelling(spec) or _FORM)


def check_revision(revision: str, spec: str) -> None:
    """Refuse what git could not have as a branch, tag or commit.

    Raises:
        UsageError: it is empty, or has parts that would lead out of a folder.
    """
    if any(part in ("", ".", "..") for part in revision.split("/")) or _BAD_REVISION.search(revision):
        raise UsageError(
            f"{revision!r} in {spec!r} is not a revision.", "Give a branch, a tag or a commit after the @."
        )


def near_spelling(spec: str) -> str:
    """A hint with the likely correct id, or ""."""
    near = spec.strip()
    near = near if near.startswith("hf:/") else near.removeprefix("hf:")
    page = _PAGE.fullmatch(near)
    near = (page[1] or page[2]).partition("?")[0].partition("#")[0] if page else near
    near = near.replace("\\", "/").strip("/")
    near = re.sub(r"/(?:tree|blob|resolve|commit)/([^/]+).*\Z", r"@\1", near)
    if near.startswith("models--") and "/" not in near:
        near = near.removeprefix("models--").replace("--", "/", 1)
    near = re.sub(r"\.git\Z", "", near)
    near = re.sub(r"\A([^/:@]+/[^/:@]+):", r"\1@", near)
    near = re.sub(r"\s*/\s*", "/", near)
    near = re.sub(r"\s+", "-", near)
    found = is_repository(near.partition("@")[0]) and near != spec.removeprefix("hf:")
    return f"Did you mean {near}? {_FORM}" if found else ""
