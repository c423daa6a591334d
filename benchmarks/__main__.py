"""Run the benchmarks: ``python -m benchmarks [NAME…]``. Each module's docstring says what it compares."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    action,
    build,
    chart,
    download,
    export,
    fetch,
    publish,
    quality,
    requests,
    scale,
    seaweedfs,
    service,
    site,
    size,
    tabular,
    upload,
)
from benchmarks.document import replace_between
from benchmarks.machine import load, machine, versions
from benchmarks.result import HEADER
from benchmarks.workspace import Workspace
from modeldrop.util.text import table

if TYPE_CHECKING:
    from benchmarks.result import Row

# In this order: quality looks at what build and publish have built.
BENCHMARKS = {
    "build": build.run,
    "publish": publish.run,
    "quality": quality.run,
    "tabular": tabular.run,
    "fetch": fetch.run,
    "size": size.run,
    "requests": requests.run,
    "action": action.run,
    "upload": upload.run,
    "export": export.run,
    "download": download.run,
    "seaweedfs": seaweedfs.run,
    "scale": scale.run,
    "service": service.run,
    "site": site.run,
}
BEGIN, END = "<!-- results: written by python -m benchmarks --write -->", "<!-- end of results -->"
_QUIET_LOAD = 0.3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"which: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="one round of each: shows that they run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the results in this Markdown file")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; the names are {', '.join(BENCHMARKS)}")
    if arguments.write and (arguments.names or arguments.quick):
        parser.error("--write takes a whole run: all benchmarks, all rounds")
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    busy = load()
    if busy > _QUIET_LOAD:
        print(f"load average {busy}: others use this machine; run again when it is quiet", file=sys.stderr)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        workspace = Workspace(Path(folder).resolve(), quick=arguments.quick)
        for name, run in BENCHMARKS.items():
            if not arguments.names or name in arguments.names:
                print(f"{name} … ", end="", file=sys.stderr, flush=True)
                began = time.monotonic()
                rows += run(workspace)
                print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    print(machine(), versions(), "", table(HEADER, [row.cells() for row in rows], right=(1, 2, 3)), sep="\n")
    if arguments.json:
        plain = {"machine": machine(), "versions": versions(), "load": busy, "quick": arguments.quick}
        document = plain | {"results": [row.to_json() for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if arguments.write:
        replace_between(arguments.write, BEGIN, END, markdown(rows, busy))
        chart.write(rows, arguments.write.parent / "images", f"{machine()}. Bar lengths are comparable within a group.")
    return int(arguments.check and not all(row.met for row in rows))


def markdown(rows: list[Row], busy: float) -> str:
    lines = [HEADER, ("---", "---:", "---:", "---:", "---", "---"), *(row.cells() for row in rows)]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{machine()}; load average before the run {busy}.\n{versions()}.\n\n{grid}"


if __name__ == "__main__":
    sys.exit(main())
