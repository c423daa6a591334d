import pytest

from modeldrop.util.text import apart


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [
        (0.99999996, 0.99999999, ("0.99999996", "0.99999999")),
        (1 - 2**-53, 1.0, ("0.9999999999999999", "1")),
        (1.0, 1.0, ("1", "1")),
        (0.98765432, 0.98, ("0.987654", "0.98")),
        (0.985, 0.9999999, ("0.985", "0.9999999")),
        (0.79, 0.99 * 0.8, ("0.79", "0.792")),
        (float("nan"), 1.0, ("nan", "1")),
    ],
)
def test_a_figure_and_its_limit_look_the_same_only_if_they_are(
    value: float, limit: float, shown: tuple[str, str]
) -> None:
    assert apart(value, limit) == shown
