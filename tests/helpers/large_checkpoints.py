"""Checkpoints as large as the models people deploy: random weights, tokenizers with as many pieces.

Made in a process of their own, so that whoever needs one does not keep its memory:
``python -m tests.helpers.large_checkpoints NAME DIR``.
"""

from __future__ import annotations

import argparse
import itertools
import string
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from modeldrop.export.builtin_texts import BUILT_IN

_XLM_ROBERTA = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_T5 = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def reranker_v2_m3(folder: Path) -> None:
    """A cross-encoder of BAAI/bge-reranker-v2-m3's size: 568 million parameters, 2.27 GB."""
    _reranker(folder, layers=24, width=1024, positions=8194)


def reranker_base(folder: Path) -> None:
    """A cross-encoder of BAAI/bge-reranker-base's size: 278 million parameters, 1.11 GB."""
    _reranker(folder, layers=12, width=768, positions=514)


def flan_t5_small(folder: Path) -> None:
    """An encoder-decoder of google/flan-t5-small's size: 77 million parameters, 308 MB."""
    tokenizer = _save_tokenizer(folder, 32_100, _T5, "$A </s>", None, longest=512)
    config = transformers.T5Config(
        vocab_size=32_128,
        d_model=512,
        d_kv=64,
        d_ff=1024,
        num_layers=8,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)


CHECKPOINTS = {make.__name__: make for make in (reranker_v2_m3, reranker_base, flan_t5_small)}
"""What makes each, by its name."""


def _reranker(folder: Path, *, layers: int, width: int, positions: int) -> None:
    templates = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
    tokenizer = _save_tokenizer(folder, 250_002, _XLM_ROBERTA, *templates, longest=positions - 2)
    config = transformers.XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=positions,
        type_vocab_size=1,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    transformers.XLMRobertaForSequenceClassification(config).save_pretrained(folder)


def _save_tokenizer(
    folder: Path, size: int, special: dict[str, str], template: str, pair: str | None, *, longest: int
) -> Any:
    """A Unigram tokenizer of ``size`` pieces: letters and words of the built-in texts, then words nobody writes."""
    words = Counter(f"\u2581{word}" for text in BUILT_IN for word in text.split())
    letters = sorted(set("".join(words)))
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    scores = dict.fromkeys(special.values(), 0.0) | dict.fromkeys(letters, -10.0)
    scores |= {word: -5.0 - rank / 1000 for rank, word in enumerate(frequent)}
    for word in map("".join, itertools.product(string.ascii_lowercase, repeat=4)):
        if len(scores) == size:
            break
        scores.setdefault(f"\u2581{word}", -12.0)
    backend = Tokenizer(models.Unigram(list(scores.items()), list(scores).index(special["unk_token"]), False))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    used = [(token, backend.token_to_id(token)) for token in special.values() if token in f"{template} {pair}"]
    backend.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=used)
    kind = transformers.XLMRobertaTokenizerFast if pair else transformers.T5TokenizerFast
    options = {} if pair else {"extra_ids": 0}
    tokenizer = kind(tokenizer_object=backend, model_max_length=longest, **special, **options)
    tokenizer.save_pretrained(folder)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.helpers.large_checkpoints", description=__doc__)
    parser.add_argument("name", choices=CHECKPOINTS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    CHECKPOINTS[arguments.name](arguments.folder)


if __name__ == "__main__":
    main()
