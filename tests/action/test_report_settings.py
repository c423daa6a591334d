from pathlib import Path

import pytest

from modeldrop.action.event import WorkflowEvent
from modeldrop.action.input_reader import InputReader
from modeldrop.action.report_settings import ReportSettings, load_report_settings, read_report_settings

HUB, DATA_RESIDENCY, OWN_SERVER = "https://github.com", "https://acme.ghe.com", "https://github.acme.example"
PULL = WorkflowEvent(name="pull_request", cause="pull_request")
PRIVATE = WorkflowEvent(name="pull_request", cause="pull_request", private=True)
MAIN = WorkflowEvent(name="push", cause="push", ref="refs/heads/main", default_branch="main")


@pytest.mark.parametrize(
    ("settings", "event", "server", "own", "uploads"),
    [
        (ReportSettings(), PULL, HUB, False, True),
        (ReportSettings(), WorkflowEvent(name="merge_group", cause="merge_group"), DATA_RESIDENCY, False, True),
        (ReportSettings(), PULL, OWN_SERVER, False, False),
        (ReportSettings(), MAIN, HUB, False, False),
        (ReportSettings(summary="false"), PULL, HUB, False, False),
        # Whoever reads a public repository may read its artifacts.
        (ReportSettings(), PULL, HUB, True, False),
        (ReportSettings(), PRIVATE, HUB, True, True),
        (ReportSettings(show_inputs=True), PULL, HUB, True, True),
        (ReportSettings(upload="true"), MAIN, OWN_SERVER, True, True),
        (ReportSettings(upload="false"), PRIVATE, HUB, False, False),
    ],
)
def test_when_the_report_is_uploaded(
    settings: ReportSettings, event: WorkflowEvent, server: str, own: bool, uploads: bool
) -> None:
    assert settings.uploads(event, server, own_inputs=own) is uploads


def test_they_are_kept_for_the_last_steps(tmp_path: Path) -> None:
    given = {"summary": "FALSE", "upload-report": "", "comment": "true", "show-inputs": "", "reuse-builds": "true"}
    settings = read_report_settings(InputReader(given))
    assert settings == ReportSettings(summary="false", comment=True, keep_build=True)
    assert load_report_settings(tmp_path) == ReportSettings()
    settings.save(tmp_path)
    assert load_report_settings(tmp_path) == settings


@pytest.mark.parametrize(
    ("summary", "failed", "written"),
    [("true", False, True), ("false", True, False), ("failure", True, True), ("failure", False, False)],
)
def test_a_summary_may_be_only_of_what_failed(*, summary: str, failed: bool, written: bool) -> None:
    assert ReportSettings(summary=summary).summarizes(failed=failed) is written
