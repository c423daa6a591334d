"""Rewrite configs, above all those that transformers 5 has saved, so that transformers 4 loads the model as trained.

transformers 4 ignores keys that it does not know: it would use its default rotary positions, or no tokenizer,
without an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modeldrop.errors import SourceError

_FULL, _SLIDING = "full_attention", "sliding_attention"
# Where transformers 4 keeps the bases of layers that see all and of layers that see near; else there is one for all.
_BASES = {
    "modernbert": ("global_rope_theta", "local_rope_theta"),
    "modernbert-decoder": ("global_rope_theta", "local_rope_theta"),
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
}
_NEOX = ("gpt_neox", "gpt_neox_japanese")
_OF_CALLS = {"torchscript", "return_dict"}
"""Entries that have a model answer with a tuple: how it was called where it was trained."""
_PARTS = ("image_processor", "feature_extractor")
_TOKENIZERS_BACKEND = "TokenizersBackend"


def fix_configs(folder: Path, *, ready: bool, by_4: bool) -> None:
    """Rewrite the config and the tokenizer's config in a folder of links to files that belong to somebody else.

    Args:
        folder: the source.
        ready: whether it has ready graphs: nothing is computed from their config, and it stays.
        by_4: whether transformers 4 reads them; for 5, only what says how a model was called is removed.

    Raises:
        SourceError: the config has rotary positions that cannot be written for transformers 4.
    """
    _split_processor(folder)
    if not ready:
        _rewrite(folder / "config.json", fixed_config if by_4 else _without_calls)
    if by_4:
        fix_tokenizer(folder)


def fix_tokenizer(folder: Path) -> None:
    """Rewrite the tokenizer's config in a folder so that transformers 4 and 5 both load it."""
    _rewrite(folder / "tokenizer_config.json", fixed_tokenizer_config)


def _rewrite(path: Path, fix: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    if path.is_file():
        plain = json.loads(path.read_text("utf-8"))
        fixed = fix(plain)
        if fixed != plain:
            path.unlink()  # not through the link
            path.write_text(json.dumps(fixed, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _without_calls(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _OF_CALLS}


def _split_processor(folder: Path) -> None:
    """Write preprocessor_config.json, which transformers 4 and every runtime read, out of processor_config.json.

    transformers 5 keeps the settings of a processor's parts there alone.
    """
    whole, part = folder / "processor_config.json", folder / "preprocessor_config.json"
    if whole.is_file() and not part.exists():
        plain = json.loads(whole.read_text("utf-8"))
        found = next((plain[name] for name in _PARTS if isinstance(plain.get(name), dict)), None)
        if found is not None:
            named = {name: plain[name] for name in ("processor_class",) if name in plain}
            part.write_text(json.dumps(found | named, indent=2) + "\n", "utf-8")


def fixed_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with its ``rope_parameters`` also under the keys that transformers 4 reads, without calls.

    Raises:
        SourceError: this architecture's cannot be written so.
    """
    fixed = _without_calls(config)
    for name, value in config.items():
        if name.endswith("_config") and isinstance(value, dict):
            fixed[name] = fixed_config(value)
    rope, kind = config.get("rope_parameters"), str(config.get("model_type"))
    if not isinstance(rope, dict) or not rope:
        return fixed
    by_layer = all(isinstance(part, dict) for part in rope.values())
    if not by_layer:
        old = _old_names(rope, "rotary_emb_base" if kind in _NEOX else "rope_theta", kind)
    elif kind in _BASES and rope.keys() <= {_FULL, _SLIDING}:
        wide, near = _BASES[kind]
        old = _old_names(rope.get(_FULL, {}), wide, kind)
        old |= {name: value for name, value in _old_names(rope.get(_SLIDING, {}), near, kind).items() if name == near}
    else:
        raise SourceError(
            f"config.json has rope_parameters for {', '.join(sorted(rope))}, as transformers 5 writes them. "
            f"The exporter's transformers 4 has no place for them in a {kind} model, and would answer wrongly "
            "without a word.",
            "Use a revision of the checkpoint that transformers 4 has saved.",
        )
    # Keys of transformers 4 that exist already were written for it, and take precedence.
    return old | fixed


def fixed_tokenizer_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer_config.json that names no class and no kind of list that transformers 4 does not know."""
    fixed = dict(config)
    if fixed.get("tokenizer_class") == _TOKENIZERS_BACKEND:
        fixed["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(fixed.get("extra_special_tokens"), list):
        more = fixed.pop("extra_special_tokens")
        fixed.setdefault("additional_special_tokens", more)
    return fixed


def _old_names(rope: Mapping[str, Any], base: str, kind: str) -> dict[str, Any]:
    rest = dict(rope)
    old = {base: rest.pop("rope_theta")} if "rope_theta" in rest else {}
    if "partial_rotary_factor" in rest:
        old["rotary_pct" if kind in _NEOX else "partial_rotary_factor"] = rest.pop("partial_rotary_factor")
    if rest.get("rope_type", "default") != "default":
        old["rope_scaling"] = rest
    return old
