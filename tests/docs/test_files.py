"""Every file that a page shows is accepted by what would read it; every other block is linted.

A block in a language that nobody has thought of fails ``test_every_block_is_of_a_kind_that_is_checked``.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
import yaml  # type: ignore[import-untyped]
from botocore.validate import ParamValidator

from modeldrop.config import RegistrySettings, parse_config
from modeldrop.doctor.github_trust import GitHubSubjects, sign_in_script
from modeldrop.format.recipe import parse_recipe
from modeldrop.model_settings import read_models
from tests.docs.pages import DOCS, PAGES, ROOT, Block, all_blocks, blocks, is_configuration, name_of, read, words_of
from tests.helpers.command_line import modeldrop
from tests.helpers.workflow_linters import NEWER_THAN_ACTIONLINT, actionlint, check_schema, shellcheck, zizmor

# Calls of other programs (js, py) are run by tests/export and tests/soak, where these are installed.
CHECKED = {"console", "dockerfile", "js", "json", "nginx", "mermaid", "py", "python", "sh", "text", "toml", "yaml"}
BIN = Path(sys.executable).parent
MODELS_AND_REGISTRIES = {"registries", "models"}
# What a page leaves to its reader: the variables of a cloud, a token.
_READERS_OWN = re.compile(r"\$\{?(GROUP|PRINCIPAL|PROJECT|SUBSCRIPTION|SERVICE_RELOAD_TOKEN)\b")


def ids(blocks: list[Block]) -> list[str]:
    return [str(block) for block in blocks]


def each(*languages: str) -> pytest.MarkDecorator:
    found = all_blocks(*languages)
    assert found, languages
    return pytest.mark.parametrize("block", found, ids=ids(found))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_kind_that_is_checked(page: Path) -> None:
    assert len(re.findall(r"^ *```", read(page), re.MULTILINE)) == 2 * len(blocks(page)), "a fence is not closed"
    assert {block.language for block in blocks(page)} <= CHECKED


@each("toml")
def test_settings_models_and_recipes_parse(block: Block, tmp_path: Path) -> None:
    shown = tomllib.loads(block.text)
    if is_configuration(block):
        assert not shown.keys() - MODELS_AND_REGISTRIES
        config = parse_config(block.text)
        read_models(config)
        (tmp_path / "modeldrop.toml").write_text(block.text, "utf-8")
        for name in config.registries:
            asked = modeldrop("doctor", name, "--policies", "--json", cwd=tmp_path)
            assert asked.code == 0, asked.err
    else:
        parse_recipe(shown)


def test_a_recipe_shows_names_that_there_are() -> None:
    recipes = [block for block in all_blocks("toml") if not is_configuration(block)]
    assert {name_of(block.page) for block in recipes} >= {"docs/commands.md", "docs/variants.md"}


@each("json")
def test_json_parses(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize(
    ("service", "shape", "file"),
    [
        ("s3", "BucketLifecycleConfiguration", "storage/s3.md:lifecycle.json"),
        ("cloudfront", "CachePolicyConfig", "storage/https.md:cache-policy.json"),
    ],
)
def test_amazons_own_model_accepts_a_file_for_its_command_line(service: str, shape: str, file: str) -> None:
    page, _, name = file.partition(":")
    [block] = [block for block in blocks(DOCS / page) if block.file == name]
    model = botocore.session.get_session().get_service_model(service)
    assert ParamValidator().validate(json.loads(block.text), model.shape_for(shape)).generate_report() == ""
    assert ParamValidator().validate({"x": 1}, model.shape_for(shape)).has_errors()


def aws_commands() -> Iterator[tuple[str, list[str]]]:
    """The commands of Amazon's command line whose service and operation are named, as their words, and where they are.

    In the pages, and in what ``modeldrop init`` prints.
    """
    script = sign_in_script(RegistrySettings(url="s3://acme-models"), GitHubSubjects("repo:acme/models", "main"))
    for where, text in (*((str(block), block.text) for block in all_blocks("sh")), ("modeldrop init", script)):
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("aws ") and not line.startswith("aws s3 "):
                yield where, words_of(line)[1:]


def test_the_operations_and_options_of_amazons_command_line_exist() -> None:
    session = botocore.session.get_session()
    found = list(aws_commands())
    assert len(found) > 8
    for where, (service, operation, *options) in found:
        model = session.get_service_model({"s3api": "s3"}.get(service, service))
        operations = {botocore.xform_name(name, "-"): name for name in model.operation_names}
        assert operation in operations, where
        shape = model.operation_model(operations[operation]).input_shape
        known = {botocore.xform_name(name, "-") for name in shape.members} | {"region"}
        given = {option[2:] for option in options if option.startswith("--")}
        assert given <= known, (where, given - known)
        assert {botocore.xform_name(name, "-") for name in shape.required_members} <= given, where


@each("sh", "console")
def test_shell_is_sound(block: Block) -> None:
    script = block.text
    if block.language == "console":
        script = "\n".join(line[2:] for line in script.splitlines() if line.startswith("$ "))
    script = _READERS_OWN.sub("readers-own", script)
    # SC2034: a page sets a variable for the blocks below. SC2148: it is pasted, not run as a file.
    said = shellcheck(f"# shellcheck disable=SC2034,SC2148\n{script}\n")
    assert said == ""


@each("python")
def test_programs_are_whole(block: Block) -> None:
    tree = ast.parse(block.text)
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert used & {"modeldrop", "onnxruntime", "os"} <= imported, "a reader would have to know what to import"


@each("dockerfile")
def test_dockerfiles_are_sound(block: Block) -> None:
    whole = block.text if block.text.startswith(("FROM ", "# syntax")) else f"FROM python:3.11-slim\n{block.text}"
    checked = subprocess.run(
        [BIN / "hadolint", "--failure-threshold=error", "-"], input=whole, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


# Names of jobs and limits of concurrency, which a page leaves out for shortness.
_ASKED_OF_EXAMPLES_ONLY = {"anonymous-definition", "concurrency-limits"}
_HEAD = "name: Shown\non: workflow_dispatch\npermissions: {}\nconcurrency: shown\n"
_JOB = (
    "jobs:\n  job:\n    name: Job\n    runs-on: ubuntu-24.04\n    timeout-minutes: 5\n    permissions: {}\n    steps:\n"
)


def workflow(block: Block) -> str:
    """The workflow around a page's YAML, which is one, its jobs, or some steps; "" where it is no part of one."""
    shown = yaml.safe_load(block.text)
    if isinstance(shown, list):
        return _HEAD + _JOB + textwrap.indent(block.text, " " * 6)
    if "jobs" in shown:
        return block.text if True in shown else _HEAD + block.text  # YAML reads the key ``on`` as true
    return ""


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every workflow that the pages show, whole."""
    folder = tmp_path_factory.mktemp("pages") / ".github/workflows"
    folder.mkdir(parents=True)
    found = []
    for block in all_blocks("yaml"):
        if whole := workflow(block):
            found.append(folder / f"{block.page.stem}-{block.line}.yml")
            found[-1].write_text(whole, "utf-8")
    return found


def test_yaml_is_a_workflow_a_part_of_one_or_an_input() -> None:
    inputs = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))["inputs"]
    for block in all_blocks("yaml"):
        assert workflow(block) or set(yaml.safe_load(block.text)) <= set(inputs), block


def test_workflows_fit_their_schema(workflows: list[Path]) -> None:
    assert len(workflows) > 8
    assert check_schema("vendor.github-workflows", workflows) == ""


def test_actionlint_has_nothing_to_say(workflows: list[Path]) -> None:
    messages = [found["message"] for found in actionlint(*workflows)]
    known = re.compile(f'{NEWER_THAN_ACTIONLINT.pattern}|undefined variable "vars"')
    assert [message for message in messages if not known.search(message)] == []


def test_zizmor_has_nothing_to_say(workflows: list[Path]) -> None:
    config = workflows[0].parents[1] / "zizmor.yml"
    config.write_text((ROOT / ".github/zizmor.yml").read_text("utf-8"), "utf-8")
    found = [(found["ident"], found["desc"]) for found in zizmor(*workflows)]
    assert [one for one in found if one[0] not in _ASKED_OF_EXAMPLES_ONLY] == []


@each("nginx")
def test_a_web_servers_settings_are_blocks_and_lines_that_end(block: Block) -> None:
    # nginx is on few machines; its grammar is small: what does not open or close a block ends with a semicolon.
    text = re.sub(r"\{[^{}\n]*\}", lambda match: match[0] if ";" in match[0] else "", block.text)
    assert text.count("{") == text.count("}")
    assert [line for line in block.text.splitlines() if not line.rstrip().endswith(("{", "}", ";"))] == []


@each("mermaid")
def test_a_diagram_is_one(block: Block) -> None:
    # Browsers draw it; there is no parser for Python. Its words are those of the page's table.
    assert block.text.startswith("flowchart ")
    assert block.text.count("subgraph ") == len(re.findall(r"^ *end$", block.text, re.MULTILINE))


def test_the_tree_of_the_service_is_as_drawn() -> None:
    [block] = [block for block in blocks(DOCS / "service.md") if block.language == "text"]
    drawn = set(re.findall(r"[\w-]+\.(?:py|txt)\b|\bDockerfile\b", block.text))
    there = {path.name for path in (ROOT / "examples/service").rglob("*") if path.suffix in {".py", ".txt", ""}}
    assert drawn == {name for name in there if "." in name.lstrip(".") or name == "Dockerfile"} - {"__init__.py"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_pip_is_asked_for_is_declared(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    asked = {name for match in re.findall(r"modeldrop\[([\w,]+)\]", read(page)) for name in match.split(",")}
    assert asked <= set(extras)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_what_make_is_asked_for_is_a_target(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):.* ##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", read(page), re.MULTILINE)) <= targets
