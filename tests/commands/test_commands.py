from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from modeldrop import errors
from modeldrop._version import __version__
from modeldrop.cli import COMMANDS, main
from tests.helpers.builds import build_key, digest_of, edit, environment, make_build, publish_build, tree
from tests.helpers.command_line import without_progress
from tests.helpers.waiting import HANG_SECONDS, wait_until

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = [sys.executable, "-m", "modeldrop"]


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Cli:
    """The command line in this process, from the folder that holds the registry."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Said:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return Said(code, *self._capsys.readouterr())

    def good(self, *arguments: object) -> str:
        said = self(*arguments)
        assert said.code == 0, said.err
        return said.out

    def json(self, *arguments: object) -> Any:
        return json.loads(self.good(*arguments, "--json"))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """No registry at all."""
    monkeypatch.chdir(tmp_path)
    return Cli(capsys)


@pytest.fixture
def cli(bare: Cli, registry: Path) -> Cli:
    """The registry ./registry holds embedder v1 and v2 (current), and reranker v1."""
    for seed in "ab":
        publish_build(registry, seed)
    publish_build(registry, "c", model="reranker", variants=["fp32"])
    return bare


def test_no_arguments_and_help_give_the_overview(bare: Cli) -> None:
    overview = bare.good()
    assert overview == bare.good("--help") == bare.good("-h") == bare.good("help")
    assert overview.startswith("usage: modeldrop COMMAND")
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", overview, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(bare: Cli, name: str) -> None:
    text = bare.good(name, "--help")
    assert text.startswith(f"usage: modeldrop {name} ")
    assert "--debug" in text


def test_version(bare: Cli) -> None:
    assert bare.good("--version") == bare.good("-V") == f"modeldrop {__version__}\n"


def test_unknown_commands_and_options(bare: Cli) -> None:
    said = bare("fetsh")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("modeldrop: There is no command 'fetsh'.\n  The commands are: init, publish, build, ")
    said = bare("ls", "--jason")
    assert said.code == 2
    assert "unrecognized arguments: --jason" in said.err
    assert bare("fetch", "--dir", "x", "./registry/embedder").code == 2  # no abbreviations: they age badly


def test_ls(cli: Cli, registry: Path) -> None:
    assert cli.json("ls", "./registry") == [
        {"model": "embedder", "versions": ["v1", "v2"], "channels": {"current": "v2"}},
        {"model": "reranker", "versions": ["v1"], "channels": {"current": "v1"}},
    ]
    lines = cli.good("ls", "./registry").splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["embedder", "2", "current", "→", "v2"],
        ["reranker", "1", "current", "→", "v1"],
    ]
    (registry / "embedder" / "v3").mkdir()
    (registry / "embedder" / "v3" / "claim.json").write_bytes(b"")
    (registry / "embedder" / "v1" / "manifest.json").write_bytes(b"{")
    versions = cli.json("ls", "./registry/embedder")
    assert [(item["version"], item["state"]) for item in versions] == [
        ("v3", "unfinished"),
        ("v2", "published"),
        ("v1", "damaged"),
    ]
    assert versions[1]["digest"] == digest_of(registry, 2)
    assert versions[1]["channels"] == ["current"]
    text = cli.good("ls", "./registry/embedder")
    assert "unfinished" in text
    assert "damaged" in text


def test_ls_of_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("ls", "./nowhere").code == 5
    assert cli("ls", "./registry/other").code == 5
    assert cli("ls").code == 2
    monkeypatch.setenv("MODELDROP_REGISTRY", "./registry")
    assert cli.json("ls")[0]["model"] == "embedder"
    assert cli.json("ls", "reranker")[0]["version"] == "v1"
    monkeypatch.setenv("MODELDROP_REGISTRY", "./empty")
    assert cli.good("ls").endswith("/empty holds no models.\n")
    assert not (tmp_path / "empty").exists()


def test_show(cli: Cli, registry: Path) -> None:
    shown = cli.json("show", "./registry/embedder@v1")
    assert (shown["model"], shown["version"], shown["channels"]) == ("embedder", "v1", [])
    assert shown["digest"] == digest_of(registry, 1)
    assert shown["manifest"] == json.loads((registry / "embedder/v1/manifest.json").read_bytes())
    text = cli.good("show", "./registry/embedder")
    assert text.startswith("embedder v2\n")
    for part in (digest_of(registry, 2), "apache-2.0", "int8", "onnx/model_quantized.onnx", "dana"):
        assert part in text


@pytest.mark.parametrize("metrics", [{}, {"cosine_mean": 0.99}, {"cosine_min": 0.98}, {"mine": 1.0}])
def test_show_needs_no_metric(cli: Cli, registry: Path, metrics: dict[str, float]) -> None:
    """Which metrics there are is the publisher's business: another program may write manifests."""
    path = registry / "embedder/v1/manifest.json"
    manifest = json.loads(path.read_bytes())
    for variant in manifest["variants"]:
        variant["fidelity"]["metrics"] = metrics
    path.write_text(json.dumps(manifest))
    text = cli.good("show", "./registry/embedder@v1")
    assert [("0.9900 mean" in text), ("0.9800 min" in text)] == ["cosine_mean" in metrics, "cosine_min" in metrics]


def test_promote_rollback_and_history(cli: Cli, registry: Path) -> None:
    assert cli.json("promote", "./registry/embedder@v1", "--why", "größer") == {
        "channel": "current", "before": "v2", "after": "v1", "generation": 3, "moved": True,
        "promotion": "moved", "reason": "", "rejected": False,
    }  # fmt: skip
    assert cli.good("promote", "./registry/embedder@v1") == ("current stays at v1: it names this version already\n")
    assert cli.good("promote", "./registry/embedder@v2") == "current → v2 (was v1), generation 4\n"
    said = cli("promote", "./registry/embedder@v1", "--channel", "staging")
    assert said.out == "staging → v1, generation 1\n"
    assert cli.good("promote", "./registry/embedder@staging") == "current → v1 (was v2), generation 5\n"
    moves = cli.json("history", "./registry/embedder")
    assert [move["generation"] for move in moves] == [5, 4, 3, 2, 1]
    assert [move["why"] for move in moves] == ["", "", "größer", "", ""]
    assert {move["by"] for move in moves} == {"dana"}
    assert len(cli.good("history", "./registry/embedder@current").splitlines()) == 6
    assert cli("rollback", "./registry/embedder").code == 17  # v1 was the first: nothing is before it
    cli.good("promote", "./registry/embedder@v2")
    publish_build(registry, "c")
    rolled = cli.json("rollback", "./registry/embedder", "--from", "v3", "--why", "slow")
    assert (rolled["before"], rolled["after"], rolled["moved"]) == ("v3", "v2", True)
    assert cli("rollback", "./registry/embedder", "--from", "v3").code == 17
    assert cli.json("history", "./registry/embedder")[0]["action"] == "rollback"


def test_promote_as_a_publish_that_asked_before(cli: Cli, registry: Path) -> None:
    """What is approved too late moves nothing; what a person does holds against it."""
    late = cli.json("promote", "./registry/embedder@v1", "--asked-at", "2020-02-29T12:00:00Z")
    assert (late["promotion"], late["after"]) == ("held", "v2")
    assert late["reason"].startswith("a later run has asked for another build")
    at = "9999-01-01T00:00:00Z"
    assert cli.good("promote", "./registry/embedder@v1", "--asked-at", at) == "current → v1 (was v2), generation 3\n"
    assert cli.json("history", "./registry/embedder")[0]["action"] == "publish"
    for wrong in ("yesterday", "2026-02-30T12:00:00Z"):
        assert "is not a time in UTC" in cli("promote", "./registry/embedder@v1", "--asked-at", wrong).err
    assert "goes with no --why" in cli("promote", "./registry/embedder@v1", "--asked-at", at, "--why", "x").err


def test_what_a_registry_says_cannot_move_the_cursor(cli: Cli, registry: Path) -> None:
    channel = registry / "embedder" / "staging"
    channel.write_bytes((registry / "embedder/current").read_bytes())
    edit(channel, b'"by": "dana"', b'"by": "\\u001b[2Jdana"')
    assert "\\x1b[2Jdana" in cli.good("history", "./registry/embedder@staging")
    assert cli.json("history", "./registry/embedder@staging")[0]["by"] == "\x1b[2Jdana"


@pytest.mark.parametrize("after", ["./registry/embedder@v2", "v2", "current", "./registry/embedder"])
def test_diff(cli: Cli, after: str) -> None:
    changes = {item["what"]: item for item in cli.json("diff", "./registry/embedder@v1", after)}
    assert changes.keys() == {
        "file odd names/50%25 größe #1 [漢字]~.txt", "file onnx/model.onnx", "file onnx/model_quantized.onnx",
    }  # fmt: skip
    text = cli.good("diff", "./registry/embedder@v1", after)
    assert re.search(r"^ +embedder v1 +embedder v2$", text, re.MULTILINE)
    assert "file onnx/model.onnx" in text


def test_diff_from_odd_places(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.good("diff", "./registry/embedder", "v2") == "embedder v2 and embedder v2 do not differ.\n"
    assert cli.json("diff", "./registry/embedder@v2", "v2") == []
    (tmp_path / "a@b").symlink_to(tmp_path / "registry")
    assert len(cli.json("diff", "./a@b/embedder@v1", "v2")) == 3
    other = {item["what"] for item in cli.json("diff", "./registry/embedder@v2", "./registry/reranker")}
    assert "variant int8" in other
    monkeypatch.setenv("MODELDROP_REGISTRY", "./registry")
    for before, after in (("embedder@v1", "v2"), ("embedder@v1", "current"), ("embedder@v1", "embedder@v2")):
        assert len(cli.json("diff", before, after)) == 3


def test_fetch(cli: Cli, tmp_path: Path, registry: Path) -> None:
    said = cli("fetch", "./registry/embedder", "./registry/reranker@v1", "-d", "home")
    folders = [
        tmp_path / "home/embedder" / f"v2-int8-{digest_of(registry, 2)[7:19]}",
        tmp_path / "home/reranker" / f"v1-fp32-{digest_of(registry, 1, 'reranker')[7:19]}",
    ]
    assert (said.code, said.out) == (0, "".join(f"{folder}\n" for folder in folders))
    # What ends second links the files that both have: ", 0.0 MB shared with other versions".
    assert sorted(line.partition(", ")[0] for line in without_progress(said.err).splitlines()) == [
        "embedder v2 int8: 0.1 MB fetched and verified",
        "reranker v1 fp32: 0.2 MB fetched and verified",
    ]
    said = cli("fetch", "./registry/embedder", "-d", "home", "--quiet", "--json")
    assert said.err == ""
    (snapshot,) = json.loads(said.out)
    assert (snapshot["path"], snapshot["downloaded_bytes"]) == (str(folders[0]), 0)
    assert cli("fetch", "./registry/embedder", "--variant", "int4").code == 6


def test_a_bad_reference_stops_a_fetch_before_it_begins(cli: Cli, tmp_path: Path) -> None:
    assert cli("fetch", "./registry/embedder", "./registry/UPPER", "-d", "home").code == 2
    assert not (tmp_path / "home").exists()


def test_publish_plan_and_build_refuse_a_missing_source(cli: Cli, registry: Path) -> None:
    before = tree(registry)
    for arguments in (
        ["publish", "./nowhere", "./registry/embedder"],
        ["plan", "./nowhere", "./registry/embedder"],
        ["build", "./nowhere", "-o", "out"],
    ):
        said = cli(*arguments)
        assert (said.code, said.out) == (errors.SourceError.exit_code, "")
        assert said.err.startswith("modeldrop: ")
    assert tree(registry) == before


@pytest.mark.parametrize(
    "reference",
    [
        "", "@v1", "embedder", "registry/embedder", "ftp://host/m", "./registry/", "./registry/UPPER",
        "./registry/embedder@", "./registry/embedder@v0", "./registry/embedder@a@b@c",
        "./registry/embedder@v1@sha256:12",
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["fetch", "show", "promote", "rollback", "history", "diff"])
def test_bad_references(bare: Cli, command: str, reference: str) -> None:
    said = bare(command, reference, *(["v1"] if command == "diff" else []))
    assert (said.code, said.out) == (errors.UsageError.exit_code, "")
    assert re.match(r"modeldrop: .+\n  .+\n$", said.err)


def test_commands_that_want_a_model_or_a_version(cli: Cli) -> None:
    assert "No version is named" in cli("promote", "./registry/embedder").err
    assert "a model is needed" in cli("rollback", "./registry/embedder@v1").err
    assert "A version has no history" in cli("history", "./registry/embedder@v1").err
    assert "cannot name a channel" in cli("promote", "./registry/embedder@v1", "--channel", "v9").err


def subclasses(kind: type[errors.ModeldropError]) -> list[type[errors.ModeldropError]]:
    return [kind, *(inner for outer in kind.__subclasses__() for inner in subclasses(outer))]


def test_every_error_has_a_code_of_its_own() -> None:
    # Others refine one of these, and keep its code.
    kinds = [kind for kind in subclasses(errors.ModeldropError) if kind.__module__ == errors.__name__]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes) > 10
    assert not {0, 130} & set(codes)
    assert all("exit_code" in vars(kind) for kind in kinds)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("fetch ./registry/embedder@v9 -d home", errors.NotFoundError),
        ("show ./registry/embedder@v9", errors.NotFoundError),
        ("show ./registry/other", errors.NotFoundError),
        ("history ./registry/embedder@staging", errors.NotFoundError),
        ("rollback ./registry/reranker", errors.RefusedError),
        ("fetch ./nowhere/embedder -d home", errors.RegistryError),
        ("fetch ./registry/embedder -d afile", errors.DiskError),
        ("fetch ./registry/embedder -d home --variant none", errors.VariantError),
        ("fetch ./damaged/embedder -d home", errors.IntegrityError),
        ("fetch ./damaged/embedder@staging -d home", errors.FormatError),
        ("history ./damaged/embedder@staging", errors.FormatError),
        ("show ./damaged/reranker@v1", errors.FormatError),
        ("plan ./nowhere ./registry/m --variants int7", errors.RecipeError),
    ],
)
def test_exit_codes(
    cli: Cli, registry: Path, tmp_path: Path, arguments: str, error: type[errors.ModeldropError]
) -> None:
    (tmp_path / "afile").touch()
    if "damaged" in arguments:
        registry.rename(tmp_path / "damaged")
        (tmp_path / "damaged/embedder/v2/onnx/model_quantized.onnx").write_bytes(b"damaged")
        (tmp_path / "damaged/embedder/staging").write_bytes(b"damaged")
        (tmp_path / "damaged/reranker/v1/manifest.json").write_bytes(b"damaged")
    said = cli(*arguments.split())
    assert (said.code, said.out) == (error.exit_code, "")
    assert said.err.startswith("modeldrop: ")
    assert "Traceback" not in said.err


def test_debug_shows_the_traceback(cli: Cli) -> None:
    with pytest.raises(errors.NotFoundError):
        main(["show", "./registry/other", "--debug"])
    ran = subprocess.run(
        [*PROGRAM, "show", "./registry/other", "--debug"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "Traceback (most recent call last)" in ran.stderr
    assert "NotFoundError" in ran.stderr


def test_a_defect_is_one_message_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("modeldrop.commands.show.open_store", defective)
    said = cli("show", "./registry/embedder")
    assert said.code == errors.ModeldropError.exit_code
    assert said.err.startswith("modeldrop: unexpected ZeroDivisionError: by zero\n  This is a defect of modeldrop.")


@pytest.mark.parametrize(
    "command", ["show ./registry/embedder --json", "--help", "ls --help", "history ./registry/embedder"]
)
def test_a_reader_that_goes_away(cli: Cli, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [*PROGRAM, *command.split()],
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, "")


def open_writer(pipe: Path) -> int:
    """A descriptor, 0 while nobody reads."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0


def test_an_interrupt(cli: Cli, tmp_path: Path, registry: Path) -> None:
    # Opening a pipe without a writer waits for ever, as an unreachable disk may.
    (registry / "embedder/current").unlink()
    (registry / "embedder/.moves/current/2.json").unlink()
    os.mkfifo(registry / "embedder/.moves/current/2.json")
    process = subprocess.Popen(
        [*PROGRAM, "history", "./registry/embedder"], env=environment(), stderr=subprocess.PIPE, text=True
    )
    # A writer can open the pipe without waiting as soon as the command is there to read it.
    writer = wait_until(lambda: open_writer(registry / "embedder/.moves/current/2.json"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=HANG_SECONDS)
    os.close(writer)
    assert (process.returncode, said) == (130, "modeldrop: interrupted\n")


@pytest.mark.parametrize(("encoding", "arrow"), [("latin-1", b"\\u2192"), ("utf-8", "→".encode())])
def test_an_output_that_cannot_say_everything(cli: Cli, encoding: str, arrow: bytes) -> None:
    settings = environment(PYTHONIOENCODING=f"{encoding}:strict")
    ran = subprocess.run([*PROGRAM, "ls", "./registry"], env=settings, capture_output=True, check=True)
    assert b"current " + arrow + b" v2" in ran.stdout
    folder = os.fsdecode(b"caf\xe9")
    ran = subprocess.run(
        [*PROGRAM, "fetch", "./registry/embedder", "-d", folder], env=settings, capture_output=True, check=True
    )
    assert (b"/caf\xe9/" if encoding == "utf-8" else b"/caf\\udce9/") in ran.stdout


def test_an_output_that_is_closed(cli: Cli) -> None:
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "ls", "./registry"]
    ran = subprocess.run(closed, env=environment(), stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_output_is_utf8_in_any_locale(cli: Cli) -> None:
    plain = subprocess.run(
        [*PROGRAM, "ls", "./registry"], env=environment(LC_ALL="C", LANG="C"), capture_output=True, check=True
    )
    assert "current → v2" in plain.stdout.decode()


def test_the_fake_builds_are_real_ones(registry: Path, tmp_path: Path) -> None:
    manifest = make_build(tmp_path / "build", "x")
    assert manifest.build_key == build_key("x")
    assert {file.size for file in manifest.files} >= {0}
    assert max(len(file.pieces) for file in manifest.files) == 4
