"""The families of models, one module each, with the names of those in ``build/tasks``."""

from __future__ import annotations

from modeldrop.export.tasks import family_of
from modeldrop.export.workers.checkpoint import Checkpoint
from modeldrop.export.workers.families.causal import CausalModel
from modeldrop.export.workers.families.clip import ClipModel
from modeldrop.export.workers.families.interface import Family
from modeldrop.export.workers.families.seq2seq import Seq2SeqModel
from modeldrop.export.workers.families.speech import SpeechRecognizer
from modeldrop.export.workers.families.text_encoders import TextEncoder
from modeldrop.export.workers.families.vision import ImageClassifier

_FAMILIES: dict[str, type[Family]] = {
    "text_encoders": TextEncoder,
    "seq2seq": Seq2SeqModel,
    "causal": CausalModel,
    "vision": ImageClassifier,
    "clip": ClipModel,
    "speech": SpeechRecognizer,
}


def load(checkpoint: Checkpoint) -> Family:
    """Load a checkpoint for its task."""
    return _FAMILIES[family_of(checkpoint.task).name](checkpoint)
