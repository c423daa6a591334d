from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.builds import publish_build
from tests.helpers.imported_packages import imported

HEAVY = {
    "azure", "boto3", "google", "huggingface_hub", "numpy", "onnx", "onnxruntime", "openvino", "optimum",
    "tokenizers", "torch", "transformers",
}  # fmt: skip


def test_a_fetch_from_a_folder_imports_the_standard_library_and_blake3(registry: Path, tmp_path: Path) -> None:
    publish_build(registry)
    program = """
from modeldrop.fetcher.fetch import fetch
snapshot = fetch(sys.argv[1], sys.argv[2])
assert fetch(sys.argv[1], sys.argv[2]).downloaded == 0
assert snapshot.model_file.is_file() and snapshot.to_json()
assert not [name for name in sys.modules if name.startswith(("modeldrop.registry", "modeldrop.export"))]
"""
    assert imported(program, f"{registry}/embedder", tmp_path / "home") == {"blake3", "modeldrop"}


def test_the_public_interface_imports_nothing_before_it_is_used() -> None:
    assert imported("import modeldrop; assert modeldrop.__version__") == {"modeldrop"}
    assert imported("from modeldrop import fetch, Snapshot") == {"modeldrop"}


@pytest.mark.parametrize(
    "command",
    [
        "ls REGISTRY", "ls REGISTRY/embedder", "show REGISTRY/embedder", "history REGISTRY/embedder",
        "diff REGISTRY/embedder@v1 v2", "promote REGISTRY/embedder@v1", "rollback REGISTRY/embedder",
        "fetch REGISTRY/embedder -d HOME",
    ],
)  # fmt: skip
def test_small_commands_import_nothing_heavy(registry: Path, tmp_path: Path, command: str) -> None:
    for seed in "ab":
        publish_build(registry, seed)
    arguments = command.replace("REGISTRY", str(registry)).replace("HOME", str(tmp_path / "home")).split()
    program = "from modeldrop.cli import main; assert main(sys.argv[1:]) == 0"
    found = imported(program, *arguments)
    assert not found & HEAVY
    assert found <= {"modeldrop", "obstore", "blake3"}
