"""Which packages a program imports."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.helpers.builds import ROOT

MODULES = """
import json, sys
sys.path.insert(0, sys.argv.pop(1))
before = set(sys.modules)
{program}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(json.dumps(sorted(names)))
"""


def imported(program: str, *arguments: object) -> set[str]:
    """The packages from outside the standard library that a program imports in a clean interpreter."""
    printed = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            MODULES.format(program=program),
            str(ROOT / "src"),
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return set(json.loads(printed.splitlines()[-1]))
