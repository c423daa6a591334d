"""The sounds that speech models are proven on: the recipe's, or built-in ones, made by formulas."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modeldrop.export.samples import Sample
    from modeldrop.inference.runs import Array

_COUNT = 8
_SECONDS = 4.0
_SYLLABLE_SECONDS = 0.2
# The first two resonances, in Hz, of the vowels of "father", "see", "boot", "bet" and "thought".
_VOWELS = ((730, 1090), (270, 2290), (300, 870), (530, 1840), (570, 840))


def sounds_of(samples: Sequence[Sample], rate: int) -> Iterator[tuple[str, Array]]:
    """Names, and samples [time] between -1 and 1: the recipe's, which have this rate, or the built-in ones."""
    return ((sample.shown, read_sound(sample.audio)) for sample in samples) if samples else sounds(rate)


def read_sound(path: str) -> Array:
    """A WAV file of PCM samples, [time] between -1 and 1, the mean of its channels."""
    with wave.open(path, "rb") as file:
        width, channels = file.getsampwidth(), file.getnchannels()
        data = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, width)
    if width == 1:
        values = data[:, 0].astype(np.int64) - 128  # eight bits have no sign
    else:
        # Little-endian, in the upper bytes of 32 bits: the sign comes along.
        whole = np.zeros((len(data), 4), np.uint8)
        whole[:, 4 - width :] = data
        values = whole.view("<i4")[:, 0].astype(np.int64) >> 8 * (4 - width)
    scaled = values.reshape(-1, channels).mean(1) / (1 << 8 * width - 1)
    return np.asarray(scaled, np.float32)


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
