"""Pictures and recordings that models are compared on: the recipe's, or built-in ones, made by formulas."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from modeldrop.errors import RecipeError
from modeldrop.export.inputs import Sample
from modeldrop.inference.runs import Array
from modeldrop.util.text import first_line

_PICTURES = 16
_SIDE = 320
_CELLS = 8
_MAX_PIXELS = 50_000_000
_NO_COLOURS = ("I", "F")
_SOUNDS = 8
_SECONDS = 4.0
_SYLLABLE_SECONDS = 0.2
# The first two resonances, in Hz, of the vowels of "father", "see", "boot", "bet" and "thought".
_VOWELS = ((730, 1090), (270, 2290), (300, 870), (530, 1840), (570, 840))


def pictures() -> Iterator[tuple[str, Image.Image]]:
    """Names and pictures: smooth landscapes of colour with shapes on them, from plain to busy."""
    y, x = np.mgrid[0 : 1 : _SIDE * 1j, 0 : 1 : _SIDE * 1j]
    for number in range(_PICTURES):
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


def pictures_of(samples: Sequence[Sample]) -> Iterator[tuple[str, Image.Image]]:
    """Names and pictures: the samples', or the built-in ones where there are none."""
    return ((sample.shown, open_picture(sample)) for sample in samples) if samples else pictures()


def check_pictures(samples: Sequence[Sample]) -> None:
    """Refuse pictures that cannot be opened, before anything is made of the others.

    Raises:
        RecipeError: names file and line.
    """
    for sample in samples:
        if sample.image:
            open_picture(sample)


def open_picture(sample: Sample) -> Image.Image:
    """A sample's picture, in colours.

    Raises:
        RecipeError: it is damaged, too large, or has values that are not colours.
    """
    try:
        with Image.open(sample.image, formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise RecipeError(
                    f"inputs: {sample.where} has {picture.width} x {picture.height} pixels; at most {_MAX_PIXELS} are "
                    "read.",
                    "Scale it down: models see far fewer.",
                )
            if picture.mode.startswith(_NO_COLOURS):
                raise RecipeError(
                    f"inputs: {sample.where} has values of {picture.mode}, which would be cut off at white.",
                    "Save it with 8 bits a colour.",
                )
            return picture.convert("RGB")
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"inputs: {sample.where} is a picture that cannot be read: {first_line(error)}", "Save it again."
        ) from error


def coarse(shape: Sequence[int], seed: int) -> Array:
    """A batch of one of pixel values [1, channels, height, width], or of sound [1, channels, time], in few large cells.

    As few numbers as a manifest can keep.
    """
    cells = [max(n for n in range(1, _CELLS + 1) if side % n == 0) for side in shape[2:]]
    small = np.random.default_rng(seed).uniform(-1.5, 1.5, (*shape[:2], *cells)).round(2).astype(np.float32)
    for axis, (side, count) in enumerate(zip(shape[2:], cells, strict=True), 2):
        small = small.repeat(side // count, axis)
    return small


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
    """Names, and samples [time] between -1 and 1 at ``rate`` per second: synthetic vowels with increasing noise."""
    time = np.arange(int(_SECONDS * rate)) / rate
    for number in range(_SOUNDS):
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
