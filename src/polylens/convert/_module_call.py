"""How a module is called: its example inputs and the values of fixed ones, by position and by keyword."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from .._check import ArrayLike
from ..errors import InputError
from ._ports import Values

Example = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@final
@dataclass(frozen=True, slots=True)
class ModuleCall:
    """The free inputs of a module by position or by keyword, one row each, and the values of the others by keyword."""

    args: tuple[Tensor, ...]
    kwargs: Mapping[str, Tensor]
    fixed: Mapping[str, Any]

    def rows(self, size: int, *, repeated: bool = False) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Return the arguments for a batch of the given size; `repeated` values of fixed inputs are a row for each sample."""
        args = tuple(_repeated(x, size) for x in self.args)
        fixed = {name: _repeated(v, size) if repeated and _is_row(v) else _copied(v) for name, v in self.fixed.items()}
        return args, {name: _repeated(x, size) for name, x in self.kwargs.items()} | fixed

    @property
    def can_repeat(self) -> bool:
        """Whether a fixed value may be meant as one row."""
        return any(map(_is_row, self.fixed.values()))


def _repeated(x: Tensor, size: int) -> Tensor:
    return x[:1].repeat(size, *(1,) * (x.ndim - 1))


def _is_row(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def module_call(module: nn.Module, example: Example | None, inputs: Values | None) -> ModuleCall:
    """Return how to call a module with an example of its free inputs and with fixed values.

    Raises InputError when an example is missing or unfit, or a name is no parameter of the module's forward.
    """
    parameter = first_parameter(module)
    names = _parameters(module, inputs)
    fixed = {name: _value(value, parameter) for name, value in (inputs or {}).items() if value is not None}
    free = [name for name in names if name not in fixed]
    _refuse_missing(module, example, free)
    if example is None:
        return _placed([_guess(module, parameter)], free, fixed)
    if isinstance(example, Mapping):
        return ModuleCall((), {name: _checked(x, parameter) for name, x in example.items()}, fixed)
    several = isinstance(example, tuple | list) and bool(example) and all(hasattr(x, "shape") for x in example)
    return _placed([_checked(x, parameter) for x in (example if several else [example])], free, fixed)


def called(module: nn.Module, names: Sequence[str], inputs: Values | None) -> Callable[..., Any]:
    """Return a module as a function of its free inputs, the others at their values; `names` are those of joined ones."""
    fixed = {name: _value(value, first_parameter(module)) for name, value in (inputs or {}).items() if value is not None}
    if not fixed:
        return module
    free = list(names) or [name for name in _parameters(module, inputs) if name not in fixed]

    def call(*xs: Tensor) -> Any:
        return module(**dict(zip(free, xs, strict=False)), **{name: _copied(v) for name, v in fixed.items()})

    return call


def first_parameter(module: nn.Module) -> Tensor | None:
    """Return a floating-point parameter or buffer, whose dtype and device the module's inputs have."""
    return next((p for p in [*module.parameters(), *module.buffers()] if p.is_floating_point()), None)


def _placed(examples: list[Tensor], free: Sequence[str], fixed: Mapping[str, Any]) -> ModuleCall:
    if not fixed:
        return ModuleCall(tuple(examples), {}, {})
    if len(examples) > len(free):
        raise InputError(
            f"example: expected the inputs that inputs={{...}} does not fix, {list(free)}; got {len(examples)} tensors"
        )
    return ModuleCall((), dict(zip(free, examples, strict=False)), fixed)


def _parameters(module: nn.Module, inputs: Values | None) -> list[str]:
    """Return the names of the inputs of a module's forward; fixed ones have to be among them, or it takes any keyword."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in _BY_NAME]
    strange = [name for name in inputs or {} if name not in names]
    if strange and not any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters):
        raise InputError(f"inputs: expected names of what {type(module).__name__}.forward takes, {names}; got {strange}")
    return names


def _refuse_missing(module: nn.Module, example: Example | None, free: Sequence[str]) -> None:
    """Raise InputError where forward takes more inputs than there are examples."""
    parameters = inspect.signature(module.forward).parameters
    needed = [name for name in free if parameters[name].default is inspect.Parameter.empty]
    given = 0 if example is None else len(example) if isinstance(example, tuple | list | Mapping) else 1
    if len(needed) > max(1, given):
        last, shown = needed[-1], ", ".join(needed)
        raise InputError(
            f"{type(module).__name__}: takes {len(needed)} inputs: {shown}; pass a batch of each, as example=({shown}), which"
            f" joins them into one flat input, or fix all but one, as inputs={{{last!r}: value}} beside an example of the rest"
        )


def _guess(module: nn.Module, parameter: Tensor | None) -> Tensor:
    leaf = next((m for m in module.modules() if isinstance(m, nn.Linear) or not list(m.children())), module)
    if not isinstance(leaf, nn.Linear) or parameter is None:
        raise InputError(
            f"{type(module).__name__}: expected example=..., a batch as the module is called (say torch.zeros(1, 3, 32, 32)),"
            f" because its first layer, {type(leaf).__name__}, does not tell the input's shape"
        )
    return torch.zeros(2, leaf.in_features, dtype=parameter.dtype, device=parameter.device)


def _checked(example: ArrayLike, parameter: Tensor | None) -> Tensor:
    x = example if isinstance(example, Tensor) else torch.as_tensor(example, device="cpu")
    if not x.is_floating_point() or x.ndim == 0 or len(x) == 0:
        raise InputError(
            "example: expected a batch of floating-point inputs, as the module is called;"
            f" got {x.dtype} of shape {tuple(x.shape)}"
        )
    return x.detach() if parameter is None else x.detach().to(parameter.device, parameter.dtype)


def _value(value: Any, parameter: Tensor | None) -> Any:
    """Return a fixed value as the module takes it: tensors on its device, in its precision; Python's own as they are."""
    if not hasattr(value, "shape"):
        return value
    x = torch.as_tensor(value).detach()
    if parameter is None:
        return x
    return x.to(parameter.device, parameter.dtype) if x.is_floating_point() else x.to(parameter.device)
