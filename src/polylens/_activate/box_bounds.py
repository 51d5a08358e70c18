"""How large one unit can be at most over a box: intervals forward, then one row back through strips around the gates.

References: T.-W. Weng et al., Towards fast computation of certified robustness for ReLU networks, ICML 2018; H. Zhang et
al., Efficient neural network robustness certification with general activation functions, NeurIPS 2018.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from .._preimage.reach import strip
from .._rounding import magnitudes
from ..gates import Gate, MaxGate
from ..network import Network
from ..steps import Affine, flat

_UNIT = 2.0**-44  # of the terms of a sum: what some hundred roundings may add
Range = tuple[Tensor, Tensor]


@torch.no_grad()
def most(net: Network, low: Tensor, high: Tensor) -> float:
    """Return what the only output of a piecewise-linear network is at most over a bounded box (*input_shape), in float64.

    Algorithm: interval arithmetic through the program, widened by the rounding of each sum; then the output's row pulled
    back with every gate replaced by a strip around it. The smaller of both; two passes.
    """
    ranges = _intervals(net, low[None], high[None])
    return min(float(ranges[-1][1].max()), _backward(net, ranges))


def _intervals(net: Network, low: Tensor, high: Tensor) -> list[Range]:
    ranges = [(low, high)]
    for node, rough in zip(net.nodes, magnitudes(net), strict=True):
        inputs = [ranges[i] for i in node.inputs]
        if rough is None:
            ranges.append(_through_gate(node.step, *inputs[0]))
            continue
        step = cast(Affine, node.step)
        middle, radius = [(a + b) / 2 for a, b in inputs], [(b - a) / 2 for a, b in inputs]
        sizes = rough.apply(*(m.abs() + r for m, r in zip(middle, radius, strict=True)))
        centre, half = step.apply(*middle), rough.linear(*radius) + _UNIT * sizes
        ranges.append((centre - half, centre + half))
    return ranges


def _through_gate(step: object, low: Tensor, high: Tensor) -> Range:
    if isinstance(step, MaxGate):
        return step.apply(low), step.apply(high)  # they grow with every candidate
    return _extremes(cast(Gate, step), low, high)


def _extremes(gate: Gate, low: Tensor, high: Tensor) -> Range:
    """Return the least and the largest value of a gate: at the ends of its pieces, on either side of a jump."""
    least, greatest = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
    for p in range(gate.num_pieces):
        a = low if p == 0 else torch.maximum(low, gate.breakpoints[p - 1])
        b = high if p == gate.num_pieces - 1 else torch.minimum(high, gate.breakpoints[p])
        for end in (a, b):
            value = torch.where(a <= b, gate.slopes[p] * end + gate.intercepts[p], torch.nan)
            least, greatest = torch.fmin(least, value), torch.fmax(greatest, value)
    return least, greatest


def _backward(net: Network, ranges: list[Range]) -> float:
    """Return an upper bound from the row of the output, pulled back; constants and their rounding add up on the way."""
    last = len(net.nodes)
    pending = {last: torch.ones(1, 1, *net.shape_of(last), dtype=net.dtype, device=net.device)}
    total = terms = torch.zeros((), dtype=net.dtype, device=net.device)
    for k in range(last, 0, -1):
        if k not in pending:
            continue
        node, rows = net.nodes[k - 1], pending.pop(k)
        if isinstance(node.step, Affine):
            zeros = [torch.zeros_like(ranges[i][0]) for i in node.inputs]
            constant = rows[0] * node.step.apply(*zeros)
            parts = node.step.rows(rows, [net.shape_of(i) for i in node.inputs])
        else:
            part, constant = _relaxed(node.step, rows, *ranges[node.inputs[0]])
            parts = (part,)
        total, terms = total + constant.sum(), terms + constant.abs().sum()
        for i, part in zip(node.inputs, parts, strict=True):
            pending[i] = pending[i] + part if i in pending else part
    if 0 not in pending:
        return float(total + _UNIT * terms)
    (low, high), row = ranges[0], pending[0][0]
    value = (row.clamp(min=0) * high + row.clamp(max=0) * low).sum()
    terms = terms + (row.abs() * torch.maximum(low.abs(), high.abs())).sum()
    return float(total + value + _UNIT * terms)


def _relaxed(step: object, rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (1, 1, *shape) on a gate's input, and constants, that together are above the rows on its output."""
    up, down = rows[0].clamp(min=0), rows[0].clamp(max=0)
    if isinstance(step, Gate):
        slope, least, greatest = strip(step, low, high)
        return rows * slope.unsqueeze(1), up * greatest + down * least
    gate = cast(MaxGate, step)
    table = gate.candidates(tuple(low.shape[1:])).to(low.device)
    sign = 1.0 if gate.largest else -1.0
    floor, ceiling = (flat(t, 1)[0] for t in ((low, high) if gate.largest else (-high, -low)))
    floors = torch.where(table >= 0, floor[table], -torch.inf)
    best = floors.argmax(1, keepdim=True)
    rivals = torch.where(table >= 0, ceiling[table], -torch.inf).scatter(1, best, -torch.inf)
    above = (rivals.amax(1) - floors.gather(1, best)[:, 0]).clamp(min=0.0).reshape(up.shape)
    part = torch.zeros_like(flat(low, 1)[0]).index_add_(0, table.gather(1, best)[:, 0], flat(rows[0], 1)[0])
    constant = up * above if sign > 0 else -down * above
    return part.reshape(1, 1, *low.shape[1:]), constant
