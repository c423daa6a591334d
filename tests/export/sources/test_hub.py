"""Hub sources, with the real huggingface_hub against a local server."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop.errors import DiskError, MissingExtraError, ModeldropError, SourceError, UsageError
from modeldrop.export.sources import Source, resolve_source
from modeldrop.export.sources.file_choice import SAFETENSORS_INDEX
from tests.export.source_folders import safetensors, tree
from tests.servers.hub import HubServer, Repo

MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b'{"v": 1}',
    "model.safetensors": safetensors(b"one"),
    "README.md": b"---\nlicense: mit\n---\n",
}
CLUTTER = {
    "pytorch_model.bin": b"pickle",
    "optimizer.pt": b"x",
    "onnx/model.onnx": b"x",
    "tf_model.h5": b"x",
    "modeling.py": b"x",
    "checkpoint-5/model.safetensors": b"x",
}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_ENDPOINT",
        "HF_HUB_ETAG_TIMEOUT",
        "HUGGINGFACE_HUB_CACHE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    # Where the library looks for a saved token was fixed when it was imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def repo(hub: HubServer) -> Repo:
    return hub.add_repo("acme/m", MODEL | CLUTTER, card={"license": "apache-2.0"})


def refusal(spec: str, kind: type[ModeldropError] = SourceError) -> ModeldropError:
    with pytest.raises(kind) as caught:
        resolve_source(spec)
    return caught.value


def test_resolving_is_one_request(hub: HubServer, repo: Repo) -> None:
    source = resolve_source("acme/m")
    sha = repo.refs["main"]
    assert (source.spec, source.repository, source.commit) == ("acme/m", "acme/m", sha)
    assert source.identity == f"hf:acme/m@{sha}"
    assert source.licence == "apache-2.0"
    assert source.weight_bytes() == len(MODEL["model.safetensors"])
    assert source.modules() is None
    assert len(hub.requests) == 1


def test_config_downloads_that_file_only(hub: HubServer, repo: Repo) -> None:
    source = resolve_source("hf:acme/m")
    assert source.config() == {"model_type": "bert"}
    assert source.config() == {"model_type": "bert"}
    assert hub.downloads() == ["config.json"]


def test_downloads_only_what_is_needed(hub: HubServer, repo: Repo, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    source = resolve_source("acme/m")
    out = source.materialize(tmp_path / "out", lambda name, done, total: calls.append((name, done, total)))
    assert tree(out) == MODEL
    assert sorted(hub.downloads()) == sorted(MODEL)
    assert {name for name, done, total in calls if done == total} == set(MODEL)
    before = len(hub.requests)
    source.materialize(tmp_path / "again")
    assert len(hub.requests) == before


def test_everything_comes_from_the_commit_that_was_resolved(hub: HubServer, repo: Repo, tmp_path: Path) -> None:
    source = resolve_source("acme/m@main")
    moved = {name: data.replace(b"one", b"two").replace(b"1", b"2") for name, data in MODEL.items()}
    repo.commit(moved)
    assert tree(source.materialize(tmp_path / "old")) == MODEL
    assert all(f"/resolve/{source.commit}/" in r.path for r in hub.requests if "/resolve/" in r.path)
    newer = resolve_source("acme/m@main")
    assert newer.identity != source.identity
    assert tree(newer.materialize(tmp_path / "new")) == moved


def test_branches_tags_and_commits(repo: Repo) -> None:
    first = repo.refs["main"]
    other = repo.commit(MODEL, branch="feature/x")
    repo.tag("v1.0", first)
    assert resolve_source("acme/m@v1.0").commit == first
    assert resolve_source("acme/m@feature/x").commit == other
    assert resolve_source(f"hf:acme/m@{first}").commit == first


def test_modules_and_dense_layers(hub: HubServer, tmp_path: Path) -> None:
    more = {"modules.json": b"[]", "2_Dense/config.json": b"{}", "2_Dense/model.safetensors": safetensors()}
    hub.add_repo("acme/st", MODEL | more)
    source = resolve_source("acme/st")
    assert source.modules() == []
    assert tree(source.materialize(tmp_path / "out")) == MODEL | more
    assert source.weight_bytes() == len(MODEL["model.safetensors"]) + len(safetensors())


def test_shards_and_a_missing_one(hub: HubServer, tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}).encode()
    files = {"config.json": b"{}", SAFETENSORS_INDEX: index, "m-1.safetensors": safetensors(b"1")}
    files["m-2.safetensors"] = safetensors(b"22")
    hub.add_repo("acme/big", files | {"m-3.safetensors": b"not ours"})
    source = resolve_source("acme/big")
    assert source.weight_bytes() == len(safetensors(b"1")) + len(safetensors(b"22"))
    assert tree(source.materialize(tmp_path / "out")) == files
    del files["m-2.safetensors"]
    hub.add_repo("acme/hole", files)
    with pytest.raises(SourceError, match=r"lacks m-2\.safetensors: 1 of the 2 shards"):
        resolve_source("acme/hole").materialize(tmp_path / "hole")
    assert "m-1.safetensors" not in hub.downloads()[-1:]


def test_pickles_are_refused_before_any_download(hub: HubServer, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    hub.add_repo("acme/old", files)
    assert "allow_pickle" in refusal("acme/old").hint
    assert hub.downloads() == []
    assert tree(resolve_source("acme/old", allow_pickle=True).materialize(tmp_path / "o")) == files


def test_code_comes_only_if_trusted(repo: Repo, tmp_path: Path) -> None:
    out = resolve_source("acme/m", trust_remote_code=True).materialize(tmp_path / "out")
    assert (out / "modeling.py").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_altered_bytes_of_the_same_length(
    name: str, hub: HubServer, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.corrupt("acme/m", name)
    with pytest.raises(SourceError, match=rf"{name} of acme/m@.* is damaged: its") as caught:
        resolve_source("acme/m").materialize(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    blob = Path(caught.value.hint.split()[1])
    hub.recover()
    # The damaged bytes are in the cache now, where the client trusts them: we must not, offline neither.
    for offline in (False, True):
        with pytest.raises(SourceError, match="is damaged"):
            resolve_source("acme/m" if not offline else f"acme/m@{repo.refs['main']}", offline=offline).materialize(
                tmp_path / "out"
            )
    blob.unlink()  # what the hint says mends it
    assert tree(resolve_source("acme/m").materialize(tmp_path / "out")) == MODEL


def test_a_mirror_that_gives_no_figures(
    hub: HubServer, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.servers.hub._sibling", lambda name, data, blobs: {"rfilename": name})
    source = resolve_source("acme/m")
    assert source.weight_bytes() == len(MODEL["model.safetensors"])
    hub.corrupt("acme/m", "model.safetensors")
    with pytest.raises(SourceError, match="its SHA-256 is"):  # by the ETag, which names the blob
        source.materialize(tmp_path / "out")


def test_weights_that_were_uploaded_truncated(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("acme/cut", MODEL | {"model.safetensors": safetensors(b"x" * 50)[:-9]})
    with pytest.raises(SourceError, match="truncated"):
        resolve_source("acme/cut").materialize(tmp_path / "out")


def test_refuses_unsafe_names(hub: HubServer) -> None:
    hub.add_repo("acme/evil", MODEL | {"../../x/config.json": b"{}"})
    assert "not a path inside" in str(refusal("acme/evil"))


def test_the_token_opens_private_repositories(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo("acme/private", MODEL, private=True)
    error = refusal("acme/private")
    assert "or is private and no token was sent" in error.message
    assert "HF_TOKEN" in error.hint
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.requests.clear()
    assert tree(resolve_source("acme/private").materialize(tmp_path / "out")) == MODEL
    assert {request.token for request in hub.requests} == {hub.token}
    assert not any(hub.token in request.path for request in hub.requests)


def test_a_missing_repository(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert f"acme/nothing is not on {hub.endpoint}, or is private" in refusal("acme/nothing").message
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert "the token may not see it" in refusal("acme/nothing").message
    (tmp_path / "acme" / "nothing").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "write ./acme/nothing" in refusal("acme/nothing").hint


def test_a_wrong_token_is_refused_and_never_shown(hub: HubServer, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    error = refusal("acme/m")
    assert "refused the token (401)" in error.message
    assert "hf_secret" not in str(error)


def test_gated(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo("acme/gated", MODEL, gated=True)
    for token in (None, hub.token):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(SourceError, match="acme/gated is gated") as caught:
            resolve_source("acme/gated").config()
        assert f"{hub.endpoint}/acme/gated" in caught.value.hint
    hub.accepted = True
    assert tree(resolve_source("acme/gated").materialize(tmp_path / "out")) == MODEL


def test_a_missing_revision(repo: Repo) -> None:
    assert refusal("acme/m@v9").message == "acme/m has no revision 'v9'."
    assert "has no revision" in refusal("acme/m@" + "0" * 40).message


def test_a_file_that_vanishes(hub: HubServer, repo: Repo) -> None:
    source = resolve_source("acme/m")
    del repo.commits[repo.refs["main"]]["config.json"]
    with pytest.raises(SourceError, match=r"acme/m@.* has no file config\.json"):
        source.config()


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("hf:acme", "org/name"),
        ("hf:https://huggingface.co/acme/m", "Did you mean acme/m?"),
        ("acme/m.git", "Did you mean acme/m?"),
        ("hf:acme/m:v1", "Did you mean acme/m@v1?"),
        ("acme/m@", "a branch, a tag or a commit"),
        ("acme/m@../../x", "a branch, a tag or a commit"),
    ],
)
def test_malformed_ids_ask_nobody(spec: str, hint: str, hub: HubServer) -> None:
    assert hint in refusal(spec, UsageError).hint
    assert hub.requests == []


def test_the_hub_wins_over_a_folder(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme" / "m").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_source("acme/m").repository == "acme/m"
    with pytest.raises(SourceError, match=r"\./acme/m has no config\.json"):
        resolve_source("./acme/m")


@pytest.mark.parametrize(
    ("status", "headers", "message", "hint"),
    [
        (429, {"Retry-After": "30"}, "allows no more requests for now (429)", "in 30 s"),
        (429, {}, "(429)", "HF_TOKEN"),
        (500, {}, "answered 500", "later"),
        (503, {}, "answered 503", "HF_HUB_OFFLINE=1"),
        (403, {}, "refused the token (403)", "HF_TOKEN"),
        (200, {}, "does not answer as the Hugging Face Hub does", "HF_ENDPOINT"),
    ],
)
def test_answers_that_help_nobody(
    status: int, headers: dict[str, str], message: str, hint: str, hub: HubServer, repo: Repo
) -> None:
    hub.fail(status, match="/api/", headers=headers)
    error = refusal("acme/m")
    assert message in error.message
    assert hint in error.hint


def test_a_file_that_the_server_cannot_send(hub: HubServer, repo: Repo) -> None:
    source = resolve_source("acme/m")
    hub.fail(404, match="/resolve/")
    with pytest.raises(SourceError, match=r"answered 404 for config\.json of acme/m"):
        source.config()


def test_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as deaf:  # ours, and nobody listens
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://user:password@127.0.0.1:{port}/mirror")
        error = refusal("acme/m")
    assert f"http://127.0.0.1:{port}/mirror cannot be reached" in error.message
    assert "password" not in str(error)


def test_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.5")
        assert "did not answer in time" in refusal("acme/m").message


def test_a_defect_is_not_dressed_up_as_a_failure_of_the_hub(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", defect)
    with pytest.raises(ZeroDivisionError):
        resolve_source("acme/m").config()


def offline_source(spec: str, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return resolve_source(spec)


def test_offline_from_the_cache(hub: HubServer, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    sha = repo.refs["main"]
    snapshot_download("acme/m", cache_dir=tmp_path / "cache", endpoint=hub.endpoint, allow_patterns=list(MODEL))
    before = len(hub.requests)
    source = offline_source("acme/m", monkeypatch)
    assert source.identity == f"hf:acme/m@{sha}"
    assert source.licence == "mit"
    assert source.weight_bytes() == len(MODEL["model.safetensors"])
    assert tree(source.materialize(tmp_path / "out")) == MODEL
    assert resolve_source(f"acme/m@{sha}").identity == source.identity
    assert len(hub.requests) == before


def test_offline_finds_what_a_branch_brought(
    hub: HubServer, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_source("acme/m").materialize(tmp_path / "out")
    first = repo.refs["main"]
    repo.commit(MODEL)
    resolve_source(f"acme/m@{first}").materialize(tmp_path / "pinned")
    source = offline_source("acme/m", monkeypatch)
    assert source.commit == first
    assert tree(source.materialize(tmp_path / "offline")) == MODEL


def test_offline_without_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # nothing is asked, so nothing is needed
    for spec in ("acme/m", "acme/m@" + "0" * 40, "acme/m@refs/pr/1"):
        with pytest.raises(SourceError, match="is not in the cache") as caught:
            offline_source(spec, monkeypatch)
        assert str(tmp_path / "cache") in caught.value.message
        assert "HF_HUB_OFFLINE" in caught.value.hint


def test_offline_with_half_a_model_in_the_cache(hub: HubServer, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = repo.refs["main"]
    resolve_source("acme/m").config()
    with pytest.raises(SourceError, match="no weights"):
        offline_source(f"acme/m@{sha}", monkeypatch)


def test_only_to_download_weights_the_client_is_needed(
    hub: HubServer, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    source = resolve_source("acme/m")
    assert source.commit == repo.refs["main"]
    assert source.config() == json.loads(MODEL["config.json"])
    with pytest.raises(MissingExtraError) as caught:
        source.materialize(tmp_path / "out")
    assert "modeldrop[hub]" in caught.value.hint
    hub.corrupt("acme/m", "config.json")
    with pytest.raises(SourceError, match=r"config\.json of acme/m@.* is damaged: its git blob id is"):
        resolve_source("acme/m").config()


def test_a_repository_that_was_renamed_is_followed(hub: HubServer, repo: Repo) -> None:
    hub.fail(307, match="/api/models/acme/old", headers={"Location": "/api/models/acme/m/revision/main?blobs=True"})
    assert resolve_source("acme/old").commit == repo.refs["main"]
    hub.fail(307, match="/api/models/acme/m", headers={"Location": "/api/models/acme/old"})  # in a circle
    assert "does not answer as the Hugging Face Hub does" in refusal("acme/m").message


def test_an_endpoint_with_a_password_is_asked_with_it(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("HF_ENDPOINT", f"http://dana:p%40ss@127.0.0.1:{hub.port}")
    assert "dana" not in str(refusal("acme/m"))
    assert hub.requests[0].headers["Authorization"] == "Basic ZGFuYTpwQHNz"


def test_a_token_that_was_saved_is_used(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"{hub.token}\n")
    hub.add_repo("acme/private", MODEL, private=True)
    assert resolve_source("acme/private").repository == "acme/private"
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert "no token was sent" in refusal("acme/private").message


def test_a_cache_that_cannot_be_written(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = resolve_source("acme/m")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(DiskError, match="No space left"):
        source.materialize(tmp_path / "out")


def test_a_fresh_process_is_quiet_and_imports_the_client_late(hub: HubServer, repo: Repo, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, modeldrop.export.sources as s; assert 'huggingface_hub' not in sys.modules;"
        f"s.resolve_source('acme/m').materialize(pathlib.Path({str(tmp_path / 'out')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert tree(tmp_path / "out") == MODEL


def test_a_repository_of_onnx_files(hub: HubServer, tmp_path: Path) -> None:
    from tests.export.source_folders import ready

    files = tree(ready(tmp_path / "m", external="weights.bin"))
    hub.add_repo("acme/ready", files | {"onnx/model_quantized.onnx": b"x", "openvino/openvino_model.xml": b"x"})
    for spec in ("acme/ready", "hf:acme/ready@main#onnx/model.onnx"):
        source = resolve_source(spec)
        assert (source.worker, source.spec) == ("adopt", spec)
        assert tree(source.materialize(tmp_path / f"out-{spec.count('#')}")) == files


def test_a_repository_whose_data_is_missing(hub: HubServer, tmp_path: Path) -> None:
    from tests.export.source_folders import ready

    files = tree(ready(tmp_path / "m", external="weights.bin"))
    hub.add_repo("acme/half", {name: data for name, data in files.items() if name != "onnx/weights.bin"})
    with pytest.raises(SourceError, match=r"keeps weights in weights\.bin, which is not there"):
        resolve_source("acme/half").materialize(tmp_path / "out")


def test_only_the_tokenizer_of_a_repository_is_taken(hub: HubServer, tmp_path: Path) -> None:
    from tests.export.source_folders import ready

    hub.add_repo("acme/m", MODEL)
    folder = ready(tmp_path / "m")
    source = resolve_source(str(folder), tokenizer="acme/m")
    out = tree(source.materialize(tmp_path / "out"))
    assert out["tokenizer.json"] == MODEL["tokenizer.json"]
    assert "model.safetensors" not in out
    assert not any(request.path.endswith(".safetensors") for request in hub.requests)


def test_a_gated_model_is_told_of(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.accepted = True
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add_repo("acme/gated", MODEL, gated=True)
    hub.add_repo("acme/open", MODEL)
    assert resolve_source("acme/gated").gated
    assert not resolve_source("acme/open").gated
