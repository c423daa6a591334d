"""genai_config.json: how onnxruntime-genai runs a language model's graph.

Source: onnxruntime-genai's documentation of its config, and ``config.cpp``. With it at its top a version's folder is
opened by ``onnxruntime_genai.Model``; without it that takes manifest.json for a description of its own kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modeldrop.format.variants import FP32

GENAI_CONFIG = "genai_config.json"
_ANY_DECODER = "decoder"
"""The kind of model whose graph takes what it is given here, whatever its architecture."""


def genai_config(
    config: Any, generation: Mapping[str, Any], inputs: Sequence[str], cache: Sequence[Sequence[int]], context: int
) -> dict[str, Any]:
    """The content of the file.

    Args:
        config: the model's config, as transformers loads it.
        generation: its generation_config.json; {} where it has none.
        inputs: names of the graph's inputs.
        cache: the shapes of those that are its past, of keys and values in turn: [batch, heads, length, width].
        context: how many tokens the model sees at most.
    """
    tokens = {
        name: generation.get(name, getattr(config, name, None))
        for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    ends = tokens["eos_token_id"]
    if tokens["pad_token_id"] is None:
        tokens["pad_token_id"] = ends[0] if isinstance(ends, list) else ends
    _, heads, _, width = cache[0]
    return {
        "model": {
            "type": _ANY_DECODER,
            "context_length": context,
            "vocab_size": config.vocab_size,
            **{name: value for name, value in tokens.items() if value is not None},
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": FP32.path("model"),
                "head_size": width,
                "hidden_size": config.hidden_size,
                "num_attention_heads": config.num_attention_heads,
                "num_hidden_layers": len(cache) // 2,
                "num_key_value_heads": heads,
                "inputs": {
                    **{name: name for name in ("input_ids", "attention_mask", "position_ids") if name in inputs},
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        # One token after the other, the likeliest, unless the caller asks for more.
        "search": {"do_sample": False, "max_length": context, "num_beams": 1, "past_present_share_buffer": False},
    }
