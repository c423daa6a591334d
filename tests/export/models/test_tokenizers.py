"""Tokenizers that have no tokenizer.json: pieces of SentencePiece, as XLM-R, DeBERTa and Marian were published with."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import tokenizers
import transformers

from modeldrop.errors import SourceError
from modeldrop.export.builtin_texts import BUILT_IN
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared.tokenizer import load_tokenizer
from tests.helpers.checkpoints import HIDDEN, marian, save_pieces
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from pathlib import Path

# transformers recommends packages that make Marian's punctuation plainer, which its tokenizer never does.
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore:Recommended")]

TEXTS = [*BUILT_IN, ">>deu<< the harbour at night", "two  blanks \u2581 and </s> inside"]


def test_deberta_s_pieces(tmp_path: Path) -> None:
    save_pieces(tmp_path / "spm.model")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    config = transformers.DebertaV2Config(vocab_size=2000)
    tokenizer = load_tokenizer(Checkpoint(tmp_path, "feature-extraction"), config)
    slow = transformers.DebertaV2Tokenizer(str(tmp_path / "spm.model"))
    assert tokenizer.is_fast
    assert tokenizer(BUILT_IN[6])["input_ids"] == slow(BUILT_IN[6])["input_ids"]


def test_xlm_roberta_is_built_of_its_pieces_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    slow = transformers.XLMRobertaTokenizer(str(save_pieces(source / "sentencepiece.bpe.model")))
    slow.save_pretrained(source)
    assert not (source / "tokenizer.json").exists()
    config = transformers.XLMRobertaConfig(
        vocab_size=len(slow),
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=258,
        type_vocab_size=1,
    )
    transformers.XLMRobertaModel(config).save_pretrained(source)
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--variants", "fp32")
    assert ran.code == 0, ran.err
    ours = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    for text in BUILT_IN[:10]:
        assert ours.encode(text).ids == slow(text)["input_ids"]


def test_marian_is_built_of_its_pieces(tmp_path: Path) -> None:
    source = marian(tmp_path / "source")
    slow = transformers.AutoTokenizer.from_pretrained(source)
    assert not slow.is_fast
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--variants", "fp32")
    assert ran.code == 0, ran.err
    ours = tokenizers.Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    ours.no_truncation()
    for text in TEXTS:
        assert ours.encode(text).ids == slow(text)["input_ids"], text
    ids = slow(text_target="the harbour at night")["input_ids"]
    assert ours.decode(ids) == slow.decode(ids, skip_special_tokens=True)


def test_a_tokenizer_json_that_gives_other_tokens_is_refused(tmp_path: Path) -> None:
    source = marian(tmp_path / "source")
    config = transformers.AutoConfig.from_pretrained(source)
    checkpoint = Checkpoint(source, "text2text-generation")
    load_tokenizer(checkpoint, config).save_pretrained(tmp_path / "fast")
    whole = tmp_path / "fast/tokenizer.json"
    shutil.copy(whole, source)
    assert load_tokenizer(checkpoint, config).is_fast
    plain = json.loads(whole.read_text("utf-8")) | {"post_processor": None}
    (source / "tokenizer.json").write_text(json.dumps(plain))
    with pytest.raises(SourceError, match=r"The tokenizer.json of the source gives other tokens than MarianTokenizer"):
        load_tokenizer(checkpoint, config)
