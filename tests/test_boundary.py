"""Crossings along rays and nearest boundaries, against patterns on the ray and against brute force over all rows."""

from __future__ import annotations

import pytest
import torch

from polylens import dense, first_boundary, load, nearest_boundary, patterns, region
from polylens.errors import InputError, ShapeError, SmoothError
from polylens.germ import towards, walls_of
from polylens.linearise import affine_maps
from registry import CASES, Case
from test_laws import EXACT, each, loaded

piecewise_linear = each(EXACT)


def ray(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    return case.inputs(1, torch.float64, seed=3)[0], case.inputs(1, torch.float64, seed=4)[0]


@piecewise_linear
def test_between_two_crossings_the_pattern_is_the_one_reported(case: Case) -> None:
    _, net = loaded(case)
    x, v = ray(case)
    found = first_boundary(net, x, v, count=12)
    edges = torch.cat([torch.zeros(1), found.t, found.t[-1:] + (0.0 if found.complete else 1e-9)]).double()
    middles = (edges[:-1] + edges[1:])[: len(found.t)] / 2
    for k, t in enumerate(middles):
        assert bool(found.patterns[k].matches(patterns(net, x + t * v))), k
    if found.complete:  # nothing changes behind the last one
        for far in (1.0, 10.0, 1e4):
            end = found.t[-1] if len(found.t) else torch.tensor(0.0)
            assert bool(found.patterns[-1].matches(patterns(net, x + (end + far) * v)))


@piecewise_linear
def test_no_pattern_on_the_ray_is_passed_over(case: Case) -> None:
    _, net = loaded(case)
    x, v = ray(case)
    found = first_boundary(net, x, v, count=12)
    end = float(found.t[-1]) if len(found.t) else 1.0
    t = torch.linspace(0, end, 400, dtype=torch.float64)[1:-1]
    t = t[(t[:, None] - found.t[None]).abs().min(1).values > 1e-9 * end] if len(found.t) else t
    sampled = patterns(net, x + t.reshape(-1, *(1,) * x.ndim) * v)
    behind = torch.searchsorted(found.t, t)
    assert bool(found.patterns[behind].matches(sampled).all())


@piecewise_linear
def test_the_units_of_a_crossing_are_those_that_change_there(case: Case) -> None:
    _, net = loaded(case)
    x, v = ray(case)
    found = first_boundary(net, x, v, count=5)
    for k, units in enumerate(found.units):
        assert units
        before, behind = found.patterns[k], found.patterns[k + 1]
        assert int(before.distances(behind)) == len(units)
        for u in units:
            assert int(behind.pieces(u.name).reshape(-1)[u.unit]) == u.piece
            assert int(before.pieces(u.name).reshape(-1)[u.unit]) != u.piece


@piecewise_linear
def test_the_nearest_boundary_is_that_of_brute_force_over_all_rows(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(6, torch.float64, seed=5)
    found = nearest_boundary(net, x)
    maps = affine_maps(net, x)
    for i in range(len(x)):
        least, best = torch.inf, None
        pattern = patterns(net, x[i : i + 1])
        for node in net.nodes:
            if node.name not in maps:
                continue
            a, walls = maps[node.name][i], walls_of(net, node, pattern)
            for w in range(len(walls.unit)):
                row, value = torch.zeros_like(a.weight[0]), -walls.bound[w]
                for sign, at in ((1, int(walls.plus[w])), (-1, int(walls.minus[w]))):
                    if at >= 0:
                        row, value = row + sign * a.weight[at], value + sign * (a.weight[at] @ x[i].reshape(-1) + a.offset[at])
                norm = float(row.norm())
                if norm > 1e-12 and -float(value) / norm < least:
                    least, best = -float(value) / norm, (node.name, int(walls.unit[w]), row / norm)
        assert float(found.distance[i]) == pytest.approx(least, rel=1e-9, abs=1e-12)
        if best is not None:
            assert torch.allclose(found.normal[i].reshape(-1).double(), best[2], atol=1e-7) or least < 1e-9
            across = x[i] + (found.distance[i] * (1 + 1e-7) + 1e-9) * found.normal[i]
            assert not bool(patterns(net, across).matches(patterns(net, x[i])))


def test_duplicate_and_opposite_units_cross_together() -> None:
    net = dense([([[1.0], [2.0], [-1.0], [1.0]], [-1.0, -2.0, 1.0, -3.0]), ([[1.0] * 4], None)])
    found = first_boundary(net, torch.tensor([0.0]), torch.tensor([1.0]), count=5)
    assert found.t.tolist() == [1.0, 3.0]
    assert [[u.unit for u in group] for group in found.units] == [[0, 1, 2], [3]]
    assert found.complete


def test_a_start_on_a_boundary_counts_only_what_lies_ahead() -> None:
    net = dense([([[1.0], [1.0]], [0.0, -1.0]), ([[1.0, 1.0]], None)])
    assert first_boundary(net, torch.tensor([0.0]), torch.tensor([1.0]), count=3).t.tolist() == [1.0]
    assert first_boundary(net, torch.tensor([0.0]), torch.tensor([-1.0])).complete
    ahead, back = (towards(net.double(), torch.zeros(1).double(), torch.tensor([s]).double()) for s in (1.0, -1.0))
    assert [g.pattern.pieces().int().tolist() for g in (ahead, back)] == [[[1, 0]], [[0, 0]]]


def test_units_that_are_zero_all_along_the_ray_do_not_flicker() -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    found = first_boundary(net, torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0]), count=5)  # the ray lies in x2 = 0
    assert found.t.tolist() == [1.0]
    assert [u.unit for u in found.units[0]] == [0]


def test_units_of_very_different_size_are_all_crossed() -> None:
    net = dense([([[1e7, 0.0], [1e-7, 0.0]], [-3e7, -1e-7]), ([[1.0, 1.0]], None)])
    found = first_boundary(net, torch.zeros(2), torch.tensor([1.0, 0.0]), count=5)
    assert found.t.tolist() == pytest.approx([1.0, 3.0])
    assert [[u.unit for u in group] for group in found.units] == [[1], [0]]


def test_a_unit_on_its_breakpoint_is_on_the_side_that_its_piece_says() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Hardshrink(0.5)).eval()
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[0].bias.zero_()
    net = load(module)
    for x, piece in ((-0.5, 0), (0.5, 2)):  # both ends belong to the piece between them
        near, (distance, unit) = nearest_boundary(net, torch.tensor([x])), region(net, torch.tensor([x])).nearest
        assert (float(near.distance), int(near.piece), float(near.normal)) == (0.0, piece, piece - 1.0)
        assert (distance, unit.piece) == (0.0, piece)


def test_networks_without_units_have_no_boundary() -> None:
    net = dense([([[1.0, 2.0]], None)])
    assert first_boundary(net, torch.zeros(2), torch.ones(2)).complete
    assert nearest_boundary(net, torch.zeros(3, 2)).distance.tolist() == [torch.inf] * 3


def test_chunks_of_points_change_nothing() -> None:
    case = next(c for c in CASES if c.name == "residual")
    _, net = loaded(case)
    x = case.inputs(7, torch.float64)
    whole, parts = nearest_boundary(net, x), nearest_boundary(net, x, batch_size=2)
    assert torch.allclose(whole.distance, parts.distance, rtol=1e-12)
    assert torch.equal(whole.unit, parts.unit)


def test_unfit_points_directions_and_networks_are_refused() -> None:
    net = dense([([[1.0, 2.0]], [0.5]), ([[1.0]], None)])
    with pytest.raises(InputError, match="not all zeros"):
        first_boundary(net, torch.zeros(2), torch.zeros(2))
    with pytest.raises(InputError, match="at least 1"):
        first_boundary(net, torch.zeros(2), torch.ones(2), count=0)
    for size in (0, -1, 1.5):
        with pytest.raises(InputError, match="batch_size: expected a whole number"):
            nearest_boundary(net, torch.zeros(3, 2), batch_size=size)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="count: expected a whole number"):
            first_boundary(net, torch.zeros(2), torch.ones(2), count=size)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="got a batch"):
        first_boundary(net, torch.zeros(3, 2), torch.ones(2))
    with pytest.raises(ShapeError, match="direction"):
        first_boundary(net, torch.zeros(2), torch.ones(3))
    smooth = dense([([[1.0, 2.0]], [0.5]), ([[1.0]], None)], "tanh")
    for ask in (
        lambda: first_boundary(smooth, torch.zeros(2), torch.ones(2)),
        lambda: nearest_boundary(smooth, torch.zeros(2)),
    ):
        with pytest.raises(SmoothError, match="tanh1"):
            ask()
