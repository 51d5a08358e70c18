"""Smooth steps: not piecewise linear, but with a derivative at every point, which many questions need only.

Elementwise activations (tanh, GELU, ...) have a pattern, the sign of their pre-activation; softmax, normalisations
and products of live tensors have none. `at` gives the first-order map at an input, exact only there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from .gates import Diagonal
from .steps import LinearAt, Shape, Step


def _jvp(function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    own = [tuple(t.contiguous() for t in ts) for ts in (at, along)]  # some derivatives write into expanded tensors
    value, change, *_ = torch.func.jvp(function, own[0], own[1])
    return value, change


@final
@dataclass(frozen=True, eq=False, slots=True)
class Tangent(LinearAt):
    """The first-order map of a function at a batch of inputs."""

    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]

    def _repeated(self, count: int) -> tuple[Tensor, ...]:
        return tuple(x.repeat_interleave(count, 0) for x in self.inputs)

    def columns(self, *columns: Tensor) -> Tensor:
        batch, count = len(self.inputs[0]), columns[0].shape[1]
        tangents = tuple(c.expand(batch, *c.shape[1:]).flatten(0, 1) for c in columns)
        return _jvp(self.function, self._repeated(count), tangents)[1].unflatten(0, (batch, count))

    def offset(self, *offsets: Tensor) -> Tensor:
        steps = tuple(o - x for o, x in zip(offsets, self.inputs, strict=True))
        value, change = _jvp(self.function, self.inputs, steps)
        return value + change

    def rows(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        batch, count = len(self.inputs[0]), rows.shape[1]
        pull = torch.func.vjp(self.function, *self._repeated(count))[1]
        flat = rows.expand(batch, *rows.shape[1:]).flatten(0, 1)
        return tuple(r.unflatten(0, (batch, count)) for r in pull(flat))


@final
@dataclass(frozen=True, eq=False, slots=True)
class Smooth(Step):
    """A differentiable function of one tensor or several, batch as dimension 0.

    `elementwise` functions act on every entry alone; those with `signed` have the pattern z > 0.
    """

    kind: str
    function: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    elementwise: bool = False
    signed: bool = False

    @property
    def num_pieces(self) -> int:
        return 2

    def apply(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **self.options)

    def is_differentiable(self, *inputs: Tensor) -> bool:
        """Say whether value and derivative are finite at a batch of inputs.

        The derivative is taken along ones in every input, where one infinite partial derivative is enough to show.
        """
        value, change = _jvp(self.apply, inputs, tuple(torch.ones_like(x) for x in inputs))
        return bool(torch.isfinite(value).all() and torch.isfinite(change).all())

    def pieces(self, *inputs: Tensor) -> Tensor:
        return inputs[0] > 0

    def at(self, *inputs: Tensor) -> LinearAt:
        if not self.elementwise:
            return Tangent(self.apply, inputs)
        value, slope = _jvp(self.apply, inputs, (torch.ones_like(inputs[0]),))
        return Diagonal(slope, value - slope * inputs[0])


# Defined on all numbers and strictly increasing, so that no two inputs share an output
_RISING = frozenset(
    {"tanh", "sigmoid", "softplus", "elu", "selu", "celu", "log_sigmoid", "softsign", "asinh", "sinh", "atan", "expm1"}
    | {"exp", "exp2", "erf"}
)


def is_rising(step: object) -> bool:
    """Say whether a step is smooth, elementwise, defined everywhere and strictly increasing."""
    return isinstance(step, Smooth) and step.kind in _RISING and float(step.options.get("alpha", 1.0)) > 0
