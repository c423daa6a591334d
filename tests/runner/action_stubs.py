"""Actions that cannot run here, replaced by stubs: what they would leave behind for the steps after them.

A stub refuses inputs that the real action does not have, so that a misspelt one is found here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.helpers import sigstore_instance


@dataclass(frozen=True, slots=True)
class Call:
    """A ``uses:`` step: the action, its ref, its inputs and environment, and where it runs.

    ``service`` is a folder for what GitHub keeps between jobs: artifacts.
    """

    action: str
    ref: str
    inputs: Mapping[str, str]
    environment: Mapping[str, str]
    workspace: Path
    temp: Path
    service: Path


@dataclass(frozen=True, slots=True)
class Effect:
    """What it leaves: outputs, environment, PATH, masks; ``failed`` is its error."""

    outputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[Path, ...] = ()
    masks: tuple[str, ...] = ()
    failed: str = ""


Stub: TypeAlias = Callable[[Call], Effect]


def _checkout(call: Call) -> Effect:
    return Effect({"ref": call.inputs.get("ref", ""), "commit": "0" * 40})


def _setup_python(call: Call) -> Effect:
    """The interpreter that runs the tests, as if it had been downloaded into the tool cache."""
    version = "{}.{}.{}".format(*sys.version_info)
    folder = call.temp / "_tool" / version / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    real = Path(sys.base_prefix, "bin", "python{}.{}".format(*sys.version_info))
    for name in ("python", "python3", real.name):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(real)
    python = str(folder / "python")
    outputs = {"python-path": python, "python-version": version, "cache-hit": ""}
    if call.inputs.get("update-environment") == "false":
        return Effect(outputs)
    return Effect(outputs, {"pythonLocation": str(folder.parent)}, (folder,))


def _cache(call: Call) -> Effect:
    primary = call.inputs["key"]
    return Effect({"cache-hit": "", "cache-primary-key": primary, "cache-matched-key": ""})


def _upload_artifact(call: Call) -> Effect:
    name = call.inputs.get("name") or "artifact"
    target = call.service / "artifacts" / name
    paths = [call.workspace / line for line in call.inputs["path"].splitlines() if line.strip()]
    if not any(path.exists() for path in paths):
        missing = call.inputs.get("if-no-files-found", "warn")
        return Effect(failed="No files were found" if missing == "error" else "")
    target.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        elif path.exists():
            shutil.copy(path, target)
    # Artifacts are zip files without permissions: what was read-only comes back writable.
    for file in target.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    url = "https://github.com/acme/models/actions/runs/1/artifacts/1"
    return Effect({"artifact-id": "1", "artifact-url": url, "artifact-digest": "0" * 64})


def _download_artifact(call: Call) -> Effect:
    artifacts = call.service / "artifacts"
    target = call.workspace / call.inputs.get("path", "")
    if name := call.inputs.get("name"):
        if not (artifacts / name).is_dir():
            return Effect(failed=f"Artifact not found for name: {name}")
        shutil.copytree(artifacts / name, target, dirs_exist_ok=True)
    else:  # all that match; none is no failure
        merge = call.inputs.get("merge-multiple") == "true"
        for source in sorted(artifacts.glob(call.inputs.get("pattern", "*"))):
            shutil.copytree(source, target if merge else target / source.name, dirs_exist_ok=True)
    return Effect({"download-path": str(target)})


def _aws(call: Call) -> Effect:
    keys = {
        "AWS_ACCESS_KEY_ID": "ASIAEXAMPLEEXAMPLE00",
        "AWS_SECRET_ACCESS_KEY": "aws-secret-access-key-of-the-test",
        "AWS_SESSION_TOKEN": "aws-session-token-of-the-test",
    }
    region = call.inputs["aws-region"]
    return Effect(env=keys | {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}, masks=tuple(keys.values()))


def _gcp(call: Call) -> Effect:
    file = call.workspace / "gha-creds-0123456789abcdef.json"
    file.write_text("{}")
    return Effect({"credentials_file_path": str(file)}, {"GOOGLE_APPLICATION_CREDENTIALS": str(file)})


def _nothing(call: Call) -> Effect:
    return Effect()


def _attest(call: Call) -> Effect:
    if not any(call.inputs.get(name) for name in ("subject-path", "subject-digest", "subject-checksums")):
        return Effect(failed="One of subject-path, subject-digest, or subject-checksums must be provided")
    checksums = call.inputs.get("subject-checksums", "")
    if checksums and os.sep in checksums and not Path(checksums).is_file():
        return Effect(failed=f"subject checksums file not found: {checksums}")
    bundle = call.workspace / "attestation.json"
    lines = (call.workspace / checksums).read_text("utf-8") if checksums else ""
    bundle.write_bytes(sigstore_instance.attest(*(line.split()[0] for line in lines.splitlines())))
    return Effect(
        {
            "attestation-id": "1",
            "attestation-url": "https://github.com/acme/models/attestations/1",
            "bundle-path": str(bundle),
        }
    )


_STUBS: Mapping[str, Stub] = {
    "actions/attest": _attest,
    "actions/cache": _cache,
    "actions/cache/restore": _cache,
    "actions/cache/save": _nothing,
    "actions/checkout": _checkout,
    "actions/download-artifact": _download_artifact,
    "actions/setup-python": _setup_python,
    "actions/upload-artifact": _upload_artifact,
    "aws-actions/configure-aws-credentials": _aws,
    "azure/login": _nothing,
    "google-github-actions/auth": _gcp,
}

# The inputs that the real actions declare.
_INPUTS = """
actions/attest: subject-path subject-digest subject-name subject-checksums push-to-registry create-storage-record
    show-summary github-token sbom-path predicate-type predicate predicate-path
actions/cache: path key restore-keys upload-chunk-size enableCrossOsArchive fail-on-cache-miss lookup-only
actions/cache/restore: path key restore-keys enableCrossOsArchive fail-on-cache-miss lookup-only
actions/cache/save: path key upload-chunk-size enableCrossOsArchive
actions/checkout: repository ref token ssh-key persist-credentials path clean filter sparse-checkout
    sparse-checkout-cone-mode fetch-depth fetch-tags lfs submodules show-progress
actions/download-artifact: name artifact-ids path pattern merge-multiple github-token repository run-id
actions/setup-python: python-version python-version-file cache architecture check-latest token
    cache-dependency-path update-environment allow-prereleases freethreaded pip-version
actions/upload-artifact: name path if-no-files-found retention-days compression-level overwrite include-hidden-files
aws-actions/configure-aws-credentials: aws-region role-to-assume role-session-name role-duration-seconds audience
    mask-aws-account-id unset-current-credentials
azure/login: client-id tenant-id subscription-id audience environment allow-no-subscriptions
google-github-actions/auth: project_id workload_identity_provider service_account create_credentials_file
    export_environment_variables
"""


def _declared() -> Mapping[str, frozenset[str]]:
    entries = (entry.partition(": ") for entry in _INPUTS.replace("\n    ", " ").splitlines() if entry)
    return {name: frozenset(inputs.split()) for name, _, inputs in entries}


_DECLARED = _declared()


def run_stub(call: Call) -> Effect:
    """Run the stub of an action.

    Raises:
        LookupError: there is none, or the action has no such input.
    """
    name = call.action.lower()
    if name not in _STUBS:
        raise LookupError(f"no stub for {call.action}")
    if unknown := sorted(set(call.inputs) - _DECLARED[name]):
        raise LookupError(f"{call.action} has no input {', '.join(unknown)}")
    return _STUBS[name](call)
