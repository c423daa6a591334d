"""What the pages say of how much is installed is what is installed: it grows with every module."""

from __future__ import annotations

import functools
import importlib.util
import marshal
import re
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from modeldrop.export.environments.locks import locked_platform
from tests.docs.pages import DOCS, ROOT, read
from tests.servers.wheels import FOLDER, pinned

_MEGABYTE = 1e6


class Claim(NamedTuple):
    """Where a page says it: of the packages of which lock file, with byte code or without."""

    page: Path
    pattern: str
    lock: str = "fetch.txt"
    byte_code: bool = True


_CLAIMS = (
    Claim(ROOT / "README.md", r"in ([\d.]+) MB of installed packages"),
    Claim(DOCS / "deploy.md", r"\| `fetcher` \| [^|]+ \| [^|]+ \| ([\d.]+) MB \|"),
    Claim(DOCS / "benchmarks.md", r"\| how large is the fetcher\? \| ([\d.]+) MB installed"),
    Claim(DOCS / "benchmarks.md", r" MB installed, ([\d.]+) MB without byte code", byte_code=False),
    Claim(DOCS / "benchmarks.md", r" of processor time and ([\d.]+) MB installed", "plan.txt", byte_code=False),
    Claim(DOCS / "action.md", r"A small part is installed \(([\d.]+) MB", "plan.txt", byte_code=False),
)


@pytest.mark.slow
@pytest.mark.skipif(not locked_platform(), reason="the pages speak of the packages for Linux on x86-64")
@pytest.mark.parametrize("claim", _CLAIMS, ids=lambda claim: f"{claim.page.name}, {claim.lock}, {claim.byte_code}")
def test_a_page_says_how_much_is_installed(claim: Claim) -> None:
    [said] = re.findall(claim.pattern, read(claim.page))
    assert float(said) == pytest.approx(_installed(claim.lock, byte_code=claim.byte_code), abs=1)


@functools.cache
def _installed(lock: str, *, byte_code: bool) -> float:
    """Megabytes of modeldrop and what it requires: files, and byte code of every module where pip compiles it."""
    code = ROOT / "src" / "modeldrop"
    own = [(path.name, path.read_bytes()) for path in code.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return sum(_size(*one, byte_code=byte_code) for one in [*own, *_packed(lock)]) / _MEGABYTE


def _packed(lock: str) -> list[tuple[str, bytes]]:
    """What the wheels hold that a lock file names."""
    files = []
    for name in pinned([ROOT / "requirements" / lock]):
        [wheel] = FOLDER.glob(f"{name.replace('-', '_').replace('==', '-')}-*.whl")
        with ZipFile(wheel) as packed:
            files += [(one.filename, packed.read(one)) for one in packed.infolist()]
    return files


def _size(name: str, content: bytes, *, byte_code: bool) -> int:
    if not (byte_code and name.endswith(".py")):
        return len(content)
    code = compile(importlib.util.decode_source(content), name, "exec", dont_inherit=True)
    return len(content) + 16 + len(marshal.dumps(code))
