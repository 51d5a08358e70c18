"""Ranks of Jacobians whose rows have units of their own, against elimination in rationals."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest
import torch

from oracles import rank, relu_network
from polylens import dense, forgotten_by_layer, null_space


def double(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def drawn(seed: int, *, scaled: bool) -> tuple[list[tuple[list[list[float]], list[float]]], list[float]]:
    """Return dense layers and a point; the rows are in units over 24 decades where `scaled`."""
    draw = random.Random(seed)
    widths = [draw.randint(1, 4) for _ in range(draw.randint(2, 4))]
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        units = [10.0 ** draw.randint(-12, 12) if scaled else 1.0 for _ in range(outputs)]
        rows = [[u * (draw.gauss(0, 1) if scaled else draw.randint(-2, 2)) for _ in range(inputs)] for u in units]
        layers.append((rows, [u * draw.randint(-2, 2) for u in units]))
    return layers, [draw.randint(-63, 63) / 32 for _ in range(widths[0])]


def test_ranks_of_ordinary_networks_are_those_of_rationals_and_say_so() -> None:
    for seed in range(150):
        layers, x = drawn(seed, scaled=False)
        found = null_space(dense([(double(w), double(b)) for w, b in layers]), double(x))
        assert int(found.rank) == rank(relu_network(layers, x)[1]), seed
        assert bool(found.settled), seed


def test_ranks_of_networks_in_units_of_many_decades_are_those_of_rationals_or_are_not_settled() -> None:
    open_ones = 0
    for seed in range(200):
        layers, x = drawn(seed, scaled=True)
        found = null_space(dense([(double(w), double(b)) for w, b in layers]), double(x))
        expected = rank(relu_network(layers, x)[1])
        if bool(found.settled):
            assert int(found.rank) == expected, seed
        else:
            open_ones += 1
            assert int(found.rank) < expected, seed  # rounding hides what one unit sees beside another
            assert "leaves the rank open" in found.summary()
    assert open_ones <= 20


@pytest.mark.parametrize("scale", [1e-14, 1e-30, 1e20])
def test_a_unit_in_other_units_is_seen_as_well(scale: float) -> None:
    weight = double([[1.0, 2.0, 0.0], [3.0, -1.0, 0.0]])
    net = dense([(weight * double([[1.0], [scale]]), None)])
    found = null_space(net, double([1.0, 1.0, 1.0]))
    assert (int(found.rank), bool(found.settled)) == (2, True)
    assert float((weight / weight.norm(dim=1, keepdim=True) @ found.basis).abs().max()) < 1e-12
    assert float((found.project(double([1.0, 5.0, 2.0])) - double([0.0, 0.0, 2.0])).abs().max()) < 1e-12
    assert forgotten_by_layer(net, double([1.0, 1.0, 1.0])).rank.tolist() == [2]


def test_a_tolerance_that_is_given_counts_singular_values_as_they_are() -> None:
    net = dense([(double([[1.0, 0.0], [0.0, 1e-14]]), None)])
    found = null_space(net, double([1.0, 1.0]), tolerance=1e-9)
    assert (int(found.rank), bool(found.settled)) == (1, True)
    assert not bool(null_space(net, double([1.0, 1.0]), tolerance=1.0).settled)  # it lies on a singular value


def test_rows_that_rounding_makes_parallel_leave_the_rank_open() -> None:
    far = [[1e17, 1.0], [1.0, 0.0]]  # as a map of rank 2; behind one unit of 1e17 the other is lost
    layers = [(far, [0.0, 0.0]), ([[1.0, 1.0], [1.0, 2.0]], [0.0, 0.0])]
    exact = rank(relu_network(layers, [1.0, 0.5])[1])
    found = null_space(dense([(double(w), double(b)) for w, b in layers]), double([1.0, 0.5]))
    assert (exact, int(found.rank), bool(found.settled)) == (2, 1, False)
    assert Fraction(1e17) == 10**17


def test_batches_know_of_each_point_whether_its_rank_is_settled() -> None:
    net = dense([(double([[1e17, 1.0], [1.0, 0.0]]), None), (double([[1.0, 1.0], [1.0, 2.0]]), None)])
    found = null_space(net, double([[1.0, 0.5], [-1.0, -0.5]]))
    assert found.settled.tolist() == [False, True]
    assert [bool(found[i].settled) for i in range(2)] == [False, True]
    assert found.to_dict()["settled"] == [False, True]
