"""Start the service: ``python -m modelservice``."""

from __future__ import annotations

import logging
import os
import signal
import sys

import uvicorn

from .app import create_app
from .settings import SettingsError, read_settings


def main() -> int:
    """Serve until SIGTERM; requests that are running then are answered."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # uvicorn raises the signal again when all is done; that is a good end.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,  # a line per request is the proxy's business
        timeout_graceful_shutdown=settings.grace,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
