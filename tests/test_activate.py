"""Activation: linear programs against samples and multipliers, small networks against brute force, bounds against both."""

from __future__ import annotations

import itertools
import math
import os

import pytest
import torch
from torch import Tensor, nn

from polylens import Box, Plane, Polytope, Segment, activate, dense, load, region, zoo
from polylens._activate.box_bounds import most
from polylens.errors import InputError, SmoothError
from polylens.network import Network

DATA = os.environ.get("POLYLENS_DATA")
CLOSE = 1e-9  # of values of size 1 to 100: what a linear program's proof may leave


def net_of(*sizes: int, seed: int = 0) -> Network:
    random = torch.Generator().manual_seed(seed)
    draw = [torch.randn(m, n, generator=random, dtype=torch.float64) for n, m in itertools.pairwise(sizes)]
    return dense([(w, torch.randn(len(w), generator=random, dtype=torch.float64)) for w in draw])


def grid(low: float, high: float, dim: int, count: int) -> Tensor:
    return torch.cartesian_prod(*[torch.linspace(low, high, count, dtype=torch.float64)] * dim).reshape(-1, dim)


# -- in a region


@pytest.mark.parametrize("seed", range(4))
def test_nothing_in_the_region_gives_more_than_its_best_input(seed: int) -> None:
    net, box = net_of(5, 12, 8, 3, seed=seed), Box([-1.0] * 5, [1.0] * 5)
    x = torch.rand(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    found = activate(net, 1, x=x, domain=box, search="region")
    here = region(net, x, domain=Polytope.box([-1.0] * 5, [1.0] * 5)).polytope
    drawn = x + torch.randn(20_000, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.3
    inside = drawn[here.contains(drawn)]
    assert len(inside) > 10
    assert net(inside)[:, 1].max() <= found.value + CLOSE
    assert here.contains(found.point, tol=1e-8)
    assert net(found.point)[1].item() == pytest.approx(found.value, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_multipliers_prove_the_maximum_of_the_region(seed: int) -> None:
    net = net_of(5, 12, 8, 3, seed=seed)
    found = activate(net, 0, x=torch.zeros(5, dtype=torch.float64), domain=Box([-1.0] * 5, [1.0] * 5), search="region")
    assert found.region is not None and found.multipliers is not None and found.gradient is not None  # noqa: PT018
    p, y = found.region.polytope, found.multipliers
    assert (y >= 0).all()
    assert (p.matrix.T @ y - found.gradient).abs().max() < CLOSE * found.gradient.abs().max()
    assert (p.bound @ y + found.region.map.offset[0]).item() == pytest.approx(found.upper, abs=1e-9)
    assert found.upper == pytest.approx(found.value, abs=CLOSE)
    assert found.proof in ("region", "local", "global")


def test_a_region_without_an_end_gives_a_ray() -> None:
    net = net_of(3, 6, 1, seed=2)
    for seed in range(8):
        x = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10
        found = activate(net, 0, x=x, search="region")
        if found.proof == "unbounded":
            assert found.ray is not None
            values = net(found.point + torch.tensor([0.0, 1.0, 10.0, 100.0])[:, None] * found.ray)[:, 0].diff()
            assert (values > 0).all()
            assert found.value == math.inf == found.bound
            return
    pytest.fail("no region of this network is unbounded upwards")


# -- over a domain


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(1, 9, 6, 1), (2, 8, 6, 2), (3, 6, 5, 1)])
def test_the_maximum_over_all_cells_is_that_of_brute_force(sizes: tuple[int, ...], seed: int) -> None:
    net, dim = net_of(*sizes, seed=seed), sizes[0]
    found = activate(net, 0, domain=Box([-1.0] * dim, [1.0] * dim), search="exact")
    points = grid(-1.0, 1.0, dim, {1: 20_001, 2: 401, 3: 61}[dim])
    best = net(points)[:, 0].max().item()
    slope = 2 / {1: 20_000, 2: 400, 3: 60}[dim] * dim * 60  # half a step in every entry, times a slope that is not met
    assert best <= found.value + 1e-12
    assert found.value <= best + slope
    assert found.proof == "global"
    assert found.gap == 0.0
    fine = found.point + 1e-3 * torch.randn(2000, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert net(fine.clamp(-1, 1))[:, 0].max() <= found.value + 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_a_climb_never_falls_and_what_it_calls_a_local_maximum_is_one(seed: int) -> None:
    net = net_of(2, 12, 10, 1, seed=seed)
    box = Box([-1.0] * 2, [1.0] * 2)
    found = activate(net, 0, x=[0.1, 0.0], domain=box, starts=2, steps=5, seed=seed)
    assert all(b > a for a, b in itertools.pairwise(found.values))
    assert found.proof in ("local", "global")
    near = found.point + 1e-4 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert net(near.clamp(-1, 1))[:, 0].max() <= found.value + CLOSE
    assert found.value <= activate(net, 0, domain=box, search="exact").value + CLOSE


def test_a_climb_finds_what_an_ascent_finds_and_more() -> None:
    net, box = zoo.digits(), Box([0.0] * 64, [1.0] * 64)
    for unit in (0, 3):
        climbed, ascended = activate(net, unit, domain=box), activate(net, unit, domain=box, search="ascent")
        assert climbed.value >= ascended.value - CLOSE
        assert climbed.value <= climbed.bound
        assert climbed.proof in ("region", "local")
    assert net.double()(climbed.point).argmax() == 3


def test_an_ascent_that_meets_the_bound_has_the_maximum() -> None:
    found = activate(dense([([[1.0, -2.0]], [0.5])]), 0, domain=Box([-1.0] * 2, [1.0] * 2), search="ascent")
    assert found.value == pytest.approx(3.5, abs=1e-12)
    assert found.proof == "global"


def test_a_unit_that_nothing_wakes_is_said_to_be_at_its_maximum() -> None:
    net = dense([([[1.0], [-1.0]], [-5.0, 0.0]), ([[1.0, 0.0]], None)])
    found = activate(net, 0, layer=0, domain=Box([-1.0], [1.0]))
    assert (found.value, found.proof) == (0.0, "global")
    silent = activate(net, 0, layer=0, at="pre", domain=Box([-1.0], [1.0]))
    assert silent.value == pytest.approx(-4.0)


def test_planes_segments_and_polytopes_are_domains_too() -> None:
    net = net_of(4, 10, 6, 2, seed=1)
    corners = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plane = Plane.through(*corners)
    over = activate(net, 0, domain=plane, search="exact")
    u = torch.rand(5000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low, high = plane.corners.amin(0), plane.corners.amax(0)
    inside = torch.as_tensor(plane.embed(low + u * (high - low)))
    assert net(inside)[:, 0].max() <= over.value + CLOSE
    along = activate(net, 0, domain=Segment(corners[0], corners[1]), search="exact")
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    values = net(corners[0] + t * (corners[1] - corners[0]))[:, 0]
    assert values.max() <= along.value + 1e-12
    simplex = Polytope.simplex(4)
    best = activate(net, 0, domain=simplex, search="exact")
    climbed = activate(net, 0, domain=simplex, x=[0.1] * 4)
    assert climbed.value <= best.value + CLOSE
    assert simplex.contains(climbed.point, tol=1e-8)
    assert best.proof == "global"


def test_entries_of_equal_sides_stay_where_they_are() -> None:
    net = net_of(3, 8, 1, seed=4)
    found = activate(net, 0, domain=Box([-1.0, 0.25, -1.0], [1.0, 0.25, 1.0]))
    assert found.point[1] == 0.25
    assert net(found.point).item() == pytest.approx(found.value)


# -- bounds


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = nn.functional.max_pool2d(x + nn.functional.leaky_relu(self.second(x), 0.1), 2)
        return self.last(nn.functional.hardtanh(x).flatten(1))


@pytest.mark.parametrize("gate", ["relu", "abs", "clip", "leaky_relu"])
def test_no_input_of_a_box_exceeds_its_bound(gate: str) -> None:
    random = torch.Generator().manual_seed(3)
    layers = [torch.randn(m, n, generator=random, dtype=torch.float64) for n, m in ((3, 8), (8, 8), (8, 1))]
    gates = {"relu": nn.ReLU(), "abs": Absolute(), "clip": nn.Hardtanh(-0.5, 1.0), "leaky_relu": nn.LeakyReLU(0.2)}
    parts: list[nn.Module] = []
    for weight in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0]).double()
        linear.weight.data = weight
        parts += [linear, gates[gate]]
    net = load(nn.Sequential(*parts[:-1]).eval())
    for size in (0.01, 0.3, 2.0):
        side = torch.full((3,), size, dtype=torch.float64)
        values = net((2 * torch.rand(20_000, 3, generator=random, dtype=torch.float64) - 1) * size)
        bound = most(net, -side, side)
        assert values.max() <= bound
        assert bound - values.max() <= 60 * size  # what is left grows with the box


class Absolute(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


def test_bounds_go_through_pooling_and_residual_branches() -> None:
    x = torch.rand(4000, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = load(Mixed().double().eval(), example=x[:2])
    assert net(x).max() <= most(net, torch.zeros(1, 8, 8, dtype=torch.float64), torch.ones(1, 8, 8, dtype=torch.float64))


# -- ascents


def test_priors_make_inputs_shorter_and_smoother() -> None:
    net, box = zoo.digits(), Box([0.0] * 64, [1.0] * 64)
    plain = activate(net, 3, domain=box, search="ascent")
    short = activate(net, 3, domain=box, search="ascent", prior="norm", weight=200.0)
    smooth = activate(net, 3, domain=box, search="ascent", prior="tv", weight=200.0)
    assert short.point.norm() < plain.point.norm()

    def variation(x: Tensor) -> float:
        return float(x.reshape(8, 8).diff(dim=0).abs().sum() + x.reshape(8, 8).diff(dim=1).abs().sum())

    assert variation(smooth.point) < 0.8 * variation(plain.point)
    assert max(short.value, smooth.value) <= plain.value


def test_smooth_networks_are_ascended_and_nothing_is_proven() -> None:
    net = load(nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)).double().eval())
    found = activate(net, 0, domain=Box([-2.0] * 2, [2.0] * 2), search="ascent")
    assert net(grid(-2, 2, 2, 201)).max() <= found.value + 1e-3
    assert (found.proof, found.bound) == ("none", math.inf)
    assert "no bound is known" in found.summary()
    with pytest.raises(SmoothError, match="use search='ascent'"):
        activate(net, 0, domain=Box([-2.0] * 2, [2.0] * 2))


def test_an_answer_is_told_in_plain_types() -> None:
    found = activate(net_of(2, 6, 1), 0, domain=Box([-1.0] * 2, [1.0] * 2), search="exact")
    plain = found.to_dict()
    assert plain["proof"] == "global"
    assert plain["cells"] > 1
    assert "cells looked at" in found.summary()
    ray = activate(net_of(2, 1), 0, x=[0.0, 0.0])
    assert ray.to_dict()["bound"] is None
    assert "without end" in ray.summary()


def test_what_cannot_be_searched_is_refused() -> None:
    net, box = net_of(2, 6, 1), Box([-1.0] * 2, [1.0] * 2)
    for wrong, words in [
        ({"search": "best"}, "search: expected"),
        ({"prior": "odd", "search": "ascent"}, "prior: expected"),
        ({"prior": "norm"}, "prior: expected none but"),
        ({"weight": -1.0}, "weight: expected"),
        ({"search": "region"}, "x: expected"),
        ({"x": [3.0, 0.0]}, "outside"),
        ({"starts": 0}, "starts: expected"),
    ]:
        with pytest.raises(InputError, match=words):
            activate(net, 0, domain=box, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unit: expected a position from 0 to 0"):
        activate(net, 1, domain=box)
    with pytest.raises(InputError, match="ascent: expected a bounded domain"):
        activate(net, 0, search="ascent")
    with pytest.raises(InputError, match="exact: expected a bounded domain"):
        activate(net, 0, search="exact")
    jump = load(nn.Sequential(nn.Linear(2, 1), nn.Threshold(0.5, 0.0)).double().eval())
    with pytest.raises(InputError, match="gates that do not jump"):
        activate(jump, 0, domain=box, search="exact")


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="needs the networks of POLYLENS_DATA")
def test_climbs_on_a_public_network_are_certified() -> None:
    net = load(f"{DATA}/nets/mnist-net_256x2.onnx")
    box = Box(torch.zeros(784, 1), torch.ones(784, 1))
    found = activate(net, 3, domain=box, limit=20)
    assert found.upper == pytest.approx(found.value, abs=1e-6)
    assert found.value <= found.bound


def test_a_layer_is_called_by_its_name_where_its_position_was_given() -> None:
    assert activate(zoo.digits(), 3, layer=0, at="pre", domain=Box([0.0] * 64, [1.0] * 64)).layer == "input of relu1"
