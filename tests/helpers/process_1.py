"""Being process 1, of a namespace of its own, or of nothing: what orphans come to."""

from __future__ import annotations

import subprocess

import pytest

AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")
ORPHANS_COME_HERE = """
import ctypes, sys
import modeldrop.util.init_process as init_process
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: as process 1, in any namespace
init_process.is_first = lambda: True
from modeldrop.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _has_namespaces() -> bool:
    try:
        return subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_namespaces = pytest.mark.skipif(not _has_namespaces(), reason="may not make process namespaces (unshare --pid)")
