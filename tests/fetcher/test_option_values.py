from __future__ import annotations

from importlib.resources import files
from typing import get_type_hints

import pytest

from modeldrop.errors import UsageError
from modeldrop.fetcher import options
from modeldrop.fetcher.option_values import OptionValues
from modeldrop.fetcher.options import Options, with_overrides


def test_type_checkers_know_the_options_as_they_are() -> None:
    assert get_type_hints(OptionValues) == get_type_hints(options._OptionFields)
    assert tuple(OptionValues.__annotations__) == Options._fields
    assert (files("modeldrop") / "py.typed").is_file()


def test_whoever_uses_no_type_checker_is_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"afetch has no option varaint.*\n.*variant"):
        with_overrides(None, {"varaint": "int8"}, "afetch")
