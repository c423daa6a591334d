"""What a run shows, and where: kept in a file for the last steps, which report also where the others failed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeldrop.action.event import WorkflowEvent
    from modeldrop.action.input_reader import InputReader

_FILE = "report-settings.json"
_AUTO, _TRUE, _FALSE, _FAILURE = "auto", "true", "false", "failure"


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """What is shown.

    Attributes:
        summary: whether a job summary is written: true, false, or failure, for only of what failed.
        upload: whether report.html is kept as an artifact: auto, true, false.
        comment: whether a comment on the pull request is kept up to date.
        show_inputs: whether texts of the user's own inputs may be shown.
        keep_build: whether a build that is not published is kept as an artifact.
    """

    summary: str = _TRUE
    upload: str = _AUTO
    comment: bool = False
    show_inputs: bool = False
    keep_build: bool = False

    def save(self, folder: Path) -> None:
        """Keep them in a run's folder."""
        (folder / _FILE).write_text(json.dumps(asdict(self)), "utf-8")

    def summarizes(self, *, failed: bool) -> bool:
        """Whether a run's summary is written."""
        return self.summary == _TRUE or (failed and self.summary == _FAILURE)

    def uploads(self, event: WorkflowEvent, server: str, *, own_inputs: bool) -> bool:
        """Whether report.html is uploaded.

        With auto it is on pull requests and merge queues, beside a summary, where the server takes artifacts: GitHub
        Enterprise Server takes none of this release. And never, with texts of the user's, where anybody may read it.
        """
        if self.upload != _AUTO:
            return self.upload == _TRUE
        takes = server == "https://github.com" or server.endswith(".ghe.com")
        return (
            self.summary == _TRUE
            and event.is_proposal
            and takes
            and (event.private or self.show_inputs or not own_inputs)
        )


def read_report_settings(reader: InputReader) -> ReportSettings:
    """The settings that the inputs say."""
    return ReportSettings(
        summary=reader.choice("summary", (_TRUE, _FALSE, _FAILURE)),
        upload=reader.choice("upload-report", (_AUTO, _TRUE, _FALSE)),
        comment=reader.flag("comment"),
        show_inputs=reader.flag("show-inputs"),
        keep_build=reader.flag("reuse-builds"),
    )


def load_report_settings(folder: Path) -> ReportSettings:
    """Those that ``save`` has kept."""
    try:
        return ReportSettings(**json.loads((folder / _FILE).read_text("utf-8")))
    except FileNotFoundError:
        return ReportSettings()
