"""The examples of deployments are what their schemas, the command line and the policies say."""

from __future__ import annotations

import copy
import json
import re
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from modeldrop.config import RegistrySettings, parse_config
from modeldrop.doctor.policies import policies_for
from modeldrop.errors import UsageError
from modeldrop.oci.layer import ROOT as ROOT_OF_IMAGES
from tests.deploy.example_files import (
    CLOUD_RUN,
    COMPOSE,
    DEPLOY,
    DOCKERFILES,
    KUBERNETES,
    KUBERNETES_VERSION,
    RAILWAY,
    RENDER,
    ROOT,
    SCRIPTS,
    UNITS,
    commands,
    containers,
    documents,
    name_of,
    pods,
    unit,
)
from tests.docs.command_line import check_command

USER = 65532
IMAGE_VOLUME = DEPLOY / "kubernetes/image-volume.yaml"
"""Its pods run no modeldrop: the kubelet brings the model."""


def compose_schema() -> dict[str, Any]:
    # Found, not imported: its command line brings half a dozen libraries.
    found = find_spec("check_jsonschema")
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent / "builtin_schemas/vendor/compose-spec.json"
    schema: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return schema


def test_every_place_of_the_plan_has_an_example() -> None:
    places = {path.parent.name for path in DEPLOY.glob("*/*")}
    assert places == {
        "air-gap",
        "baked",
        "cloud-run",
        "compose",
        "identity",
        "kubernetes",
        "railway",
        "render",
        "start-hook",
        "systemd",
    }
    assert {path.stem for path in KUBERNETES} == {"init-container", "sidecar-watch", "node-cache", "image-volume"}


def test_commands_parse() -> None:
    found = commands()
    assert {where for where, _ in found} == {
        name_of(path)
        for path in (COMPOSE, *KUBERNETES, CLOUD_RUN, RENDER, RAILWAY, *UNITS, *DOCKERFILES, *SCRIPTS)
        if path.parent.name != "identity" and path != IMAGE_VOLUME
    }
    assert {words[1] for _, words in found} == {"fetch", "ls", "mirror", "run", "status", "watch"}
    for _, words in found:
        check_command(words)


@pytest.mark.parametrize(
    "line",
    ["modeldrop fetsch x", "modeldrop fetch x --keeep 3", "modeldrop run x", "modeldrop fetch x --on-unavailable no"],
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises((AssertionError, UsageError, pytest.fail.Exception)):
        check_command(line.split())


@pytest.mark.parametrize("path", KUBERNETES, ids=name_of)
def test_kubernetes_accepts_the_manifests(path: Path) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_a_wrong_manifest_would_be_found() -> None:
    document = copy.deepcopy(documents(KUBERNETES[0])[-1])
    document["spec"]["template"]["spec"]["initContainerz"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_compose_accepts_the_file() -> None:
    validator = jsonschema.Draft202012Validator(compose_schema())
    [document] = documents(COMPOSE)
    validator.validate(document)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"fetch": {"comand": []}}})


def test_cloud_runs_containers_are_those_of_kubernetes() -> None:
    # Knative's schema is not to be had as a package; its pods are Kubernetes' own.
    [service] = documents(CLOUD_RUN)
    assert (service["apiVersion"], service["kind"]) == ("serving.knative.dev/v1", "Service")
    spec = copy.deepcopy(service["spec"]["template"]["spec"])
    for container in spec["containers"]:
        container["name"] = "search"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "search"}, "spec": spec}
    kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("path", KUBERNETES, ids=name_of)
def test_pods_may_do_the_least(path: Path) -> None:
    accounts = [document for document in documents(path) if document["kind"] == "ServiceAccount"]
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    for pod in pods(path):
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "serviceAccountName" in pod or pod["automountServiceAccountToken"] is False
    for name, container in containers(path).items():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"], **({"add": ["CHOWN"]} if name == "owner" else {})}
        assert container["resources"]["limits"]["memory"]
        [user] = {
            context.get("runAsUser", pod["securityContext"].get("runAsUser"))
            for pod in pods(path)
            if any(container in pod.get(kind, []) for kind in ("containers", "initContainers"))
        }
        assert user == (0 if name == "owner" else USER)
        [mount] = container["volumeMounts"]
        assert mount.get("readOnly", False) is (name == "search")


def test_the_service_of_a_node_cache_has_no_identity() -> None:
    [cache, service] = pods(DEPLOY / "kubernetes/node-cache.yaml")
    assert "serviceAccountName" in cache
    assert "serviceAccountName" not in service
    assert cache["volumes"][0]["hostPath"]["path"] == service["volumes"][0]["hostPath"]["path"]


def test_a_mounted_image_has_its_files_where_export_puts_them() -> None:
    [pod] = pods(IMAGE_VOLUME)
    [volume], [container] = pod["volumes"], pod["containers"]
    [mount] = container["volumeMounts"]
    assert (mount["name"], mount["subPath"]) == (volume["name"], ROOT_OF_IMAGES)
    assert {"name": "MODELDROP_MODEL_EMBEDDER", "value": mount["mountPath"]} in container["env"]
    [line] = re.findall(r"^#   (modeldrop export .*)$", IMAGE_VOLUME.read_text("utf-8"), re.MULTILINE)
    check_command(line.split())
    assert f"oci://{volume['image']['reference']}" in line.split()


def test_the_trust_is_in_the_service_accounts_of_the_manifests() -> None:
    accounts = {
        f"system:serviceaccount:{account['metadata']['namespace']}:{account['metadata']['name']}"
        for path in KUBERNETES
        for account in documents(path)
        if account["kind"] == "ServiceAccount"
    }
    [statement] = json.loads((DEPLOY / "identity/aws-trust-irsa.json").read_text("utf-8"))["Statement"]
    [subjects] = [value for key, value in statement["Condition"]["StringEquals"].items() if key.endswith(":sub")]
    assert set(subjects) == accounts


def test_every_example_says_whose_identity_it_has() -> None:
    """In a comment at its head, by the file that grants it; JSON knows no comments, so README says it."""
    index = (DEPLOY / "README.md").read_text("utf-8")
    for path in (COMPOSE, *KUBERNETES, CLOUD_RUN, RENDER, *UNITS, *DOCKERFILES, *(DEPLOY / "air-gap").glob("*.sh")):
        [told] = re.findall(r"^# (?:Inside.*)?Identity: (.+?\.)$", _joined(path), re.MULTILINE) or [""]
        assert told, name_of(path)
        for named in re.findall(r"\.\./identity/([\w-]+\.\w+)", told):
            assert (DEPLOY / "identity" / named).is_file(), name_of(path)
    assert re.search(r"^\| Railway \| .* \| a key \|$", index, re.MULTILINE)


def _joined(path: Path) -> str:
    """A file whose comments have one line for each paragraph."""
    return re.sub(r"\n# (?!Identity)(?=\S)", " ", path.read_text("utf-8"))


def test_the_policies_are_those_that_doctor_prints() -> None:
    def text(name: str) -> str:
        return (DEPLOY / "identity" / name).read_text("utf-8").replace('"$PRINCIPAL"', "$PRINCIPAL")

    s3 = policies_for(RegistrySettings("s3://acme-models"))
    assert text("aws-fetcher.json") == s3.fetcher + "\n"
    assert text("aws-publisher.json") == s3.publisher + "\n"
    for name, registry in (("google.sh", "gs://acme-models"), ("azure.sh", "az://acmemodels/models")):
        assert policies_for(RegistrySettings(registry)).fetcher.replace('"$PRINCIPAL"', "$PRINCIPAL") in text(name)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_are_sound(path: Path) -> None:
    assert path.stat().st_mode & stat.S_IXUSR
    checked = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", [ROOT / "Dockerfile", *sorted((ROOT / "examples").rglob("Dockerfile"))], ids=name_of)
def test_dockerfiles_are_sound(path: Path) -> None:
    program = Path(sys.executable).parent / "hadolint"
    checked = subprocess.run(
        [program, "--failure-threshold=warning", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", UNITS, ids=name_of)
def test_units_may_do_the_least(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"
    assert service.get("User") == "modeldrop" or service["DynamicUser"] == "yes"
    assert ("EnvironmentFile" in service) == path.name.startswith("modeldrop-"), "only the fetcher has the key"


def test_the_settings_of_the_air_gapped_site_parse() -> None:
    settings = parse_config((DEPLOY / "air-gap/modeldrop.toml").read_text("utf-8"))
    assert settings.registries["inside"].endpoint.startswith("https://")


def test_the_index_names_every_example() -> None:
    text = (DEPLOY / "README.md").read_text("utf-8")
    linked = {(DEPLOY / link).resolve() for link in re.findall(r"\]\(([^)#]+)\)", text)}
    assert all(path.exists() for path in linked)
    shown = {path for path in DEPLOY.glob("*/*") if path.parent.name != "identity"}
    assert {path for path in shown if path not in linked and path.parent not in linked} == set()


def test_images_are_those_of_the_dockerfile() -> None:
    text = "\n".join(path.read_text("utf-8") for path in DEPLOY.rglob("*") if path.is_file())
    images = set(re.findall(r"registry\.acme\.example/(modeldrop:[\w.]+)", text))
    assert len(images) == 1
    assert re.search(r"^FROM base AS fetcher$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
