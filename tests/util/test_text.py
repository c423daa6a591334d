import pytest

from modeldrop.util.text import apart, latencies_text, latency_text


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


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0.0, "0 ms"),
        (0.004, "0.004 ms"),
        (0.0312, "0.031 ms"),
        (0.94, "0.94 ms"),
        (1.84, "1.8 ms"),
        (122.6, "123 ms"),
        (1240.0, "1.24 s"),
    ],
)
def test_a_latency_has_two_digits_at_least(milliseconds: float, shown: str) -> None:
    assert latency_text(milliseconds) == shown


def test_two_latencies_name_their_unit_once_if_it_is_one() -> None:
    assert latencies_text(0.0312, 0.41) == "0.031/0.41 ms"
    assert latencies_text(62.0, 1240.0) == "62 ms/1.24 s"
