"""Crossings along rays against intervals in rationals: where units cross within rounding of one another, too."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import NamedTuple

import pytest
import torch

from oracles import dot
from polylens import Network, dense, first_boundary
from polylens._rational import RationalNetwork, rank

ZERO, ONE = Fraction(0), Fraction(1)
PIECES = {  # breakpoints, and slope and intercept of every piece
    "relu": ([ZERO], [(ZERO, ZERO), (ONE, ZERO)]),
    "abs": ([ZERO], [(-ONE, ZERO), (ONE, ZERO)]),
    "relu6": ([ZERO, 6 * ONE], [(ZERO, ZERO), (ONE, ZERO), (ZERO, 6 * ONE)]),
    "hardtanh": ([-ONE, ONE], [(ZERO, -ONE), (ONE, ZERO), (ZERO, ONE)]),
}
Rows = list[list[float]]


def double(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Asked(NamedTuple):
    """Dense layers behind one kind of gate, and a ray."""

    layers: list[tuple[Rows, list[float]]]
    gate: str
    x: list[float]
    v: list[float]

    @property
    def network(self) -> Network:
        return dense([(double(w), double(b)) for w, b in self.layers], self.gate)


def places(asked: Asked, until: int = 1000) -> list[Fraction]:
    """Return where the pattern changes on the ray, from cutting (0, until) by the units of one layer after another."""
    forms = [(Fraction(v), Fraction(x)) for x, v in zip(asked.x, asked.v, strict=True)]
    todo = [(ZERO, Fraction(until), (), forms)]
    breakpoints, maps = PIECES[asked.gate]
    for weight, bias in asked.layers[:-1]:
        cut = []
        for low, high, pattern, values in todo:
            rows = [[Fraction(w) for w in row] for row in weight]
            z = [
                (dot(r, [a for a, _ in values]), dot(r, [b for _, b in values]) + Fraction(c))
                for r, c in zip(rows, bias, strict=True)
            ]
            roots = {(t - b) / a for a, b in z if a for t in breakpoints}
            ends = sorted({low, high} | {t for t in roots if low < t < high})
            for left, right in itertools.pairwise(ends):
                middle = (left + right) / 2
                on = tuple(sum(a * middle + b > t for t in breakpoints) for a, b in z)
                after = [(maps[p][0] * a, maps[p][0] * b + maps[p][1]) for p, (a, b) in zip(on, z, strict=True)]
                cut.append((left, right, (*pattern, on), after))
        todo = cut
    return [b[0] for a, b in itertools.pairwise(todo) if a[2] != b[2]]


def drawn(seed: int, *, scaled: bool) -> Asked:
    """Return a network and a ray, its rows in units of their own over 24 decades where `scaled`."""
    draw = random.Random(seed)
    widths = [draw.randint(1, 3), *(draw.randint(1, 5) for _ in range(draw.randint(1, 3))), 1]
    whole = not scaled and draw.random() < 0.7
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        units = [10.0 ** draw.randint(-12, 12) if scaled else 1.0 for _ in range(outputs)]
        entry = (lambda: float(draw.randint(-3, 3))) if whole else (lambda: draw.gauss(0, 1))
        layers.append(([[u * entry() for _ in range(inputs)] for u in units], [u * entry() for u in units]))
    v = [float(draw.randint(-3, 3)) for _ in range(widths[0])]
    x = [draw.randint(-64, 64) / 64 if draw.random() < 0.5 else draw.gauss(0, 1) for _ in range(widths[0])]
    return Asked(layers, draw.choice(list(PIECES)), x, v if any(v) else [1.0] * widths[0])


def check(asked: Asked) -> bool:
    """Hold the crossings against the intervals; return whether none of them is within rounding of another."""
    found = first_boundary(asked.network, double(asked.x), double(asked.v), count=60)
    exact = places(asked)
    got = [t for t in found.t.tolist() if t < 1000]
    if found.fragile:
        assert len(got) <= len(exact) <= len(got) + found.fragile
        nearest = [min(exact, key=lambda t: abs(t - Fraction(s))) for s in got]
    else:
        nearest = exact[: len(got)]
        assert len(got) == len(exact) or not found.complete
    assert got == pytest.approx([float(t) for t in nearest], rel=1e-12, abs=1e-13)  # some roundings of the points of the ray
    return not found.fragile


def test_ordinary_networks_cross_where_rationals_say() -> None:
    assert sum(check(drawn(seed, scaled=False)) for seed in range(150)) == 150


def test_networks_in_units_of_many_decades_cross_where_rationals_say_or_tell_that_rounding_hides_it() -> None:
    assert sum(check(drawn(seed, scaled=True)) for seed in range(150)) >= 120


@pytest.mark.parametrize(
    "asked",
    [
        drawn(1818, scaled=False),  # these two were listed twice, with roundings of a point near 0 between the units
        drawn(4234, scaled=False),
        Asked([([[1.0], [-3.0]], [-0.5, 1.5]), ([[1.0, 2.0]], [0.0]), ([[1.0]], [0.0])], "abs", [0.7], [-3.0]),
        Asked([([[3.0]], [0.0]), ([[1.0], [7.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])], "relu", [-0.1418], [3.0]),
    ],
)
def test_units_behind_units_that_cross_with_them_are_listed_once(asked: Asked) -> None:
    assert check(asked)
    found = first_boundary(asked.network, double(asked.x), double(asked.v), count=60)
    assert all(a < b for a, b in itertools.pairwise(found.t.tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_both_breakpoints_of_a_steep_gate_are_crossed(seed: int) -> None:
    x, v = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    steep = [([[1e13, -2e13, 0.5e13]], [1e13 * seed]), ([[1.0]], [0.0])]
    asked = Asked(steep, "hardtanh", x.tolist(), v.tolist())
    assert len(places(asked, 10**9)) in (0, 2)
    assert check(asked)


def test_crossings_that_no_float_tells_apart_are_one_and_counted() -> None:
    third = 1.0 / 3.0
    net = dense(
        [(double([[third], [1.0]]), double([-third * third, -third])), (double([[1.0, 1.0]]), double([0.0]))]
    )  # at 1/3, and a rounding beside it
    exact = {Fraction(third) ** 2, Fraction(third * third)}
    found = first_boundary(net, double([0.0]), double([1.0]), count=5)
    assert len(exact) == 2
    assert (found.t.tolist(), len(found.units[0]), found.fragile) == ([pytest.approx(third)], 2, 1)


def test_a_network_too_large_for_rationals_counts_what_floats_cannot_tell() -> None:
    def network(width: int) -> Network:
        weight = torch.zeros(width, 70, dtype=torch.float64)
        weight[0, 0], weight[1, 0] = 1.0, 3.0
        bias = torch.zeros(width, dtype=torch.float64)
        bias[0], bias[1] = -1 / 3, -1.0
        return dense([(weight, bias), (torch.ones(1, width, dtype=torch.float64), None)])

    x, v = torch.zeros(70, dtype=torch.float64), torch.eye(70, dtype=torch.float64)[0]
    small, large = (first_boundary(network(width), x, v, count=5) for width in (2, 70))
    assert RationalNetwork.of(network(70)) is None
    assert len(small.t) == len(large.t) == 1
    assert large.fragile or len(large.units[0]) == 2


def test_ranks_in_rationals_are_those_of_elimination() -> None:
    rows = [[Fraction(v) for v in row] for row in ([1, 2, 3], [2, 4, 6], [0, 1, 1], [1, 3, 4])]
    assert [rank(rows), rank(rows[:2]), rank([])] == [2, 1, 0]
