"""Where weights come from: the Hugging Face Hub or a checkpoint folder."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modeldrop.build.sources import names
from modeldrop.build.sources.checkpoint import CheckpointSource
from modeldrop.build.sources.interface import Progress, Source
from modeldrop.errors import UsageError

__all__ = ["Progress", "Source", "resolve"]

_HUB_SHAPE = re.compile(r"[^/@\s:\\~]+/[^/@\s:\\]+(@.*)?", re.DOTALL)


def resolve(
    spec: str, *, offline: bool | None = None, allow_pickle: bool = False, trust_remote_code: bool = False
) -> Source:
    """Find the source that a user means.

    ``hf:org/name[@revision]`` and ``org/name[@revision]`` are on the Hub, and are pinned here, by one
    request, to the commit that the revision (else ``main``) names now. ``./x``, ``../x``, ``/x``,
    ``~/x``, ``file:///x`` and any other existing directory are checkpoint folders.

    A bare ``org/name`` is the Hub's even where such a folder exists: write ``./org/name`` for the folder.

    Args:
        spec: what the user wrote.
        offline: ask no server, use the Hub's cache on this disk; None follows HF_HUB_OFFLINE.
        allow_pickle: load pytorch_model.bin where there are no safetensors.
        trust_remote_code: take the repository's Python files along.

    Raises:
        UsageError: it is neither of these, or a malformed Hub id.
        SourceError: it is missing, gated, private, incomplete or unreachable.
        MissingExtraError: the Hub is meant and huggingface_hub is not installed.
    """
    if spec.startswith("hf:") and not spec.startswith("hf://"):
        return _from_hub(
            spec.removeprefix("hf:"),
            spec=spec,
            offline=offline,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        )
    if spec.startswith("file:"):
        return CheckpointSource(
            _path_of(spec), spec=spec, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
        )
    if "\0" in spec:
        raise UsageError(f"{spec!r} is not a source.")
    path_like = spec in (".", "..", "~") or spec.startswith(("./", "../", "/", "~/"))
    if not path_like and _HUB_SHAPE.fullmatch(spec):
        return _from_hub(
            spec, spec=spec, offline=offline, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
        )
    if path_like or (spec and Path(spec).is_dir()):
        return CheckpointSource(
            Path(spec).expanduser(), spec=spec, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
        )
    # People paste signed URLs, and addresses with a password in them.
    shown = re.sub(r"(?<=://)[^/]*@", "", spec).partition("?")[0]
    raise UsageError(
        f"{shown!r} is neither a model on the Hugging Face Hub nor a checkpoint folder.",
        names.near_spelling(shown) or "Write org/name or org/name@revision for the Hub, ./folder for a folder.",
    )


def _from_hub(
    repository: str, *, spec: str, offline: bool | None, allow_pickle: bool, trust_remote_code: bool
) -> Source:
    from modeldrop.build.sources import hub  # its client takes a quarter of a second to import

    return hub.resolve(
        repository, spec=spec, offline=offline, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
    )


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise UsageError(f"{url!r} is no file of this machine.", "Write file:///absolute/path or ./path.")
    return Path(path)
