"""Begin in a repository: write modeldrop.toml and a workflow, print what lets the workflow sign in.

modeldrop init --registry s3://acme-models --model sentence-transformers/all-MiniLM-L6-v2

The workflow publishes on the default branch with one role, and reads on pull requests with another. What is printed are
shell commands that make both roles, for this repository alone, without keys; nothing is run. Of GitHub's API the ids of
the repository are asked, and the commit of this release of the action. No file is overwritten without --force.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from modeldrop._version import __version__
from modeldrop.commands.arguments import add_json, print_json
from modeldrop.config import CONFIG_FILE, RegistrySettings
from modeldrop.doctor.github_trust import GitHubSubjects, sign_in_script
from modeldrop.errors import DiskError, UsageError
from modeldrop.format.names import check_model, name_from
from modeldrop.storage.s3_address import address_here
from modeldrop.storage.urls import parse_bucket
from modeldrop.util.files import replace_file
from modeldrop.util.github_api import GitHubApi, GitHubError

_ACTION = "modeldrop/modeldrop"
_WORKFLOW = ".github/workflows/models.yml"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_REMOTE = re.compile(r"(?:[a-z+]+://(?:[^@/]+@)?|[^@/:]+@)(?P<host>[^/:]+)(?::\d+)?[/:](?P<path>.+?)(?:\.git)?/?")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_IDS_SINCE = "2026-07-15"
_API, _API_VERSION = "https://api.github.com", "2026-03-10"  # which knows of subjects with ids
_GIT_SECONDS = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--registry", required=True, metavar="URL", help="the bucket: s3://…, gs://… or az://…")
    add("--model", required=True, metavar="SOURCE", help="where the weights come from, such as org/name on the Hub")
    add("--name", default="", help="the model's name in the registry (default: made of the source's)")
    add("--region", default="", help="the region of an S3 bucket (default: AWS_REGION, else us-east-1)")
    add("--repository", default="", metavar="OWNER/NAME", help="on github.com (default: git's remote origin)")
    add("--force", action="store_true", help="overwrite files that are there and differ")
    add_json(parser)


@dataclass(frozen=True, slots=True)
class _Repository:
    """A repository on GitHub; ``doubt`` says why its subjects are not certain, and what to do."""

    name: str
    subjects: GitHubSubjects
    doubt: str = ""


def run(arguments: argparse.Namespace) -> int:
    settings = _registry(arguments.registry, arguments.region)
    name = arguments.name or name_from(arguments.model)
    check_model(name)
    top = Path(_git("rev-parse", "--show-toplevel") or ".")
    repository = _repository(arguments.repository)
    texts = {
        CONFIG_FILE: _configuration(settings, name, arguments.model),
        _WORKFLOW: _workflow(settings, name, repository.subjects.branch),
    }
    script = sign_in_script(settings, repository.subjects)
    written = _write(top, texts, force=arguments.force)
    if arguments.json:
        print_json(
            {
                "repository": repository.name,
                "files": [str(top / path) for path in texts],
                "written": [str(top / path) for path in written],
                "subjects": {"publisher": repository.subjects.publisher, "planner": repository.subjects.planner},
                "doubt": repository.doubt,
                "sign_in": script,
            }
        )
        return 0
    for path in texts:
        print(f"{top / path}: {'written' if path in written else 'unchanged'}", file=sys.stderr)
    note = "".join(f"# {line}\n" for line in repository.doubt.splitlines())
    print(f"{note}{script}")
    files = " ".join(texts)
    print(
        "\nRun what is printed, once, by somebody who administers the bucket; "
        f"it lets {repository.name}'s workflow sign in.\n"
        f"Next: git add {files} && git commit -m 'Publish {name}' && git push",
        file=sys.stderr,
    )
    return 0


def _registry(url: str, region: str) -> RegistrySettings:
    if not url.startswith(("s3://", "gs://", "az://")):
        raise UsageError(
            f"{url!r} is no bucket, and a workflow's machine keeps nothing.", "Name s3://…, gs://… or az://…."
        )
    bucket = parse_bucket(url)
    settings = RegistrySettings(url=bucket.url)
    if bucket.scheme != "s3":
        if region:
            raise UsageError("Only S3 buckets have a region.", "Leave --region out.")
        return settings
    if not (region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        print("No region is named: us-east-1 is taken. Another: --region.", file=sys.stderr)
    if region and not re.fullmatch(r"[a-z0-9-]+", region):
        raise UsageError(f"{region[:80]!r} is no region.", "Write one such as eu-west-1.")
    return settings._replace(region=region or address_here(bucket, settings)[0].region)


def _configuration(settings: RegistrySettings, name: str, source: str) -> str:
    lines = ["[registries.models]", f"url = {json.dumps(settings.url)}"]
    lines += [f"region = {json.dumps(settings.region)}"] if settings.region else []
    lines += ["", f"[models.{json.dumps(name)}]" if "." in name else f"[models.{name}]"]
    return "\n".join([*lines, f"source = {json.dumps(source)}", 'registry = "models"', ""])


def _workflow(settings: RegistrySettings, name: str, branch: str) -> str:
    scheme = settings.url.partition(":")[0]
    return (
        _template("workflow.yml")
        .replace("__SIGN_IN__\n", _template(f"sign-in-{scheme}.yml"))
        .replace("__REGION__", settings.region)
        .replace("__NAME__", _scalar(name))
        .replace("__BRANCH__", _scalar(branch))
        .replace("__PIN__", _pin())
    )


def _scalar(text: str) -> str:
    """A name in YAML, which takes some for something else than text."""
    return text if re.fullmatch(r"[A-Za-z][\w./-]{3,}", text) and text not in {"true", "false", "null"} else f'"{text}"'


def _template(name: str) -> str:
    return importlib.resources.files(__package__).joinpath("templates", name).read_text("utf-8")


def _pin() -> str:
    """This release of the action by its commit, where GitHub tells that; else the ref, and how to pin it."""
    release = f"v{__version__}"
    try:
        return f"{_commit_of(release)} # {release}"
    except GitHubError:
        return f"v0 # pin it: gh api repos/{_ACTION}/commits/v0 --jq .sha"


def _commit_of(ref: str) -> str:
    sha = str(_api(_ACTION).get(f"/commits/{ref}").get("sha", ""))
    if not re.fullmatch(r"[0-9a-f]{40}", sha):
        raise GitHubError(f"GitHub tells no commit of {ref}.")
    return sha


def _api(repository: str) -> GitHubApi:
    token = os.environ.get("GH_TOKEN") or os.environ.get("GITHUB_TOKEN", "")
    return GitHubApi(os.environ.get("GITHUB_API_URL", _API), repository, token, _API_VERSION)


def _repository(given: str) -> _Repository:
    name = given or _remote()
    if not _REPOSITORY.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no repository.", "Name it: --repository owner/name.")
    branch = _git("symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/") or "main"
    try:
        about = _api(name).get("")
        branch = about["default_branch"]
        prefix, doubt = _subject_prefix(name, about)
    except (GitHubError, KeyError, TypeError, ValueError) as error:
        prefix = "repo:{}@OWNER_ID/{}@REPOSITORY_ID".format(*name.split("/"))
        doubt = f"GitHub's API told nothing about {name}: {str(error).removesuffix('.')}.\n{_how_to_find(name)}"
    if not _BRANCH.fullmatch(branch):
        raise UsageError(f"The default branch is called {branch[:80]!r}, which no workflow here can name.")
    return _Repository(name, GitHubSubjects(prefix, branch), doubt)


def _subject_prefix(name: str, about: dict[str, object]) -> tuple[str, str]:
    """How the subjects begin, and why that may be wrong."""
    owner = about["owner"]
    assert isinstance(owner, dict)  # noqa: S101  KeyError and TypeError tell that it is something else
    with_ids = "repo:{}@{owner}/{}@{own}".format(*name.split("/"), owner=int(owner["id"]), own=int(str(about["id"])))
    try:  # whoever is signed in is told exactly
        rules = _api(name).get("/actions/oidc/customization/sub")
        if rules.get("use_default") is False:
            return with_ids, f"{name} has a template of its own for subjects: write what it makes of these.\n"
        if prefix := rules.get("sub_claim_prefix"):
            return str(prefix), ""
        ids = rules.get("use_immutable_subject")
    except GitHubError:
        ids = None
    since = str(about["created_at"]) >= _IDS_SINCE
    doubt = f"If {name} was renamed after {_IDS_SINCE}, or opted in, its subjects carry ids.\n{_how_to_find(name)}"
    certain = ids is not None or since
    return (with_ids if (since if ids is None else ids) else f"repo:{name}"), "" if certain else doubt


def _how_to_find(name: str) -> str:
    return (
        "How its subjects begin is what this prints; write that in place of repo:… below:\n"
        f"  gh api repos/{name}/actions/oidc/customization/sub -H 'X-GitHub-Api-Version: 2026-03-10' "
        "--jq .sub_claim_prefix"
    )


def _remote() -> str:
    address = _git("remote", "get-url", "origin")
    found = _REMOTE.fullmatch(address)
    if found is None:
        raise UsageError("git knows no remote origin here.", "Name the repository: --repository owner/name.")
    if found["host"] not in {"github.com", "ssh.github.com"}:
        raise UsageError(
            f"This repository is on {found['host']}, and init writes workflows for github.com.",
            "For another service see docs/action.md, or name a repository there: --repository owner/name.",
        )
    return found["path"].lstrip("/")


def _git(*arguments: str) -> str:
    """What git answers; "" where it does not, or is not there."""
    try:
        ran = subprocess.run(
            ["git", *arguments],  # noqa: S607  the user's own
            check=False,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _write(top: Path, texts: dict[str, str], *, force: bool) -> list[str]:
    """Write the files that are not there; which were written. None is, where one is another already."""
    differing = [path for path, text in texts.items() if _differs(top / path, text)]
    if differing and not force:
        raise UsageError(
            f"{', '.join(str(top / path) for path in differing)}: there already, and other than init writes it. "
            "Nothing was written.",
            "Move it away, or overwrite it: --force.",
        )
    wanted = [path for path in texts if path in differing or not (top / path).exists()]
    for path in wanted:
        try:
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            replace_file(top / path, texts[path].encode())
        except OSError as error:
            raise DiskError(f"{top / path} cannot be written: {error.strerror or error}.") from error
    return wanted


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() != text.encode()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DiskError(f"{path} cannot be read: {error.strerror or error}.") from error
