"""How large the terms are that make up pre-activations and their maps: below some roundings of them, what is left is none.

A pre-activation is a sum over the values behind the last gates. Where its terms cancel, their rounding remains, and would
pass for a hyperplane of its own. `Tolerance` says how much of the terms' size counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .gates import Diagonal, MaxGate, Walls
from .network import Network
from .steps import Affine, LinearAt, flat, with_coefficients

# Random directions whose images tell how long rows are: that all of them miss one by a factor of 100 has odds of 1e-8
PROBES = 4


class Terms(NamedTuple):
    """The sizes of the terms of one value, each (batch, *shape): of the rows of its map, and of its offset or itself."""

    row: Tensor
    offset: Tensor


def magnitudes(net: Network) -> list[Affine | None]:
    """Return every affine step with the absolute values of its coefficients, None for gates."""
    return [with_coefficients(node.step, torch.abs) if isinstance(node.step, Affine) else None for node in net.nodes]


def term_sizes(net: Network, local: Sequence[LinearAt], wanted: Sequence[int], relative: float) -> dict[int, Terms]:
    """Return the sizes of terms of the `wanted` values where the steps are `local`, one map or a batch of them.

    Behind a gate terms count afresh, as large as the values are, but for values that are `settled` as rounding.

    Algorithm: a few random columns and the origin are pushed through the network, and from gate to gate their sizes through
    the absolute values of the affine steps: about 10 forward passes.
    """
    probes = _probes(net)
    columns, offset = {0: probes}, {0: torch.zeros(1, *net.input_shape, dtype=net.dtype, device=net.device)}
    sizes = {0: Terms(_length(probes), offset[0])}
    found = {k: size for k, size in sizes.items() if k in wanted}  # a gate may act on the input itself
    for k, (node, step, rough) in enumerate(zip(net.nodes, local, magnitudes(net), strict=False), 1):
        columns[k] = step.columns(*(columns[i] for i in node.inputs))
        batch = len(columns[k])
        offset[k] = step.offset(*(_shared(offset[i], batch) for i in node.inputs))
        rows, offsets = ([_shared(sizes[i][part], batch) for i in node.inputs] for part in (0, 1))
        if rough is None:
            row, constant = behind_gate(step, rows[0], constant=False), behind_gate(step, offsets[0])
            sizes[k] = Terms(settled(_length(columns[k]), row, relative), settled(offset[k], constant, relative))
        else:
            sizes[k] = Terms(rough.linear(*rows), rough.apply(*offsets))
        if k in wanted:
            found[k] = sizes[k]
        for i in net.expiring[k]:
            for held in (columns, offset, sizes):
                held.pop(i, None)
        if len(found) == len(set(wanted)):
            break
    return found


@torch.no_grad()
def evaluated(net: Network, x: Tensor, relative: float = 0.0, least: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the outputs at points (batch, *input_shape), and the sizes of the terms that they are sums of.

    Behind a gate terms count afresh, as large as the values are; those below `relative` of what reached the gate are rounding
    of it, and keep its size. Entries of points are terms of at least the size `least` (*input_shape): an entry of 1e-16 among
    coordinates of size 1 is the rounding error of a 0.
    """
    values, sizes = {0: x}, {0: x.abs() if least is None else torch.maximum(x.abs(), least)}
    for k, (node, rough) in enumerate(zip(net.nodes, magnitudes(net), strict=True), 1):
        values[k] = node.step.apply(*(values[i] for i in node.inputs))
        sizes[k] = values[k].abs() if rough is None else rough.apply(*(sizes[i] for i in node.inputs))
        terms = sizes[node.inputs[0]]
        if isinstance(node.step, MaxGate):
            terms = node.step.apply(terms) if node.step.largest else -node.step.apply(-terms)
        if rough is None and sizes[k].shape == terms.shape:
            sizes[k] = torch.where((values[k] != 0) & (sizes[k] <= relative * terms), terms, sizes[k])
        for i in net.expiring[k]:
            for held in (values, sizes):
                held.pop(i)
    return values[len(net.nodes)], sizes[len(net.nodes)]


def behind_gate(step: LinearAt, terms: Tensor, *, constant: bool = True) -> Tensor:
    """Return the sizes of the terms behind a gate, from those in front of it; `constant` counts what it adds itself."""
    if not isinstance(step, Diagonal):
        return step.offset(terms)
    passed = step.slope.abs() * terms
    return passed if step.intercept is None or not constant else passed + step.intercept.abs()


def settled(value: Tensor, terms: Tensor, relative: float) -> Tensor:
    """Return the sizes of values behind a gate as terms of what follows: their own, unless they are rounding of `terms`.

    What is rounding keeps the size of its terms: a sum over such values alone is rounding too.
    """
    size = value.abs()
    return torch.where(size <= relative * terms, terms, size)


def _shared(value: Tensor, batch: int) -> Tensor:
    """Return a batch of the given length from one of that length, or from one of 1, which all share."""
    return value.expand(batch, *value.shape[1:])


def _probes(net: Network) -> Tensor:
    shape = (1, PROBES, *net.input_shape)
    random = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return random.to(net.device, net.dtype)


def _length(columns: Tensor) -> Tensor:
    """Return the root mean square over the probes: in the mean, the length of the row."""
    return columns.square().mean(1).sqrt()


def of_walls(walls: Walls, sizes: Tensor) -> Tensor:
    """Return the sizes of the terms of z[plus] - z[minus] from those of the flattened z (..., inputs)."""
    sizes = torch.cat([sizes, sizes.new_zeros(*sizes.shape[:-1], 1)], -1)
    return sizes[..., walls.plus] + sizes[..., walls.minus]


def flat_sizes(terms: Terms) -> Terms:
    """Return the sizes with the axes of a sample joined, (batch, inputs)."""
    return Terms(flat(terms.row, 1), flat(terms.offset, 1))
