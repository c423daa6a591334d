"""Free dimensions of a torch module's inputs, as a recipe writes them: ``batch``, ``length <= 512``, ``8*blocks``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modeldrop.format.codec import MapField, TextField
from modeldrop.format.json_fields import Fields
from modeldrop.util.named_tuples import NamedTuple

_DIMENSION = re.compile(
    r"(?:(?P<times>[1-9][0-9]{0,5}) ?\* ?)?(?P<name>[A-Za-z_][A-Za-z0-9_]{0,63})(?: ?<= ?(?P<most>[1-9][0-9]{0,9}))?"
)
_NUMBER = re.compile(r"0|[1-9][0-9]?")


class Dimension(NamedTuple):
    """A free dimension.

    Attributes:
        name: what it is called in the graph; dimensions of one name have one size.
        times: its size is so many times what is called so.
        most: its largest size; None for any.
    """

    name: str
    times: int = 1
    most: int | None = None

    def __str__(self) -> str:
        return (f"{self.times}*" if self.times > 1 else "") + self.name


def parse_dimension(text: str) -> Dimension:
    """Read one that a recipe has been read with.

    Raises:
        ValueError: it is none.
    """
    match = _DIMENSION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return Dimension(match["name"], int(match["times"] or 1), int(match["most"]) if match["most"] else None)


class DynamicShapesField(MapField):
    """Free dimensions by input and number, as people write them: every other one is fixed."""

    def __init__(self, description: str) -> None:
        super().__init__(description, MapField("By number.", TextField("A name.", limit=128)), default={}, omit=True)

    def read(self, fields: Fields, name: str) -> dict[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = super().read(fields, name)
        for tensor, dims in found.items():
            inner = fields.child(name).child(tensor)
            for number, text in dims.items():
                if not _NUMBER.fullmatch(number):
                    inner.fail("is no number of a dimension: they are counted from 0", number)
                if not _DIMENSION.fullmatch(text):
                    inner.fail(f"{text[:80]!r} is no name of a size, such as batch, length <= 512 or 8*blocks", number)
        return found


def dimensions(shapes: Mapping[str, Mapping[str, str]]) -> dict[str, dict[int, Dimension]]:
    """A recipe's free dimensions, by input and number."""
    return {
        tensor: {int(number): parse_dimension(text) for number, text in sorted(dims.items())}
        for tensor, dims in shapes.items()
    }
