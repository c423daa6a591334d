"""Explain failures of the libraries that are known by their messages."""

from __future__ import annotations

import re
from dataclasses import dataclass

NO_MEMORY = "Build on a machine with more memory: about 4 times the weights in fp32."


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A failure that libraries report: the pattern of their messages, what it means, and what to do."""

    pattern: str
    sentence: str
    hint: str


CUSTOM_CODE = KnownFailure(
    r"trust_remote_code|contains custom code",
    "This model brings Python code of its own, and the exporter runs it only if the recipe trusts it.",
    "Read that code; then pin the source to its commit (org/name@<commit>) and set `trust_remote_code = true` in the "
    "recipe.",
)
_FAILURES = (
    CUSTOM_CODE,
    KnownFailure(
        r"MemoryError|bad_?alloc|DefaultCPUAllocator|[Nn]ot enough memory|[Cc]annot allocate memory|[Ff]ailed to alloc"
        # Of OpenBLAS, of libraries in Rust, of the loader of libraries, and of oneDNN, which says no more.
        r"|[Mm]emory allocation (?:still|of \d+ bytes) failed|failed to map segment|could not create a primitive",
        "Memory ran out.",
        NO_MEMORY,
    ),
    KnownFailure(
        r"does not recognize this architecture|[Uu]nrecognized (?:configuration|model)",
        "transformers 4.57, which exports, does not know this kind of model.",
        "Export it with a program that knows it, and give the folder of ONNX as the source.",
    ),
    KnownFailure(
        r"(?i)opset[ _]?(?:version)?.*(?:not supported|unsupported|at least|minimum|too (?:low|old))"
        r"|(?:not supported|unsupported|not implemented).*opset|UnsupportedOperatorError",
        "The model uses an operation that ONNX does not have in the opset it is exported to.",
        "Ask for another opset in the recipe, or give the source as ONNX.",
    ),
    KnownFailure(
        r"exceeds? (?:the )?maximum protobuf size|2 ?GiB?B? limit",
        "A graph has over 2 GB in one file, which protobuf cannot hold.",
        "Leave this variant out of the recipe.",
    ),
)


def known_failure(said: str) -> KnownFailure | None:
    """The known failure that a library's message reports, or None."""
    return next((cause for cause in _FAILURES if re.search(cause.pattern, said)), None)
