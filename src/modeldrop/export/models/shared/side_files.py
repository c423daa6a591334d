"""The files besides the graphs: tokenizer, configuration, model card, licence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ALWAYS = ("config.json", "README.md", "LICENSE*", "LICENCE*", "NOTICE*")
"""Patterns of what every version takes along from its source."""


def copy_side_files(source: Path, output: Path, patterns: Iterable[str]) -> None:
    """Copy what there is of the files that match, in upper or lower case: licences are spelled in many ways."""
    wanted = [pattern.lower() for pattern in patterns]
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and any(fnmatchcase(name.lower(), pattern) for pattern in wanted):
            target = output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def save_tokenizer(tokenizer: Any, output: Path) -> None:
    """Write the tokenizer so that programs with tokenizer.json alone cut and pad as the comparison did."""
    backend = tokenizer.backend_tokenizer
    # Some tokenizers are saved with padding to a fixed length and truncation below the model's limit (MiniLM: 128
    # and 128 of 256). Programs that use tokenizer.json alone would apply them.
    backend.enable_truncation(tokenizer.model_max_length)
    backend.no_padding()
    if tokenizer.pad_token_id is not None:
        backend.enable_padding(
            direction=tokenizer.padding_side,
            pad_id=tokenizer.pad_token_id,
            pad_type_id=tokenizer.pad_token_type_id,
            pad_token=tokenizer.pad_token,
        )
    # tokenizer_config.json would still contain the removed settings, and fastembed uses them.
    for name in ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(output)


def root_transformer(path: Path) -> None:
    """Have modules.json say that the transformer's files lie beside it, as they do in a version."""
    modules = json.loads(path.read_text("utf-8"))
    if modules[0]["path"]:
        modules[0]["path"] = ""
        path.write_text(json.dumps(modules, indent=2) + "\n", "utf-8")


def save_sentence_config(output: Path, max_length: int) -> None:
    """sentence-transformers cuts by its own figure: it must be the one that was compared."""
    path = output / "sentence_bert_config.json"
    if path.is_file():
        plain = json.loads(path.read_text("utf-8")) | {"max_seq_length": max_length}
        path.write_text(json.dumps(plain, indent=2) + "\n", "utf-8")
