"""Gates and max-gates: the steps that choose a piece at every input, and the affine map they are on that piece.

A gate with k breakpoints t_1 <= ... <= t_k is on piece p = number of breakpoints strictly below its input, and is
`slopes[p] z + intercepts[p]` there; ReLU is on piece 1 iff z > 0. Where a jump takes its value from above, the breakpoint
counts as below itself. A max-gate's piece is the position of the winner among its candidates; the lowest wins ties.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError
from .steps import LinearAt, Shape, Step, flat


class Walls(NamedTuple):
    """What keeps units on their pieces: z[plus] - z[minus] <= bound for the flattened input z; -1 stands for nothing.

    Behind wall k the unit `unit[k]` is on the piece `beyond[k]`. All are of shape (walls,).
    """

    unit: Tensor
    plus: Tensor
    minus: Tensor
    bound: Tensor
    beyond: Tensor

    def values(self, z: Tensor) -> Tensor:
        """Return z[plus] - z[minus] along the last axis of z (..., inputs)."""
        z = torch.cat([z, z.new_zeros(*z.shape[:-1], 1)], -1)  # the entry that position -1 means
        return z[..., self.plus] - z[..., self.minus]


class Choice(Step):
    """A step that is on one of finitely many pieces, each of them affine."""

    __slots__ = ()

    @property
    @abstractmethod
    def num_pieces(self) -> int:
        """How many pieces one unit has."""

    @abstractmethod
    def pieces(self, *inputs: Tensor) -> Tensor:
        """Return which piece every unit is on: bool for two pieces, integers otherwise; shape of the output."""

    @abstractmethod
    def on(self, pieces: Tensor, shape: Shape) -> LinearAt:
        """Return the affine map that the step is on the given pieces, for inputs of the given shape."""

    def at(self, *inputs: Tensor) -> LinearAt:
        """Return the affine map that the step is near a batch of inputs."""
        return self.on(self.pieces(*inputs), tuple(inputs[0].shape[1:]))

    @abstractmethod
    def walls(self, pieces: Tensor, shape: Shape) -> Walls:
        """Return the inequalities on the input of one sample that hold on the given pieces (of one sample)."""

    @abstractmethod
    def pieces_towards(self, z: Tensor, dz: Tensor, tol: Tensor | float) -> Tensor:
        """Return the pieces of one sample just behind z in the direction dz: what ties goes by dz.

        Entries of z are known up to `tol`, one number for all or one for each.
        """


def spread(values: Tensor, shape: Shape) -> Tensor:
    """Return parameters (k, *axes that broadcast) of a gate for every unit of a sample: (k, *shape)."""
    missing = (1,) * (len(shape) + 1 - values.ndim)
    return values.reshape(len(values), *missing, *values.shape[1:]).expand(len(values), *shape)


@final
@dataclass(frozen=True, eq=False, slots=True)
class Diagonal(LinearAt):
    """`z -> slope * z + intercept` elementwise, with values of shape (batch, *shape)."""

    slope: Tensor
    intercept: Tensor | None

    def columns(self, *columns: Tensor) -> Tensor:
        return columns[0] * self.slope.unsqueeze(1)

    def offset(self, *offsets: Tensor) -> Tensor:
        y = offsets[0] * self.slope
        return y if self.intercept is None else y + self.intercept

    def rows(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        return (rows * self.slope.unsqueeze(1),)


_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "abs": torch.abs}


@final
@dataclass(frozen=True, eq=False, slots=True)
class Gate(Choice):
    """An elementwise piecewise-linear function; parameters of shape (k or k + 1, 1 or more axes that broadcast).

    `inclusive` lists the breakpoints at which a unit is on the piece above already: jumps whose value comes from there.
    """

    kind: str
    breakpoints: Tensor
    slopes: Tensor
    intercepts: Tensor
    inclusive: tuple[int, ...] = ()

    @property
    def num_pieces(self) -> int:
        return len(self.slopes)

    def apply(self, *inputs: Tensor) -> Tensor:
        if (plain := _PLAIN.get(self.kind)) is not None:
            return plain(inputs[0])
        slope, intercept = self._coefficients(inputs[0])
        return slope * inputs[0] + intercept

    def pieces(self, *inputs: Tensor) -> Tensor:
        if self.num_pieces == 2:
            return self._beyond(inputs[0], 0)
        beyond = (self._beyond(inputs[0], k) for k in range(len(self.breakpoints)))
        return sum(beyond, torch.zeros_like(inputs[0], dtype=torch.uint8))

    def on(self, pieces: Tensor, shape: Shape) -> Diagonal:
        if self.kind == "relu":
            return Diagonal(pieces.to(self.slopes), None)
        slope, intercept = self.slopes[0].expand(pieces.shape), self.intercepts[0].expand(pieces.shape)
        for k in range(1, self.num_pieces):
            slope = torch.where(pieces == k, self.slopes[k], slope)
            intercept = torch.where(pieces == k, self.intercepts[k], intercept)
        return Diagonal(slope, intercept if bool(self.intercepts.any()) else None)

    def walls(self, pieces: Tensor, shape: Shape) -> Walls:
        piece = flat(pieces.long(), 0).reshape(-1)
        limits = spread(self.breakpoints, shape).reshape(len(self.breakpoints), -1)
        units, none = torch.arange(len(piece), device=piece.device), torch.full_like(piece, -1)
        above, below = piece < len(limits), piece > 0
        upper = Walls(units, units, none, limits[piece.clamp(max=len(limits) - 1), units], piece + 1)
        lower = Walls(units, none, units, -limits[(piece - 1).clamp(min=0), units], piece - 1)
        return Walls(*(torch.cat([u[above], v[below]]) for u, v in zip(upper, lower, strict=True)))

    def pieces_towards(self, z: Tensor, dz: Tensor, tol: Tensor | float) -> Tensor:
        ahead = torch.stack([dz >= 0 if k in self.inclusive else dz > 0 for k in range(len(self.breakpoints))])
        gap = z - spread(self.breakpoints, tuple(z.shape))
        return ((gap > tol) | ((gap >= -tol) & ahead)).sum(0)

    def _beyond(self, z: Tensor, k: int) -> Tensor:
        return z >= self.breakpoints[k] if k in self.inclusive else z > self.breakpoints[k]

    def _coefficients(self, z: Tensor) -> tuple[Tensor, Tensor]:
        slope, intercept = self.slopes[0], self.intercepts[0]
        for k in range(len(self.breakpoints)):
            beyond = self._beyond(z, k)
            slope = torch.where(beyond, self.slopes[k + 1], slope)
            intercept = torch.where(beyond, self.intercepts[k + 1], intercept)
        return slope, intercept


@final
@dataclass(frozen=True, eq=False, slots=True)
class Select(LinearAt):
    """Every output is one chosen entry of the input: `index` (batch, outputs) into the flattened sample."""

    index: Tensor
    shape: Shape

    def columns(self, *columns: Tensor) -> Tensor:
        values = flat(columns[0], 2).expand(len(self.index), -1, -1)
        index = self.index.unsqueeze(1).expand(-1, values.shape[1], -1)
        return values.gather(2, index).reshape(*index.shape[:2], *self.shape)

    def offset(self, *offsets: Tensor) -> Tensor:
        return flat(offsets[0], 1).gather(1, self.index).reshape(len(self.index), *self.shape)

    def rows(self, rows: Tensor, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
        rows = flat(rows, 2).expand(len(self.index), -1, -1)
        image = rows.new_zeros(*rows.shape[:2], math.prod(shapes[0]))
        image.scatter_add_(2, self.index.unsqueeze(1).expand_as(rows), rows)
        return (image.reshape(*rows.shape[:2], *shapes[0]),)


class MaxGate(Choice):
    """A choice of the largest (or smallest) among candidates; its piece is the winner's position among them."""

    __slots__ = ()

    largest: bool = True

    @abstractmethod
    def candidates(self, shape: Shape) -> Tensor:
        """Return the candidates of every output as positions in the flattened sample: (outputs, pieces), -1 for none."""

    def on(self, pieces: Tensor, shape: Shape) -> Select:
        table = self.candidates(shape).to(pieces.device)
        chosen = flat(pieces.long(), 1)
        return Select(table[torch.arange(len(table), device=table.device), chosen], tuple(pieces.shape[1:]))

    def walls(self, pieces: Tensor, shape: Shape) -> Walls:
        table, piece = self.candidates(shape).to(pieces.device), pieces.long().reshape(-1, 1)
        winner = table.gather(1, piece).squeeze(1)
        positions = torch.arange(table.shape[1], device=table.device)
        unit, rival = torch.nonzero((table >= 0) & (positions != piece), as_tuple=True)
        sides = (table[unit, rival], winner[unit])
        plus, minus = sides if self.largest else sides[::-1]
        return Walls(unit, plus, minus, torch.zeros(len(unit), dtype=torch.float64, device=table.device), rival)

    def pieces_towards(self, z: Tensor, dz: Tensor, tol: Tensor | float) -> Tensor:
        table, sign = self.candidates(tuple(z.shape)).to(z.device), 1.0 if self.largest else -1.0
        value, speed = (sign * t.reshape(-1)[table] for t in (z, dz))
        room = torch.as_tensor(tol, dtype=z.dtype, device=z.device).expand(z.shape).reshape(-1)[table]
        value = torch.where(table >= 0, value, -torch.inf)
        leads = value + room >= (value - room).amax(1, keepdim=True)
        winner = torch.where(leads, speed, -torch.inf).max(1).indices
        return winner.reshape(self.apply(z[None]).shape[1:])


@final
@dataclass(frozen=True, eq=False, slots=True)
class MaxPool(MaxGate):
    """Max-pooling over the last 1, 2 or 3 axes; a unit's piece is the winner's position in its window, row by row."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    kind: str = "max_pool"

    @property
    def num_pieces(self) -> int:
        return math.prod(self.size)

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(self.size)]
        lead = x.shape[: x.ndim - len(self.size) - 1]
        flat = x.reshape(math.prod(lead), *x.shape[len(lead) :])
        y, index = pool(
            flat, self.size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode, return_indices=True
        )
        return y.reshape(*lead, *y.shape[1:]), index.reshape(*lead, *index.shape[1:])

    def apply(self, *inputs: Tensor) -> Tensor:
        return self._pool(inputs[0])[0]

    def pieces(self, *inputs: Tensor) -> Tensor:
        (_, winner), rank = self._pool(inputs[0]), len(self.size)
        position = torch.zeros_like(winner)
        strides = [math.prod(inputs[0].shape[inputs[0].ndim - rank + i + 1 :]) for i in range(rank)]
        for i in range(rank):
            corner = torch.arange(winner.shape[winner.ndim - rank + i], device=winner.device) * self.stride[i] - self.padding[i]
            coordinate = winner // strides[i] % inputs[0].shape[inputs[0].ndim - rank + i]
            inside = (coordinate - corner.reshape(-1, *(1,) * (rank - 1 - i))) // self.dilation[i]
            position = position * self.size[i] + inside
        return position.bool() if self.num_pieces == 2 else position

    def candidates(self, shape: Shape) -> Tensor:
        rank = len(self.size)
        places = torch.zeros(1, 1, dtype=torch.long, device="cpu")
        inside = torch.ones(1, 1, dtype=torch.bool, device="cpu")
        for i, length in enumerate(shape[len(shape) - rank :]):
            corner = _count(self._output_length(i, length)) * self.stride[i] - self.padding[i]
            here = corner[:, None] + _count(self.size[i]) * self.dilation[i]
            places, inside = (
                _outer(places * length, here, torch.add),
                _outer(inside, (here >= 0) & (here < length), torch.logical_and),
            )
        plane = math.prod(shape[len(shape) - rank :])
        base = _count(math.prod(shape[: len(shape) - rank])) * plane
        return torch.where(inside, base[:, None, None] + places, -1).reshape(-1, places.shape[-1])

    def _output_length(self, axis: int, length: int) -> int:
        spare = length + 2 * self.padding[axis] - self.dilation[axis] * (self.size[axis] - 1) - 1
        count = (-(-spare // self.stride[axis]) if self.ceil_mode else spare // self.stride[axis]) + 1
        starts_outside = (count - 1) * self.stride[axis] >= length + self.padding[axis]
        return count - 1 if self.ceil_mode and starts_outside else count


@final
@dataclass(frozen=True, eq=False, slots=True)
class ReduceMax(MaxGate):
    """The largest (or smallest) entry along one axis, which is removed; a unit's piece is the winner's position."""

    dim: int
    length: int
    largest: bool = True
    kind: str = "reduce_max"

    @property
    def num_pieces(self) -> int:
        return self.length

    def _winner(self, x: Tensor) -> Tensor:
        return (x.max(self.dim) if self.largest else x.min(self.dim)).indices

    def apply(self, *inputs: Tensor) -> Tensor:
        return inputs[0].amax(self.dim) if self.largest else inputs[0].amin(self.dim)

    def pieces(self, *inputs: Tensor) -> Tensor:
        winner = self._winner(inputs[0])
        return winner.bool() if self.length == 2 else winner

    def candidates(self, shape: Shape) -> Tensor:
        positions = _count(math.prod(shape)).reshape(shape)
        return positions.movedim(self.dim - 1, -1).reshape(-1, self.length)


def _count(stop: int) -> Tensor:
    return torch.arange(stop, device="cpu")


def _outer(a: Tensor, b: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine (m, p) with (n, q) to (m n, p q), the last of both varying fastest."""
    return combine(a[:, None, :, None], b[None, :, None, :]).reshape(len(a) * len(b), -1)


# The gates by name: breakpoints, slopes and intercepts as numbers or as tensors that broadcast against one sample.

Number = float | Tensor


def gate(
    kind: str,
    breakpoints: Sequence[Number],
    slopes: Sequence[Number],
    intercepts: Sequence[Number],
    inclusive: tuple[int, ...] = (),
) -> Gate:
    """Return the elementwise gate with the given pieces, in float64 on the CPU.

    Equal breakpoints (a clip whose bounds are equal, say) leave an empty piece, which no unit is ever on.

    Raises InputError when the breakpoints descend.
    """
    given = itertools.chain(breakpoints, slopes, intercepts)
    values = [torch.as_tensor(v, dtype=torch.float64, device="cpu") for v in given]
    shape = torch.broadcast_shapes(*(v.shape for v in values), (1,))
    stacked = torch.stack([v.expand(shape) for v in values])
    k = len(breakpoints)
    descends = (stacked[: k - 1] > stacked[1:k]).any(0)
    if bool(descends.any()):
        got = stacked[:k, descends][:, 0].tolist()
        raise InputError(f"{kind}: expected breakpoints that do not descend; got {got}; put them in order")
    return Gate(kind, stacked[:k], stacked[k : 2 * k + 1], stacked[2 * k + 1 :], inclusive)


def relu() -> Gate:
    """Return max(z, 0)."""
    return gate("relu", [0.0], [0.0, 1.0], [0.0, 0.0])


def leaky_relu(slope: Number, kind: str = "leaky_relu") -> Gate:
    """Return z where z > 0 and slope * z elsewhere."""
    return gate(kind, [0.0], [slope, 1.0], [0.0, 0.0])


def absolute() -> Gate:
    """Return |z|."""
    return gate("abs", [0.0], [-1.0, 1.0], [0.0, 0.0])


def clip(low: Number | None, high: Number | None, kind: str = "clip") -> Gate:
    """Return min(max(z, low), high), one bound at least: where low > high, `high` wins, as it does in PyTorch and ONNX."""
    if low is not None and high is not None:
        high = torch.as_tensor(high, dtype=torch.float64, device="cpu")
        low = torch.as_tensor(low, dtype=torch.float64, device="cpu").minimum(high)
        return gate(kind, [low, high], [0.0, 1.0, 0.0], [low, 0.0, high])
    if low is not None:
        return gate(kind, [low], [0.0, 1.0], [low, 0.0])
    if high is not None:
        return gate(kind, [high], [1.0, 0.0], [0.0, high])
    raise InputError(f"{kind}: expected a lower bound, an upper bound or both; got neither")


def threshold(at: float, value: float) -> Gate:
    """Return z where z > at and the constant value elsewhere; it jumps unless value = at."""
    return gate("threshold", [at], [0.0, 1.0], [value, 0.0])


def hardsigmoid(slope: float = 1 / 6, shift: float = 0.5) -> Gate:
    """Return slope * z + shift clipped to [0, 1]."""
    return gate("hardsigmoid", [-shift / slope, (1 - shift) / slope], [0.0, slope, 0.0], [0.0, shift, 1.0])


def softshrink(width: float) -> Gate:
    """Return z moved towards 0 by width, and 0 within it."""
    return gate("softshrink", [-width, width], [1.0, 0.0, 1.0], [width, 0.0, -width])


def hardshrink(width: float) -> Gate:
    """Return z, and 0 where |z| <= width; it jumps."""
    return shrink(width, 0.0, "hardshrink")


def shrink(width: float, bias: float, kind: str = "shrink") -> Gate:
    """Return z moved towards 0 by bias, and 0 where |z| <= width, both ends included; it jumps unless bias = width."""
    return gate(kind, [-width, width], [1.0, 0.0, 1.0], [bias, 0.0, -bias], inclusive=(0,))
