"""What requests and responses look like."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _is_text(text: str) -> str:
    """JSON can spell half a character (a lone surrogate), which is no text and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_is_text)]
LabelText = Annotated[Text, Field(min_length=1, max_length=100)]
"""Short: a model that writes reads all labels before the text."""


class Request(BaseModel):
    """Base of all requests: a field that is misspelt is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EmbedRequest(Request):
    """Texts to embed."""

    texts: list[Text] = Field(min_length=1)


class RerankRequest(Request):
    """Texts to sort by how well they answer a query; ``top`` keeps only the best."""

    query: Text = Field(min_length=1)
    texts: list[Text] = Field(min_length=1)
    top: int | None = Field(default=None, ge=1)


class ClassifyRequest(Request):
    """Texts to label; ``labels`` to choose from, where the model's own are not meant."""

    texts: list[Text] = Field(min_length=1)
    labels: list[LabelText] | None = Field(default=None, min_length=1, max_length=64)


class ServedBy(BaseModel):
    """Who answered: ``kind`` is ``model``, ``fallback`` (a smaller one) or ``rules``."""

    kind: str
    model: str | None
    version: str | None
    variant: str | None
    generation: int | None


class Response(BaseModel):
    """Base of all responses: who answered, and how many texts were longer than the model reads."""

    served_by: ServedBy
    truncated: int


class EmbedResponse(Response):
    """A vector of length 1 per text. Vectors of different models are not comparable: keep ``served_by`` with them."""

    embeddings: list[list[float]]
    dimensions: int


class Ranked(BaseModel):
    """A text's place in the request, and its score from 0 to 1."""

    index: int
    score: float


class RerankResponse(Response):
    """The best text first."""

    results: list[Ranked]


class Labelled(BaseModel):
    """A text's label, None where none fits; its probability; and what a model that writes has written."""

    label: str | None
    score: float
    text: str | None


class ClassifyResponse(Response):
    """A label per text."""

    results: list[Labelled]
