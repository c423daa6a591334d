"""Compare a build with the version that a channel names, and test it, in the job that has built it.

Nothing here stops a run but the user's own test: what cannot be compared is said in the summary.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from modeldrop.action import github
from modeldrop.action.inputs import ActionInputs
from modeldrop.action.install import install_inference, wrap_exporter
from modeldrop.action.result import RunFolder
from modeldrop.errors import ModeldropError
from modeldrop.export.builtin_texts import BUILT_IN, PAIRS
from modeldrop.export.environments.virtual import PipCache
from modeldrop.export.messages import from_json, to_json
from modeldrop.format.channel import Channel
from modeldrop.format.labels import inputs_of
from modeldrop.format.manifest import Manifest
from modeldrop.publishing.compare import compare_builds
from modeldrop.publishing.comparison import BuildComparison, variant_changes
from modeldrop.publishing.plan import Plan
from modeldrop.publishing.user_test import check_unpublished
from modeldrop.registry.publish import Build
from modeldrop.registry.replicate import download_version
from modeldrop.registry.versions import read_channel, version_named

_KEPT = "comparison.json"
_EXPORTER = "MODELDROP_EXPORTER_PYTHON"


def compare_and_test(
    inputs: ActionInputs, planned: Plan, build: Build | None, run: RunFolder, *, measure: bool = True
) -> None:
    """Compare what is to be published with what the default branch's channel names; test it, where nothing else does.

    Args:
        inputs: those of the run.
        planned: what is wanted, and where it is.
        build: the build; None for the version that a registry has.
        run: gets the comparison.
        measure: whether both are run here, if no earlier step or run has done that.

    Raises:
        UserTestError: the test of what is not published failed.
        ModeldropError: where there is a test, the version to compare with cannot be read.
    """
    request = planned.request
    tests = bool(request.test) and inputs.tests_unpublished
    with tempfile.TemporaryDirectory(prefix="compare-", dir=run.folder) as scratch:
        work = Path(scratch)
        try:
            store = planned.stores[0]
            channel, _ = read_channel(store, request.model, inputs.compared_channel)
            if build is None:
                build = _found(planned, work / "new")
            before = None
            if channel is not None and channel.present.digest != build.digest:
                version = version_named(store, request.model, channel)
                before = download_version(store, request.model, version, work / "current")
        except ModeldropError as error:
            if tests:
                raise
            github.annotate("warning", "modeldrop: not compared", f"{error.message}\n{error.hint}".strip())
            return
        compared = _comparison(inputs, channel, before, build)
        if before is not None:
            kept = _kept(build.folder, compared)
            if kept is None and measure:
                github.say(f"Comparing with {compared.channel}, {compared.version}")
                python = _python(inputs, run)
                kept = compare_builds(
                    before, build, compared, texts=_texts(planned, build.manifest), scratch=work, python=python
                )
            compared = kept or compared
            for problem in compared.problems:
                github.say(f"not compared: {problem}")
            if not inputs.publishes:
                (build.folder / _KEPT).write_text(json.dumps(to_json(compared)), "utf-8")
        run.keep_comparison(compared)
        if tests:
            current = (before or build).folder if channel is not None else None
            result = run.load()
            result.tested = False
            run.save(result)
            check_unpublished(request, build.folder, channel, current)
            result.tested = True
            run.save(result)


def _found(planned: Plan, folder: Path) -> Build:
    assert planned.present is not None  # noqa: S101  else there is a build
    store, version = planned.present
    return download_version(store, planned.request.model, version, folder)


def _comparison(inputs: ActionInputs, channel: Channel | None, before: Build | None, build: Build) -> BuildComparison:
    """What the manifests say of it."""
    old = None if before is None else before.manifest
    return BuildComparison(
        channel=inputs.compared_channel,
        version="" if channel is None else f"v{channel.version}",
        before="" if channel is None else channel.present.digest,
        after=build.digest,
        variants=variant_changes(old, build.manifest),
        own_inputs=any(one is not None and one.recipe.inputs is not None for one in (old, build.manifest)),
    )


def _kept(folder: Path, known: BuildComparison) -> BuildComparison | None:
    """What phase: build has found out of the same two versions."""
    try:
        kept = from_json(BuildComparison, json.loads((folder / _KEPT).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    same = (kept.channel, kept.before, kept.after) == (known.channel, known.before, known.after)
    return kept if same else None


def _texts(planned: Plan, manifest: Manifest) -> tuple[tuple[str, ...], ...]:
    """The texts of the recipe, or the built-in ones; none for what is asked something else."""
    samples = planned.build_request.samples
    if samples:
        return tuple(sample.texts for sample in samples if sample.kind == "text")
    return PAIRS if inputs_of(manifest)[0] == "pair" else tuple((text,) for text in BUILT_IN)


def _python(inputs: ActionInputs, run: RunFolder) -> str:
    """An interpreter with onnxruntime: the exporter's, or, where nothing was to be exported, a small one."""
    if exporter := os.environ.get(_EXPORTER):
        return exporter if Path(exporter).parent == run.folder else str(wrap_exporter(exporter, run.folder))
    return str(install_inference(PipCache(none=not inputs.may_cache)))
