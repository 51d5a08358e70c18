"""Preimages: all inputs of a domain that a network maps into a set of outputs, as a union of convex pieces."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from ._check import ArrayLike, batches, is_batch, whole
from ._files import write_atomically
from ._preimage.draw import draw
from ._preimage.findings import Fate
from ._preimage.gathered import Gathered, Tie
from ._preimage.pieces import Pieces
from ._progress import reached
from ._rounding import evaluated
from ._subdivision.cell_maps import local_maps
from ._subdivision.locate import inside
from ._subdivision.saved import UNREADABLE, arrays_of, domain_from
from ._types import Result, Tolerance
from .affine import AffineMap
from .domain import CUTTING, Domain, domain_of
from .errors import FileError, InputError
from .geometry.sampling import Seed
from .germ import exact
from .network import Network
from .pattern import Patterns
from .polytope import Origins, Polytope
from .prior import Likelihood, Prior
from .region import region_on
from .target import OutputSet, Target, output_set

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
_FORMAT = "polylens preimage 1"


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Piece:
    """One convex piece of a preimage: a view that computes when asked. Coordinates are the domain's."""

    preimage: Preimage
    index: int

    @property
    def pattern(self) -> Patterns:
        """The activation pattern, a batch of one."""
        return self.preimage.patterns[self.index]

    @property
    def map(self) -> AffineMap:
        """The affine map over the inputs that the network is on the piece."""
        return self._region.map

    @property
    def dimension(self) -> int:
        """The dimension of the piece: 0 for a point."""
        return int(self.preimage.arrays.dimension[self.index])

    @property
    def volume(self) -> float:
        """The volume within the piece's own flat, in units of the input: 1 for a point, infinite for an unbounded piece."""
        return float(self.preimage.arrays.volume[self.index])

    @property
    def vertices(self) -> Array:
        """The corners (vertices, dim), each once."""
        points, weight = self.preimage.arrays.generators(self.index)
        return points[weight > 0]

    @property
    def rays(self) -> Array:
        """The directions (rays, dim) in which the piece has no end; none for a bounded one."""
        points, weight = self.preimage.arrays.generators(self.index)
        return points[weight == 0]

    @property
    def middle(self) -> Array:
        """A point (dim,) of the relative interior: the mean of the corners, plus the rays."""
        mean: Array = self.vertices.mean(0) + self.rays.sum(0)
        return mean

    @property
    def polytope(self) -> Polytope:
        """The piece as rows over the domain's coordinates: of the units, of the domain, and of the target (as "target")."""
        domain = self.preimage.domain
        within = self._region.polytope.section(domain.origin, domain.basis)
        return within & domain.sides & self._rows

    @property
    def _region(self) -> Any:
        net, domain = self.preimage.network, self.preimage.domain
        point = domain.embed(self.middle).reshape(net.input_shape)
        return region_on(net, self.pattern, point.to(net.device))

    @property
    def _rows(self) -> Polytope:
        """The rows of the target, pulled back to the domain's coordinates; an equality is two of them."""
        weight, offset = (t[0] for t in local_maps(self.preimage.network, self.preimage.domain, self.pattern))
        p = self.preimage.target.parts[int(self.preimage.arrays.part[self.index])].polytope
        count = len(p)
        zeros = torch.zeros(count, dtype=torch.long)
        return Polytope(p.matrix @ weight, p.bound - p.matrix @ offset, Origins(("target",), zeros, torch.arange(count), zeros))

    def __repr__(self) -> str:
        return f"Piece({self.index}, dimension {self.dimension}, {len(self.vertices)} vertices, {len(self.rays)} rays)"


@final
@dataclass(frozen=True, eq=False, repr=False)
class Preimage(Result):
    """All inputs of a domain that a network maps into a target: a sequence of convex `Piece`s.

    The pieces are closed, meet in their boundaries only, and none lies in another; lower-dimensional and unbounded ones
    are among them. `fate` says what became of the cells of the domain: with `complete` they are all accounted for, and a
    preimage without pieces is proven to be empty. Otherwise `reason` ("limit" or "time_limit") ended the search.
    """

    network: Network
    domain: Domain
    target: OutputSet
    tolerance: Tolerance
    arrays: Pieces
    ties: tuple[Tie, ...]
    fate: Fate
    complete: bool
    reason: str | None
    seconds: float

    # -- the pieces

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> Piece:
        if not hasattr(index, "__index__"):
            raise InputError(f"piece: expected its number; got {index!r}; take several as in [p[i] for i in range(3)]")
        if not -len(self) <= index < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        return Piece(self, index % len(self))

    def __iter__(self) -> Iterator[Piece]:
        return (Piece(self, i) for i in range(len(self)))

    @property
    def pieces(self) -> list[Piece]:
        """The pieces, full-dimensional ones first."""
        return list(self)

    @property
    def patterns(self) -> Patterns:
        """The activation patterns of the pieces."""
        words = np.ascontiguousarray(self.arrays.words)
        packed = words.view(np.uint8).reshape(len(self), words.shape[1] * words.itemsize)
        return Patterns(torch.from_numpy(packed), self.network.gates)

    @property
    def dimensions(self) -> Array:
        """The dimensions (pieces,) of the pieces."""
        return self.arrays.dimension

    @property
    def volumes(self) -> Array:
        """The volumes (pieces,), each within its own flat, in units of the input; infinite for unbounded pieces."""
        return self.arrays.volume

    # -- the whole

    @property
    def dimension(self) -> int:
        """The largest dimension of a piece, -1 for an empty preimage."""
        return int(self.arrays.dimension.max(initial=-1))

    @property
    def volume(self) -> float:
        """The volume of the pieces of the domain's dimension, in units of the input; a lower bound unless complete."""
        return float(self.arrays.volume[self.arrays.dimension == self.domain.dim].sum())

    @property
    def fragile(self) -> int:
        """How many decisions on the way rounding may have turned, as in `RegionCount`: with none, the pieces are exact."""
        return self.fate.fragile

    @property
    def fraction(self) -> float | None:
        """The part of the domain's volume, between 0 and 1; None in an unbounded domain."""
        total = self.domain.volume
        return None if not math.isfinite(total) else min(1.0, self.volume / total) if total else 0.0

    @property
    def is_empty(self) -> bool | None:
        """Whether there is no such input: proven by `witness` or by the covered domain; None where the search ended early."""
        return False if len(self) else True if self.complete else None

    @cached_property
    def witness(self) -> Tensor | None:
        """An input (*input_shape) in the relative interior of the largest piece, None for an empty preimage."""
        if not len(self):
            return None
        top = np.flatnonzero(self.arrays.dimension == self.dimension)
        best = self[int(top[np.argmax(np.nan_to_num(self.arrays.volume[top], posinf=np.inf))])]
        return self.domain.embed(best.middle).reshape(self.network.input_shape)

    def contains(self, x: ArrayLike, tol: float = 1e-9) -> Tensor:
        """Return for a batch (batch, *input_shape), or one input, whether it lies in the preimage.

        The network is evaluated there; sides of the domain and rows of the target are held up to `tol` of their terms, to
        which the entries of an input of a bounded domain add as much as the domain's largest.
        """
        one = not is_batch(x, self.network.input_shape)
        x = torch.as_tensor(x)[None] if one else x
        found, least = [torch.zeros(0, dtype=torch.bool)], self._input_size
        for part in batches(x, self.network.input_shape, 4096, torch.float64, self.network.device):
            y, terms = (t.flatten(1).cpu() for t in evaluated(self.network, part, tol, least))
            flat = part.flatten(1).cpu()
            u = self.domain.project(flat)
            off = (self.domain.embed(u) - flat).abs().amax(1)
            near = off <= tol * flat.abs().amax(1).clamp(min=1.0)
            found.append(self.target.holds(y, tol, terms) & near & torch.from_numpy(inside(self.domain, u.numpy(), tol)))
        both = torch.cat(found)
        return both[0] if one else both

    @property
    def _input_size(self) -> Tensor:
        """How large inputs of the domain are, entry by entry (*input_shape), 0 where it has no end."""
        if not self.domain.is_bounded:
            return torch.zeros(self.network.input_shape, dtype=torch.float64, device=self.network.device)
        size = self.domain.origin.abs() + self.domain.basis.abs() @ torch.from_numpy(self.arrays.size)
        return size.reshape(self.network.input_shape).to(self.network.device)

    def sample(self, n: int, prior: Prior | None = None, likelihood: Likelihood | None = None, *, seed: Seed = 0) -> Tensor:
        """Return independent inputs (n, *input_shape), distributed exactly as prior times likelihood on the preimage.

        Pieces of the preimage's own dimension count, by their volume in it; what is of lower dimension has probability 0.

        Args:
            n: how many; 0 is allowed.
            prior: None for the uniform distribution, `Gaussian(mean, std)`, or a function (count, generator) -> inputs
                (count, *input_shape) that draws from a prior of the caller's.
            likelihood: None for the set alone, `Softmax(k)`, `GaussianNoise(y, std)`, or a `Likelihood` of the caller's.
            seed: an int or a torch.Generator.

        Raises:
            GeometryError: nothing to draw from; a uniform draw from an unbounded preimage; a sampler on a preimage of lower
                dimension than the input, which it never meets; or so few kept that n take more than 2^26 proposals.
            InputError: an incomplete preimage, whose distribution is not known; a negative n.

        Algorithm: rejection from a mixture of simplices whose bounds are made tighter by bisection where the density varies; a
        sampler's, or a Gaussian's where pieces are unbounded, are kept if they lie in the preimage, and with the probability of
        the likelihood. Cost: a hull a piece, and per kept input as many proposals as bounds exceed densities.

        Example:
            >>> from polylens import Argmax, Box, dense, preimage
            >>> net = dense([([[1.0, 0.0], [0.0, 1.0]], None)])
            >>> x = preimage(net, Argmax(0), Box([0.0, 0.0], [1.0, 1.0])).sample(1000)
            >>> bool((x[:, 0] >= x[:, 1]).all()), abs(float(x[:, 0].mean()) - 2 / 3) < 0.03
            (True, True)
        """
        return draw(self, n, prior, likelihood, seed=seed)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the preimage to a .npz file: pieces, target and domain, and of the network a digest; `load_preimage` reads it.

        A file that is there is replaced once the new one is complete. Raises FileError for a directory, OSError where the
        disk is full or may not be written to.
        """
        from ._preimage import saved
        from ._subdivision.partitions import fingerprint

        head = {"format": _FORMAT, "network": fingerprint(self.network), "factor": self.tolerance.factor}
        head |= {"complete": self.complete, "reason": self.reason or "", "seconds": self.seconds}
        arrays: dict[str, Any] = head | saved.arrays_of(self.target, self.arrays, self.ties, self.fate) | arrays_of(self.domain)
        with write_atomically(Path(path)) as part, part.open("wb") as file:
            np.savez(file, **arrays)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the pieces in a domain of one or two dimensions; `polylens.plotting.preimage` has the options.

        Raises GeometryError for another dimension.
        """
        axes: Axes = importlib.import_module("polylens.plotting.preimage").draw(self, ax, **options)
        return axes

    # -- words

    def __repr__(self) -> str:
        what = "empty" if self.is_empty else f"{len(self)} {'piece' if len(self) == 1 else 'pieces'}"
        return f"Preimage({what} in {self.seconds:.3g} s{'' if self.complete else ', not all of it'})"

    def summary(self) -> str:
        lines = [repr(self)]
        for k in sorted(set(self.dimensions.tolist()), reverse=True):
            of = self.dimensions == k
            total = float(self.volumes[of].sum())
            points = "isolated point" if of.sum() == 1 else "isolated points"
            lines.append(f"  {int(of.sum())} {points if k == 0 else f'of dimension {k}, volume {total:.6g}'}")
        if self.fraction is not None and self.dimension == self.domain.dim:
            lines.append(f"  {self.fraction:.4%} of the domain")
        if self.ties:
            lines.append(f"  {len(self.ties)} full-dimensional pieces on which outputs tie")
        lines.append(f"  {self.cover}")
        if self.fragile:
            lines.append(f"  {self.fragile} decisions that rounding may have turned")
        return "\n".join(lines)

    @property
    def cover(self) -> str:
        """What became of the domain's cells, in words."""
        dropped, (outside, within, cut) = sum(self.fate.dropped), self.fate.counts
        words = f"cells: {dropped} dropped by bounds, {outside} outside, {within} inside, {cut} cut"
        return words if self.complete else f"{words}; ended by {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        counts = {str(k): int((self.dimensions == k).sum()) for k in sorted(set(self.dimensions.tolist()))}
        outside, within, cut = self.fate.counts
        return {
            "pieces": len(self),
            "pieces_by_dimension": counts,
            "dimension": self.dimension,
            "volume": self.volume if math.isfinite(self.volume) else None,
            "fraction": self.fraction,
            "empty": self.is_empty,
            "witness": None if self.witness is None else self.witness.tolist(),
            "ties": len(self.ties),
            "complete": self.complete,
            "reason": self.reason,
            "fragile": self.fragile,
            "cells": {"dropped": self.fate.dropped, "outside": outside, "inside": within, "cut": cut},
            "seconds": self.seconds,
        }


def preimage(
    net: Network,
    target: Target,
    domain: Domain | Polytope,
    *,
    limit: int | None = None,
    time_limit: float | None = None,
    tolerance: Tolerance | None = None,
    n_jobs: int = 1,
) -> Preimage:
    """Return all inputs of a domain that a network maps into a set of outputs, exactly, as a union of convex polytopes.

    The kernel of a network is `preimage(net, 0.0, WholeSpace(n))`: a union of polytopes, which are cones where no layer has
    a bias, and no vector space.

    Pieces are closed. Where a gate jumps, a piece may therefore hold boundary points whose outputs are those of the other
    side; `contains` evaluates the network itself.

    Args:
        net: a piecewise-linear network.
        target: an output (or one number for all entries), a Polytope over the flattened outputs, an `OutputSet`, `Argmax(k)`,
            or a list of these for their union.
        domain: where to look, as for `subdivide`; a `Polytope` is looked at in its own coordinates.
        limit: stop when so many pieces are found, give or take a chunk of cells.
        time_limit: stop after so many seconds.
        tolerance: below which part of its terms a pre-activation or a row of the target counts as 0; 256 roundings when
            None. A cell that misses the target by less touches it.
        n_jobs: as for `iter_cells`.

    Raises:
        SmoothError: the network is not piecewise linear.
        ShapeError: the target is over other outputs, or the domain over other inputs than the network's.
        InputError: no target, no domain, or a limit that is not positive.

    Algorithm: the stream of `iter_cells`. In front of each gate the outputs that a cell can reach are bounded by linear
    relaxation of what is behind, and cells that cannot reach the target are dropped whole. What is left is cut by the
    target's rows; intersections without interior are cut by their generators. Parts of a union are made disjoint first.
    Cost: at most that of the subdivision and some (dim + 1) forward passes a cell for the bounds.

    References: facts on kernels and preimages of ReLU layers in S. Carlsson, Geometry of deep convolutional networks
    (2019); bounds as in G. Singh et al., Fast and effective robustness certification, NeurIPS 2018.

    Example:
        >>> from polylens import Box, OutputSet, dense, preimage
        >>> net = dense([([[1.0, -1.0], [2.0, -1.0]], [0.0, 0.0]), ([[1.0, -1.0]], None)])  # relu(x-y) - relu(2x-y)
        >>> found = preimage(net, OutputSet.halfspaces([[1.0]], [-1.0]), Box([-1.0, -2.0], [2.0, 1.0]))
        >>> round(found.volume, 12)  # the rectangle [1, 2] x [-2, 1]
        3.0
    """
    from ._preimage.pullback import Search
    from ._subdivision.tasks import Job

    if limit is not None:
        whole(limit, "limit")
    if time_limit is not None and not (type(time_limit) in (int, float) and time_limit > 0):
        raise InputError(f"time_limit: expected a positive number of seconds, or None for no limit; got {time_limit!r}")
    net, place, begin = exact(net), domain_of(domain), time.perf_counter()
    outputs = output_set(target, net.output_shape).disjoint()
    deadline = None if time_limit is None else time.time() + time_limit
    job = Job(net, place, tolerance or CUTTING, deadline=deadline)
    job.engine()  # what does not fit is refused here
    gathered = Gathered(outputs, place)
    reason = None
    with contextlib.closing(Search(job, outputs).found(n_jobs)) as stream:
        for found, fate in reached(stream, "pieces", "piece", lambda _: gathered.count):
            if limit is not None and gathered.count >= limit:
                reason = "limit"  # and there is more to look at
                break
            gathered.add(found, fate)
            if deadline is not None and time.time() > deadline:
                reason = "time_limit"
                break
    if reason is None and deadline is not None and time.time() > deadline:
        reason = "time_limit"  # workers may have ended before their last cells
    arrays = gathered.result(sum(g.num_bytes for g in net.gates) // 8)
    own = (arrays, tuple(gathered.ties()), gathered.fate, reason is None, reason, time.perf_counter() - begin)
    return Preimage(net, place, outputs, job.tolerance, *own)


def load_preimage(path: str | PathLike[str], net: Network) -> Preimage:
    """Return the preimage that `Preimage.save` has written.

    Args:
        path: the file.
        net: the network whose preimage it is, which the file does not hold.

    Raises:
        FileError: no such file, or one that `save` has not written.
        InputError: the preimage is another network's.

    Example:
        >>> import tempfile
        >>> from polylens import Argmax, Box, dense, load_preimage, preimage
        >>> net = dense([([[1.0, 0.0], [0.0, 1.0]], None)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     preimage(net, Argmax(0), Box([0.0, 0.0], [1.0, 1.0])).save(f"{folder}/half.npz")
        ...     round(load_preimage(f"{folder}/half.npz", net).volume, 9)
        0.5
    """
    from ._preimage import saved
    from ._subdivision.partitions import fingerprint

    net, source = exact(net), str(path)
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if str(arrays["format"]) != _FORMAT:
            raise KeyError("format")
        domain, written = domain_from(arrays, source), str(arrays["network"])
        found = Preimage(
            network=net,
            domain=domain,
            tolerance=Tolerance(float(arrays["factor"])),
            **saved.parts_from(arrays),
            complete=bool(arrays["complete"]),
            reason=str(arrays["reason"]) or None,
            seconds=float(arrays["seconds"]),
        )
    except UNREADABLE as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{source}: expected a preimage written by Preimage.save ({_FORMAT}); {error}") from None
    if written != fingerprint(net):
        raise InputError(f"{source}: expected the network that this preimage was made of; got another one, {net!r}")
    return found
