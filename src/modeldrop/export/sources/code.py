"""Code as a source: a Python file with a function that makes a torch module, or a class of such modules."""

from __future__ import annotations

import re
from dataclasses import replace

from modeldrop.errors import SourceError, UsageError
from modeldrop.export.python_file import kind_of
from modeldrop.export.sources.file_choice import FileRules
from modeldrop.export.sources.folder import FolderSource
from modeldrop.format.names import PYTHON, hex_digest
from modeldrop.util.files import expand_user

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class CodeSource(FolderSource):
    """``python:train.py:make_model``. Nothing of it is run here.

    Its identity is that of the file, of the files that the recipe names beside it, and of the function's name.

    Attributes:
        kind: ``function`` or ``class``; "" where only running the file tells.

    Raises:
        UsageError: it is written otherwise.
        SourceError: there is no such file or function, or it is not Python.
    """

    def __init__(self, spec: str, *, rules: FileRules) -> None:
        place, _, function = spec.removeprefix(PYTHON).rpartition(":")
        if not place.endswith(".py") or not _NAME.fullmatch(function):
            raise UsageError(
                f"{spec!r} names no function of a Python file.",
                f"Write {PYTHON}FILE.py:FUNCTION, such as {PYTHON}train.py:make_model.",
            )
        path = expand_user(place)
        if not path.is_file():
            raise SourceError(f"{spec} names the file {place}, which does not exist.", f"Looked at {path.absolute()}.")
        super().__init__(path.parent, spec=spec, rules=replace(rules, code=path.name))
        try:
            self.kind = kind_of(self._bytes(path.name), place, function)
        except ValueError as error:
            raise SourceError(f"{spec}: {error}", "Name a function that gives (module, example inputs).") from None
        self.function = function

    @property
    def identity(self) -> str:
        return "sha256:" + hex_digest(f"{self.function} {super().identity}".encode())

    def weight_bytes(self) -> int:
        return 0  # what the code itself loads, nobody knows before it runs
