"""Find the recipe's own metric without running it: it runs in a worker alone.

``quality:accuracy`` is the function ``accuracy`` of ``quality.py`` beside the recipe or, where there is no such file,
of an installed module; ``metrics/quality.py:accuracy`` names the file. What it imports besides must be installed: the
build key knows this one file.
"""

from __future__ import annotations

import importlib.machinery
import os
import re
from dataclasses import dataclass
from pathlib import Path

from modeldrop.errors import RecipeError
from modeldrop.export.python_file import kind_of
from modeldrop.format.names import hex_digest

_NAME = re.compile(r"[^/]+\.py|\w+(\.\w+)*")
_HINT = 'The file lies beside the recipe: metric = "quality:accuracy" is the function accuracy of quality.py.'


@dataclass(frozen=True, slots=True)
class OwnMetric:
    """A function that measures.

    Attributes:
        spelled: as the recipe names it.
        file: the file that it is in.
        module: the name of the installed module; "" for a file that is loaded by its path.
        function: its name.
        digest: of all that it is known to be made of: 64 hexadecimal digits.
    """

    spelled: str
    file: Path
    module: str
    function: str
    digest: str


def find_metric(spelled: str) -> OwnMetric:
    """Find a metric; nothing of it is run.

    Args:
        spelled: ``[FOLDER/]module:function`` or ``[FOLDER/]file.py:function``.

    Raises:
        RecipeError: there is no such file or function, or it is not Python.
    """
    folder, _, name = spelled.rpartition(":")[0].rpartition("/")
    function = spelled.rpartition(":")[2]
    if not _NAME.fullmatch(name):
        raise RecipeError(f"metric: {name[:80]!r} is no module, nor a file called *.py.", _HINT)
    inner = Path(name) if name.endswith(".py") else Path(*name.split(".")).with_suffix(".py")
    path = Path(folder or ("/" if spelled.startswith("/") else "."), inner)
    module = ""
    file: Path | None = path
    if not os.path.isfile(path):  # noqa: PTH113  whatever is wrong with a path, there is no such file
        module, file = name, _installed(name)
    if file is None:
        raise RecipeError(
            f"metric: there is neither a file {path} nor an installed module {module}.",
            _HINT,
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RecipeError(f"metric: {file} cannot be read: {error.strerror}.") from None
    try:
        kind_of(content, file, function)
    except ValueError as error:
        raise RecipeError(f"metric: {error}") from None
    digest = hex_digest(function.encode() + b"\0" + content)
    return OwnMetric(spelled=spelled, file=file.resolve(), module=module, function=function, digest=digest)


def _installed(module: str) -> Path | None:
    """The file of a module that could be imported; no package is imported to find out."""
    path = None
    origin: str | None = None
    for count in range(1, module.count(".") + 2):
        name = ".".join(module.split(".")[:count])
        try:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        path, origin = spec.submodule_search_locations, spec.origin
    return Path(origin) if origin is not None and origin.endswith(".py") else None
