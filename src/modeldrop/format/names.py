"""Names of models, channels, variants, versions and files: what they may look like."""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

OWN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What a figure of an own metric may be called."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
VERSION = re.compile(r"v[1-9][0-9]{0,8}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HEX64 = re.compile(r"[0-9a-f]{64}")
TIME = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
)
DEFAULT_CHANNEL = "current"
PYTHON = "python:"
"""How a source begins that is code which makes a torch module."""

MAX_PATH = 512
MAX_PATH_PART = 255
RESERVED = frozenset({"manifest.json", "claim.json", "rejected.json", "retired.json", "report.html"})
DELTAS = "deltas"
"""The folder of deltas beside a version's files."""
OWN_FILES = RESERVED | {
    "attestation.sigstore.json",
    "bom.cdx.json",
    DELTAS,
    f"{DELTAS}.json",
    "statement.json",
    "tested.json",
}
"""What lies beside a version's files. These six came later: files of older versions may be called so."""
_VERSION_LIKE = re.compile(r"v[0-9]+")
_DRIVE = re.compile(r"[A-Za-z]:")


def check_model(name: str) -> str:
    """Return ``name`` if it can name a model.

    Raises:
        UsageError: if it cannot.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} cannot name a model.",
            "Use lower-case letters, digits, '.', '_' and '-', at most 64, first a letter or a digit.",
        )
    return name


def check_channel(name: str) -> str:
    """Return ``name`` if it can name a channel: like a model, but never ``v<digits>`` or ``builds``.

    Raises:
        UsageError: if it cannot.
    """
    if not NAME.fullmatch(name) or _VERSION_LIKE.fullmatch(name) or name == "builds":
        raise UsageError(
            f"{name[:80]!r} cannot name a channel.",
            "Use lower-case letters, digits, '.', '_' and '-', at most 64; 'v<number>' and 'builds' are taken.",
        )
    return name


def parse_version(text: str) -> int:
    """The number of a version: 3 for ``v3``.

    Raises:
        UsageError: if ``text`` is not a version.
    """
    if not VERSION.fullmatch(text):
        raise UsageError(f"{text[:80]!r} is not a version.", "Versions are v1, v2, v3, …")
    return int(text[1:])


def name_from(source: str) -> str:
    """A model's name made of where its weights come from; "" where none can be made of it."""
    last = source.partition("#")[0].partition("@")[0].rstrip("/").rpartition("/")[2].lower()
    derived = re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")[:64]
    return derived if NAME.fullmatch(derived) else ""


def check_path(path: str, field: str = "path") -> str:
    """Return ``path`` if a file of a version may have it on every system that modeldrop serves.

    Refused: absolute paths, ``..`` and ``.``, empty parts, back-slashes, drive letters and other colons,
    control characters, text that is not in Unicode NFC, parts that end in a dot or a blank or have more than
    255 bytes, and the names that the registry keeps for itself (in any case, as files and as folders).

    Raises:
        FormatError: naming ``field``.
    """

    def refuse(why: str) -> FormatError:
        return FormatError(f"the path {path[:120]!r} {why}", field=field)

    if not path or len(path.encode("utf-8", "surrogatepass")) > MAX_PATH:
        raise refuse(f"must have between 1 and {MAX_PATH} bytes")
    if not path.isprintable() and any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in path):
        raise refuse("contains a control character")
    if "\\" in path:
        raise refuse("contains a back-slash")
    if path.startswith("/"):
        raise refuse("is absolute")
    if _DRIVE.match(path) or ":" in path:
        raise refuse("contains a colon or a drive letter")
    if unicodedata.normalize("NFC", path) != path:
        raise refuse("is not in Unicode NFC")
    for part in path.split("/"):
        if fault := _fault_of_part(part):
            raise refuse(fault)
    top = fold(path).split("/")[0]
    if top in RESERVED or top.startswith(".modeldrop"):
        raise refuse("is a name the registry keeps for itself")
    return path


def is_own_file(path: str) -> bool:
    """Whether a new version keeps this path for itself. Manifests of older ones may name what came later."""
    return fold(path.partition("/")[0]) in OWN_FILES


def _fault_of_part(part: str) -> str:
    if part in {"", ".", ".."}:
        return "has an empty part, '.' or '..'"
    if part[-1] in ". " or part[0] == " ":
        return "has a part that begins with a blank or ends with a dot or a blank"
    if len(part.encode()) > MAX_PATH_PART:
        return f"has a part of more than {MAX_PATH_PART} bytes"
    return ""


def hex_digest(data: bytes) -> str:
    """The SHA-256 of a document, 64 lower-case hexadecimal digits.

    ``hashlib`` loads OpenSSL, which takes longer than hashing a document; ``random`` of the standard library avoids it
    in the same way. Files of models are hashed by ``hashlib``, which is faster by the gigabyte.
    """
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256  # type: ignore[import-not-found]
        else:
            from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:  # an interpreter that was built without
        from hashlib import sha256
    return str(sha256(data).hexdigest())


def fold(path: str) -> str:
    """What a path is on a file system that ignores case and Unicode form."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def check_distinct(paths: Iterable[str]) -> None:
    """Refuse paths that would meet on some file system: repeated, alike but for case, or a file as a folder.

    Raises:
        FormatError: naming the two paths.
    """
    seen: dict[str, str] = {}
    for path in paths:
        key = fold(path)
        if key in seen:
            raise FormatError(f"{path!r} and {seen[key]!r} are the same file on some systems", field="files")
        seen[key] = path
    for key, path in seen.items():
        # Looked up, not collected: ten thousand deep paths have millions of folders.
        end = key.find("/")
        while end >= 0:
            if key[:end] in seen:
                raise FormatError(f"{seen[key[:end]]!r} is a file and also a folder of {path!r}", field="files")
            end = key.find("/", end + 1)
