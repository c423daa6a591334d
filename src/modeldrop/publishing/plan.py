"""What publishing a model would do. Reads the source and the registries, writes nothing, needs no exporter."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass

from modeldrop.errors import UsageError
from modeldrop.export.request import BuildRequest, make_request
from modeldrop.export.sources import resolve_source
from modeldrop.format.manifest import Manifest
from modeldrop.format.recipe import Recipe
from modeldrop.publishing.request import PublishRequest
from modeldrop.publishing.user_test import check_command
from modeldrop.registry.promotion import Asked
from modeldrop.registry.provenance import asked_now
from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import Version
from modeldrop.storage.write import open_store_or_documents
from modeldrop.storage.write.store import Store


@dataclass(frozen=True, slots=True)
class Plan:
    """A request, and what the registries have of it.

    Attributes:
        request: what is wanted.
        build_request: the build that this means now; its source is pinned.
        stores: the registries, in the order of the request.
        found: for each of them, the version that the recipe produced before, or None. With ``force``, None for all.
        asked: when and in which run this is wanted.
    """

    request: PublishRequest
    build_request: BuildRequest
    stores: tuple[Store, ...]
    found: tuple[Version | None, ...]
    asked: Asked

    @property
    def would_build(self) -> bool:
        """Whether no registry has what is wanted."""
        return all(version is None for version in self.found)

    @property
    def would_mirror(self) -> tuple[Store, ...]:
        """The registries that lack what another one has."""
        return () if self.would_build else tuple(store for store, version in self.registries() if version is None)

    @property
    def present(self) -> tuple[Store, Version] | None:
        """The first registry that has it, and its version there."""
        return next(((store, version) for store, version in self.registries() if version is not None), None)

    def registries(self) -> Iterable[tuple[Store, Version | None]]:
        """Every registry with the version that it has."""
        return zip(self.stores, self.found, strict=True)


def plan(request: PublishRequest) -> Plan:
    """Resolve the source, compute the build key, and ask every registry for it.

    Raises:
        UsageError: a registry is named twice or cannot be one; the test is no shell command.
        SourceError: the source is missing, gated or damaged.
        RecipeError: a file that the recipe names cannot be used, or its metric cannot decide as is asked.
        RegistryError: a registry cannot be read.
        MissingExtraError: a cloud's SDK is not installed, and cannot be done without here.
    """
    asked = asked_now(proposal=request.proposal)
    check_command(request.test)
    stores = _open_all(request.registries)
    wanted = build_request_of(request.source, request.recipe, offline=request.offline)
    if request.better is not None:
        from modeldrop.publishing.better import check_rule  # which few ask for

        check_rule(request.better, wanted)
    found = tuple(None if request.force else find_build(store, request.model, wanted.key) for store in stores)
    return Plan(request=request, build_request=wanted, stores=stores, found=found, asked=asked)


def build_request_of(source: str, recipe: Recipe, *, offline: bool | None) -> BuildRequest:
    """Resolve a source, and compute the build key.

    Raises:
        UsageError, SourceError: it is no source, or is missing, gated or damaged.
        RecipeError: a file that the recipe names cannot be used.
        MissingExtraError: the source is in a bucket, and its cloud's SDK is not installed.
    """
    resolved = resolve_source(
        source,
        offline=offline,
        allow_pickle=recipe.allow_pickle,
        trust_remote_code=recipe.trust_remote_code,
        tokenizer=recipe.tokenizer,
        task=recipe.task,
        files=recipe.files,
    )
    return make_request(resolved, recipe)


def outdated_tools(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Tools of a version's toolchain that are installed here in another release: (then, now) by name."""
    outdated = {}
    for name, then in manifest.toolchain.items():
        try:
            now = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if now != then:
            outdated[name] = (then, now)
    return outdated


def _open_all(registries: Iterable[str]) -> tuple[Store, ...]:
    stores: list[Store] = []
    for registry in registries:
        store = open_store_or_documents(registry)
        if any(store.url == other.url for other in stores):
            raise UsageError(f"{store.url} is named twice.", "Name every registry once.")
        stores.append(store)
    return tuple(stores)
