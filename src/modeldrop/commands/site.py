"""Write the pages of a registry: models, channels, versions and comparisons, as files that need no server.

modeldrop site s3://acme-models -o pages
modeldrop site s3://acme-models --publish

With -o they go into a folder, for a web server or GitHub Pages. With --publish they go into the registry, below _site/:
open _site/index.html of a bucket that is served, or use modeldrop serve. With site = true in the registry's table of
modeldrop.toml, publish, promote, rollback and prune keep those up to date by changing the pages that change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import default_registry
from modeldrop.errors import UsageError
from modeldrop.site.pages import REGISTRY_PAGE
from modeldrop.site.places import SITE_FOLDER, FolderPlace, Place, RegistryPlace
from modeldrop.site.writing import write_site
from modeldrop.storage.write import open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default="", help="default: MODELDROP_REGISTRY")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="the folder for the pages")
    parser.add_argument("--publish", action="store_true", help="write them into the registry, beside the models")
    parser.add_argument("--quiet", action="store_true", help="do not name the models on the way")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if (arguments.output is None) == (not arguments.publish):
        raise UsageError("It is not said where the pages go.", "Write -o DIR, or --publish; not both.")
    store = open_store(arguments.registry or default_registry())
    place: Place = RegistryPlace(store) if arguments.output is None else FolderPlace(arguments.output)
    written = write_site(store, place, lambda model: None if arguments.quiet else print(model, file=sys.stderr))
    where = f"{store.url}/{SITE_FOLDER}" if arguments.output is None else str(arguments.output)
    if arguments.json:
        print_json(
            {
                "index": f"{where}/{REGISTRY_PAGE}",
                "models": written.models,
                "versions": written.versions,
                "written": written.pages,
                "problems": {model: list(problems) for model, problems in written.problems.items()},
            }
        )
        return 0
    for model, problems in written.problems.items():
        for problem in problems:
            print(f"{model}: {problem}")
    print(
        f"{where}/{REGISTRY_PAGE}: {written.models} model{'' if written.models == 1 else 's'}, "
        f"{written.versions} version{'' if written.versions == 1 else 's'}, {written.pages} files written"
    )
    return 0
