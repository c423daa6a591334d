"""Read a variant of a model out of a registry into a new folder, verifying every byte.

    python read.py REGISTRY/MODEL[@CHANNEL|@vN[@sha256:DIGEST]] VARIANT TARGET

REGISTRY is a folder or an https:// address. Written from docs/registry-format.md alone: it shares no code with
modeldrop, and needs blake3 besides Python. What it prints is the version. Where anything is wrong, nothing is left.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote
from urllib.request import urlopen

from blake3 import blake3

MANIFEST_LIMIT, CHANNEL_LIMIT, DEPTH = 16 << 20, 1 << 20, 32
RESERVED = {"manifest.json", "claim.json", "rejected.json", "retired.json", "report.html"}


def main() -> None:
    reference, variant, target = sys.argv[1:]
    model, _, selector = reference.partition("@")
    model = model if model.startswith("https://") else Path(model).absolute().as_uri()
    version, _, digest = selector.partition("@")
    if not re.fullmatch(r"v[1-9][0-9]{0,8}", version):
        channel = parse(get(model, version or "current", CHANNEL_LIMIT), "channel")
        version, digest = channel["version"], channel["digest"]
        require(re.fullmatch(r"v[1-9][0-9]{0,8}", version), f"the channel names {version!r}")
    data = get(model, f"{version}/manifest.json", MANIFEST_LIMIT)
    require(digest in {"", f"sha256:{hashlib.sha256(data).hexdigest()}"}, "the manifest has another digest")
    manifest = parse(data, "manifest")
    files = {file["path"]: file for file in manifest["files"]}
    check_paths(list(files))
    wanted = next((one["files"] for one in manifest["variants"] if one["name"] == variant), None)
    require(wanted, f"{version} has no variant {variant!r}")
    parent = Path(target).absolute().parent
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        staged = Path(scratch, "files")
        for path in wanted:
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            download(f"{model}/{version}/{quote(path)}", staged / path, files[path], manifest["piece_size"])
        staged.rename(target)
    print(version)


def open_url(address: str) -> BinaryIO:
    try:
        return urlopen(address)  # noqa: S310  https, or file for a folder
    except OSError as error:
        raise SystemExit(f"{address}: {error}") from None


def get(model: str, key: str, limit: int) -> bytes:
    with open_url(f"{model}/{key}") as reply:
        data = reply.read(limit + 1)
    require(len(data) <= limit, f"{key} is too large")
    return data


def download(address: str, path: Path, file: dict, piece_size: int) -> None:
    """Write a file piece by piece, each only if it has its digest."""
    require(len(file["pieces"]) == -(-file["size"] // piece_size), f"{path.name} has another number of pieces")
    with open_url(address) as reply, path.open("xb") as target:
        for index, digest in enumerate(file["pieces"]):
            piece = reply.read(min(piece_size, file["size"] - index * piece_size))
            require(blake3(piece).hexdigest() == digest, f"{file['path']}: piece {index} does not have its digest")
            target.write(piece)
        require(target.tell() == file["size"] and not reply.read(1), f"{file['path']} has another size")


def parse(data: bytes, kind: str) -> dict:
    """A document, as strict as the page asks for."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no infinities, no lone surrogates
    except (ValueError, RecursionError) as error:
        raise SystemExit(f"the {kind} is not JSON: {error}") from None
    require(depth(value) <= DEPTH, f"the {kind} nests too deep")
    require(isinstance(value, dict), f"the {kind} is not an object")
    found = value.get("schema")
    require(found != "modeldrop/seal/1", "the version was pruned")
    require(found == f"modeldrop/{kind}/1", f"{found} is not modeldrop/{kind}/1: use {value.get('readable_by')}")
    return value


def unique(pairs: list[tuple[str, object]]) -> dict:
    require(len(dict(pairs)) == len(pairs), "a key appears twice")
    return dict(pairs)


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def check_paths(paths: list[str]) -> None:
    """Refuse paths that lead out of the folder, or that meet on some file system."""
    folded = [fold(path) for path in paths]
    folders = {name[:end] for name in folded for end, char in enumerate(name) if char == "/"}
    require(len(set(folded)) == len(folded) and not folders & set(folded), "two paths meet on some systems")
    for path, name in zip(paths, folded, strict=True):
        parts = path.split("/")
        good = (
            0 < len(path.encode()) <= 512
            and unicodedata.normalize("NFC", path) == path
            and not set("\\:") & set(path)
            and not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in path)
            and all(
                part and part.strip(" ") == part.rstrip(".") == part and len(part.encode()) <= 255 for part in parts
            )
            and name.split("/")[0] not in RESERVED
            and not name.startswith(".modeldrop")
        )
        require(good, f"{path!r} is not a path of a version")


def fold(path: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def require(condition: object, message: str) -> None:
    if not condition:
        raise SystemExit(message)


if __name__ == "__main__":
    main()
