"""Samples of p(x | y): inputs of a preimage under a prior and a likelihood, exactly distributed and independent.

Pieces are cut into simplices. Each gets a bound on prior times likelihood; a draw takes a simplex by bound times volume, a
uniform point of it, and keeps the point with probability density over bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .._check import array, finite, whole
from ..domain import Domain
from ..errors import GeometryError, InputError, ShapeError
from ..geometry.sampling import Seed, generator_of
from ..network import Network
from ..prior import Gaussian, Likelihood, Prior, Sampler
from .pieces import Pieces

Array = np.ndarray[Any, Any]
_FINEST = 1 << 16  # simplices at most
_LOOSE = 0.7  # bounds that exceed the density at the middle by that factor (as a logarithm) are made tighter
_KEPT = 0.2  # of the proposals: bounds are good enough then
_BATCH = 1 << 14
_TRIED, _PATIENCE = 1 << 18, 1 << 26  # proposals before their share is judged, and how many there may be in all


class Drawable(Protocol):
    """What a preimage tells of itself."""

    @property
    def network(self) -> Network: ...
    @property
    def domain(self) -> Domain: ...
    @property
    def complete(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...

    @property
    def arrays(self) -> Pieces: ...
    @property
    def is_empty(self) -> bool | None: ...
    @property
    def dimension(self) -> int: ...
    @property
    def dimensions(self) -> Array: ...
    @property
    def volumes(self) -> Array: ...
    def contains(self, x: Any, tol: float = ...) -> Tensor: ...


def draw(of: Drawable, n: int, prior: Prior | None = None, likelihood: Likelihood | None = None, *, seed: Seed = 0) -> Tensor:
    """Return independent inputs (n, *input_shape) of a preimage, distributed exactly as prior times likelihood on it."""
    n = whole(n, "sample: n", least=0)
    if not of.complete:
        raise InputError(f"sample: expected a complete preimage; the search was ended by {of.reason}; raise the limit")
    if of.is_empty:
        raise GeometryError("sample: the preimage is empty; there is nothing to draw from")
    generator, net = generator_of(seed), of.network
    top = of.dimensions == of.dimension
    bounded = bool(np.isfinite(of.volumes[top]).all())
    if prior is not None and (not isinstance(prior, Gaussian) or not bounded):
        found = _from_prior(of, n, prior, likelihood, generator)
    elif not bounded:
        raise GeometryError("sample: the preimage is unbounded and has no uniform distribution; give a prior or a domain")
    else:
        found = _from_pieces(of, n, prior, likelihood, generator)
    return found.reshape(n, *net.input_shape)


# -- from pieces and simplices


@dataclass(eq=False, slots=True)
class _Simplices:
    """Simplices: corners (simplices, k + 1, inputs), outputs there if they are wanted, logarithms of volumes."""

    corners: Tensor
    outputs: Tensor
    log_volume: Tensor

    @classmethod
    def of(cls, preimage: Drawable, indices: Sequence[int], outputs: bool) -> tuple[_Simplices, Tensor]:
        """Return the simplices of some pieces, and by position whose each is."""
        dim, found = preimage.domain.dim, [preimage.arrays.simplices(i) for i in indices]
        corners = torch.from_numpy(np.concatenate([f[0] for f in found]))
        volume = np.concatenate([f[1] * preimage.volumes[i] for f, i in zip(found, indices, strict=True)])
        whose = torch.repeat_interleave(torch.tensor([len(f[1]) for f in found]))
        corners = preimage.domain.embed(corners.reshape(-1, dim)).reshape(len(corners), -1, preimage.domain.num_inputs)
        none = corners.new_zeros(*corners.shape[:2], 0)
        return cls(corners, _outputs(preimage.network, corners) if outputs else none, torch.from_numpy(volume).log()), whose

    def select(self, chosen: Tensor) -> _Simplices:
        """Return some of the simplices, by a mask."""
        return _Simplices(self.corners[chosen], self.outputs[chosen], self.log_volume[chosen])

    def points(self, which: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a uniform point of each of some simplices, and the outputs there if they are known."""
        share = torch.rand(len(which), self.corners.shape[1], generator=generator, dtype=torch.float64)
        share = -share.clamp(min=1e-300).log()
        share = (share / share.sum(1, keepdim=True))[:, :, None]  # exponential variables over their sum
        return (share * self.corners[which]).sum(1), (share * self.outputs[which]).sum(1)


def _outputs(net: Network, points: Tensor) -> Tensor:
    with torch.no_grad():
        return net(points.reshape(-1, *net.input_shape)).flatten(1).cpu().unflatten(0, points.shape[:-1])


def _from_pieces(
    of: Drawable, n: int, prior: Gaussian | None, likelihood: Likelihood | None, generator: torch.Generator
) -> Tensor:
    """Return draws from a mixture of pieces, uniform in each, of which those with loose bounds are cut into simplices."""
    index, plain = np.flatnonzero(of.dimensions == of.dimension), prior is None and likelihood is None
    log_volume, bound = torch.from_numpy(of.volumes[index]).log(), torch.zeros(len(index), dtype=torch.float64)
    fine = None
    if not plain:
        index, bound, fine = _tightened(of, index, log_volume, prior, likelihood)
        log_volume = torch.from_numpy(of.volumes[index]).log()
    if fine is not None:
        log_volume, bound = torch.cat([log_volume, fine.log_volume]), torch.cat([bound, _bounds(fine, prior, likelihood)])
    weight = torch.softmax(log_volume + bound, 0)
    kept, tried = [torch.zeros(0, of.domain.num_inputs, dtype=torch.float64)], 0
    while sum(map(len, kept)) < n:
        _check_patience(tried, kept, n)
        which = _choice(weight, min(_BATCH, n if plain else max(256, 2 * n)), generator)
        tried += len(which)
        x, y = _points_of(of, index, fine, which, generator, likelihood is not None)
        if not plain:
            log_chance = _density(x, y, prior, likelihood) - bound[which]
            _check_bound(log_chance)
            x = x[torch.rand(len(x), generator=generator, dtype=torch.float64).log() < log_chance]
        kept.append(x)
    return torch.cat(kept)[:n]


def _tightened(
    of: Drawable, index: Array, log_volume: Tensor, prior: Gaussian | None, likelihood: Likelihood | None
) -> tuple[Array, Tensor, _Simplices | None]:
    """Return pieces whose bounds are good enough, their bounds, and simplices in place of the others.

    In each round what is loose is cut: pieces into simplices, simplices along their longest edges. Bounds that have become
    tighter make others matter.
    """
    bound, middle = _piece_bounds(of, index, prior, likelihood)
    fine, done, inner = None, bound[:0], middle[:0]
    while len(bound) + len(done) < _FINEST:
        size = log_volume if fine is None else torch.cat([log_volume, fine.log_volume])
        loose = _loose(size, torch.cat([bound, done]), torch.cat([middle, inner]))
        whole, part = loose[: len(bound)], loose[len(bound) :]
        if not bool(loose.any()):
            break
        fresh = [] if fine is None else [fine.select(~part), _halves(fine, torch.nonzero(part).reshape(-1))]
        if bool(whole.any()):
            fresh.append(_Simplices.of(of, index[whole.numpy()].tolist(), likelihood is not None)[0])
            index, log_volume, bound, middle = index[~whole.numpy()], log_volume[~whole], bound[~whole], middle[~whole]
        fine = _Simplices(*(torch.cat([getattr(f, k) for f in fresh]) for k in ("corners", "outputs", "log_volume")))
        done = _bounds(fine, prior, likelihood)
        inner = _density(fine.corners.mean(1), fine.outputs.mean(1), prior, likelihood)
        if fine.corners.shape[1] == 1:
            break  # points, which nothing can cut
    return index, bound, fine


def _points_of(
    of: Drawable, index: Array, fine: _Simplices | None, which: Tensor, generator: torch.Generator, outputs: bool
) -> tuple[Tensor, Tensor]:
    """Return uniform points of the chosen pieces, or behind these of the chosen simplices, and outputs if wanted."""
    whole = which < len(index)
    x = torch.zeros(len(which), of.domain.num_inputs, dtype=torch.float64)
    y = torch.zeros(len(which), math.prod(of.network.output_shape) if outputs else 0, dtype=torch.float64)
    if fine is not None and not bool(whole.all()):
        x[~whole], y[~whole] = fine.points(which[~whole] - len(index), generator)
    if bool(whole.any()):
        drawn, place = which[whole].unique(return_inverse=True)
        found, whose = _Simplices.of(of, index[drawn.numpy()].tolist(), False)
        ends = torch.searchsorted(whose, torch.arange(len(drawn) + 1))
        total = torch.cat([torch.zeros(1, dtype=torch.float64), found.log_volume.exp().cumsum(0)])
        low, high = total[ends[:-1]][place], total[ends[1:]][place]
        at = low + (high - low) * torch.rand(len(place), generator=generator, dtype=torch.float64)
        chosen = torch.searchsorted(total, at, right=True) - 1
        chosen = torch.minimum(torch.maximum(chosen, ends[:-1][place]), ends[1:][place] - 1)
        x[whole] = found.points(chosen, generator)[0]
        y[whole] = _outputs(of.network, x[whole]) if outputs else y[whole]
    return x, y


def _piece_bounds(of: Drawable, index: Array, prior: Gaussian | None, likelihood: Likelihood | None) -> tuple[Tensor, Tensor]:
    """Return the logarithms of what the density is at most on pieces, and of what it is in their middles."""
    start, sizes = of.arrays.start[index], np.diff(of.arrays.start)[index]
    bound, middle = (torch.zeros(len(index), dtype=torch.float64) for _ in range(2))
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        for some in np.array_split(alike, -(-len(alike) * int(size) // _BATCH)):
            corners = of.domain.embed(of.arrays.points[start[some, None] + np.arange(size)].reshape(-1, of.domain.dim))
            corners = corners.reshape(len(some), int(size), -1)
            y = corners.new_zeros(*corners.shape[:2], 0) if likelihood is None else _outputs(of.network, corners)
            bodies = _Simplices(corners, y, corners.new_zeros(len(some)))
            bound[some] = _bounds(bodies, prior, likelihood)
            middle[some] = _density(corners.mean(1), y.mean(1), prior, likelihood)
    return bound, middle


def _loose(log_volume: Tensor, bound: Tensor, middle: Tensor) -> Tensor:
    """Say which bounds exceed the density in the middle by much and matter; none where enough proposals are kept anyway."""
    weight = torch.softmax(log_volume + bound, 0)
    kept = float((weight * (middle - bound).clamp(max=0.0).exp()).sum())
    return (bound - middle > _LOOSE) & (weight > 1e-3 / len(weight)) & (kept < _KEPT)


def _choice(weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return positions by weight; torch.multinomial takes no more than 2^24 of them."""
    ends = weight.cumsum(0)
    at = torch.rand(count, generator=generator, dtype=torch.float64) * ends[-1]
    return torch.searchsorted(ends, at, right=True).clamp(max=len(weight) - 1)


def _density(x: Tensor, y: Tensor, prior: Gaussian | None, likelihood: Likelihood | None) -> Tensor:
    found = torch.zeros(x.shape[:-1], dtype=torch.float64)
    if prior is not None:
        found = found + prior.log_density(x)
    return found if likelihood is None else found + likelihood.log_density(y)


def _bounds(simplices: _Simplices, prior: Gaussian | None, likelihood: Likelihood | None) -> Tensor:
    """Return what the density's logarithm is at most on each simplex."""
    found = torch.zeros(len(simplices.corners), dtype=torch.float64)
    if prior is not None:
        found = found + prior.log_bound(simplices.corners)
    return found if likelihood is None else found + likelihood.log_bound(simplices.outputs)


def _halves(simplices: _Simplices, chosen: Tensor) -> _Simplices:
    corners, outputs = simplices.corners[chosen], simplices.outputs[chosen]
    count, size = corners.shape[:2]
    first, second = torch.triu_indices(size, size, 1)
    longest = (corners[:, first] - corners[:, second]).square().sum(2).argmax(1)
    a, b, rows = first[longest], second[longest], torch.arange(count)
    halves = []
    for moved, other in ((a, b), (b, a)):
        half = []
        for values in (corners, outputs):
            new = values.clone()
            new[rows, moved] = (values[rows, moved] + values[rows, other]) / 2
            half.append(new)
        halves.append(half)
    return _Simplices(
        torch.cat([h[0] for h in halves]),
        torch.cat([h[1] for h in halves]),
        (simplices.log_volume[chosen] - math.log(2)).repeat(2),
    )


# -- from the prior itself


def _from_prior(of: Drawable, n: int, prior: Prior, likelihood: Likelihood | None, generator: torch.Generator) -> Tensor:
    """Return what lies in the preimage of draws from the prior on the domain's flat."""
    sampler = _on_flat(of, prior) if isinstance(prior, Gaussian) else _of_caller(of, prior)
    kept, tried = [torch.zeros(0, of.domain.num_inputs, dtype=torch.float64)], 0
    while sum(map(len, kept)) < n:
        _check_patience(tried, kept, n)
        x = sampler(_BATCH, generator)
        tried += len(x)
        shaped = x.reshape(-1, *of.network.input_shape)
        x = x[of.contains(shaped, 1e-12)]
        if likelihood is not None and len(x):
            chance = likelihood.log_density(_outputs(of.network, x))
            _check_bound(chance)
            x = x[torch.rand(len(x), generator=generator, dtype=torch.float64).log() < chance]
        kept.append(x)
    return torch.cat(kept)[:n]


def _check_bound(log_chance: Tensor) -> None:
    worst = float(log_chance.max()) if len(log_chance) else 0.0
    if not worst <= 1e-6:
        raise InputError(
            f"sample: expected a likelihood within its log_bound; got one {worst:.3g} above it (as a logarithm); scale it so"
            " that it is at most 1, or give it a log_bound"
        )


def _check_patience(tried: int, kept: list[Tensor], n: int) -> None:
    """Raise GeometryError where proposals are kept so rarely that n of them would take more than can be waited for."""
    count = sum(map(len, kept))
    if tried >= _TRIED and count * _PATIENCE < n * tried:
        raise GeometryError(
            f"sample: {count} inputs kept of {tried} proposals; the likelihood or the prior hardly meets the preimage; a"
            " smaller domain around it, a wider prior, or a bound for the likelihood helps"
        )


def _of_caller(of: Drawable, sampler: Sampler) -> Sampler:
    if of.dimension < of.domain.num_inputs:
        raise GeometryError(
            f"sample: a sampler over {of.domain.num_inputs} entries never meets a preimage of dimension {of.dimension};"
            " use Gaussian, or compose the network behind an embedding of the domain"
        )

    def checked(count: int, generator: torch.Generator) -> Tensor:
        x = finite(torch.as_tensor(array(sampler(count, generator), "sampler")).double().cpu(), "sampler")
        if tuple(x.shape) != (count, *of.network.input_shape):
            raise ShapeError(f"sampler: expected inputs ({count}, *{of.network.input_shape}); got {tuple(x.shape)}")
        return x.flatten(1)

    return checked


def _on_flat(of: Drawable, prior: Gaussian) -> Sampler:
    """Return draws from a Gaussian restricted to the domain's flat: a Gaussian in its coordinates."""
    domain = of.domain
    if of.dimension < domain.dim:
        raise GeometryError("sample: an unbounded preimage of lower dimension than its domain cannot be drawn from; give a box")
    mean, std = prior.entries(domain.num_inputs)
    scaled = domain.basis / std[:, None]
    precision = scaled.T @ scaled
    centre = torch.linalg.solve(precision, scaled.T @ ((mean - domain.origin) / std))
    root = torch.linalg.cholesky(torch.linalg.inv(precision))

    def draws(count: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(count, domain.dim, generator=generator, dtype=torch.float64)
        return domain.embed(centre + z @ root.T)

    return draws
