"""Models that compare pictures with texts (CLIP, SigLIP) for the process that builds: what config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.export.models.family import CLASSES, Family

_MODELS = ("CLIPModel", "SiglipModel")


class Clip(Family):
    """One graph that takes pictures and texts; compared on which of a few texts fits a picture."""

    name = "clip"
    measured = (*CLASSES, "top5")
    input_kind = "image"

    def possible(self, config: Mapping[str, Any], architecture: str, *, embedder: bool) -> list[str]:
        both = "vision_config" in config and "text_config" in config
        return ["zero-shot-image-classification"] if both and architecture in _MODELS else []


FAMILY = Clip()
