"""Small checkpoints of real architectures: random weights, a real tokenizer."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from modeldrop.build.texts import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HIDDEN = 64


def bert(folder: Path, head: str = "BertModel", *, labels: int = 2, seed: int = 0) -> Path:
    """A two-layer BERT with the named head, its tokenizer beside it."""
    torch.manual_seed(seed)
    tokenizer = save_tokenizer(folder)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=256,
        num_labels=labels,
        initializer_range=0.2,
    )
    getattr(transformers, head)(config).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> Any:
    """A WordPiece tokenizer as BERT's; the same in every run, which one that is trained would not be."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in BUILT_IN for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted(set("".join(words)))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *frequent[:300]])
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    ids = {token: backend.token_to_id(token) for token in special}
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer = transformers.BertTokenizerFast(tokenizer_object=backend, model_max_length=256)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_embedder(folder: Path, pooling: dict[str, Any], *, dense: bool, normalize: bool) -> Path:
    """Turn a checkpoint into a sentence-transformers model."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN} | pooling))
    if dense:
        modules.append(("2_Dense", "Dense"))
        (folder / "2_Dense").mkdir()
        plain = {
            "in_features": HIDDEN,
            "out_features": 24,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        }
        (folder / "2_Dense" / "config.json").write_text(json.dumps(plain))
        torch.manual_seed(7)
        layer = torch.nn.Linear(HIDDEN, 24)
        weights = {"linear.weight": layer.weight.detach(), "linear.bias": layer.bias.detach()}
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    if normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    plain_modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(plain_modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128, "do_lower_case": False}))
    return folder


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """Change a checkpoint's tensors in place."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def t5(folder: Path, *, seed: int = 0) -> Path:
    """A translator as flan-t5 is built: gated feed-forward layers, untied output, relative positions."""
    torch.manual_seed(seed)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = save_byte_tokenizer(folder, special, "$A </s>")
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=HIDDEN,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        initializer_factor=4.0,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def llama(folder: Path, *, seed: int = 0) -> Path:
    """A language model with rotary positions and grouped heads."""
    torch.manual_seed(seed)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = save_byte_tokenizer(folder, special, "<s> $A")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def vit(folder: Path, *, labels: int = 7, seed: int = 0) -> Path:
    """An image classifier with its image processor."""
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=64,
        patch_size=16,
        num_labels=labels,
        initializer_range=0.2,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def clip(folder: Path, *, seed: int = 0) -> Path:
    """A model that compares pictures with texts."""
    torch.manual_seed(seed)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    tokenizer = save_byte_tokenizer(folder, special, "<s> $A </s>", longest=77)
    size = {
        "hidden_size": HIDDEN,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.2,
    }
    text = size | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = size | {"image_size": 64, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    transformers.CLIPModel(config).save_pretrained(folder)
    size_of = {"height": 64, "width": 64}
    transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=size_of).save_pretrained(folder)
    return folder


def save_byte_tokenizer(folder: Path, special: dict[str, str], template: str, *, longest: int = 256) -> Any:
    """A tokenizer of bytes, as GPT-2's and Llama 3's are, without merges; ``template`` is what a text becomes."""
    pieces = [*dict.fromkeys(special.values()), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    added = [(token, backend.token_to_id(token)) for token in dict.fromkeys(special.values()) if token in template]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=added)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=longest, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer
