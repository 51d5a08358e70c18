"""Samples of p(x | y): inputs of a preimage under a prior and a likelihood, exactly distributed and independent.

Pieces are cut into simplices. Each gets a bound on prior times likelihood; a draw takes a simplex by bound times volume, a
uniform point of it, and keeps the point with probability density over bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ._check import array, finite, whole
from ._hull import surface
from .domain import Domain
from .errors import GeometryError, InputError, ShapeError
from .geometry.sampling import Seed, generator_of
from .network import Network
from .prior import Gaussian, Likelihood, Prior, Sampler

Array = np.ndarray[Any, Any]
_FINEST = 1 << 16  # simplices at most
_LOOSE = 0.7  # bounds that exceed the density at the middle by that factor (as a logarithm) are made tighter
_BATCH = 1 << 14
_PATIENCE = 1 << 26  # proposals without enough kept ones


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
    def is_empty(self) -> bool | None: ...
    @property
    def dimension(self) -> int: ...
    @property
    def dimensions(self) -> Array: ...
    @property
    def volumes(self) -> Array: ...
    def __getitem__(self, index: int) -> Any: ...
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
        found = _from_simplices(_simplices(of, top), net, n, prior, likelihood, generator)
    return found.reshape(n, *net.input_shape)


# -- from simplices


@dataclass(eq=False, slots=True)
class _Simplices:
    """Simplices by their corners (simplices, k + 1, inputs), the outputs there, and the logarithms of their volumes."""

    corners: Tensor
    outputs: Tensor
    log_volume: Tensor


def _simplices(of: Drawable, top: Array) -> _Simplices:
    dim, parts = of.dimension, []
    for i in np.flatnonzero(top):
        piece = of[int(i)]
        parts.append(of.domain.embed(_fan(piece.vertices, dim)))
    corners = torch.cat([p.reshape(-1, dim + 1, of.domain.num_inputs) for p in parts])
    if dim:
        edges = corners[:, 1:] - corners[:, :1]
        log_volume = torch.linalg.svdvals(edges).log().sum(1) - math.lgamma(dim + 1)
        corners, log_volume = corners[log_volume > -torch.inf], log_volume[log_volume > -torch.inf]
    else:
        log_volume = torch.zeros(len(corners), dtype=torch.float64)
    return _Simplices(corners, _outputs(of.network, corners), log_volume)


def _outputs(net: Network, points: Tensor) -> Tensor:
    with torch.no_grad():
        return net(points.reshape(-1, *net.input_shape)).flatten(1).cpu().unflatten(0, points.shape[:-1])


def _fan(vertices: Array, dim: int) -> Array:
    """Return simplices (simplices * (dim + 1), coordinates): cones from the middle over the simplices of the surface."""
    if dim == 0:
        return vertices[:1]
    middle = vertices.mean(0)
    within = (vertices - middle) @ np.linalg.svd(vertices - middle, full_matrices=False)[2][:dim].T
    if dim == 1:
        return vertices[[int(within[:, 0].argmin()), int(within[:, 0].argmax())]]
    faces = surface(within)
    return np.concatenate([np.broadcast_to(middle, (len(faces), 1, len(middle))), vertices[faces]], 1).reshape(-1, len(middle))


def _from_simplices(
    simplices: _Simplices,
    net: Network,
    n: int,
    prior: Gaussian | None,
    likelihood: Likelihood | None,
    generator: torch.Generator,
) -> Tensor:
    bound = _bounds(simplices, prior, likelihood)
    if prior is not None or likelihood is not None:
        simplices, bound = _refined(simplices, bound, prior, likelihood)
    weight = torch.softmax(simplices.log_volume + bound, 0)
    kept, tried = [simplices.corners.new_zeros(0, simplices.corners.shape[2])], 0
    while sum(map(len, kept)) < n:
        _check_patience(tried, kept)
        which = _choice(weight, _BATCH, generator)
        tried += len(which)
        share = (
            -torch.rand(len(which), simplices.corners.shape[1], generator=generator, dtype=torch.float64)
            .clamp(min=1e-300)
            .log()
        )
        share = share / share.sum(1, keepdim=True)  # exponential variables over their sum: uniform in the simplex
        x = (share[:, :, None] * simplices.corners[which]).sum(1)
        if prior is None and likelihood is None:
            kept.append(x)
            continue
        y = (share[:, :, None] * simplices.outputs[which]).sum(1)
        log_chance = _density(x, y, prior, likelihood) - bound[which]
        kept.append(x[torch.rand(len(x), generator=generator, dtype=torch.float64).log() < log_chance])
    return torch.cat(kept)[:n]


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
        found = found + prior.log_bound(simplices.corners.amin(1), simplices.corners.amax(1))
    return found if likelihood is None else found + likelihood.log_bound(simplices.outputs)


def _refined(
    simplices: _Simplices, bound: Tensor, prior: Gaussian | None, likelihood: Likelihood | None
) -> tuple[_Simplices, Tensor]:
    """Return the simplices bisected along their longest edges where their bounds are loose and matter."""
    while len(bound) < _FINEST and simplices.corners.shape[1] > 1:
        middle = _density(simplices.corners.mean(1), simplices.outputs.mean(1), prior, likelihood)
        weight = torch.softmax(simplices.log_volume + bound, 0)
        loose = (bound - middle > _LOOSE) & (weight > 1e-3 / len(weight))
        if not bool(loose.any()):
            break
        halves = _halves(simplices, torch.nonzero(loose).reshape(-1))
        fresh = _bounds(halves, prior, likelihood)
        names = ("corners", "outputs", "log_volume")
        simplices = _Simplices(*(torch.cat([getattr(simplices, k)[~loose], getattr(halves, k)]) for k in names))
        bound = torch.cat([bound[~loose], fresh])
    return simplices, bound


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
        _check_patience(tried, kept)
        x = sampler(_BATCH, generator)
        tried += len(x)
        shaped = x.reshape(-1, *of.network.input_shape)
        x = x[of.contains(shaped, 1e-12)]
        if likelihood is not None and len(x):
            chance = likelihood.log_density(_outputs(of.network, x))
            x = x[torch.rand(len(x), generator=generator, dtype=torch.float64).log() < chance]
        kept.append(x)
    return torch.cat(kept)[:n]


def _check_patience(tried: int, kept: list[Tensor]) -> None:
    if tried >= _PATIENCE:
        raise GeometryError(
            f"sample: {sum(map(len, kept))} inputs kept of {tried} proposals; the likelihood or the prior hardly meets the"
            " preimage; a smaller domain around it, or a bound for the likelihood, helps"
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
