"""Regions of every registered network: what lies inside, what lies across each facet, and the way back."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch

from polylens import (
    Network,
    Polytope,
    Region,
    affine_maps,
    dense,
    facets,
    first_boundary,
    load,
    nearest_boundary,
    neighbour,
    patterns,
    region,
    zoo,
)
from polylens.errors import GeometryError, InputError, ShapeError, SmoothError
from polylens.facets import Facets
from polylens.geometry import sample
from registry import Case
from test_laws import EXACT, each, loaded

piecewise_linear = each(EXACT)
# where a gate jumps, what lies behind a facet depends on where one crosses it, so there is no one neighbour
continuous = each([case for case in EXACT if case.name not in {"threshold", "shrinks"}])


@cache
def boxed(case: Case) -> tuple[Network, Region, Facets]:
    """Return a region within a box and its facets."""
    _, net = loaded(case)
    x = case.inputs(1, torch.float64, seed=8)[0] * 0.5
    box = Polytope.box([-3.0] * x.numel(), [3.0] * x.numel())
    found = region(net, x, domain=box)
    return net, found, facets(found.polytope)


@piecewise_linear
def test_inputs_drawn_from_a_region_have_its_pattern_and_its_map(case: Case) -> None:
    net, here, _ = boxed(case)
    points = sample(here.polytope, 20, seed=0).points.reshape(-1, *net.input_shape)
    assert bool(here.pattern.matches(patterns(net, points)).all())
    f = net(points).reshape(20, *net.output_shape)
    assert float((here.map(points) - f).abs().max()) <= 1e-9 * (1 + float(f.abs().max()))
    assert bool(here.polytope.contains(here.point.reshape(-1), 1e-12))


@piecewise_linear
def test_a_region_knows_its_nearest_boundary_as_the_batch_of_points_does(case: Case) -> None:
    net, here, _ = boxed(case)
    near = nearest_boundary(net, here.point)
    distance, unit = here.nearest
    if unit is None:
        assert (distance, here.nearest_point) == (torch.inf, None)
        assert near.distance.tolist() == [torch.inf]
        return
    assert distance == pytest.approx(float(near.distance), rel=1e-9, abs=1e-12)
    assert torch.allclose(here.nearest_point, here.point + distance * near.normal[0], atol=1e-9)
    row = next(r for r in range(len(here.polytope)) if here.polytope.origins[r] == unit)
    assert float(here.polytope.slack(here.nearest_point.reshape(-1))[row]) == pytest.approx(0.0, abs=1e-9)


@continuous
def test_across_a_facet_exactly_its_units_change(case: Case) -> None:
    net, here, found = boxed(case)
    assert found.complete
    for k in range(min(found.num_facets, 6)):
        rows = torch.nonzero(found.facet_of_row == k).reshape(-1)
        own = {here.polytope.origins[int(r)][:2] for r in rows if here.polytope.origins[int(r)].name != "domain"}
        if not own:
            continue
        point, normal = found.witnesses[k], found.normals[k]
        room = float(here.polytope.select(found.facet_of_row != k).distance_to_boundary(point).distance)
        beyond = (point + min(1e-6, room / 4) * normal).reshape(net.input_shape)
        there = region(net, beyond)
        changed = {
            (layer.name, int(u))
            for layer in here.pattern.layers
            for u in (there.pattern.pieces(layer.name) != here.pattern.pieces(layer.name)).reshape(-1).nonzero().reshape(-1)
        }
        assert changed & own
        for unit in own - changed:  # its hyperplane holds the facet, but behind it the unit is 0 everywhere
            assert _rests(there, unit)
        for unit in changed - own:  # a later unit that is 0 everywhere on this side and wakes behind the facet
            assert _rests(here, unit)


def _rests(at: Region, unit: tuple[str, int]) -> bool:
    """Say whether some wall of a unit is met all over a region: a row of zeros with no slack."""
    origins = at.polytope.origins
    rows = [r for r in range(len(at.polytope)) if origins[r][:2] == unit]
    return any(float(at.polytope.matrix[r].norm()) + abs(float(at.polytope.bound[r])) <= 1e-12 for r in rows)


def returns(here: Region, found: Facets, k: int) -> bool:
    """Say whether crossing a facet leads to another region, and crossing the same facet of that one leads back."""
    there = neighbour(here, k, found)
    beyond = facets(there.polytope)
    gap = (beyond.normals + found.normals[k]).norm(dim=1) + (there.polytope.slack(found.witnesses[k]).abs().min())
    back = int(gap.argmin())
    same = beyond.complete and float(gap[back]) < 1e-6
    return same and there.pattern != here.pattern and neighbour(there, back, beyond).pattern == here.pattern


def inner(here: Region, found: Facets) -> list[int]:
    """Return the facets that are not sides of the domain."""
    drawn = here.polytope.origins.layer >= 0
    return [k for k in range(found.num_facets) if bool(drawn[found.facet_of_row == k].any())]


@continuous
def test_crossing_a_facet_and_back_returns(case: Case) -> None:
    _, here, found = boxed(case)
    within = inner(here, found)
    assert all(returns(here, found, k) for k in within[:2])
    for k in set(range(min(found.num_facets, 4))) - set(within):
        with pytest.raises(GeometryError, match="side of the domain"):
            neighbour(here, k, found)


@pytest.mark.parametrize("name", ["cartpole.onnx", "tll_8_0_0.onnx", "test_small.onnx"])
def test_every_facet_of_a_real_network_leads_there_and_back(name: str, data: Path) -> None:
    net = load(data / "nets" / name)
    size = math.prod(net.input_shape)
    x = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.5
    here = region(net, x, domain=Polytope.box([-1.0] * size, [1.0] * size))
    found = facets(here)
    assert found.complete
    assert [k for k in inner(here, found) if not returns(here, found, k)] == []


def test_duplicate_units_flip_together() -> None:
    net = dense([([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [0.0] * 4), ([[1.0] * 4], None)])
    here = region(net, torch.tensor([1.0, 1.0]))
    found = facets(here.polytope)
    assert found.num_facets == 2
    walls = [neighbour(here, k, found).pattern.pieces().int().tolist()[0] for k in range(2)]
    assert sorted(walls) == [[0, 0, 1, 1], [1, 1, 0, 0]]


def test_units_behind_a_dead_one_flip_with_it() -> None:
    net = dense([([[1.0]], [0.0]), ([[1.0], [-1.0]], [0.0, 0.5]), ([[1.0, 1.0]], None)])
    here = region(net, torch.tensor([-1.0]))  # the first unit is off, so the first of the second layer is 0 for all x here
    found = facets(here.polytope)
    assert found.num_facets == 1
    there = neighbour(here, 0, found)
    assert [there.pattern.pieces(i).int().tolist() for i in range(2)] == [[[1]], [[1, 1]]]
    assert there.map.weight.tolist() == [[0.0]]


def cancelling() -> Network:
    """Return a network whose last units subtract two equal branches: its pre-activations are rounding, everywhere."""
    generator = torch.Generator().manual_seed(0)
    first, second, third = (torch.randn(*shape, generator=generator).double().sin() for shape in ((40, 3), (4, 40), (5, 4)))
    order = torch.randperm(40, generator=generator)
    shuffled = torch.cat([torch.eye(40), torch.eye(40)[order]])  # sums in another order round differently
    apart = torch.block_diag(second, second[:, order])
    layers = [(first, 0.1 * torch.ones(40)), (shuffled, None), (apart, 0.2 * torch.ones(8))]
    return dense([*layers, (torch.cat([third, -third], 1), None), (torch.ones(2, 5), None)])


def test_units_whose_terms_cancel_draw_no_hyperplanes() -> None:
    net = cancelling()
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert any(0 < float(affine_maps(net, x)["relu4"].weight.abs().max()) < 1e-12 for x in points)
    for x in points:
        here = region(net, x)
        assert bool(here.polytope.contains(here.point, 1e-12))
        found = facets(here)
        assert found.complete
        assert "relu4" not in {here.polytope.origins[g[0]].name for g in found.groups}
        assert "relu4" not in {u.name for group in first_boundary(net, x, -x, count=6).units for u in group}
    near = nearest_boundary(net, points)
    assert "relu4" not in {near.names[k] for k in near.layer.tolist()}


def test_a_unit_that_cancels_to_rounding_leaves_the_region_its_own_point() -> None:
    layers = [([[0.1, 0.7], [0.3, 0.9], [0.4, 1.6]], [0.1, 0.2, 0.3]), ([[1.0, 1.0, -1.0]], [0.0]), ([[1.0]], None)]
    here = region(dense(layers), torch.tensor([0.7, 0.3]))
    assert here.polytope.matrix[3].tolist() == [0, 0]
    assert float(here.polytope.bound[3]) == 0
    assert facets(here).num_facets == 2


def test_the_regions_of_the_absolute_value_are_half_lines() -> None:
    net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    here = region(net, torch.tensor([2.0]))
    assert facets(here.polytope).num_facets == 1
    assert here.num_active == 1
    assert here.to_dict()["boundary_distance"] == 2.0
    assert neighbour(here, 0).map.weight.tolist() == [[-1.0]]


def test_chosen_layers_give_rows_of_their_own_units_only() -> None:
    net = zoo.digits()
    x = zoo.digits_data("test").inputs[0]
    all_rows, first = region(net, x), region(net, x, layers=["relu1"])
    assert set(first.polytope.origins.names) == {"relu1"}
    assert len(first.polytope) == 64
    assert len(all_rows.polytope) == 96


def test_only_a_region_of_all_layers_has_neighbours() -> None:
    net, x = zoo.digits(), zoo.digits_data("test").inputs[0]
    with pytest.raises(InputError, match="rows of all layers"):
        neighbour(region(net, x, layers=["relu2"]), 0)
    assert neighbour(region(net, x, layers=["relu2", "relu1"]), 0).pattern != patterns(net.double(), x)


def test_a_domain_holds_points_up_to_the_rounding_of_its_rows() -> None:
    net = dense([([[1.0, 2.0]], [0.5]), ([[1.0]], None)])
    far = Polytope.box([-1e9, 1e9 / 3], [1e9, 1e9 / 3])
    assert len(region(net, torch.tensor([0.0, 1e9 / 3 + 1e-7], dtype=torch.float64), domain=far).polytope) == 5


def test_a_region_without_gates_is_the_whole_domain() -> None:
    net = dense([([[1.0, 2.0]], None)])
    assert len(region(net, torch.zeros(2)).polytope) == 0
    box = Polytope.box([0.0, 0.0], [1.0, 1.0])
    assert len(region(net, torch.zeros(2), domain=box).polytope) == 4


def test_what_has_no_region_is_refused() -> None:
    net = dense([([[1.0, 2.0]], [0.5]), ([[1.0]], None)])
    box = Polytope.box([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(InputError, match="inside the domain"):
        region(net, torch.tensor([2.0, 0.0]), domain=box)
    with pytest.raises(ShapeError, match="got a batch"):
        region(net, torch.zeros(3, 2))
    with pytest.raises(InputError, match=r"some of \['relu1'\]"):
        region(net, torch.zeros(2), layers=["relu7"])
    with pytest.raises(InputError, match="facet: expected 0 to 0; got 1"):
        neighbour(region(net, torch.zeros(2)), 1)
    for domain, words in (((0, 1), "expected a Polytope"), (Polytope.simplex(3), "over the 2 flattened inputs")):
        with pytest.raises(InputError, match=f"domain: .*{words}"):
            region(net, torch.zeros(2), domain=domain)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"write \['relu1'\]"):
        region(net, torch.zeros(2), layers="relu1")
    with pytest.raises(InputError, match="network: expected a Network of polylens; got ReLU"):
        region(torch.nn.ReLU(), torch.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="expected the facets of this region, of 1 rows; got those of 4"):
        neighbour(region(net, torch.zeros(2)), 0, facets(box))
    with pytest.raises(SmoothError, match="tanh1"):
        region(dense([([[1.0]], None), ([[1.0]], None)], "tanh"), torch.zeros(1))
