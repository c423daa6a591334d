"""The helper process of ``modeldrop.fetcher.helper``: reads a registry for a process in which obstore does not work.

The first line of standard input names the registry, each further one is a request. It ends as soon as standard input
does: whoever it works for is gone, and what is half done is gone on with by the next one.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from modeldrop.errors import ModeldropError
from modeldrop.fetcher.options import time_limit
from modeldrop.format.manifest import File
from modeldrop.storage.read import runtime
from modeldrop.storage.read.interface import UNCHANGED, Document, RegistryReader, open_reader
from modeldrop.util.process import own_answers

_Tell = Callable[[Mapping[str, object]], None]


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(own_answers(), "w", encoding="ascii")

    def tell(answer: Mapping[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    runtime.start()  # before there is another thread
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    registry = json.loads(lines.get())
    reader: RegistryReader | None = None
    while True:
        request = json.loads(lines.get())
        try:
            reader = reader or open_reader(registry)
            tell(_DO[request.pop("do")](reader, tell, **request))
        except ModeldropError as error:
            tell({"failed": [type(error).__name__, vars(error)]})
        except OSError as error:
            tell({"failed": ["OSError", [error.errno, error.strerror or str(error), error.filename]]})


def _read(lines: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _get(reader: RegistryReader, _tell: _Tell, *, key: str, limit: int, etag: str) -> Mapping[str, object]:
    found = reader.get_if_changed(key, limit, etag)
    data = base64.b64encode(found.data).decode() if isinstance(found, Document) else None
    return {
        "unchanged": found is UNCHANGED,
        "data": data,
        "etag": found.etag if isinstance(found, Document) else "",
    }


def _retry_after(reader: RegistryReader, _tell: _Tell) -> Mapping[str, object]:
    return {"seconds": reader.retry_after()}


def _transfer(
    reader: RegistryReader, tell: _Tell, *, files: list[Any], into: str, limit: float, left: float, **more: Any
) -> Mapping[str, object]:
    from modeldrop.fetcher.download.transfer import transfer

    deadline = time_limit(left)
    deadline.seconds = limit  # what was asked for, which messages name
    stats = transfer(
        reader,
        files=[File(path, size, sha256, tuple(pieces)) for path, size, sha256, pieces in files],
        into=Path(into),
        deadline=deadline,
        progress=lambda count: tell({"progress": count}),
        spend=lambda found: tell({"spent": found}),
        **more,
    )
    return {"stats": stats}


_DO: Mapping[str, Callable[..., Mapping[str, object]]] = {
    "get": _get,
    "retry_after": _retry_after,
    "transfer": _transfer,
}

if __name__ == "__main__":
    main()
