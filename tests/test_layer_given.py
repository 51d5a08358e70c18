"""Layers asked by their output: a computed input whose entries are rounding where they ought to be 0, against rationals."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
import torch

from polylens import layer_preimage
from polylens.errors import GeometryError
from test_layer_preimage import Rows, tensor, truth

SMALL, LARGE = 2.0**-40, 2.0**30  # powers of two, so that no weight is rounded
CASES = [
    ([[3.0, -2.0], [3.0, 0.0], [-1.0, 3.0], [1.0, 1.0], [3.0, 1.0], [-3.0, 0.0], [-1.0, 0.0]], [0, 0, 0, 0, 0, -1, 0], [0, -2]),
    ([[-1.0, -1.0], [1.0, 0.0], [-1.0, -3.0], [1.0, 3.0], [3.0, 0.0]], [-1, 0, 0, 2, 0], [0, -1]),
    ([[0.0, SMALL, -3 * SMALL], [-2 * LARGE, 0.0, 3 * LARGE], [0.0, 3.0, -1.0]], [0, 0, 0], [-2, 0, -0.5]),
    ([[-1.0, 0.0], [-2.0, 0.0], [-3 * LARGE, 0.0], [3 * LARGE, 2 * LARGE], [2 * SMALL, -SMALL]], [-1, 0, 0, 0, -SMALL], [1, 0]),
]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("weight", "bias", "x"), CASES)
def test_an_output_that_was_computed_exactly_has_the_preimage_of_its_input(
    weight: Rows, bias: list[float], x: list[float], exact: bool
) -> None:
    y = torch.relu(tensor(weight) @ tensor(x) + tensor(bias))
    found = layer_preimage(weight, bias, y=y, exact=exact)
    expected = truth(weight, bias, x, False)
    assert (found.kind, found.dimension) == (expected.kind, expected.dimension)


def test_layers_of_unlike_rows_answer_for_an_output_as_rationals_do() -> None:
    for seed in range(150):
        draw = random.Random(seed)
        n = draw.randint(1, 3)
        units = [2.0 ** draw.choice([0, 0, -40, 30]) for _ in range(draw.randint(n, n + 4))]
        weight = [[unit * draw.randint(-3, 3) for _ in range(n)] for unit in units]
        bias = [unit * draw.choice([0, 0, 1, -1, 2]) for unit in units]
        x = [draw.choice([0, 0, 1, -2, 3]) / draw.choice([1, 2, 4]) for _ in range(n)]
        orthant = min(x) >= 0 and draw.random() < 0.5
        expected = truth(weight, bias, x, orthant)
        y = torch.relu(tensor(weight) @ tensor(x) + tensor(bias))
        for exact in (False, True):
            found = layer_preimage(weight, bias, y=y, reachable="orthant" if orthant else None, exact=exact)
            assert (found.kind, found.dimension) == (expected.kind, expected.dimension), seed


def test_an_identity_meets_its_output_where_an_entry_of_the_input_is_zero() -> None:
    weight = tensor([[0.0, 3.0], [-3.0, -1.0], [-3.0, 0.0]])
    assert layer_preimage(weight, None, y=weight @ tensor([0.0, 2.0]), gate="identity").kind == "singleton"


def test_an_output_that_is_missed_by_more_than_rounding_is_still_refused() -> None:
    weight, miss = tensor([[0.0, 3.0], [-3.0, -1.0], [-3.0, 0.0]]), tensor([0.0, 0.0, 1e-6])
    with pytest.raises(GeometryError, match="no input has the positive part"):
        layer_preimage(weight, None, y=weight @ tensor([0.0, 2.0]) + miss, gate="identity")


@pytest.mark.parametrize(
    ("weight", "x", "other"),
    [
        ([[-3.0, 1.0], [-1.0, 0.0]], [0.0, 1.0], [0.0, -1.0]),
        ([[0.0, 0.0, 1.0], [-3.0, -2.0, 0.0], [3 * LARGE, 0.0, 3 * LARGE]], [-3.0, 0.5, 0.0], [3.0, -0.5, 0.0]),
        ([[7.0, 3.0], [3.0, 7.0], [0.0, 5 * SMALL]], [1.0, 0.0], [-1.0, 0.0]),
    ],
)
def test_a_mirror_image_with_an_entry_of_zero_is_an_input_of_the_same_absolute_values(
    weight: Rows, x: list[float], other: list[float]
) -> None:
    for point in (x, other):
        values = [sum(Fraction(w) * Fraction(v) for w, v in zip(row, point, strict=True)) for row in weight]
        assert [abs(v) for v in values] == [abs(float(v)) for v in (tensor(weight) @ tensor(x)).tolist()]
    assert layer_preimage(weight, None, x, gate="abs").kind == "bounded"


def test_values_that_differ_by_more_than_rounding_have_no_mirror_image() -> None:
    weight, bias = [[0.0], [-3 * LARGE], [-2.0]], [0.0, -1.0, -2.0]  # the first mirror image misses the last unit by 1e-9
    assert layer_preimage(weight, bias, [0.0], gate="abs").kind == "singleton"
