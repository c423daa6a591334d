"""The action's outputs: set in every mode, whatever was done or skipped."""

from __future__ import annotations

from modeldrop.action.result import InRegistry, Result, State


def outputs_of(result: Result, state: State) -> dict[str, str]:
    """The outputs of a run. What does not exist is empty; what is a yes or no is ``true`` or ``false``.

    ``reference`` has one line for each registry that has the version; the others are about the first registry.
    """
    first = result.registries[0] if result.registries else InRegistry("")
    references = [
        f"{registry.url}/{result.model}@{registry.version}@{registry.digest}"
        for registry in result.registries
        if registry.version
    ]
    return {
        "version": first.version,
        "reference": "\n".join(references),
        "manifest-digest": first.digest,
        "would-build": _flag(result.would_build),
        "built": _flag(result.built),
        "promoted": _flag(any(registry.moved for registry in result.registries)),
        "previous-version": first.before,
        "source": result.source,
        "report": state.report(),
        "checksums": state.checksums(),
        "build-folder": result.build_folder,
    }


def _flag(value: bool) -> str:  # noqa: FBT001  it is a value, no switch
    return "true" if value else "false"
