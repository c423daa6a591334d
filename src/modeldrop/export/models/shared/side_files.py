"""The files besides the graphs: tokenizer, configuration, model card, licence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from modeldrop.export.sentence_modules import POOLING, read_modules, readable_modules, readable_pooling

_EVERYWHERE = {"max_seq_length", "do_lower_case"}
"""The keys of sentence_bert_config.json that releases before 5.4 take: others end in an error there."""

_SIZES = ("hidden_size", "num_hidden_layers")
"""What transformers knows every model's sizes by; DistilBERT's config.json says dim and n_layers."""

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


def save_tokenizer(tokenizer: Any, output: Path, length: int | None = None) -> None:
    """Write the tokenizer so that programs with tokenizer.json alone cut and pad as the comparison did.

    Args:
        tokenizer: the fast one.
        output: the version's folder.
        length: to how many tokens every text is padded; None for those of the longest one beside it.
    """
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
            length=length,
        )
    # tokenizer_config.json would still contain the removed settings, and fastembed uses them.
    for name in ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(output)
    _keep_templates(tokenizer, output / "tokenizer_config.json")


def _keep_templates(tokenizer: Any, path: Path) -> None:
    """Have tokenizer_config.json hold the chat templates too.

    transformers writes them into files of their own since 4.51, which older releases and transformers.js before 4 do
    not read.
    """
    templates = tokenizer.chat_template
    if not templates:
        return
    if isinstance(templates, dict):
        templates = [{"name": name, "template": text} for name, text in templates.items()]
    _write(path, json.loads(path.read_text("utf-8")) | {"chat_template": templates})


def spell_out_config(output: Path, config: Any) -> None:
    """Have config.json say what transformers derives: programs in other languages (TEI) read it by these names alone.

    Args:
        output: the version's folder, with the source's own file.
        config: the same as transformers has read it.
    """
    path = output / "config.json"
    plain = json.loads(path.read_text("utf-8"))
    derived = {name: getattr(config, name, None) for name in _SIZES}
    if any(name.endswith("Classification") for name in plain.get("architectures") or ()) and config.id2label:
        derived["id2label"] = {str(index): label for index, label in config.id2label.items()}
        derived["label2id"] = {label: int(index) for index, label in config.id2label.items()}
    lacking = {name: value for name, value in derived.items() if plain.get(name) is None and value is not None}
    if lacking:
        _write(path, plain | lacking)


def save_sentence_files(output: Path, max_length: int) -> None:
    """Write the files of sentence-transformers in the form that all of its releases read.

    It cuts texts by its own figure, which must be the one that was compared.

    Args:
        output: the version's folder, with the source's own files.
        max_length: how many tokens a text is cut to.
    """
    path, embedder = output / "modules.json", False
    if path.is_file():
        document = json.loads(path.read_text("utf-8"))
        _write(path, readable_modules(document))
        poolings = [module.path for module in read_modules(document) if module.kind == POOLING]
        embedder = bool(poolings)
        for path in (output / folder / "config.json" for folder in poolings):
            if path.is_file():
                _write(path, readable_pooling(json.loads(path.read_text("utf-8"))))
    path = output / "sentence_bert_config.json"
    if path.is_file() or embedder:
        plain = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        # A CrossEncoder that has modules.json is read by none of the old ones, and says there what it answers.
        known = {name: value for name, value in plain.items() if name in _EVERYWHERE or not embedder}
        _write(path, known | {"max_seq_length": max_length})


def _write(path: Path, plain: object) -> None:
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", "utf-8")
