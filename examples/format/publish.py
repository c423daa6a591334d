"""Publish the files of a folder as a version of a model, in a registry that is a folder.

    python publish.py FILES REGISTRY/MODEL --graph onnx/model.onnx [--variant fp32] [--channel current]

Written from docs/registry-format.md alone: it shares no code with modeldrop, and needs blake3 besides Python.
It publishes one variant and measures nothing. What it prints is the version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

PIECE_SIZE = 1 << 20
RESERVED = {
    "manifest.json", "claim.json", "rejected.json", "retired.json", "report.html", "statement.json", "bom.cdx.json",
    "deltas", "deltas.json",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--graph", required=True)
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--channel", default="current")
    asked = parser.parse_args()
    registry = Registry(asked.model)
    manifest = describe(asked.files, asked.graph, asked.variant)
    began = now()
    number = publish(registry, asked.files, manifest)
    promote(registry, asked.channel, number, manifest["build"]["key"], began)
    print(f"v{number}")


def describe(folder: Path, graph: str, variant: str) -> dict:
    """The manifest of a folder's files; what is not known is empty."""
    files = [describe_file(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [file["path"] for file in files]
    if graph not in paths or any(path.split("/")[0].lower() in RESERVED for path in paths):
        raise SystemExit(f"{graph} must be among the files, and no name of the registry's own")
    identity = "sha256:" + hashlib.sha256(compact([[file["path"], file["sha256"]] for file in files])).hexdigest()
    recipe = {"variants": [variant]}
    return {
        "schema": "modeldrop/manifest/1",
        "piece_size": PIECE_SIZE,
        "files": files,
        "variants": [
            {
                "name": variant,
                "model": graph,
                "files": paths,
                "opset": 17,
                "ir_version": 8,
                "min_onnxruntime": "",
                "inputs": [],
                "outputs": [],
                "fidelity": {"metrics": {}, "texts": 0},
            }
        ],
        "model": {"task": "", "architecture": ""},
        "source": {"identity": identity},
        "build": {
            "key": hashlib.sha256(compact({"source": identity, "recipe": recipe, "epoch": 1})).hexdigest(),
            "epoch": 1,
            "recipe": recipe,
            "toolchain": {},
            "machine": "",
        },
        "provenance": {"created": now()},
        "original": {"framework": "", "weight_bytes": 0},
        "golden": {"output": "", "cases": []},
    }


def describe_file(folder: Path, path: Path) -> dict:
    """Its size, SHA-256, and BLAKE3 of every piece."""
    whole, digests, size = hashlib.sha256(), [], 0
    for piece in pieces(path):
        whole.update(piece)
        digests.append(blake3(piece).hexdigest())
        size += len(piece)
    return {"path": path.relative_to(folder).as_posix(), "size": size, "sha256": whole.hexdigest(), "pieces": digests}


def pieces(path: Path, sha256: str = "") -> Iterator[bytes]:
    """The pieces of a file; it must have the digest, if one is given."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_SIZE):
            whole.update(piece)
            yield piece
    if sha256 and whole.hexdigest() != sha256:
        raise SystemExit(f"{path} changed meanwhile")


def publish(registry: Registry, folder: Path, manifest: dict) -> int:
    """Steps 1 to 5 of "Publishing": the version's number."""
    key = manifest["build"]["key"]
    if (found := built(registry, key)) is not None:
        return found
    nonce = secrets.token_hex(16)
    names = [path.name for path in registry.model.glob("v*")]
    number = max((int(name[1:]) for name in names if name[1:].isdecimal()), default=0) + 1
    claim = {"schema": "modeldrop/claim/1", "nonce": nonce, "build_key": key, "by": "", "run": "", "at": now()}
    while not registry.create(f"v{number}/claim.json", document(claim)):
        number += 1
    for file in manifest["files"]:
        registry.create(f"v{number}/{file['path']}", pieces(folder / file["path"], file["sha256"]))
    record = {"schema": "modeldrop/build/1", "version": f"v{number}", "nonce": nonce, "at": now()}
    while True:  # until the record is ours, or names another publisher's version that is there
        _, at = registry.read(f"builds/{key}.json")
        if registry.swap(f"builds/{key}.json", document(record), at):
            break
        for _ in range(100):
            if (found := built(registry, key)) is not None:
                return found
            time.sleep(0.1)
    if not registry.create(f"v{number}/manifest.json", document(manifest)):
        raise SystemExit("the upload took so long that prune has sealed its number: publish again")
    return number


def built(registry: Registry, key: str) -> int | None:
    """The version that a build record names, if it exists and is not about to be pruned."""
    record, _ = registry.read(f"builds/{key}.json")
    if record is None:
        return None
    version = record["version"]
    manifest, _ = registry.read(f"{version}/manifest.json")
    there = manifest is not None and manifest["schema"] == "modeldrop/manifest/1"
    return int(version[1:]) if there and not (registry.model / version / "retired.json").exists() else None


def promote(registry: Registry, channel: str, number: int, key: str, began: str) -> None:
    """Step 6: have the channel name the version, unless somebody has asked later, or moved it by hand since."""
    manifest = (registry.model / f"v{number}/manifest.json").read_bytes()
    marks = [registry.model / f"v{number}" / name for name in ("retired.json", "rejected.json")]
    while True:
        present, at = registry.read(channel)
        moves = [] if present is None else [present, *present.pop("history")]
        wanted = {"build_key": key, "at": began, "run": "", "generation": 1}
        names_it = False
        if moves:
            before = present.pop("wanted", None) or last_wanted(registry, moves)
            same, names_it = before["build_key"] == key, present["version"] == f"v{number}"
            by_hand = same and present["generation"] > before["generation"]
            wanted["generation"] = before["generation"] if same else present["generation"]
            if now(24 * 3600) > before["at"] > began or (by_hand and not names_it):
                return
        if not names_it and any(mark.exists() for mark in marks):
            return
        if names_it:
            made = present | {"history": moves[1:], "wanted": wanted}
        else:
            generation = moves[0]["generation"] + 1 if moves else 1
            made = {
                "schema": "modeldrop/channel/1",
                "version": f"v{number}",
                "digest": "sha256:" + hashlib.sha256(manifest).hexdigest(),
                "generation": generation,
                "nonce": secrets.token_hex(16),
                "action": "publish",
                "by": "",
                "at": now(),
                "history": moves[:50] + [move for move in moves[50:400] if move["at"] >= now(-24 * 3600)],
                "wanted": wanted | {"generation": generation},
            }
        if registry.swap(channel, document(made), at):
            break
    if not names_it and any(mark.exists() for mark in marks):
        raise SystemExit(f"v{number} was rejected, or is about to be pruned: roll {channel} back")


def last_wanted(registry: Registry, moves: list[dict]) -> dict:
    """What a channel wants that does not say it."""
    move = next((move for move in moves if move["action"] == "publish"), moves[0])
    manifest, _ = registry.read(f"{move['version']}/manifest.json")
    key = manifest["build"]["key"] if manifest and "build" in manifest else ""
    return {"build_key": key, "at": move["at"], "generation": move["generation"]}


class Registry:
    """A model's folder in a registry, with the conditional writes of "In a folder"."""

    def __init__(self, model: Path) -> None:
        self.model = model

    def read(self, name: str) -> tuple[dict | None, int]:
        """A document and the number of its last move, which is the truth where the object lags behind."""
        folder = self.model / ".moves" / name
        number = max((int(move.stem) for move in folder.glob("*.json")), default=0)
        path = folder / f"{number}.json" if number else self.model / name
        return (json.loads(path.read_bytes()) if path.is_file() else None), number

    def create(self, name: str, data: Iterable[bytes]) -> bool:
        """Whether the name was free: it appears with all its bytes, or not at all."""
        temporary = self._write(data)
        target = self.model / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        sync(target.parent)
        return True

    def swap(self, name: str, data: Iterable[bytes], at: int) -> bool:
        """Whether nobody has replaced the document since move ``at``: of all who try it, one succeeds."""
        if at == 0 and (self.model / name).exists():
            return False  # created without a move
        if not self.create(f".moves/{name}/{at + 1}.json", data):
            return False
        target = self.model / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write(data).replace(target)
        sync(target.parent)
        return True

    def _write(self, data: Iterable[bytes]) -> Path:
        path = self.model / ".tmp" / secrets.token_hex(16)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())
        return path


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def document(value: dict) -> list[bytes]:
    """The canonical form of a document, in one part."""
    return [(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()]


def compact(value: object) -> bytes:
    """The form that a build key is made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def now(seconds: float = 0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


if __name__ == "__main__":
    main()
