"""Small checkpoints of real architectures: random weights, a real tokenizer."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from modeldrop.export.builtin_texts import BUILT_IN
from tests.helpers.rounds import rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

HIDDEN = 64
BERTS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTAS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
ROBERTA_TEMPLATES = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")


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


def save_tokenizer(folder: Path, special: dict[str, str] = BERTS, kind: Any = transformers.BertTokenizerFast) -> Any:
    """A WordPiece tokenizer as BERT's; the same in every run, which one that is trained would not be."""
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in BUILT_IN for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted(set("".join(words)))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*special.values(), *letters, *(f"##{letter}" for letter in letters), *frequent[:300]])
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token=special["unk_token"]))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    templates = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1") if special is BERTS else ROBERTA_TEMPLATES
    backend.post_processor = _template(backend, *templates, special.values())
    tokenizer = kind(tokenizer_object=backend, model_max_length=256, **special)
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


def make_sparse(folder: Path, strategy: str = "max", activation: str = "relu") -> Path:
    """Turn a checkpoint with a head for masked words into a sparse encoder of sentence-transformers."""
    (folder / "1_SpladePooling").mkdir()
    plain = {"pooling_strategy": strategy, "activation_function": activation, "word_embedding_dimension": None}
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(plain))
    own = "sentence_transformers.sparse_encoder.models"
    modules = [("", "MLMTransformer"), ("1_SpladePooling", "SpladePooling")]
    plain_modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"{own}.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(plain_modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "SparseEncoder"}))
    return folder


def make_bge_m3(folder: Path, width: int = 24) -> Path:
    """Turn an encoder into one as bge-m3: as sentence-transformers loads it, and FlagEmbedding's two layers beside."""
    make_embedder(folder, {"pooling_mode_cls_token": True}, dense=False, normalize=True)
    torch.manual_seed(7)
    for name, size in (("sparse_linear.pt", 1), ("colbert_linear.pt", width)):
        layer = torch.nn.Linear(HIDDEN, size)
        torch.save(layer.state_dict(), folder / name)
    return folder


def make_colbert(folder: Path, width: int = 24) -> Path:
    """Turn an encoder into a model of late interaction as PyLate saves it: a vector for every token."""
    (folder / "1_Dense").mkdir()
    plain = {
        "in_features": HIDDEN,
        "out_features": width,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / "1_Dense" / "config.json").write_text(json.dumps(plain))
    torch.manual_seed(7)
    save_file({"linear.weight": torch.randn(width, HIDDEN)}, folder / "1_Dense" / "model.safetensors")
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
    plain_modules = [
        {"idx": index, "name": str(index), "path": path, "type": kind} for index, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(plain_modules))
    prefixes = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 32, "document_length": 180}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prefixes))
    return folder


def static_embedder(folder: Path, *, seed: int = 0) -> Path:
    """A table of vectors as sentence-transformers saves it: in a folder of its own, and no config.json."""
    torch.manual_seed(seed)
    own = folder / "0_StaticEmbedding"
    own.mkdir(parents=True)
    tokenizer = save_tokenizer(own)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (own / name).unlink(missing_ok=True)
    save_file({"embedding.weight": torch.randn(len(tokenizer), HIDDEN)}, own / "model.safetensors")
    modules = [("0_StaticEmbedding", "StaticEmbedding"), ("1_Normalize", "Normalize")]
    plain = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(plain))
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


def qwen(folder: Path, head: str = "Qwen3ForCausalLM", *, seed: int = 0) -> Path:
    """A language model, or as ``Qwen3Model`` an embedder; its tokenizer pads before the text."""
    torch.manual_seed(seed)
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokenizer = save_byte_tokenizer(folder, special, "$A <|im_end|>" if head == "Qwen3Model" else "$A", side="left")
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    getattr(transformers, head)(config).save_pretrained(folder)
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


def mpnet(folder: Path, *, seed: int = 0) -> Path:
    """An encoder as all-mpnet-base-v2's: relative positions, BERT's word pieces between RoBERTa's special tokens."""
    torch.manual_seed(seed)
    tokenizer = save_tokenizer(folder, ROBERTAS, transformers.MPNetTokenizerFast)
    transformers.MPNetModel(transformers.MPNetConfig(**_shape_like_roberta(tokenizer))).save_pretrained(folder)
    return folder


def roberta(folder: Path, head: str = "RobertaForSequenceClassification", *, labels: int = 3, seed: int = 0) -> Path:
    """A classifier as twitter-roberta-base-sentiment's: a byte-level tokenizer, positions after the padding token's."""
    torch.manual_seed(seed)
    special = {name: token for name, token in ROBERTAS.items() if name != "mask_token" or head.endswith("MaskedLM")}
    tokenizer = save_byte_tokenizer(folder, special, *ROBERTA_TEMPLATES)
    names = dict(enumerate(["negative", "neutral", "positive"][:labels]))
    config = transformers.RobertaConfig(
        **_shape_like_roberta(tokenizer), type_vocab_size=1, num_labels=labels, id2label=names
    )
    getattr(transformers, head)(config).save_pretrained(folder)
    return folder


def xlm_roberta(folder: Path, head: str = "XLMRobertaModel", *, labels: int = 1, seed: int = 0) -> Path:
    """An encoder as multilingual MiniLM's, or with a head of one label a reranker as BGE's: pieces of SentencePiece."""
    torch.manual_seed(seed)
    tokenizer = save_piece_tokenizer(folder)
    config = transformers.XLMRobertaConfig(
        **_shape_like_roberta(tokenizer),
        type_vocab_size=1,
        **({"num_labels": labels} if "Classification" in head else {}),
    )
    getattr(transformers, head)(config).save_pretrained(folder)
    return folder


def distilbert(folder: Path, head: str = "DistilBertForSequenceClassification", *, seed: int = 0) -> Path:
    """BERT's smaller pupil, whose graph takes no token types."""
    torch.manual_seed(seed)
    tokenizer = save_tokenizer(folder, kind=transformers.DistilBertTokenizerFast)
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=HIDDEN,
        n_layers=2,
        n_heads=4,
        hidden_dim=128,
        max_position_embeddings=256,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        initializer_range=0.2,
    )
    getattr(transformers, head)(config).save_pretrained(folder)
    return folder


def _shape_like_roberta(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        # The first position is that of the padding token, plus one.
        "max_position_embeddings": 256 + tokenizer.pad_token_id + 1,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.2,
    }


def save_piece_tokenizer(folder: Path) -> Any:
    """A Unigram tokenizer as XLM-R's; its pieces are chosen, not trained, and so the same in every run."""
    words = Counter(f"\u2581{word}" for text in BUILT_IN for word in text.split())
    letters = sorted(set("".join(words)))
    frequent = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))[:300]
    special = [token for name, token in ROBERTAS.items() if name != "mask_token"]
    pieces = [*((token, 0.0) for token in special), *((letter, -10.0) for letter in letters)]
    pieces += [(word, -5.0 - rank / 100) for rank, word in enumerate(frequent)]
    backend = Tokenizer(models.Unigram(pieces, special.index("<unk>"), byte_fallback=False))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.post_processor = _template(backend, *ROBERTA_TEMPLATES, special)
    tokenizer = transformers.XLMRobertaTokenizerFast(tokenizer_object=backend, model_max_length=256)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_pieces(path: Path) -> Path:
    """A model of SentencePiece, trained on the built-in texts."""
    from sentencepiece import SentencePieceTrainer  # one module's tests need it

    path.parent.mkdir(parents=True, exist_ok=True)
    SentencePieceTrainer.train(
        sentence_iterator=iter(BUILT_IN),
        model_prefix=str(path.with_suffix("")),
        vocab_size=900,
        character_coverage=0.99,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    path.with_suffix(".vocab").unlink()
    return path.with_suffix(".model").rename(path)


def marian(folder: Path, *, seed: int = 0) -> Path:
    """A translator as opus-mt-en-de's: pieces of two languages, numbered by one vocab.json, and no tokenizer.json."""
    from sentencepiece import SentencePieceProcessor

    torch.manual_seed(seed)
    source = save_pieces(folder / "source.spm")
    shutil.copy(source, folder / "target.spm")
    reader = SentencePieceProcessor(model_file=str(source))
    pieces = ["</s>", "<unk>", *(reader.id_to_piece(number) for number in range(3, reader.get_piece_size()))]
    pieces += ["\u2581Hafen", ">>deu<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    paths = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    kind: Any = transformers.MarianTokenizer  # typed as what is not there without sentencepiece
    tokenizer = kind(*paths, model_max_length=256)
    tokenizer.save_pretrained(folder)
    config = transformers.MarianConfig(
        vocab_size=len(pieces),
        d_model=HIDDEN,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        init_std=0.2,
    )
    transformers.MarianMTModel(config).save_pretrained(folder)
    return folder


def whisper(folder: Path, *, seed: int = 0) -> Path:
    """A model that writes down what is said in half a minute; in two seconds, where all shall be quick."""
    torch.manual_seed(seed)
    seconds = rounds(2, 30)
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    begin = "<|startoftranscript|>"
    tokenizer = save_byte_tokenizer(folder, special | {"pad_token": begin}, f"{begin} $A <|endoftext|>")
    end = tokenizer.eos_token_id
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=HIDDEN,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=50 * seconds,
        max_target_positions=64,
        decoder_start_token_id=tokenizer.pad_token_id,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        begin_suppress_tokens=None,
        init_std=0.2,
    )
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=seconds).save_pretrained(folder)
    return folder


def _template(backend: Tokenizer, single: str, pair: str | None, special: Iterable[str]) -> Any:
    used = [(token, backend.token_to_id(token)) for token in dict.fromkeys(special) if token in f"{single} {pair}"]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)


def save_byte_tokenizer(
    folder: Path,
    special: dict[str, str],
    template: str,
    pair: str | None = None,
    *,
    longest: int = 256,
    side: str = "right",
) -> Any:
    """A tokenizer of bytes, as GPT-2's and Llama 3's are, without merges; ``template`` is what a text becomes."""
    pieces = [*dict.fromkeys(special.values()), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = _template(backend, template, pair, special.values())
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=longest, padding_side=side, **special
    )
    tokenizer.save_pretrained(folder)
    return tokenizer
