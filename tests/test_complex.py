"""Complexes held against closed forms, counts by hand, dense sampling, and the networks themselves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from polylens import (
    Box,
    Complex,
    Network,
    Plane,
    Polygon,
    Polytope,
    Segment,
    Slice,
    WholeSpace,
    affine_map,
    dense,
    load,
    load_complex,
    patterns,
    subdivide,
)
from polylens.domain import Domain
from polylens.errors import FileError, GeometryError, InputError, ShapeError
from strategies import Layer, degenerate_network

matplotlib.use("Agg")
CUBE: dict[int, Box] = {d: Box([-1.0] * d, [1.0] * d) for d in (1, 2, 3, 4)}


def random_network(*sizes: int, seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1) / math.sqrt(shape[-1])

    return dense([(draw(m, n), 0.5 * draw(m)) for n, m in itertools.pairwise(sizes)])


def spread(domain: Box, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return domain.low + (domain.high - domain.low) * torch.rand(count, domain.dim, generator=generator, dtype=torch.float64)


def value_on(found: Complex, cells: np.ndarray, u: Tensor) -> Tensor:
    """Return what the maps of cells say at coordinates, one for each."""
    maps = found.local_maps(cells)
    return (maps.weight @ u[:, :, None])[..., 0] + maps.offset


def integers(*shape: int, seed: int, low: int = -2, high: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, size=shape).astype(float)


def pooled(dim: int, seed: int) -> Network:
    """Return a network with a max-pool over pairs of ReLUs with integer weights: ties everywhere."""
    weight, bias = integers(6, dim, seed=seed), integers(6, seed=seed + 1)
    first, last = nn.Linear(dim, 6), nn.Linear(3, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor(weight))
        first.bias.copy_(torch.tensor(bias))
    module = nn.Sequential(first, nn.ReLU(), nn.Unflatten(1, (1, 6)), nn.MaxPool1d(2), nn.Flatten(), last)
    return load(module.double().eval(), torch.zeros(1, dim, dtype=torch.float64))


def degenerate(name: str, dim: int, seed: int) -> Network:
    rng, w = np.random.default_rng(seed), np.random.default_rng(seed + 50).normal(size=(3, dim))
    last = (integers(1, 4, seed=seed + 9), None)
    if name == "through the origin":
        return dense([(integers(5, dim, seed=seed), None), (integers(4, 5, seed=seed + 1), None), last])
    if name == "integer":
        second = (integers(4, 5, seed=seed + 2), integers(4, seed=seed + 3))
        return dense([(integers(5, dim, seed=seed), integers(5, seed=seed + 1)), second, last])
    if name == "duplicated and negated":
        b = rng.normal(size=3)
        first = (np.concatenate([w, w, -w, 2 * w]), np.concatenate([b, b, -b, 2 * b]) / 4)
        return dense([first, (integers(4, 12, seed=seed), integers(4, seed=seed + 1)), last])
    if name == "through one vertex":
        w, p = rng.normal(size=(5, dim)), rng.uniform(-0.5, 0.5, size=dim)
        return dense([(w, -w @ p), (rng.normal(size=(4, 5)), None), last])
    if name == "hardtanh":
        second = (integers(4, 4, seed=seed + 2), integers(4, seed=seed + 3) / 2)
        return dense([(integers(4, dim, seed=seed), integers(4, seed=seed + 1)), second, last], "hardtanh")
    return pooled(dim, seed)


NAMES = ["through the origin", "integer", "duplicated and negated", "through one vertex", "hardtanh", "max-pool"]


# -- all laws at once, on networks where vertices coincide


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dim", [1, 2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_box_is_covered_face_to_face_by_degenerate_networks_too(name: str, dim: int, seed: int) -> None:
    net = degenerate(name, dim, seed)
    found = subdivide(net, CUBE[dim])
    assert found.volumes.sum() == pytest.approx(2.0**dim, rel=1e-9)  # as the issue asks
    assert found.euler_characteristic() == 1
    assert found.num_unmatched == 0
    assert found.face_numbers[dim] == found.num_cells
    assert found.face_numbers[dim - 1] == found.num_facets if dim > 1 else True
    x = torch.cat([spread(CUBE[dim], 100, seed), torch.tensor(integers(100, dim, seed=seed, low=-4, high=5) / 4)])
    cells = found.locate(x)
    assert (cells >= 0).all()
    assert torch.allclose(value_on(found, cells, x), net.double()(x).reshape(len(x), -1), atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_space_is_covered_too(name: str, dim: int, seed: int) -> None:
    net = degenerate(name, dim, seed)
    found = subdivide(net, WholeSpace(dim))
    assert found.euler_characteristic() == (-1) ** dim
    assert found.num_unmatched == 0
    x = 5 * spread(CUBE[dim], 100, seed)
    cells = found.locate(x)
    assert (cells >= 0).all()
    y = net.double()(x).reshape(len(x), -1)
    assert torch.allclose(value_on(found, cells, x), y, atol=1e-9)
    assert found.patterns[torch.from_numpy(cells)] == patterns(net.double(), x)
    assert found.num_regions == len(set(found.patterns))


@settings(max_examples=60, deadline=None)
@given(degenerate_network())
def test_laws_hold_for_drawn_networks(layers: list[Layer]) -> None:
    net, dim = dense(layers).double(), len(layers[0][0][0])
    found = subdivide(net, CUBE[dim])
    assert found.volumes.sum() == pytest.approx(2.0**dim, rel=1e-9)
    assert found.euler_characteristic() == 1
    assert found.num_unmatched == 0
    x = torch.tensor(integers(60, dim, seed=1, low=-4, high=5) / 4)
    cells = found.locate(x)
    assert (cells >= 0).all()
    assert torch.allclose(value_on(found, cells, x), net(x), atol=1e-10)
    assert 1 <= found.linear_regions().count <= found.num_regions


# -- random networks


@pytest.mark.parametrize("sizes", [(1, 20, 20, 2), (2, 24, 24, 3), (3, 12, 12, 1), (4, 8, 8, 2), (5, 7, 5, 1)])
def test_every_random_point_lies_in_one_cell_whose_map_is_the_network(sizes: tuple[int, ...]) -> None:
    net, domain = random_network(*sizes), Box([-1.0] * sizes[0], [1.0] * sizes[0])
    found, x = subdivide(net, domain), spread(domain, 2000)
    cells = found.locate(x)
    assert found.patterns[torch.from_numpy(cells)] == patterns(net, x)
    assert len(found.patterns.unique().patterns) == found.num_cells == found.num_regions
    assert torch.allclose(value_on(found, cells, x), net(x), atol=1e-12)
    for i in cells[:5]:
        assert torch.allclose(found.affine_map(int(i)).weight, found.cell(int(i)).map.weight)
    one = affine_map(net, x[0])
    assert torch.allclose(one.weight, found.affine_map(int(cells[0])).weight, atol=1e-13)


def test_a_middle_lies_in_its_own_cell() -> None:
    for domain in (Box([-1.0] * 3, [1.0] * 3), WholeSpace(3)):
        found = subdivide(random_network(3, 10, 8, 1), domain)
        assert (found.locate(found.middles) == np.arange(len(found))).all()


def test_parts_that_share_no_vertices_are_joined() -> None:
    found = subdivide(random_network(3, 40, 40, 1), CUBE[3])  # more cells than a part holds
    assert found.num_cells > 8192
    assert found.euler_characteristic() == 1
    assert found.num_unmatched == 0
    assert len(np.unique(np.round(found.vertices, 9), axis=0)) == found.num_vertices


def test_cells_are_views_with_their_vertices_once() -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], None), ([[1.0, 1.0, 1.0]], None)])
    found = subdivide(net, CUBE[2])
    assert len(found) == 6 == len(list(found))
    assert sorted(len(cell.vertices) for cell in found) == [3, 3, 3, 3, 4, 4]
    assert found[-1].volume == pytest.approx(found.volumes[5])
    assert (found.num_vertices, found.num_facets) == (9, 14)
    with pytest.raises(IndexError, match="cell 6 of 6"):
        found[6]


def test_a_cell_goes_by_an_integer_of_any_kind_and_by_nothing_else() -> None:
    found = subdivide(random_network(2, 6, 1), CUBE[2])
    assert found[np.int64(1)].index == found[torch.tensor(1)].index == 1
    for wrong in (slice(0, 2), 1.0, "a", None):
        with pytest.raises(InputError, match="cell: expected an integer, one cell at a time"):
            found[wrong]  # type: ignore[index]


# -- facets


def test_a_step_across_the_middle_of_a_facet_leads_from_one_cell_to_the_other() -> None:
    net = random_network(2, 16, 12, 1, seed=3)
    found = subdivide(net, CUBE[2])
    met = set[tuple[int, ...]]()
    for layer, unit in [(0, k) for k in range(16)] + [(1, k) for k in range(12)]:
        boundary = found.boundary_of(layer, unit)
        ends = found.points[boundary.vertex].reshape(-1, 2, 2)
        along = ends[:, 1] - ends[:, 0]
        step = 1e-6 * np.stack([along[:, 1], -along[:, 0]], 1)  # in parts of the facet's length, to stay clear of corners
        sides = np.stack([found.locate(ends.mean(1) + step), found.locate(ends.mean(1) - step)], 1)
        assert (np.sort(sides, axis=1) == np.sort(boundary.pairs, axis=1)).all()
        met |= {tuple(sorted(p)) for p in boundary.pairs.tolist()}
    assert met == {tuple(sorted(p)) for p in found.adjacency.tolist()}  # every facet is some unit's


def test_cells_that_a_short_step_leads_between_are_neighbours() -> None:
    found = subdivide(random_network(2, 16, 12, 1, seed=3), CUBE[2])
    pairs = {tuple(sorted(p)) for p in found.adjacency.tolist()}
    x = spread(CUBE[2], 400_000)
    y = (x + 2e-4 * torch.tensor([0.6, 0.8])).clamp(-1, 1)
    a, b = found.locate(x), found.locate(y)
    apart, seen = np.flatnonzero(a != b), 0
    along = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    for i in apart[:200]:  # those that meet no third cell on the way, unlike steps around a corner
        if set(found.locate(x[i] + along * (y[i] - x[i])).tolist()) == {a[i], b[i]}:
            assert tuple(sorted((a[i], b[i]))) in pairs
            seen += 1
    assert seen > 150


@pytest.mark.parametrize("dim", [2, 3])
def test_neighbours_share_the_facet_and_their_maps_agree_on_it(dim: int) -> None:
    found = subdivide(random_network(dim, 12, 10, 2), CUBE[dim])
    for layer, unit in ((0, 3), (1, 2)):
        boundary = found.boundary_of(layer, unit)
        for k, (i, j) in enumerate(boundary.pairs):
            corners = torch.tensor(found.points[boundary.vertex[boundary.start[k] : boundary.start[k + 1]]])
            assert len(corners) >= dim
            first, second = (value_on(found, np.full(len(corners), c), corners) for c in (i, j))
            assert torch.allclose(first, second, atol=1e-12)


def test_the_boundary_of_a_unit_is_where_its_sign_changes() -> None:
    net = random_network(2, 16, 12, 1, seed=3)
    found = subdivide(net, CUBE[2])
    boundary = found.boundary_of("relu2", 5)
    ends = found.points[boundary.vertex].reshape(-1, 2, 2)
    x = torch.tensor(ends.mean(1))
    before = affine_map(net, x, "relu2", at="pre")(x)[:, 5]
    assert len(ends) > 5
    assert before.abs().max() < 1e-12
    # its length, against the crossings of many lines (Cauchy and Crofton: lines of one direction see its shadow)
    t = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    sides = torch.stack([patterns(net, torch.stack([t, torch.full_like(t, v)], 1)).pieces("relu2")[:, 5] for v in t[50::100]])
    crossings = int((sides[:, 1:] != sides[:, :-1]).sum())
    shadow = np.abs(ends[:, 0, 1] - ends[:, 1, 1]).sum()
    assert crossings * 0.01 == pytest.approx(shadow, abs=0.05)


def test_a_unit_that_never_changes_has_no_boundary() -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0]], [0.0, -5.0]), ([[1.0, 1.0]], None)])
    found = subdivide(net, CUBE[2])
    assert len(found.boundary_of(0, 1).pairs) == 0
    assert found.boundary_of(0, 0).pairs.tolist() == [[0, 1]]
    with pytest.raises(InputError, match="unit: expected 0 to 1"):
        found.boundary_of(0, 2)
    with pytest.raises(InputError, match="layer"):
        found.boundary_of("conv9", 0)


def test_a_unit_goes_by_an_integer() -> None:
    found = subdivide(random_network(2, 6, 1), CUBE[2])
    assert (found.boundary_of(0, np.int64(3)).pairs == found.boundary_of(0, 3).pairs).all()
    for wrong in (1.5, "3", None, [1]):
        with pytest.raises(InputError, match="unit: expected an integer, 0 to 5 of layer relu"):
            found.boundary_of(0, wrong)  # type: ignore[arg-type]


def test_facets_of_the_domain_have_no_neighbour() -> None:
    found = subdivide(random_network(2, 9, 1), CUBE[2])
    outer = found.facets.partner < 0
    corners = found.mesh
    assert outer.sum() == np.count_nonzero(found.facets.bit < found.sides)
    assert corners.dim == 2


def test_a_network_that_jumps_has_cells_but_no_facets_in_common() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Threshold(0.5, 2.0), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    net = load(module.double().eval(), torch.zeros(1, 2, dtype=torch.float64))
    found = subdivide(net, CUBE[2])
    x = spread(CUBE[2], 200)
    assert torch.allclose(value_on(found, found.locate(x), x), net(x), atol=1e-12)
    for ask in (lambda: found.adjacency, found.linear_regions, found.euler_characteristic):
        with pytest.raises(GeometryError, match="jumps"):
            ask()


# -- linear regions


def test_linear_regions_by_hand() -> None:
    cross = [[1.0, 0.0], [0.0, 1.0]]
    assert subdivide(dense([(cross, None), ([[1.0, 1.0]], None)]), CUBE[2]).linear_regions().count == 4
    # the second unit goes nowhere: two halves
    assert subdivide(dense([(cross, None), ([[1.0, 0.0]], None)]), CUBE[2]).linear_regions().count == 2
    # x = relu(x) - relu(-x): no boundary is left
    assert subdivide(dense([([[1.0], [-1.0]], None), ([[1.0, -1.0]], None)]), CUBE[1]).linear_regions().count == 1
    # a pair that cancels, beside a unit that stays
    pair = [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]
    found = subdivide(dense([(pair, [0.25, 0.5, 0.0]), ([[2.0, -1.0, 1.0]], None)]), CUBE[2])
    assert (found.num_regions, found.linear_regions().count) == (4, 2)


def test_equal_maps_that_are_apart_are_two_linear_regions() -> None:
    # a hat: 0 on both sides of it
    hat = dense([([[1.0], [1.0], [1.0]], [0.5, 0.0, -0.5]), ([[1.0, -2.0, 1.0]], None)])
    found = subdivide(hat, CUBE[1])
    assert (found.num_regions, found.linear_regions().count) == (4, 4)
    labels = found.linear_regions().labels[found.locate(torch.tensor([[-0.9], [0.9]], dtype=torch.float64))]
    assert labels[0] != labels[1]


def test_units_that_are_dead_behind_others_part_no_linear_regions() -> None:
    # the second layer is dead where its one input is below 1, so that the output is constant there
    net = dense([([[1.0, 0.0], [0.0, 1.0]], None), ([[1.0, 1.0]], [-1.5]), ([[1.0]], None)])
    found = subdivide(net, CUBE[2])
    assert (found.num_regions, found.linear_regions().count) == (5, 2)


def test_walls_of_the_whole_space_part_no_linear_regions() -> None:
    net = random_network(2, 6, 5, 1, seed=2)
    found = subdivide(net, WholeSpace(2))
    assert found.num_cells > found.num_regions
    distinct = found.linear_regions()
    for p in found.patterns.unique().patterns:
        cells = torch.nonzero(found.patterns.matches(p)).reshape(-1)
        assert len(np.unique(distinct.labels[cells])) == 1
    assert distinct.count <= found.num_regions


@pytest.mark.parametrize(("lines", "dim"), [(4, 1), (5, 2), (6, 2), (5, 3)])
def test_hyperplanes_in_general_position_have_their_closed_form(lines: int, dim: int) -> None:
    found = subdivide(random_network(dim, lines, 1), WholeSpace(dim))
    assert found.num_regions == sum(math.comb(lines, k) for k in range(dim + 1))
    assert found.linear_regions().count == found.num_regions


def merged_one_by_one(found: Complex) -> int:
    """Return how many linear regions there are, by comparing the maps of all neighbours."""
    local = found.local_maps()
    whole = torch.cat([local.weight.flatten(1), local.offset.flatten(1)], 1)
    owner = list(range(len(found)))

    def root(i: int) -> int:
        while owner[i] != i:
            i = owner[i]
        return i

    for i, j in found.adjacency.tolist():
        if torch.allclose(whole[i], whole[j], rtol=0.0, atol=1e-12):
            owner[root(i)] = root(j)
    return len({root(i) for i in range(len(found))})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_no_pair_of_equal_maps_is_missed_by_the_look_along_one_direction(name: str, seed: int) -> None:
    for dim in (1, 2, 3):
        found = subdivide(degenerate(name, dim, seed), CUBE[dim])
        assert found.linear_regions().count == merged_one_by_one(found)


def test_kinks_along_the_axes_and_the_diagonals_all_part_linear_regions() -> None:
    # one unit each, whose boundary holds an axis or a diagonal
    for row in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0], [1e-9, 0.0], [1.0, -2.0]):
        assert subdivide(dense([([row], None), ([[1.0]], None)]), CUBE[2]).linear_regions().count == 2


class Residual(nn.Module):
    """A small residual network: convolutions with batch norm around a sum, then pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.short, self.last = nn.Conv2d(3, 3, 1), nn.Linear(3 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))
        y: Tensor = self.last(nn.functional.max_pool2d(x, 2).flatten(1))
        return y


def test_a_plane_through_a_residual_network_has_all_its_parts() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = load(Residual().double().eval(), torch.zeros(1, 1, 4, 4, dtype=torch.float64))
        centre, first, second = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    plane = Plane(centre, first, second)
    found = subdivide(net, plane)
    assert len(found) > 50
    assert found.volumes.sum() == pytest.approx(plane.volume, rel=1e-9)
    assert (found.num_unmatched, found.euler_characteristic()) == (0, 1)
    u = torch.rand(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    cells = found.locate(u, coordinates=True)
    assert (cells >= 0).all()
    assert torch.allclose(value_on(found, cells, u), net(plane.embed(u).reshape(-1, 1, 4, 4)), atol=1e-12)
    assert found.linear_regions().count == merged_one_by_one(found)
    matplotlib.pyplot.close(found.plot(colour="class").figure)


# -- points


def test_points_whose_own_patterns_are_rounding_are_located_by_their_neighbours() -> None:
    # a unit of the second layer is 2 x + 3 x - 2 (3 x) + x = 0, or 1e-17 on either side
    net = dense(
        [([[1.0], [1.0], [3.0], [1.0]], None), ([[2.0, 3.0, -2.0, 1.0], [-2.0, -3.0, 2.0, -1.0]], None), ([[1.0, 1.0]], None)]
    )
    found = subdivide(net, Segment([0.05], [0.2]))
    x = torch.linspace(0.05, 0.2, 101, dtype=torch.float64)[:, None]
    own = patterns(net, x)
    assert len(own.unique().patterns) > len(found) == 1  # some points are on no cell's pattern
    assert (found.locate(x) == 0).all()
    for one in x:
        assert found.locate(one[None]).tolist() == [0]


def test_points_outside_are_in_no_cell() -> None:
    found = subdivide(random_network(2, 8, 1), CUBE[2])
    assert found.locate([[0.0, 1.5], [-1.0, 1.0], [0.0, -1.0001]]).tolist()[0::2] == [-1, -1]
    assert found.locate([[1.0, 1.0]])[0] >= 0
    triangle = subdivide(random_network(2, 8, 1), Polytope.simplex(2))
    assert triangle.locate([[0.6, 0.6]])[0] == -1
    assert triangle.locate([0.2, 0.2])[0] >= 0


def test_inputs_beside_the_plane_are_in_no_cell() -> None:
    net = random_network(4, 8, 8, 2)
    plane = Plane([0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0])
    found = subdivide(net, plane)
    u = torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    x = plane.embed(u)
    cells = found.locate(x)
    assert (cells >= 0).all()
    assert (found.locate(u, coordinates=True) == cells).all()
    assert (found.locate(x + torch.tensor([0.0, 0.0, 0.1, 0.0])) == -1).all()
    assert torch.allclose(value_on(found, cells, u), net(x), atol=1e-12)
    with pytest.raises(ShapeError, match="points"):
        found.locate(u)


def test_vertices_and_edges_belong_to_cells_that_touch_them() -> None:
    found = subdivide(degenerate("through one vertex", 2, 0), CUBE[2])
    corners = torch.tensor(found.vertices)
    cells = found.locate(corners)
    assert (cells >= 0).all()
    for cell, corner in zip(cells, found.vertices, strict=True):
        # in the closure of a cell: no farther from the hull of its vertices than rounding
        assert in_hull(found[int(cell)].vertices, corner)


def in_hull(corners: np.ndarray, point: np.ndarray) -> bool:
    middle = corners.mean(0)
    around = corners[np.argsort(np.arctan2(*(corners - middle).T[::-1]))]
    edge, away = np.roll(around, -1, 0) - around, point - around
    return bool((edge[:, 0] * away[:, 1] - edge[:, 1] * away[:, 0] >= -1e-10).all())


# -- domains


@pytest.mark.parametrize(
    ("domain", "euler"),
    [
        (Segment([-1.0, 0.0, 0.5], [1.0, 0.7, -0.5]), 1),
        (Polygon([[0.0, 0.0, 0.0], [2.0, 0.0, 1.0], [0.0, 2.0, 0.0], [2.0, 2.0, 1.0]]), 1),
        (Box([-1.0, 0.5, -1.0], [1.0, 0.5, 2.0]), 1),
        (Slice(Polytope.simplex(3)), 1),
        (Slice(Polytope.of([[-1.0, 0.0, 0.0]], [0.5])), 0),
        (Slice(Polytope.of([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]], [0.0, 0.0, 0.0])), 0),
        (WholeSpace(3), -1),
    ],
    ids=["segment", "polygon", "flat box", "simplex", "half-space", "octant", "space"],
)
def test_every_domain_is_covered(domain: Domain, euler: int, tmp_path: Path) -> None:
    net = random_network(3, 10, 8, 2, seed=5)
    found = subdivide(net, domain)
    assert found.euler_characteristic() == euler
    assert found.num_unmatched == 0
    assert found.volumes.sum() == pytest.approx(domain.volume, rel=1e-9)
    assert (found.locate(found.middles, coordinates=True) == np.arange(len(found))).all()
    found.save(tmp_path / "complex.npz")
    again = load_complex(tmp_path / "complex.npz", net)
    assert again.summary() == found.summary()
    assert again.patterns == found.patterns
    assert again.euler_characteristic() == euler
    assert (again.locate(found.middles, coordinates=True) == np.arange(len(found))).all()


@pytest.mark.parametrize(
    ("ends", "euler"),
    [
        ("||", 1),
        ("|-", -1),
        ("||-", -1),
        ("|--", 1),
        ("---", -1),
        ("|>", 0),
        ("->", 0),
        (">>", 0),
        ("|->", 0),
    ],
)
def test_whole_lines_change_the_sign_of_the_euler_characteristic_and_half_lines_make_it_none(ends: str, euler: int) -> None:
    low = [-math.inf if e == "-" else -1.0 for e in ends]
    high = [1.0 if e == "|" else math.inf for e in ends]
    found = subdivide(random_network(len(ends), 7, 4, 1, seed=1), Box(low, high))
    assert found.euler_characteristic() == euler
    assert found.num_unmatched == 0


def test_an_unbounded_region_has_directions() -> None:
    found = subdivide(dense([([[1.0, 0.0]], None), ([[1.0]], None)]), WholeSpace(2))
    assert found.num_regions == 2
    assert np.isinf(found.volumes).all()
    assert found.num_vertices == 1
    assert len(found.directions) == 4  # three of the fan, and the one where its wall behind the hyperplane ends
    assert all(len(cell.directions) == 2 for cell in found)


def test_a_network_without_gates_is_one_cell() -> None:
    found = subdivide(dense([([[1.0, 2.0]], [3.0])]), CUBE[2])
    assert (found.num_cells, found.num_vertices, found.num_facets, len(found.adjacency)) == (1, 4, 4, 0)
    assert found.linear_regions().count == 1
    assert found.locate([0.0, 0.0]).tolist() == [0]


# -- files


def test_a_complex_is_not_loaded_for_another_network_or_from_another_file(tmp_path: Path) -> None:
    net = random_network(2, 6, 1)
    subdivide(net, CUBE[2]).save(tmp_path / "a.npz")
    with pytest.raises(InputError, match="another one"):
        load_complex(tmp_path / "a.npz", random_network(2, 6, 1, seed=1))
    np.savez(tmp_path / "b.npz", points=np.zeros(3))
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:300])
    for name in ("b.npz", "c.npz", "missing.npz"):
        with pytest.raises(FileError, match=name):
            load_complex(tmp_path / name, net)


# -- words and pictures


def test_a_complex_describes_itself() -> None:
    found = subdivide(random_network(2, 6, 1), CUBE[2])
    assert found.summary().startswith(f"{found.num_regions} activation regions")
    assert found.to_dict()["num_vertices"] == found.num_vertices
    assert found.to_dict()["volume"] == pytest.approx(4.0)
    whole = subdivide(random_network(2, 6, 1), WholeSpace(2))
    assert "cones" in whole.summary()


@pytest.mark.parametrize("colour", [None, 0, 2, "class", (0, 3), ("relu2", 1), "density", "active", "pattern"])
def test_a_plane_is_drawn_in_every_colour(colour: object) -> None:
    ax = subdivide(random_network(2, 12, 10, 3), CUBE[2]).plot(colour=colour)
    assert ax.get_xlabel() == "input 0"
    assert ax.get_xlim() == (-1.0, 1.0)
    ax.figure.canvas.draw()
    matplotlib.pyplot.close(ax.figure)


@pytest.mark.parametrize("make", [lambda: Segment([0.0, 0.0], [1.0, 2.0]), lambda: WholeSpace(2)])
def test_segments_and_the_whole_plane_are_drawn(make: Callable[[], Domain]) -> None:
    ax = subdivide(random_network(2, 12, 10, 3), make()).plot()
    ax.figure.canvas.draw()
    matplotlib.pyplot.close(ax.figure)


def test_classes_are_painted_where_the_network_says() -> None:
    net = random_network(2, 12, 10, 3, seed=11)
    ax = subdivide(net, CUBE[2]).plot(colour="class", edges=False, boundary=False)
    picture = ax.images[0].get_array()
    rows, columns = picture.shape[:2]
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns * 2 - 1
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2).reshape(-1, 2)
    wanted = net(grid).argmax(1).numpy().reshape(rows, columns)
    assert len(np.unique(wanted)) > 1
    for k in np.unique(wanted):
        assert len(np.unique(picture[wanted == k].reshape(-1, 4), axis=0)) == 1
    matplotlib.pyplot.close(ax.figure)


def test_the_line_between_classes_is_where_the_largest_outputs_tie() -> None:
    net = random_network(2, 12, 10, 3, seed=11)
    ax = subdivide(net, CUBE[2]).plot(colour="pattern")
    lines = np.concatenate([line.mean(0)[None] for line in ax.collections[-1].get_segments()])
    top = net(torch.tensor(lines)).topk(2).values
    assert len(lines) > 10
    assert (top[:, 0] - top[:, 1]).abs().max() < 1e-10
    matplotlib.pyplot.close(ax.figure)


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(GeometryError, match="1 or 2 dimensions; got 3"):
        subdivide(random_network(3, 4, 1), CUBE[3]).plot()
    with pytest.raises(InputError, match=r"colour: expected 0 \(the only output\), a unit .* got 'class'; .* has no classes"):
        subdivide(random_network(2, 4, 1), CUBE[2]).plot(colour="class")
    with pytest.raises(InputError, match=r'an output from 0 to 2, "class".* got 5$'):
        subdivide(random_network(2, 4, 3), CUBE[2]).plot(colour=5)


@pytest.mark.parametrize("colour", ["class", 0, ("relu1", 3), "density"])
def test_labels_and_legends_fit_on_a_figure_without_a_layout(colour: object) -> None:
    figure, ax = matplotlib.pyplot.subplots()
    subdivide(random_network(2, 12, 10, 3), CUBE[2]).plot(ax, colour=colour)
    figure.canvas.draw()
    whole, drawn = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert whole.x0 <= drawn.x0
    assert drawn.x1 <= whole.x1
    assert whole.y0 <= drawn.y0
    assert drawn.y1 <= whole.y1
    matplotlib.pyplot.close(figure)


def test_a_layout_that_a_figure_has_and_axes_that_somebody_placed_stay() -> None:
    found = subdivide(random_network(2, 12, 10, 3), CUBE[2])
    figure, ax = matplotlib.pyplot.subplots(layout="constrained")
    engine = figure.get_layout_engine()
    found.plot(ax)
    assert figure.get_layout_engine() is engine
    placed = matplotlib.pyplot.figure()
    found.plot(placed.add_axes((0.1, 0.1, 0.5, 0.8)))
    assert placed.get_layout_engine() is None
    for drawn in (figure, placed):
        drawn.canvas.draw()
        matplotlib.pyplot.close(drawn)


def test_the_legend_lists_the_classes_that_occur() -> None:
    net = random_network(2, 12, 10, 8, seed=11)
    found = subdivide(net, CUBE[2])
    ax = found.plot(colour="class")
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    occurring = net(spread(CUBE[2], 20_000)).argmax(1).unique().tolist()
    assert 1 < len(occurring) < 8
    assert named == [f"class {k}" for k in occurring]
    matplotlib.pyplot.close(ax.figure)


@pytest.mark.parametrize("colour", [("relu2", 1), "active", "density", "pattern"])
def test_edges_stand_out_from_the_cells_they_enclose(colour: object) -> None:
    whole = subdivide(random_network(2, 12, 10, 3), CUBE[2])
    ax = whole.plot(colour=colour, boundary=False)
    cells, edges = ax.collections
    grey = np.array([0.299, 0.587, 0.114])
    faces = np.repeat(cells.get_facecolor(), np.diff(whole.mesh.start), axis=0)  # a cell has as many edges as vertices
    apart = np.abs(faces[:, :3] @ grey - edges.get_edgecolor()[:, :3] @ grey)
    assert apart.min() > 0.25
    matplotlib.pyplot.close(ax.figure)


def test_walls_between_the_cones_of_the_whole_plane_are_no_edges() -> None:
    net = dense([([[1.0, 0.3]], [0.5]), ([[1.0]], None)])  # one line, and three cones around the origin
    ax = subdivide(net, WholeSpace(2)).plot(colour="pattern", window=((-2.0, 2.0), (-2.0, 2.0)))
    _, edges = ax.collections
    for segment in edges.get_segments():
        assert np.abs(segment @ [1.0, 0.3] + 0.5).max() < 1e-9 or np.abs(segment).max(1).min() > 10  # or far outside
    matplotlib.pyplot.close(ax.figure)
