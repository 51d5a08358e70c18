"""A network as stages: at each gate the hyperplanes of its units, what is carried from one gate to the next, and how
large values and their rounding errors can grow on the way. In homogeneous coordinates a vertex has a weight t and carries
t f(u / t), so constants are multiplied by the weight; a weight of 1 everywhere is the ordinary network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ..gates import Choice, Gate, MaxGate, spread
from ..network import Network
from ..steps import Affine, with_coefficients

Array = np.ndarray[Any, Any]
Values = dict[int, Tensor]
Steps = dict[int, Affine]
_SQUARES = 1e-280, 1e280  # sums of squares outside may have lost terms to underflow or overflow


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """One gate: the value that it reads, and the values alive in front of it and behind it.

    A pre-activation is L h + c for the carried values h. `absolute` holds the steps on the way with the magnitudes of
    their coefficients, `squared` with their squares, `inverse` with 1 over their magnitudes and 0 for 0; `constant` |c|
    with everything that was added, by value.
    """

    value: int
    source: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    absolute: Steps
    squared: Steps
    inverse: Steps
    constant: Values


class Gains(NamedTuple):
    """How large a gate's input is, and what an error of the carried values becomes in it.

    Of units (units,): `magnitude` is |L| times the entries' scales, `constant` is |c|, `inherited` the length of L's rows
    in units of the entries' errors, `least` no more than the smallest of the terms that are not 0 or rounding. `profile`
    says how large the error of each entry is in parts of one number a vertex, by value in front of the gate.
    """

    magnitude: Tensor
    constant: Tensor
    inherited: Tensor
    least: Tensor
    profile: Values


def stages(net: Network, last: int) -> list[Stage]:
    """Return the stages of the gates up to value `last`."""
    found: list[Stage] = []
    carried: tuple[int, ...] = (0,)
    for k, node in enumerate(net.nodes[:last], 1):
        if not isinstance(node.step, Choice):
            continue
        source = node.inputs[0]
        before = tuple(sorted({*_alive(net, k, last), source}))
        way = _way(net, carried, max(before))
        absolute, squared, inverse = (
            {i: with_coefficients(cast(Affine, net.nodes[i - 1].step), f) for i in way}
            for f in (torch.abs, torch.square, reciprocal)
        )
        zeros = {v: torch.zeros(1, *net.shape_of(v), dtype=net.dtype, device=net.device) for v in carried}
        constant = through(net, zeros, absolute, before, constants=True)
        after = (*_alive(net, k, last), k)
        found.append(Stage(k, source, before, after, absolute, squared, inverse, constant))
        carried = after
    return found


def gains(net: Network, stage: Stage, scales: Values, profile: Values, error: float) -> Gains:
    """Return a stage's gains where carried values have at most the given scales, and errors of `error` times the profile.

    All are of one sample (1, *shape).
    """
    linear = through(net, scales, stage.absolute, stage.before, constants=False)
    inherited = inherited_errors(net, stage, profile, stage.before)
    # An entry's own rounding is a part of its terms; what it inherits can be more than that where the terms cancel.
    sizes = {v: torch.maximum(linear[v] + stage.constant[v], inherited[v]) for v in stage.before}
    magnitude, constant = linear[stage.source].reshape(-1), stage.constant[stage.source].reshape(-1)
    # The sum of 1 / term over all terms is at least 1 / the smallest of them.
    living = {v: torch.where(t > error * profile[v], reciprocal(t), 0.0) for v, t in scales.items()}
    inverse = through(net, living, stage.inverse, (stage.source,), constants=False)[stage.source].reshape(-1)
    return Gains(magnitude, constant, inherited[stage.source].reshape(-1), 1.0 / (inverse + reciprocal(constant)), sizes)


def inherited_errors(net: Network, stage: Stage, errors: Values, wanted: tuple[int, ...]) -> Values:
    """Return what errors of the carried values become in front of a gate.

    Errors of rounding are taken as independent: they add up as squares do. A root of squares lies between the plain sum and the
    sum over the root of the number of terms; where squares leave the range of floating point the plain sum stands for it.
    """
    most, count = max(float(e.amax()) for e in errors.values()), sum(e[0].numel() for e in errors.values())
    unit = 2.0 ** math.floor(math.log2(most)) if 0.0 < most < math.inf else 1.0
    parts = {v: (e / unit).square() for v, e in errors.items()}
    squares = through(net, parts, stage.squared, wanted, constants=False)
    sums = through(net, errors, stage.absolute, wanted, constants=False)
    found = {}
    for v, total in sums.items():
        root = torch.minimum(torch.maximum(unit * squares[v].sqrt(), total / math.sqrt(count)), total)
        found[v] = torch.where((squares[v] > _SQUARES[0]) & (squares[v] < _SQUARES[1]), root, total)
    return found


def reciprocal(values: Tensor) -> Tensor:
    """Return 1 over the magnitude of every entry, 0 for 0."""
    return torch.where(values == 0.0, 0.0, 1.0 / values.abs())


def stretched(step: Choice, error: Tensor, low: Tensor, high: Tensor, near: Tensor) -> Tensor:
    """Return how large errors (1, *shape) of a gate's input can be in its output.

    Its input is at least `low` and at most `high` above each breakpoint (breakpoints, *shape). Only pieces that it is on, or
    within `near` of, count: a dead unit passes nothing on.
    """
    if isinstance(step, MaxGate):
        return step.apply(error) if step.largest else -step.apply(-error)
    gate, shape = cast(Gate, step), tuple(error.shape[1:])
    slopes = spread(gate.slopes, shape).abs()
    steepest = torch.zeros(shape, dtype=error.dtype, device=error.device)
    for p in range(gate.num_pieces):
        met = torch.ones(shape, dtype=torch.bool, device=error.device)
        if p:
            met &= high[p - 1] > -near[p - 1]
        if p < len(high):
            met &= low[p] < near[p]
        steepest = torch.where(met, torch.maximum(steepest, slopes[p]), steepest)
    return steepest * error


def _way(net: Network, carried: tuple[int, ...], last: int) -> list[int]:
    """Return the affine values that follow from the carried ones, up to one of them."""
    known, way = set(carried), []
    for k in range(max(carried) + 1, last + 1):
        node = net.nodes[k - 1]
        if isinstance(node.step, Affine) and known.issuperset(node.inputs):
            known.add(k)
            way.append(k)
    return way


def _alive(net: Network, gate: int, last: int) -> tuple[int, ...]:
    """Return the values in front of a gate that something behind it reads."""
    read = {i for node in net.nodes[gate:last] for i in node.inputs}
    return tuple(sorted(i for i in read | {last} if i < gate))


def advance(net: Network, values: Values, first: int, wanted: tuple[int, ...], weight: Tensor | None) -> Values:
    """Return the wanted values at vertices from carried ones, through the affine steps behind value `first`."""
    values = dict(values)
    for k in range(first + 1, max(wanted, default=0) + 1):
        step, inputs = net.nodes[k - 1].step, net.nodes[k - 1].inputs
        if not isinstance(step, Affine) or not all(i in values for i in inputs):
            continue
        values[k] = affine(step, [values[i] for i in inputs], weight)
    return {v: values[v] for v in wanted}


def affine(step: Affine, inputs: list[Tensor], weight: Tensor | None) -> Tensor:
    """Return an affine step at vertices of the given weights, all of weight 1 for None."""
    if weight is None:
        return step.apply(*inputs)
    image = step.linear(*inputs)
    constant = step.apply(*(torch.zeros_like(x[:1]) for x in inputs))
    return image + weight.reshape(-1, *(1,) * (image.ndim - 1)) * constant


def gated(step: Choice, z: Tensor, weight: Tensor | None, pieces: Tensor | None = None) -> Tensor:
    """Return a gate's output at vertices; `pieces` decides where the gate jumps and a vertex has more than one value.

    The input is the caller's to give away: a ReLU is taken in place, because new memory costs more than the maximum.
    """
    if isinstance(step, Gate) and step.kind == "relu":
        return z.relu_()
    if isinstance(step, MaxGate) or (weight is None and pieces is None):
        return step.apply(z)
    gate = cast(Gate, step)
    w = torch.ones(len(z), dtype=z.dtype, device=z.device) if weight is None else weight
    w = w.reshape(-1, *(1,) * (z.ndim - 1))
    if pieces is None:
        pieces = sum(((z > b * w).long() for b in gate.breakpoints), torch.zeros_like(z, dtype=torch.long))
    shape = z.shape[1:]
    slopes, intercepts = (spread(t, tuple(shape)).gather(0, pieces) for t in (gate.slopes, gate.intercepts))
    return slopes * z + intercepts * w


def jumps(step: Choice) -> bool:
    """Say whether a gate's pieces do not meet at some breakpoint."""
    if not isinstance(step, Gate):
        return False
    b, s, c = step.breakpoints, step.slopes, step.intercepts
    left, right = s[:-1] * b + c[:-1], s[1:] * b + c[1:]
    return bool(((left - right).abs() > 1e-9 * (left.abs() + right.abs() + b.abs())).any())


def through(net: Network, values: Values, steps: Steps, wanted: tuple[int, ...], *, constants: bool) -> Values:
    """Return the wanted values through changed steps, with the constants that they add or without."""
    values = dict(values)
    for k, step in steps.items():
        inputs = [values[i] for i in net.nodes[k - 1].inputs]
        values[k] = step.apply(*inputs) if constants else step.linear(*inputs)
    return {v: values[v] for v in wanted}


def padded(values: Array, width: int) -> Array:
    """Return (..., units) padded with zeros to a width."""
    out = np.zeros((*values.shape[:-1], width))
    out[..., : values.shape[-1]] = values
    return out


def words_of(units: int) -> int:
    """Return how many words hold one bit a unit."""
    return max(1, math.ceil(units / 64))
