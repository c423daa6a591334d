"""The pages beside a registry's models, served as ``modeldrop serve`` serves them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from modeldrop.site.serving import PageServer


@contextlib.contextmanager
def served_pages(registry: Path) -> Iterator[str]:
    """The address of the folder of pages, with its last slash."""

    def read(key: str) -> bytes | None:
        path = registry / key
        return path.read_bytes() if path.is_file() else None

    with PageServer(read, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.address.removesuffix("index.html")
        finally:
            server.shutdown()
            thread.join()
