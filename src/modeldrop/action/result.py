"""What came of a run: kept in a file between the action's steps, reported as outputs, however the run ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from modeldrop.export.messages import from_json, to_json
from modeldrop.export.report import render
from modeldrop.format.manifest import Manifest, parse_manifest, serialize_manifest
from modeldrop.format.names import hex_digest, parse_version
from modeldrop.publishing.comparison import BuildComparison, metrics_json, variant_changes
from modeldrop.registry.promotion import Promotion
from modeldrop.registry.publish import Published
from modeldrop.site.pages import comparison_page, version_page

_RESULT, _MANIFEST, _REPORT, _CHECKSUMS = "result.json", "manifest.json", "report.html", "checksums.txt"
_COMPARISON, _SUMMARY = "comparison.json", "summary.md"


@dataclass(slots=True)
class RegistryResult:
    """What a registry has, and what its channel names.

    Attributes:
        url: the registry's.
        version: such as ``v3``, or "" where it has none of this recipe.
        digest: the version's manifest digest, or "".
        done: built, adopted, mirrored or unchanged; "" before anything was published.
        before: the version that the channel named when the run began, or "".
        after: the version that it names now, or "".
        promotion: what became of the request to move it, as ``registry.promotion.Promotion``; "" before.
        reason: why it was not moved, or "".
        tested: whether the user's test succeeded; None if it did not run.
    """

    url: str
    version: str = ""
    digest: str = ""
    done: str = ""
    before: str = ""
    after: str = ""
    promotion: str = ""
    reason: str = ""
    tested: bool | None = None

    @classmethod
    def of(cls, published: Published, before: str) -> RegistryResult:
        """What became of a registry that was published to; ``before`` is what its channel named when the run began."""
        version, channel = published.version, published.channel
        return cls(
            url=published.store.url,
            version=f"v{version.number}",
            digest=version.digest,
            done=published.how,
            before=before if channel is None else _version(channel.before),
            after=before if channel is None else _version(channel.after),
            promotion=published.promotion,
            reason="" if channel is None else channel.reason,
            tested=published.tested,
        )


@dataclass(slots=True)
class RunResult:
    """What came of a run.

    Attributes:
        model: its name in the registries.
        channel: the channel that the run is about.
        reason: why nothing is published, or no channel moved, by the inputs; or "".
        source: the pinned source, such as ``hf:org/name@<commit>``.
        given: the source as it was given.
        build_key: the build's.
        would_build: whether no registry had it.
        forced: whether the input force is true.
        built: whether this run built it, or published what an earlier step had built.
        build_folder: where the build is, or "".
        registries: the registries, the first one first.
        failure: what went wrong, or "".
        asked: when the run first asked, or "".
        tested: whether the test of a build that is not published succeeded; None if it did not run.
    """

    model: str = ""
    channel: str = ""
    reason: str = ""
    source: str = ""
    given: str = ""
    build_key: str = ""
    would_build: bool = False
    forced: bool = False
    built: bool = False
    build_folder: str = ""
    registries: list[RegistryResult] = field(default_factory=list)
    failure: str = ""
    asked: str = ""
    tested: bool | None = None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run of the action; later runs in the same job have their own."""

    folder: Path

    def load(self) -> RunResult:
        """The result so far."""
        try:
            plain = json.loads((self.folder / _RESULT).read_text("utf-8"))
        except FileNotFoundError:
            return RunResult()
        return RunResult(**plain | {"registries": [RegistryResult(**registry) for registry in plain["registries"]]})

    def save(self, result: RunResult) -> None:
        """Keep the result for the next step."""
        (self.folder / _RESULT).write_text(json.dumps(asdict(result), indent=2), "utf-8")

    def keep_manifest(self, manifest: Manifest, digest: str = "") -> None:
        """Keep the manifest that the report shows; with the digest of the one that is published or built."""
        data = serialize_manifest(manifest)
        (self.folder / _MANIFEST).write_bytes(data)
        (self.folder / _REPORT).write_bytes(render(manifest))
        sha256 = digest.removeprefix("sha256:") or hex_digest(data)
        # As sha256sum writes it, for actions/attest and for whoever checks a copied version's folder.
        (self.folder / _CHECKSUMS).write_text(f"{sha256}  manifest.json\n", "utf-8")

    def keep_comparison(self, comparison: BuildComparison) -> None:
        """Keep how the build compares with what a channel names."""
        (self.folder / _COMPARISON).write_text(json.dumps(to_json(comparison)), "utf-8")

    def comparison(self) -> BuildComparison | None:
        """What was kept of it."""
        path = self.folder / _COMPARISON
        return from_json(BuildComparison, json.loads(path.read_text("utf-8"))) if path.is_file() else None

    @property
    def summary(self) -> Path:
        """The file with the summary."""
        return self.folder / _SUMMARY

    def manifest(self) -> Manifest | None:
        """The manifest that the report shows."""
        path = self.folder / _MANIFEST
        return parse_manifest(path.read_bytes()) if path.is_file() else None

    def report(self) -> str:
        """The path of report.html, or ""."""
        return self._path(_REPORT)

    def checksums(self) -> str:
        """The path of the file of checksums, or ""."""
        return self._path(_CHECKSUMS)

    def _path(self, name: str) -> str:
        path = self.folder / name
        return str(path) if path.is_file() else ""


def outputs_of(result: RunResult, run: RunFolder) -> dict[str, str]:
    """The action's outputs, all of them, whatever was done or skipped.

    What does not exist is empty; what is a yes or no is ``true`` or ``false``. ``reference`` has one line for each
    registry that has the version; the others are about the first registry.
    """
    first = result.registries[0] if result.registries else RegistryResult("")
    references = [
        f"{registry.url}/{result.model}@{registry.version}@{registry.digest}"
        for registry in result.registries
        if registry.version
    ]
    return {
        "version": first.version,
        "reference": "\n".join(references),
        "manifest-digest": first.digest,
        "would-build": _flag(result.would_build),
        "built": _flag(result.built),
        "promoted": _flag(any(registry.promotion == Promotion.MOVED for registry in result.registries)),
        "promotion": _promotion(result),
        "previous-version": first.before,
        "asked-at": result.asked,
        # Of a folder or bucket the pinned source is a digest, from which nothing can be built.
        "source": result.source if result.source.startswith("hf:") else result.given,
        "version-page": version_page(result.model, parse_version(first.version)) if first.version else "",
        "comparison-page": _comparison_page(result.model, first, run.comparison()),
        "report": run.report(),
        "checksums": run.checksums(),
        "build-folder": result.build_folder,
        "metrics": _metrics(run),
        "summary-file": str(run.summary),
    }


def _comparison_page(model: str, first: RegistryResult, comparison: BuildComparison | None) -> str:
    """Where the registry's pages compare what was published with what is, or was, in use."""
    before = (comparison.version if comparison else "") or first.before
    if not first.version or before in {"", first.version}:
        return ""
    return comparison_page(model, parse_version(before), parse_version(first.version))


def _promotion(result: RunResult) -> str:
    """Of several registries, that which most needs somebody to look; "" where the run has not come so far."""
    became = [registry.promotion for registry in result.registries]
    order = (Promotion.REJECTED, Promotion.PROPOSED, Promotion.HELD, Promotion.MOVED, Promotion.UNCHANGED)
    first = next((promotion for promotion in order if promotion in became), None)
    return first or (Promotion.NOT_ASKED if result.reason else "")


def _metrics(run: RunFolder) -> str:
    manifest, comparison = run.manifest(), run.comparison()
    if manifest is None:
        return ""
    changes = comparison.variants if comparison else variant_changes(None, manifest)
    return json.dumps(metrics_json(changes, comparison), ensure_ascii=True)


def _flag(value: bool) -> str:  # noqa: FBT001  it is a value, no switch
    return "true" if value else "false"


def _version(number: int | None) -> str:
    return "" if number is None else f"v{number}"
