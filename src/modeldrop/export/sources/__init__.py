"""Where weights come from: the Hugging Face Hub, a folder, a bucket, a published version."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modeldrop.errors import UsageError
from modeldrop.export.sources import hub_names
from modeldrop.export.sources.file_choice import FileRules
from modeldrop.export.sources.folder import FolderSource
from modeldrop.export.sources.generic import FRAMEWORKS
from modeldrop.export.sources.interface import Progress, Source
from modeldrop.export.sources.with_tokenizer import SourceWithTokenizer
from modeldrop.format.names import PYTHON
from modeldrop.util.files import expand_user

__all__ = ["FORMS", "Progress", "Source", "hub_id", "is_path_like", "resolve_source"]

FORMS = (
    "org/name[@revision] on the Hugging Face Hub; ./folder of a checkpoint or of ready graphs, ./model.onnx, or what "
    "scikit-learn, LightGBM, XGBoost or CatBoost saved (./model.skops, .txt, .json, .ubj, .cbm); "
    "python:train.py:make_model, code that makes a torch module; "
    "s3://, gs:// or az:// URL of a checkpoint; REGISTRY/MODEL@v3, a published version; "
    "#path/of.onnx (or .xml, OpenVINO's) after one of the first three takes a ready graph in it"
)
"""How a source is spelled, for help texts."""

_HUB_SHAPE = re.compile(r"[^/@\s:\\~#]+/[^/@\s:\\#]+(@[^#]*)?", re.DOTALL)
_BUCKETS = ("s3://", "gs://", "az://")
_BARE_REFERENCE = re.compile(r"[^/\s:\\]+@[^/\s\\]+")


def resolve_source(
    spec: str,
    *,
    offline: bool | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    tokenizer: str | None = None,
    task: str | None = None,
    files: tuple[str, ...] = (),
) -> Source:
    """Find the source that a user means.

    ``hf:org/name[@revision]`` and ``org/name[@revision]`` are on the Hub, and are pinned here, by one
    request, to the commit that the revision (else ``main``) names now. ``./x``, ``../x``, ``/x``,
    ``~/x``, ``file:///x`` and any other existing directory are folders: checkpoints, or ready ONNX or
    OpenVINO graphs where there are no weights beside; an ``.onnx`` or ``.xml`` file is one of these. URLs of
    buckets are checkpoints too. Without config.json, and where the task is generic, ONNX graphs are taken as they are,
    and what scikit-learn, LightGBM, XGBoost or CatBoost saved is converted. ``python:train.py:make_model`` is a
    function of a file that makes a torch module, or a class of them. What has a version or a channel after an
    ``@`` in its last part is a published version: ``s3://acme-models/embedder@v3``, ``./models/embedder@current``,
    ``embedder@v3``.

    ``#path`` after a Hub id, folder or bucket means the ready graphs at that path instead of weights.

    A bare ``org/name`` is the Hub's even where such a folder exists: write ``./org/name`` for the folder. Where it is
    a file that can be a source by its ending, such as ``models/net.onnx``, it is that file.

    Args:
        spec: what the user wrote.
        offline: ask no server, use the Hub's cache on this disk; None follows HF_HUB_OFFLINE.
        allow_pickle: load pytorch_model.bin where there are no safetensors.
        trust_remote_code: take the repository's Python files along.
        tokenizer: where the tokenizer comes from, spelled as a source; None for beside the weights.
        task: what it is to be built for, if the recipe says so.
        files: patterns of the files that travel with a generic model.

    Raises:
        UsageError: it is none of these, or malformed.
        SourceError: it is missing, gated, private, incomplete or unreachable.
        RegistryError: a bucket or registry cannot be read.
        MissingExtraError: the Hub's client or a cloud's SDK is not installed.
    """
    rules = FileRules(allow_pickle, trust_remote_code, bare=tokenizer is not None, task=task, files=files)
    source = _resolve(spec, rules, offline=offline)
    if tokenizer is None:
        return source
    return SourceWithTokenizer(source, _resolve(tokenizer, FileRules(support_only=True), offline=offline))


def _resolve(spec: str, rules: FileRules, *, offline: bool | None) -> Source:
    if "\0" in spec:
        raise UsageError(f"{spec!r} is not a source.")
    if spec.startswith(PYTHON):
        from modeldrop.export.sources.code import CodeSource

        return CodeSource(spec, rules=rules)
    file, _, function = spec.partition(":")
    if file.endswith(".py") and (function or Path(file).is_file()):
        raise UsageError(
            f"{spec!r} is Python code.",
            f"A function in it that makes a torch module is written {PYTHON}{file}:{function or 'make_model'}",
        )
    path_like = is_path_like(spec)
    place, mark, graph = spec.partition("#")
    if not mark or (path_like and _path_of(spec).exists()):
        place = spec
    elif graph.strip("/."):
        rules = replace(rules, graph=graph)
    else:
        raise UsageError(f"{spec!r} names no file after the #.", f"Leave the # out, or write {place}#onnx/model.onnx.")
    if spec.startswith(_BUCKETS):
        if "@" in place.rpartition("/")[2]:
            return _version(place)
        from modeldrop.export.sources.bucket import BucketSource

        return BucketSource(place, spec=spec, rules=rules)
    hub = hub_id(place)
    if hub is not None:
        from modeldrop.export.sources.hub import HubSource

        return HubSource(hub or place, spec=spec, offline=offline, rules=rules)
    if path_like or (place and Path(place).exists()):
        return _on_disk(place, spec, rules)
    if _BARE_REFERENCE.fullmatch(place):
        return _version(place)
    # People paste signed URLs, and addresses with a password in them.
    shown = re.sub(r"(?<=://)[^/]*@", "", spec).partition("?")[0]
    raise UsageError(
        f"{shown!r} is neither a model on the Hugging Face Hub nor a folder, bucket or published version.",
        hub_names.near_spelling(shown) or "Write org/name or org/name@revision for the Hub, ./folder for a folder.",
    )


def hub_id(place: str) -> str | None:
    """The id, with its revision, of what is spelled as a model on the Hub; None of what is spelled otherwise.

    Args:
        place: a source without the ``#`` and what follows it.
    """
    if place.startswith("hf:") and not place.startswith("hf://"):
        return place.removeprefix("hf:")
    on_disk = is_path_like(place) or _is_model_file(Path(place))
    return place if not on_disk and _HUB_SHAPE.fullmatch(place) else None


def is_path_like(spec: str) -> bool:
    """Whether a source can be nothing but a path, there or not."""
    return spec in (".", "..", "~") or spec.startswith(("./", "../", "/", "~/", "file:"))


def _on_disk(place: str, spec: str, rules: FileRules) -> Source:
    path = _path_of(place)
    if _is_model_file(path):
        # A graph in onnx/ has its config and tokenizer in the folder above.
        up = path.parent.name in {"onnx", "openvino"} and (path.parent.parent / "config.json").is_file()
        folder = path.parent.parent if up else path.parent
        graph = path.relative_to(folder).as_posix()
        return FolderSource(folder, spec=spec, rules=replace(rules, graph=graph))
    if "@" in path.name and not path.exists():
        return _version(place)
    return FolderSource(path, spec=spec, rules=rules)


def _is_model_file(path: Path) -> bool:
    return path.suffix in {".onnx", ".xml", *FRAMEWORKS} and os.path.isfile(path)  # noqa: PTH113  no error where a name is too long


def _version(reference: str) -> Source:
    from modeldrop.export.sources.version import VersionSource  # no other source needs the registry's code

    return VersionSource(reference)


def _path_of(text: str) -> Path:
    if not text.startswith("file:"):
        return expand_user(text)
    parts = urlsplit(text)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise UsageError(
            f"{text!r} is not the address of a file on this machine.", "Write file:///absolute/path or ./path."
        )
    return Path(path)
