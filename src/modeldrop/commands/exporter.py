"""Make, list or remove the environments that export models: PyTorch and what belongs to it, apart from yours.

modeldrop exporter install
modeldrop exporter install transformers
modeldrop exporter ls
modeldrop exporter rm optimum

There are two exporters: optimum, with transformers 4.57, and transformers 5 itself. publish and build take the one that
suits the model, and say if it is missing. Each lies in an environment of its own in your cache, or where
MODELDROP_EXPORTERS says: locked, with PyTorch's build for processors. uv installs it where it is on the PATH. Nothing
else is changed.
"""

from __future__ import annotations

import argparse
import os
import sys

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import exporters_folder
from modeldrop.errors import UsageError
from modeldrop.export.environments.exporters import (
    EXPORTERS,
    OPTIMUM,
    TORCH_INDEX,
    install_exporter,
    made_environments,
    remove_environments,
)
from modeldrop.export.environments.virtual import find_uv
from modeldrop.util.text import size_text, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("install", "ls", "rm"), help="ls changes nothing")
    parser.add_argument(
        "exporter", nargs="?", choices=tuple(EXPORTERS), help=f"install: by default, {OPTIMUM.name}; rm: all of its"
    )
    parser.add_argument(
        "--torch-index", default=TORCH_INDEX, metavar="URL", help=f"install: where PyTorch is (default: {TORCH_INDEX})"
    )
    parser.add_argument("--pip", action="store_true", help="install: take pip, though uv is there")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    folder = exporters_folder()
    if arguments.action == "install":
        exporter = EXPORTERS[arguments.exporter or OPTIMUM.name]
        uv = "" if arguments.pip else find_uv(os.environ)
        python = install_exporter(exporter, folder, _say, torch_index=arguments.torch_index, uv=uv)
        if arguments.json:
            print_json({"exporter": exporter.name, "python": str(python)})
        else:
            print(f"{exporter.name}: {python.parents[1]}")
        return 0
    if arguments.action == "rm":
        if arguments.exporter is None:
            raise UsageError("Which exporter's environments are to go?", f"Name it: {' or '.join(EXPORTERS)}.")
        environments = remove_environments(folder, (arguments.exporter,))
    else:
        environments = [one for one in made_environments(folder) if arguments.exporter in (None, one.exporter)]
    if arguments.json:
        key = "removed" if arguments.action == "rm" else "environments"
        print_json(
            {
                key: [
                    {"exporter": one.exporter, "path": str(one.folder), "state": one.state, "bytes": one.size}
                    for one in environments
                ]
            }
        )
        return 0
    rows = [(one.exporter, one.state, size_text(one.size), str(one.folder)) for one in environments]
    print(table(("exporter", "state", "size", "path"), rows) if rows else f"{folder}: no environment")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
