"""A search for inputs with given features under way: attempts, what is written down after each step, and who is alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from .._types import Tolerance
from ..network import Network, Node, ancestors, has_pattern
from ..smooth import Smooth
from ..steps import flat
from .alone import alone
from .descending import Descent
from .finish import Finish
from .wanted import Wanted

Side = Literal["pre", "post"]
_ENOUGH = 2.0**-44  # of the features' length: the finish goes on until no more is missed
_ROUNDING = Tolerance()


class Asked(NamedTuple):
    """The question, checked, in float64 on the CPU; inputs and features flattened."""

    net: Network
    layer: str
    at: Side
    value: int
    features: Tensor
    low: Tensor
    high: Tensor
    truth: Tensor | None
    start: Tensor | None


class Plan(NamedTuple):
    """How long to search, from which random points, and what residual is exact."""

    steps: int
    rounds: int
    restarts: int
    seed: int
    allowed: float


def relative(difference: Tensor, of: Tensor) -> Tensor:
    """Return lengths (batch,) in parts of those of the second, absolute where these are 0."""
    size = torch.linalg.vector_norm(flat(of, 1), dim=1)
    return torch.linalg.vector_norm(flat(difference, 1), dim=1) / torch.where(size > 0, size, 1.0)


class Part(NamedTuple):
    """What came out for a chunk."""

    points: Tensor
    residuals: Tensor
    impossible: Tensor
    alone: list[bool | None]
    unique: list[bool | None]
    others: Tensor
    history: Tensor  # (3, batch, iterations): residual, error, agreement
    pattern: Tensor


@final
@dataclass(eq=False, slots=True)
class Search:
    """The search for a chunk of the batch, and what it writes down on the way."""

    asked: Asked
    part: slice
    descent: Descent
    plan: Plan

    @property
    def _want(self) -> Wanted:
        return self.descent.wanted

    @property
    def _features(self) -> Tensor:
        return self.asked.features[self.part]

    def answer(self, uniqueness: bool) -> Part:
        """Return what was found, judged by plain evaluations."""
        count = len(self._features)
        x = self._start(0, torch.arange(count))
        best, seen = x.clone(), [self._seen(x)]
        left, impossible = seen[0][0], ~self._want.reached
        for attempt in range(1 if self._want.known else 1 + self.plan.restarts):
            rows = torch.nonzero(~(left <= self.plan.allowed)).reshape(-1) if attempt else torch.arange(count)
            if not len(rows):
                break
            for x in self._attempt(attempt, rows, best[rows], impossible):
                shown = best.clone()
                shown[rows] = x
                seen.append(self._seen(shown))
            better = self._residual(x, rows) < left[rows] if attempt else torch.ones(len(rows), dtype=torch.bool)
            best[rows[better]] = x[better]
            left = self._residual(best, torch.arange(count))
        single, unique, others, best = self._alone(best, left, uniqueness)
        seen[-1] = self._seen(best)
        return Part(best, seen[-1][0], impossible, single, unique, others, torch.stack(seen, 2), self._pattern_agreement(best))

    def _start(self, attempt: int, rows: Tensor) -> Tensor:
        low, high, given = self.asked.low, self.asked.high, self.asked.start
        if attempt == 0 and given is not None:
            return given[self.part][rows].clamp(low, high)
        n = len(low)
        nearest_to_0 = torch.zeros(len(rows), n, dtype=torch.float64).clamp(low, high)
        if attempt == 0:
            return nearest_to_0
        generator = torch.Generator().manual_seed(self.plan.seed + attempt)
        draw = torch.rand(len(rows), n, generator=generator, dtype=torch.float64)
        inside = torch.isfinite(low) & torch.isfinite(high)
        return torch.where(inside, torch.lerp(low.nan_to_num(), high.nan_to_num(), draw), nearest_to_0 + 2 * draw - 1).clamp(
            low, high
        )

    def _attempt(self, attempt: int, rows: Tensor, best: Tensor, impossible: Tensor) -> Iterator[Tensor]:
        """Yield the points of some rows: after every step of descent, then after every round of the finish."""
        x = best if attempt % 2 else self._start(attempt, rows)
        descent = replace(self.descent, wanted=self._want.part(rows))
        if attempt:  # the prior, or the leaks, may be what held the first attempt back; from where it stuck, shorter steps
            rate = self.descent.rate / 8 if attempt % 2 else self.descent.rate
            descent = replace(descent, prior=None, rate=rate, leaky=not attempt % 2)
        for step in descent.run(x, self.plan.steps):
            x = step
            yield x
        finish = self._finish(rows)
        if self._want.known and self.plan.rounds:
            x, empty = finish.once(x)
            impossible[rows] |= empty
            yield x
        elif not self._want.known:
            yield from finish.run(x)

    def _finish(self, rows: Tensor) -> Finish:
        size = torch.linalg.vector_norm(self._features[rows], dim=1)
        size = torch.where(size > 0, size, 1.0)
        return Finish(self.asked.net, self._want.part(rows), self.asked.low, self.asked.high, self.plan.rounds, size, _ENOUGH)

    # -- what is written down

    def _shaped(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.asked.net.input_shape)

    def _residual(self, x: Tensor, rows: Tensor) -> Tensor:
        with torch.no_grad():
            y = flat(self.asked.net.forward(self._shaped(x), last=self.asked.value), 1)
        return relative(y - self._features[rows], self._features[rows])

    def _seen(self, x: Tensor) -> Tensor:
        """Return residual, error and agreement of all points of the chunk, (3, batch)."""
        want, net = self._want, self.asked.net
        residual = self._residual(x, torch.arange(len(x)))
        none = torch.full_like(residual, math.nan)
        error = none if self.asked.truth is None else relative(x - self.asked.truth[self.part], self.asked.truth[self.part])
        with torch.no_grad():
            w = net.forward(self._shaped(x), last=want.value)
        return torch.stack([residual, error, want.agreement(w)])

    def _pattern_agreement(self, x: Tensor) -> Tensor:
        if self.asked.truth is None:
            return x.new_full((len(x),), math.nan)
        ours, theirs = (self._pieces(v) for v in (x, self.asked.truth[self.part]))
        return (ours == theirs).double().mean(1) if ours.shape[1] else x.new_ones(len(x))

    def _pieces(self, x: Tensor) -> Tensor:
        value = self.asked.value
        names = {self.asked.net.nodes[k - 1].name for k in ancestors(self.asked.net, value) if k}
        found = [torch.zeros(len(x), 0)]

        def visit(node: Node, values: list[Tensor]) -> None:
            if node.name in names and has_pattern(node.step):
                found.append(flat(node.step.pieces(*values), 1))

        with torch.no_grad():
            self.asked.net.forward(self._shaped(x), visit, value)
        return torch.cat([f.double() for f in found], 1)

    # -- whether points are alone

    def _alone(self, x: Tensor, left: Tensor, uniqueness: bool) -> tuple[list[bool | None], list[bool | None], Tensor, Tensor]:
        """Return answers for the piece and for the whole box, other points, and the points moved onto sides that they meet."""
        single: list[bool | None] = [None] * len(x)
        others = torch.full_like(x, math.nan)
        if not uniqueness or is_smooth(self.asked.net, self.asked.value):
            return single, list(single), others, x
        x = x.clone()
        exact = torch.nonzero(left <= self.plan.allowed).reshape(-1)
        for i, rows in zip(exact.tolist(), self._finish(exact).rows(x[exact]) if len(exact) else (), strict=True):
            room = max(float(left[i]), _ROUNDING.relative)  # another input has to be as good a solution
            solves = lambda z, i=i, room=room: bool(self._residual(z[None], torch.tensor([i])) <= room)  # noqa: E731
            found = alone(rows, x[i], solves, _ROUNDING, self.plan.seed)
            single[i], x[i] = found.answer, found.point
            if found.other is not None:
                others[i] = found.other
        whole_box = [s if s is False or self._want.known else None for s in single]
        return single, whole_box, others, x


def is_smooth(net: Network, value: int) -> bool:
    """Say whether a value lies behind smooth steps."""
    return any(isinstance(net.nodes[k - 1].step, Smooth) for k in ancestors(net, value) if k)
