"""Exact subdivision of a domain into the linear regions of a network: its cells as a stream, and their number."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, final

from ._check import whole
from ._progress import counted, reached
from ._types import Result, Tolerance
from .cells import Cells
from .domain import CUTTING, Domain, domain_of
from .errors import InputError
from .network import Network
from .polytope import Polytope

if TYPE_CHECKING:
    from ._subdivision.engine import Record
    from ._subdivision.tasks import Job


_AFFORDABLE_DIM = 5  # up to which cells are measured when nobody asks for their volumes


def iter_cells(
    net: Network, domain: Domain | Polytope, *, tolerance: Tolerance | None = None, n_jobs: int = 1
) -> Iterator[Cells]:
    """Yield the cells of a domain, some thousand at a time, in memory that their number does not change.

    Every cell is the closure of the points of the domain with one activation pattern, where that has an interior within
    the domain; in a convex bounded domain no two cells have one pattern. In an unbounded domain a region is yielded in as
    many parts as cones of the domain it reaches into; they share their pattern.

    Args:
        net: a piecewise-linear network.
        domain: where to look; a `Polytope` is looked at in its own coordinates.
        tolerance: below which part of its terms a pre-activation counts as zero: a hyperplane that cuts off less than
            that from a cell only touches it. 256 roundings of the terms when None.
        n_jobs: 1 for one thread; otherwise as many threads (all cores for -1), or processes under the backend that the
            caller has configured for joblib. The cells are the same, in another order.

    Raises:
        SmoothError: the network is not piecewise linear.
        ShapeError: the domain is one of inputs of another size than the network's.
        InputError: not a domain.

    Algorithm: cells are simple polytopes by their vertices, cut by the units that change sign on them, gate by gate and
    depth first in chunks. A vertex counts as positive iff its value exceeds the tolerance, which acts as a perturbation
    and keeps degenerate cells simple; max-gates clip once for each candidate that wins somewhere. Cost: the network at
    the vertices, which are about as many as cells, and for every cut the pairs of vertices on either side.

    Example:
        >>> from polylens import Box, dense, iter_cells
        >>> net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0.0, 0.0, 0.0]), ([[1.0, 1.0, 1.0]], None)])
        >>> sum(len(cells) for cells in iter_cells(net, Box([-1.0, -1.0], [1.0, 1.0])))  # one unit is there twice
        4
    """
    job = _job(net, domain, tolerance)
    job.engine()  # what does not fit is refused here, and not when the first cells are taken
    return counted(job.cells(n_jobs), "cells", "cell")


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class RegionCount(Result):
    """How many activation regions a network has in a domain.

    `count` is exact when `complete`; otherwise it is how many were found before the `reason` ("limit" or "time_limit")
    ended the search, a lower bound, and `covered` the part of the domain's volume that they fill. `per_layer` says for
    every gate how many patterns its units take together with those of all gates before it. `bound` is the number that
    hyperplanes in general position would reach, gate by gate. `volume` is that of the cells, None where it was not
    measured. `fragile` decisions fell on values between rounding and 1e-9 of their terms, or on sums that counted as zero
    though some of their terms are smaller than the rounding of others: there exact arithmetic may find more regions, or
    fewer. `dropped` is the largest part that counted as zero and `kept` the smallest that did not: far apart, they say that
    no decision was close. All three depend on how work was shared out, because rounding does.
    """

    count: int
    complete: bool
    reason: str | None
    per_layer: tuple[tuple[str, int], ...]
    bound: int
    volume: float | None
    domain_volume: float
    seconds: float
    fragile: int
    dropped: float
    kept: float

    @property
    def covered(self) -> float | None:
        """The part of the domain's volume that is covered, between 0 and 1; None where volumes were not measured."""
        if self.complete:
            return 1.0
        return None if self.volume is None else min(1.0, self.volume / self.domain_volume)

    def __repr__(self) -> str:
        return f"RegionCount({self.count}{'' if self.complete else ' or more'} regions in {self.seconds:.3g} s)"

    def summary(self) -> str:
        lines = [f"{self.count}{'' if self.complete else ' or more'} activation regions, at most {self.bound:.4g}"]
        lines += [f"  up to {name}: {count}" for name, count in self.per_layer]
        if not self.complete:
            part = "" if self.covered is None else f" with {self.covered:.3%} of the volume covered"
            lines.append(f"  ended by {self.reason}{part}")
        if self.fragile:
            kept = f" (the smallest part kept: {self.kept:.2g})" if math.isfinite(self.kept) else ""
            lines.append(f"  {self.fragile} decisions that rounding may have turned{kept}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "regions": self.count,
            "complete": self.complete,
            "reason": self.reason,
            "per_layer": dict(self.per_layer),
            "bound": self.bound,
            "volume": self.volume,
            "domain_volume": _finite(self.domain_volume),
            "covered": self.covered,
            "seconds": self.seconds,
            "fragile": self.fragile,
            "dropped": self.dropped,
            "kept": _finite(self.kept),
        }


def count_regions(
    net: Network,
    domain: Domain | Polytope,
    *,
    tolerance: Tolerance | None = None,
    limit: int | None = None,
    time_limit: float | None = None,
    volumes: bool = False,
    n_jobs: int = 1,
    store: str | PathLike[str] | None = None,
) -> RegionCount:
    """Return how many activation regions a network has in a domain, exactly, or a lower bound within a limit.

    Activation regions are the patterns whose cell has an interior in the domain. Neighbours on which the network is one
    affine map count apart; `subdivide(...).linear_regions()` merges them.

    Args:
        net: a piecewise-linear network.
        domain: where to look; a `Polytope` is looked at in its own coordinates.
        tolerance: as for `iter_cells`.
        limit: stop when so many regions are found, give or take a chunk of some thousand.
        time_limit: stop after so many seconds.
        volumes: measure the cells' volumes too. With a limit or a store they are measured anyway up to five dimensions, to
            say what is covered; beyond, a cell's volume costs a hundred times its count.
        n_jobs: as for `iter_cells`.
        store: a directory that keeps every cell in Parquet partitions; a run that was killed is taken up again by the
            same call. See `open_store`.

    Raises:
        SmoothError, ShapeError, InputError: as `iter_cells`; InputError also for a limit that is not positive, and for a
            store of an unbounded domain.
        FileError: the store belongs to another network, domain, tolerance or version, or cannot be written.

    Algorithm: the stream of `iter_cells`, reduced as it comes; memory does not grow with the count. Behind the last gate
    cells are only counted, which takes about half the time. In an unbounded domain the patterns of cells at the walls
    between its cones are kept, because parts of one region share theirs.

    Example:
        >>> from polylens import WholeSpace, count_regions, dense
        >>> net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.0, 0.0, -1.0]), ([[1.0, 1.0, 1.0]], None)])
        >>> count_regions(net, WholeSpace(2)).count  # three lines in general position
        7
    """
    for name, value in (("limit", limit), ("time_limit", time_limit)):
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            raise InputError(f"{name}: expected a positive number, or None for no limit; got {value!r}")
    begin = time.perf_counter()
    place, limited = domain_of(domain), limit is not None or time_limit is not None
    measured = volumes or ((limited or store is not None) and place.dim <= _AFFORDABLE_DIM)
    job = _job(net, place, tolerance, measured, limit, time_limit)
    within = _Budget(limit, None if time_limit is None else begin + time_limit)
    if store is None:
        records = job.records(n_jobs)
    else:
        from ._subdivision.partitions import stored

        records = stored(job, store, n_jobs)
    total, reason = None, None
    with contextlib.closing(records):
        for record in reached(records, "regions", "region", lambda record: record.count):
            total = record
            reason = within.spent(record)
            if reason:
                break
    assert total is not None
    return _result(job, total, reason, time.perf_counter() - begin)


@dataclass(frozen=True, slots=True)
class _Budget:
    limit: int | None
    deadline: float | None

    def spent(self, record: Record) -> str | None:
        """Return which limit is reached, None while there is room."""
        if self.limit is not None and record.count >= self.limit:
            return "limit"
        return "time_limit" if self.deadline is not None and time.perf_counter() > self.deadline else None


def _job(
    net: Network,
    domain: Domain | Polytope,
    tolerance: Tolerance | None,
    measured: bool = False,
    limit: int | None = None,
    time_limit: float | None = None,
) -> Job:
    from ._subdivision.tasks import Job

    if tolerance is not None and not isinstance(tolerance, Tolerance):
        raise InputError(f"tolerance: expected a Tolerance (Tolerance(256.0) is the default) or None; got {tolerance!r}")
    deadline = None if time_limit is None else time.time() + time_limit
    return Job(net, domain_of(domain), tolerance or CUTTING, measured, limit, deadline)


def _result(job: Job, record: Record, reason: str | None, seconds: float) -> RegionCount:
    complete = record.complete
    names = [g.name for g in job.network.gates]
    slack = record.tally.slack
    return RegionCount(
        record.count,
        complete,
        None if complete else reason or "time_limit",
        tuple(zip(names, record.counts, strict=True)),
        _bound(job.network, job.domain.dim),
        record.volume * job.domain.scale if job.measured and job.domain.is_bounded else None,
        job.domain.volume,
        seconds,
        record.tally.fragile,
        float(slack[0]),
        float(slack[1]),
    )


def max_regions(units: int, rank: int) -> int:
    """Return the largest number of regions that hyperplanes can cut a space into: sum over i <= rank of C(units, i).

    Args:
        units: how many hyperplanes; 0 leave one region.
        rank: the dimension of the span of their normals.

    Raises:
        InputError: a negative number, or no whole one.

    References: T. Zaslavsky, Facing up to arrangements, Memoirs AMS 154 (1975).

    Example:
        >>> from polylens import max_regions
        >>> max_regions(5, 2)
        16
    """
    units, rank = whole(units, "max_regions: units", least=0), whole(rank, "max_regions: rank", least=0)
    return sum(math.comb(units, i) for i in range(rank + 1))


def _bound(net: Network, dim: int) -> int:
    """Return the product over the gates of the largest number of regions that one of them makes of one cell."""
    total = 1
    for gate in net.gates:
        walls = math.comb(gate.num_pieces, 2) if gate.is_max else gate.num_pieces - 1
        total *= max_regions(gate.num_units * walls, dim)
    return total


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
