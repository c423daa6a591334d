"""Image classifiers: ViT, DeiT, Swin, ConvNeXT, ResNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import Family, class_metrics


class Vision(Family):
    """One graph that turns pictures into scores."""

    name = "vision"
    needed = ("config.json", "preprocessor_config.json")
    takes_texts = False
    input_kind = "image"
    most_texts = 0
    openvino_inputs = (frozenset({"pixel_values"}), frozenset())

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        return ["image-classification"] if architecture.endswith("ForImageClassification") else []

    def metrics(self, config: Mapping[str, Any], task: str, *, embedder: bool) -> tuple[str, ...]:
        return class_metrics(config, task)


FAMILY = Vision()
