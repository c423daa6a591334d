"""``python -m modeldrop``."""

from modeldrop.cli import program

program()
