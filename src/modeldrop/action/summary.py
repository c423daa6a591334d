"""The job summary of a run, in Markdown."""

from __future__ import annotations

import html
import re

from modeldrop.action.comparison_summary import comparison_markdown
from modeldrop.action.markdown import markdown_code, markdown_quote, markdown_table, markdown_text
from modeldrop.action.result import RegistryResult, RunResult
from modeldrop.format.labels import inputs_of
from modeldrop.format.manifest import Manifest, Speed, Variant
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.publishing.comparison import BuildComparison
from modeldrop.registry.promotion import Promotion
from modeldrop.util.text import apart, latency_text, size_text


def summary_markdown(
    result: RunResult,
    manifest: Manifest | None,
    comparison: BuildComparison | None = None,
    *,
    report: str = "",
    show_inputs: bool = False,
) -> str:
    """The summary of a run.

    Args:
        result: what came of it.
        manifest: of the version or the build that it is about, if there is one.
        comparison: how that compares with what a channel names, if it was compared.
        report: the address of report.html, or "".
        show_inputs: whether texts of the user's own inputs may be shown.
    """
    parts = [f"## {markdown_code(result.model or 'modeldrop')}: {_headline(result)}", _registries(result)]
    if result.failure:
        parts.append(f"> [!CAUTION]\n{markdown_quote(result.failure)}")
    if manifest is not None:
        if comparison is not None:
            parts.append(comparison_markdown(comparison, inputs_of(manifest), show_inputs=show_inputs))
        parts.append(_variants(manifest))
        if report:
            parts.append(f"[The whole report]({report}), as an artifact of this run.")
        parts += [_fetching(result), _provenance(result, manifest)]
    return "\n\n".join(part for part in parts if part) + "\n\n"


def failure_markdown(message: str) -> str:
    """The summary of a run that ended before anything was known about the model."""
    return f"## modeldrop: failed\n\n> [!CAUTION]\n{markdown_quote(message)}\n\n"


def _headline(result: RunResult) -> str:
    first = result.registries[0] if result.registries else None
    if first is None:
        return "failed" if result.failure else "nothing was done"
    if first.done == "built":
        said = f"published as {first.version}"
    elif first.done == "adopted":
        said = f"{first.version}, which another run built meanwhile"
    elif first.done:
        said = f"unchanged, {first.version}" if first.done == "unchanged" else f"mirrored as {first.version}"
    elif result.built:
        said = "built, not published"
    elif result.would_build:
        said = "failed" if result.failure else "would be built"
    else:
        said = f"unchanged, {next((one.version for one in result.registries if one.version), '')}"
    rejected = result.tested is False or any(registry.tested is False for registry in result.registries)
    return f"{said}; rejected by its test" if rejected else said


def _registries(result: RunResult) -> str:
    if not result.registries:
        return ""
    why = {
        "built": "built, because force is true"
        if result.forced
        else "built, because no registry had this source with this recipe",
        "adopted": "built by another run of the same recipe, which was faster",
        "mirrored": "copied from another registry, nothing was built",
        "unchanged": "unchanged: this source with this recipe was built before",
    }
    rows = []
    for registry in result.registries:
        done = why.get(registry.done, "")
        if not done:
            done = "unchanged" if registry.version else ("built, not published" if result.built else "not there")
        rows.append((markdown_code(registry.url), registry.version or "–", done, _channel(result, registry)))
    return markdown_table(("registry", "version", "what was done", markdown_code(result.channel)), rows)


def _channel(result: RunResult, registry: RegistryResult) -> str:
    if registry.promotion == Promotion.MOVED:
        return f"**{registry.after}** (was {registry.before or 'not there'})"
    if registry.after and registry.after == registry.version:
        return f"{registry.after}, as before"
    stays = f"stays at {registry.after}" if registry.after else "not there"
    if registry.promotion in {Promotion.HELD, Promotion.PROPOSED, Promotion.REJECTED}:
        stays = f"**{registry.promotion}**: {stays}"
    reason = registry.reason or result.reason
    return f"{stays}: {markdown_text(reason)}" if reason else stays


def _variants(manifest: Manifest) -> str:
    original = manifest.original
    rows = [("*original*", size_text(original.weight_bytes), *_speeds(original.speed, None), "")]
    for variant in manifest.variants:
        size = size_text(manifest.weights_of(variant))
        rows.append(
            (markdown_code(variant.name), size, *_speeds(variant.speed, original.speed), _fidelity(manifest, variant))
        )
    one, several = inputs_of(manifest)
    columns = ("variant", "size", f"1 {one}", f"32 {several}", "fidelity, against its threshold")
    return markdown_table(columns, rows, right=(1, 2, 3))


def _speeds(speed: Speed | None, original: Speed | None) -> tuple[str, str]:
    """Latencies of one input and of 32, with how many times faster than the original that is."""
    if speed is None:
        return "", ""
    return (
        _latency(speed.batch_1_ms, original.batch_1_ms if original else None),
        _latency(speed.batch_32_ms, original.batch_32_ms if original else None),
    )


def _latency(milliseconds: float, original: float | None) -> str:
    times = f" ({original / milliseconds:.1f}×)" if original and milliseconds > 0 else ""
    return f"{latency_text(milliseconds)}{times}"


def _fidelity(manifest: Manifest, variant: Variant) -> str:
    parts = []
    for metric, value in variant.fidelity.metrics.items():
        limit = variant.fidelity.thresholds.get(metric)
        side = {">=": "≥", "<=": "≤"}.get(manifest.recipe.side(metric) or "", "against")
        shown, required = apart(value, value if limit is None else limit, 5)
        against = f" {side} {required}" if limit is not None else ""
        parts.append(f"{markdown_text(metric)} {shown}{against}")
    if variant.search:
        parts.append(f"found in {len(variant.search)} tries, see the report")
    return "<br>".join(parts)


def _fetching(result: RunResult) -> str:
    first = next((registry for registry in result.registries if registry.version), None)
    if first is None or not result.model:
        return ""
    named = first.after == first.version
    version = "" if named and result.channel == DEFAULT_CHANNEL else f"@{result.channel if named else first.version}"
    where = f"{first.url}/{result.model}{version}"
    exact = f"{first.url}/{result.model}@{first.version}@{first.digest}"
    return "\n".join(
        [
            "**Fetch it**",
            "",
            f"<pre>modeldrop fetch {html.escape(_shell(where))}",
            f"modeldrop fetch {html.escape(_shell(exact))}  # exactly this version, for ever</pre>",
        ]
    )


def _shell(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9@%+=:,./_-]+", word) else "'" + word.replace("'", "'\"'\"'") + "'"


def _provenance(result: RunResult, manifest: Manifest) -> str:
    built, first = manifest.provenance, next((one for one in result.registries if one.digest), None)
    facts = {
        "source": result.source or manifest.source.identity,
        "licence": manifest.source.licence,
        "terms": "gated: to be accepted on the Hub before it may be used" if manifest.source.gated else "",
        "in no graph": ", ".join(manifest.source.left_out),
        "not built": "; ".join(manifest.dropped.values()),
        "task": manifest.task,
        "architecture": manifest.architecture,
        "manifest": first.digest if first else "",
        "build key": manifest.build_key,
        "built": built.created,
        "by": built.actor,
        "in": built.run,
        "from commit": " ".join(part for part in (built.repository, built.commit) if part),
        "on": manifest.machine,
        "with": ", ".join(f"{name} {version}" for name, version in sorted(manifest.toolchain.items())),
    }
    rows = [(name, markdown_code(value)) for name, value in facts.items() if value]
    return f"<details><summary>Provenance</summary>\n\n{markdown_table(('', ''), rows)}\n\n</details>"
