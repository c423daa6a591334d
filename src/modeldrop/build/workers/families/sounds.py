"""The built-in sounds that speech models are proven on: made by formulas, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.selftest.chains import Array

_COUNT = 8
_SECONDS = 4.0
_SYLLABLE_SECONDS = 0.2
# The first two resonances, in Hz, of the vowels of "father", "see", "boot", "bet" and "thought".
_VOWELS = ((730, 1090), (270, 2290), (300, 870), (530, 1840), (570, 840))


def sounds(rate: int) -> Iterator[tuple[str, Array]]:
    """Names, and samples [time] between -1 and 1 at ``rate`` per second: a voice that babbles in rising noise."""
    time = np.arange(int(_SECONDS * rate)) / rate
    for number in range(_COUNT):
        random = np.random.default_rng(number)
        syllables = random.integers(0, len(_VOWELS), int(_SECONDS / _SYLLABLE_SECONDS) + 1)
        at = (time / _SYLLABLE_SECONDS).astype(int)
        resonances = np.array(_VOWELS)[syllables][at]
        pitch = 90 + 20 * number + 15 * np.sin(2 * np.pi * time / random.uniform(0.5, 2))
        phase = 2 * np.pi * np.cumsum(pitch) / rate
        voice = np.zeros_like(time)
        for harmonic in range(1, 30):
            near = 1 / (1 + ((harmonic * pitch[:, None] - resonances) / 120) ** 2)
            voice += near.sum(1) * np.sin(harmonic * phase)
        voice *= np.sin(np.pi * time / _SYLLABLE_SECONDS) ** 2
        noisy = voice / np.abs(voice).max() + 0.03 * number * random.standard_normal(len(time))
        yield f"built-in sound {number}", (0.5 * noisy / np.abs(noisy).max()).astype(np.float32)
