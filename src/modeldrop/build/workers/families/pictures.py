"""The built-in pictures that vision models are proven on: drawn by formulas, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modeldrop.selftest.chains import Array

COUNT = 16
_SIDE = 320
_CELLS = 8


def pictures() -> Iterator[tuple[str, Image.Image]]:
    """Names and pictures: smooth landscapes of colour with shapes on them, from plain to busy."""
    y, x = np.mgrid[0 : 1 : _SIDE * 1j, 0 : 1 : _SIDE * 1j]
    for number in range(COUNT):
        random = np.random.default_rng(number)
        waves = random.uniform(-1, 1, (3, 4, 2)) * (1 + number)
        phases = random.uniform(0, 2 * np.pi, (3, 4))
        canvas = np.stack(
            [
                sum(np.sin(fx * 6 * x + fy * 6 * y + phase) for (fx, fy), phase in zip(wave, phase_of, strict=True))
                for wave, phase_of in zip(waves, phases, strict=True)
            ],
            axis=-1,
        )
        for _ in range(number % 5):
            centre, radius, colour = random.uniform(0, 1, 2), random.uniform(0.05, 0.3), random.uniform(-4, 4, 3)
            inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
            canvas[inside] = colour
        yield f"built-in picture {number}", Image.fromarray(((np.tanh(canvas / 3) + 1) * 127.5).astype(np.uint8))


def coarse(shape: Sequence[int], seed: int) -> Array:
    """A batch of one of pixel values [1, channels, height, width], or of sound [1, channels, time], in few large cells.

    As few numbers as a manifest can keep.
    """
    cells = [max(n for n in range(1, _CELLS + 1) if side % n == 0) for side in shape[2:]]
    small = np.random.default_rng(seed).uniform(-1.5, 1.5, (*shape[:2], *cells)).round(2).astype(np.float32)
    for axis, (side, count) in enumerate(zip(shape[2:], cells, strict=True), 2):
        small = small.repeat(side // count, axis)
    return small
