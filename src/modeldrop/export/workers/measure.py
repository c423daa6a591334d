"""Ask two versions of a generic model the same, and have the recipe's own metric judge both.

Runs as ``python -m modeldrop.export.workers.measure REQUEST``; see ``messages.MeasureRequest``.
"""

from __future__ import annotations

from pathlib import Path

from modeldrop.errors import RecipeError
from modeldrop.export.messages import MeasureAnswer, MeasureRequest
from modeldrop.export.models.generic.inputs import NamedInput, read_inputs
from modeldrop.export.workers.own_metric import OwnMeasure
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.format.manifest import Manifest, Variant, parse_manifest
from modeldrop.inference import open_variant
from modeldrop.inference.runs import Array, named_outputs
from modeldrop.util.text import first_line

_IN_USE = "the version in use"


def work(request: MeasureRequest, _: Events) -> MeasureAnswer:
    """Run both, and measure."""
    manifests = [parse_manifest((folder / "manifest.json").read_bytes()) for folder in (request.new, request.current)]
    new, current = _same_variant(*manifests)
    samples, mine = _answers(request.new, new, request.inputs, "the new version")
    its = _answers(request.current, current, request.inputs, _IN_USE)[1]
    measure = OwnMeasure(request.metric, [one.fields for one in samples], mine)
    return MeasureAnswer(new=measure.original, current=measure.of(its, _IN_USE))


def _same_variant(new: Manifest, current: Manifest) -> tuple[Variant, Variant]:
    """The first variant of the new version that the other one has, too; else the first of each."""
    pairs = [(one, other) for one in new.variants if (other := current.variant(one.name)) is not None]
    return pairs[0] if pairs else (new.variants[0], current.variants[0])


def _answers(
    folder: Path, variant: Variant, inputs: Path, whose: str
) -> tuple[list[NamedInput], list[dict[str, Array]]]:
    signature = {role: graph.inputs for role, graph in variant.signature.items()}
    try:
        samples = read_inputs(inputs, signature, further=True)
    except RecipeError as error:  # a column that only one of the two knows
        raise RecipeError(
            f"{error.message.rstrip('.')} (asked of {whose}).",
            "Name inputs that both versions take; where they cannot, promote by hand (modeldrop promote).",
        ) from error
    opened = open_variant(folder, variant.graphs)
    try:
        return samples, [named_outputs([step.graph for step in one.steps], opened.run(one.steps)) for one in samples]
    except Exception as error:
        said = f"inputs: {whose} fails on them: {first_line(error)}"
        raise RecipeError(said, "Name inputs that both versions take.") from error


if __name__ == "__main__":
    serve(work, MeasureRequest)
