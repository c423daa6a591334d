"""Load a torch module of somebody's own: run the file that the source names, and take what its function gives.

Whatever is wrong with that code is said with its own last lines; it runs here, in a worker, and nowhere else.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeldrop.errors import RecipeError, SourceError
from modeldrop.export.models.shared.own_code import run_file
from modeldrop.util.text import first_line

Tensors = Mapping[str, torch.Tensor]

_WANTED = "(module, example inputs): a torch.nn.Module, and a tensor, a tuple of tensors, or a dict of tensors by name"
_SHOWN = 5
_FRAMES = 3
_INNER = ("state_dict", "model_state_dict")
_HALF = (torch.float16, torch.bfloat16)
_WRAPPED = ("module.", "_orig_mod.", "model.", "net.")
_ANSWER = "output"


@dataclass(frozen=True, slots=True)
class OwnModule:
    """A module in evaluation mode, with example inputs by the names of its ``forward``'s parameters.

    Attributes:
        module: it.
        example: tensors by name.
        by_name: whether they are given by name; else in their order.
    """

    module: torch.nn.Module
    example: Tensors
    by_name: bool

    def answer(self, inputs: Tensors) -> dict[str, torch.Tensor]:
        """Its outputs by name.

        Raises:
            SourceError: one is no tensor, or two have one name.
        """
        # What a module does to its inputs must not reach whoever asks next.
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        answered = self.module(**own) if self.by_name else self.module(*own.values())
        found: dict[str, torch.Tensor] = {}
        for name, tensor in _flat(answered, ""):
            # A graph has one set of names.
            called = f"{name}_out" if name in inputs else name
            if called in found:
                raise SourceError(f"The module answers {called} twice.", "Give its outputs other names.")
            found[called] = tensor
        if not found:
            raise SourceError("The module answers no tensor.", "Let its forward return what it computes.")
        return found


class Flattened(torch.nn.Module):
    """A module that takes tensors in their order, and answers a tuple of them: what the exporter traces."""

    def __init__(self, own: OwnModule) -> None:
        super().__init__()
        self.module, self._own = own.module, own

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs in the order of ``OwnModule.answer``."""
        return tuple(self._own.answer(dict(zip(self._own.example, tensors, strict=True))).values())


def load_own_module(
    folder: Path,
    file: str,
    function: str,
    *,
    state_dict: Path | None = None,
    inputs: Path | None = None,
    allow_pickle: bool = False,
) -> OwnModule:
    """Run the code and take its module.

    Args:
        folder: where the code is.
        file: of it, the one to run.
        function: of that, what gives the module; or a class of modules, which is called without arguments.
        state_dict: a file of weights.
        inputs: the recipe's file of inputs: where the code gives none, they are what is traced.
        allow_pickle: whether the weights may be a pickle.

    Raises:
        SourceError: the code fails, or gives something else; or the weights do not fit.
        RecipeError: the inputs do not fit.
    """
    where = f"{function} of {file}"
    code = _Code(folder, file)
    with code.explained(f"{file} cannot be run"):
        made = getattr(code.load(), function, None)
    if made is None or not callable(made):
        raise SourceError(f"{file} has no function {function}.", "Check its name.")
    torch.manual_seed(0)
    with code.explained(f"{where} fails"):
        given = made()
    module, example = _taken(given, where)
    if state_dict is not None:
        _load_weights(module, state_dict, allow_pickle=allow_pickle)
    module.eval().requires_grad_(False).cpu()
    _check_weights(module, where)
    if example is None:
        example = _from_file(module, inputs, where)
    own = _named(module, example, where)
    with code.explained(f"The module of {where} fails on its example inputs"), torch.inference_mode():
        own.answer(own.example)
    return own


class _Code:
    """A file of somebody's own, whose failures are told in its own lines."""

    def __init__(self, folder: Path, file: str) -> None:
        self._folder, self._file = folder, file

    def load(self) -> Any:
        sys.path.insert(0, str(self._folder))
        return run_file(self._folder / self._file)

    @contextlib.contextmanager
    def explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (SourceError, RecipeError):
            raise
        # SystemExit: a script that was not meant to be imported.
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise SourceError(f"{what}: {said}", self._hint(error)) from error

    def _hint(self, error: BaseException) -> str:
        if isinstance(error, ModuleNotFoundError) and error.name:
            top = error.name.partition(".")[0]
            beside = (self._folder / self._file).resolve().parent
            if (beside / f"{top}.py").is_file():
                return f'It lies beside {self._file}: name it in the recipe, files = ["{top}.py"], so that it counts.'
            if (beside / top).is_dir():
                return f'It lies beside {self._file}: name its files in the recipe, files = ["{top}/*.py"].'
            return (
                f"{top} is not installed in {sys.prefix}. Install it there, or let MODELDROP_EXPORTER_PYTHON name the "
                "python of the environment that you train in, with 'modeldrop[torch]'."
            )
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(self._folder)] or frames
        lines = [
            f"  {Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: {(frame.line or '').strip()}"
            for frame in own[-_FRAMES:]
        ]
        return "\n".join(("Its last lines:", *lines))


def _taken(given: Any, where: str) -> tuple[torch.nn.Module, Any]:
    """Module and example inputs, None for none, of what a function gives."""
    if isinstance(given, torch.nn.Module):
        given = given, None
    if not (isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], torch.nn.Module)):
        shown = ", ".join(type(part).__name__ for part in given) if isinstance(given, tuple | list) else ""
        raise SourceError(
            f"{where} gives a {type(given).__name__}{f' ({shown})' if shown else ''}, not {_WANTED}.",
            "Write: return module, inputs",
        )
    module, example = given
    if isinstance(module, torch.jit.ScriptModule):
        raise SourceError(
            f"{where} gives a module of TorchScript, which torch.export does not take.", "Give what it was made of."
        )
    return module, example


def _named(module: torch.nn.Module, example: Any, where: str) -> OwnModule:
    """Example inputs by the names of the forward's parameters."""
    signature = inspect.signature(module.forward)
    by_name = isinstance(example, Mapping)
    named: Mapping[str, Any] = example if by_name else {}
    given = example if by_name or isinstance(example, tuple | list) else (example,)
    try:
        bound = signature.bind(**named) if by_name else signature.bind(*given)
    except TypeError as error:
        what = f"inputs {', '.join(map(str, given))}" if by_name else f"{len(given)} inputs"
        raise SourceError(
            f"{where} gives {what}, which {type(module).__name__}.forward{_shown(signature)} does not take: {error}.",
            "Example inputs are what forward is called with.",
        ) from None
    found: dict[str, Any] = dict(named)
    for name, value in ({} if by_name else bound.arguments).items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{name}_{number}": one for number, one in enumerate(value)}
        else:
            found[name] = value
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise SourceError(
                f"{where} gives a {type(value).__name__} as the example input {name}, not a tensor.",
                "A graph takes tensors: let the module itself keep what is none (functools.partial, an attribute).",
            )
    if not found:
        raise SourceError(f"{where} gives no example inputs.", f"It gives {_WANTED}.")
    return OwnModule(module, {name: value.detach().cpu() for name, value in found.items()}, by_name)


def _shown(signature: inspect.Signature) -> str:
    return f"({', '.join(signature.parameters)})"


def _from_file(module: torch.nn.Module, inputs: Path | None, where: str) -> dict[str, torch.Tensor]:
    """Example inputs out of the recipe's file, as they are there; what is no parameter is no input."""
    if inputs is None or inputs.suffix.lower() != ".npz":
        raise SourceError(
            f"{where} gives a module without example inputs, which say what is traced.",
            "Name some in the recipe, inputs = 'inputs.npz', with an array for every input; or let a function give "
            f"{_WANTED}.",
        )
    parameters = inspect.signature(module.forward).parameters
    try:
        with np.load(inputs, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files if name in parameters}
    except (OSError, ValueError) as error:
        raise RecipeError(f"inputs: {inputs} is not a whole .npz file: {first_line(error)}") from error
    odd = next((name for name, array in arrays.items() if array.dtype.kind not in "biuf"), None)
    if odd is not None:
        raise RecipeError(f"inputs: {inputs} has {odd} as {arrays[odd].dtype}, which is no tensor of numbers.")
    lacking = [name for name, one in parameters.items() if one.default is one.empty and name not in arrays]
    if lacking:
        raise RecipeError(
            f"inputs: {inputs} has no {lacking[0]}, which {where} takes.",
            f"It needs an array for each of {', '.join(parameters)}.",
        )
    return {
        name: torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
        for name, array in arrays.items()
    }


def _load_weights(module: torch.nn.Module, path: Path, *, allow_pickle: bool) -> None:
    """Load a state dict that has exactly the module's keys."""
    weights = _read_weights(path, allow_pickle=allow_pickle)
    own = module.state_dict()
    # Of tensors that share their numbers, safetensors keeps one.
    there = {own[name].data_ptr() for name in weights if name in own}
    missing = [name for name, one in own.items() if name not in weights and one.data_ptr() not in there]
    unknown = [name for name in weights if name not in own]
    if missing or unknown:
        before = next((one for one in _WRAPPED if unknown and all(name.startswith(one) for name in weights)), "")
        raise SourceError(
            f"state_dict: {path.name} is not of {type(module).__name__}: "
            + "; ".join(
                f"{what} {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
                for what, names in (("it lacks", missing), ("it has besides", unknown))
                if names
            )
            + ".",
            f"All its keys begin with {before}: save the state_dict of what is inside it." if before else "",
        )
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            raise SourceError(
                f"state_dict: {name} of {path.name} has the shape {list(tensor.shape)}, and the module's "
                f"{list(own[name].shape)}.",
                "Make the module as it was made for training.",
            )
    module.load_state_dict(weights, strict=False)


def _read_weights(path: Path, *, allow_pickle: bool) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = _unpickled(path, allow_pickle=allow_pickle)
    except Exception as error:
        raise SourceError(
            f"state_dict: {path.name} cannot be read: {first_line(error)}", "Save it again, as .safetensors."
        ) from error
    inner = next((loaded[name] for name in _INNER if isinstance(loaded, Mapping) and name in loaded), loaded)
    if not (isinstance(inner, Mapping) and inner and all(isinstance(one, torch.Tensor) for one in inner.values())):
        raise SourceError(
            f"state_dict: {path.name} holds a {type(inner).__name__}, not tensors by name.",
            "Save module.state_dict(), best with safetensors.torch.save_file.",
        )
    return dict(inner)


def _unpickled(path: Path, *, allow_pickle: bool) -> Any:
    """What a pickle holds: numbers alone where that is all; else, where that is allowed, whatever it makes."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        if not allow_pickle:
            raise
        return torch.load(path, map_location="cpu", weights_only=False)


def _check_weights(module: torch.nn.Module, where: str) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.dtype in _HALF:
            raise SourceError(
                f"The module of {where} is in half precision: {name} is {tensor.dtype}.",
                "Give module.float(); fp16 is made of it as a variant.",
            )
        if tensor.is_floating_point() and tensor.isnan().any():
            raise SourceError(f"The module of {where} has NaN in {name}.", "Its training has diverged.")


def _flat(answer: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of an answer by their place in it: keys, names of fields, numbers."""
    if isinstance(answer, torch.Tensor):
        yield name or _ANSWER, answer
        return
    parts = _parts(answer)
    if parts is None:
        raise SourceError(
            f"The module answers a {type(answer).__name__}{f' as {name}' if name else ''}, not a tensor.",
            "A graph answers tensors, and tuples, dicts and dataclasses of them.",
        )
    for key, part in parts.items():
        if part is None:  # a field that is not filled
            continue
        begin = name or (_ANSWER if key.isdecimal() else "")
        yield from _flat(part, f"{begin}_{key}" if begin else key)


def _parts(answer: Any) -> dict[str, Any] | None:
    if isinstance(answer, Mapping):
        return {str(key): part for key, part in answer.items()}
    if is_dataclass(answer) and not isinstance(answer, type):
        return {one.name: getattr(answer, one.name) for one in fields(answer)}
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return dict(zip(answer._fields, answer, strict=True))
    if isinstance(answer, Sequence) and not isinstance(answer, str | bytes):
        return {str(number): part for number, part in enumerate(answer)}
    return None
