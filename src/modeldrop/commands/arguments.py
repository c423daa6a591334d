"""Arguments that several commands share: references, models, --json."""

from __future__ import annotations

import argparse
import json
from typing import Any

from modeldrop.config import default_registry
from modeldrop.errors import UsageError
from modeldrop.format.reference import Reference, parse_reference


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def add_require_attestation(parser: argparse.ArgumentParser, what: str) -> None:
    """The option that names whose attestation is required; ``what`` is how its help begins."""
    parser.add_argument(
        "--require-attestation", metavar="REPOSITORY",
        help=f"{what} a workflow of this repository on GitHub has attested to: OWNER/NAME[,ref=…][,workflow=…]",
    )  # fmt: skip


def add_no_delta(parser: argparse.ArgumentParser) -> None:
    """The option that lets a fetch take whole files alone."""
    parser.add_argument(
        "--no-delta", action="store_const", const="yes",
        help="fetch large files whole, even where what differs from an older version on this disk would do",
    )  # fmt: skip


def reference_argument(text: str) -> Reference:
    """A reference; a bare name lives in the default registry."""
    return parse_reference(text, default_registry())


def model_argument(text: str) -> Reference:
    """A model without a version, channel or digest.

    Raises:
        UsageError: something was selected.
    """
    reference = reference_argument(text)
    if "@" in text.rpartition("/")[2]:
        raise UsageError(f"{text!r} selects a version; a model is needed.", f"Write {text.rpartition('@')[0]}.")
    return reference
