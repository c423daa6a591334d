"""A version's files for the tests of transfers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.helpers.builds import PIECE, describe

if TYPE_CHECKING:
    from collections.abc import Mapping


PREFIX = "m/v1"
CONTENTS: Mapping[str, bytes] = {
    "config.json": b"{}\n",
    "empty.txt": b"",
    "odd names/50%25 größe #1 [漢字]~.txt": b"odd\n",
    "onnx/exact.onnx": random.Random(1).randbytes(2 * PIECE),
    "onnx/model.onnx": random.Random(2).randbytes(3 * PIECE + 4321),
}
BIG = "onnx/model.onnx"
FILES = tuple(describe(path, data) for path, data in CONTENTS.items())
SIZE = sum(file.size for file in FILES)
