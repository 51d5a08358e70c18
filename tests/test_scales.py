"""Networks whose units, layers or inputs have sizes far apart, against exact rational cells, hand counts and other units."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import Dense, Kink, Step, Winner, box, cell_volume, cells
from polylens import (
    Argmax,
    Box,
    Network,
    OutputSet,
    Segment,
    count_regions,
    dense,
    load,
    parse_vnnlib,
    preimage,
    subdivide,
    verify,
)
from strategies import program
from test_subdivision import keys, network_of

Layer = tuple[list[list[float]], list[float]]


# -- powers of two


@st.composite
def rescaled(draw: st.DrawFn) -> tuple[list[Layer], list[Layer], str]:
    """Draw a network, the same with every layer times 2^k and the next times 2^-k, and a gate that lets factors through."""
    widths = [2, *draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)), draw(st.integers(1, 3))]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    free = draw(st.booleans())
    plain = [(random.normal(size=(m, n)), random.normal(size=m) * (not free)) for n, m in itertools.pairwise(widths)]
    before, scaled = 0, []
    for weight, bias in plain:
        k = draw(st.integers(-300, 300)) if len(scaled) < len(plain) - 1 else 0
        scaled.append((weight * 2.0**k * 2.0**-before, bias * 2.0**k))
        before = k
    return plain, scaled, draw(st.sampled_from(["relu", "leaky_relu", "abs"]))


@settings(max_examples=60, deadline=None)
@given(both=rescaled())
def test_layers_times_powers_of_two_leave_counts_patterns_and_volumes_as_they_are(
    both: tuple[list[Layer], list[Layer], str],
) -> None:
    plain, scaled = dense(both[0], gate=both[2]), dense(both[1], gate=both[2])
    domain = Box([-1.0, -1.0], [1.0, 2.0])
    a, b = subdivide(plain, domain), subdivide(scaled, domain)
    assert keys(a.patterns) == keys(b.patterns)
    assert a.volumes.tolist() == b.volumes.tolist()  # bit for bit: no rounding knows of a power of two
    assert count_regions(plain, domain).count == count_regions(scaled, domain).count == len(a)
    assert a.fragile == b.fragile


@pytest.mark.parametrize("k", [-1000, -520, 520, 1000])
def test_errors_whose_squares_leave_the_range_of_floats_are_counted_all_the_same(k: int) -> None:
    s = 2.0**k  # f = relu(|x| - 1/2) - 1/4, with values of size s in between
    net = dense([([[s], [-s]], None), ([[1 / s, 1 / s]], [-0.5]), ([[1.0]], [-0.25])])
    domain = Box([-1.0], [1.0])
    found = count_regions(net, domain)
    assert (found.count, found.fragile) == (4, 0)
    assert preimage(net, OutputSet.parse(["y0 >= 0.2"], 1), domain).fraction == pytest.approx(0.05, rel=1e-12)
    assert preimage(net, OutputSet.parse(["y0 >= 0.3"], 1), domain).is_empty
    far = dense([([[1 / s], [-1 / s]], [-0.5, -0.5]), ([[1.0, 1.0]], [-0.25])])
    assert count_regions(far, Box([-s], [s])).count == 3


@pytest.mark.parametrize("first", [-300, 0, 300])
@pytest.mark.parametrize("second", [-300, 0, 300])
def test_every_layer_may_have_its_own_power_of_two(first: int, second: int) -> None:
    random = np.random.default_rng(1)
    weights = [random.normal(size=s) for s in ((8, 2), (8, 8), (2, 8))]
    biases = [0.3 * random.normal(size=8), 0.3 * random.normal(size=8), random.normal(size=2)]
    a, b = 2.0**first, 2.0**second
    scaled = [(weights[0] * a, biases[0] * a), (weights[1] / a * b, biases[1] * b), (weights[2] / b, biases[2])]
    plain, domain = list(zip(weights, biases, strict=True)), Box([-1.0] * 2, [1.0] * 2)
    assert count_regions(dense(scaled), domain).count == count_regions(dense(plain), domain).count > 50


@settings(max_examples=30, deadline=None)
@given(steps=program(2, 4), k=st.integers(-300, 300))
def test_the_last_layer_times_a_power_of_two_leaves_preimages_as_they_are(steps: list[Step], k: int) -> None:
    out = len(steps)
    while not isinstance(steps[out - 1], Dense):
        steps, out = steps[:-1], out - 1
    last = steps[-1]
    assert isinstance(last, Dense)
    times = last._replace(weight=[[v * 2.0**k for v in row] for row in last.weight], bias=[v * 2.0**k for v in last.bias])
    domain = Box([-1.0, -1.5], [1.0, 2.0])
    for target in (0.0, Argmax(0)):
        a, b = (preimage(network_of([*steps[:-1], s], 2), target, domain) for s in (last, times))
        assert a.volumes.tolist() == b.volumes.tolist()
        assert a.dimensions.tolist() == b.dimensions.tolist()


# -- units that are off in a chunk, and units of very different size


@pytest.mark.parametrize("k", [-280, -45, 0, 45, 280])
def test_a_unit_that_is_off_everywhere_does_not_set_the_scale_of_the_others(k: int) -> None:
    s = 2.0**k  # relu(relu(x + 1) - 1) beside a unit that is always off
    net = dense([([[s], [0.0]], [s, -1.0]), ([[1.0, 1.0]], [-s]), ([[1.0 / s]], [0.0])])
    assert count_regions(net, Box([-2.0], [2.0])).count == 3
    found = preimage(net, 0.5, Box([-2.0], [2.0]))
    assert found.dimension == 0
    assert abs(float(found.witness) - 0.5) <= 1e-15


@pytest.mark.parametrize("gap", [1e6, 1e9, 1e12])
def test_a_large_unit_lends_its_rounding_to_no_cell_on_which_it_is_off(gap: float) -> None:
    # behind a large unit that is on for u > 0 alone, a small one at v = 1/2 and an output that tells both sides of it apart
    net = dense(
        [
            ([[gap, 0.0], [0.0, 1.0 / gap]], [0.0, 0.0]),
            ([[1.0, 1.0]], [-0.5 / gap]),
            ([[1.0]], None),
        ]
    )
    found = subdivide(net, Box([-1.0, -1.0], [1.0, 1.0]))
    left = sorted(found.volumes[found.middles[:, 0] < 0].tolist())
    assert np.allclose(left, [0.5, 0.5, 1.0], rtol=0, atol=1e-12)
    positive = preimage(net, OutputSet.parse([f"y0 >= {0.25 / gap!r}"], 1), Box([-1.0, -1.0], [0.0, 1.0]))
    assert abs(positive.volume - 0.25) <= 1e-12  # v >= 3/4 in u < 0


def test_a_saturated_unit_lends_no_rounding_either() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU6(), nn.Linear(2, 1)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1e13], [1.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 0.0]))
        model[2].weight.copy_(torch.tensor([[0.0, 1.0]]))
        model[2].bias.zero_()
    net = load(model)
    above = preimage(net, OutputSet.parse(["y0 >= 1"], 1), Box([-2.0], [2.0]))
    assert abs(above.volume - 1.0) <= 1e-12


def test_a_deep_network_without_biases_has_as_many_regions_in_any_unit() -> None:
    counts = []
    for factor in (0.25, 1.0, 4.0):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for k in range(40):
            linear = nn.Linear(2 if k == 0 else 16, 16, bias=False)
            with torch.no_grad():
                linear.weight *= factor
            layers += [linear, nn.ReLU()]
        net = load(nn.Sequential(*layers, nn.Linear(16, 1, bias=False)).double())
        counts.append(count_regions(net, Segment([-1.0, 0.3], [1.0, 0.7])).count)
    assert counts == [175, 175, 175]


# -- what rounding may have turned is reported, and nothing else


def exact_cells(steps: Sequence[Step], low: Sequence[float], high: Sequence[float]) -> dict[tuple[tuple[int, ...], ...], float]:
    """Return the exact volumes of the cells by pattern."""
    return {cell.pieces: float(cell_volume(cell)) for cell in cells(steps, box(low, high))}


@st.composite
def scaled_program(draw: st.DrawFn) -> list[Step]:
    """Draw a program whose units are multiplied by powers of two from 1e-12 to 1e12, each by its own.

    Decimal factors would round, and cut slivers of 1e-16 off cells that touch a hyperplane.
    """
    steps = draw(program(2, 4))
    factors = st.integers(-40, 40).map(lambda k: 2.0**k)
    out: list[Step] = []
    for step in steps:
        if isinstance(step, Dense):
            own = [draw(factors) for _ in step.bias]
            weight = [[f * v for v in row] for f, row in zip(own, step.weight, strict=True)]
            step = step._replace(weight=weight, bias=[f * v for f, v in zip(own, step.bias, strict=True)])
        out.append(step)
    return out


RELU = ([0.0], [0.0, 1.0], [0.0, 0.0], ())


@settings(max_examples=150, deadline=None)
@given(steps=scaled_program())
@example(  # two breakpoints that a value of 1e12 passes within its rounding
    steps=[Dense(0, [[1e13, 3e12], [1.0, 0.0]], [1e12, 0.0]), Kink(1, [0.0, 6.0], [0.0, 1.0, 0.0], [0.0, 0.0, 6.0], ())]
)
@example(  # a small term beside a large one that is 0 on a hyperplane
    steps=[
        Dense(0, [[1e12, 0.0], [0.0, 1e-12]], [0.0, 0.0]),
        Kink(1, *RELU),
        Dense(2, [[1.0, 1.0]], [-5e-13]),
        Kink(3, *RELU),
    ]
)
@example(steps=[Dense(0, [[1e12, 1.0], [1e12, 2.0]], [1.0, 0.0]), Winner(1, 2, 1, True)])  # a lead below the rounding of both
def test_scaled_networks_have_the_exact_cells_or_say_that_decisions_are_fragile(steps: list[Step]) -> None:
    low, high = [-1.0, -1.5], [1.0, 2.0]
    exact, found = exact_cells(steps, low, high), subdivide(network_of(steps, 2), Box(low, high))
    counted = count_regions(network_of(steps, 2), Box(low, high))
    if not found.fragile:
        total = math.prod(b - a for a, b in zip(low, high, strict=True))
        volumes = dict(zip(keys(found.patterns), found.volumes.tolist(), strict=True))
        assert set(volumes) == set(exact)
        assert max(abs(volumes[key] - exact[key]) for key in exact) <= 1e-9 * total  # vertices where hyperplanes are nearly one
    assert counted.fragile or counted.count == len(exact)


@settings(max_examples=60, deadline=None)
@given(steps=program(2, 4))
def test_degenerate_networks_of_ordinary_size_report_no_fragile_decision(steps: list[Step]) -> None:
    net, domain = network_of(steps, 2), Box([-1.0, -1.5], [1.0, 2.0])
    assert subdivide(net, domain).fragile == count_regions(net, domain).fragile == 0
    assert preimage(net, 0.0, domain).fragile == 0


def test_fragile_decisions_are_the_same_in_counts_streams_complexes_and_files(tmp_path) -> None:
    from polylens import load_complex

    steps = [
        Dense(0, [[1e12, 0.0], [0.0, 1e-12]], [0.0, 0.0]),
        Kink(1, *RELU),
        Dense(2, [[1.0, 1.0]], [-5e-13]),
        Kink(3, *RELU),
    ]
    net, domain = network_of(steps, 2), Box([-1.0, -1.0], [1.0, 1.0])
    found = subdivide(net, domain)
    assert found.fragile > 0
    assert found.to_dict()["fragile"] == found.fragile
    assert "rounding may have turned" in found.summary()
    found.save(tmp_path / "cells.npz")
    assert load_complex(tmp_path / "cells.npz", net).fragile == found.fragile
    assert count_regions(net, domain).fragile > 0
    flagged = preimage(net, 0.0, domain)
    assert flagged.fragile > 0
    assert "rounding may have turned" in flagged.summary()


def test_a_verdict_says_how_many_decisions_rounding_may_have_turned() -> None:
    text = "".join(f"(declare-const X_{i} Real)(assert (<= -1 X_{i} 1))" for i in (0, 1))
    text += "(declare-const Y_0 Real)(assert (<= Y_0 0))"
    steps = [
        Dense(0, [[1e12, 0.0], [0.0, 1e-12]], [0.0, 0.0]),
        Kink(1, *RELU),
        Dense(2, [[1.0, 1.0]], [-5e-13]),
        Kink(3, *RELU),
    ]
    found = verify(network_of(steps, 2), parse_vnnlib(text), whole=True)
    assert found.fragile == found.to_dict()["fragile"] > 0
    assert "rounding may have turned" in found.summary()
    plain = dense([([[1.0, 0.5], [0.0, 1.0]], None), ([[1.0, 1.0]], [-0.5]), ([[1.0]], None)])
    assert verify(plain, parse_vnnlib(text), whole=True).fragile == 0


# -- linear regions


def test_a_small_kink_beside_a_large_slope_parts_linear_regions() -> None:
    # kinks of 1e12 at 0, of 1e-12 at 1/2 and of 1 at -1/2: whole maps are equal but for their rounding on either side of 1/2
    net = dense([([[1e12], [1e-12], [1.0]], [0.0, -5e-13, 0.5]), ([[1.0, 1.0, 1.0]], None)])
    assert subdivide(net, Box([-1.0], [1.0])).linear_regions().count == 4


def test_large_kinks_that_cancel_part_none() -> None:
    # 1e12 (relu(x) - relu(-x)) is linear; relu(x - 1/2) - relu(x - 1/2) / 3 * 3 is nothing but rounding
    net = dense([([[1e12], [-1e12], [1.0], [1.0 / 3.0]], [0.0, 0.0, -0.5, -0.5 / 3.0]), ([[1.0, -1.0, 1.0, -3.0]], None)])
    found = subdivide(net, Box([-1.0], [1.0]))
    assert len(found) == 3
    assert found.linear_regions().count == 1


def test_a_small_kink_behind_a_second_layer_parts_linear_regions_of_the_plane() -> None:
    # relu(u) of 1e9, relu(v) of 1e-9, added up and switched on by a third unit: quadrants of u, v, cut where their sum is 1e-9
    net = dense([([[1e9, 0.0], [0.0, 1e-9]], None), ([[1.0, 1.0], [0.0, 1.0]], [0.0, -5e-10]), ([[1.0, 1.0]], None)])
    found = subdivide(net, Box([-1.0, -1.0], [1.0, 1.0]))
    assert found.linear_regions().count == len(found) == 6


def test_a_kink_of_a_billionth_of_what_it_is_made_of_is_fragile() -> None:
    net = dense([([[1.0], [1.0]], None), ([[1.0, -1.0 + 1e-11]], None)])
    found = subdivide(net, Box([-1.0], [1.0])).linear_regions()
    assert found.fragile == 1


# -- kernels on cells of all scales


KERNELS: dict[str, tuple[list[tuple[list[list[float]], None]], list[float], list[float]]] = {
    "two halves": (
        [([[0.5875906348228455, 0.8461564183235168], [-1.595383882522583, -1.0]], None), ([[1.0, 1.0]], None), ([[1.0]], None)],
        [-1.0, -1.0],
        [1.0, 1.0],
    ),
    "two layers": (
        [
            ([[1.0, 0.0], [1.0, -2.0]], None),
            ([[2.0, -3.0], [-2.0, 2.0]], None),
            ([[1.0, 1.0]], None),
            ([[1.0]], None),
        ],
        [-1.0, -3.0],
        [3.0, 2.0],
    ),
    "in space": (
        [
            ([[1.0, 0.0, 1.0], [1.0, 1.0, -1.3562332010274696]], None),
            ([[1.0, 1.0]], None),
            ([[1.0]], None),
            ([[1.0]], None),
        ],
        [-1.0, -2.0, -3.0],
        [3.0, 2.0, 3.0],
    ),
    "thirds": (
        [([[0.1, 0.7], [-0.3, 1.0 / 3.0], [0.9, -0.2]], None), ([[1.0, 1.0, 0.1]], None), ([[1.0 / 3.0]], None)],
        [-0.7, -0.9],
        [1.1, 0.3],
    ),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("k", [-60, -9, 0, 7, 60])
def test_kernels_hold_every_cell_on_which_the_network_is_0_at_all_scales(name: str, k: int) -> None:
    layers, low, high = KERNELS[name]
    scale = 2.0**k
    net, domain = dense(layers), Box([v * scale for v in low], [v * scale for v in high])
    found, every = preimage(net, 0.0, domain), subdivide(net, domain)
    maps = every.local_maps()
    zero = ((maps.weight == 0).flatten(1).all(1) & (maps.offset == 0).flatten(1).all(1)).numpy()
    truth = float(every.volumes[zero].sum())
    assert truth > 0
    assert math.isclose(found.volume, truth, rel_tol=1e-12)


def volumes(net: Network, domain: Box) -> Counter[float]:
    """Return the shares of the cells in the domain, rounded."""
    share = subdivide(net, domain).volumes / domain.volume
    return Counter(np.round(share, 9).tolist())


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("e", [0, 3, 5, 6, 8, 40])
def test_shares_of_a_box_do_not_depend_on_the_units_of_its_sides(dim: int, e: int) -> None:
    # relu(u0 + u1 (+ u2)) and relu(u0 - 1/2) with u = x / S on |x| <= S; in the plane the shares are 9, 7, 15 and 1 of 32
    sides = np.array([10.0**-e, 10.0**e, 1.0][:dim])
    plain = dense([(np.stack([np.ones(dim), np.eye(dim)[0]]), [0.0, -0.5]), (np.eye(2), None)])
    net = dense([(np.stack([np.ones(dim) / sides, np.eye(dim)[0] / sides[0]]), [0.0, -0.5]), (np.eye(2), None)])
    domain = Box(torch.from_numpy(-sides), torch.from_numpy(sides))
    assert volumes(net, domain) == volumes(plain, Box([-1.0] * dim, [1.0] * dim))
    if dim == 2:
        assert volumes(net, domain) == Counter([9 / 32, 7 / 32, 15 / 32, 1 / 32])
    found = preimage(net, OutputSet.parse(["y1 >= 0.25"], 2), domain)
    assert found.fraction == pytest.approx(0.125, rel=1e-9)
    assert subdivide(net, domain).euler_characteristic() == 1


def test_a_doubt_at_a_vertex_that_no_cell_has_any_more_parts_no_chunk() -> None:
    # nine integer planes in three windows: cells are clipped in turn, and leave vertices behind
    weight = [[-2, 1, 2], [2, 3, 2], [3, -3, -3], [3, 1, 3], [-3, 1, 3], [-3, -3, -2], [-2, 0, -2], [-3, 1, 2], [-2, 2, 3]]
    steps = [
        Dense(0, [[float(v) for v in row] for row in weight], [1.0, -1.0, 2.0, 3.0, 3.0, 1.0, -2.0, 1.0, 3.0]),
        Winner(1, 3, 3, True),
        Dense(2, [[0.0, -1.0, -1.0], [1.0, 1.0, -3.0], [-3.0, 0.0, -3.0]], [0.0, 0.0, 1.0]),
    ]
    net, domain = network_of(steps, 3), Box([0.0, 0.0, -2.0], [1.0, 3.0, -1.0])
    shares = [preimage(net, Argmax(k), domain).volume for k in range(3)]
    assert math.isclose(sum(shares), 3.0, rel_tol=1e-12)
