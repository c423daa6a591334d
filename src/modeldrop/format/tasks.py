"""The tasks that models are built for: one table, by the names that the Hugging Face Hub gives them.

A new task is a row here; one of a new family of models also a folder in ``export/models``.
"""

from __future__ import annotations

from collections.abc import Mapping

from modeldrop.util.named_tuples import NamedTuple


class Task(NamedTuple):
    """What is known of a task without a model.

    Attributes:
        family: the folder in ``export/models`` of the models that do it.
        answers: what their answers mean: ``vectors`` (of texts or tokens), ``classes`` (scores of labels; a single one
            is a reranker's), ``tokens`` (scores of the next token: models that write) or ``outputs`` (whatever a graph
            answers, by name). It decides the metrics.
        inputs: what people call one input, and several.
    """

    family: str
    answers: str
    inputs: tuple[str, str] = ("text", "texts")

    @property
    def writes(self) -> bool:
        """Whether its models write, token by token."""
        return self.answers == "tokens"


GENERIC = "generic"
"""The task of graphs that are taken as they are: what they mean is their user's business."""

_PICTURES = ("picture", "pictures")

TASKS: Mapping[str, Task] = {
    "feature-extraction": Task("text_encoders", "vectors"),
    "text-classification": Task("text_encoders", "classes"),
    "token-classification": Task("text_encoders", "classes"),
    "text2text-generation": Task("seq2seq", "tokens"),
    "text-generation": Task("causal", "tokens"),
    "image-classification": Task("vision", "classes", _PICTURES),
    "zero-shot-image-classification": Task("clip", "classes", _PICTURES),
    "automatic-speech-recognition": Task("speech", "tokens", ("recording", "recordings")),
    GENERIC: Task(GENERIC, "outputs", ("input", "inputs")),
}
"""Every task of this release, in the order in which a checkpoint's families are looked for."""

MULTI_LABEL, REGRESSION = "multi_label_classification", "regression"
"""What a classifier's scores mean besides labels of which one is true; transformers' names of it (``problem_type``)."""

_UNKNOWN = Task("", "vectors")


def task_of(name: str) -> Task:
    """A task's row; for a later release's, whose manifests are read too, that of vectors."""
    return TASKS.get(name, _UNKNOWN)
