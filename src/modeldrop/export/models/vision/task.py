"""Models of pictures for the process that builds: what config.json says.

Classifiers (ViT, Swin, ConvNeXT, ResNet), embedders (DINOv2) and detectors (DETR).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import BOXES, Family, class_metrics

_EMBEDDERS = frozenset(
    {
        "beit", "clip_vision_model", "convnext", "convnextv2", "data2vec-vision", "deit", "dinov2", "efficientnet",
        "hiera", "mobilenet_v1", "mobilenet_v2", "mobilevit", "poolformer", "regnet", "resnet", "siglip_vision_model",
        "swin", "swinv2", "vit", "vit_msn",
    }
)  # fmt: skip
"""The model_types whose bodies turn a picture into vectors, and that optimum exports so."""
OF_TRANSFORMERS = frozenset({"dinov2_with_registers", "dinov3_vit"})
"""Those that optimum does not know, and that transformers 5 was proven to export: built and compared by tests."""
_DETECTORS = frozenset({"d_fine", "detr", "rt_detr", "rt_detr_v2", "table-transformer", "yolos"})
"""The model_types of detectors that optimum exports."""


class Vision(Family):
    """One graph that turns pictures into scores, vectors, or boxes with scores."""

    name = "vision"
    input_kind = "image"
    openvino_inputs = (frozenset({"pixel_values"}), frozenset())

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        kind = config.get("model_type")
        if architecture.endswith("ForObjectDetection"):
            return ["object-detection"] if kind in _DETECTORS else []
        tasks = ["image-classification"] if architecture.endswith("ForImageClassification") else []
        if kind in _EMBEDDERS | OF_TRANSFORMERS and architecture.endswith(("Model", "ForImageClassification")):
            tasks.append("image-feature-extraction")
        return tasks

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        if task == "object-detection":
            return BOXES
        if task == "image-feature-extraction":
            return ("cosine_mean", "cosine_min", "max_abs", "neighbours")
        return class_metrics(config, task)


FAMILY = Vision()
