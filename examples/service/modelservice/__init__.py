"""A service that embeds, reranks and classifies with models that modeldrop fetches. Copy it, and change it."""
