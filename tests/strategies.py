"""Hypothesis generators of the networks on which other tools go wrong, each nasty case by name."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

Layer = tuple[list[list[float]], list[float]]

QUARTERS = st.integers(-8, 8).map(lambda k: k / 4)  # dyadic: sums and products below are exact in float64
INTEGERS = st.integers(-2, 2).map(float)


@st.composite
def layer(draw: st.DrawFn, inputs: int, outputs: int) -> Layer:
    """Draw a layer, then damage it: duplicate, parallel, opposite and dead units, zero weights, no bias."""
    numbers = draw(st.sampled_from([QUARTERS, INTEGERS]))
    weight = [[draw(numbers) for _ in range(inputs)] for _ in range(outputs)]
    bias = [draw(numbers) for _ in range(outputs)]
    for damage in draw(st.lists(st.sampled_from(["duplicate", "parallel", "opposite", "dead", "zero", "no bias"]), max_size=3)):
        i, j = draw(st.integers(0, outputs - 1)), draw(st.integers(0, outputs - 1))
        if damage == "duplicate":  # scaled by a power of two, so that it is a duplicate in floating point too
            weight[i], bias[i] = [2 * v for v in weight[j]], 2 * bias[j]
        elif damage == "parallel":
            weight[i] = list(weight[j])
        elif damage == "opposite":
            weight[i], bias[i] = [-v for v in weight[j]], -bias[j]
        elif damage == "dead":
            weight[i], bias[i] = [0.0] * inputs, -1.0
        elif damage == "zero":
            weight[i], bias[i] = [0.0] * inputs, 0.0
        else:
            bias = [0.0] * outputs
    return weight, bias


@st.composite
def degenerate_network(draw: st.DrawFn) -> list[Layer]:
    """Draw the layers of a dense ReLU network of one to three inputs and one or two hidden layers."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=3, max_size=4))
    return [draw(layer(n, m)) for n, m in itertools.pairwise(sizes)]


def points(inputs: int) -> st.SearchStrategy[list[float]]:
    """Draw a point that often lies on a hyperplane, or on several: integers, halves and the origin."""
    return st.lists(st.integers(-4, 4).map(lambda k: k / 2), min_size=inputs, max_size=inputs)
