"""Refuse a source, or a finished build, that lacks a file which every runtime needs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from modeldrop.errors import IncompleteError, SourceError

TOKENIZER, VOCABULARY = "tokenizer.json", "vocab.json"
# What transformers makes a tokenizer.json of, where there is none.
_VOCABULARIES = (TOKENIZER, "vocab.*", "*.model", "*.spm", "*.tiktoken", "tekken.json")


def check_tokenizer(spec: str, there: Collection[str], needed: Collection[str]) -> None:
    """Refuse a source without a tokenizer, where its model needs one; before its weights are downloaded.

    Args:
        spec: how the source was named.
        there: paths of its files beside the weights.
        needed: what every runtime of such a model needs.

    Raises:
        SourceError: it has none.
    """
    wanted = _VOCABULARIES if TOKENIZER in needed else tuple({VOCABULARY} & set(needed))
    if wanted and not any(fnmatchcase(name, one) for name in there for one in wanted):
        raise SourceError(
            f"{spec} has no tokenizer, and this model reads or writes texts.",
            f"Put {wanted[0]} and tokenizer_config.json beside the weights, or name where they are: "
            'tokenizer = "org/name" in the recipe.',
        )


def check_complete(folder: Path, needed: Iterable[str], graphs: Iterable[str]) -> None:
    """Refuse a build that lacks a file: tokenizer, config, graphs, external data, pooling configuration.

    Args:
        folder: the build.
        needed: paths of what every runtime needs.
        graphs: paths of the graphs, and of the files that hold their external data.

    Raises:
        IncompleteError: naming the first missing file and who needs it.
    """
    readers = dict.fromkeys(needed, "every runtime")
    readers |= dict.fromkeys(graphs, "a variant")
    modules = folder / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_text("utf-8")):
            kind = str(module.get("type", "")).rpartition(".")[2]
            if kind in {"Pooling", "Dense"}:
                readers[f"{module['path']}/config.json"] = "sentence-transformers"
    for path, reader in readers.items():
        if not (folder / path).is_file():
            raise IncompleteError(
                f"The build has no {path}, which {reader} needs.", "Put it beside the weights of the source."
            )
