"""Which exporter makes the graphs of a checkpoint, told from its config.json alone: no library is imported.

optimum stands still at transformers 4.57. What it does not know, and what transformers 5 has saved (4 would have to
read a config that was rewritten for it), is exported by transformers 5 itself, where it is of a kind that was proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.errors import TaskError
from modeldrop.export.environments.exporters import (
    EXPORTERS,
    OPTIMUM,
    TORCH,
    TRANSFORMERS,
    find_exporter,
    own_python,
)
from modeldrop.export.models import architecture_of
from modeldrop.export.models.text_encoders.task import FAMILY as TEXT_ENCODERS
from modeldrop.export.models.vision.task import OF_TRANSFORMERS as PICTURES_OF_TRANSFORMERS
from modeldrop.export.sentence_modules import STATIC, is_static, read_modules
from modeldrop.export.sources import Source
from modeldrop.export.sources.generic import PYTORCH
from modeldrop.format.recipe import AUTO_EXPORTER, Recipe

OF_TRANSFORMERS = frozenset(
    {
        "bert", "deberta-v2", "embedding_gemma2_text", "ernie", "eurobert", "gemma3_text", "gte", "jina_embeddings_v3",
        "lfm2", "modernbert", "modernbert-decoder", "neomme", "nomic_bert", "qwen3", "roberta",
        "roberta-prelayernorm", "roc_bert", "siglip2_text_model", "ultrabert", "xlm-roberta",
    }
)  # fmt: skip
"""The model_types of encoders of texts that transformers 5 was proven to export: built and compared by tests."""

_PICTURES = ("image-feature-extraction", "image-classification")
_BOTH_HEADS = {
    "albert", "bert", "big_bird", "bloom", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "esm", "flaubert", "gpt2", "gpt_bigcode", "ibert", "layoutlm", "layoutlmv3", "lilt",
    "longformer", "markuplm", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mpt", "nystromformer", "qwen2",
    "qwen3_moe", "rembert", "roberta", "roformer", "squeezebert", "xlm", "xlm-roberta",
}  # fmt: skip
OF_OPTIMUM: Mapping[str, frozenset[str]] = {
    "feature-extraction": frozenset(
        {
            *_BOTH_HEADS, "arcee", "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "codegen", "cohere",
            "deepseek_v3", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "gpt_neo", "gpt_neox",
            "gpt_oss", "gptj", "granite", "helium", "llama", "longt5", "m2m_100", "marian", "mbart", "mistral", "mt5",
            "nemotron", "olmo", "olmo2", "opt", "pegasus", "phi", "phi3", "qwen3", "smollm3", "splinter", "stablelm",
            "t5",
        }
    ),
    "text-classification": frozenset(
        {
            *_BOTH_HEADS, "bart", "bigbird_pegasus", "gemma", "gemma2", "gemma3", "gpt_neo", "gpt_neox", "gptj",
            "llama", "mbart", "mistral", "opt", "perceiver", "phi", "phi3", "qwen3", "smollm3",
        }
    ),
    "token-classification": frozenset({*_BOTH_HEADS, "falcon"}),
    "question-answering": frozenset(
        {
            "albert", "bart", "bert", "big_bird", "bigbird_pegasus", "camembert", "convbert", "data2vec-text",
            "deberta", "deberta-v2", "distilbert", "electra", "falcon", "flaubert", "gptj", "ibert", "layoutlmv3",
            "lilt", "longformer", "markuplm", "mbart", "megatron-bert", "mobilebert", "mpnet", "nystromformer", "opt",
            "rembert", "roberta", "roformer", "splinter", "squeezebert", "xlm", "xlm-roberta",
        }
    ),
    "fill-mask": frozenset(
        {
            "albert", "bert", "big_bird", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2",
            "distilbert", "electra", "esm", "flaubert", "ibert", "layoutlm", "longformer", "megatron-bert",
            "mobilebert", "modernbert", "mpnet", "nystromformer", "perceiver", "rembert", "roberta", "roformer",
            "squeezebert", "xlm", "xlm-roberta",
        }
    ),
}  # fmt: skip
"""The model_types of encoders of texts that optimum 0.1 exports, by task."""
OTHERS_OF_OPTIMUM: Mapping[str, frozenset[str]] = {
    "text-generation": frozenset(
        {
            "arcee", "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "bloom", "codegen", "cohere",
            "deepseek_v3", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "gpt2", "gpt_bigcode",
            "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "granite", "helium", "internlm2", "llama", "marian", "mbart",
            "mistral", "mpt", "nemotron", "olmo", "olmo2", "opt", "pegasus", "phi", "phi3", "qwen2", "qwen3",
            "qwen3_moe", "smollm3", "stablelm",
        }
    ),
    "text2text-generation": frozenset(
        {
            "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "longt5", "m2m_100",
            "marian", "mbart", "mt5", "pegasus", "t5",
        }
    ),
    "image-classification": frozenset(
        {
            "beit", "clip", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinov2", "efficientnet",
            "hiera", "imagegpt", "levit", "metaclip_2", "mobilenet_v1", "mobilenet_v2", "mobilevit", "perceiver",
            "poolformer", "pvt", "regnet", "resnet", "segformer", "swin", "swinv2", "vit", "vit_msn",
        }
    ),
}  # fmt: skip
"""The same of models that write, and of classifiers of pictures; of all other tasks, the family knows the kinds."""


def choose_exporter(source: Source, recipe: Recipe) -> str:
    """The exporter of a source: the one that the recipe names, or the one that suits.

    Raises:
        SourceError: the source's config cannot be had.
    """
    if source.framework or source.worker != "export":
        return OPTIMUM.name  # its graphs are there already, or are made by another library
    if recipe.exporter != AUTO_EXPORTER:
        return recipe.exporter
    config = source.config()
    kind = config.get("model_type")
    if kind in PICTURES_OF_TRANSFORMERS:
        return TRANSFORMERS.name
    if kind not in OF_TRANSFORMERS:
        return OPTIMUM.name
    known = OF_OPTIMUM.get(_task(config, recipe, source))
    if known is None:  # it reads no texts, or cannot be built, which is refused when a build is asked for
        return OPTIMUM.name
    return TRANSFORMERS.name if saved_by_5(config) or kind not in known else OPTIMUM.name


def find_interpreter(source: Source, exporter: str) -> str:
    """The interpreter of the environment in which a source is built.

    Args:
        source: it.
        exporter: the exporter that was chosen for it.

    Raises:
        MissingExtraError: there is none; the hint is the command that makes it.
    """
    if source.framework == PYTORCH:
        return find_exporter(TORCH)
    return own_python() if source.framework else find_exporter(EXPORTERS[exporter])


def check_known(config: Mapping[str, Any], task: str, exporter: str, wanted: str) -> None:
    """Refuse an architecture that neither exporter knows, and a task that the wanted one does not do.

    Args:
        config: the checkpoint's config.json.
        task: what it is built for.
        exporter: the exporter that was chosen.
        wanted: what the recipe says.

    Raises:
        TaskError: names the architecture, what was tried, and what is left.
    """
    kind = config.get("model_type")
    if is_static(config):
        return  # a table needs no exporter
    if exporter == TRANSFORMERS.name:
        if task not in {*OF_OPTIMUM, *_PICTURES}:
            raise TaskError(
                f"The exporter transformers makes encoders of texts and pictures, and this {kind} model is built for "
                f"{task}.",
                'Leave exporter out of the recipe, or write exporter = "optimum".',
            )
        return
    if kind in PICTURES_OF_TRANSFORMERS:
        raise TaskError(
            f"optimum does not export a {kind} model ({architecture_of(config)}) for {task}.",
            f'Write exporter = "{TRANSFORMERS.name}" in the recipe, or leave exporter out.',
        )
    known = OF_OPTIMUM.get(task) or OTHERS_OF_OPTIMUM.get(task)
    if known is not None and kind not in known:
        tried = "optimum does not export" if wanted == OPTIMUM.name else "No exporter of this release knows"
        by_5 = task in {*OF_OPTIMUM, *_PICTURES}
        another = f'Write exporter = "{TRANSFORMERS.name}" in the recipe: transformers 5 '
        another += "exports it." if kind in OF_TRANSFORMERS else "may export it, and what comes of it is compared."
        proven = (
            f"{len(OF_TRANSFORMERS)} are proven with transformers 5"
            if by_5
            else "the exporter of transformers 5 makes none"
        )
        raise TaskError(
            f"{tried} a {kind} model ({architecture_of(config)}) for {task}: optimum, with transformers 4.57, exports "
            f"{len(known)} kinds, and {proven}.",
            f"{f'{another} Or export' if by_5 else 'Export'} it with a program that knows it, and give the folder of "
            "ONNX as the source.",
        )


def saved_by_5(config: Mapping[str, Any]) -> bool:
    """Whether transformers 5 has saved a checkpoint."""
    major = str(config.get("transformers_version", "")).partition(".")[0]
    return major.isdecimal() and int(major) >= 5


def is_embedder(source: Source) -> bool:
    """Whether a source is a model of sentence-transformers that answers vectors.

    Raises:
        SourceError: its modules.json cannot be had, or read.
    """
    modules = source.modules()
    if modules is None:
        return False
    read = read_modules(modules)
    # A CrossEncoder's modules.json has the Transformer alone.
    return len(read) > 1 or read[0].kind == STATIC


def _task(config: Mapping[str, Any], recipe: Recipe, source: Source) -> str:
    if recipe.task is not None:
        return recipe.task
    try:
        possible = TEXT_ENCODERS.possible(config, architecture_of(config), embedder=is_embedder(source))
    except TaskError:
        possible = []
    return possible[0] if possible else ""
