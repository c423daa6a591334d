"""Read a variant of a model out of a registry into a new folder, verifying every byte.

    python read.py REGISTRY/MODEL[@CHANNEL|@vN[@sha256:DIGEST]] VARIANT TARGET [KEY …]

REGISTRY is a folder or an https:// address. With KEYs, one of them must have signed what is read. Written from
docs/registry-format.md alone: it shares no code with modeldrop, and needs blake3 besides Python. What it prints is the
version. Where anything is wrong, nothing is left.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote
from urllib.request import urlopen

from blake3 import blake3

MANIFEST_LIMIT, CHANNEL_LIMIT, DEPTH = 16 << 20, 1 << 20, 32
RESERVED = {"manifest.json", "claim.json", "rejected.json", "retired.json", "report.html"}


def main() -> None:
    reference, variant, target, *keys = sys.argv[1:]
    model, _, selector = reference.partition("@")
    name = model.rpartition("/")[2]
    model = model if model.startswith("https://") else Path(model).absolute().as_uri()
    version, _, digest = selector.partition("@")
    if not re.fullmatch(r"v[1-9][0-9]{0,8}", version):
        channel = parse(get(model, version or "current", CHANNEL_LIMIT), "channel")
        if keys:
            check_channel(channel, keys, name, version or "current")
        version, digest = channel["version"], channel["digest"]
        require(re.fullmatch(r"v[1-9][0-9]{0,8}", version), f"the channel names {version!r}")
    if keys:
        digest = check_statement(get(model, f"{version}/statement.json", 64 << 10), keys, name, digest)
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


def check_channel(channel: dict, keys: list[str], model: str, name: str) -> None:
    said = signed(channel.get("signed"), keys, "application/vnd.modeldrop.channel.v1+json")
    same = all(said[field] == channel[field] for field in ("version", "digest", "generation", "nonce"))
    require(same and (said["model"], said["channel"]) == (model, name), "the channel is signed for something else")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    require(not said.get("expires") or now < said["expires"], "the channel's signature has expired")


def check_statement(data: bytes, keys: list[str], model: str, digest: str) -> str:
    """The manifest digest that a version's statement vouches for."""
    said = signed(json_of(data, "statement"), keys, "application/vnd.in-toto+json")
    (subject,) = said["subject"]
    found = f"sha256:{subject['digest']['sha256']}"
    require(said["_type"] == "https://in-toto.io/Statement/v1", "the statement is of another type")
    require(said["predicateType"] == "https://github.com/modeldrop/modeldrop/version/v1", "it says something else")
    require(said["predicate"]["model"] == subject["name"] == model, "the statement is about another model")
    require(digest in {"", found}, "the statement is about another version")
    return found


def signed(envelope: dict | None, keys: list[str], kind: str) -> dict:
    """What is in an envelope that one of the keys has signed."""
    require(envelope and envelope["payloadType"] == kind, "it is not signed, or as something else")
    payload, kind_bytes = from_base64(envelope["payload"]), kind.encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind_bytes), kind_bytes, len(payload), payload)
    good = {
        one["keyid"]
        for one in envelope["signatures"]
        if one["keyid"] in keys and is_right(public_key(one["keyid"]), message, from_base64(one["sig"]))
    }
    require(good, "it is not signed by a key that is trusted")
    return json_of(payload, "signed payload")


def public_key(text: str) -> bytes:
    data = from_base64(text.removeprefix("ed25519:").replace("-", "+").replace("_", "/"))
    require(text.startswith("ed25519:") and len(data) == 36, f"{text} is no key")
    require(hashlib.sha256(data[:32]).digest()[:4] == data[32:], f"{text} is mistyped")
    return data[:32]


def from_base64(text: str) -> bytes:
    data = base64.b64decode(text)
    require(base64.b64encode(data).decode() == text, "base64 in another form")
    return data


P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, -1, P) % P)


def is_right(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is right, in the slow and simple way."""
    require(len(signature) == 64, "a signature has 64 bytes")
    s, owner, r = int.from_bytes(signature[32:], "little"), decode(key), decode(signature[:32])
    if s >= L or owner is None or r is None or times(8, owner) == (0, 1) or times(8, r) == (0, 1):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    return times(s, BASE) == plus(r, times(k, owner))


def decode(data: bytes) -> tuple[int, int] | None:
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (not x and sign):
        return None
    return (x if x % 2 == sign else P - x), y


def plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = one, other
    d = D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + d, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - d, -1, P) % P


def times(number: int, point: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    while number:
        result = plus(result, point) if number & 1 else result
        point, number = plus(point, point), number >> 1
    return result


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
    """A document with a schema."""
    value = json_of(data, kind)
    found = value.get("schema")
    require(found != "modeldrop/seal/1", "the version was pruned")
    require(found == f"modeldrop/{kind}/1", f"{found} is not modeldrop/{kind}/1: use {value.get('readable_by')}")
    return value


def json_of(data: bytes, kind: str) -> dict:
    """An object, as strict as the page asks for."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no infinities, no lone surrogates
    except (ValueError, RecursionError) as error:
        raise SystemExit(f"the {kind} is not JSON: {error}") from None
    require(depth(value) <= DEPTH, f"the {kind} nests too deep")
    require(isinstance(value, dict), f"the {kind} is not an object")
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
