"""Figures of two versions side by side, as data."""

from modeldrop.export.messages import CompareAnswer, TimedVariant
from modeldrop.format.manifest import Speed
from modeldrop.publishing.comparison import BuildComparison, metrics_json, variant_changes
from tests.format.examples import manifest


def test_each_variant_beside_what_it_replaces() -> None:
    after = manifest()
    fp32, int8 = after.variants
    slower = int8._replace(
        speed=Speed(8.0, 90.0), fidelity=int8.fidelity._replace(metrics={"cosine_mean": 0.5, "accuracy": 0.8})
    )
    before = after._replace(variants=(fp32._replace(name="fp16"), slower))
    changes = variant_changes(before, after)
    assert [(one.name, one.before is None, one.after is None) for one in changes] == [
        ("fp32", True, False),
        ("int8", False, False),
        ("fp16", False, True),
    ]
    known = BuildComparison(channel="current", version="v7", before="", after="", variants=changes)
    metrics = metrics_json(changes, known)
    assert (metrics["compared_with"], metrics["removed"], metrics["measured_together"]) == ("v7", ["fp16"], False)
    assert "deltas" not in metrics["variants"]["fp32"]
    told = metrics["variants"]["int8"]
    assert told["size"] == after.weights_of(int8)
    assert told["deltas"]["size"] == 0
    assert int8.speed is not None
    assert told["deltas"]["latency_ms"]["batch_1"] == round(int8.speed.batch_1_ms - 8.0, 8)
    assert told["deltas"]["fidelity"] == {"cosine_mean": round(int8.fidelity.metrics["cosine_mean"] - 0.5, 8)}


def test_what_was_measured_here_counts() -> None:
    one = manifest()
    measured = CompareAnswer(
        inputs=3, before={"int8": TimedVariant(2.0)}, after={"int8": TimedVariant(1.5, 9.0)}, answers=(), problems=()
    )
    told = metrics_json(variant_changes(one, one, measured), None)["variants"]
    assert told["int8"]["latency_ms"] == {"batch_1": 1.5, "batch_32": 9.0}
    assert told["int8"]["deltas"]["latency_ms"] == {"batch_1": -0.5, "batch_32": None}
    assert told["fp32"]["latency_ms"] == {"batch_1": None, "batch_32": None}


def test_nothing_to_compare_with() -> None:
    metrics = metrics_json(variant_changes(None, manifest()), None)
    assert (metrics["compared_with"], sorted(metrics["variants"])) == (None, ["fp32", "int8"])
    assert all("deltas" not in one for one in metrics["variants"].values())
