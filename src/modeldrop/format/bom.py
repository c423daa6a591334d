"""A version's bill of materials: CycloneDX 1.6, made of its manifest alone, and so always the same for the same bytes.

The model is a ``machine-learning-model`` with the manifest's digest; below it are its variants, each a build of the
same weights, and the files with their SHA-256. What it was made of is its pedigree, what made it the tools.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.format.manifest import Manifest, Variant

_HUB = "hf:"
_URL = ("http://", "https://")
# As the Hub writes them, and as SPDX does; CycloneDX takes any other as a name.
_SPDX = {
    name.lower(): name
    for name in (
        "AFL-3.0", "AGPL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC-BY-2.0",
        "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-2.0", "CC-BY-NC-3.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0",
        "CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC0-1.0", "ECL-2.0", "EPL-1.0", "EPL-2.0", "EUPL-1.1",
        "GPL-2.0", "GPL-3.0", "ISC", "LGPL-2.1", "LGPL-3.0", "LPPL-1.3c", "MIT", "MPL-2.0", "MS-PL", "NCSA", "ODbL-1.0",
        "OFL-1.1", "OSL-3.0", "PDDL-1.0", "PostgreSQL", "Unlicense", "WTFPL", "Zlib",
    )
}  # fmt: skip


def spdx_id(licence: str) -> str:
    """The identifier of SPDX for a licence as the Hub writes it; "" where it has none that is known here."""
    return _SPDX.get(licence.lower(), "")


def render_bom(model: str, manifest: Manifest, digest: str) -> bytes:
    """The bytes of ``bom.cdx.json``.

    Args:
        model: the model's name.
        manifest: the version's manifest.
        digest: of that manifest.
    """
    return (json.dumps(_document(model, manifest, digest), indent=2, ensure_ascii=False) + "\n").encode()


def _document(model: str, manifest: Manifest, digest: str) -> dict[str, Any]:
    tools = {**manifest.environment, **manifest.toolchain}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{model}@{digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.provenance.created,
            "tools": {"components": [_tool(name, tools[name]) for name in sorted(tools)]},
            "component": _model(model, manifest, digest),
        },
        "components": [
            *(_variant(manifest, variant) for variant in manifest.variants),
            *(
                {
                    "type": "file",
                    "bom-ref": f"file:{file.path}",
                    "name": file.path,
                    "hashes": [{"alg": "SHA-256", "content": file.sha256}],
                    "properties": [_property("size", file.size)],
                }
                for file in manifest.files
            ),
        ],
        "dependencies": [
            {"ref": digest, "dependsOn": [f"variant:{variant.name}" for variant in manifest.variants]},
            *(
                {"ref": f"variant:{variant.name}", "dependsOn": [f"file:{path}" for path in variant.files]}
                for variant in manifest.variants
            ),
        ],
    }


def _model(model: str, manifest: Manifest, digest: str) -> dict[str, Any]:
    source, made = manifest.source, manifest.provenance
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": digest,
        "name": model,
        "version": digest,
        "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
    }
    if source.licence:
        known = spdx_id(source.licence)
        component["licenses"] = [{"license": {"id": known} if known else {"name": source.licence}}]
    ancestor: dict[str, Any] = {"type": "machine-learning-model", "name": source.repository or source.identity}
    if source.commit:
        ancestor["version"] = source.commit
    if source.repository and source.commit and source.identity.startswith(_HUB):
        ancestor["purl"] = f"pkg:huggingface/{source.repository}@{source.commit}"
    component["pedigree"] = {"ancestors": [ancestor]}
    references = [
        {"type": kind, "url": url}
        for kind, url in (("vcs", made.repository), ("build-meta", made.run))
        if url.startswith(_URL)
    ]
    if references:
        component["externalReferences"] = references
    component["modelCard"] = {
        "modelParameters": {"task": manifest.task, "modelArchitecture": manifest.architecture},
    }
    component["properties"] = [
        _property(name, value)
        for name, value in (
            ("build-key", manifest.build_key),
            ("commit", made.commit),
            ("source", source.identity),
            ("machine", manifest.machine),
            ("original", manifest.original.framework),
        )
        if value
    ]
    return component


def _variant(manifest: Manifest, variant: Variant) -> dict[str, Any]:
    """A build of the weights: its quantization is its name, its fidelity the performance."""
    metrics = variant.fidelity.metrics
    return {
        "type": "machine-learning-model",
        "bom-ref": f"variant:{variant.name}",
        "name": variant.name,
        "modelCard": {
            "modelParameters": {
                "task": manifest.task,
                "modelArchitecture": manifest.architecture,
                "inputs": [{"format": f"{one.name}: {one.dtype}"} for one in variant.inputs],
                "outputs": [{"format": f"{one.name}: {one.dtype}"} for one in variant.outputs],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [{"type": name, "value": str(metrics[name])} for name in sorted(metrics)]
            },
        },
        "properties": [
            _property("quantization", variant.name),
            _property("graph", variant.model),
            _property("weights", manifest.weights_of(variant)),
            _property("opset", variant.opset),
        ],
    }


def _tool(name: str, version: str) -> dict[str, Any]:
    tool = {"type": "library", "bom-ref": f"tool:{name}", "name": name, "version": version}
    if name == "python":
        return tool | {"type": "platform"}
    return tool | {"purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version.replace('+', '%2B')}"}


def _property(name: str, value: object) -> Mapping[str, str]:
    return {"name": f"modeldrop:{name}", "value": str(value)}
