"""What ``REGISTRY[/MODEL]`` means: one model, or a registry and so all of its models."""

from __future__ import annotations

import os

from modeldrop.config import default_registry
from modeldrop.errors import NotFoundError, UsageError
from modeldrop.format import keys
from modeldrop.format.reference import parse_reference, parse_registry
from modeldrop.registry.versions import has_model, list_models, missing_model
from modeldrop.storage.write import open_store
from modeldrop.storage.write.store import Store


def find_target(text: str) -> tuple[Store, list[str], bool]:
    """The store and the models that ``text`` means, and whether it names a single one; "" is the default registry.

    A folder that holds numbers somebody has taken is a model, whatever else it could be.

    Raises:
        UsageError: it can be neither, or no registry is named.
        NotFoundError: there is neither.
    """
    if not text:
        store = open_store(default_registry())
        return store, list_models(store), False
    registry = _as_registry(text)
    try:
        reference = parse_reference(text, default_registry())
        store = open_store(reference.registry)
    except UsageError:
        if registry is None:
            raise
        above = open_store(registry)  # such as s3://bucket, az://account/container or ..
        return above, list_models(above), False
    if _is_model(store, reference.model):
        return store, [reference.model], True
    if registry is not None:
        above = open_store(registry)
        models = list_models(above)
        if models:
            return above, models, False
    if has_model(store, reference.model):
        return store, [reference.model], True
    if registry is not None and not os.path.isdir(registry):  # noqa: PTH112
        raise NotFoundError(f"There is neither a registry nor a model {text!r}.", "Check the path.")
    raise missing_model(store, reference.model)


def _is_model(store: Store, model: str) -> bool:
    # A registry may hold models called v1 and v2, but no claims and manifests right below them.
    numbers = sorted(number for number in map(keys.version_number, store.names(model)) if number is not None)
    return any(
        store.exists(key)
        for number in numbers[-1:]
        for key in (keys.claim(model, number), keys.manifest(model, number))
    )


def _as_registry(text: str) -> str | None:
    try:
        return parse_registry(text)
    except UsageError:
        return None
