"""What bge-m3 has besides its dense vectors, as FlagEmbedding saves it: weights of words, and vectors of tokens."""

from __future__ import annotations

SPARSE_FILE, COLBERT_FILE = "sparse_linear.pt", "colbert_linear.pt"
FILES = (COLBERT_FILE, SPARSE_FILE)
"""The two layers, beside the transformer's weights: pickles of tensors."""
