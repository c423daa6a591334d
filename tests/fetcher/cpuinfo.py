"""What /proc/cpuinfo says on well-known CPUs, shortened to what tells them apart."""

from __future__ import annotations

_X86 = "fpu vme sse sse2 ss ht syscall nx lm constant_tsc pni ssse3 sse4_1 sse4_2 popcnt"
_AVX2 = f"{_X86} avx f16c rdrand fma movbe bmi1 avx2 bmi2"
_AVX512 = f"{_AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"


def _x86(flags: str, model: str) -> tuple[str, str]:
    text = f"processor\t: 0\nvendor_id\t: any\nmodel name\t: {model}\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n\n"
    return "x86_64", text


def _arm(features: str) -> tuple[str, str]:
    return "aarch64", f"processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: {features}\nCPU implementer\t: 0x41\n\n"


CPUINFO = {
    "sapphire-rapids": _x86(f"{_AVX512} avx_vnni avx512_bf16 avx512_vnni amx_int8", "Intel(R) Xeon(R) Platinum 8488C"),
    "zen4": _x86(f"{_AVX512} avx512_bf16 avx512_vnni", "AMD EPYC 9V74 80-Core Processor"),
    "alder-lake": _x86(f"{_AVX2} avx_vnni", "12th Gen Intel(R) Core(TM) i7-12700"),
    "skylake-server": _x86(_AVX512, "Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz"),
    "haswell": _x86(_AVX2, "Intel(R) Xeon(R) CPU E5-2676 v3 @ 2.40GHz"),
    "nehalem": _x86(_X86, "Intel(R) Xeon(R) CPU X5570 @ 2.93GHz"),
    "graviton3": _arm("fp asimd evtstrm aes sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp sve i8mm bf16"),
    "graviton1": _arm("fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
}
"""Architecture and text by CPU."""
