"""Choose the files of a checkpoint that are needed, from their names alone.

A repository may hold the same weights five times over, optimizer states of a training run, and
pickles that run code when they are loaded. Only what is listed here is downloaded, hashed or shown
to the exporter; whatever is not known is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from modeldrop.errors import SourceError
from modeldrop.export.sentence_modules import BGE_M3
from modeldrop.export.sources import generic, graphs, openvino
from modeldrop.export.sources.foreign import foreign_kind
from modeldrop.format.tasks import GENERIC

SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE_INDEX = "pytorch_model.bin.index.json"

_SUPPORT = re.compile(
    r"""(?:\d+_[^/]+/)?                                # of the model, or of one sentence-transformers module
    (?: config\.json | generation_config\.json
      | (?:video_)?preprocessor_config\.json | processor_config\.json
      | tokenizer\.json | tokenizer_config\.json | special_tokens_map\.json | added_tokens\.json
      | vocab\.(?:txt|json) | merges\.txt | normalizer\.json | tekken\.json
      | [^/]+\.(?:model|spm|tiktoken)                   # sentencepiece.bpe.model, source.spm, …
      | chat_template\.[^/]+
      | modules\.json | sentence_bert_config\.json | config_sentence_transformers\.json
    )""",
    re.VERBOSE,
)
_TEMPLATE = re.compile(r"additional_chat_templates/[^/]+\.jinja")
_PAPER = re.compile(r"README\.md|(?:LICEN[CS]E|NOTICE)[^/]*", re.IGNORECASE)
_CODE = re.compile(r"[^/]+\.py")
_MODULE = re.compile(r"\d+_[^/]+")
_FIRST_MODULE = "0_Transformer/"
_STATIC_MODULE = "0_StaticEmbedding/"
_OTHER_WEIGHTS = re.compile(r".*\.(?:onnx|gguf|ggml|h5|msgpack|ot|ckpt|pt|pth|bin|safetensors)", re.IGNORECASE)
_LEARNED = re.compile(r".*\.(?:pt|pth|bin|safetensors|pkl|pickle|joblib|skops|npy|npz)", re.IGNORECASE)
_NO_PART = re.compile(
    r"""(?:(?:tf_|flax_)?(?:model|weights|consolidated|pytorch_model)(?:[-.][^/]*)?  # the same in another form
      | (?:optimizer|scheduler|scaler|rng_state|training_args|trainer_state|random_states)[^/]*  # of a training run
      | openvino_(?:model|tokenizer|detokenizer)[^/]*
    )\.[^/]+""",
    re.VERBOSE | re.IGNORECASE,
)
_ADAPTER = "adapter_config.json"
_WHOLE = ("model.safetensors", SAFETENSORS_INDEX, "pytorch_model.bin", PICKLE_INDEX)


@dataclass(frozen=True, slots=True)
class ChosenFiles:
    """The files that are needed, by their part in the build.

    ``weights`` are loaded, ``support`` steers how (config, tokenizer, the shards' index, code),
    ``papers`` (README, licence) change nothing in what is built. Where ``index`` is given, its shards
    are not among the weights until ``with_shards`` has read it. ``graphs`` are ready ONNX graphs by
    role: they and the files that hold their data are the weights then. ``openvino`` is a ready OpenVINO graph: it and
    its ``.bin`` are the weights then. ``left_out`` are learned weights that nothing loads: what another library puts
    behind the model. ``inner`` is the folder of the transformer's files, where it has one of its own; they are taken
    out of it. ``framework`` is what a generic model was saved by, ``ONNX`` where it is ready graphs; "" for others.
    """

    weights: tuple[str, ...]
    support: tuple[str, ...]
    papers: tuple[str, ...] = ()
    index: str | None = None
    graphs: Mapping[str, str] = field(default_factory=dict)
    openvino: str = ""
    left_out: tuple[str, ...] = ()
    inner: str = ""
    framework: str = ""

    @property
    def worker(self) -> str:
        """The worker that makes the graphs of these files that all variants are made of."""
        if self.framework:
            return "generic"
        if self.openvino:
            return "adopt_openvino"
        return "adopt" if self.graphs else "export"

    def target(self, name: str) -> str:
        """Where a file belongs in the folder that the worker gets.

        Graphs lie in ``onnx/`` or ``openvino/``, called as their role.
        """
        name = name.removeprefix(self.inner)
        if self.openvino and name in {self.openvino, openvino.data_of(self.openvino)}:
            return openvino.target(name, self.openvino)
        for role, graph in self.graphs.items():
            if name == graph:
                return f"onnx/{role}.onnx"
        if self.graphs and name in self.weights and not _MODULE.fullmatch(name.partition("/")[0]):
            folder = PurePosixPath(next(iter(self.graphs.values()))).parent
            return f"onnx/{PurePosixPath(name).relative_to(folder)}"
        return name

    @property
    def building(self) -> tuple[str, ...]:
        """The files that influence what is built, sorted."""
        return tuple(sorted((*self.weights, *self.support)))

    @property
    def names(self) -> tuple[str, ...]:
        """All the files, sorted."""
        return tuple(sorted((*self.weights, *self.support, *self.papers)))


def check_name(name: str, where: str) -> None:
    """Refuse a file name that would leave the folder, or mean another file than it says.

    Raises:
        SourceError: it is absolute, has empty, ``.`` or ``..`` parts, backslashes or control characters.
    """
    parts = name.split("/")
    odd = any(part in ("", ".", "..") for part in parts) or "\\" in name
    if odd or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise SourceError(
            f"{where} lists a file named {name!r}, which is not a path inside it.",
            "No honest tool writes such a name. Do not use this source.",
        )


@dataclass(frozen=True, slots=True)
class FileRules:
    """What is wanted of a source.

    Attributes:
        allow_pickle: fall back to pytorch_model.bin where there are no safetensors.
        trust_remote_code: take the Python files at the root along.
        graph: the ready ONNX or OpenVINO file, or the folder of ONNX files, that is meant instead of a checkpoint's
            weights; or "".
        bare: whether config.json may lie elsewhere, with the tokenizer.
        support_only: take only what lies beside weights.
        task: what the recipe builds it for; None where the source says.
        files: patterns of the files that travel with a generic model; () for what looks like it.
        code: the Python file that makes a torch module; "" where the source is none.
    """

    allow_pickle: bool = False
    trust_remote_code: bool = False
    graph: str = ""
    bare: bool = False
    support_only: bool = False
    task: str | None = None
    files: tuple[str, ...] = ()
    code: str = ""


DEFAULT = FileRules()
"""A checkpoint's safetensors."""


def choose_files(names: Iterable[str], *, where: str, rules: FileRules = DEFAULT) -> ChosenFiles:
    """Choose the needed files out of all that are there: a checkpoint's, else ready ONNX graphs, else OpenVINO's.

    Args:
        names: every file of the source, as POSIX paths relative to it.
        where: how messages call the source.
        rules: what is wanted.

    Raises:
        SourceError: an unsafe name, no config.json, no weights, or only pickles where they are not allowed; no
            tokenizer, where only what lies beside weights is wanted.
    """
    there = sorted(set(names))
    for name in there:
        check_name(name, where)
    support = [name for name in there if _SUPPORT.fullmatch(name) or _TEMPLATE.fullmatch(name)]
    if rules.support_only:
        return _only_support(support, where)
    known = frozenset(there)
    inner = _inner_folder(known)
    support = [name for name in support if not inner or inner + name not in known]
    allow_pickle = rules.allow_pickle
    if _ADAPTER in known and not rules.graph:
        raise _adapter(there, where)
    bare = f"{inner}config.json" not in known and not rules.bare and not _is_static(known, inner)
    if rules.task == GENERIC or (rules.task is None and bare):
        generic_files = _choose_generic(there, rules, where)
        if generic_files is not None:
            return generic_files
    if bare:
        raise _no_config(known, where)
    papers = [name for name in there if _PAPER.fullmatch(name)]
    if rules.trust_remote_code:
        support += [name for name in there if _CODE.fullmatch(name)]
    weights, index = ([], None) if rules.graph else _weights_at(inner, known, where, allow_pickle=allow_pickle)
    if not weights and index is None:
        mine = _module_weights(known, where, allow_pickle=allow_pickle)
        xml = rules.graph if rules.graph.endswith(".xml") else ""
        ready = {} if xml else graphs.choose_onnx(there, rules.graph, where=where)
        if not ready:
            graph = openvino.choose_openvino(there, xml, where=where)
            if not graph:
                raise _no_weights(there, where)
            weights = [graph, openvino.data_of(graph), *mine]
            return ChosenFiles(tuple(sorted(weights)), tuple(sorted(support)), tuple(papers), openvino=graph)
        parts = {*ready.values(), *(data for graph in ready.values() for data in graphs.data_beside(graph, there))}
        weights = [*parts, *mine]
        return ChosenFiles(tuple(sorted(weights)), tuple(sorted(support)), tuple(papers), graphs=ready)
    weights += _module_weights(known, where, inner, allow_pickle=allow_pickle)
    weights += _heads(known, allow_pickle=allow_pickle)
    if index is not None:
        support.append(index)
    left_out = tuple(name for name in there if name not in weights and _is_part(name))
    return ChosenFiles(
        tuple(sorted(weights)), tuple(sorted(support)), tuple(papers), index, left_out=left_out, inner=inner
    )


def _inner_folder(known: frozenset[str]) -> str:
    """The folder of the first module's files, where a model of sentence-transformers has one for them; else ""."""
    if "config.json" in known or "modules.json" not in known:
        return ""
    # As releases before 2.0 wrote it, and as all still read it. Static embeddings have no config.json at all.
    needed = {_FIRST_MODULE: "config.json", _STATIC_MODULE: "tokenizer.json"}
    return next((folder for folder, name in needed.items() if folder + name in known), "")


def _is_static(known: frozenset[str], inner: str) -> bool:
    """Whether it looks like static embeddings of sentence-transformers, which have no config.json."""
    beside = {"modules.json", "tokenizer.json", "model.safetensors"} <= known and "config.json" not in known
    return inner == _STATIC_MODULE or beside


def _no_config(known: frozenset[str], where: str) -> SourceError:
    # Beside weights as transformers saves them, settings alone tell another library's.
    whole = not known.isdisjoint(_WHOLE)
    foreign = foreign_kind(name for name in known if not whole or name.endswith((".json", ".cfg")))
    if foreign is not None:
        kind, name = foreign
        return SourceError(f"{where} holds {kind.what} ({name}). This release does not build such models.", kind.hint)
    return SourceError(
        f"{where} has no config.json, so it is not a transformers checkpoint.",
        "Give the folder or repository that holds config.json next to the weights; or, of any other model, ONNX "
        "graphs, or the file that scikit-learn, LightGBM, XGBoost or CatBoost saved.",
    )


def _choose_generic(there: list[str], rules: FileRules, where: str) -> ChosenFiles | None:
    """The files of a generic model; None where the source has none.

    Raises:
        SourceError: a pickle where they are not allowed; or there is none although the recipe's task is generic.
    """
    for pattern in rules.files:
        check_name(pattern, "files")
    model = generic.named_model(there, rules.graph, where=where)
    ready = (
        {}
        if PurePosixPath(rules.graph).suffix in generic.FRAMEWORKS
        else generic.choose_graphs(there, rules.graph, where=where)
    )
    if not ready and not model:
        if rules.task != GENERIC:
            return None
        raise SourceError(
            f"{where} has neither ONNX graphs nor a model of scikit-learn, LightGBM, XGBoost or CatBoost.",
            f"Those end in .onnx, {', '.join(generic.FRAMEWORKS)}; name the very file of one in .txt or .json.",
        )
    suffix = PurePosixPath(model).suffix
    if not ready and suffix in generic.PICKLES and not rules.allow_pickle:
        raise SourceError(
            f"{model} of {where} is a pickle, and loading a pickle runs whatever code is in it.",
            "Save the model by skops.io.dump(model, 'model.skops'), or set `allow_pickle = true` in the recipe if you "
            "trust who made it.",
        )
    models = list(ready.values()) or [model]
    data = [file for graph in ready.values() for file in graphs.data_beside(graph, there)]
    beside = generic.side_files(
        [name for name in there if name not in data], models, rules.graph, rules.files, where=where
    )
    papers = [name for name in beside if _PAPER.fullmatch(name)]
    return ChosenFiles(
        weights=tuple(sorted({*models, *data})),
        support=tuple(name for name in beside if name not in papers),
        papers=tuple(papers),
        graphs=ready,
        framework=generic.ONNX if ready else generic.FRAMEWORKS[suffix],
    )


def choose_code(names: Iterable[str], *, where: str, rules: FileRules) -> ChosenFiles:
    """A Python file, and what the recipe names beside it: other code of it, and what travels with the graph.

    Args:
        names: every file of the folder that the code is in.
        where: how messages call the source.
        rules: which code, and which files.

    Raises:
        SourceError: an unsafe name; a pattern matches nothing, or a name that a version needs itself.
    """
    there = sorted(set(names))
    for name in there:
        check_name(name, where)
    found = generic.side_files(there, [rules.code], "", rules.files, where=where) if rules.files else []
    code = [name for name in found if _CODE.fullmatch(PurePosixPath(name).name)]
    return ChosenFiles(
        # The file itself is first: it is what the source names.
        weights=(rules.code, *code),
        support=tuple(name for name in found if name not in code),
        framework=generic.PYTORCH,
    )


def _is_part(name: str) -> bool:
    """Whether a file holds what somebody has learned, and is not the whole model in another form."""
    folder, _, file = name.rpartition("/")
    inside = not folder or _MODULE.fullmatch(folder) is not None
    return inside and _LEARNED.fullmatch(file) is not None and _NO_PART.fullmatch(file) is None


def _only_support(support: Iterable[str], where: str) -> ChosenFiles:
    if not any(name in support for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")):
        raise SourceError(f"{where} has no tokenizer.", "Name the folder or repository that holds tokenizer.json.")
    # The poolings of another model are not its tokenizer's.
    support = [name for name in support if "/" not in name and name != "modules.json"]
    return ChosenFiles((), tuple(support), ())


def _module_weights(known: frozenset[str], where: str, inner: str = "", *, allow_pickle: bool) -> list[str]:
    """The weights of sentence-transformers modules after the transformer, which may have the folder ``inner``."""
    weights: list[str] = []
    modules = sorted({name.split("/")[0] for name in known if "/" in name and not (inner and name.startswith(inner))})
    for module in filter(_MODULE.fullmatch, modules):
        # Leaving out a Dense layer causes no error, and makes every embedding wrong.
        more, index = _weights_at(f"{module}/", known, where, allow_pickle=allow_pickle)
        if index is not None:
            raise SourceError(f"{where} has sharded weights in {module}/, which modeldrop does not support.")
        weights += more
    return weights


def _heads(known: frozenset[str], *, allow_pickle: bool) -> tuple[str, ...]:
    """The layers of bge-m3 beside the transformer, where they may be loaded and modules.json describes the rest."""
    return BGE_M3 if allow_pickle and "modules.json" in known and known.issuperset(BGE_M3) else ()


def with_shards(choice: ChosenFiles, document: object, names: Iterable[str], *, where: str) -> ChosenFiles:
    """The choice with the shards that its parsed index names among the weights.

    Raises:
        SourceError: the index is malformed, names a file that is not there, or of another kind.
    """
    if choice.index is None:
        return choice
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{choice.index} of {where} has no weight_map, so its shards are unknown.")
    # An index of safetensors that names a .bin would load a pickle although pickles are not allowed.
    suffix = ".safetensors" if choice.index.endswith(SAFETENSORS_INDEX) else ".bin"
    known = frozenset(names)
    shards: set[str] = set()
    for shard in weight_map.values():
        if not isinstance(shard, str) or "/" in shard or not shard.endswith(suffix):
            raise SourceError(f"{choice.index} of {where} names {shard!r} as a shard, not a *{suffix}.")
        check_name(shard, where)
        shards.add(choice.inner + shard)
    missing = sorted(shards - known)
    if missing:
        raise SourceError(
            f"{where} lacks {openvino.some_of(missing)}: {len(missing)} of the {len(shards)} shards that "
            f"{choice.index} names.",
            "The upload, the copy or the download of this checkpoint was not finished.",
        )
    return replace(choice, weights=tuple(sorted({*choice.weights, *shards})))


def with_external(
    choice: ChosenFiles, graph: str, locations: Iterable[str], names: Iterable[str], *, where: str
) -> ChosenFiles:
    """The choice with the files among the weights that a graph says its weights are in.

    Raises:
        SourceError: one is not there, or would lead out of the graph's folder.
    """
    known = frozenset(names)
    folder = graph[: graph.rfind("/") + 1]
    found = set(choice.weights)
    for location in locations:
        check_name(location, f"{graph} of {where}")
        if folder + location not in known:
            raise SourceError(
                f"{graph} of {where} keeps weights in {location}, which is not there.",
                f"Put it beside {graph}: the .onnx file alone is not the model.",
            )
        found.add(folder + location)
    return replace(choice, weights=tuple(sorted(found)))


def licence_in(readme: str) -> str | None:
    """The ``license`` in a model card's YAML front matter, or None. Reads that one key, without YAML."""
    lines = readme.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for position, line in enumerate(lines[1:], start=1):
        if line.strip() in ("---", "..."):
            return None
        if line.startswith("license:"):
            value = line.partition(":")[2]
            if not value.strip():  # a block list: the first entry stands on the next line
                following = lines[position + 1].strip() if position + 1 < len(lines) else ""
                value = following.removeprefix("-") if following.startswith("- ") else ""
            value = value.partition(" #")[0].strip().strip("[]").strip("\"'").strip()
            return value or None
    return None


def _weights_at(folder: str, known: frozenset[str], where: str, *, allow_pickle: bool) -> tuple[list[str], str | None]:
    """The weights in one folder, whole or the index of their shards; in the order transformers looks."""
    for whole, index in (("model.safetensors", SAFETENSORS_INDEX), ("pytorch_model.bin", PICKLE_INDEX)):
        if folder + whole not in known and folder + index not in known:
            continue
        if whole.endswith(".bin") and not allow_pickle:
            raise SourceError(
                f"{where} has only pickle weights ({folder}{whole if folder + whole in known else index}), "
                "and loading a pickle runs whatever code is in it.",
                "Use a revision with model.safetensors, or set `allow_pickle = true` in the recipe "
                "if you trust who made this model.",
            )
        return ([folder + whole], None) if folder + whole in known else ([], folder + index)
    return [], None


def _adapter(there: Iterable[str], where: str) -> SourceError:
    """The error for an adapter: PEFT puts it over a base model, and without it the base model would answer."""
    base = "" if "config.json" not in there else " beside its base model, which alone would answer otherwise"
    return SourceError(
        f"{where} holds an adapter ({_ADAPTER}){base}.",
        "Merge it into its base model, and give the folder that is written: "
        "peft.AutoPeftModelForFeatureExtraction.from_pretrained(FOLDER).merge_and_unload().save_pretrained(NEW), "
        "with the class of your task, and the tokenizer's save_pretrained(NEW).",
    )


def _no_weights(there: list[str], where: str) -> SourceError:
    other = [name for name in there if _OTHER_WEIGHTS.fullmatch(PurePosixPath(name).name)]
    foreign = foreign_kind(name for name in there if name != "config.json")
    what = f" {foreign[1]} tells {foreign[0].what}." if foreign else ""
    found = f" What it has is not loaded: {openvino.some_of(other)}." if other else ""
    return SourceError(
        f"{where} has no weights: neither model.safetensors nor {SAFETENSORS_INDEX}.{found}{what}",
        foreign[0].hint if foreign else "Give the folder or repository where save_pretrained wrote the model.",
    )
