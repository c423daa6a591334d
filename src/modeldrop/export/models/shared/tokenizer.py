"""Loading a checkpoint's tokenizer: always in its fast form, which tokenizer.json has, and proven to be the same."""

from __future__ import annotations

from typing import Any

import tokenizers
import torch
import transformers
from transformers.convert_slow_tokenizer import SpmConverter

from modeldrop.errors import SourceError, TaskError
from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared.checkpoint import has_graphs
from modeldrop.util.text import first_line

_UNBOUNDED = 1 << 20
_FILE = "tokenizer.json"
_NEVER = -1e4
"""The score of a piece that no text is cut into."""


def load_tokenizer(checkpoint: Checkpoint, config: Any) -> Any:
    """The fast tokenizer, cutting texts to as many tokens as the model is compared on.

    Raises:
        SourceError: it is missing, has no fast form, or belongs to another model.
        TaskError: the recipe's max_length is more than the model has positions.
    """
    try:
        tokenizer = _fast(_load(checkpoint), checkpoint)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"transformers cannot load the tokenizer: {first_line(error)}",
            "Put tokenizer.json and tokenizer_config.json beside the weights.",
        ) from error
    if len(tokenizer) > config.vocab_size:
        raise SourceError(
            f"The tokenizer has {len(tokenizer)} tokens, the model only {config.vocab_size} embeddings.",
            "The tokenizer belongs to another model: put the right tokenizer.json beside the weights.",
        )
    tokenizer.model_max_length = _max_length(checkpoint, config, tokenizer)
    if checkpoint.read("sentence_bert_config.json").get("do_lower_case"):
        _lower_case(tokenizer.backend_tokenizer)
    return tokenizer


def _load(checkpoint: Checkpoint) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(
            checkpoint.folder,
            use_fast=True,
            local_files_only=True,
            trust_remote_code=checkpoint.trust_remote_code,
        )
    except Exception:
        # Whoever serves a ready graph reads tokenizer.json alone, whatever code config.json names.
        if not has_graphs(checkpoint) or not (checkpoint.folder / _FILE).is_file():
            raise
        return transformers.PreTrainedTokenizerFast.from_pretrained(checkpoint.folder, local_files_only=True)


def _fast(tokenizer: Any, checkpoint: Checkpoint) -> Any:
    """The fast form of a tokenizer: its own, what tokenizer.json beside it has, or one that is made here.

    Raises:
        SourceError: there is none, or one that gives other tokens.
    """
    if tokenizer.is_fast:
        return tokenizer
    path = checkpoint.folder / _FILE
    name = type(tokenizer).__name__
    if path.is_file():
        backend = tokenizers.Tokenizer.from_file(str(path))
    elif isinstance(tokenizer, transformers.MarianTokenizer) and not tokenizer.separate_vocabs:
        backend = _MarianConverter(tokenizer).converted()
    else:
        raise SourceError(
            f"{name} has no fast form, so no tokenizer.json can be written for the runtime.",
            f"Put a {_FILE} that gives the same tokens beside the weights.",
        )
    special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        **{name: token for name, token in special.items() if token is not None},
    )
    other = next((text for text in BUILT_IN if fast(text)["input_ids"] != tokenizer(text)["input_ids"]), None)
    if other is not None:
        made = f"The {_FILE} of the source" if path.is_file() else f"The {_FILE} that is made of {name}"
        raise SourceError(
            f"{made} gives other tokens than {name} for {other[:60]!r}.",
            f"Put a {_FILE} that gives the same tokens beside the weights.",
        )
    return fast


class _MarianConverter(SpmConverter):
    """Marian's tokenizer, which transformers does not convert: pieces of source.spm, numbered by vocab.json.

    vocab.json has the pieces of both languages; no text is cut into those of the target alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.vocab_file = tokenizer.spm_files[0]
        super().__init__(tokenizer)  # type: ignore[no-untyped-call]
        self._ids: dict[str, int] = tokenizer.encoder
        self._special = [tokenizer.unk_token, tokenizer.eos_token, tokenizer.pad_token]

    def tokenizer(self, proto: Any) -> Any:
        if proto.trainer_spec.model_type != proto.trainer_spec.UNIGRAM:
            raise ValueError("source.spm is no Unigram model")
        scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == piece.NORMAL}
        pieces = sorted(self._ids, key=self._ids.__getitem__)
        unknown, *_ = self._special
        vocabulary = [(piece, scores.get(piece, _NEVER)) for piece in pieces]
        made = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, self._ids[unknown], byte_fallback=False))
        languages = [piece for piece in pieces if piece.startswith(">>") and piece.endswith("<<")]
        made.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in languages])
        made.add_special_tokens(self._special)
        return made

    def post_processor(self) -> Any:
        end = self._special[1]
        return tokenizers.processors.TemplateProcessing(
            single=f"$A {end}", pair=f"$A $B {end}", special_tokens=[(end, self._ids[end])]
        )


def _lower_case(tokenizer: Any) -> None:
    """Have a tokenizer lower-case its texts, as sentence-transformers does before it calls a tokenizer that does not.

    Others that load the files know only the tokenizer. Accents stay, which BERT's own lower-casing removes.
    """
    own = tokenizer.normalizer
    lower = tokenizers.normalizers.Lowercase()
    tokenizer.normalizer = lower if own is None else tokenizers.normalizers.Sequence([lower, own])


def limit_to_positions(tokenizer: Any, model: Any, checkpoint: Checkpoint) -> None:
    """Have a tokenizer cut texts to as many tokens as a model that is loaded has positions for.

    Of some kinds config.json says more: their table of positions begins with the padding token's and those before it.

    Raises:
        TaskError: the recipe's max_length is more.
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(module, torch.nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            positions = module.num_embeddings - unused
            if (checkpoint.max_length or 0) > positions:
                raise _too_long(checkpoint.max_length, positions)
            tokenizer.model_max_length = min(tokenizer.model_max_length, positions)


def _too_long(asked: int | None, positions: int) -> TaskError:
    return TaskError(f"max_length is {asked}; this model has {positions} positions.", "Ask for no more.")


def _max_length(checkpoint: Checkpoint, config: Any, tokenizer: Any) -> int:
    """Tokens a text is cut to: the recipe's, else what sentence-transformers, the tokenizer or the model says."""
    positions = getattr(config, "max_position_embeddings", None) or _UNBOUNDED
    if "roberta" in config.model_type or config.model_type in {"mpnet", "camembert"}:
        # Their positions begin after the padding token's.
        positions -= (config.pad_token_id or 0) + 1
    limit = min(positions, tokenizer.model_max_length, _UNBOUNDED)
    if checkpoint.max_length is not None:
        if checkpoint.max_length > positions:
            raise _too_long(checkpoint.max_length, positions)
        return checkpoint.max_length
    return int(min(checkpoint.read("sentence_bert_config.json").get("max_seq_length") or limit, limit))
