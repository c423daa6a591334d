import sys
from pathlib import Path

import pytest

from modeldrop.action import github
from tests.runner.file_commands import Files
from tests.runner.workflow_commands import annotation, read

EVIL = "first\n::set-output name=x::y\r\n100% of it, a:b\x1b[31m"


def test_an_annotation_stays_one_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    github.annotate("error", "a title: with, all\nof it", EVIL)
    printed = capsys.readouterr().out
    (command,) = read(printed)
    found = annotation(command)
    assert printed.count("\n") == 1
    assert found.title == "a title: with, all\nof it"
    assert found.message == EVIL.replace("\x1b", "?")
    assert (found.file, found.line) == ("", "")


def test_a_long_annotation_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    github.annotate("error", "title", "x" * 100_000)
    assert len(capsys.readouterr().out) < 5000


def test_no_line_of_the_log_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    github.say("fine\n::add-mask::a\n  ::error::b\nx ##[add-path]/tmp\n\x1b]0;title")
    printed = capsys.readouterr().out
    assert list(read(printed)) == []
    assert "##[" not in printed
    assert "\x1b" not in printed
    assert printed.startswith("fine\n")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    files = Files.create(tmp_path)
    for name, path in files.paths.items():
        monkeypatch.setenv(f"GITHUB_{name.upper()}", str(path))
    return files


def test_outputs_of_several_lines(files: Files) -> None:
    values = {"reference": "a\nb=c\nname<<EOF\nEOF", "built": "true", "empty": ""}
    github.set_outputs(values)
    assert files.pairs("output") == values


@pytest.mark.parametrize("name", ["a\nb", "A", "a b", "", "a=b"])
def test_an_output_has_a_plain_name(files: Files, name: str) -> None:
    with pytest.raises(ValueError, match="no name of an output"):
        github.set_outputs({name: "x"})


def test_an_output_of_a_step_is_one_line(files: Files) -> None:
    github.step_outputs({"state": "/a folder/with=signs", "go": ""})
    with pytest.raises(ValueError, match="one line"):
        github.step_outputs({"state": "a\nb=c"})
    assert files.pairs("output") == {"state": "/a folder/with=signs", "go": ""}


def test_a_group_ends_also_where_something_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        sys.stdout.write("::error::evil\n##[error]evil\n::endgroup::\nhalf a line")
        github.annotate("warning", "a title", "ours")
        sys.stdout.write("::add-mask::evil\nhalf a line")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), github.group("Plan"):
        fail()
    sys.stdout.write("::notice::commands count again\n")
    commands = [(command.name, command.data) for command in read(capsys.readouterr().out)]
    ours = [command for command in commands if command[0] != "stop-commands"]
    assert ours == [("group", "Plan"), ("warning", "ours"), ("endgroup", ""), ("notice", "commands count again")]


def test_secrets_are_masked_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    github.mask_secrets(
        {
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
            "HF_TOKEN": "hf_line_one\nhf_line_two",
            "PIP_INDEX_URL": "https://reader:open-sesame@pypi.acme.dev/simple",
            "AWS_REGION": "eu-central-1",
            "A_TOKEN": "short",
        }
    )
    masked = [command.data for command in read(capsys.readouterr().out)]
    assert masked == ["hf_line_one", "hf_line_two", "open-sesame", "wJalrXUtnFEMI"]


def test_a_summary_is_never_more_than_github_takes(files: Files) -> None:
    github.append_summary("## head\n" + "é" * (1 << 20))
    written = files.summary()
    assert len(written.encode()) <= 1 << 20
    assert written.startswith("## head\n")
    assert "cut here" in written
