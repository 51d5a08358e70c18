"""A network as stages: at each gate the hyperplanes of its units, what is carried from one gate to the next, and how
large values and their rounding errors can grow on the way. In homogeneous coordinates a vertex has a weight t and carries
t f(u / t), so constants are multiplied by the weight; a weight of 1 everywhere is the ordinary network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .gates import Choice, Gate, MaxGate
from .network import Network
from .steps import Affine, Fixed

Values = dict[int, Tensor]


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """One gate: the value that it reads, the values alive in front of it and behind it, the gains of its input.

    Every entry of a value has a `scale`, how large it can be in the domain. A unit's pre-activation is L h + c for the
    carried values h; `magnitude` is |L| times their scales, `constant` |c| with everything that was added on the way,
    `inherited` the length of L's rows in those scales: (units,) each. `growth` is by how much an error of the carried
    values, in parts of their scales, can grow into one of the gate's output.
    """

    value: int
    source: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    scales: Values  # of the values carried to this gate
    magnitude: Tensor
    constant: Tensor
    inherited: Tensor
    growth: float


def stages(net: Network, last: int, scale: Tensor) -> list[Stage]:
    """Return the stages of the gates up to value `last`, for inputs of at most the given scale (1, *input_shape)."""
    found: list[Stage] = []
    carried: tuple[int, ...] = (0,)
    scales = {0: _positive(scale)}
    for k, node in enumerate(net.nodes[:last], 1):
        if not isinstance(node.step, Choice):
            continue
        source = node.inputs[0]
        before = tuple(sorted({*_alive(net, k, last), source}))
        start = max(carried)
        nothing = {v: torch.zeros_like(t) for v, t in scales.items()}
        linear = _through(net, scales, start, before, torch.abs, constants=False)
        constant = _through(net, nothing, start, before, torch.abs, constants=True)
        squares = {v: t.square() for v, t in scales.items()}
        inherited = _through(net, squares, start, (source,), torch.square, constants=False)[source].sqrt()
        bounds = {v: _positive(linear[v] + constant[v]) for v in before}
        growth = float((inherited / bounds[source]).max()) if inherited.numel() else 0.0
        after = (*_alive(net, k, last), k)
        gains = (linear[source].reshape(-1), constant[source].reshape(-1), inherited.reshape(-1))
        found.append(Stage(k, source, before, after, scales, *gains, growth))
        scales = {v: bounds[v] for v in after if v != k} | {k: _positive(_bounded(node.step, bounds[source]))}
        carried = after
    return found


def _positive(scale: Tensor) -> Tensor:
    """Return the scales with 1 for entries that are always 0."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _bounded(step: Choice, scale: Tensor) -> Tensor:
    """Return how large a gate's output can be for inputs of a given scale."""
    if isinstance(step, MaxGate):
        return step.apply(scale) if step.largest else -step.apply(-scale)
    gate = cast(Gate, step)
    return (gate.slopes.abs().amax(0) * scale + gate.intercepts.abs().amax(0)).expand(1, *scale.shape[1:])


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
    """Return a gate's output at vertices; `pieces` decides where the gate jumps and a vertex has more than one value."""
    if isinstance(step, MaxGate) or (weight is None and pieces is None):
        return step.apply(z)
    gate = cast(Gate, step)
    w = torch.ones(len(z), dtype=z.dtype, device=z.device) if weight is None else weight
    w = w.reshape(-1, *(1,) * (z.ndim - 1))
    if pieces is None:
        pieces = sum(((z > b * w).long() for b in gate.breakpoints), torch.zeros_like(z, dtype=torch.long))
    shape = z.shape[1:]
    slopes, intercepts = (t.expand(len(t), *shape).gather(0, pieces) for t in (gate.slopes, gate.intercepts))
    return slopes * z + intercepts * w


def jumps(step: Choice) -> bool:
    """Say whether a gate's pieces do not meet at some breakpoint."""
    if not isinstance(step, Gate):
        return False
    b, s, c = step.breakpoints, step.slopes, step.intercepts
    left, right = s[:-1] * b + c[:-1], s[1:] * b + c[1:]
    return bool(((left - right).abs() > 1e-9 * (left.abs() + right.abs() + b.abs())).any())


def _through(net: Network, values: Values, start: int, wanted: tuple[int, ...], change: Any, constants: bool) -> Values:
    """Return the wanted values with every coefficient on the way changed: to its magnitude, or to its square."""
    values = dict(values)
    for k in range(start + 1, max(wanted) + 1):
        step, inputs = net.nodes[k - 1].step, net.nodes[k - 1].inputs
        if isinstance(step, Affine) and all(i in values for i in inputs):
            changed, here = _changed(step, change), [values[i] for i in inputs]
            values[k] = changed.apply(*here) if constants else changed.linear(*here)
    return {v: values[v] for v in wanted}


def _changed(step: Affine, change: Any) -> Affine:
    """Return the step with every coefficient changed: to its magnitude, or to its square."""
    step = step.converted(change)
    if isinstance(step, Fixed) and "weights" in step.options:
        weights = tuple(float(change(torch.tensor(float(w)))) for w in step.options["weights"])
        step = replace(step, options={**step.options, "weights": weights})
    return step


def padded(values: Tensor, width: int) -> Any:
    """Return (k, units) as numpy, padded with zeros to whole words."""
    out = np.zeros((*values.shape[:-1], width))
    out[..., : values.shape[-1]] = values.cpu().numpy()
    return out


def words_of(units: int) -> int:
    """Return how many words hold one bit a unit."""
    return max(1, math.ceil(units / 64))
