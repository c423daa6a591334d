"""What a recipe's own inputs may look like, and what is refused of them before anything is built."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import pytest

from modeldrop.errors import RecipeError
from modeldrop.export.preflight.checks import check_request
from modeldrop.export.preflight.inputs import check_rates
from modeldrop.export.request import BuildRequest, load_recipe, make_request
from modeldrop.export.sources.folder import FolderSource
from modeldrop.format.recipe import Recipe, VariantOptions
from tests.export.source_folders import model

PNG, JPEG = b"\x89PNG\r\n\x1a\n rest", b"\xff\xd8\xff rest"
BERT = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 100}
RERANKER = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 100,
    "id2label": {"0": "score"},
}
T5 = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 100,
    "is_encoder_decoder": True,
}
RESNET = {"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}
VIT = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
CLIP = {"model_type": "clip", "architectures": ["CLIPModel"], "vision_config": {}, "text_config": {}}
WHISPER = {
    "model_type": "whisper",
    "architectures": ["WhisperForConditionalGeneration"],
    "is_encoder_decoder": True,
    "num_mel_bins": 80,
}


def checkpoint(folder: Path, config: dict[str, Any]) -> None:
    model(folder / "m", **{"config.json": json.dumps(config).encode()})


def request(folder: Path, inputs: str, metric: str | None = None, **recipe: Any) -> BuildRequest:
    source = folder / "m"
    if not source.is_dir():
        model(source)
    named = None if metric is None else str(folder / metric)
    return make_request(FolderSource(source), Recipe(inputs=str(folder / inputs), metric=named, **recipe))


def texts(folder: Path, name: str, text: str) -> list[tuple[str, ...]]:
    (folder / name).write_text(text, "utf-8")
    return [sample.texts for sample in request(folder, name).samples]


def wav(path: Path, *, rate: int = 16_000, channels: int = 1, frames: bytes = b"\1\0" * 400) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(frames)
    return path


def files(folder: Path) -> Path:
    """A PNG, a JPEG, a recording and a metric."""
    (folder / "a.png").write_bytes(PNG)
    (folder / "b.jpg").write_bytes(JPEG)
    (folder / "quality.py").write_text("def accuracy(original, variant, samples):\n    return 1.0\n")
    wav(folder / "c.wav")
    return folder


def test_lines_are_texts_and_a_tab_parts_a_pair(tmp_path: Path) -> None:
    assert texts(tmp_path, "t.txt", "one\n\n two \nwho\tme\n") == [("one",), ("two",), ("who", "me")]


def test_json_lines_are_texts_and_pairs(tmp_path: Path) -> None:
    text = (
        '"one\\ntwo"\n["who", "me\\tyou"]\n\n{"text": "three\u2028four"}\n{"query": "q", "passage": "p"}\n'
        '{"text": "a", "text_pair": "b", "label": 1}\n'
    )
    assert texts(tmp_path, "t.jsonl", text) == [
        ("one\ntwo",),
        ("who", "me\tyou"),
        ("three\u2028four",),
        ("q", "p"),
        ("a", "b"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        *((line, "is no input") for line in ("[1, 2, 3]", "{}", '{"txt": "a"}', '["a", "b", "c"]', "one", "[", "null")),
        ("[1]", "has no text as text"),
        ('""', "has no text as text"),
        ('"\\ud800"', "has no text as text"),
        ('{"query": "q", "passage": 3}', "has no text as passage"),
        ('{"text": "a", "text_pai": "b"}', "has the key 'text_pai', which nothing reads"),
        ('{"text": "a", "passage": "b"}', "has the key 'passage', which nothing reads"),
        ('{"image": "a.png", "text": "b"}', "has the key 'text', which nothing reads"),
        ('{"image": "a.png", "audio": "c.wav"}', "names a picture and a recording"),
        ('{"image": "a.png", "texts": ["one"]}', "needs 2 to 256 texts beside its picture"),
        ('{"image": "a.png", "texts": ["one", ""]}', "has no text as texts"),
        ('{"image": "z.png"}', "names .*z.png, which is not a file"),
        ('{"image": "quality.py"}', "names .*quality.py, which is neither PNG nor JPEG"),
        ('{"audio": "a.png"}', "names .*a.png, which is not WAV with PCM samples"),
    ],
)
def test_a_line_of_json_that_is_no_input_is_named(line: str, message: str, tmp_path: Path) -> None:
    (files(tmp_path) / "t.jsonl").write_text(f'"fine"\n{line}\n', "utf-8")
    with pytest.raises(RecipeError, match=f"inputs: line 2 of .*t.jsonl {message}"):
        request(tmp_path, "t.jsonl")


def test_an_own_metric_reads_what_else_is_in_a_line(tmp_path: Path) -> None:
    line = {"text": "a", "stars": 5, "label": "good"}
    (files(tmp_path) / "t.jsonl").write_text(json.dumps(line))
    (sample,) = request(tmp_path, "t.jsonl", "quality:accuracy").samples
    assert (sample.texts, sample.fields) == (("a",), line)


def test_pictures_and_recordings_are_named_from_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    files(tmp_path / "sub")
    line = {"image": "a.png", "texts": ["a cat", "a dog"]}
    (tmp_path / "sub" / "t.jsonl").write_text(f'{json.dumps(line)}\n{{"audio": "./c.wav"}}')
    picture, recording = request(tmp_path, "sub/t.jsonl").samples
    assert (picture.kind, picture.image, picture.texts) == ("image", str(tmp_path / "sub/a.png"), ("a cat", "a dog"))
    assert (recording.kind, recording.audio, recording.shown) == ("audio", str(tmp_path / "sub/c.wav"), "c.wav")


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "b.PNG").write_bytes(PNG)
    (folder / "a.jpeg").write_bytes(JPEG)
    (folder / ".DS_Store").write_bytes(b"")
    assert [sample.shown for sample in request(tmp_path, "pictures").samples] == ["a.jpeg", "b.PNG"]
    (folder / "labels.csv").write_text("")
    with pytest.raises(RecipeError, match=r"labels.csv is neither a picture"):
        request(tmp_path, "pictures")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"\n\n", "has no inputs"),
        ("t.txt", b"a\n" * 2001, "has more than 2000 inputs"),
        ("t.jsonl", b'"a"\n' * 3000, "has more than 2000 inputs; between 1 and 2000"),
        ("t.txt", b"\xff\xfe", "is not UTF-8"),
        ("t.txt", b"a" * (16 << 20) + b"b", "more than 16777216 bytes"),
    ],
)
def test_files_are_bounded(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        request(tmp_path, name)
    with pytest.raises(RecipeError, match=r"missing\.txt cannot be read: No such file"):
        request(tmp_path, "missing.txt")


def test_a_recording_that_is_cut_off_or_empty_is_refused(tmp_path: Path) -> None:
    whole = wav(tmp_path / "whole.wav").read_bytes()
    for number, content in enumerate((whole[:-100], whole[:20])):
        folder = tmp_path / f"f{number}"
        folder.mkdir()
        (folder / "cut.wav").write_bytes(content)
        with pytest.raises(RecipeError, match=r"cut.wav, which is (empty or cut off|not WAV)"):
            request(tmp_path, f"f{number}")
    (tmp_path / "e").mkdir()
    wav(tmp_path / "e" / "empty.wav", frames=b"")
    with pytest.raises(RecipeError, match="empty or cut off"):
        request(tmp_path, "e")


@pytest.mark.parametrize(
    ("config", "line", "message"),
    [
        (VIT, '"a text"', "line 1 of .* is a text; models for image-classification take pictures"),
        (BERT, '{"image": "a.png"}', "is a picture; models for feature-extraction take texts"),
        (WHISPER, '{"image": "a.png"}', "is a picture; .* take recordings"),
        (T5, '["a", "b"]', "has a pair, which a model for text2text-generation does not read"),
        (VIT, '{"image": "a.png", "texts": ["a", "b"]}', "has texts beside what it names, which .* does not read"),
    ],
)
def test_inputs_of_another_kind_are_refused(config: dict[str, Any], line: str, message: str, tmp_path: Path) -> None:
    files(tmp_path)
    checkpoint(tmp_path, config)
    (tmp_path / "t.jsonl").write_text(line)
    with pytest.raises(RecipeError, match=message):
        check_request(request(tmp_path, "t.jsonl"))


@pytest.mark.parametrize(
    ("config", "line", "metric", "message"),
    [
        (RERANKER, '["q", "p"]', "top10", "a question with 11 passages"),
        (RERANKER, '["q", "p"]', "kendall_tau", "two inputs"),
        (CLIP, '{"image": "a.png", "texts": ["a", "b"]}', "top5", "6 texts beside every picture"),
    ],
)
def test_a_threshold_that_cannot_be_measured_on_them_is_refused(
    config: dict[str, Any], line: str, metric: str, message: str, tmp_path: Path
) -> None:
    files(tmp_path)
    checkpoint(tmp_path, config)
    (tmp_path / "t.jsonl").write_text(line)
    assert check_request(request(tmp_path, "t.jsonl")).samples
    with pytest.raises(RecipeError, match=f"thresholds.int8.{metric} cannot be measured on these inputs.*{message}"):
        check_request(request(tmp_path, "t.jsonl", thresholds={"int8": {metric: 0.5}}))


def test_another_sampling_rate_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    wav(folder / "a.wav", rate=44_100)
    samples = request(tmp_path, "sounds").samples
    with pytest.raises(RecipeError, match=r"a.wav has 44100 samples per second; this model takes 16000") as caught:
        check_rates(samples, tmp_path)
    assert "ffmpeg -i INPUT -ar 16000" in caught.value.hint
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 44100}')
    check_rates(samples, tmp_path)


def test_the_key_follows_what_is_in_every_file_that_is_named(tmp_path: Path) -> None:
    files(tmp_path)
    (tmp_path / "t.jsonl").write_text('{"image": "a.png"}')

    def key() -> str:
        return request(tmp_path, "t.jsonl", "quality:accuracy").key

    keys = [key(), key()]
    (tmp_path / "a.png").write_bytes(PNG + b"!")
    keys.append(key())
    (tmp_path / "quality.py").write_text((tmp_path / "quality.py").read_text() + "\n")
    keys.append(key())
    (tmp_path / "t.jsonl").write_text('{"image": "a.png" }')
    keys.append(key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_a_recipe_s_paths_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('inputs = "t.jsonl"\nmetric = "quality.py:accuracy"')
    recipe = load_recipe(tmp_path / "r.toml")
    assert (recipe.inputs, recipe.metric) == (str(tmp_path / "t.jsonl"), str(tmp_path / "quality.py:accuracy"))


@pytest.mark.parametrize(
    ("config", "recipe", "variants", "optional"),
    [
        (BERT, {}, ("fp32", "int8"), ("int8",)),
        (RESNET, {}, ("fp32", "fp16"), ("fp16",)),
        (RESNET, {"calibration": "a.npz"}, ("fp32", "int8-static"), ("int8-static",)),
        (RESNET, {"variants": ("fp32", "int8")}, ("fp32", "int8"), ()),
        (BERT, {"thresholds": {"int8": {"cosine_min": 0.9}}}, ("fp32", "int8"), ()),
        (BERT, {"options": {"int8": VariantOptions(auto=True)}}, ("fp32", "int8"), ()),
    ],
)
def test_what_nobody_names_follows_from_the_model_and_may_be_left_out(
    config: dict[str, Any], recipe: dict[str, Any], variants: tuple[str, ...], optional: tuple[str, ...], tmp_path: Path
) -> None:
    checkpoint(tmp_path, config)
    if "calibration" in recipe:
        (tmp_path / "a.npz").write_bytes(b"")
        recipe = {"calibration": str(tmp_path / "a.npz")}
    made = make_request(FolderSource(tmp_path / "m"), Recipe(**recipe))
    assert (made.recipe.variants, made.optional) == (variants, optional)
