"""The tokenizer as a graph of OpenVINO, beside its variants, for programs that have nothing but OpenVINO.

It is made by openvino_tokenizers, which knows most of what a tokenizer.json can ask for, and not all (what is a lower
case letter in Greek): it is kept only where it gives the very ids that tokenizer.json gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
import transformers

from modeldrop.export.messages import OpenVinoTokenizer
from modeldrop.util.text import first_line

_FOLDER = "openvino"
_TOKENIZER, _DETOKENIZER = "openvino_tokenizer", "openvino_detokenizer"
_COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask"}
_BATCH = 8
_LIBRARIES = ("openvino", "openvino-tokenizers")


def convert(output: Path, texts: Sequence[str], *, writes: bool) -> OpenVinoTokenizer:
    """Write what answers as the original does.

    Args:
        output: the version's folder, which has a tokenizer.json.
        texts: what it is compared on.
        writes: whether the model writes texts, which takes a detokenizer too.
    """
    try:
        import openvino
        import openvino_tokenizers
    except ImportError:
        return _without("openvino_tokenizers is not installed")
    original = transformers.AutoTokenizer.from_pretrained(output, local_files_only=True)
    try:
        made = openvino_tokenizers.convert_tokenizer(original, with_detokenizer=True, truncation=True)
    except Exception as error:  # noqa: BLE001  it raises whatever it comes upon in a tokenizer that it does not know
        return _without(f"openvino_tokenizers does not know this one: {first_line(error)}")
    tokenizer, detokenizer = made if isinstance(made, tuple) else (made, None)
    core = openvino.Core()
    compiled = core.compile_model(tokenizer, "CPU")
    backend = tokenizers.Tokenizer.from_file(str(output / "tokenizer.json"))
    other = _cut_otherwise(compiled, backend, texts)
    if other is not None:
        return _without(f"it cuts {other[:40]!r} otherwise than tokenizer.json")
    files = _save(openvino, tokenizer, output, _TOKENIZER)
    lacks = ""
    if writes and detokenizer is None:
        lacks = f"{_DETOKENIZER}.xml: openvino_tokenizers does not know how"
    elif writes:
        other = _joined_otherwise(core.compile_model(detokenizer, "CPU"), original, texts)
        if other is None:
            files += _save(openvino, detokenizer, output, _DETOKENIZER)
        else:
            lacks = f"{_DETOKENIZER}.xml: it joins {other[:40]!r} otherwise than the original"
    return OpenVinoTokenizer(tuple(files), lacks, _LIBRARIES)


def _without(why: str) -> OpenVinoTokenizer:
    return OpenVinoTokenizer(lacks=f"{_TOKENIZER}.xml: {why}")


def _save(openvino: Any, model: Any, output: Path, name: str) -> list[str]:
    paths = [f"{_FOLDER}/{name}.xml", f"{_FOLDER}/{name}.bin"]
    (output / _FOLDER).mkdir(exist_ok=True)
    openvino.save_model(model, output / paths[0])
    for path in paths:
        (output / path).chmod(0o644)
    return paths


def _cut_otherwise(compiled: Any, backend: Any, texts: Sequence[str]) -> str | None:
    """The first text that gets other ids, alone or, where there is padding, among others."""
    size = _BATCH if backend.padding else 1
    batches = [[text] for text in texts] + [list(texts[at : at + size]) for at in range(0, len(texts), size)]
    for batch in batches:
        mine, original = compiled(batch), backend.encode_batch(batch)
        for name, column in _COLUMNS.items():
            for row, encoding, text in zip(mine[name].tolist(), original, batch, strict=True):
                if row != getattr(encoding, column):
                    return text
    return None


def _joined_otherwise(compiled: Any, original: Any, texts: Sequence[str]) -> str | None:
    for text in texts:
        ids = original([text], truncation=True, return_tensors="np")["input_ids"]
        if compiled(ids)["string_output"][0] != original.decode(ids[0], skip_special_tokens=True):
            return text
    return None
