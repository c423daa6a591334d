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
            is a reranker's), ``spans`` (by token, how well a span begins and ends there), ``tokens`` (scores of the
            next token: models that write), ``boxes`` (things in a picture) or ``outputs`` (whatever a graph answers,
            by name). It decides the metrics.
        inputs: what people call one input, and several.
        texts: how many texts an input has, at least and at most; beside a picture, they are what may fit it.
        outputs: the outputs of the graph that make up an answer; of embedders one of them, the first that there is.
    """

    family: str
    answers: str
    inputs: tuple[str, str] = ("text", "texts")
    texts: tuple[int, int] = (1, 1)
    outputs: tuple[str, ...] = ("logits",)

    @property
    def has_tokenizer(self) -> bool:
        """Whether its models read or write texts."""
        return self.texts[1] > 0 or self.writes

    @property
    def writes(self) -> bool:
        """Whether its models write, token by token."""
        return self.answers == "tokens"


GENERIC = "generic"
"""The task of graphs that are taken as they are: what they mean is their user's business."""

_PICTURES = ("picture", "pictures")
_RECORDINGS = ("recording", "recordings")
_NO_TEXTS = (0, 0)

TASKS: Mapping[str, Task] = {
    "feature-extraction": Task(
        "text_encoders", "vectors", texts=(1, 2), outputs=("sentence_embedding", "last_hidden_state")
    ),
    "text-classification": Task("text_encoders", "classes", texts=(1, 2)),
    "token-classification": Task("text_encoders", "classes", texts=(1, 2)),
    "question-answering": Task(
        "text_encoders", "spans", ("question", "questions"), (2, 2), outputs=("start_logits", "end_logits")
    ),
    "fill-mask": Task("text_encoders", "classes"),
    "text2text-generation": Task("seq2seq", "tokens"),
    "text-generation": Task("causal", "tokens"),
    "image-classification": Task("vision", "classes", _PICTURES, _NO_TEXTS),
    "image-feature-extraction": Task(
        "vision", "vectors", _PICTURES, _NO_TEXTS, outputs=("pooler_output", "last_hidden_state")
    ),
    "object-detection": Task("vision", "boxes", _PICTURES, _NO_TEXTS, outputs=("logits", "pred_boxes")),
    "zero-shot-image-classification": Task("clip", "classes", _PICTURES, (0, 256), outputs=("logits_per_image",)),
    "automatic-speech-recognition": Task("speech", "tokens", _RECORDINGS, _NO_TEXTS),
    "audio-classification": Task("speech", "classes", _RECORDINGS, _NO_TEXTS),
    GENERIC: Task(GENERIC, "outputs", ("input", "inputs"), _NO_TEXTS, outputs=()),
}
"""Every task of this release, in the order in which a checkpoint's families are looked for."""

MULTI_LABEL, REGRESSION = "multi_label_classification", "regression"
"""What a classifier's scores mean besides labels of which one is true; transformers' names of it (``problem_type``)."""
SPARSE_VECTORS, TOKEN_VECTORS = "sparse_vecs", "colbert_vecs"
"""What bge-m3 answers besides its vectors, by FlagEmbedding's names: a weight for every token, and a vector for every
token but the first."""
BESIDE_METRICS = {SPARSE_VECTORS: "sparse_cosine", TOKEN_VECTORS: "tokens_cosine"}
"""What these are compared by."""
CTC = "ctc"
"""What the scores of a model mean that hears letters, frame by frame: connectionist temporal classification."""

_UNKNOWN = Task("", "vectors")


def task_of(name: str) -> Task:
    """A task's row; for a later release's, whose manifests are read too, that of vectors."""
    return TASKS.get(name, _UNKNOWN)
