"""OpenVINO's form of a graph, ``.xml`` with its weights in ``.bin``: made from the ONNX, by openvino and nncf alone."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What keeps transformers from importing these: nncf computes with one of them.
for _name in ("scipy", "sklearn"):
    if sys.modules.get(_name, sys) is None:
        del sys.modules[_name]

import nncf  # noqa: E402
import openvino  # noqa: E402

_INT4_BLOCK = 32


def make(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """See ``interface``.

    Options: ``bits``, 16 (fp16), 8 or 4; ``keep``, names of nodes whose weights stay as they are.
    """
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = openvino.convert_model(source)
    bits = options["bits"]
    if bits < 16:
        kept = nncf.IgnoredScope(patterns=[re.escape(name) for name in options["keep"]], validate=False)
        modes = nncf.CompressWeightsMode
        model = nncf.compress_weights(
            model,
            mode=modes.INT8_ASYM if bits == 8 else modes.INT4_ASYM,
            ignored_scope=kept,
            # Of 4 bits small blocks, and the first and last layers in 8, as nncf has it.
            **({} if bits == 8 else {"group_size": _INT4_BLOCK}),
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, target, compress_to_fp16=bits == 16)
    for path in (target, target.with_suffix(".bin")):
        path.chmod(0o644)
