"""How versions of what sees and hears are asked, beside transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

from modeldrop.export.models.family import BOXES
from modeldrop.export.models.shared.media import pictures
from modeldrop.fetcher.self_test import self_test
from tests.export.building import Built

VECTORS = ("cosine_mean", "cosine_min", "max_abs", "neighbours")


def passes_its_self_test(built: Built, metric: str) -> None:
    assert (built.output / "manifest.json").stat().st_size < 400_000
    for variant in built.manifest.variants:
        outcome = self_test(built.output, built.manifest, variant)
        assert outcome.passed, outcome.detail
        assert outcome.metric == metric


def session_of(built: Built, variant: str = "fp32") -> onnxruntime.InferenceSession:
    found = built.manifest.variant(variant)
    assert found is not None
    return onnxruntime.InferenceSession(built.output / found.model)


def seen(built: Built, count: int = 3) -> tuple[dict[str, np.ndarray], Any]:
    """A batch of pictures, as the version's own files make it."""
    processor = transformers.AutoImageProcessor.from_pretrained(built.output, use_fast=False)
    batch = processor([picture for _, picture in pictures()][:count], return_tensors="np")
    return {"pixel_values": batch["pixel_values"]}, processor


def check_vectors(built: Built, width: int) -> None:
    """A batch gets the vectors that transformers gives."""
    manifest = built.manifest
    assert manifest.task == "image-feature-extraction"
    assert manifest.embedding is not None
    assert (manifest.embedding.dimension, manifest.labels) == (width, ())
    for variant in manifest.variants:
        assert [tensor.name for tensor in variant.outputs] == ["last_hidden_state", "pooler_output"]
        assert set(variant.fidelity.metrics) == set(VECTORS)
    batch, _ = seen(built)
    mine = session_of(built).run(["pooler_output"], batch)[0]
    with torch.inference_mode():
        its = transformers.AutoModel.from_pretrained(built.source)(torch.tensor(batch["pixel_values"])).pooler_output
    assert np.allclose(mine, its.numpy(), atol=1e-4)


def check_boxes(built: Built) -> None:
    """What is found in pictures of other shapes and batches is what transformers finds."""
    manifest = built.manifest
    assert (manifest.task, len(manifest.labels)) == ("object-detection", 5)
    for variant in manifest.variants:
        assert [tensor.name for tensor in variant.outputs] == ["logits", "pred_boxes"]
        assert set(variant.fidelity.metrics) == set(BOXES)
    fp32 = manifest.variants[0].fidelity.metrics
    assert (fp32["boxes"], fp32["iou"] > 0.999) == (1.0, True)
    processor = transformers.AutoImageProcessor.from_pretrained(built.output, use_fast=False)
    model = transformers.AutoModelForObjectDetection.from_pretrained(built.source).eval()
    session = session_of(built)
    for box in ((0, 0, 320, 160), (0, 0, 160, 320)):
        cut = [picture.crop(box) for _, picture in pictures()][:3]
        batch = processor(cut, return_tensors="pt")
        with torch.inference_mode():
            wanted = model(pixel_values=batch["pixel_values"])
        logits, boxes = session.run(["logits", "pred_boxes"], {"pixel_values": batch["pixel_values"].numpy()})
        its = processor.post_process_object_detection(wanted, threshold=0.1)
        wanted.logits, wanted.pred_boxes = torch.tensor(logits), torch.tensor(boxes)
        mine = processor.post_process_object_detection(wanted, threshold=0.1)
        assert sum(len(one["labels"]) for one in its) > 0
        for one, other in zip(mine, its, strict=True):
            assert one["labels"].tolist() == other["labels"].tolist()
            assert torch.allclose(one["boxes"], other["boxes"], atol=1e-3)
