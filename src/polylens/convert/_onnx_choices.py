"""Comparisons with numbers in an ONNX model, and what is chosen by them: gates, where all of it is of one live value.

Exporters write soft and hard shrinking, thresholds and softplus so. A comparison becomes no step of its own: it is kept as
a function of the value that is compared until something is chosen by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UnsupportedError
from ..gates import Gate, gate
from ..smooth import Smooth
from ..steps import Scale
from ._builder import Builder
from ._piecewise import IDENTITY, ONE, SIGN, ZERO, Piecewise, constant, spike, step
from ._program import Live

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """A function of the entries of a live value, entry by entry, that has not become a step yet; `where` is its comparison."""

    base: Live
    function: Piecewise
    where: str

    def refuse(self) -> NoReturn:
        """Raise UnsupportedError that names the comparison."""
        raise UnsupportedError(
            f"{self.where}: jumps with its input, and more is made of it than a choice; choose by it (Where), or write the"
            " function with Relu, Clip or Abs"
        )


Operand = Live | Choice | Array | None
_NOT = Piecewise((), ((-ONE, ONE),), ())
_COMPARED: Mapping[str, Piecewise] = {
    "Greater": step(ZERO),
    "GreaterOrEqual": step(ONE),
    "Less": step(ZERO).behind(Piecewise((), ((-ONE, ZERO),), ())),
    "LessOrEqual": step(ONE).behind(Piecewise((), ((-ONE, ZERO),), ())),
    "Equal": spike(),
}


def chosen(op: str, operands: Sequence[Operand], builder: Builder) -> Live | Choice | None:
    """Return what an operator makes of comparisons, signs and their operands; None where it is no matter of choices.

    Raises UnsupportedError where operands are not functions of one live value, or a value is not that of a piece beside it.
    """
    pending = [o for o in operands if isinstance(o, Choice)]
    if not pending and not (op in _JUMPS and any(isinstance(o, Live) for o in operands)):
        return None
    if op == "Where" and (soft := _softplus(operands, builder)) is not None:
        return soft
    if op not in _MEANING:
        pending[0].refuse()
    base, functions = _common(operands, builder)
    function = _MEANING[op](functions)
    if function is None:
        pending[0].refuse()
    found = Choice(base, function.simplified(), pending[0].where if pending else builder.where)
    return _settled(found, builder) if op == "Where" else found


_JUMPS = {*_COMPARED, "Sign"}
_MEANING: Mapping[str, Callable[[Sequence[Piecewise]], Piecewise | None]] = {
    **{op: lambda f, test=test: test.behind(f[0] + f[1].scaled(-ONE)) for op, test in _COMPARED.items()},  # type: ignore[misc]
    "Sign": lambda f: SIGN.behind(f[0]),
    "Not": lambda f: _NOT.behind(f[0]),
    "And": lambda f: f[0].times(f[1]),
    "Or": lambda f: _either(f[0], f[1]),
    "Cast": lambda f: f[0] if f[0].is_indicator else None,
    "Identity": lambda f: f[0],
    "Neg": lambda f: f[0].scaled(-ONE),
    "Add": lambda f: f[0] + f[1],
    "Sub": lambda f: f[0] + f[1].scaled(-ONE),
    "Mul": lambda f: f[0].times(f[1]),
    "Where": lambda f: _where(*f),
}


def _either(a: Piecewise, b: Piecewise) -> Piecewise | None:
    both = a.times(b)
    return None if both is None else a + b + both.scaled(-ONE)


def _where(condition: Piecewise, a: Piecewise, b: Piecewise) -> Piecewise | None:
    first, second = condition.times(a), _NOT.behind(condition).times(b)
    return None if first is None or second is None else first + second


# -- of which value


def _common(operands: Sequence[Operand], builder: Builder) -> tuple[Live, list[Piecewise]]:
    """Return the nearest value that all operands are functions of, and the functions."""
    ways = [None if o is None or not isinstance(o, Live | Choice) else list(_ways(o, builder)) for o in operands]
    varying = [way for way in ways if way is not None]
    shared = (x for x, _ in varying[0] if all(any(x.value == y.value for y, _ in way) for way in varying))
    base = next(shared, None)
    if base is None:
        builder.refuse("compares or chooses between several values of the network", "write it with Max, Min, Relu or Abs")
    functions = []
    for operand, way in zip(operands, ways, strict=True):
        if way is None:
            functions.append(_number(operand, base, builder))
        else:
            functions.append(next(f for x, f in way if x.value == base.value))
    return base, functions


def _number(operand: Operand, base: Live, builder: Builder) -> Piecewise:
    array, shape = np.asarray(operand, dtype=np.float64), builder.source_shape(base)
    values = np.unique(array)
    if len(values) != 1 or not np.isfinite(values[0]) or np.broadcast_shapes(array.shape, shape) != shape:
        builder.refuse("compares with, or chooses, constants that are not one finite number", "use one number")
    return constant(Fraction(float(values[0])))


def _ways(x: Live | Choice, builder: Builder) -> Iterator[tuple[Live, Piecewise]]:
    """Yield the values that x is a function of, entry by entry, from the nearest on, each with the function."""
    live, function = (x.base, x.function) if isinstance(x, Choice) else (x, IDENTITY)
    while True:
        yield live, function
        inner = _of_input(live, builder)
        if inner is None:
            return
        live, function = inner[0], function.behind(inner[1])


def _of_input(x: Live, builder: Builder) -> tuple[Live, Piecewise] | None:
    """Return the input of the step that makes x, and what x is of it; None where that is no function of each entry alone."""
    if not x.value:
        return None
    node = builder.nodes[x.value - 1]
    before = Live(node.inputs[0], x.shape, x.batched)
    own = builder.nodes[before.value - 1].shape if before.value else builder.input_shape
    if tuple(own) != tuple(x.shape) or not isinstance(node.step, Gate | Scale):
        return None
    if any(p.numel() != max(1, len(p) if isinstance(node.step, Gate) else 1) for p in node.step.parameters().values()):
        return None
    return before, _function(node.step)


def _function(made: Gate | Scale) -> Piecewise:
    """Return a step whose parameters are the same for all entries."""
    if isinstance(made, Scale):
        factor, bias = (d if t is None else Fraction(t.item()) for t, d in ((made.factor, ONE), (made.bias, ZERO)))
        return Piecewise((), ((factor, bias),), ())
    knots, slopes, intercepts = ([Fraction(v) for v in t.reshape(-1).tolist()] for t in _parameters(made))
    parts = tuple(zip(slopes, intercepts, strict=True))
    values = [parts[k + (k in made.inclusive)] for k in range(len(knots))]
    return Piecewise(tuple(knots), parts, tuple(a * x + b for (a, b), x in zip(values, knots, strict=True)))


def _parameters(made: Gate) -> tuple[Tensor, Tensor, Tensor]:
    return made.breakpoints, made.slopes, made.intercepts


# -- steps


def _settled(choice: Choice, builder: Builder) -> Live:
    """Return the gate that a function is."""
    function, x = choice.function, choice.base
    inclusive = function.inclusive()
    if inclusive is None:
        builder.refuse("has a value at one point that it has nowhere near", "compare with Less or Greater instead of Equal")
    slopes, intercepts = ([float(part[i]) for part in function.parts] for i in (0, 1))
    if not function.knots:
        return builder.scale(x, torch.tensor(slopes, dtype=torch.float64), torch.tensor(intercepts, dtype=torch.float64))
    return builder.gate(x, gate("where", [float(t) for t in function.knots], slopes, intercepts, inclusive))


def _softplus(operands: Sequence[Operand], builder: Builder) -> Live | None:
    """Return softplus with its threshold: Where(beta z > t, z, softplus(beta z) / beta)."""
    condition, straight, curved = operands
    if not isinstance(condition, Choice) or not isinstance(straight, Live) or not isinstance(curved, Live):
        return None
    made = _curved(curved, builder)
    if made is None or made[0].value != straight.value:
        return None
    z, beta = made
    function = next((f for x, f in _ways(condition, builder) if x.value == z.value), None)
    if function is None or function.parts != ((ZERO, ZERO), (ZERO, ONE)) or function.knots[0] <= 0:
        return None
    return builder.activation("softplus", F.softplus, z, beta=float(beta), threshold=float(beta * function.knots[0]))


def _curved(x: Live, builder: Builder) -> tuple[Live, Fraction] | None:
    """Return z and beta of softplus(beta z) / beta."""
    outer = _of_input(x, builder)
    soft, factor = (outer[0], outer[1].parts[0][0]) if outer is not None and not outer[1].knots else (x, ONE)
    node = builder.nodes[soft.value - 1] if soft.value else None
    if node is None or not isinstance(node.step, Smooth) or node.step.kind != "softplus" or node.step.options:
        return None
    z = Live(node.inputs[0], soft.shape, soft.batched)
    inner = _of_input(z, builder)
    if factor == 1:
        return z, ONE
    if inner is None or inner[1].knots or inner[1].parts[0][1] or inner[1].parts[0][0] * factor != 1:
        return None
    return inner[0], inner[1].parts[0][0]
