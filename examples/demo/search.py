"""Semantic search on a fetched model, with onnxruntime and tokenizers alone."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

import modeldrop

SENTENCES = [
    "The invoice is due within thirty days of delivery.",
    "Whisk the eggs with sugar until the mixture turns pale.",
    "Restart the router and wait until the green light is steady.",
    "The comet will be visible to the naked eye until Thursday.",
    "Employees may carry over five days of unused leave.",
    "The bridge is closed to lorries over seven tonnes.",
]
QUERIES = ["my internet connection is down", "how do I bake a cake", "when do I have to pay"]


def main() -> None:
    """Fetch (it is there already), embed, compare."""
    snapshot = modeldrop.fetch("./models/embedder", "./home")
    tokenizer = Tokenizer.from_file(str(snapshot.path / "tokenizer.json"))
    session = onnxruntime.InferenceSession(snapshot.model_file)

    def embed(texts: list[str]) -> np.ndarray:
        encodings = tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings]),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
            "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        }
        return session.run(["sentence_embedding"], inputs)[0]

    scores = embed(QUERIES) @ embed(SENTENCES).T
    for query, row in zip(QUERIES, scores, strict=True):
        best = int(row.argmax())
        print(f"  {query:<31} → {SENTENCES[best]} ({row[best]:.2f})")
    heavy = {"torch", "transformers", "optimum"} & set(sys.modules)
    print(f"  v{snapshot.version} {snapshot.variant}; heavy libraries loaded: {', '.join(sorted(heavy)) or 'none'}")


if __name__ == "__main__":
    main()
