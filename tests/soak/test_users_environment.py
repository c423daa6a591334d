"""Where today's libraries are, ``pip install '.[s3,hub]'`` brings only what is missing, and it publishes there.

The environment, what pip may install, and the exporter's own are those of ``tests/servers/consumers.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from modeldrop.format.manifest import parse_manifest
from tests.export.recipes import loosened
from tests.helpers.checkpoints import bert
from tests.helpers.command_line import modeldrop
from tests.servers.consumers import EXPORTERS, ROOT, WHEELS, python_of
from tests.servers.hub import HubServer

pytestmark = [pytest.mark.soak, pytest.mark.heavy]

_TODAY = {"transformers": "5.24.0", "sentence-transformers": "6.2.0", "huggingface_hub": "2.4.0"}
_OURS = {
    "modeldrop",
    "blake3",
    "boto3",
    "botocore",
    "jmespath",
    "obstore",
    "python-dateutil",
    "s3transfer",
    "six",
    "urllib3",
}


def frozen(python: Path) -> dict[str, str]:
    """The packages of an environment, and their releases."""
    ran = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True)
    return dict(line.split("==") for line in ran.stdout.split())


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that may be changed: its files are links, and pip replaces what it changes."""
    made = python_of("transformers-5").parents[1]
    copy = tmp_path_factory.mktemp("users") / "environment"
    shutil.copytree(made, copy, symlinks=True, copy_function=os.link)
    return copy / "bin" / "python"


def test_what_a_user_has_stays_and_a_model_of_the_hub_is_published(users: Path, tmp_path: Path) -> None:
    before = frozen(users)
    assert _TODAY.items() <= before.items()
    install: list[str | Path] = [
        users,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--find-links",
        WHEELS,
        f"{ROOT}[s3,hub]",
    ]
    subprocess.run(install, check=True)
    after = frozen(users)
    assert before.items() <= after.items()
    assert after.keys() - before.keys() <= _OURS

    source = bert(tmp_path / "source")
    with HubServer() as hub:
        commit = hub.add_repo("acme/encoder", source).refs["main"]
        recipe = loosened(tmp_path, ("cosine_mean", "cosine_min", "max_abs"))
        published = modeldrop(
            "publish", "acme/encoder", tmp_path / "registry/encoder", "--recipe", recipe, "--json",
            python=users, cwd=tmp_path,
            environment={
                "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0",
                "MODELDROP_EXPORTERS": str(EXPORTERS), "PYTHONPATH": "",
            },
        )  # fmt: skip
    assert published.code == 0, published.err
    manifest = parse_manifest((tmp_path / "registry/encoder/v1/manifest.json").read_bytes())
    assert manifest.source.identity == f"hf:acme/encoder@{commit}"
    assert manifest.exporter == "optimum"
    assert frozen(users) == after
