"""A registry in which everything has happened that the registry's pages tell."""

from __future__ import annotations

from pathlib import Path

from modeldrop.format.channel import Channel, parse_channel, serialize_channel
from modeldrop.format.manifest import Manifest
from modeldrop.format.records import (
    Rejection,
    Retirement,
    Seal,
    serialize_rejection,
    serialize_retirement,
    serialize_seal,
)
from modeldrop.site.document import CHUNK
from tests.helpers.html_pages import HOSTILE
from tests.helpers.paper_registry import add_paper_version, make_paper_registry, move_paper_channel, paper_manifest

WHEN = "2026-11-20T10:00:00Z"
ATTACK = HOSTILE.replace("\x01", "").replace("\ud800", "")


def hostile_manifest() -> Manifest:
    """Every text that a publisher, or who has made the model, can choose attacks HTML."""
    manifest = paper_manifest(1)
    return manifest._replace(
        architecture=ATTACK,
        machine=ATTACK,
        labels=(ATTACK,),
        toolchain={**manifest.toolchain, ATTACK: ATTACK},
        source=manifest.source._replace(licence=ATTACK, repository=ATTACK),
        provenance=manifest.provenance._replace(actor=ATTACK, run=f"javascript:{ATTACK}", repository=ATTACK),
    )


def make_eventful_registry(registry: Path) -> Path:
    """A registry with everything in it that pages have to say: marks, seals, damage, and texts that attack."""
    make_paper_registry(registry, 1, 2 * CHUNK + 3)
    folder = registry / "model-000"
    (folder / "v51/rejected.json").write_bytes(serialize_rejection(Rejection(WHEN, "dana", "", ATTACK)))
    (folder / "v6/retired.json").write_bytes(serialize_retirement(Retirement(WHEN, "dana", "not among the newest")))
    (folder / "v7/manifest.json").write_bytes(serialize_seal(Seal(WHEN, "dana", "not among the newest 5")))
    (folder / "v8/manifest.json").write_bytes(b"{")
    (folder / "v9/manifest.json").unlink()
    channel = parse_channel((folder / "current").read_bytes())
    (folder / "staging").write_bytes(serialize_channel(Channel(channel.present._replace(why=ATTACK))))
    move_paper_channel(registry, "hostile", {1: add_paper_version(registry, "hostile", 1, hostile_manifest())})
    # What could be taken for a page of its own.
    move_paper_channel(registry, "index.html", {1: add_paper_version(registry, "index.html", 1)})
    add_paper_version(registry, "damaged", 1)
    (registry / "damaged" / "current").write_bytes(b"{}")
    move_paper_channel(registry, "astray", {2: "sha256:" + "0" * 64, 1: add_paper_version(registry, "astray", 1)})
    (registry / "astray" / "v1" / "manifest.json").unlink()
    return registry
