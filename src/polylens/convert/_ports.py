"""The inputs and outputs of a source by their names: which inputs stay free, how several become one, which output counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from .. import steps
from .._check import ArrayLike
from ..errors import InputError
from ..network import InputSlice
from ..steps import Fixed, Shape
from ._program import Live, Program

Values = Mapping[str, ArrayLike | None]


def free_names(known: Mapping[str, Sequence[Any]], inputs: Values | None, source: str) -> list[str]:
    """Return the names of the inputs that stay free, in the source's order.

    Args:
        known: the shapes of the source's inputs by name.
        inputs: values of inputs to fix; None, or a value of None, leaves an input free.
        source: a word on the source, for complaints.

    Raises: InputError for a name that the source has not, for none that stays free, and where nobody chose among several.
    """
    shown = ", ".join(f"{name!r} {tuple(shape)}" for name, shape in known.items())
    if inputs is None:
        if len(known) > 1:
            last, free = list(known)[-1], ", ".join(f"{name!r}: None" for name in known)
            raise InputError(
                f"{source}: takes {len(known)} inputs: {shown}; fix all but one, as inputs={{{last!r}: value}}, or join them"
                f" into one flat input, as inputs={{{free}}}"
            )
        return list(known)
    _refuse_strangers(known, inputs, shown, source)
    free_of_all = [name for name in known if inputs.get(name) is None]
    if not free_of_all:
        raise InputError(f"{source}: inputs: expected at least one of {shown} to stay free; got values for all")
    return free_of_all


def _refuse_strangers(known: Mapping[str, Any], inputs: Values, shown: str, source: str) -> None:
    strange = [name for name in inputs if name not in known]
    if strange:
        raise InputError(f"{source}: inputs: expected names among {shown}; got {strange}")


def chosen_output(known: Mapping[str, Sequence[Any]], output: str | None, source: str) -> str:
    """Return the name of the output that is the network's; `known` has the shapes of all by name.

    Raises InputError for a name that the source has not, and where nobody chose among several.
    """
    shown = ", ".join(f"{name!r} {tuple(shape)}" for name, shape in known.items())
    if output is None and len(known) == 1:
        return next(iter(known))
    if output is None:
        first = next(iter(known), "name")
        raise InputError(f"{source}: gives {len(known)} outputs: {shown}; choose one, as outputs={first!r}")
    if output not in known:
        raise InputError(f"{source}: outputs: expected one of {shown}; got {output!r}")
    return output


def entered(program: Program, shapes: Mapping[str, tuple[Shape, bool]]) -> dict[str, Live]:
    """Return the free inputs as live values.

    Args:
        program: one whose input has the shape of the only free input, or is flat and as large as all together.
        shapes: for every free input the shape of one sample, and whether the source shows a batch axis in front of it.
    """
    start = Live(0, program.input_shape)
    if len(shapes) == 1:
        ((name, (shape, batched)),) = shapes.items()
        program.begin(name, f"input {name!r}")
        return {name: start if (shape, batched) == (start.shape, True) else _shaped(program, start, shape, batched)}
    edges = [0, *itertools.accumulate(math.prod(shape) for shape, _ in shapes.values())]
    live = dict[str, Live]()
    for (name, (shape, batched)), (a, b) in zip(shapes.items(), itertools.pairwise(edges), strict=True):
        program.begin(name, f"input {name!r}")
        part = program.fixed("slice", steps.take, start, dim=1, start=a, stop=b, step=1)
        live[name] = part if batched and len(shape) == 1 else _shaped(program, part, shape, batched)
    return live


def _shaped(program: Program, x: Live, shape: Shape, batched: bool) -> Live:
    if shape == x.shape:
        return Live(x.value, shape, batched)
    return program.emit(Fixed("reshape", steps.reshape, {"shape": shape}), [x], batched)


def joined(shapes: Mapping[str, Shape]) -> tuple[InputSlice, ...]:
    """Return where the inputs of given sample shapes lie in one flat input; none of a single input."""
    edges = [0, *itertools.accumulate(math.prod(shape) for shape in shapes.values())]
    parts = zip(shapes.items(), itertools.pairwise(edges), strict=True)
    return tuple(InputSlice(name, a, b, shape) for (name, shape), (a, b) in parts) if len(shapes) > 1 else ()


def words(path: Sequence[Any]) -> str:
    """Return the name of a tensor in nested containers: its keys and positions on PyTorch's path to it, joined by dots."""
    return ".".join(str(next(getattr(k, a) for a in ("key", "idx", "name") if hasattr(k, a))) for k in path) or "output"
