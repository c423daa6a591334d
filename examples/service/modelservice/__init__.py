"""A service that embeds, reranks and classifies with models that modeldrop fetches. Copy it, and change it."""

import os

# From 1.29 on onnxruntime tells Microsoft of every model that it opens, unless this is there before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
