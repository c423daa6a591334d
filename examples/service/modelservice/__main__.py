"""Start the service: ``python -m modelservice``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

import uvicorn

from .app import create_app
from .settings import Settings, SettingsError, read_settings


def main() -> NoReturn:
    """Serve until SIGTERM; requests that are running then are answered."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Nobody waits for threads that fetch or load: the next start resumes what they have fetched. uvicorn raises the
    # signal again when all requests are answered; that is a good end.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    try:
        _serve(settings)
    except SystemExit as end:  # uvicorn has said why, such as a port that is taken
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)


def _serve(settings: Settings) -> None:
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,  # a line per request is the proxy's business
        timeout_graceful_shutdown=settings.grace,
    )


if __name__ == "__main__":
    main()
