"""From points to cells: by pattern, and where a point lies on hyperplanes by the units that are off their breakpoints."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from .._rounding import behind_gate, magnitudes, settled
from ..domain import Domain
from ..gates import Choice, Gate, MaxGate
from ..network import Network, chunks, patterns
from ..pattern import UnitLayer
from ..steps import Affine, flat

Array = np.ndarray[Any, Any]
# A point in a cell's closure is nudged this far towards other cells, in parts of the way, before all cells are looked at
_STEPS = (1e-10, 1e-7)
_ROUNDS = 4


@dataclass(eq=False, slots=True)
class Lookup:
    """Cells by their patterns and, in an unbounded domain, the cone of it that they lie in."""

    network: Network
    domain: Domain
    relative: float
    words: Array
    middles: Array
    order: Array
    keys: Array

    @classmethod
    def of(cls, network: Network, domain: Domain, relative: float, words: Array, middles: Array, sums: Array) -> Lookup:
        """Return the look-up of cells with patterns `words`, points `middles` inside, and `sums` of their vertices."""
        keys = _keys(words, _cones(domain, sums))
        order = np.argsort(keys, kind="stable")
        return cls(network, domain, relative, words, middles, order, keys[order])

    def __call__(self, u: Array) -> Array:
        """Return the cells of coordinates (batch, dim) inside the domain, -1 where none was found."""
        found = self._by_pattern(u)
        left = np.flatnonzero(found < 0)
        for factor, search in itertools.product((4.0, 1e3), (self._nudged, self._searched)):
            if not len(left):
                break
            found[left] = search(u[left], self._near(u[left], factor * self.relative))
            left = left[found[left] < 0]
        return found

    # -- patterns

    def _patterns(self, u: Array) -> Array:
        x = self.domain.embed(u).reshape(-1, *self.network.input_shape)
        return np.ascontiguousarray(patterns(self.network, x).packed.numpy()).view(np.uint64).reshape(len(u), -1)

    def _by_pattern(self, u: Array) -> Array:
        return self._find(self._patterns(u), _cones(self.domain, u))

    def _find(self, words: Array, cones: Array) -> Array:
        """Return the cell with each pattern in each cone, -1 for none."""
        wanted = _keys(words, cones)
        at = np.searchsorted(self.keys, wanted).clip(max=max(0, len(self.keys) - 1))
        cell = self.order[at]
        same = (self.keys[at] == wanted) & (self.words[cell] == words).all(1)
        return np.where(same, cell, -1)

    # -- points on hyperplanes

    def _nudged(self, u: Array, near: Array) -> Array:
        """Return the cells just beside points that agree with them in all units off their breakpoints."""
        found, own = np.full(len(u), -1), self._patterns(u)
        random = np.random.default_rng(0)
        for step in _STEPS * _ROUNDS:
            left = np.flatnonzero(found < 0)
            if not len(left):
                break
            target = self.middles[random.integers(len(self.middles), size=len(left))]
            beside = self._by_pattern(u[left] + step * (target - u[left]))
            agrees = (((self.words[beside] ^ own[left]) & ~near[left]) == 0).all(1)
            found[left] = np.where((beside >= 0) & agrees, beside, -1)
        return found

    def _searched(self, u: Array, near: Array) -> Array:
        """Return the first cell that agrees with each point in all units off their breakpoints, -1 for none."""
        found = np.full(len(u), -1)
        for k, (own, free) in enumerate(zip(self._patterns(u), near, strict=True)):
            fits = np.flatnonzero((((self.words ^ own) & ~free) == 0).all(1))
            found[k] = fits[0] if len(fits) else -1
        return found

    def _near(self, u: Array, relative: float) -> Array:
        """Return as words the units that are within `relative` of the size of their terms from a breakpoint."""
        x = self.domain.embed(u).reshape(-1, *self.network.input_shape)
        with torch.no_grad():
            return np.concatenate([_near_words(self.network, part, relative) for part in chunks(self.network, x)])


def _keys(words: Array, cones: Array) -> Array:
    """Return a 64-bit hash of every pattern and cone."""
    out = cones.astype(np.uint64) + np.uint64(1)
    for column in words.T:
        out = (out ^ (out >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + column
    return (out ^ (out >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)


def _cones(domain: Domain, u: Array) -> Array:
    """Return which cone of an unbounded domain each row of coordinates lies in: the ray that it has no part of."""
    if domain.is_bounded:
        return np.zeros(len(u), np.int64)
    return np.where((u >= 0.0).all(1), domain.dim, u.argmin(1))


def _near_words(net: Network, x: Tensor, relative: float) -> Array:
    values, terms, parts = {0: x}, {0: x.abs()}, [np.zeros((len(x), 0), np.uint8)]
    for k, (node, rough) in enumerate(zip(net.nodes, magnitudes(net), strict=True), 1):
        here, sizes = [values[i] for i in node.inputs], [terms[i] for i in node.inputs]
        if rough is not None:
            values[k], terms[k] = cast(Affine, node.step).apply(*here), rough.apply(*sizes)
        else:
            step = cast(Choice, node.step)
            layer = UnitLayer("", "", node.shape, step.num_pieces)
            near = UnitLayer("", "", node.shape).pack(_near(step, here[0], relative * sizes[0]))
            parts.append(np.tile(near, (1, layer.planes)))
            local = step.at(here[0])
            values[k] = local.offset(here[0])
            terms[k] = settled(values[k], behind_gate(local, sizes[0]), relative)
        for i in net.expiring[k]:
            values.pop(i), terms.pop(i)
    return np.ascontiguousarray(np.concatenate(parts, 1)).view(np.uint64).reshape(len(x), -1)


def _near(step: Choice, z: Tensor, room: Tensor) -> Tensor:
    """Say which units of a batch are within their room of a change of piece."""
    if isinstance(step, MaxGate):
        table = step.candidates(tuple(z.shape[1:])).to(z.device)
        value, room = flat(z, 1)[:, table], flat(room, 1)[:, table]
        value = torch.where(table >= 0, value if step.largest else -value, -torch.inf)
        leads = value + room >= (value - room).amax(2, keepdim=True)
        return (leads & (table >= 0)).sum(2).gt(1).reshape(step.apply(z).shape)
    gate = cast(Gate, step)
    near = torch.zeros_like(z, dtype=torch.bool)
    for b in gate.breakpoints:
        near |= (z - b).abs() <= room + room.new_tensor(1e-15) * b.abs()
    return near


# -- the domain


def inside(domain: Domain, u: Array, relative: float) -> Array:
    """Say which coordinates lie in a domain, within `relative` of the terms of its sides."""
    matrix, bound = domain.sides.matrix.numpy(), domain.sides.bound.numpy()
    room = relative * (np.abs(u) @ np.abs(matrix).T + np.abs(bound))
    return np.asarray((u @ matrix.T - bound <= room).all(1))
