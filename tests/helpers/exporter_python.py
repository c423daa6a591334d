"""The exporter's interpreter for tests: its workers are forks of a process that has imported torch already."""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from modeldrop.export.worker_process import worker_environment
from tests.helpers import forked_workers
from tests.helpers.rounds import TEST_ROUNDS


@functools.cache
def exporter_python() -> str:
    """What MODELDROP_EXPORTER_PYTHON shall name; see ``forked_workers``. Where TEST_ROUNDS is all: our interpreter."""
    if TEST_ROUNDS == "all" or not hasattr(os, "pidfd_open"):
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="exporter-"))
    servers = [
        subprocess.Popen(
            [sys.executable, "-P", forked_workers.__file__, "serve", str(folder / kind), kind],
            stdin=subprocess.PIPE,  # it ends when this does, with our process, and removes the folder
            stdout=subprocess.PIPE,
            env=worker_environment(os.environ),
            start_new_session=True,
        )
        for kind in forked_workers.KINDS
    ]
    for server in servers:
        assert server.stdout is not None
        server.stdout.readline()
        atexit.register(server.communicate)

    client = [sys.executable, "-IS", forked_workers.__file__, "ask", str(folder), sys.executable]
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
    path.chmod(0o755)
    return str(path)
