"""All checks of a build request that need no slow work: task, source, variants, thresholds, inputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldrop.errors import RecipeError, SourceError, TaskError
from modeldrop.export.environments.exporters import OPTIMUM
from modeldrop.export.exporter_choice import OF_TRANSFORMERS, check_known, is_embedder
from modeldrop.export.inputs import Sample
from modeldrop.export.known_failures import CUSTOM_CODE
from modeldrop.export.models import architecture_of, choose_task, family_of
from modeldrop.export.models.family import Family, problem_of
from modeldrop.export.preflight.code import check_code
from modeldrop.export.preflight.files import check_tokenizer
from modeldrop.export.preflight.foreign_config import check_config
from modeldrop.export.preflight.inputs import check_samples
from modeldrop.export.preflight.openvino_source import check_graph, embeds, origin_of
from modeldrop.export.preflight.variants import check_export, check_variants
from modeldrop.export.request import BuildRequest
from modeldrop.export.sentence_config import SENTENCE_CONFIG, read_sentence_config
from modeldrop.export.sentence_modules import (
    SAVE_ANEW,
    check_modules,
    is_late,
    is_sparse,
    is_static,
    lists_static,
    read_modules,
)
from modeldrop.export.sources.generic import ONNX
from modeldrop.export.transformers5 import fixed_config
from modeldrop.format.manifest import MODEL
from modeldrop.format.tasks import BESIDE_METRICS, GENERIC
from modeldrop.format.variants import VariantSpec

_GOLDEN = 4


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose source was looked at: it can be built for this task.

    Attributes:
        request: what is to be built.
        task: the Hub's name of what the model is to do.
        architecture: the class the checkpoint was saved from.
        samples: what the variants are compared on; () for built-in pictures and recordings.
        golden: indices of the samples whose answers are kept in the manifest.
        problem: what its scores mean; see ``family.problem_of``.
        graphs: the roles of its graphs, the one that runs first in front.
        needed: the files that every runtime needs beside them.
    """

    request: BuildRequest
    task: str
    architecture: str
    samples: tuple[Sample, ...]
    golden: tuple[int, ...]
    problem: str = ""
    graphs: tuple[str, ...] = (MODEL,)
    needed: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """The family of models that are exported and run in the same way."""
        return family_of(self.task)

    @property
    def origin(self) -> VariantSpec:
        """The variant that all others are made of: fp32, except for an OpenVINO source."""
        return origin_of(self.request.source)


def check_request(request: BuildRequest) -> CheckedRequest:
    """Everything that can be refused before slow work.

    Raises:
        SourceError, TaskError: the source cannot be built for the recipe's task.
        RecipeError: a threshold on a metric that this task does not have: a gate that would never close; or inputs
            that this model does not take.
    """
    check_code(request)
    if request.source.framework:
        return _check_generic(request)
    config = request.source.config()
    ready = request.source.worker != "export"
    if not ready:  # a ready graph needs none of what config.json makes transformers load
        _check_loading(config, request)
    modules, ir = request.source.modules(), request.source.openvino_graph()
    # A ready OpenVINO graph is taken without the modules.
    embedder = is_embedder(request.source) if ir is None else modules is not None
    task = choose_task(config, request.recipe.task or request.source.task, embedder=embedder)
    family = family_of(task)
    if ir is not None:
        check_graph(ir, request.source.spec, task, family, config)
        embedder = embeds(ir)  # it is taken without what modules.json would put behind it
    elif embedder and modules is not None:
        settings = request.source.settings
        check_modules(read_modules(modules), settings, read_sentence_config(settings(SENTENCE_CONFIG) or {}).prompts)
    read = () if modules is None else read_modules(modules)
    sparse = is_sparse(read)
    of_words = sparse or is_late(read)  # a number for every word, or a vector for every token: nothing to cut
    if ready and is_static(config):
        raise TaskError(
            "A ready graph of static embeddings is taken as a generic model, or built from its table.",
            'Write task = "generic" in the recipe, or give the folder that has model.safetensors.',
        )
    if not ready:
        _check_kind(config, modules, sparse=sparse)
    if request.recipe.truncate_dim is not None and (ir is not None or not embedder or of_words):
        raise RecipeError(
            "truncate_dim: cuts vectors of embedders that modules.json describes, in graphs that are made here.",
            "Leave truncate_dim out of the recipe.",
        )
    if not ready:
        check_known(config, task, request.exporter, request.recipe.exporter)
    needed = family.needed(config, task)
    check_tokenizer(request.source.spec, request.source.support, needed)
    beside = BESIDE_METRICS.values() if request.source.heads and task == "feature-extraction" else ()
    _check_metrics(request, task, (*family.metrics(config, task, embedder=embedder), *beside))
    check_export(request.recipe, task, ready=ready)
    graphs = request.source.roles or family.roles(config, task)
    check_variants(request, config, task, graphs, origin_of(request.source))
    if request.samples:
        check_samples(request.samples, request.recipe, task, family)
        samples, golden = request.samples, tuple(range(min(_GOLDEN, len(request.samples))))
    else:
        samples, golden = family.built_in(config, task)
    return CheckedRequest(
        request=request,
        task=task,
        architecture=architecture_of(config),
        samples=samples,
        golden=golden,
        problem=problem_of(config, task),
        graphs=graphs,
        needed=needed,
    )


def _check_kind(config: Mapping[str, Any], modules: Sequence[Any] | None, *, sparse: bool) -> None:
    """Refuse a modules.json that is of another kind of model than config.json."""
    if is_static(config) and modules is None:
        raise TaskError(
            "config.json is model2vec's, and there is no modules.json that says how its vectors are made.",
            SAVE_ANEW,
        )
    architecture = architecture_of(config)
    if lists_static(modules or ()) != is_static(config):
        named = ("config.json", "modules.json") if is_static(config) else ("modules.json", "config.json")
        raise TaskError(
            f"{named[0]} describes static embeddings, and {named[1]} does not ({architecture}).",
            SAVE_ANEW,
        )
    if sparse and not architecture.endswith("ForMaskedLM"):
        raise TaskError(
            f"modules.json describes a sparse encoder (SPLADE), and config.json a model that scores no words: "
            f"{architecture}.",
            "Give the checkpoint with its head for masked words, as SparseEncoder.save_pretrained writes it.",
        )


def _check_generic(request: BuildRequest) -> CheckedRequest:
    """The same of a generic model, of which nothing is known but its files' names."""
    source, recipe, family = request.source, request.recipe, family_of(GENERIC)
    if recipe.task not in {None, GENERIC}:
        raise TaskError(
            f"{source.spec} is a generic model: nothing in it says that its task is {recipe.task}.",
            "Leave the task out of the recipe, or build from a checkpoint or graphs with their config.json.",
        )
    _check_metrics(request, GENERIC, family.measured)
    check_export(recipe, GENERIC, ready=source.framework == ONNX)
    origin = origin_of(source)
    check_variants(request, {}, GENERIC, source.roles, origin)
    return CheckedRequest(
        request=request, task=GENERIC, architecture=source.framework, samples=(), golden=(), graphs=source.roles
    )


def _check_metrics(request: BuildRequest, task: str, metrics: Sequence[str]) -> None:
    for variant, limits in request.recipe.thresholds.items():
        for metric in limits:
            if metric not in metrics:
                raise RecipeError(
                    f"thresholds.{variant}.{metric}: this model's task, {task}, has no such metric.",
                    f"Its metrics are: {', '.join(metrics)}.",
                )


def _check_loading(config: Mapping[str, Any], request: BuildRequest) -> None:
    check_config(config)
    if request.exporter == OPTIMUM.name:
        fixed_config(config)  # transformers 5 reads it as it is
    _check_code(config, request)


def _check_code(config: Mapping[str, Any], request: BuildRequest) -> None:
    """Refuse a model that is Python code, before its weights are downloaded.

    Some checkpoints name code of their own though transformers has learnt the kind meanwhile; where its folder is not
    there to look into, loading decides.
    """
    library = importlib.util.find_spec("transformers")
    if request.recipe.trust_remote_code or not config.get("auto_map"):
        return
    kind = str(config.get("model_type", ""))
    if request.exporter != OPTIMUM.name:
        known = kind in OF_TRANSFORMERS
    elif library is None or library.origin is None:
        return
    else:
        folder = kind.replace("-", "_")
        known = bool(folder) and (Path(library.origin).parent / "models" / folder).is_dir()
    if not known:
        source = request.source
        graph = f"Its ready graph needs none of that code: {source.spec}#{source.graph_beside}. Else: "
        raise SourceError(CUSTOM_CODE.sentence, (graph if source.graph_beside else "") + CUSTOM_CODE.hint)
