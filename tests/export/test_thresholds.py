"""What a build that is not faithful says of the input that fared worst."""

import pytest

from modeldrop.errors import FidelityError
from modeldrop.export.messages import Measurement
from modeldrop.export.thresholds import judge
from modeldrop.format.recipe import Recipe

MEASURED = Measurement(
    metrics={"cosine_mean": 0.5, "cosine_min": 0.4},
    worst={"cosine_min": (1, 0.4), "max_abs": (0, 2.0)},
    golden={},
    speed=(1.0, 2.0),
)


@pytest.mark.parametrize(
    ("show", "own", "said"), [("no", "texts.txt", "input 2"), ("no", None, "'secret'"), ("", "texts.txt", "'secret'")]
)
def test_texts_of_the_users_own_are_shown_unless_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, show: str, own: str | None, said: str
) -> None:
    monkeypatch.setenv("MODELDROP_SHOW_INPUTS", show)
    recipe = Recipe(inputs=own, thresholds={"int8": {"cosine_mean": 0.9}})
    with pytest.raises(FidelityError) as error:
        judge(recipe, "int8", MEASURED, ["first", "secret"], {})
    assert f"worst on {said} (0.4)" in error.value.message
    assert ("secret" in error.value.message) == ("secret" in said)
