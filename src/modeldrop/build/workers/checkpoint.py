"""Loading a checkpoint folder: model and tokenizer, refusing what would answer differently than it was trained to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from modeldrop.errors import SourceError, TaskError

_UNBOUNDED = 1 << 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder of weights, and how it may be loaded.

    Attributes:
        folder: where it is.
        task: what it is to do, by the Hub's name.
        max_length: tokens a text is cut to, or None for the model's own limit.
        allow_pickle: whether pickles may be loaded.
        trust_remote_code: whether its own Python code may run.
    """

    folder: Path
    task: str
    max_length: int | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False

    def read(self, name: str) -> Mapping[str, Any]:
        """One of its JSON files; {} where there is none."""
        path = self.folder / name
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def load_model(checkpoint: Checkpoint, kind: Any, *, may_lack: str = "") -> Any:
    """The model in fp32, ready to answer.

    Args:
        checkpoint: where it is.
        kind: the transformers class that loads it, such as ``AutoModel``.
        may_lack: a part of the names of weights that are not used and so may be made up.

    Raises:
        SourceError: it does not load, lacks weights, or holds NaN or infinity.
    """
    try:
        model, info = kind.from_pretrained(
            checkpoint.folder,
            output_loading_info=True,
            use_safetensors=None if checkpoint.allow_pickle else True,
            trust_remote_code=checkpoint.trust_remote_code,
            local_files_only=True,
            dtype=torch.float32,
        )
    except Exception as error:
        raise SourceError(f"transformers cannot load the checkpoint: {first_line(error)}") from error
    missing = [name for name in info["missing_keys"] if not may_lack or may_lack not in f".{name}"]
    if missing:
        raise SourceError(
            f"The checkpoint lacks {len(missing)} weights that {type(model).__name__} needs, "
            f"such as {min(missing)}: they would be made up at random.",
            "Use a checkpoint that was trained for this task, or name another task.",
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SourceError(f"The weight {name} holds NaN or infinity.", "Check the training run that saved it.")
    return model.eval()


def load_tokenizer(checkpoint: Checkpoint, config: Any) -> Any:
    """The fast tokenizer, cutting texts to as many tokens as the model is proven on.

    Raises:
        SourceError: it is missing, has no fast form, or belongs to another model.
        TaskError: more tokens are asked for than the model has positions.
    """
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            checkpoint.folder,
            use_fast=True,
            local_files_only=True,
            trust_remote_code=checkpoint.trust_remote_code,
        )
    except Exception as error:
        raise SourceError(
            f"transformers cannot load the tokenizer: {first_line(error)}",
            "Put tokenizer.json and tokenizer_config.json beside the weights.",
        ) from error
    if not tokenizer.is_fast:
        raise SourceError(
            f"{type(tokenizer).__name__} has no fast form, so no tokenizer.json can be written for the runtime.",
            "Convert it with transformers, and put tokenizer.json beside the weights.",
        )
    if len(tokenizer) > config.vocab_size:
        raise SourceError(
            f"The tokenizer has {len(tokenizer)} tokens, the model only {config.vocab_size} embeddings.",
            "The tokenizer belongs to another model: put the right tokenizer.json beside the weights.",
        )
    tokenizer.model_max_length = _max_length(checkpoint, config, tokenizer)
    return tokenizer


def _max_length(checkpoint: Checkpoint, config: Any, tokenizer: Any) -> int:
    """Tokens a text is cut to: as asked, else what sentence-transformers, the tokenizer or the model says."""
    positions = getattr(config, "max_position_embeddings", None) or _UNBOUNDED
    if "roberta" in config.model_type or config.model_type in {"mpnet", "camembert"}:
        # Their positions begin after the padding token's.
        positions -= (config.pad_token_id or 0) + 1
    limit = min(positions, tokenizer.model_max_length, _UNBOUNDED)
    if checkpoint.max_length is not None:
        if checkpoint.max_length > positions:
            raise TaskError(
                f"max_length is {checkpoint.max_length}; this model has {positions} positions.", "Ask for no more."
            )
        return checkpoint.max_length
    return int(min(checkpoint.read("sentence_bert_config.json").get("max_seq_length") or limit, limit))


def first_line(error: BaseException) -> str:
    """What a library says went wrong, cut to what a sentence bears."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
