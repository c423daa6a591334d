"""Refuse a torch module's recipe before its code runs, and keys of such recipes where there is no such code."""

from __future__ import annotations

from pathlib import Path

from modeldrop.errors import RecipeError, SourceError
from modeldrop.export.python_file import CLASS
from modeldrop.export.request import BuildRequest
from modeldrop.export.sources.code import CodeSource
from modeldrop.format.names import PYTHON

_OPSETS = range(18, 21)
_OWN_KEYS = ("trust_code", "state_dict", "dynamic_shapes")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


def check_code(request: BuildRequest) -> None:
    """Refuse what can be told of a torch module without torch.

    Raises:
        SourceError: the recipe does not allow its code, or its weights; or a class has no weights.
        RecipeError: it asks for what is not made of a module, or has a module's keys for another source.
    """
    source, recipe = request.source, request.recipe
    if not isinstance(source, CodeSource):
        written = recipe.to_json()
        own = next((key for key in _OWN_KEYS if key in written), "")
        if own:
            more = "Of code that comes with a checkpoint, the key is trust_remote_code." if own == "trust_code" else ""
            raise RecipeError(
                f"{own}: is for a torch module ({PYTHON}train.py:make_model), and the source is {source.spec}.",
                f"Leave {own} out of the recipe. {more}".strip(),
            )
        if source.framework and recipe.trust_remote_code:
            raise RecipeError(
                f"trust_remote_code: is for code that comes with a checkpoint, and {source.spec} is none.",
                "Leave trust_remote_code out of the recipe.",
            )
        return
    if recipe.trust_remote_code:
        raise RecipeError(
            f"trust_remote_code: is for code that comes with a checkpoint; {source.spec} is code that you name.",
            "Of that, the key is trust_code.",
        )
    if not recipe.trust_code:
        raise SourceError(
            f"{source.spec} is Python code, which the recipe does not allow to run.",
            "Set `trust_code = true` in the recipe if you trust who wrote it: it runs offline and without credentials, "
            "but in no sandbox.",
        )
    if recipe.opset is not None and recipe.opset not in _OPSETS:
        raise RecipeError(
            f"opset: a torch module is exported with opset {_OPSETS[0]} to {_OPSETS[-1]}, not with {recipe.opset}.",
            "Leave opset out of the recipe.",
        )
    _check_weights(recipe.state_dict, source, allow_pickle=recipe.allow_pickle)
    if source.kind == CLASS and (recipe.inputs is None or not recipe.inputs.lower().endswith(".npz")):
        raise RecipeError(
            f"{source.function} is a class, which gives no example inputs to trace it with.",
            "Name some in the recipe, inputs = 'inputs.npz', with an array for every parameter of its forward; or let "
            "a function give (module, example inputs).",
        )


def _check_weights(state_dict: str | None, source: CodeSource, *, allow_pickle: bool) -> None:
    if state_dict is None:
        if source.kind == CLASS:
            raise SourceError(
                f"{source.function} is a class: without weights it would answer by chance.",
                "Name them in the recipe, state_dict = 'weights.safetensors'; or let a function make the module.",
            )
        return
    suffix = Path(state_dict).suffix.lower()
    if suffix in _PICKLES and not allow_pickle:
        raise SourceError(
            f"state_dict: {Path(state_dict).name} is a pickle, and loading one may run whatever is in it.",
            "Save it by safetensors.torch.save_file(module.state_dict(), 'weights.safetensors'), or set "
            "`allow_pickle = true` in the recipe if you trust who made it.",
        )
    if suffix not in {".safetensors", *_PICKLES}:
        raise SourceError(
            f"state_dict: {Path(state_dict).name} is none of .safetensors, {', '.join(_PICKLES)}.",
            "Save it by safetensors.torch.save_file(module.state_dict(), 'weights.safetensors').",
        )
