"""Show the pages of a registry on this machine, with your own credentials: for a bucket that is not served.

modeldrop serve s3://acme-models
modeldrop serve ./models --fresh --open

The pages that the registry has (modeldrop site --publish) are shown as they are; where it has none, or with --fresh,
they are made first, in a temporary folder. Only this machine can see them (127.0.0.1), and nothing can be changed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from modeldrop.config import default_registry
from modeldrop.site.pages import REGISTRY_PAGE
from modeldrop.site.places import SITE_FOLDER, FolderPlace
from modeldrop.site.serving import PageServer, Read
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import open_store

_MOST_BYTES = 64 << 20
_MOST_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", default="", help="default: MODELDROP_REGISTRY")
    parser.add_argument(
        "--port", type=int, default=0, choices=range(_MOST_PORT + 1), metavar="N", help="default: any that is free"
    )
    parser.add_argument("--fresh", action="store_true", help="make the pages now, even if the registry has some")
    parser.add_argument("--open", action="store_true", help="open the first page in the browser")


def run(arguments: argparse.Namespace) -> int:
    with (
        _pages(arguments.registry or default_registry(), fresh=arguments.fresh) as read,
        PageServer(read, arguments.port) as server,
    ):
        print(f"{server.address} (Ctrl-C ends it)", flush=True)
        if arguments.open:
            webbrowser.open(server.address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


@contextlib.contextmanager
def _pages(registry: str, *, fresh: bool) -> Iterator[Read]:
    """What gives the pages: the registry itself, or a folder for as long as this lasts."""
    reader = open_reader(registry)

    def document(key: str) -> bytes | None:
        return reader.get(key, _MOST_BYTES)

    if not fresh and document(f"{SITE_FOLDER}/{REGISTRY_PAGE}") is not None:
        yield document
        return
    from modeldrop.site.writing import write_site  # with Jinja2, which published pages need not

    with tempfile.TemporaryDirectory(prefix="modeldrop-serve-") as folder:
        pages = FolderPlace(Path(folder), beside="../")
        print("Making the pages …", file=sys.stderr)
        write_site(open_store(registry), pages)

        def made(key: str) -> bytes | None:
            return (
                pages.read(key.removeprefix(f"{SITE_FOLDER}/")) if key.startswith(f"{SITE_FOLDER}/") else document(key)
            )

        yield made
