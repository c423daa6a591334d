"""The modules of a sentence-transformers model, as its modules.json lists them: which of them a graph can have.

Source: sentence_transformers, whose ``modules.json`` names a class for each module, and the folder of its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeldrop.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TRANSFORMER, POOLING, DENSE, NORMALIZE = "Transformer", "Pooling", "Dense", "Normalize"
MASKED, SPLADE = "MLMTransformer", "SpladePooling"
STATIC = "StaticEmbedding"
_NO_EFFECT = "Dropout"
MODES = ("cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean")
# The order in which sentence-transformers concatenates them.
OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The modes by the keys that releases before 5.4 write, and that every release reads."""
_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "Identity",
    "torch.nn.modules.activation.Tanh": "Tanh",
    "torch.nn.modules.activation.ReLU": "Relu",
    "torch.nn.modules.activation.Sigmoid": "Sigmoid",
}
_EVERYWHERE = "sentence_transformers.models"
"""The package of all modules for releases before 5.4; later ones know it too, but not each other's own."""
_KNOWN = f"{TRANSFORMER}, {POOLING}, {DENSE} and {NORMALIZE}, in that order, or {MASKED} and {SPLADE}, or {STATIC}."
_OTHER_ORDERS = ([TRANSFORMER], [MASKED, SPLADE], [TRANSFORMER, SPLADE], [STATIC], [STATIC, NORMALIZE])
_STRATEGIES, _LOGARITHMS = ("max", "sum"), {"relu": "", "log1p_relu": "_log"}
_BY_ITS_OWN = "Export it with its own library, and publish the .onnx file beside config.json and tokenizer.json."
_OTHERS = {
    "SparseAutoEncoder": "a sparse encoder (CSR)",
    "SparseStaticEmbedding": "a sparse encoder (SPLADE)",
    "WordEmbeddings": "averaged word vectors",
    "BoW": "a bag of words",
    "CLIPModel": "CLIP in sentence-transformers' form",
    "Router": "two encoders behind a router",
    "Asym": "two encoders behind a router",
}


SPARSE_FILE, COLBERT_FILE = "sparse_linear.pt", "colbert_linear.pt"
BGE_M3 = (COLBERT_FILE, SPARSE_FILE)
"""What bge-m3 has besides its modules, as FlagEmbedding saves it, pickles of tensors: a layer that gives every token a
weight, and one that gives it a vector."""
SAVE_ANEW = "Save it with sentence-transformers: SentenceTransformer(FOLDER).save_pretrained(NEW)."
STATIC_CONFIG = {"model_type": "model2vec", "architectures": ["StaticModel"]}
"""What is said of static embeddings of sentence-transformers, which have no config.json: as of model2vec's."""


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
        embedder; before a SpladePooling for a sparse one. A StaticEmbedding, perhaps before a Normalize. A Transformer
        before Dense layers alone where every token keeps a vector (ColBERT).

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
    rest = kinds[2:]
    fits = kinds[:2] == [TRANSFORMER, POOLING] and rest in (
        [DENSE] * len(rest),
        [*[DENSE] * (len(rest) - 1), NORMALIZE],
    )
    late = kinds[:1] == [TRANSFORMER] and len(kinds) > 1 and set(kinds[1:]) == {DENSE}
    if not fits and not late and kinds not in _OTHER_ORDERS:
        known_kinds = {TRANSFORMER, POOLING, DENSE, NORMALIZE, MASKED, SPLADE, STATIC}
        wrong = next((kind for kind in kinds if kind not in known_kinds), "")
        raise TaskError(
            f"modules.json has a module that cannot be put into the graph: {wrong}."
            if wrong
            else f"modules.json lists its modules in an order that is not known: {', '.join(kinds) or 'none'}.",
            f"This release knows {_KNOWN}",
        )
    return tuple(modules)


def check_modules(
    modules: Sequence[SentenceModule], read: Callable[[str], Mapping[str, Any] | None], prompts: Mapping[str, str]
) -> None:
    """Refuse modules whose settings cannot be put into the graph, before the weights are downloaded.

    Args:
        modules: of an embedder.
        read: gives the parsed file at a path of the source, None where there is none.
        prompts: the texts that are put before what is embedded, by name.

    Raises:
        TaskError: says which setting.
    """
    for module in modules:
        config = read(f"{module.path}/config.json" if module.path else "config.json")
        if config is None:
            continue  # a build says whose file is missing
        if module.kind == SPLADE:
            splade_mode(config)
        elif module.kind == POOLING:
            pooling_modes(config, prompts)
        elif module.kind == DENSE:
            dense_activation(config)


def is_static(config: Mapping[str, Any]) -> bool:
    """Whether a model is a table of vectors, by token, whose mean is a text's; told from its config.json."""
    return config.get("model_type") == STATIC_CONFIG["model_type"]


def lists_static(document: Sequence[Any]) -> bool:
    """Whether a parsed modules.json begins with static embeddings."""
    first = document[0] if document else None
    return isinstance(first, dict) and str(first.get("type")).rpartition(".")[2] == STATIC


def is_late(modules: Sequence[SentenceModule]) -> bool:
    """Whether they are those of a model of late interaction (ColBERT): a Dense layer for every token, no Pooling."""
    return len(modules) > 1 and all(module.kind == DENSE for module in modules[1:])


def is_sparse(modules: Sequence[SentenceModule]) -> bool:
    """Whether they are those of a sparse encoder, whose vectors have a number for every token of the vocabulary."""
    return any(module.kind == SPLADE for module in modules)


def splade_mode(config: Mapping[str, Any]) -> str:
    """How a SpladePooling makes a vector of the scores of words: ``splade_max`` or ``splade_sum``, or with ``_log``.

    Raises:
        TaskError: it cannot be put into the graph.
    """
    strategy, activation = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    if strategy not in _STRATEGIES or activation not in _LOGARITHMS:
        raise TaskError(
            f"The SpladePooling module asks for {strategy} of {activation}, which cannot be put into the graph.",
            f"This release knows {' and '.join(_STRATEGIES)} of {' and '.join(_LOGARITHMS)}.",
        )
    return f"splade_{strategy}{_LOGARITHMS[activation]}"


def pooling_modes(config: Mapping[str, Any], prompts: Mapping[str, str]) -> tuple[str, ...]:
    """The modes of a Pooling module, in the order in which their vectors are concatenated.

    Args:
        config: its config.json, as any release of sentence-transformers writes it.
        prompts: the texts that are put before what is embedded, by name.

    Raises:
        TaskError: there is one that cannot be put into the graph.
    """
    if prompts and config.get("include_prompt") is False:
        raise TaskError(
            f"The Pooling module leaves out the words of the prompts ({', '.join(prompts)}), "
            "and a graph cannot tell them from the text's.",
            "Remove modules.json from a copy of the source: the graph then answers last_hidden_state, and the "
            "service pools what follows the prompt.",
        )
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else list(named or [])
    if not modes:
        modes = [mode for old, mode in OLD_MODES.items() if config.get(old)]
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise TaskError(
            f"The Pooling module asks for {', '.join(map(str, unknown)) or 'no mode'}.",
            f"This release knows: {', '.join(MODES)}.",
        )
    return tuple(dict.fromkeys(modes))


def dense_activation(config: Mapping[str, Any]) -> str:
    """The ONNX name of a Dense module's activation.

    Raises:
        TaskError: it cannot be put into the graph.
    """
    if config.get("use_residual"):
        raise TaskError("The Dense module adds what it is given (use_residual).", _BY_ITS_OWN)
    function = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if function not in _ACTIVATIONS:
        raise TaskError(
            f"The Dense module has an activation that cannot be put into the graph: {function}.",
            f"This release knows: {', '.join(name.rpartition('.')[2] for name in _ACTIVATIONS)}.",
        )
    return _ACTIVATIONS[function]


def readable_modules(document: Sequence[Any]) -> list[dict[str, Any]]:
    """A modules.json that every release of sentence-transformers reads, with the transformer's files beside it.

    Each release writes the names that its own classes have, which others cannot import (``base.modules.normalize`` is
    in 6 alone).
    """
    kinds = {TRANSFORMER, POOLING, DENSE, NORMALIZE, STATIC, _NO_EFFECT}
    readable = []
    for place, plain in enumerate(document):
        kind = plain["type"].rpartition(".")[2]
        one = dict(plain)
        if plain["type"].startswith("sentence_transformers.") and kind in kinds:
            one["type"] = f"{_EVERYWHERE}.{kind}"
        if place == 0:
            one["path"] = ""
        readable.append(one)
    return readable


def readable_pooling(config: Mapping[str, Any]) -> dict[str, Any]:
    """A Pooling's config.json that every release reads; one that cannot be said so stays as it is.

    Releases before 5.4 know one key for each mode, and their order alone.
    """
    width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    modes = pooling_modes(config, {})
    in_order = tuple(mode for mode in OLD_MODES.values() if mode in modes)
    if width is None or modes != in_order:
        return dict(config)
    return {
        "word_embedding_dimension": width,
        **{key: mode in modes for key, mode in OLD_MODES.items()},
        "include_prompt": config.get("include_prompt", True),
    }
