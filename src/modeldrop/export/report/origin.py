"""Where a version comes from, how it is loaded, and what made it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from modeldrop.export.report.blocks import definitions, section
from modeldrop.export.report.formatting import counted, text
from modeldrop.export.report.header import moment
from modeldrop.export.report.tables import is_openvino
from modeldrop.format.manifest import Manifest, Variant

_SHOWN_LABELS = 50


def loading(manifest: Manifest) -> str:
    """Commands that bring the smallest variant to a disk, and open it there."""
    smallest = min(manifest.variants, key=manifest.weights_of)
    command = f"modeldrop fetch REGISTRY/MODEL --variant {smallest.name}"
    graphs = "; ".join(f"{variant.name}: {', '.join(variant.graphs.values())}" for variant in manifest.variants)
    note = (
        "A snapshot is a plain folder that any runtime opens. Without --variant, the one that suits the CPU is taken. "
        f"The graphs: {graphs}."
    )
    html = (
        f'<div class="card"><pre dir="ltr">{text(command)}</pre><pre dir="ltr">{text(_program(smallest))}</pre></div>'
    )
    return section("How to load it", note, html)


def _program(variant: Variant) -> str:
    module = "openvino" if is_openvino(variant) else "onnxruntime"
    opening = 'openvino.compile_model({}, "CPU")' if is_openvino(variant) else "onnxruntime.InferenceSession({})"
    lines = [
        "import modeldrop",
        f"import {module}",
        "",
        f"snapshot = modeldrop.fetch({_quoted('REGISTRY/MODEL')}, variant={_quoted(variant.name)})",
    ]
    if variant.others:
        opened = [
            f"    {_quoted(role)}: {opening.format(f'snapshot.path / {_quoted(path)}')},"
            for role, path in variant.graphs.items()
        ]
        lines += ["graphs = {", *opened, "}"]
    else:
        lines.append(f"session = {opening.format('snapshot.model_file')}")
    return "\n".join(lines)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def facts(manifest: Manifest) -> str:
    """Source, licence, and who built it where."""
    source, provenance = manifest.source, manifest.provenance
    return section(
        "Where it comes from",
        "",
        definitions(
            (
                ("Task", "", manifest.task),
                ("Architecture", "", manifest.architecture),
                ("Licence", "", source.licence or "none is named by the source"),
                ("Terms", "", "to be accepted on the Hub before it may be used (gated)" if source.gated else ""),
                ("Longest text", "", f"{manifest.max_length} tokens" if manifest.max_length else ""),
                ("Source", "", source.repository),
                ("Source commit", "mono", source.commit),
                ("Source identity", "wide mono", source.identity),
                ("Labels", "wide", _labels(manifest.labels)),
                ("Built", "", moment(provenance.created)),
                ("By", "", provenance.actor),
                ("Run", "wide", provenance.run),
                ("Built from", "", provenance.repository),
                ("At commit", "mono", provenance.commit),
                ("Machine", "wide", manifest.machine),
            )
        ),
    )


def _labels(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN_LABELS} more" if len(labels) > _SHOWN_LABELS else ""
    return ", ".join(labels[:_SHOWN_LABELS]) + more


def making(manifest: Manifest) -> str:
    """The recipe, and the environment that followed it."""
    plain = json.dumps(manifest.recipe.to_json(), indent=2, sort_keys=True, ensure_ascii=False)
    recipe = f'<div class="card whole"><pre class="bare" dir="ltr">{text(plain)}</pre></div>'
    tools = definitions((name, "", version) for name, version in sorted(manifest.toolchain.items()))
    return (
        '<div class="pair">\n'
        + section("Recipe", "What was asked for; the rest had its default.", recipe)
        + section("Toolchain", "What it was built with.", tools + _environment(manifest))
        + "\n</div>"
    )


def _environment(manifest: Manifest) -> str:
    """Every package of the exporter's environment, as pip takes them."""
    packages = sorted(manifest.environment.items())
    if not packages:
        return ""
    lines = "\n".join(f"{name}=={version}" for name, version in packages)
    return (
        f'<details class="card"><summary>All of the exporter\'s environment: '
        f"{counted(len(packages), 'package', 'packages')}</summary>"
        f'<pre class="bare" dir="ltr">{text(lines)}</pre></details>'
    )


def footer(manifest: Manifest) -> str:
    """What made the page."""
    version = manifest.environment.get("modeldrop") or manifest.toolchain.get("modeldrop", "")
    by = f"modeldrop {version}" if version else "modeldrop"
    return (
        f"<footer><p>Made by {text(by)} from the version's manifest.json, exporter epoch {manifest.epoch}. "
        f'Build key: <span class="digest">{text(manifest.build_key)}</span></p></footer>'
    )
