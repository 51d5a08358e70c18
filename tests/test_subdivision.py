"""The cells of a domain, held against exact rational cells, closed forms, counts by hand, and the networks themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from hypothesis import given, settings

from oracles import Dense, Join, Kink, Step, Sum, Winner, box, cell_volume, cells
from polylens import Box, Network, Node, Patterns, iter_cells
from polylens.domain import Domain
from polylens.gates import MaxPool, ReduceMax, gate
from polylens.steps import Fixed, Linear, combine, concat, gather, reshape
from polylens.steps import Step as NetworkStep
from strategies import program

Key = tuple[tuple[int, ...], ...]


def network_of(steps: Sequence[Step], inputs: int) -> Network:
    """Return a program of the oracle as a network."""
    nodes: list[Node] = []
    shape, value = {0: (inputs,)}, [0]  # of the network's values; and where it has the program's

    def emit(step: NetworkStep, *sources: int) -> int:
        image = step.apply(*(torch.zeros(1, *shape[i], dtype=torch.float64) for i in sources))
        nodes.append(Node(f"step{len(nodes)}", step, sources, tuple(image.shape[1:])))
        shape[len(nodes)] = nodes[-1].shape
        return len(nodes)

    for step in steps:
        sources = (step.first, step.second) if isinstance(step, Sum | Join) else (step.source,)
        here = [value[i] for i in sources]
        if isinstance(step, Winner) and not step.largest:
            windows = (shape[here[0]][0] - step.size) // step.stride + 1
            index = tuple(i * step.stride + j for i in range(windows) for j in range(step.size))
            taken = emit(Fixed("gather", gather, {"dim": 1, "index": index}), *here)
            here = [emit(Fixed("reshape", reshape, {"shape": (windows, step.size)}), taken)]
        value.append(emit(_step(step), *here))
    return Network(tuple(nodes), (inputs,), torch.float64, torch.device("cpu"), "a program")


def _step(step: Step) -> NetworkStep:
    if isinstance(step, Dense):
        return Linear(torch.tensor(step.weight, dtype=torch.float64), torch.tensor(step.bias, dtype=torch.float64))
    if isinstance(step, Kink):
        return gate("kink", step.breakpoints, step.slopes, step.intercepts, step.inclusive)
    if isinstance(step, Sum):
        return Fixed("add", combine, {"weights": (1.0, step.factor)})
    if isinstance(step, Join):
        return Fixed("concat", concat, {"dim": 1})
    if step.largest:
        return MaxPool((step.size,), (step.stride,), (0,), (1,), False)
    return ReduceMax(2, step.size, largest=False)


def keys(found: Patterns) -> list[Key]:
    """Return patterns as tuples of pieces, gate by gate."""
    parts = [found.pieces(i).reshape(len(found), -1).long().tolist() for i in range(len(found.layers))]
    return [tuple(tuple(part[i]) for part in parts) for i in range(len(found))]


def volumes_by_pattern(net: Network, domain: Domain) -> Counter[Key]:
    """Return the volume of every cell by its pattern; of a bounded domain no two cells may have one pattern."""
    volumes: Counter[Key] = Counter()
    total = 0
    for part in iter_cells(net, domain):
        total += len(part)
        for key, volume in zip(keys(part.patterns), part.volumes().tolist(), strict=True):
            volumes[key] += volume
    assert total == len(volumes)
    return volumes


# -- exact cells in rationals


def agrees(steps: Sequence[Step], low: Sequence[float], high: Sequence[float]) -> None:
    """The engine's patterns are those of the exact cells, and have their volumes."""
    exact = {cell.pieces: float(cell_volume(cell)) for cell in cells(steps, box(low, high))}
    found = volumes_by_pattern(network_of(steps, len(low)), Box(low, high))
    assert set(found) == set(exact)
    total = math.prod(b - a for a, b in zip(low, high, strict=True))
    for key, volume in exact.items():
        assert abs(found[key] - volume) <= 1e-12 * total  # rounding at a few vertices, each of about 1e-15


@settings(max_examples=150, deadline=None)
@given(steps=program(2, 4))
def test_cells_in_the_plane_are_those_of_rational_arithmetic(steps: list[Step]) -> None:
    agrees(steps, [-1.0, -1.5], [1.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(steps=program(1, 4))
def test_cells_on_a_line_are_those_of_rational_arithmetic(steps: list[Step]) -> None:
    agrees(steps, [-2.0], [2.0])


@settings(max_examples=40, deadline=None)
@given(steps=program(3, 3))
def test_cells_in_space_are_those_of_rational_arithmetic(steps: list[Step]) -> None:
    exact = {cell.pieces for cell in cells(steps, box([-1.0] * 3, [1.0] * 3))}
    found = volumes_by_pattern(network_of(steps, 3), Box([-1.0] * 3, [1.0] * 3))
    assert set(found) == exact
    assert math.isclose(sum(found.values()), 8.0, rel_tol=1e-12)
