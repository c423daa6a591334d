"""Read and check the action's inputs, before anything is installed or downloaded.

All inputs arrive in one variable, as GitHub's ``toJSON(inputs)``. So none can be forgotten between ``action.yml`` and
here, and none is ever part of a script.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modeldrop.action.event import WorkflowEvent
from modeldrop.action.input_reader import InputReader
from modeldrop.action.install import signing_parts
from modeldrop.action.report_settings import ReportSettings, read_report_settings
from modeldrop.config import ConfigFile, default_registry, load_config_file, read_duration
from modeldrop.errors import ModeldropError, UsageError
from modeldrop.export.environments.exporters import TORCH_INDEX
from modeldrop.export.request import load_recipe
from modeldrop.export.sources import hub_id, hub_names, is_path_like, resolve_source
from modeldrop.format.names import DEFAULT_CHANNEL, check_channel, check_model, hex_digest, name_from
from modeldrop.format.recipe import METRICS, Recipe, parse_recipe, parse_threshold
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import VARIANTS
from modeldrop.model_settings import ModelSettings, read_models, registries_of
from modeldrop.publishing.request import PublishRequest, matrix_of, merged_recipe
from modeldrop.publishing.user_test import check_command
from modeldrop.storage.errors import redact
from modeldrop.storage.urls import EXTRAS, parse_bucket

PHASES = ("all", "plan", "build", "publish")
_AUTO, _TRUE, _FALSE = "auto", "true", "false"
_MOST_RETRIES = 5
_THRESHOLD = re.compile(r"([^.<>=\s]+)\.([^.<>=\s]+)\s*([<>]?=)\s*(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionInputs:
    """What a run of the action is to do.

    Attributes:
        request: the model that is wanted, and the channel that is to move, if one is; None where only the matrix of
            several models is asked for.
        phase: one of ``PHASES``.
        matrix: the models of modeldrop.toml, else this one, for ``strategy.matrix``: one line of JSON.
        report: what is shown where.
        publishes: whether anything may be written into the registries.
        channel: the channel that the run is about, whether or not it may move it.
        compared_channel: the channel whose version a build is compared with: of a pull request, the default branch's.
        compares: whether also what is found, and not only what is built, is compared.
        tests_unpublished: whether the test runs also where nothing is published.
        reuses: whether a build that an earlier run has kept as an artifact is published.
        may_cache: whether downloads may come from a cache.
        reason: why nothing is published, or why no channel is moved, or "".
        parts: what must be installed to build and publish: ``hub``, ``s3``, ``gcs``, ``azure``, ``sign``.
        first_parts: what of that is needed whatever the plan says.
        build_folder: where the build is kept.
        own_folder: whether that is a place of ours, which only this job and these inputs use.
        torch_index: where PyTorch's CPU build comes from.
    """

    request: PublishRequest | None
    phase: str
    matrix: str
    report: ReportSettings
    publishes: bool = False
    channel: str = ""
    compared_channel: str = ""
    compares: bool = False
    tests_unpublished: bool = False
    reuses: bool = False
    may_cache: bool = False
    reason: str = ""
    parts: tuple[str, ...] = ()
    first_parts: tuple[str, ...] = ()
    build_folder: Path = Path()
    own_folder: bool = True
    torch_index: str = ""

    @property
    def builds(self) -> bool:
        """Whether a missing version may be built in this run."""
        return self.phase in {"all", "build"}


def read_action_inputs(text: str, event: WorkflowEvent, temporary: Path) -> ActionInputs:
    """Read the inputs. Changes into the working directory, and names the configuration in MODELDROP_CONFIG.

    Args:
        text: the inputs as JSON: an object of texts.
        event: what set the workflow off.
        temporary: the runner's folder for temporary files.

    Raises:
        InputsError: with every input that is wrong.
    """
    reader = InputReader({str(name): str(value) for name, value in json.loads(text).items()})
    settings = _enter(reader)
    phase = reader.choice("phase", PHASES)
    dry_run = reader.flag("dry-run")
    report = read_report_settings(reader)
    matrix = _matrix(settings)
    if not reader.text("model") and not reader.text("name") and len(settings.model_tables) > 1:
        if phase == "plan":
            reader.finish(matrix)
            return ActionInputs(request=None, phase=phase, matrix=matrix, report=report)
        known = ", ".join(settings.model_tables)
        reader.problem(
            "name",
            f"The configuration has several models: name one of {known}. To run one job for each of them: the output "
            "matrix of a run with phase: plan, or `modeldrop matrix`.",
        )
        reader.finish(matrix)
    model = _model(reader, settings)
    request = _request(reader, settings, model)
    given = reader.text("channel")
    publishes, moves, reason = _decide(reader, event, phase, dry_run=dry_run, given=given)
    allowed = reader.flag("allow-channel-from-pull-request") and not event.fork
    proposal = event.is_proposal and not allowed
    # What a pull request may move at all without leave, a channel of its own, is no matter of approval.
    propose = reader.flag("propose") and not proposal
    if moves and proposal:
        channel = reader.line("channel") or (model.channel if model else DEFAULT_CHANNEL)
        _refuse_channel_of_default_branch(reader, event, settings, channel)
    test_on = reader.choice("test-on", ("always", "publish"))
    torch_index = _torch_index(reader)
    folder = reader.line("build-folder")
    reader.guard("build-folder", lambda: _check_folder(folder, needed=phase == "publish"))
    reader.finish(matrix)
    assert request is not None  # noqa: S101  else there were problems
    compares = event.is_proposal and phase != "plan" and not dry_run
    parts = _parts(request, settings)
    request = replace(request, proposal=proposal, propose=propose)
    return ActionInputs(
        request=request if moves else replace(request, channel=None, compare_with=request.channel or DEFAULT_CHANNEL),
        phase="plan" if dry_run else phase,
        publishes=publishes,
        channel=request.channel or DEFAULT_CHANNEL,
        compared_channel=(model.channel if model else DEFAULT_CHANNEL) if event.is_proposal else request.channel or "",
        compares=compares,
        tests_unpublished=test_on == "always"
        and event.is_pull_request
        and not publishes
        and not dry_run
        and phase in {"all", "publish"},
        reuses=report.keep_build and not event.is_proposal and not request.force and not folder,
        may_cache=event.may_cache,
        reason=reason,
        matrix=matrix or _matrix_of_one(request),
        parts=parts,
        first_parts=parts if compares else tuple(signing_parts()),  # compared is what must be downloaded
        build_folder=Path(folder).absolute() if folder else _own_folder(request, temporary),
        own_folder=not folder,
        torch_index=torch_index,
        report=report,
    )


def _enter(reader: InputReader) -> ConfigFile:
    """Change into the working directory, which all paths start from, and read modeldrop.toml."""
    folder = reader.line("working-directory") or "."
    reader.guard("working-directory", lambda: os.chdir(folder))
    reader.finish()
    config = reader.line("config")
    if config:
        os.environ["MODELDROP_CONFIG"] = str(Path(config).absolute())
    settings = reader.guard("config", lambda: _load(config))
    reader.finish()
    return settings or ConfigFile()


def _load(config: str) -> ConfigFile:
    if config and not Path(config).is_file():
        raise UsageError("There is no such file.", "Allowed: the path of a modeldrop.toml in the working directory.")
    settings = load_config_file()
    read_models(settings)
    return settings


def _matrix(settings: ConfigFile) -> str:
    if not settings.model_tables:
        return ""
    try:
        return matrix_of(settings)
    except ModeldropError:  # no registry for one of them: that is said where the registry is needed
        return ""


def _matrix_of_one(request: PublishRequest) -> str:
    row = {
        "name": request.model,
        "source": request.source,
        "registry": "\n".join(request.registries),
        "channel": request.channel,
    }
    return json.dumps({"include": [row]})


def _model(reader: InputReader, settings: ConfigFile) -> ModelSettings | None:
    """The model of modeldrop.toml that is meant, whose values the inputs override; None where none is."""
    models = read_models(settings)
    name = reader.line("name")
    if name in models:
        return models[name]
    if reader.text("model"):
        return None
    if name and models:
        known = ", ".join(models)
        reader.problem("name", f"No model of that name is in the configuration, and the input model is empty: {known}.")
    elif models:
        return next(iter(models.values()))
    else:
        reader.problem("model", "Required: org/name on the Hugging Face Hub, ./folder, or config and name.")
    return None


def _request(reader: InputReader, settings: ConfigFile, model: ModelSettings | None) -> PublishRequest | None:
    recipe = _recipe(reader, model)
    source = _source(reader, model, recipe or Recipe())
    name = _name(reader, model, source)
    registries = _registries(reader, settings, model)
    channel = reader.line("channel") or (model.channel if model else DEFAULT_CHANNEL)
    reader.guard("channel", lambda: check_channel(channel))
    test = reader.text("test-command") or (model.test if model else "")
    reader.guard("test-command", lambda: _check_test(test), "…")
    seconds = reader.guard("test-timeout", lambda: read_duration(reader.text("test-timeout") or "1h", "", unit="s"))
    retries = reader.choice("test-retries", [str(number) for number in range(_MOST_RETRIES + 1)])
    force = reader.flag("force")
    if reader.problems or recipe is None:
        return None
    return reader.guard(
        "name",
        lambda: PublishRequest(
            source=source,
            model=name,
            registries=registries,
            recipe=recipe,
            channel=channel,
            force=force,
            test=test,
            test_seconds=seconds or 1.0,
            test_retries=int(retries),
        ),
        name,
    )


def _source(reader: InputReader, model: ModelSettings | None, recipe: Recipe) -> str:
    given, revision = reader.line("model"), reader.line("revision")
    source = given or (model.source if model else "")
    if revision and source:
        place, mark, graph = source.partition("#")
        if hub_id(place) is None:
            reader.problem("revision", f"Only models on the Hugging Face Hub have revisions; the model is {source!r}.")
        elif given and "@" in place:
            reader.problem("revision", f"The input model names a revision itself: {given!r}. Give one of them.")
        else:
            source = f"{place.partition('@')[0]}@{revision}{mark}{graph}"
            reader.guard("revision", lambda: hub_names.check_revision(revision, source))
            return source
    if source:
        reader.guard("model", lambda: _check_source(source, recipe), source)
    return source


def _check_source(source: str, recipe: Recipe) -> None:
    scheme, separator, _ = _without_secrets(source).partition("://")
    if separator and scheme in EXTRAS:
        parse_bucket(source.partition("#")[0])
    elif (hub := hub_id(source.partition("#")[0])) is not None:
        repository, at, revision = hub.partition("@")
        hub_names.check_repository(repository, source)
        if at:
            hub_names.check_revision(revision, source)
    elif is_path_like(source) or "@" not in source or separator:
        # A folder; or nothing that could be a source, which this refuses. Neither asks a server.
        resolve_source(
            source,
            allow_pickle=recipe.allow_pickle,
            trust_remote_code=recipe.trust_remote_code,
            task=recipe.task,
            files=recipe.files,
        )


def _without_secrets(url: str) -> str:
    if redact(url) != url:
        raise UsageError(
            "It holds a password or a signature, and no input may.",
            "Let the cloud's login step sign in (`permissions: id-token: write`).",
        )
    return url


def _name(reader: InputReader, model: ModelSettings | None, source: str) -> str:
    name = reader.line("name") or (model.name if model else "")
    if name or not source:
        reader.guard("name", lambda: check_model(name) if name else name)
        return name
    source = source.partition("#")[0]
    last = Path(source).absolute().name if is_path_like(source) else source
    derived = name_from(last)
    if not derived:
        reader.problem("name", "Required: none could be made of the model's. Use small letters, digits, '.', '_', '-'.")
    return derived


def _registries(reader: InputReader, settings: ConfigFile, model: ModelSettings | None) -> tuple[str, ...]:
    given = reader.lines("registry")
    if not given:
        found = reader.guard("registry", lambda: _default_registries(settings, model))
        return tuple(found or ())
    seen: set[str] = set()
    for registry in given:
        url = reader.guard("registry", lambda registry=registry: _registry_url(settings, registry), registry)  # type: ignore[misc]
        if url in seen:
            reader.problem("registry", "It is named twice. Name every registry once.", registry)
        seen.add(url or "")
    return tuple(given)


def _default_registries(settings: ConfigFile, model: ModelSettings | None) -> Sequence[str]:
    if model is not None:
        registries: Sequence[str] = registries_of(model, settings)
    elif default := default_registry():
        registries = [default]
    elif len(settings.registries) == 1:
        registries = list(settings.registries)
    else:
        known = f" Or a name of the configuration: {', '.join(settings.registries)}." if settings.registries else ""
        raise UsageError(
            "Required: s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix or ./folder; several, "
            f"one per line.{known}"
        )
    for registry in registries:
        _registry_url(settings, registry)
    return registries


def _registry_url(settings: ConfigFile, registry: str) -> str:
    if not registry.isprintable():
        raise UsageError("It must be one registry per line, without control characters.")
    url = settings.registry(_without_secrets(registry)).url
    scheme, separator, _ = url.partition("://")
    if scheme in EXTRAS and separator:
        return parse_bucket(url).url
    if separator:
        raise UsageError(f"{scheme}:// is read-only.", "Publish to the bucket behind it: s3://, gs:// or az://.")
    return url


def _recipe(reader: InputReader, model: ModelSettings | None) -> Recipe | None:
    file = reader.line("recipe")
    base = reader.guard("recipe", lambda: _base_recipe(file, model))
    own: dict[str, Any] = {}
    task = reader.line("task")
    if task and task not in TASKS:
        reader.problem("task", f"Allowed: {', '.join(TASKS)}; empty to infer it.")
    elif task:
        own["task"] = task
    variants = [name for line in reader.lines("variants") for name in re.split(r"[,\s]+", line) if name]
    for name in variants:
        if name not in VARIANTS or variants.count(name) > 1:
            reader.problem("variants", f"{name[:40]!r} is unknown or named twice. Allowed: {', '.join(VARIANTS)}.")
            break
    else:
        own |= {"variants": variants} if variants else {}
    texts = reader.line("texts")
    if texts:
        reader.guard("texts", lambda: _check_file(texts))
        own["inputs"] = texts
    length = reader.line("max-length")
    if length:
        own["max_length"] = reader.guard("max-length", lambda: _max_length(length))
    if base is None:
        return None
    plain = base.to_json()
    thresholds = {name: dict(limits) for name, limits in plain.get("thresholds", {}).items()}
    for line in reader.lines("thresholds"):
        found = reader.guard("thresholds", lambda line=line: _threshold(line, own=base.metric is not None), line)  # type: ignore[misc]
        if found is not None:
            variant, metric, value = found
            thresholds.setdefault(variant, {})[metric] = value
    own |= {"thresholds": thresholds} if thresholds else {}
    if reader.problems:
        return base
    return reader.guard("recipe", lambda: parse_recipe(plain | own))


def _base_recipe(file: str, model: ModelSettings | None) -> Recipe:
    if file:
        return load_recipe(Path(file))
    return merged_recipe(model.recipe_file, dict(model.recipe)) if model else Recipe()


def _threshold(line: str, *, own: bool) -> tuple[str, str, float | str]:
    match = _THRESHOLD.fullmatch(line)
    if match is None:
        raise UsageError("Write VARIANT.METRIC=NUMBER, one per line, such as int8.cosine_mean=0.98.")
    variant, metric, side, number = match.groups()
    if variant not in VARIANTS:
        raise UsageError(f"{variant[:40]!r} is no variant. Allowed: {', '.join(VARIANTS)}.")
    if own and metric not in METRICS:
        if parse_threshold(f"{side} {number}") is None:
            raise UsageError(
                f"Of the recipe's own metric, write {variant}.{metric[:40]}>=0.9, or >=99% of the original's."
            )
        return variant, metric, f"{side} {number}"
    if metric not in METRICS:
        raise UsageError(f"{metric[:40]!r} is no metric. Allowed: {', '.join(METRICS)}.")
    if side not in {"=", METRICS[metric]}:
        raise UsageError(f"A faithful {metric} is {METRICS[metric]} its threshold.", f"Write {variant}.{metric}=…")
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE]-?[0-9]+)?", number):
        raise UsageError(f"{number[:40]!r} is no number.", "Write one such as 0.98.")
    return variant, metric, float(number)


def _max_length(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 8 <= int(text) <= 1 << 20:
        raise UsageError("Allowed: a whole number from 8 to 1048576.")
    return int(text)


def _check_file(path: str) -> None:
    if not Path(path).exists():
        raise UsageError("There is no such file.", "Allowed: the path of a file or folder in the working directory.")


def _check_folder(path: str, *, needed: bool) -> None:
    if path and needed and not (Path(path) / "manifest.json").is_file():
        raise UsageError("It holds no build.", "Allowed: the output build-folder of a run with phase: build.")


def _check_test(command: str) -> None:
    if "\0" in command:
        raise UsageError("A command cannot contain NUL.")
    check_command(command)


def _torch_index(reader: InputReader) -> str:
    index = reader.line("torch-index") or TORCH_INDEX
    if not re.fullmatch(r"(https?://[^\s/]+|file:///)\S*", index):
        reader.problem("torch-index", f"Allowed: the address of a package index, such as {TORCH_INDEX}.")
    return index


def _decide(
    reader: InputReader, event: WorkflowEvent, phase: str, *, dry_run: bool, given: str
) -> tuple[bool, bool, str]:
    """Whether the run publishes, whether it moves the channel, and why not."""
    promote = reader.choice("promote", (_AUTO, _TRUE, _FALSE))
    if dry_run:
        return False, False, "this is a dry run"
    if phase in {"plan", "build"}:
        return False, False, f"phase: {phase} publishes nothing"
    if event.is_pull_request and not given:
        return False, False, "a pull request publishes nothing unless the input channel names one, such as pr-17"
    if promote == _FALSE:
        return True, False, "promote: false moves no channel"
    if promote == _AUTO and not event.is_pull_request and not event.on_default_branch:
        return True, False, "promote: auto moves a channel only on the default branch"
    return True, True, ""


def _refuse_channel_of_default_branch(
    reader: InputReader, event: WorkflowEvent, settings: ConfigFile, channel: str
) -> None:
    if channel not in {DEFAULT_CHANNEL, *(model.channel for model in read_models(settings).values())}:
        return
    if (event.cause or event.name) == "merge_group":
        out = 'Move no channel there (promote: "false"): the push after the merge does.'
    else:
        number = "github.event.workflow_run.id" if event.name == "workflow_run" else "github.event.number"
        out = (
            f"Give it one of its own, such as channel: pr-${{{{ {number} }}}}; the push after the merge moves this one."
        )
    allow = "No fork's may." if event.fork else "Or allow it: allow-channel-from-pull-request: true."
    reader.problem(
        "channel",
        f"The default branch uses that channel, and on {event.description} it may not be moved. {out} {allow}",
        channel,
    )


def _parts(request: PublishRequest, settings: ConfigFile) -> tuple[str, ...]:
    """What must be installed to bring the source here, and a version into the registries."""
    parts = set()
    for url in (request.source, *(settings.registry(registry).url for registry in request.registries)):
        scheme, separator, _ = url.partition("://")
        if separator and scheme in EXTRAS:
            parts.add(EXTRAS[scheme])
    if hub_id(request.source.partition("#")[0]) is not None:
        parts.add("hub")
    return tuple(sorted(parts | set(signing_parts())))


def _own_folder(request: PublishRequest, temporary: Path) -> Path:
    """Found again by a later step with the same inputs, such as phase: publish after phase: build."""
    identity = json.dumps([str(Path.cwd()), request.model, request.source, request.recipe.to_json()], sort_keys=True)
    return temporary / "modeldrop" / "builds" / hex_digest(identity.encode())[:16]
