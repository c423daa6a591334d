"""``python -m modeldrop.action.setup_command``: the step of ``setup/action.yml``; puts modeldrop on the job's PATH.

Which clouds' SDKs are installed follows from the URLs in MODELDROP_SETUP_REGISTRY; MODELDROP_SETUP_ATTESTATIONS says
whether what verifies attestations is installed, too.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from modeldrop.action import github
from modeldrop.action.event import read_event
from modeldrop.action.install import install_planner, signing_parts
from modeldrop.errors import ModeldropError
from modeldrop.export.environments.locks import ROOT
from modeldrop.export.environments.virtual import PipCache
from modeldrop.storage.urls import EXTRAS
from modeldrop.util.text import is_true

_SCHEME = re.compile(r"(?<![a-z0-9])(s3|gs|az)://")


def main() -> int:
    """Install, write the command, name its folder in GITHUB_PATH."""
    temporary = Path(os.environ["RUNNER_TEMP"])
    parts = parts_of(
        os.environ.get("MODELDROP_SETUP_REGISTRY", ""),
        attestations=is_true(os.environ.get("MODELDROP_SETUP_ATTESTATIONS")),
    )
    cache = PipCache(none=not read_event(os.environ).may_cache)
    try:
        python = install_planner(parts, temporary / "modeldrop", cache)
    except ModeldropError as error:
        github.annotate("error", "modeldrop", str(error))
        return error.exit_code
    folder = temporary / "modeldrop" / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "modeldrop"
    # -P: a modeldrop folder in the caller's repository is not the program.
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} -P -m modeldrop "$@"\n', "utf-8")
    command.chmod(0o755)
    with Path(os.environ["GITHUB_PATH"]).open("a", encoding="utf-8") as file:
        file.write(f"{folder}\n")
    github.say(f"modeldrop of {ROOT}, with {', '.join(parts) or 'no SDK'}")
    return 0


def parts_of(registries: str, *, attestations: bool = False) -> list[str]:
    """What some URLs need, and a key to sign with, and attestations, as parts of ``install_planner``."""
    parts = [EXTRAS[scheme] for scheme in dict.fromkeys(_SCHEME.findall(registries))]
    return list(dict.fromkeys([*parts, *signing_parts(), *(["sigstore"] if attestations else [])]))


if __name__ == "__main__":
    sys.exit(main())
