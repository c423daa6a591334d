"""``--for``: the programs that load a model's folder, and where each of them looks for its graphs.

Libraries that are called without a file's name look for the name that fp32's graph has; a version keeps every variant
under a name of its own. So a snapshot that is fetched for one of these programs has the graphs of its one variant where
that program looks. A program is one row here.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from modeldrop.errors import UsageError, VariantError
from modeldrop.fetcher.triton import MODEL_FILE, unservable
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.format.manifest import Manifest, Variant

ONNX, OPENVINO = ".onnx", ".xml"
"""What the names of graphs end in: whose they are."""

_BEGINS = "offsets"
"""The input of static embeddings that says where each text begins."""
_CLASSIFIER = "Classification"
_VECTORS, _LABELS = "feature-extraction", "text-classification"
_RUNTIMES = {ONNX: "ONNX graphs", OPENVINO: "OpenVINO's graphs"}


class Consumer(NamedTuple):
    """One row of the table.

    Attributes:
        name: as it is given to ``--for``.
        onnx: the folder where it looks for ONNX graphs, "" for the top one; None where it reads none.
        openvino: the same for OpenVINO's.
        one_graph: whether it reads models of one graph only.
        tasks: the tasks of models that it reads; empty for all.
        by_text: whether it gives token ids and masks with a row for each text, and nothing else.
        by_architecture: whether it takes every model for a classifier whose architecture is called so.
        repository: whether it wants Triton's model repository instead: a folder for every graph, with its
            config.pbtxt, and the graph in ``1/``.
    """

    name: str
    onnx: str | None = None
    openvino: str | None = None
    one_graph: bool = False
    tasks: tuple[str, ...] = ()
    by_text: bool = False
    by_architecture: bool = False
    repository: bool = False

    @property
    def folders(self) -> Mapping[str, str]:
        """The folder where it looks for graphs, by what their names end in."""
        both = {ONNX: self.onnx, OPENVINO: self.openvino}
        return {ending: folder for ending, folder in both.items() if folder is not None}

    def reads(self, variant: Variant) -> bool:
        """Whether it reads the graphs of a variant."""
        return posixpath.splitext(variant.model)[1] in self.folders and not (self.one_graph and variant.others)

    def readable(self, manifest: Manifest, wanted: str | None) -> Manifest:
        """The same manifest with only those variants that it reads.

        Args:
            manifest: the version's.
            wanted: the variant that must be among them; None for any.

        Raises:
            VariantError: there are none, or the wanted one is not among them.
        """
        if self.tasks and manifest.task not in self.tasks:
            raise VariantError(
                f"{self.name} does not read models for {manifest.task}.", f"It reads those for {', '.join(self.tasks)}."
            )
        if self.by_text and any(tensor.name == _BEGINS for one in manifest.variants for tensor in one.inputs):
            raise VariantError(
                f"{self.name} gives a row of tokens for each text, and this model takes all texts in one ({_BEGINS}).",
                "docs/tasks.md says how static embeddings are asked; transformers.js asks them so.",
            )
        if self.by_architecture and manifest.task != _LABELS and manifest.architecture.endswith(_CLASSIFIER):
            raise VariantError(
                f"{self.name} takes {manifest.architecture} for a classifier, and this version is built for "
                f"{manifest.task}.",
                "Publish the body alone (AutoModel.from_pretrained(…).save_pretrained(…)), or build its classifier.",
            )
        read = tuple(variant for variant in manifest.variants if self.reads(variant))
        named = manifest.variant(wanted) if wanted else None
        if self.repository and (what := unservable(graph for one in read for graph in one.signature.values())):
            raise VariantError(
                f"{self.name} serves tensors alone, and {what}.",
                "Export the graph without it: of a classifier of scikit-learn, without its ZipMap.",
            )
        if not read or (named is not None and named not in read):
            what = " and ".join(_RUNTIMES[ending] for ending in self.folders)
            alone = ", and models of one graph" if self.one_graph else ""
            refused = [named.name] if named else [variant.name for variant in manifest.variants]
            others = ", ".join(variant.name for variant in read)
            raise VariantError(
                f"{self.name} reads {what}{alone}: not {', '.join(refused)} of this version.",
                f"Name one that it reads: {others}." if others else "docs/consumers.md says what each program reads.",
            )
        return manifest._replace(variants=read)

    def paths(self, variant: Variant) -> dict[str, str]:
        """Which files of a variant get another path: path in the version to path on the disk.

        All that lies in the folder of its graphs goes along: weights beside them, OpenVINO's tokenizer.
        """
        if self.repository:
            return _repository(variant)
        ending = posixpath.splitext(variant.model)[1]
        prefix = "openvino_" if ending == OPENVINO else ""
        stems = {posixpath.splitext(path)[0]: f"{prefix}{role}" for role, path in variant.graphs.items()}
        own = posixpath.dirname(variant.model)
        paths = {}
        for path in variant.files:
            stem, suffix = posixpath.splitext(path)
            if posixpath.dirname(path) == own:
                # External data of ONNX keep their names, which the graph says; OpenVINO's weights have the graph's.
                known = stem in stems and suffix in {ONNX, OPENVINO, ".bin"}
                name = f"{stems[stem]}{suffix}" if known else posixpath.basename(path)
                paths[path] = posixpath.join(self.folders[ending], name)
        return {old: new for old, new in paths.items() if old != new}


def _repository(variant: Variant) -> dict[str, str]:
    """The paths of an entry of Triton's repository for every graph; what lies beside graphs stays where it is."""
    paths = {}
    for role, graph in variant.graphs.items():
        paths[graph] = f"{role}/1/{MODEL_FILE}"
        for path in variant.files:
            if path.startswith(f"{graph}_data"):
                paths[path] = f"{role}/1/{posixpath.basename(path)}"
    return paths


CONSUMERS = {
    row.name: row
    for row in (
        Consumer(
            "sentence-transformers",
            onnx="onnx",
            openvino="openvino",
            one_graph=True,
            tasks=(_VECTORS, _LABELS),
            by_text=True,
        ),
        Consumer("transformers.js", onnx="onnx"),
        # Of a model of tokens' labels it would give the first token's for the whole text.
        Consumer("tei", onnx="onnx", one_graph=True, tasks=(_VECTORS, _LABELS), by_text=True, by_architecture=True),
        Consumer("fastembed", onnx="onnx", one_graph=True, by_text=True),
        Consumer("optimum", onnx="onnx", by_text=True),
        Consumer("optimum-intel", openvino="", by_text=True),
        Consumer("onnxruntime-genai", onnx="onnx", tasks=("text-generation",)),
        # Its other pipelines want graphs of another form: one output of an embedder, Whisper's decoder with a state.
        Consumer("openvino-genai", openvino="", tasks=("text-generation",)),
        Consumer("triton", onnx="", repository=True),
        Consumer("kserve", onnx="", repository=True),
    )
}
"""All of them by their names."""


def consumer_named(name: str) -> Consumer:
    """The row of a program.

    Raises:
        UsageError: there is none; says which there are.
    """
    found = CONSUMERS.get(name)
    if found is None:
        raise UsageError(
            f"--for {name[:80]}: no such program is known.",
            f"Known are {', '.join(CONSUMERS)}; for another one give its graph a path (--as).",
        )
    return found
