"""What the pages say of how much is installed is what is installed: it grows with every module."""

from __future__ import annotations

import importlib.util
import marshal
import re
from pathlib import Path
from zipfile import ZipFile

import pytest

from modeldrop.export.environments.locks import locked_platform
from tests.docs.pages import DOCS, ROOT, read
from tests.servers.wheels import FOLDER, pinned

_MEGABYTE = 1e6
_CLAIMS = (
    (ROOT / "README.md", r"in ([\d.]+) MB of installed packages"),
    (DOCS / "benchmarks.md", r"\| how large is the fetcher\? \| ([\d.]+) MB installed"),
    (DOCS / "deploy.md", r"\| `fetcher` \| [^|]+ \| [^|]+ \| ([\d.]+) MB \|"),
)


@pytest.fixture(scope="module")
def installed() -> float:
    """Megabytes of modeldrop and what it requires, as pip leaves them: files, and byte code of every module."""
    code = ROOT / "src" / "modeldrop"
    own = [(path.name, path.read_bytes()) for path in code.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return sum(_size(*one) for one in [*own, *_required()]) / _MEGABYTE


def _required() -> list[tuple[str, bytes]]:
    files = []
    for name in pinned([ROOT / "requirements" / "fetch.txt"]):
        [wheel] = FOLDER.glob(f"{name.replace('-', '_').replace('==', '-')}-*.whl")
        with ZipFile(wheel) as packed:
            files += [(one.filename, packed.read(one)) for one in packed.infolist()]
    return files


def _size(name: str, content: bytes) -> int:
    if not name.endswith(".py"):
        return len(content)
    code = compile(importlib.util.decode_source(content), name, "exec", dont_inherit=True)
    return len(content) + 16 + len(marshal.dumps(code))


@pytest.mark.slow
@pytest.mark.skipif(not locked_platform(), reason="the pages speak of the packages for Linux on x86-64")
@pytest.mark.parametrize(("page", "claim"), _CLAIMS, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_a_page_says_how_much_is_installed(installed: float, page: Path, claim: str) -> None:
    [said] = re.findall(claim, read(page))
    assert float(said) == pytest.approx(installed, abs=1)
