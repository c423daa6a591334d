"""The modules of a sentence-transformers model, as its modules.json lists them: which of them a graph can have.

Source: sentence_transformers, whose ``modules.json`` names a class for each module, and the folder of its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeldrop.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Sequence

TRANSFORMER, POOLING, DENSE, NORMALIZE = "Transformer", "Pooling", "Dense", "Normalize"
_NO_EFFECT = "Dropout"
_KNOWN = f"{TRANSFORMER}, {POOLING}, {DENSE} and {NORMALIZE}, in that order."
_BY_ITS_OWN = "Export it with its own library, and publish the .onnx file beside config.json and tokenizer.json."
_OTHERS = {
    "MLMTransformer": "a sparse encoder (SPLADE)",
    "SpladePooling": "a sparse encoder (SPLADE)",
    "SparseAutoEncoder": "a sparse encoder (CSR)",
    "SparseStaticEmbedding": "a sparse encoder (SPLADE)",
    "StaticEmbedding": "static embeddings (model2vec)",
    "WordEmbeddings": "averaged word vectors",
    "BoW": "a bag of words",
    "CLIPModel": "CLIP in sentence-transformers' form",
    "Router": "two encoders behind a router",
    "Asym": "two encoders behind a router",
}


@dataclass(frozen=True, slots=True)
class SentenceModule:
    """One of them: the name of its class, and the folder of its files, "" for the source's own."""

    kind: str
    path: str


def read_modules(document: Sequence[Any]) -> tuple[SentenceModule, ...]:
    """The modules that answer, in their order; none that has no effect outside of training.

    Args:
        document: the parsed modules.json.

    Returns:
        A Transformer alone for a CrossEncoder, and before a Pooling, Dense layers and perhaps a Normalize for an
        embedder.

    Raises:
        TaskError: there is one that cannot be put into the graph, by its name.
    """
    modules = []
    for plain in document:
        if not isinstance(plain, dict) or not all(isinstance(plain.get(key), str) for key in ("type", "path")):
            raise TaskError(f"modules.json has an entry without type and path: {plain!r:.80}.", "Correct it.")
        kind = plain["type"].rpartition(".")[2]
        if kind != _NO_EFFECT:
            modules.append(SentenceModule(kind, plain["path"].strip("/")))
    kinds = [module.kind for module in modules]
    for known, sentence in _OTHERS.items():
        if known in kinds:
            raise TaskError(
                f"modules.json describes {sentence}: its module {known} cannot be put into the graph.",
                f"This release builds {_KNOWN} {_BY_ITS_OWN}",
            )
    if kinds[:2] == [TRANSFORMER, DENSE]:
        raise TaskError(
            "modules.json describes a late-interaction model (ColBERT): a Dense layer for every token, no Pooling.",
            _BY_ITS_OWN,
        )
    rest = kinds[2:]
    fits = kinds[:2] == [TRANSFORMER, POOLING] and rest in (
        [DENSE] * len(rest),
        [*[DENSE] * (len(rest) - 1), NORMALIZE],
    )
    if not fits and kinds != [TRANSFORMER]:
        wrong = next((kind for kind in kinds if kind not in {TRANSFORMER, POOLING, DENSE, NORMALIZE}), "")
        raise TaskError(
            f"modules.json has a module that cannot be put into the graph: {wrong}."
            if wrong
            else f"modules.json lists its modules in an order that is not known: {', '.join(kinds) or 'none'}.",
            f"This release knows {_KNOWN}",
        )
    return tuple(modules)
