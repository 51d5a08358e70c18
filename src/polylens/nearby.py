"""Preimages in the linear regions around a point, for inputs of any dimension: exact in every region that is looked at."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, batches, is_batch, whole
from ._lp import accuracy_of
from ._near import Found, Look, Search, pulled_back, within
from ._progress import reached
from ._types import Result, Tolerance
from .affine import AffineMap
from .domain import Box, Domain, WholeSpace
from .errors import InputError
from .germ import exact, one_point
from .network import Network
from .pattern import Patterns
from .polytope import Polytope, slack_rounding
from .region import Region, region_on
from .target import OutputSet, Target, output_set


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class NearbyRegion:
    """One region that was looked at: a view that computes when asked.

    `violations` has one entry for each convex part of the target: by how much its rows are violated at least, in units of
    the output; 0 where the region meets it.
    """

    nearby: NearbyPreimage
    index: int

    @property
    def pattern(self) -> Patterns:
        """The activation pattern, a batch of one."""
        return self._look.pattern

    @property
    def region(self) -> Region:
        """The region, cut with the domain."""
        net, x = self.nearby.network, self.point
        return within(region_on(net, self.pattern, x.to(net.device)), self.nearby.domain)

    @property
    def violations(self) -> tuple[float, ...]:
        """The least violations of the parts of the target."""
        return self._look.violations

    @property
    def violation(self) -> float:
        """The least of them."""
        return self._look.violation

    @property
    def point(self) -> Tensor:
        """The point (*input_shape) of the region that is nearest to the target in that sense."""
        look, shape = self._look, self.nearby.network.input_shape
        best = min(range(len(look.violations)), key=look.violations.__getitem__)
        return look.points[best].reshape(shape)

    def polytope(self, part: int = 0) -> Polytope:
        """Return the region's rows, the domain's, and those of one part of the target pulled back to the inputs."""
        of = self.region
        return of.polytope & pulled_back(of, self.nearby.target.parts[part], self.nearby.tolerance)

    def multipliers(self, part: int = 0) -> Tensor | None:
        """Return y >= 0 with A^T y = 0 and b.y < 0 on the rows of `polytope(part)`, which prove it empty; None where not."""
        return self._look.multipliers[part]

    @property
    def _look(self) -> Look:
        return self.nearby.looks[self.index]

    def __repr__(self) -> str:
        return f"NearbyRegion({self.index}, violation {self.violation:.6g})"


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class NearbyPiece:
    """One convex piece of a preimage, the part of a region that meets a part of the target: a view. It is never empty."""

    nearby: NearbyPreimage
    index: int

    @property
    def pattern(self) -> Patterns:
        """The activation pattern, a batch of one."""
        return self._where.pattern

    @property
    def region(self) -> Region:
        """The region that the piece lies in, cut with the domain."""
        return self._where.region

    @property
    def map(self) -> AffineMap:
        """The affine map that the network is on the piece."""
        return self.region.map

    @property
    def polytope(self) -> Polytope:
        """The piece as rows over the flat input: of the units, of the domain, and of the target (as "target")."""
        return self._where.polytope(self.part)

    @property
    def part(self) -> int:
        """Which convex part of the target the piece is mapped into."""
        return self._found.part

    @property
    def witness(self) -> Tensor:
        """A point (*input_shape) of the piece, as far inside the units' walls and the target as there is room."""
        return self._found.point.reshape(self.nearby.network.input_shape)

    @property
    def depth(self) -> float:
        """The distance from the witness to the nearest of them; 0 where the piece is flat."""
        return self._found.depth

    @property
    def _found(self) -> Found:
        return self.nearby.found[self.index]

    @property
    def _where(self) -> NearbyRegion:
        return NearbyRegion(self.nearby, self._found.look)

    def __repr__(self) -> str:
        return f"NearbyPiece({self.index}, region {self._found.look}, depth {self.depth:.4g})"


@final
@dataclass(frozen=True, eq=False, repr=False)
class NearbyPreimage(Result):
    """The inputs in some regions around a point that a network maps into a target: a sequence of convex `NearbyPiece`s.

    In the `regions` that were looked at, the pieces are all there is, and where there are none their multipliers prove it.
    `complete` says that these are all regions of the domain; otherwise `reason` ("limit", "time_limit", or "undecided" where
    a proof failed or the network jumps) ended the search. Pieces of neighbours may meet, or be a face of one another.
    """

    network: Network
    start: Tensor
    domain: Polytope | None
    target: OutputSet
    tolerance: Tolerance
    looks: tuple[Look, ...]
    found: tuple[Found, ...]
    reason: str | None
    seconds: float

    # -- the pieces

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> NearbyPiece:
        if not -len(self) <= index < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        return NearbyPiece(self, index % len(self))

    def __iter__(self) -> Iterator[NearbyPiece]:
        return (NearbyPiece(self, i) for i in range(len(self)))

    @property
    def pieces(self) -> list[NearbyPiece]:
        """The pieces, in the order in which they were found."""
        return list(self)

    @property
    def regions(self) -> list[NearbyRegion]:
        """The regions that were looked at, the one around the point first."""
        return [NearbyRegion(self, i) for i in range(len(self.looks))]

    # -- the whole

    @property
    def complete(self) -> bool:
        """Whether all regions of the domain were looked at."""
        return self.reason is None

    @property
    def is_empty(self) -> bool | None:
        """Whether no input of the domain is mapped into the target; None where nothing was found in a part of the domain."""
        return False if self.witness is not None else True if self.complete and not len(self) else None

    @cached_property
    def witness(self) -> Tensor | None:
        """An input (*input_shape) that the network itself, evaluated in float64, maps into the target; the deepest one.

        In flat pieces the target's rows hold to 1e-9 of their terms. None where no piece has one.
        """
        order = sorted(range(len(self)), key=lambda i: -self.found[i].depth)
        return next((self[i].witness for i in order if self._confirms(self[i])), None)

    @property
    def violation(self) -> float:
        """By how much the target's rows are violated at least in the regions looked at, in units of the output."""
        return min((look.violation for look in self.looks), default=math.inf)

    @property
    def closest(self) -> Tensor | None:
        """A point (*input_shape) that violates them least: a witness where there is one."""
        if self.witness is not None or not self.looks:
            return self.witness
        return min(self.regions, key=lambda r: r.violation).point

    def contains(self, x: ArrayLike, tol: float = 1e-9) -> Tensor:
        """Return for a batch (batch, *input_shape), or one input, whether it lies in one of the pieces.

        The network is evaluated there; rows of regions, domain and target are held up to `tol` of their terms.
        """
        one = not is_batch(x, self.network.input_shape)
        parts = [torch.zeros(0, dtype=torch.bool)]
        pieces = [piece.polytope for piece in self]
        for batch in batches(x, self.network.input_shape, 4096, torch.float64, self.network.device):
            flat = batch.flatten(1).cpu()
            inside = torch.zeros(len(flat), dtype=torch.bool)
            for p in pieces:
                inside |= (p.slack(flat) >= -slack_rounding(p, flat, tol)).all(1)
            parts.append(inside & self._maps(batch, tol))
        both = torch.cat(parts)
        return both[0] if one else both

    def _confirms(self, piece: NearbyPiece) -> bool:
        """Say whether the network maps a piece's witness into the target, up to rounding of the piece's rows if it is flat."""
        x = piece.witness
        if bool(self._maps(x[None], 0.0)[0]):
            return True
        rows, flat = self.target.parts[piece.part].polytope, x.reshape(-1)
        pulled = piece.polytope.select(range(-len(rows), 0)) if len(rows) else Polytope.of(torch.zeros(0, len(flat)), [])
        room = slack_rounding(pulled, flat, accuracy_of(self.tolerance))
        y = self.network(x[None].to(self.network.device)).reshape(-1).cpu()
        return not piece.depth and bool((rows.slack(y) >= -room).all())

    def _maps(self, x: Tensor, room: float) -> Tensor:
        """Return for inputs (batch, *input_shape) whether the network maps them into the target."""
        return self.target.contains(self.network(x.to(self.network.device)).flatten(1).cpu(), room)

    # -- words

    def __repr__(self) -> str:
        pieces = f"{len(self)} {'piece' if len(self) == 1 else 'pieces'}"
        return f"NearbyPreimage({pieces} in {len(self.looks)} regions, {self.seconds:.3g} s)"

    def summary(self) -> str:
        lines = [repr(self)]
        if len(self):
            lines.append(f"  the deepest point is {max(f.depth for f in self.found):.4g} from walls and target")
        elif self.looks:
            lines.append(f"  nothing in these regions meets the target; it is missed by at least {self.violation:.6g}")
        end = "all regions of the domain" if self.complete else f"not all regions of the domain; ended by {self.reason}"
        return "\n".join([*lines, f"  {end}"])

    def to_dict(self) -> dict[str, Any]:
        closest = self.closest
        return {
            "pieces": len(self),
            "depths": [f.depth for f in self.found],
            "regions": len(self.looks),
            "violations": [look.violation for look in self.looks],
            "violation": self.violation if math.isfinite(self.violation) else None,
            "closest": None if closest is None else closest.tolist(),
            "empty": self.is_empty,
            "witness": None if self.witness is None else self.witness.tolist(),
            "complete": self.complete,
            "reason": self.reason,
            "seconds": self.seconds,
        }


def preimage_near(
    net: Network,
    target: Target,
    x: ArrayLike,
    *,
    domain: Polytope | Domain | None = None,
    limit: int = 16,
    time_limit: float | None = None,
    tolerance: Tolerance | None = None,
) -> NearbyPreimage:
    """Return the inputs in the linear regions around a point that a network maps into a set of outputs, exactly.

    Nothing is subdivided, so the input may have any dimension. In the region around the point, and in further ones, the
    preimage is a polytope that linear programs find or refute; the further ones are chosen towards the target.

    Pieces are closed, as those of `preimage` are. A point on walls lies in several regions; the search begins in one of them.

    Args:
        net: a piecewise-linear network.
        target: as for `preimage`: an output, a Polytope over the flattened outputs, an `OutputSet`, `Argmax(k)`, or a list.
        x: one point (*input_shape) of the domain.
        domain: a Polytope over the flattened input, a `Box`, or None for all of R^n.
        limit: how many regions to look at; 1 for the one around the point.
        time_limit: start no further region after so many seconds.
        tolerance: how large a residue of rounding may be; certificates are held to 1024 times that.

    Raises:
        SmoothError: the network is not piecewise linear.
        ShapeError: a point, a target or a domain of another size.
        InputError: x outside the domain; an unknown target or domain; a limit below 1.

    Algorithm: best first. One linear program a region and convex part of the target tells by how much the target is missed at
    least; its multipliers prove it and name the walls that hold the search up. Behind these, all at once and one by one, is
    looked next, from the region with the least violation; around a region that meets the target, behind the walls that
    the piece reaches. Where these run out, behind all `facets`. Cost: about one program of (units + domain) rows in n
    variables a region and part; 0.2 s for 784 inputs and 512 units. Facets take many programs a region.

    References: Schrijver, Theory of Linear and Integer Programming (1986), corollary 7.1e (Farkas).

    Example:
        >>> from polylens import OutputSet, dense, preimage_near
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|
        >>> [round(p.witness.item(), 6) for p in preimage_near(net, 3.0, [1.0])]  # in both regions
        [3.0, -3.0]
        >>> preimage_near(net, OutputSet.halfspaces([[1.0]], [-1.0]), [1.0]).violation
        1.0
    """
    whole(limit, "limit")
    if time_limit is not None and not (isinstance(time_limit, int | float) and time_limit > 0):
        raise InputError(f"time_limit: expected a positive number of seconds, or None for no limit; got {time_limit!r}")
    begin, net = time.monotonic(), exact(net)
    point, outputs, place = one_point(net, x), output_set(target, net.output_shape).disjoint(), _rows(domain)
    tolerance, deadline = tolerance or Tolerance(), math.inf if time_limit is None else begin + time_limit
    search = Search(net, outputs, place, tolerance, limit, deadline)
    if outputs.parts:
        for _ in reached(search.run(point), "regions", " regions", lambda count: count):
            pass
    own = (tuple(search.looks), tuple(search.found), search.reason, time.monotonic() - begin)
    return NearbyPreimage(net, point, place, outputs, tolerance, *own)


def _rows(domain: Polytope | Domain | None) -> Polytope | None:
    """Return a domain as rows over the flat inputs, None for all of them."""
    if domain is None or isinstance(domain, Polytope):
        return domain
    if isinstance(domain, WholeSpace):
        return domain.sides
    if not isinstance(domain, Box):
        raise InputError(
            f"domain: expected a Polytope over the flattened input, a Box or None; got {type(domain).__name__}; in a plane or"
            " segment, preimage finds all pieces"
        )
    low, high = domain.origin.clone(), domain.origin.clone()
    free = domain.basis.abs().argmax(0)
    low[free], high[free] = domain.low, domain.high
    return Polytope.box(low, high)
