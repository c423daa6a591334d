"""What variants are compared on: the recipe's inputs, which are lines of text, lines of JSON, pictures or recordings.

Everything is read and bounded before slow work, with the standard library alone: pictures by their first bytes, and
recordings by their header.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from modeldrop.config import setting
from modeldrop.errors import RecipeError
from modeldrop.format.names import hex_digest
from modeldrop.util.files import sha256_file

MOST = 2000
"""Inputs that are used at most."""
_MAX_BYTES = 16 << 20
_MAX_MEDIA_BYTES = 64 << 20
_MAX_ALL_MEDIA_BYTES = 2 << 30
_MAX_LABELS = 256
_SIGNATURES = {".png": (b"\x89PNG\r\n\x1a\n",), ".jpg": (b"\xff\xd8\xff",), ".jpeg": (b"\xff\xd8\xff",)}
_SOUND = ".wav"
_PAIRS = (("query", "passage"), ("question", "passage"), ("text", "text_pair"))
_LABEL = "label"
_FORMS = (
    'Write "text", ["question", "passage"], {"text": …}, {"query": …, "passage": …}, {"image": "a.png"}, '
    '{"image": "a.png", "texts": ["a cat", …]} or {"audio": "a.wav"}, one a line; a "label" may stand beside.'
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One input.

    Attributes:
        texts: one text; or two, for rerankers: a question and a passage; or, beside a picture, what may fit it.
        image: path of a PNG or JPEG file, or "".
        audio: path of a WAV file, or "".
        where: the line or file that it comes from, for messages; "" for a built-in one.
        fields: the line as an own metric gets it.
    """

    texts: tuple[str, ...] = ()
    image: str = ""
    audio: str = ""
    where: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``text``, ``image`` or ``audio``."""
        return "image" if self.image else "audio" if self.audio else "text"

    @property
    def shown(self) -> str:
        """What people are shown of it."""
        return Path(self.image or self.audio).name or " \u2192 ".join(self.texts)


def builtin_sample(texts: tuple[str, ...]) -> Sample:
    """A built-in text, or a pair of them."""
    return Sample(texts, fields=dict(zip(("text", "text_pair"), texts, strict=False)))


def quoted_input(text: str, index: int, *, own: bool = True) -> str:
    """An input in a message: its beginning, or, of the user's own inputs, its number where texts are not to be shown.

    Args:
        text: what people are shown of it.
        index: which it is, from 0.
        own: whether it may be the user's own, and not a built-in one.
    """
    return repr(text[:80]) if not own or setting("show_inputs") else f"input {index + 1}"


def read_samples(path: Path, *, own_metric: bool) -> tuple[tuple[Sample, ...], str]:
    """Read what the variants are compared on.

    Args:
        path: a file of lines, a ``.jsonl`` file, or a folder.
        own_metric: whether there is somebody who reads further keys of a line of JSON.

    Returns:
        The samples, and a digest of all that they are made of: 64 hexadecimal digits.

    Raises:
        RecipeError: it cannot be read, or has something else; names file and line.
    """
    try:
        if path.is_dir():
            samples = _from_folder(path)
            digest = _digest_of(samples, "")
        else:
            text = _read(path)
            json_lines = path.suffix == ".jsonl"
            samples = _from_json_lines(text, path, own_metric=own_metric) if json_lines else _from_lines(text, path)
            digest = sha256_file(path)
            if any(sample.kind != "text" for sample in samples):
                digest = _digest_of(samples, digest)
    except OSError as error:
        raise RecipeError(f"inputs: {error.filename or path} cannot be read: {error.strerror or error}.") from None
    if not samples or len(samples) > MOST:
        raise wrong_count(path, samples)
    return tuple(samples), digest


def wrong_count(path: Path, inputs: Sequence[object], hint: str = "") -> RecipeError:
    """The error for a file with no inputs, or with more than are used."""
    counted = f"more than {MOST}" if inputs else "no"
    return RecipeError(f"inputs: {path} has {counted} inputs; between 1 and {MOST} are used.", hint)


def _read(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise RecipeError(f"inputs: {path} has more than {_MAX_BYTES} bytes.", "Name a sample.")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise RecipeError(
            f"inputs: {path} is not UTF-8.",
            "Name a file of texts, one per line, a .jsonl file, or a folder of pictures or recordings.",
        ) from None


def _from_lines(text: str, path: Path) -> list[Sample]:
    samples = []
    for number, line in enumerate(text.splitlines(), 1):
        first, _, second = (part.strip() for part in line.partition("\t"))
        texts = (first, second) if first and second else (line.strip(),)
        if texts[0]:
            fields = dict(zip(("text", "text_pair"), texts, strict=False))
            samples.append(Sample(texts, where=f"line {number} of {path}", fields=fields))
    return samples


def _from_json_lines(text: str, path: Path, *, own_metric: bool) -> list[Sample]:
    # A line of JSON ends only where "\n" does; a text in it may hold any other line break.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    reader = _Reader(path, own_metric=own_metric)
    return [reader.sample(line, f"line {number} of {path}") for number, line in lines[: MOST + 1]]


class _Reader:
    """Reads lines of JSON.

    Args:
        path: the file; pictures and recordings are named from its folder.
        own_metric: whether further keys are read by somebody.
    """

    def __init__(self, path: Path, *, own_metric: bool) -> None:
        self._folder = path.parent
        self._own_metric = own_metric
        self._media_bytes = 0

    def sample(self, line: str, where: str) -> Sample:
        """One line.

        Raises:
            RecipeError: names file, line and what is wrong.
        """
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, str):
            value = {"text": value}
        elif isinstance(value, list) and len(value) in {1, 2}:
            value = dict(zip(("text", "text_pair"), value, strict=False))
        if not isinstance(value, dict):
            _refuse(where, "is no input")
        return self._from_object(value, where)

    def _from_object(self, value: dict[str, Any], where: str) -> Sample:
        kinds = [kind for kind in ("image", "audio") if kind in value]
        pair = next((keys for keys in _PAIRS if value.keys() >= set(keys)), None)
        used: Sequence[str]
        if len(kinds) == 1:
            used = (kinds[0], *(("texts",) if kinds[0] == "image" and "texts" in value else ()))
        else:
            used = pair or ("text",)
        if len(kinds) > 1 or used[0] not in value:
            _refuse(where, "is no input" if len(kinds) < 2 else "names a picture and a recording")
        self._check_keys(value, used, where)
        if kinds:
            path = self._media(value[kinds[0]], kinds[0], where)
            labels = _labels(value["texts"], where) if "texts" in used else ()
            return _media_sample(kinds[0], path, labels, where, value)
        texts = tuple(_text(value[key], key, where) for key in used)
        return Sample(texts, where=where, fields=value)

    def _check_keys(self, value: Mapping[str, Any], used: Sequence[str], where: str) -> None:
        further = [key for key in value if key not in used and key != _LABEL]
        taken = [key for key in further if key in {"image", "audio", "text", "texts"} | {k for p in _PAIRS for k in p}]
        if taken or (further and not self._own_metric):
            _refuse(where, f"has the key {(taken or further)[0][:40]!r}, which nothing reads")

    def _media(self, name: object, kind: str, where: str) -> Path:
        path = self._folder / _text(name, kind, where)
        self._media_bytes += _check_media(path, kind, where)
        if self._media_bytes > _MAX_ALL_MEDIA_BYTES:
            _refuse(where, f"is where the files have more than {_MAX_ALL_MEDIA_BYTES} bytes in all", "Name a sample.")
        return path.resolve()


def _from_folder(folder: Path) -> list[Sample]:
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    samples, size = [], 0
    for path in paths[: MOST + 1]:
        kind = "image" if path.suffix.lower() in _SIGNATURES else "audio" if path.suffix.lower() == _SOUND else ""
        if not kind:
            raise RecipeError(
                f"inputs: {path} is neither a picture (.png, .jpg) nor a recording (.wav).",
                "A folder holds nothing else; name files of several folders, or with labels, in a .jsonl file.",
            )
        size += _check_media(path, kind, str(path))
        if size > _MAX_ALL_MEDIA_BYTES:
            raise RecipeError(f"inputs: {folder} has more than {_MAX_ALL_MEDIA_BYTES} bytes.", "Name a sample.")
        samples.append(_media_sample(kind, path.resolve(), (), str(path), {kind: path.name}))
    return samples


def _media_sample(kind: str, path: Path, texts: tuple[str, ...], where: str, fields: Mapping[str, Any]) -> Sample:
    image, audio = (str(path) if kind == one else "" for one in ("image", "audio"))
    return Sample(texts=texts, image=image, audio=audio, where=where, fields=fields)


def _check_media(path: Path, kind: str, where: str) -> int:
    """Check that a file is a picture or a recording; return its size in bytes."""
    if not path.is_file():
        _refuse(where, f"names {path}, which is not a file", "Paths are relative to the file that names them.")
    size = path.stat().st_size
    if size > _MAX_MEDIA_BYTES:
        _refuse(where, f"names {path}, which has more than {_MAX_MEDIA_BYTES} bytes", "Take smaller files.")
    if kind == "image":
        _check_picture(path, where)
    else:
        _check_sound(path, where)
    return size


def _check_picture(path: Path, where: str) -> None:
    with path.open("rb") as file:
        begin = file.read(8)
    # By what it is, not by what it is called: a JPEG called .png is read by every library.
    if not any(begin.startswith(mark) for marks in _SIGNATURES.values() for mark in marks):
        _refuse(where, f"names {path}, which is neither PNG nor JPEG", "Convert it to one of them.")


def _check_sound(path: Path, where: str) -> None:
    try:
        with wave.open(str(path), "rb") as file:
            frames, width = file.getnframes(), file.getnchannels() * file.getsampwidth()
            whole = frames > 0 and len(file.readframes(frames)) == frames * width
    except (wave.Error, EOFError) as error:
        _refuse(where, f"names {path}, which is not WAV with PCM samples ({str(error) or 'it ends too early'})", PCM)
    if not whole:
        _refuse(where, f"names {path}, which is empty or cut off", "Copy it again.")


PCM = "Convert it: ffmpeg -i INPUT -ar 16000 -ac 1 -c:a pcm_s16le OUTPUT.wav"
"""What to do with a recording that cannot be read."""


def sampling_rate(path: Path) -> int:
    """Samples per second of a WAV file that was checked."""
    with wave.open(str(path), "rb") as file:
        return file.getframerate()


def _text(value: object, key: str, where: str) -> str:
    text = value.strip() if isinstance(value, str) else ""
    # JSON can spell halves of characters, which nothing can encode.
    if not text or "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        _refuse(where, f"has no text as {key}")
    return text


def _labels(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= _MAX_LABELS:
        _refuse(where, f"needs 2 to {_MAX_LABELS} texts beside its picture")
    return tuple(_text(item, "texts", where) for item in value)


def _refuse(where: str, what: str, hint: str = _FORMS) -> NoReturn:
    raise RecipeError(f"inputs: {where} {what}.", hint)


def _digest_of(samples: Sequence[Sample], lines: str) -> str:
    """Of the lines, and of the name and content of every file that they name."""
    parts = [lines]
    for sample in samples:
        path = Path(sample.image or sample.audio)
        if sample.kind != "text":
            parts.append(f"{sha256_file(path)}  {path.name}")
    return hex_digest("\n".join(parts).encode())
