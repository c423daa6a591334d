"""What a Python file defines, told without running it: it runs in a worker alone."""

from __future__ import annotations

import ast
from pathlib import Path

FUNCTION, CLASS, UNKNOWN = "function", "class", ""
"""What a name stands for; only loading the file tells what one that is imported or defined on a condition is."""
_MAX_BYTES = 1 << 20


def kind_of(content: bytes, file: Path | str, name: str) -> str:
    """What the name stands for at the top of a file.

    Args:
        content: of the file.
        file: how messages call it.
        name: it.

    Raises:
        ValueError: a sentence: the file is too large or not Python, or defines no such name.
    """
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{file} has more than {_MAX_BYTES} bytes.")
    try:
        tree = ast.parse(content, str(file))
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"{file} is not Python{line}: {error.args[0]}.") from None
    names = _defined(tree)
    if name not in names and "*" not in names:
        told = ", ".join(sorted(name for name in names if not name.startswith("_"))[:10]) or "nothing"
        raise ValueError(f"{file} has no function {name}; it defines {told}.")
    return names.get(name, UNKNOWN)


def _defined(tree: ast.Module) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names[node.name] = FUNCTION
            case ast.ClassDef():
                names[node.name] = CLASS
            case ast.Import() | ast.ImportFrom():
                names |= dict.fromkeys((alias.asname or alias.name for alias in node.names), UNKNOWN)
            case ast.Assign():
                names |= {target.id: UNKNOWN for target in node.targets if isinstance(target, ast.Name)}
            case ast.If() | ast.Try():
                # Defined under a condition: only loading it shows whether it exists.
                names["*"] = UNKNOWN
            case _:
                pass
    return names
