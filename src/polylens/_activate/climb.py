"""From region to region upwards: the greatest value in each by a linear program, then across the walls that hold it down."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from .._lp import LinearProgram, Optimum, accuracy_of
from .._meeting import tight, way_across
from .._near import within
from .._rounding import magnitudes
from .._types import Status, Tolerance
from ..germ import towards
from ..network import Network
from ..pattern import Patterns
from ..polytope import DOMAIN, Polytope
from ..region import Region, region, region_on

_TRIES = 8  # ways out of a summit that are tried


@final
@dataclass(frozen=True, eq=False, slots=True)
class Summit:
    """The greatest value of a network's only output in one region, as a linear program proves it, the offset included."""

    region: Region
    optimum: Optimum

    @property
    def value(self) -> float:
        """The greatest value; infinite where there is none, NaN where nothing is proven."""
        return self.optimum.value + self._offset

    @property
    def upper(self) -> float:
        """What the multipliers prove that no input of the region exceeds."""
        return self.optimum.upper + self._offset

    @property
    def gradient(self) -> Tensor:
        """The output's derivatives (dim,) by the coordinates."""
        return self.region.map.weight[0].cpu()

    @property
    def _offset(self) -> float:
        return float(self.region.map.offset[0])


def summit(of: Region, tolerance: Tolerance) -> Summit:
    """Return the greatest value of the only output in a region."""
    program = LinearProgram(of.polytope.matrix, of.polytope.bound, tolerance=tolerance)
    return Summit(of, program.maximise(of.map.weight[0].cpu()))


@final
@dataclass(eq=False, slots=True)
class Climb:
    """A climb under way: the summits passed, each above the one before."""

    net: Network
    domain: Polytope | None
    tolerance: Tolerance
    limit: int
    deadline: float
    summits: list[Summit] = field(default_factory=list)
    solved: int = 0
    _seen: set[Patterns] = field(default_factory=set)

    def run(self, x: Tensor) -> Summit:
        """Climb from a point (*input_shape) of the domain until no way tried leads up, or a limit is met."""
        best = self._solve(region(self.net, x, domain=self.domain))
        self.summits.append(best)
        while (higher := self._higher(best)) is not None:
            best = higher
            self.summits.append(best)
        return best

    @property
    def stopped(self) -> bool:
        """Whether regions or time have run out."""
        return self.solved >= self.limit or time.monotonic() > self.deadline

    def _solve(self, of: Region) -> Summit:
        self.solved += 1
        self._seen.add(of.pattern)
        return summit(of, self.tolerance)

    def _higher(self, low: Summit) -> Summit | None:
        """Return a summit of a region next to one that is above it, by more than the solver's accuracy."""
        if low.optimum.status is not Status.OPTIMAL:
            return None
        at = low.optimum.point
        assert at is not None
        point = at.reshape(self.net.input_shape).to(self.net.device)
        room = accuracy_of(self.tolerance) * (abs(low.value) + float(low.gradient.abs() @ at.abs()))
        for pattern in self._behind(low, at, point):
            if self.stopped:
                return None
            found = self._solve(within(region_on(self.net, pattern, point), self.domain))
            if found.optimum.status in (Status.OPTIMAL, Status.UNBOUNDED) and found.value > low.value + room:
                return found
        return None

    def _behind(self, low: Summit, at: Tensor, point: Tensor) -> list[Patterns]:
        """Return patterns not yet seen behind the walls that hold a summit down: behind all at once, then behind each."""
        p, y = low.region.polytope, low.optimum.multipliers
        assert y is not None
        met = torch.nonzero(tight(p, at) & (p.origins.layer != DOMAIN)).reshape(-1)
        sides = p.matrix[tight(p, at) & (p.origins.layer == DOMAIN)]
        force = y[met] * torch.linalg.vector_norm(p.matrix[met], dim=1)
        pushing = torch.nonzero(force > 0).reshape(-1)
        order = pushing[force[pushing].argsort(descending=True)]
        alone = [torch.arange(len(met)) == i for i in order[: _TRIES - 1].tolist()]
        every = [torch.isin(torch.arange(len(met)), pushing)] if len(pushing) > 1 else []
        found, rough = list[Patterns](), magnitudes(self.net)
        for across in every + alone:
            way = way_across(p.matrix[met], across, sides)
            if way is not None:
                pattern = towards(self.net, point, way.reshape(point.shape).to(point.device), rough=rough).pattern
                if pattern not in self._seen and pattern not in found:
                    found.append(pattern)
        return found
