"""What each page takes for granted: registries with versions in them, files in the reader's folder, a program.

A page with commands and without an entry in ``PAGE_SETUPS`` fails its test: say here what its reader has.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from modeldrop.format import keys
from modeldrop.format.records import Retirement, serialize_retirement
from modeldrop.registry.channels import move_forward
from modeldrop.registry.provenance import now
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_folder

SERVE = """\
import os, pathlib
given = {name: path for name, path in os.environ.items() if name.startswith("MODELDROP_MODEL_")}
assert any(pathlib.Path(path, "manifest.json").is_file() for path in given.values()), given
"""
LABELLED = '{"text": "Never again.", "label": "negative"}\n'
RECIPE = 'variants = ["fp32", "int8"]\n'
CONFORMANCE = {f"s3://{bucket} --conformance": "{folder}/store --conformance" for bucket in ("acme-models", "models")}
"""The suite writes 100 MB: tests/conformance/test_conformance.py runs it on every cloud, a page only in a folder."""
POLICIES = {"GROUP": "g", "PRINCIPAL": "p", "PROJECT": "p", "SUBSCRIPTION": "s"}
"""The variables that the pages about clouds leave to their readers."""


@dataclass(frozen=True)
class RegistrySetup:
    """A registry: where it is, and the versions that it has; the last one of a model is ``current``.

    With ``real``, the last version of each model is a small BERT that was built, else a few bytes of noise. At
    ``graph`` lies the graph of that BERT, its config.json beside it, as another program has left it.
    """

    where: str  # folder, s3, gcs, azure, https
    models: Mapping[str, int] = field(default_factory=dict)
    channels: tuple[str, ...] = ("current",)
    real: bool = False
    graph: str = ""

    def fill(self, registry: str, folder: Path, built: Path) -> None:
        """Publish what it has to ``registry``; ``built`` is the build of the BERT."""
        store = open_store(registry)
        if self.graph:
            store.create(self.graph, (built / "onnx/model.onnx").read_bytes())
            store.create(f"{posixpath.dirname(self.graph)}/config.json", (built / "config.json").read_bytes())
        for model, last in self.models.items():
            for number in range(1, last + 1):
                build = built if self.real and number == last else folder / f"{model} {number}"
                if build is not built:
                    make_build(build, f"{model} {number}")
                version = publish_folder(store, model, build, adopt_seconds=0.2).version
                for channel in self.channels:
                    move_forward(store, model, version, channel, by="dana")


@dataclass(frozen=True)
class PageSetup:
    """What a page takes for granted.

    Args:
        registries: its registries, by the name that it gives them.
        files: texts of files in the reader's folder, by path.
        checkpoints: folders in it that hold a checkpoint; files whose names end in ``.onnx`` hold its graph.
        substitutions: what is here for other names; ``{s3}`` and the like is the server's address, ``{folder}`` the
            reader's folder.
        variables: of the reader's environment, in which the same is replaced.
        before: a Python program's first lines, where a page shows its middle.
        between: what happens before a command whose line begins so.
        real: whether what is shown is of the real all-MiniLM-L6-v2; else all is done with a small model of that name.
    """

    registries: Mapping[str, RegistrySetup] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    substitutions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    between: Mapping[str, Callable[[str], None]] = field(default_factory=dict)
    real: bool = False

    @property
    def clouds(self) -> set[str]:
        """The clouds that its registries are in."""
        return {place.where for place in self.registries.values()} - {"folder", "https"}


def somebody_publishes(registry: str) -> None:
    """A version that the page does not show being made."""
    folder = Path(registry).with_name("somebody's build")
    make_build(folder, "somebody's")
    store = open_store(registry)
    move_forward(store, "embedder", publish_folder(store, "embedder", folder).version, "current", by="sam")


def v7_is_retired(registry: str) -> None:
    """As a run of prune has done it, which nobody has finished yet."""
    store = open_store(registry)
    mark = Retirement(at=now(), by="dana", why="older than 30 days")
    store.create(keys.retired("embedder", 7), serialize_retirement(mark))


PAGE_SETUPS: Mapping[str, PageSetup] = {
    "README.md": PageSetup(
        registries={
            "./models": RegistrySetup("folder"),
            "s3://acme-models/team": RegistrySetup("s3", {"embedder": 3}),
            "gs://acme-models-eu": RegistrySetup("gcs"),
            "/mnt/usb/models": RegistrySetup("folder"),
        },
        files={"serve.py": SERVE},
        between={"modeldrop rollback": somebody_publishes},
        substitutions={"/srv/models": "{folder}/srv"},
        variables={"GITHUB_API_URL": "http://127.0.0.1:9"},
        real=True,
    ),
    "docs/commands.md": PageSetup(registries={"./planned": RegistrySetup("folder")}, files={"texts.txt": "a text\n"}),
    "docs/variants.md": PageSetup(
        registries={"./planned": RegistrySetup("folder")}, files={"inputs.txt": "a text\n", "labelled.jsonl": LABELLED}
    ),
    "docs/action.md": PageSetup(registries={"s3://acme-models": RegistrySetup("s3", {"embedder": 3})}),
    "docs/benchmarks.md": PageSetup(),
    "docs/deploy.md": PageSetup(
        registries={
            "s3://acme-models": RegistrySetup("s3", {"embedder": 3}),
            "/mnt/usb/models": RegistrySetup("folder", {"embedder": 1}),
        },
        files={"recipes/recipe.toml": RECIPE},
        substitutions={"/recipes/recipe.toml": "{folder}/recipes/recipe.toml"},
    ),
    "docs/getting-started.md": PageSetup(
        registries={"./models": RegistrySetup("folder"), "s3://acme-models": RegistrySetup("s3")}
    ),
    "docs/migration.md": PageSetup(
        registries={"s3://acme-models": RegistrySetup("s3", {"embedder": 3})},
        files={"serve.py": SERVE},
        checkpoints=("checkpoint", "checkpoint/model", "tokenizer", "model.onnx"),
    ),
    "docs/runtime.md": PageSetup(
        registries={"s3://acme-models": RegistrySetup("s3", {"embedder": 2, "reranker": 1}, real=True)},
        files={"serve.py": SERVE},
        before="class app:\n    def load(file):\n        print(file)\n",
    ),
    "docs/servers.md": PageSetup(
        registries={"s3://acme-models": RegistrySetup("s3", {"embedder": 1})},
        before="def Model(file):\n    return open(file, 'rb').read()\n",
    ),
    "docs/service.md": PageSetup(
        registries={"s3://acme-models": RegistrySetup("s3", {"embedder": 1, "reranker": 1, "classifier": 1})},
        variables={"MODELDROP_REGISTRY": "s3://acme-models", "SERVICE_RELOAD_TOKEN": "a" * 16},
    ),
    "docs/sources.md": PageSetup(
        registries={
            "s3://acme-models": RegistrySetup("s3", {"embedder": 3}, real=True),
            "s3://jobs": RegistrySetup("s3", graph="42/model.onnx"),
            "./models": RegistrySetup("folder"),
            "./planned": RegistrySetup("folder"),
        },
        checkpoints=("exports/model.onnx", "tokenizer"),
    ),
    "docs/oci.md": PageSetup(
        registries={"s3://acme-models": RegistrySetup("s3", {"embedder": 3})},
        substitutions={"oci://registry.acme.example/models/embedder": "oci:{folder}/pushed"},
    ),
    "docs/site.md": PageSetup(registries={"s3://acme-models": RegistrySetup("s3", {"embedder": 2})}),
    "docs/storage.md": PageSetup(
        registries={
            "s3://acme-models": RegistrySetup("s3", {"embedder": 8}, ("current", "staging")),
            "gs://acme-models-eu": RegistrySetup("gcs"),
            "az://acmemodels/models": RegistrySetup("azure"),
        },
        substitutions={
            "/etc/acme/ca.pem": "{folder}/ca.pem",
            "NO_PROXY=.acme.dev": "NO_PROXY=127.0.0.1",
            **CONFORMANCE,
        },
        files={"ca.pem": trustme.CA().cert_pem.bytes().decode()},
        between={"modeldrop prune": v7_is_retired},
    ),
    "docs/storage/azure.md": PageSetup(
        registries={"az://acmemodels/models": RegistrySetup("azure")}, files={"recipe.toml": RECIPE}, variables=POLICIES
    ),
    "docs/storage/gcs.md": PageSetup(
        registries={"gs://acme-models": RegistrySetup("gcs")}, files={"recipe.toml": RECIPE}, variables=POLICIES
    ),
    "docs/storage/https.md": PageSetup(
        registries={"https://models.acme.dev": RegistrySetup("https", {"embedder": 3})},
        files={"serve.py": SERVE},
        substitutions={"/etc/acme/ca.pem": "{ca}"},
        variables={**POLICIES, "SSL_CERT_FILE": "{ca}"},
    ),
    "docs/storage/s3-compatible.md": PageSetup(
        registries={
            "s3://acme-models-b2": RegistrySetup("s3", {"embedder": 1}),
            "s3://acme-models": RegistrySetup("s3", {"embedder": 3}),
            "s3://models": RegistrySetup("s3"),
        },
        substitutions={
            "https://minio.lab.acme.dev": "{s3}",
            "https://s3.us-west-004.backblazeb2.com": "{s3}",
            "AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…": "AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret",
            **CONFORMANCE,
        },
        files={
            "aws-config": "".join(
                f"[profile {name}]\naws_access_key_id = key\naws_secret_access_key = secret\n" for name in ("lab", "b2")
            )
        },
        variables={"AWS_CONFIG_FILE": "{folder}/aws-config"},
    ),
    "docs/storage/s3.md": PageSetup(
        registries={"s3://acme-models": RegistrySetup("s3")}, files={"recipe.toml": RECIPE}
    ),
}
