"""A cross-encoder that is really trained, in seconds: random weights prove only that a reranker can be built.

It is MiniLM with a new head, all six layers trained. What it learns is graded, so that the order of thirty passages
means something to the last: the cosines of MiniLM as it is, the embedder, and more for what belongs to the question.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import transformers

from modeldrop.export.builtin_texts import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_EACH = 10
# Thirty passages: ten sentences of each of the three long texts, which are about bread, a lighthouse and antibiotics.
_TOPICS = tuple(
    sorted((sentence for sentence in re.split(r"(?<=\.) ", text) if len(sentence) > 40), key=len)[:_EACH]
    for text in sorted(BUILT_IN, key=len)[-3:]
)
PASSAGES = tuple(passage for topic in _TOPICS for passage in topic)
"""What is put in order."""

TAUGHT: dict[str, int] = {
    question: topic
    for topic, questions in enumerate(
        (
            (
                "How do I bake bread with a crisp crust?",
                "What do I feed a sourdough starter?",
                "How much water and flour are needed for one loaf?",
                "Why does my starter smell of old cheese?",
                "How long must dough rest in the refrigerator?",
                "When can I cut the loaf?",
                "How often should the dough be folded?",
                "What lives in a sourdough starter?",
                "How hot should the oven be for bread?",
                "My starter stopped bubbling, should I give up?",
            ),
            (
                "Who bought the old lighthouse?",
                "Is it possible to stay overnight at the lighthouse?",
                "How was the lighthouse kept running before it was sold?",
                "Did the storm damage the building?",
                "What have visitors written into the logbook?",
                "Who owns the light today?",
                "Why did they have to call the harbour authority?",
                "Where did the new owners grow up?",
                "Is there fresh water on the island?",
                "What did hotel chains offer at the auction?",
            ),
            (
                "Why do antibiotics stop working?",
                "How do bacteria pass on resistance to each other?",
                "How old are resistance genes?",
                "Why do companies develop so few new antibiotics?",
                "How can hospitals prevent infections?",
                "Which operations become dangerous without antibiotics?",
                "Should doctors prescribe fewer antibiotics?",
                "How do governments pay for new medicines?",
                "Do farms and factories make resistance worse?",
                "Does washing hands help against superbugs?",
            ),
        )
    )
    for question in questions
}
"""The questions it learns, and the topic of each."""

UNSEEN: dict[str, int] = {
    question: topic
    for topic, questions in enumerate(
        (
            (
                "What temperature does the yeast need?",
                "How do I know that the loaf is done?",
            ),
            (
                "Tell me about the retired teacher and her brother",
                "How often did the technician visit the tower?",
            ),
            (
                "Can soap and vaccines replace drugs?",
                "bacteria in ancient ice",
            ),
        )
    )
    for question in questions
}
"""Questions that it never sees, and the topic of each."""

_BELONGS = 0.5  # beside cosines, which go from -0.1 to 0.8
_STEPS, _BATCH, _RATE = 120, 16, 2e-4
_ALIKE = 5  # batches that share pairs out among them by length
_LONGEST = 64


def belonging(topic: int) -> set[int]:
    """Indices of the ten passages of a topic."""
    return set(range(_EACH * topic, _EACH * (topic + 1)))


def train_reranker(minilm: Path, folder: Path) -> Path:
    """Train from the weights in ``minilm``, and save a checkpoint as transformers' Trainer does, in ``folder``."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    with _one_way():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=1)
        wanted = _wanted(model, tokenizer)
        pairs = [(row, column) for row in range(len(wanted)) for column in range(len(PASSAGES))]
        questions = list(TAUGHT)
        # Words keep their meaning: there is too little to learn new ones from.
        model.bert.embeddings.requires_grad_(requires_grad=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS, pct_start=0.2)
        model.train()
        for indices in _batches([len(question) + len(passage) for question in questions for passage in PASSAGES]):
            rows, columns = zip(*(pairs[index] for index in indices), strict=True)
            inputs = _encode(tokenizer, [questions[row] for row in rows], [PASSAGES[column] for column in columns])
            loss = (model(**inputs).logits[:, 0] - wanted[rows, columns]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Random indices; of one length, more or less, so that little is computed for padding."""
    epochs = 1 + _STEPS * _BATCH // len(lengths)
    order = torch.cat([torch.randperm(len(lengths)) for _ in range(epochs)])[: _STEPS * _BATCH].tolist()
    for begin in range(0, len(order), _ALIKE * _BATCH):
        alike = sorted(order[begin : begin + _ALIKE * _BATCH], key=lengths.__getitem__)
        for start in range(0, len(alike), _BATCH):
            yield alike[start : start + _BATCH]


@contextmanager
def _one_way() -> Iterator[None]:
    """The same numbers with any number of cores: one thread, and random numbers that begin anew."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)


def _wanted(model: Any, tokenizer: Any) -> torch.Tensor:
    """The scores to learn: [questions, passages], of mean 0 and deviation 1."""
    model.eval()
    belongs = torch.zeros(len(TAUGHT), len(PASSAGES))
    for row, topic in enumerate(TAUGHT.values()):
        belongs[row, sorted(belonging(topic))] = _BELONGS
    with torch.no_grad():
        wanted = _embed(model, tokenizer, list(TAUGHT)) @ _embed(model, tokenizer, PASSAGES).T + belongs
    return (wanted - wanted.mean()) / wanted.std()


def _embed(model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    inputs = _encode(tokenizer, texts)
    mask = inputs["attention_mask"][..., None]
    hidden = model.bert(**inputs).last_hidden_state
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def _encode(tokenizer: Any, *texts: Sequence[str]) -> Any:
    return tokenizer(*map(list, texts), padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
