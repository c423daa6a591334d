from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import VariantError
from modeldrop.fetcher.choose_variant import choose_variant, preference
from modeldrop.fetcher.machine import (
    Machine,
    check_runtime,
    installed_onnxruntime,
    installed_runtime,
    read_flags,
)
from modeldrop.fetcher.options import AUTO
from modeldrop.format.manifest import Graph, Speed
from tests.fetcher.cpuinfo import CPUINFO
from tests.format import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from modeldrop.format.manifest import Manifest, Variant

    MachineOf = Callable[[str], Machine]

EVERYTHING = (
    "fp32", "fp16", "int8", "int8-avx512-vnni", "int8-avx2", "int8-arm64", "int8-accurate", "uint8", "int8-static",
    "int4", "openvino-fp32", "openvino-fp16", "openvino-int8", "openvino-int4", "from-next-year",
)  # fmt: skip


@pytest.fixture
def machine_of(tmp_path: Path) -> MachineOf:
    """A machine by the name of its CPU."""

    def make(cpu: str) -> Machine:
        arch, text = CPUINFO[cpu]
        (tmp_path / cpu).write_text(text)
        return Machine(arch, read_flags(tmp_path / cpu))

    return make


def offering(names: Sequence[str]) -> Manifest:
    example = examples.manifest()
    return example._replace(variants=tuple(example.variants[0]._replace(name=name) for name in names))


def install(folder: Path, *distributions: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in distributions:
        (folder / f"{name}.dist-info").mkdir()


@pytest.mark.parametrize(
    ("cpu", "order"),
    [
        ("sapphire-rapids", "int8-avx512-vnni int8 int8-static int8-accurate int8-avx2 fp32 fp16 uint8 from-next-year"),
        ("zen4", "int8-avx512-vnni int8 int8-static int8-accurate int8-avx2 fp32 fp16 uint8 from-next-year"),
        ("alder-lake", "int8 int8-static int8-accurate int8-avx2 fp32 fp16 uint8 from-next-year"),
        ("haswell", "int8 int8-static int8-avx2 int8-accurate fp32 fp16 uint8 from-next-year"),
        ("skylake-server", "int8 int8-static int8-avx2 int8-accurate fp32 fp16 uint8 from-next-year"),
        ("nehalem", "int8 int8-static int8-accurate fp32 fp16 uint8 from-next-year"),
        ("graviton3", "int8-arm64 int8 int8-static int8-accurate fp32 fp16 uint8 from-next-year"),
        ("graviton1", "int8 int8-static int8-accurate fp32 fp16 uint8 from-next-year"),
    ],
)
def test_auto_prefers_what_the_cpu_runs_best_and_faithfully(machine_of: MachineOf, cpu: str, order: str) -> None:
    machine = machine_of(cpu)
    for names in (EVERYTHING, EVERYTHING[::-1]):
        assert [variant.name for variant in preference(offering(names), machine)] == order.split()


@pytest.mark.parametrize(
    ("cpu", "chosen"),
    [("zen4", "int8-avx512-vnni"), ("alder-lake", "int8"), ("haswell", "int8"), ("graviton3", "int8")],
)
def test_every_cpu_is_served_by_the_portable_int8(machine_of: MachineOf, cpu: str, chosen: str) -> None:
    assert choose_variant(offering(("fp32", "int8-avx512-vnni", "int8")), AUTO, machine_of(cpu)).name == chosen


def test_a_gpu_takes_fp16_then_fp32() -> None:
    machine = Machine("x86_64", frozenset({"avx512_vnni"}), cuda=True)
    assert [variant.name for variant in preference(offering(EVERYTHING), machine)][:3] == [
        "fp16",
        "fp32",
        "int8-avx512-vnni",
    ]


def measured(**milliseconds: float) -> Manifest:
    """A version whose variants were measured to take so long."""
    named = {name.replace("_", "-"): time for name, time in milliseconds.items()}
    manifest = offering(tuple(named))
    variants = (one._replace(speed=Speed(named[one.name], 30 * named[one.name])) for one in manifest.variants)
    return manifest._replace(variants=tuple(variants))


@pytest.mark.parametrize(
    ("milliseconds", "order"),
    [
        ({"fp32": 10, "int8": 4}, "int8 fp32"),
        # A convolutional model: ranges that are found while it runs cost more than 8 bits save.
        ({"fp32": 10, "int8": 55}, "fp32 int8"),
        ({"fp32": 10, "int8": 55, "int8_static": 6}, "int8-static fp32 int8"),
        ({"fp32": 10, "fp16": 9, "int8": 9.5}, "int8 fp32 fp16"),
        # What measuring varies by is no reason to download four times as much.
        ({"fp32": 10, "int8_accurate": 10.5}, "int8-accurate fp32"),
        ({"fp32": 10, "int8_accurate": 12, "int8": 11.5}, "fp32 int8 int8-accurate"),
        # Graphs so small that a moment's load decides: of 32 texts, 3 ms against 7.8.
        ({"fp32": 0.1, "int8": 0.26}, "int8 fp32"),
        ({"fp32": 0.1, "int8": 0.27}, "fp32 int8"),
    ],
)
def test_none_that_was_slower_than_a_closer_one_comes_before_it(
    machine_of: MachineOf, milliseconds: dict[str, float], order: str
) -> None:
    manifest = measured(**milliseconds)
    assert [variant.name for variant in preference(manifest, machine_of("zen4"))] == order.split()


def test_what_was_measured_on_a_cpu_says_nothing_of_a_gpu() -> None:
    machine = Machine("x86_64", frozenset(), cuda=True)
    assert choose_variant(measured(fp32=10, fp16=30), AUTO, machine).name == "fp16"


def test_the_only_variant_is_better_than_none(machine_of: MachineOf) -> None:
    assert choose_variant(offering(("int8",)), AUTO, machine_of("haswell")).name == "int8"


@pytest.mark.parametrize("names", [("int4",), ("openvino-int8", "int8-avx2")])
def test_what_must_not_be_chosen_unasked_is_refused_and_can_be_named(
    machine_of: MachineOf, names: tuple[str, ...]
) -> None:
    manifest = offering(names)
    with pytest.raises(VariantError, match="may be chosen unasked") as caught:
        choose_variant(manifest, AUTO, machine_of("graviton3"))
    assert ", ".join(names) in caught.value.hint
    assert choose_variant(manifest, names[0], machine_of("graviton3")).name == names[0]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ("openvino-fp32 openvino-fp16 openvino-int8 openvino-int4", "openvino-int8 openvino-fp16 openvino-fp32"),
        ("openvino-int4 openvino-fp32 openvino-fp16", "openvino-fp16 openvino-fp32"),
        ("openvino-int4", "openvino-int4"),
        ("openvino-int3 openvino-fp32", "openvino-fp32 openvino-int3"),
    ],
)
def test_where_a_version_has_openvinos_alone_auto_takes_one(machine_of: MachineOf, names: str, order: str) -> None:
    manifest = offering(names.split())
    assert [variant.name for variant in preference(manifest, machine_of("haswell"))] == order.split()
    assert choose_variant(manifest, AUTO, machine_of("graviton3")).name == order.split(maxsplit=1)[0]


def test_a_variant_that_is_not_there_is_refused() -> None:
    with pytest.raises(VariantError, match="no variant 'int5'") as caught:
        choose_variant(offering(("fp32", "int8")), "int5")
    assert caught.value.hint == "It has: fp32, int8."


def test_the_machine_that_a_variable_names_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = offering(("int8", "int8-avx512-vnni"))
    monkeypatch.setenv("MODELDROP_CPU", "x86_64:avx2")
    assert choose_variant(manifest, AUTO).name == "int8"
    monkeypatch.setenv("MODELDROP_CPU", "x86_64:avx2,avx512_vnni")
    assert choose_variant(manifest, AUTO).name == "int8-avx512-vnni"


@pytest.mark.parametrize(
    ("distributions", "version"),
    [
        ((), None),
        (("onnxruntime-1.31.1",), "1.31.1"),
        (("onnxruntime_gpu-1.23.2", "onnxruntime_genai-0.5.0", "onnxruntime_extensions-0.14.0"), "1.23.2"),
        (("onnxruntime_genai-0.5.0", "onnx-1.19.1"), None),
        (("onnxruntime-1.23.2", "onnxruntime_gpu-1.9.0"), "1.9.0"),
    ],
)
def test_the_installed_onnxruntime_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distributions: tuple[str, ...], version: str | None
) -> None:
    install(tmp_path / "site", *distributions)
    monkeypatch.setattr(sys, "path", ["/nonexistent", str(tmp_path / "site")])
    assert installed_onnxruntime() == version


def test_openvino_runs_what_is_openvinos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = needing("1.18", model="openvino/openvino_model.xml")
    assert str(installed_runtime(graph)).startswith("openvino 20")
    assert installed_runtime(needing("1.18")) == installed_onnxruntime()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_runtime(graph) is None


def test_the_first_folder_that_has_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "first", "onnxruntime-1.20.0")
    install(tmp_path / "second", "onnxruntime-1.31.1")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert installed_onnxruntime() == "1.20.0"


def needing(version: str, *, model: str = "onnx/model.onnx") -> Variant:
    return (
        examples.manifest()
        .variants[0]
        ._replace(min_onnxruntime=version, opset=21, ir_version=10, name="int8", model=model)
    )


@pytest.mark.parametrize(
    ("installed", "needed", "refused"),
    [
        ("1.17", "1.23", True),
        ("1.9.1", "1.14", True),
        ("1.23.2", "1.23", False),
        ("1.23", "1.23.0", False),
        ("2.0.0", "1.23", False),
        ("1.24.0.dev20261101", "1.24", False),
        ("1.17", "whatever", False),
        ("unknown", "1.23", False),
        (None, "1.23", False),
    ],
)
def test_a_runtime_that_is_too_old_is_told_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str | None, needed: str, refused: bool
) -> None:
    install(tmp_path, *([] if installed is None else [f"onnxruntime-{installed}"]))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    if refused:
        with pytest.raises(VariantError) as caught:
            check_runtime(needing(needed))
        assert f"needs onnxruntime >= {needed} (opset 21, IR 10); installed is {installed}" in caught.value.message
        assert f"pip install 'onnxruntime>={needed}'" in caught.value.hint
    else:
        check_runtime(needing(needed))


@pytest.mark.parametrize(
    ("installed", "name", "role", "refused"),
    [
        ("1.25.1", "int8", "decoder_model_merged", True),
        ("1.26.0", "int8-accurate", "decoder_model_merged", True),
        ("1.26.0", "fp16", "decoder_model_merged", False),
        ("1.26.0", "int8", "decoder_model", False),
        ("1.24.4", "int8", "decoder_model_merged", False),
        ("1.27.0", "int8", "decoder_model_merged", False),
    ],
)
def test_releases_that_fail_at_decoders_of_two_branches_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, name: str, role: str, *, refused: bool
) -> None:
    install(tmp_path, f"onnxruntime-{installed}")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    variant = needing("1.15")._replace(name=name, others=(Graph(role, f"onnx/{role}.onnx", (), ()),))
    if refused:
        with pytest.raises(VariantError, match=f"onnxruntime {installed} does not open the variant {name}") as caught:
            check_runtime(variant)
        assert "'onnxruntime>=1.27'" in caught.value.hint
    else:
        check_runtime(variant)


def test_other_runtimes_graphs_are_not_judged_by_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "onnxruntime-1.17")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    check_runtime(needing("1.23", model="openvino/openvino_model.xml"))


def test_auto_passes_over_what_the_installed_runtime_cannot_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "onnxruntime-1.17")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    fp32, int8 = offering(("fp32", "int8")).variants
    newer = int8._replace(min_onnxruntime="1.23")
    machine = Machine("x86_64", frozenset({"avx512_vnni"}))
    assert choose_variant(examples.manifest()._replace(variants=(fp32, newer)), AUTO, machine).name == "fp32"
    with pytest.raises(VariantError, match=r"int8 needs onnxruntime >= 1\.23"):
        choose_variant(examples.manifest()._replace(variants=(newer,)), AUTO, machine)
