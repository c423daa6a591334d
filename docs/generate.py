"""Write what the pages repeat of action.yml, the workflows, the examples and the settings, JSON Schemas and pictures.

``make docs`` writes; ``make lint`` runs it with ``--check``, which fails where a page has drifted. A page marks the
place of a block, and everything between the two marks is replaced::

    <!-- begin inputs of action.yml -->
    <!-- end -->

The commits of other people's actions that pages show are those that the workflows use, which Dependabot raises.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where it is run as a program

from docs.json_schemas import schemas  # noqa: E402
from docs.pictures import pictures  # noqa: E402
from modeldrop.config import SETTINGS  # noqa: E402
from modeldrop.doctor.services import SERVICES, Finding  # noqa: E402

TEMPLATES = "src/modeldrop/commands/templates"
PAGES = (
    "README.md",
    "docs/action.md",
    "docs/commands.md",
    "docs/storage.md",
    *(f"docs/storage/{name}.md" for name in ("azure", "gcs", "s3", "s3-compatible")),
    *(f"{TEMPLATES}/{name}.yml" for name in ("workflow", "sign-in-az", "sign-in-gs", "sign-in-s3")),
)
WORKFLOW = ".github/workflows/publish-models.yml"
EXAMPLES = "examples/workflows"
SCHEMAS = "docs/schemas"
NESTED = "publish/action.yml"
_PIN = re.compile(r"(?P<action>[\w.-]+/[\w./-]+)@[0-9a-f]{40} # v[\d.]+")
_HEADS = {
    "create_only": "create-only",
    "swap": "compare-and-swap",
    "completion": "create-only for parts",
    "deletion": "conditional DELETE",
    "checksums": "SHA-256",
    "tags": "object tags",
    "uploads": "lists unfinished uploads",
    "endpoint": "endpoint",
    "style": "bucket in",
    "region": "region",
}
_BLOCK = re.compile(r"(<!-- begin (?P<what>[^\n]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str, text: str) -> str:
    """``text`` with every block and every pin as it should be.

    Args:
        page: the page's path in the repository, from which its links start.
        text: the page as it is.

    Raises:
        ValueError: a block that is not known, or one without an end.
    """
    if text.count("<!-- begin ") != len(_BLOCK.findall(text)):
        raise ValueError(f"{page}: a block has no end")

    def block(match: re.Match[str]) -> str:
        what = match["what"]
        if what not in BLOCKS:
            raise ValueError(f"{page}: nothing generates {what!r}; known are: {', '.join(BLOCKS)}")
        return f"{match[1]}\n{BLOCKS[what](page).strip()}\n\n{match[3]}"

    pins = {match["action"]: match[0] for match in _pins_in_use()}
    return _PIN.sub(lambda match: pins.get(match["action"], match[0]), _BLOCK.sub(block, text))


def drifted(root: Path = ROOT) -> dict[str, str]:
    """The pages and schemas that are not as they should be, with the text that they should have."""
    now = {page: (root / page).read_text("utf-8") for page in PAGES}
    pages = {page: after for page, before in now.items() if (after := render(page, before)) != before}
    whole = {f"{SCHEMAS}/{name}": text for name, text in schemas().items()} | {NESTED: nested_action()} | pictures()
    return pages | {
        path: text
        for path, text in whole.items()
        if not (root / path).is_file() or (root / path).read_text("utf-8") != text
    }


def nested_action() -> str:
    """``publish/action.yml``: the action again, in a folder, for ``uses: $/`` names no repository's root.

    A wrapper at the root would have to say ``uses: $/publish`` itself, which GitHub Enterprise Server does not know,
    nor runners before 2.336; later ones print an error for every action that says it (actions/runner#4706).
    """
    head = "# Written by docs/generate.py from ../action.yml, which is the one to change.\n"
    whole = (ROOT / "action.yml").read_text("utf-8")
    return head + whole.replace('"$GITHUB_ACTION_PATH/src"', '"$GITHUB_ACTION_PATH/../src"')


def _pins_in_use() -> Iterator[re.Match[str]]:
    files = [ROOT / "action.yml", ROOT / "setup/action.yml", *ROOT.glob(".github/**/*.yml"), *examples()]
    return (match for file in files for match in _PIN.finditer(file.read_text("utf-8")))


def _load(path: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((ROOT / path).read_text("utf-8"))
    return loaded


def _called() -> dict[str, Any]:
    """What publish-models.yml takes and gives. YAML reads the key ``on`` as true."""
    called: dict[str, Any] = _load(WORKFLOW)[True]["workflow_call"]
    return called


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _default(value: Mapping[str, Any]) -> str:
    if value.get("required") is True:
        return "required"
    default = value.get("default", "")
    shown = str(default).lower() if isinstance(default, bool) else _cell(default)
    return f"`{shown}`" if shown else ""


def _inputs(inputs: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [f"| `{name}` | {_cell(value['description'])} | {_default(value)} |" for name, value in inputs.items()]
    return "\n".join(["| input | what it is | default |", "| --- | --- | --- |", *rows])


def _named(kind: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [f"| `{name}` | {_cell(value['description'])} |" for name, value in values.items()]
    return "\n".join([f"| {kind} | what it is |", "| --- | --- |", *rows])


def _settings() -> str:
    """The table of precedence: every place where a setting may be said, the one that wins first."""
    rows = []
    for name, setting in SETTINGS.items():
        places = ", ".join(f"`{place}`" for place in setting.places)
        rows.append(f"| {name.replace('_', ' ')} | {places} | {_cell(setting.default)} |")
    return "\n".join(["| setting | where it is said | default |", "| --- | --- | --- |", *rows])


def examples() -> list[Path]:
    """The example workflows, by name."""
    return sorted((ROOT / EXAMPLES).glob("*.yml"))


def _split(example: Path) -> tuple[str, str]:
    """An example's leading comment as running text, and the workflow below it."""
    lines = example.read_text("utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    comment = [line.removeprefix("#").removeprefix(" ") for line in lines[:end]]
    return "\n".join(comment), "\n".join(lines[end:])


def _link(page: str, path: Path) -> str:
    steps = "../" * page.count("/")
    return f"[{path.name}]({steps}{path.relative_to(ROOT).as_posix()})"


def _list_of_examples(page: str) -> str:
    rows = []
    for example in examples():
        first = re.split(r"(?<=[.?])\s", " ".join(_split(example)[0].split()), maxsplit=1)[0]
        rows.append(f"| {_link(page, example)} | {_cell(first)} |")
    return "\n".join(["| example | what it does |", "| --- | --- |", *rows])


def _finding(finding: Finding | None) -> str:
    if finding is None:
        return ""
    said = f"{_cell(finding.what)}, {finding.source.value}"
    return f"[{said}]({finding.link})" if finding.link else f"**{said}**"


def _services(*columns: str) -> str:
    """A table of what is known of the services that speak S3; ``columns`` are attributes of ``Service``."""
    rows = []
    for service in SERVICES:
        values = [getattr(service, column) for column in columns]
        cells = [f"`{value}`" if isinstance(value, str) and value else _finding(value or None) for value in values]
        rows.append(f"| {_cell(service.name)} | {' | '.join(cells)} |")
    heads = " | ".join(_HEADS[column] for column in columns)
    return "\n".join([f"| service | {heads} |", f"| {'--- | ' * len(columns)}--- |", *rows])


def _one_example(name: str) -> Callable[[str], str]:
    def block(page: str) -> str:
        path = ROOT / EXAMPLES / name
        return f"{_link(page, path)}:\n\n```yaml\n{_split(path)[1].strip()}\n```"

    return block


# What may stand behind "begin", and what is put there on a page.
BLOCKS: dict[str, Callable[[str], str]] = {
    "inputs of action.yml": lambda _: _inputs(_load("action.yml")["inputs"]),
    "outputs of action.yml": lambda _: _named("output", _load("action.yml")["outputs"]),
    "inputs of setup/action.yml": lambda _: _inputs(_load("setup/action.yml")["inputs"]),
    "inputs of publish-models.yml": lambda _: _inputs(_called()["inputs"]),
    "secrets of publish-models.yml": lambda _: _named("secret", _called()["secrets"]),
    "outputs of publish-models.yml": lambda _: _named("output", _called()["outputs"]),
    "settings": lambda _: _settings(),
    "examples": _list_of_examples,
    "conditions of services": lambda _: _services("create_only", "swap", "completion", "deletion"),
    "other traits of services": lambda _: _services("checksums", "tags", "uploads"),
    "addresses of services": lambda _: _services("endpoint", "style", "region"),
    **{path.name: _one_example(path.name) for path in examples()},
}


def main(arguments: list[str] | None = None) -> int:
    """Write the pages and schemas, or with ``--check`` say which of them have drifted."""
    parser = argparse.ArgumentParser(description="Write the generated blocks of the pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page has drifted")
    check = parser.parse_args(arguments).check
    pages = drifted()
    for page, text in pages.items():
        if not check:
            (ROOT / page).write_text(text, "utf-8")
        print(f"{page}: {'has drifted; run `make docs`' if check else 'written'}")
    return 1 if check and pages else 0


if __name__ == "__main__":
    sys.exit(main())
