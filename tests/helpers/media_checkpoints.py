"""Small checkpoints of what sees and hears: random weights, the processors that go with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
import transformers

from tests.helpers.checkpoints import HIDDEN, save_byte_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

_LAYERS = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2}
_SIZE = {"height": 64, "width": 64}
RATE = 16_000
"""Samples per second that they hear."""
_PLACES = 8 * 8 + 4 * 4 + 2 * 2
"""All places of such a picture: which of them are the best few, rounding would decide where the weights are random."""
LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
_DETR: dict[str, Any] = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "d_model": HIDDEN,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": HIDDEN,
    "decoder_ffn_dim": HIDDEN,
    "num_queries": 12,
    "num_labels": 5,
    "init_std": 0.2,
}
_RT_DETR: dict[str, Any] = {
    "encoder_in_channels": [32, 32, 32],
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": HIDDEN,
    "encoder_attention_heads": 4,
    "d_model": 32,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": HIDDEN,
    "decoder_layers": 2,
    "decoder_in_channels": [32, 32, 32],
    "num_queries": _PLACES,
    "num_denoising": 0,
    "num_labels": 5,
}
"""Of RT-DETR and D-FINE; those above of DETR and Table Transformer."""


def dinov2(folder: Path, *, seed: int = 0) -> Path:
    """An embedder of pictures as DINOv2: its vector is the first of its hidden states."""
    torch.manual_seed(seed)
    config = transformers.Dinov2Config(**_LAYERS, mlp_ratio=2, image_size=70, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(folder)
    transformers.BitImageProcessor(size={"shortest_edge": 70}, crop_size={"height": 70, "width": 70}).save_pretrained(
        folder
    )
    return folder


def siglip_vision(folder: Path, *, seed: int = 0) -> Path:
    """The part of SigLIP that sees, whose vector attention makes of the hidden states."""
    torch.manual_seed(seed)
    sizes = {name: value for name, value in _LAYERS.items() if name != "initializer_range"}
    config = transformers.SiglipVisionConfig(**sizes, intermediate_size=128, image_size=64, patch_size=16)
    transformers.SiglipVisionModel(config).save_pretrained(folder)
    transformers.SiglipImageProcessor(size=_SIZE).save_pretrained(folder)
    return folder


def siglip(folder: Path, *, seed: int = 0) -> Path:
    """A model that compares pictures with texts, which are padded to the longest that it reads."""
    torch.manual_seed(seed)
    special = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    tokenizer = save_byte_tokenizer(folder, special, "$A </s>", longest=64)
    sizes = {"hidden_size": HIDDEN, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = sizes | {"vocab_size": len(tokenizer), "projection_size": HIDDEN, "max_position_embeddings": 64}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    vision = sizes | {"image_size": 64, "patch_size": 16}
    config = transformers.SiglipConfig(text_config=text | ends, vision_config=vision)
    transformers.SiglipModel(config).save_pretrained(folder)
    transformers.SiglipImageProcessor(size=_SIZE).save_pretrained(folder)
    return folder


def resnet_body(folder: Path, *, seed: int = 0) -> Path:
    """Convolutions without a head: their vector is the mean over places."""
    torch.manual_seed(seed)
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=1.0).save_pretrained(folder)
    return folder


def yolos(folder: Path, *, seed: int = 0) -> Path:
    """A detector that sees pictures of any shape."""
    torch.manual_seed(seed)
    config = transformers.YolosConfig(
        **_LAYERS, intermediate_size=128, image_size=[64, 96], patch_size=16, num_detection_tokens=12, num_labels=5
    )
    transformers.YolosForObjectDetection(config).save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 128}
    transformers.YolosImageProcessor(size=size).save_pretrained(folder)
    return folder


def detr(folder: Path, *, seed: int = 0) -> Path:
    """A detector of convolutions and a decoder."""
    torch.manual_seed(seed)
    config = transformers.DetrConfig(backbone_config=_backbone(transformers.ResNetConfig, "stage4"), **_DETR)
    transformers.DetrForObjectDetection(config).save_pretrained(folder)
    transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)
    return folder


def rt_detr(folder: Path, *, seed: int = 0) -> Path:
    """A detector that chooses places in the picture first, and scores every label by itself."""
    torch.manual_seed(seed)
    config = transformers.RTDetrConfig(
        backbone_config=_backbone(transformers.RTDetrResNetConfig, "stage2", "stage3", "stage4"),
        **_RT_DETR,
    )
    model = transformers.RTDetrForObjectDetection(config)
    _tell_places_apart(model)
    model.save_pretrained(folder)
    transformers.RTDetrImageProcessor(size=_SIZE).save_pretrained(folder)
    return folder


def _backbone(kind: Any, *stages: str) -> Any:
    return kind(
        embedding_size=16,
        hidden_sizes=[16, 32, 32, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=list(stages),
    )


def wav2vec2(folder: Path, head: str = "Wav2Vec2ForCTC", *, labels: int = 4, seed: int = 0) -> Path:
    """A model that hears letters, or with another head classifies sounds."""
    torch.manual_seed(seed)
    config = transformers.Wav2Vec2Config(
        **_LAYERS,
        intermediate_size=128,
        vocab_size=len(LETTERS),
        pad_token_id=0,
        conv_dim=[32] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=32,
        num_labels=labels,
    )
    getattr(transformers, head)(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    if head.endswith("CTC"):
        vocabulary = folder / "letters.json"
        vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(LETTERS)}))
        transformers.Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
        vocabulary.unlink()
    return folder


def hubert(folder: Path, *, seed: int = 0) -> Path:
    """Another model that hears letters, whose tokenizer and extractor are wav2vec2's."""
    wav2vec2(folder)
    torch.manual_seed(seed)
    config = transformers.HubertConfig(
        **_LAYERS,
        intermediate_size=128,
        vocab_size=len(LETTERS),
        pad_token_id=0,
        conv_dim=[32] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    transformers.HubertForCTC(config).save_pretrained(folder)
    return folder


def audio_spectrogram_transformer(folder: Path, *, labels: int = 4, seed: int = 0) -> Path:
    """A classifier of spectrograms of a fixed length: AST."""
    torch.manual_seed(seed)
    config = transformers.ASTConfig(
        **_LAYERS, intermediate_size=128, patch_size=16, max_length=128, num_mel_bins=64, num_labels=labels
    )
    transformers.ASTForAudioClassification(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=64, max_length=128).save_pretrained(folder)
    return folder


def whisper_classifier(folder: Path, *, labels: int = 4, seed: int = 0) -> Path:
    """Whisper's encoder with labels."""
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        d_model=HIDDEN,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=HIDDEN,
        vocab_size=99,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        max_source_positions=100,
        classifier_proj_size=32,
        num_labels=labels,
        init_std=0.2,
    )
    transformers.WhisperForAudioClassification(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2).save_pretrained(folder)
    return folder


def swin(folder: Path, *, labels: int = 7, seed: int = 0) -> Path:
    """A classifier that looks through shifted windows."""
    torch.manual_seed(seed)
    config = transformers.SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=HIDDEN,
        depths=[1, 1],
        num_heads=[2, 4],
        window_size=4,
        num_labels=labels,
        initializer_range=0.2,
    )
    transformers.SwinForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size=_SIZE).save_pretrained(folder)
    return folder


def clip_vision(folder: Path, *, seed: int = 0) -> Path:
    """The part of CLIP that sees, without what projects its vector."""
    torch.manual_seed(seed)
    config = transformers.CLIPVisionConfig(**_LAYERS, intermediate_size=128, image_size=64, patch_size=16)
    transformers.CLIPVisionModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=_SIZE).save_pretrained(folder)
    return folder


def table_transformer(folder: Path, *, seed: int = 0) -> Path:
    """DETR with its normalizations before the layers, which finds tables."""
    torch.manual_seed(seed)
    config = transformers.TableTransformerConfig(
        backbone_config=_backbone(transformers.ResNetConfig, "stage4"), **_DETR
    )
    transformers.TableTransformerForObjectDetection(config).save_pretrained(folder)
    transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)
    return folder


def d_fine(folder: Path, *, seed: int = 0) -> Path:
    """RT-DETR whose boxes are distributions of where their sides lie."""
    torch.manual_seed(seed)
    config = transformers.DFineConfig(
        backbone_config=transformers.HGNetV2Config(
            embedding_size=16,
            hidden_sizes=[16, 32, 32, 32],
            stem_channels=[3, 8, 16],
            stage_in_channels=[16, 16, 32, 32],
            stage_mid_channels=[8, 8, 8, 8],
            stage_out_channels=[16, 32, 32, 32],
            stage_num_blocks=[1, 1, 1, 1],
            stage_numb_of_layers=[1, 1, 1, 1],
            out_features=["stage2", "stage3", "stage4"],
        ),
        **_RT_DETR,
    )
    model = transformers.DFineForObjectDetection(config)
    _tell_places_apart(model)
    model.save_pretrained(folder)
    transformers.RTDetrImageProcessor(size=_SIZE).save_pretrained(folder)
    return folder


def _tell_places_apart(model: Any) -> None:
    """As weights are made, all places of a picture are alike."""
    for weights in model.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=weights[0].numel() ** -0.5 * 1.4)
