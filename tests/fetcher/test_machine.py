from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import UsageError
from modeldrop.fetcher.machine import Machine, apple_flags, read_flags, this_machine
from tests.fetcher.cpuinfo import CPUINFO

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELDROP_CPU", raising=False)


@pytest.mark.parametrize(
    ("cpu", "has", "lacks", "dot_products"),
    [
        ("sapphire-rapids", {"avx2", "avx512f", "avx512_vnni", "avx_vnni"}, set(), True),
        ("zen4", {"avx2", "avx512_vnni"}, {"avx_vnni"}, True),
        ("alder-lake", {"avx2", "avx_vnni"}, {"avx512_vnni"}, True),
        ("haswell", {"avx2"}, {"avx512f", "avx512_vnni", "avx_vnni"}, False),
        ("skylake-server", {"avx2", "avx512f"}, {"avx512_vnni"}, False),
        ("nehalem", {"sse4_2"}, {"avx", "avx2"}, False),
        ("graviton3", {"asimd", "asimddp", "i8mm"}, set(), True),
        ("graviton1", {"asimd"}, {"asimddp"}, False),
    ],
)
def test_flags_come_from_what_linux_says_of_the_cpu(
    tmp_path: Path, cpu: str, has: set[str], lacks: set[str], dot_products: bool
) -> None:
    arch, text = CPUINFO[cpu]
    (tmp_path / "cpuinfo").write_text(text)
    flags = read_flags(tmp_path / "cpuinfo")
    assert has <= flags
    assert not lacks & flags
    assert Machine(arch, flags).dot_products is dot_products


def test_only_the_first_cpu_is_read(tmp_path: Path) -> None:
    _, text = CPUINFO["haswell"]
    (tmp_path / "cpuinfo").write_text(f"{text}\nprocessor\t: 1\nflags\t\t: other\n\n" * 500)
    assert "other" not in read_flags(tmp_path / "cpuinfo")


def test_nothing_is_assumed_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert read_flags(tmp_path / "none") == frozenset()
    (tmp_path / "strange").write_bytes(b"\xff\xfe no colon\n" * 9000)
    assert read_flags(tmp_path / "strange") == frozenset()
    assert not Machine("x86_64", frozenset()).dot_products
    assert not Machine("riscv64", frozenset({"avx512_vnni", "asimddp"})).dot_products


def test_this_machine_is_described_once(tmp_path: Path) -> None:
    _, text = CPUINFO["haswell"]
    (tmp_path / "cpuinfo").write_text(text)
    machine = this_machine(tmp_path / "cpuinfo")
    assert machine.arch
    (tmp_path / "cpuinfo").unlink()
    assert this_machine(tmp_path / "cpuinfo") is machine


def test_apples_names_are_understood() -> None:
    told = "FPU VME SSE4.2 AVX1.0 AVX2 AVX512F AVX512VNNI RDWRFSGS"
    assert apple_flags(told) == {"avx2", "avx512f", "avx512_vnni"}
    assert apple_flags("") == frozenset()


def test_another_cpu_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_CPU", "arm64:asimddp,ASIMD")
    assert this_machine() == Machine("aarch64", frozenset({"asimd", "asimddp"}))
    monkeypatch.setenv("MODELDROP_CPU", "x86_64")
    assert this_machine() == Machine("x86_64", frozenset())


def test_a_cpu_that_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_CPU", "x86_64; avx2")
    with pytest.raises(UsageError, match="MODELDROP_CPU='x86_64; avx2' does not name a CPU") as caught:
        this_machine()
    assert "x86_64:avx2" in caught.value.hint
