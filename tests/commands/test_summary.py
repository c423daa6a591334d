from __future__ import annotations

import pytest

from modeldrop.commands.summary import variant_table
from modeldrop.format.manifest import Fidelity, Speed
from tests.format import examples


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"cosine_mean": 0.99, "cosine_min": 0.97}, "cosine 0.9900 mean, 0.9700 min"),
        ({"cosine_mean": 0.99}, "cosine 0.9900 mean"),
        ({"cosine_min": 0.97}, "cosine 0.9700 min"),
    ],
)
def test_a_variant_is_shown_with_the_metrics_that_it_has(metrics: dict[str, float], shown: str) -> None:
    manifest = examples.manifest()
    fidelity = Fidelity(metrics, {}, {}, 1)
    variant = manifest.variants[0]._replace(fidelity=fidelity)
    assert variant_table(manifest._replace(variants=(variant,))).rstrip().endswith(shown)


def test_latencies_of_small_models_are_not_nothing() -> None:
    manifest = examples.manifest()
    variant = manifest.variants[0]._replace(speed=Speed(0.0312, 0.41))
    assert " 0.031 ms " in variant_table(manifest._replace(variants=(variant,)))
    assert " 0.41 ms " in variant_table(manifest._replace(variants=(variant,)))
