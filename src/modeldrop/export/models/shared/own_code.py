"""Python files of somebody's own, which a recipe names: run in a worker, and nowhere else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def run_file(path: Path) -> ModuleType:
    """Run a file whose name ends with ``.py``; the module, which others find under the file's name.

    Raises:
        BaseException: whatever the file raises.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # noqa: S101  its name ends with .py
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickles look there
    spec.loader.exec_module(module)
    return module
