"""Convex sets with an interior, asked where rows a.x + b are below 0 or vanish in them: polyhedra and the unit ball."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray

from .._lp import LinearProgram, deepest
from .._types import Status, Tolerance
from ..polytope import Polytope
from . import near_origin

Array = NDArray[np.float64]

TOLERANCE = Tolerance()
EPS = 2.0**-52
_FLAT = 8.0  # roundings of a linear program: no room at all
MARGINS = (0.5, 0.1, 1e-2, 1e-4, 1e-6)  # parts of the room in a ball by which rows are to be negative, tried in turn


class Found(NamedTuple):
    """Whether there is a point of the interior as asked for, with one; None and None where nothing was verified."""

    answer: bool | None
    point: Array | None = None


class Place(ABC):
    """A closed convex set of the given dimension with an interior; `inner` (dim,) lies in it."""

    inner: Array

    @property
    def dim(self) -> int:
        """How many coordinates a point has."""
        return len(self.inner)

    @abstractmethod
    def holds(self, x: Array) -> bool:
        """Say whether a point lies inside, but for rounding."""

    @abstractmethod
    def chord(self, x: Array, v: Array) -> tuple[float, float]:
        """Return the least and the greatest t for which x + t v lies inside."""

    @abstractmethod
    def span(self, rows: Array, offsets: Array) -> tuple[Array, Array]:
        """Return bounds of a.x + b over the set, for every row, with rounding taken into account."""

    @abstractmethod
    def below(self, rows: Array, offsets: Array) -> Found:
        """Return a point of the interior where all a.x + b < 0; rows have length 1."""

    @abstractmethod
    def middle(self, rows: Array, offsets: Array, v: Array) -> Found:
        """Return a point where all a.x + b = 0 from which one can go along v and along -v; rows have length 1."""

    @abstractmethod
    def walls(self) -> tuple[Array, Array]:
        """Return the set as {x : G x <= h}, unit rows, or a polyhedron around it."""


def negative(rows: Array, offsets: Array, x: Array) -> bool:
    """Say whether all a.x + b are below 0 by more than their rounding."""
    room = len(x) * EPS * (np.abs(rows) @ np.abs(x) + np.abs(offsets))
    return bool((rows @ x + offsets < -room).all())


def solved(rows: Array, offsets: Array) -> Array | None:
    """Return the least x with rows x = -offsets, None where there is none."""
    x = np.asarray(np.linalg.lstsq(rows, -offsets, rcond=TOLERANCE.relative)[0], dtype=np.float64)
    room = TOLERANCE.relative * (np.abs(rows) @ np.abs(x) + np.abs(offsets))
    return x if bool((np.abs(rows @ x + offsets) <= room).all()) else None


@final
class Polyhedron(Place):
    """{x : matrix x <= bound}, with a point of its interior; no rows for the whole space."""

    def __init__(self, polytope: Polytope, inner: Array) -> None:
        matrix, bound = polytope.matrix.numpy(), polytope.bound.numpy()
        norms = np.linalg.norm(matrix, axis=1)
        kept = norms > 0
        self.matrix, self.bound = matrix[kept] / norms[kept, None], bound[kept] / norms[kept]
        self.inner = inner
        self._axes = bool(((self.matrix != 0).sum(1) == 1).all())

    def holds(self, x: Array) -> bool:
        room = TOLERANCE.relative * (np.abs(self.matrix) @ np.abs(x) + np.abs(self.bound))
        return bool((self.matrix @ x - self.bound <= room).all())

    def chord(self, x: Array, v: Array) -> tuple[float, float]:
        return until(self.bound - self.matrix @ x, self.matrix @ v)

    def span(self, rows: Array, offsets: Array) -> tuple[Array, Array]:
        if not len(self.matrix):
            zero = ~rows.any(1)
            return np.where(zero, offsets, -np.inf), np.where(zero, offsets, np.inf)
        return self._span_of_box(rows, offsets) if self._axes else self._span_by_programs(rows, offsets)

    def _span_of_box(self, rows: Array, offsets: Array) -> tuple[Array, Array]:
        low, high = np.full(self.dim, -np.inf), np.full(self.dim, np.inf)
        axis = np.argmax(self.matrix != 0, axis=1)
        for k, entry, value in zip(axis, self.matrix[np.arange(len(axis)), axis], self.bound, strict=True):
            if entry > 0:
                high[k] = min(high[k], value)
            else:
                low[k] = max(low[k], -value)
        up, down = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
        least, most = _product(up, low) + _product(down, high), _product(up, high) + _product(down, low)
        size = np.where(np.isfinite(low), np.abs(low), 0.0) + np.where(np.isfinite(high), np.abs(high), 0.0)
        room = (self.dim + 2) * EPS * (np.abs(rows) @ size + np.abs(offsets))
        return least + offsets - room, most + offsets + room

    def _span_by_programs(self, rows: Array, offsets: Array) -> tuple[Array, Array]:
        program = LinearProgram(torch.from_numpy(self.matrix), torch.from_numpy(self.bound))
        ends = [[self._most(program, sign * row) for row in rows] for sign in (-1.0, 1.0)]
        room = (self.dim + 2) * EPS * np.abs(offsets)
        return offsets - np.array(ends[0]) - room, offsets + np.array(ends[1]) + room

    @staticmethod
    def _most(program: LinearProgram, c: Array) -> float:
        """Return a proven upper bound of c.x, with the solver's accuracy."""
        if not c.any():
            return 0.0
        upper = program.maximise(torch.from_numpy(np.ascontiguousarray(c))).upper
        return math.inf if math.isnan(upper) else upper + program.accuracy * (abs(upper) + program.length)

    def below(self, rows: Array, offsets: Array) -> Found:
        stacked = torch.from_numpy(np.vstack([rows, self.matrix]))
        deep = deepest(stacked, torch.from_numpy(np.concatenate([-offsets, self.bound])))
        if deep is None:
            return Found(None)
        if deep.is_empty or deep.depth <= deep.rounding:
            return Found(False)
        point = deep.point.numpy()
        return Found(True, point) if negative(rows, offsets, point) and self.holds(point) else Found(None)

    def middle(self, rows: Array, offsets: Array, v: Array) -> Found:
        start = solved(rows, offsets)
        if start is None:
            return Found(False)
        if not len(self.matrix):
            return Found(True, start)
        _, values, right = np.linalg.svd(rows, full_matrices=True)
        rank = int((values > TOLERANCE.relative * values.max(initial=0.0)).sum())
        along = np.ascontiguousarray(right[rank:].T)
        speed = np.abs(self.matrix @ v)
        columns = np.hstack([self.matrix @ along, speed[:, None]])
        limit = np.append(np.zeros(along.shape[1]), 1.0)
        bound = np.append(self.bound - self.matrix @ start, 1.0)
        program = LinearProgram(torch.from_numpy(np.vstack([columns, limit])), torch.from_numpy(bound))
        found = program.maximise(torch.from_numpy(limit))
        if found.point is None:
            return Found(False if found.status is Status.INFEASIBLE else None)
        point, length = start + along @ found.point.numpy()[:-1], found.value
        size = 1 + float(np.abs(bound).max())
        if length <= TOLERANCE.relative * size:  # between rounding and this the place may just be thin
            return Found(False if length <= _FLAT * len(columns) * EPS * size else None)
        low, high = self.chord(point, v)
        return Found(True, point) if min(-low, high) > length / 2 else Found(None)

    def walls(self) -> tuple[Array, Array]:
        return self.matrix, self.bound


@final
class UnitBall(Place):
    """{x : |x| <= 1}."""

    def __init__(self, dim: int) -> None:
        self.inner = np.zeros(dim)

    def holds(self, x: Array) -> bool:
        return float(np.linalg.norm(x)) <= 1 + len(x) * EPS

    def chord(self, x: Array, v: Array) -> tuple[float, float]:
        middle, size = float(x @ v), float(v @ v)
        half = math.sqrt(max(0.0, middle**2 + size * (1 - float(x @ x))))
        return (-middle - half) / size, (half - middle) / size

    def span(self, rows: Array, offsets: Array) -> tuple[Array, Array]:
        size = np.linalg.norm(rows, axis=1)
        room = (self.dim + 2) * EPS * (size + np.abs(offsets))
        return offsets - size - room, offsets + size + room

    def below(self, rows: Array, offsets: Array) -> Found:
        matrix, bound = self.walls()
        around = Polyhedron(Polytope.of(matrix, bound), self.inner).below(rows, offsets)
        if around.point is None or float(np.linalg.norm(around.point)) < 1:
            return around
        nearest = near_origin.of_polyhedron(rows, -offsets)
        if nearest.least > 1 + TOLERANCE.relative:
            return Found(False)
        size = 1.0 if nearest.point is None else float(np.linalg.norm(nearest.point))
        for part in MARGINS:
            point = near_origin.of_polyhedron(rows, -offsets - part * (1 - size)).point if size < 1 else None
            if point is not None and float(np.linalg.norm(point)) < 1 and negative(rows, offsets, point):
                return Found(True, point)
        return Found(None)

    def middle(self, rows: Array, offsets: Array, v: Array) -> Found:
        x = solved(rows, offsets)
        if x is None:
            return Found(False)
        size = float(np.linalg.norm(x))
        if abs(size - 1) <= TOLERANCE.relative:
            return Found(None)
        return Found(True, x) if size < 1 else Found(False)

    def walls(self) -> tuple[Array, Array]:
        eye = np.eye(self.dim)
        return np.vstack([eye, -eye]), np.ones(2 * self.dim)


def until(slack: Array, speed: Array) -> tuple[float, float]:
    """Return the least and the greatest t for which slack - t speed >= 0 in every row, slack >= 0."""
    slack = np.maximum(slack, 0.0)
    ahead, back = speed > 0, speed < 0
    high = float((slack[ahead] / speed[ahead]).min(initial=np.inf))
    low = float((slack[back] / speed[back]).max(initial=-np.inf))
    return low, high


def _product(rows: Array, ends: Array) -> Array:
    """Return rows @ ends with 0 times infinity as 0."""
    finite = np.isfinite(ends)
    found = rows[:, finite] @ ends[finite]
    with np.errstate(invalid="ignore"):
        far = np.where(rows[:, ~finite] != 0, rows[:, ~finite] * ends[~finite], 0.0)
    total: Array = found + far.sum(1)
    return total
