"""Hypothesis generators of the networks on which other tools go wrong, each nasty case by name."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from oracles import Dense, Join, Kink, Step, Sum, Winner

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


HALVES = st.integers(-4, 4).map(lambda k: k / 2)
KINKS: dict[str, tuple[list[float], list[float], list[float], tuple[int, ...]]] = {
    "relu": ([0.0], [0.0, 1.0], [0.0, 0.0], ()),
    "leaky relu": ([0.0], [0.25, 1.0], [0.0, 0.0], ()),
    "abs": ([0.0], [-1.0, 1.0], [0.0, 0.0], ()),
    "hardtanh": ([-1.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0], ()),
    "hardshrink": ([-0.5, 0.5], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], (0,)),
    "softshrink": ([-0.5, 0.5], [1.0, 0.0, 1.0], [0.5, 0.0, -0.5], ()),
    "stairs": ([-1.0, 0.0, 0.5], [0.0, 0.0, 1.0, -2.0], [0.0, 1.0, -0.5, 1.0], (1,)),
}


@st.composite
def kink(draw: st.DrawFn, source: int) -> Kink:
    """Draw a gate: with one breakpoint or several, continuous or with jumps."""
    return Kink(source, *KINKS[draw(st.sampled_from(list(KINKS)))])


@st.composite
def half_integer_layer(draw: st.DrawFn, inputs: int, outputs: int) -> Layer:
    """Draw integer weights with half-integer biases: many hyperplanes through one vertex, in every layer."""
    weight = [[draw(INTEGERS) for _ in range(inputs)] for _ in range(outputs)]
    return weight, [draw(HALVES) for _ in range(outputs)]


@st.composite
def program(draw: st.DrawFn, inputs: int, units: int) -> list[Step]:
    """Draw a small program: dense layers and gates, with a max over windows, a residual sum or a join now and then."""
    steps: list[Step] = []
    width, last = inputs, 0
    for _ in range(draw(st.integers(1, 2))):
        size = draw(st.integers(1, units))
        make = draw(st.sampled_from([layer, half_integer_layer]))
        steps.append(Dense(last, *draw(make(width, size))))
        before, last, width = last, last + 1, size
        kind = draw(st.sampled_from(["gate", "gate", "gate", "winner", "winner of gates", "sum", "join"]))
        if kind != "winner":
            steps.append(draw(kink(last)))
            last += 1
        if kind.startswith("winner") and width > 1:  # behind a gate that is flat somewhere candidates tie on whole cells
            window, stride = draw(st.integers(2, min(3, width))), draw(st.integers(1, 2))
            steps.append(Winner(last, window, stride, draw(st.booleans())))
            last, width = last + 1, (width - window) // stride + 1
        elif kind == "sum":
            steps.append(Sum(last, last - 1, draw(st.sampled_from([1.0, -0.5]))))
            last += 1
        elif kind == "join":
            sizes = _widths(inputs, steps)
            steps.append(Join(last, before))
            last, width = last + 1, width + sizes[before]
    return steps


def _widths(inputs: int, steps: list[Step]) -> list[int]:
    """Return the number of entries of every value of a program."""
    found = [inputs]
    for step in steps:
        if isinstance(step, Dense):
            found.append(len(step.bias))
        elif isinstance(step, Kink):
            found.append(found[step.source])
        elif isinstance(step, Winner):
            found.append((found[step.source] - step.size) // step.stride + 1)
        else:
            found.append(found[step.first] + (found[step.second] if isinstance(step, Join) else 0))
    return found


def continuous_program(inputs: int, units: int) -> st.SearchStrategy[list[Step]]:
    """Draw a program without jumps, whose closed cells tell the outputs at their walls too."""
    return program(inputs, units).filter(lambda steps: not any(isinstance(step, Kink) and _jumps(step) for step in steps))


def _jumps(gate: Kink) -> bool:
    """Return whether two neighbouring pieces differ at the breakpoint between them."""
    pieces = list(zip(gate.slopes, gate.intercepts, strict=True))
    return any(a * z + c != b * z + d for z, ((a, c), (b, d)) in zip(gate.breakpoints, itertools.pairwise(pieces), strict=True))
