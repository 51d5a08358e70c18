"""Walks on fibres, against fibres known by hand, against exact preimages, and against the networks themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles import Step
from polylens import Box, FibreWalk, Network, Polytope, dense, fibre_walk, load, patterns, preimage, zoo
from polylens._fibre.glide import Cone, glide
from polylens.errors import GeometryError, InputError, ShapeError, SmoothError
from registry import CASES, Case
from strategies import continuous_program, points, program
from test_laws import each, loaded
from test_real_networks import network_and_images
from test_subdivision import network_of

RELATIVE = 1e-9  # what the project promises of f along a walk; what is measured is rounding, thousands of times smaller


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def check_fibre(net: Network, walk: FibreWalk, layer: str | None = None) -> None:
    """f is what it was at every bend, and at the middle and other places of every piece between them."""
    net = net.double()
    last = net.value_of(layer)
    with torch.no_grad():
        y = net.forward(walk.path[:1], last=last)
        room = RELATIVE * (1 + float(y.abs().max()))
        assert float(walk.drift.max()) <= room
        for part in (0.0, 0.31, 0.5, 0.77):
            between = walk.path[:-1] + part * walk.path.diff(dim=0)
            if len(between):
                assert float((net.forward(between, last=last) - y).abs().max()) <= room


def check_goal(walk: FibreWalk, direction: Tensor | None = None) -> None:
    """What is sought grows from bend to bend."""
    room = 1e-9 * (1 + float(walk.path.abs().max()) ** 2)
    if walk.goal == "roam":
        return  # which is after no one thing
    if walk.goal == "away":
        assert _least(walk.distance) >= -room
    elif walk.to_target is not None:
        assert _least(-walk.to_target) >= -room
    else:
        assert direction is not None
        assert _least(walk.path.flatten(1) @ direction.flatten()) >= -room


def _least(values: Tensor) -> float:
    steps = values.diff()
    return float(steps.min()) if len(steps) else 0.0


# -- fibres known by hand


def test_a_walk_on_the_triangle_turns_where_the_map_does() -> None:
    up = fibre_walk(zoo.triangle(), vector(1.5, 0.0), direction=vector(0.0, 1.0), domain=(-2.0, 2.0))
    assert up.path.tolist() == [[1.5, 0.0], [1.5, 1.5], [1.75, 2.0]]  # z = -x1, and z = x2 - 2 x1 behind x2 = x1
    assert [[(u.unit, u.piece) for u in units] for units in up.crossed] == [[], [(0, 0)], []]
    assert up.reason == "domain"
    assert up.drift.tolist() == [0.0, 0.0, 0.0]
    down = fibre_walk(zoo.triangle(), vector(1.5, 0.0), direction=vector(0.0, -1.0))
    assert (down.reason, down.ray.tolist() if down.ray is not None else None) == ("unbounded", [0.0, -1.0])


def test_a_walk_goes_round_a_closed_fibre_as_far_as_its_goal_says() -> None:
    diamond = dense([([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.0] * 4), ([[1.0] * 4], None)])  # |x1| + |x2|
    for seed in range(4):
        far = fibre_walk(diamond, vector(1.0, 0.0), seed=seed)
        assert far.end.tolist() == pytest.approx([-1.0, 0.0])  # the corner across, past one of the two others
        assert (far.reason, far.num_crossings) == ("maximum", 1)
    near = fibre_walk(diamond, vector(1.0, 0.0), towards=vector(-0.25, 3.0))
    assert near.end.tolist() == pytest.approx([0.0, 1.0])
    assert near.reason == "maximum"


def test_a_walk_reaches_a_target_in_its_fibre() -> None:
    net = dense([([[1.0, 1.0, 1.0]], [0.0]), ([[1.0]], None)])
    walk = fibre_walk(net, vector(1.0, 1.0, 1.0), towards=vector(0.0, 3.0, 0.0))
    assert walk.reason == "reached"
    assert torch.allclose(walk.end, vector(0.0, 3.0, 0.0), atol=1e-12)


def test_a_walk_slides_along_a_crease() -> None:
    """f = x3 + 2 |x1|: its fibre is a roof whose ridge is the line x1 = 0, x3 = 0; straight up, both sides lead to it."""
    weight = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    roof = dense([(weight, [0.0] * 4), ([[2.0, 2.0, 1.0, -1.0]], None)])
    walk = fibre_walk(roof, vector(-1.0, 0.0, -2.0), direction=vector(0.5, 1.0, 3.0), domain=(-5.0, 5.0))
    check_fibre(roof, walk)
    assert walk.end.tolist() == pytest.approx([0.0, 5.0, 0.0], abs=1e-12)
    assert walk.path[-2, 1] < 4.0  # most of the way is along the ridge
    assert walk.path[-2, [0, 2]].tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_a_fibre_of_one_point_is_not_walked_on() -> None:
    for walk in (
        fibre_walk(zoo.identity(2), vector(0.5, 0.25)),
        fibre_walk(zoo.identity(2), vector(0.5, 0.25), towards=vector(1.0, 1.0)),
        fibre_walk(zoo.absolute_value(), vector(0.0)),  # every pattern's map has a null direction or none leads on
        fibre_walk(zoo.identity(3), vector(0.0, 0.0, 1.0), roam=True),
    ):
        assert (walk.reason, len(walk.path)) == ("point", 1)
        assert "every direction" in walk.summary()


def test_a_dead_region_is_walked_through_straight() -> None:
    net = dense([([[1.0, 1.0]], [-1.0]), ([[1.0]], None)])
    walk = fibre_walk(net, vector(0.0, 0.0), direction=vector(-3.0, 0.0))
    assert (walk.reason, walk.num_crossings) == ("unbounded", 0)
    walk = fibre_walk(net, vector(0.0, 0.0), direction=vector(1.0, 0.0), domain=(-4.0, 4.0))
    assert walk.end.tolist() == pytest.approx([4.0, -3.0])  # straight to x1 + x2 = 1, then along it until a side, then out


def test_gates_of_several_breakpoints_are_crossed_at_each() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.Hardtanh(), nn.Linear(1, 1)).eval()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[0.004, -0.28]]))  # nearly flat: a fibre runs from side to side of the box
        module[0].bias.fill_(-0.5)
    clip = load(module, torch.zeros(1, 2)).double()
    start = vector(0.1, -0.2)
    for goal in ({}, {"direction": vector(1.0, 0.3)}, {"roam": True}):
        check_fibre(clip, fibre_walk(clip, start, domain=(-20.0, 20.0), **goal))
    hat = dense([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)], "abs")
    walk = fibre_walk(hat, vector(1.0, 0.0))
    check_fibre(hat, walk)
    assert walk.end.tolist() == pytest.approx([-1.0, 0.0])


def test_a_start_on_facets_is_left_on_the_side_that_leads_on() -> None:
    for x in ([0.0, 0.0], [1.0, 1.0], [1.0, 2.0]):
        for seed in range(3):
            walk = fibre_walk(zoo.triangle(), torch.tensor(x), domain=(-2.0, 2.0), seed=seed)
            check_fibre(zoo.triangle(), walk)
            assert float(walk.distance[-1]) > 0.5


def test_duplicate_units_are_crossed_together() -> None:
    net = dense([([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [-1.0, -2.0, 1.0, 9.0]), ([[1.0, 1.0, 1.0, 1.0]], None)])
    walk = fibre_walk(net, vector(0.0, 0.0), direction=vector(1.0, -0.1), domain=(-3.0, 3.0))
    check_fibre(net, walk)
    assert [u.unit for u in next(units for units in walk.crossed if units)] == [0, 1, 2]


def test_jumps_are_not_crossed() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Hardshrink(0.5), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        module[0].weight.copy_(torch.eye(2))
        module[0].bias.zero_()
    net = load(module, torch.zeros(1, 2)).double()
    walk = fibre_walk(net, vector(0.1, 0.2), direction=vector(1.0, 0.1))
    check_fibre(net, walk)
    assert walk.num_crossings == 0
    assert walk.end.tolist() == pytest.approx([0.5, 0.5], abs=1e-8)
    with pytest.raises(GeometryError, match=r"where \S+\[0\] jumps"):
        fibre_walk(net, vector(0.5, 0.0))


# -- laws on networks that go wrong elsewhere


def walked(steps: list[Step], start: list[float], goal: str, aim: list[float], seed: int) -> tuple[Network, FibreWalk, Tensor]:
    net, v = network_of(steps, len(start)), vector(*aim)
    v = v if goal == "towards" or bool(v.any()) else torch.ones_like(v)
    goals: dict[str, dict[str, Any]] = {"away": {}, "roam": {"roam": True}, "towards": {"towards": v}}
    given = goals.get(goal, {"direction": v})
    walk = fibre_walk(net, vector(*start), domain=(-2.0, 2.0), crossings=40, bends=150, seed=seed, **given)
    return net, walk, v


GOALS = st.sampled_from(["away", "towards", "direction", "roam"])


@settings(max_examples=40)
@given(st.data())
def test_outputs_stay_and_goals_grow_on_any_network(data: st.DataObject) -> None:
    dim = data.draw(st.integers(1, 3))
    start = data.draw(points(dim))
    try:
        net, walk, v = walked(
            data.draw(program(dim, 4)), start, data.draw(GOALS), data.draw(points(dim)), data.draw(st.integers(0, 3))
        )
    except GeometryError:
        return  # the start lies on a jump
    check_fibre(net, walk)
    check_goal(walk, v)
    assert bool((walk.path.abs() <= 2).all())
    assert float((walk.outputs[0] - net(vector(*start))).abs().max()) == 0


@settings(max_examples=40)
@given(st.data())
def test_where_a_walk_ends_no_piece_of_the_exact_fibre_leads_on(data: st.DataObject) -> None:
    """For every piece of the preimage that holds the end, no corner of it lies ahead: the condition of a maximum."""
    dim = data.draw(st.integers(1, 3))
    goal = data.draw(st.sampled_from(["away", "towards", "direction"]))
    net, walk, v = walked(data.draw(continuous_program(dim, 4)), data.draw(points(dim)), goal, data.draw(points(dim)), 0)
    if walk.reason not in ("maximum", "domain", "point"):
        return
    pull = {"away": walk.end - walk.start, "towards": v - walk.end, "direction": v}[goal]
    pieces = [
        p for p in preimage(net, walk.outputs[0], Box([-2.0] * dim, [2.0] * dim)) if bool(p.polytope.contains(walk.end, 1e-7))
    ]
    assert pieces
    for piece in pieces:
        corners = torch.as_tensor(piece.vertices).reshape(-1, dim)
        assert float(((corners - walk.end) @ pull).max()) <= 1e-6


@each([c for c in CASES if not c.smooth])
def test_every_layer_kind_can_be_walked_on(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(1, torch.float64, seed=3)[0]
    for goal in ({}, {"roam": True}):
        walk = fibre_walk(net, x, crossings=6, bends=25, until=3.0 if not goal else None, domain=(-6.0, 6.0), **goal)
        check_fibre(net, walk)
        check_goal(walk)


# -- what is told of a walk


def test_crossings_are_where_the_pattern_changes() -> None:
    net = zoo.arrangement(40, 6)
    walk = fibre_walk(net, torch.zeros(6), direction=vector(1.0, 2.0, -1.0, 0.5, 0.0, 1.0), domain=(-9.0, 9.0))
    middles = (walk.path[1:] + walk.path[:-1]) / 2
    seen = patterns(net, middles)
    assert walk.num_crossings > 3
    for k in range(1, len(walk.path) - 1):
        if bool((net.forward(middles[k - 1 : k + 1], last=1).abs() > 1e-9).all()):  # not along a crease
            assert len(walk.crossed[k]) == int(seen[k - 1].distances(seen[k]))
            for unit in walk.crossed[k]:
                assert int(seen[k].pieces(unit.name)[0, unit.unit]) == unit.piece


def test_a_walk_stops_where_it_is_asked_to() -> None:
    net, x = zoo.arrangement(60, 8), torch.zeros(8)
    assert float(fibre_walk(net, x, until=0.75).distance[-1]) == pytest.approx(0.75)
    assert fibre_walk(net, x, until=0.75).reason == "distance"
    few = fibre_walk(net, x, crossings=5)
    assert (few.reason, few.num_crossings) == ("crossings", 5)
    assert (fibre_walk(net, x, bends=2).reason, len(fibre_walk(net, x, bends=2).path)) == ("bends", 3)
    roaming = fibre_walk(net, x, roam=True, until=1.5, crossings=50, domain=(-4.0, 4.0))
    assert roaming.num_crossings == 50
    there = int((roaming.distance >= 1.5 * (1 - 1e-12)).nonzero()[0])
    assert float(roaming.distance[there:].min()) >= 1.5 * (1 - 1e-9)


def test_the_same_seed_walks_the_same_way() -> None:
    net, x = zoo.arrangement(30, 5), torch.zeros(5)
    a, b, c = (fibre_walk(net, x, seed=s, crossings=10) for s in (1, 1, 2))
    assert torch.equal(a.path, b.path)
    assert not torch.equal(a.path[:2], c.path[:2])


def test_the_fibre_of_a_layer_lies_in_the_fibre_of_the_output() -> None:
    net, x = zoo.digits(), zoo.digits_data("test").inputs[0]
    walk = fibre_walk(net, x, layer=0, domain=(0.0, 1.0), crossings=5, bends=60)
    check_fibre(net, walk, walk.layer)
    assert walk.layer == net.gates[0].name
    assert float((net.double()(walk.path) - net.double()(x)).abs().max()) <= RELATIVE
    assert walk.outputs.shape[1:] == (64,)


def test_a_polytope_may_be_the_domain() -> None:
    net = dense([([[1.0, 0.0, 0.0]], [0.0]), ([[1.0]], None)])
    walk = fibre_walk(net, vector(0.25, 0.25, 0.25), direction=vector(0.0, 1.0, 0.0), domain=Polytope.simplex(3))
    assert walk.end.tolist() == pytest.approx([0.25, 0.75, 0.0])
    assert walk.reason == "domain"


def test_a_walk_speaks_of_itself_in_plain_types() -> None:
    import json

    walk = fibre_walk(zoo.triangle(), vector(1.5, 0.0), towards=vector(2.0, 2.0), domain=(-2.0, 2.0))
    told = json.loads(json.dumps(walk.to_dict()))
    assert (told["goal"], told["crossings"], told["max_drift"]) == ("towards", 1, 0.0)
    assert told["end"] == pytest.approx([1.75, 2.0])
    assert "away from the target" in walk.summary()


def test_walks_are_drawn_in_the_plane_as_strips_and_as_curves() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from polylens.plotting.fibre import walk_figure

    plane = fibre_walk(zoo.triangle(), vector(1.5, 0.0), towards=vector(2.0, 2.0))
    digits = zoo.digits_data("test").inputs
    strip = fibre_walk(zoo.digits(), digits[0], towards=digits[3], domain=(0.0, 1.0), bends=40)
    curve = fibre_walk(zoo.arrangement(20, 5), torch.zeros(5), crossings=8)
    for walk, panels in ((plane, 0), (strip, 7), (curve, 0)):
        ax = walk.plot()
        assert len(ax.images) == panels
        ax.figure.canvas.draw()
        pyplot.close(ax.figure)
    figure = walk_figure(strip, pictures=4)
    assert len(figure.axes) == 8
    figure.canvas.draw()
    walk_figure(curve).canvas.draw()


def test_unfit_questions_are_refused() -> None:
    net, x = zoo.triangle(), vector(1.5, 0.0)
    with pytest.raises(SmoothError, match="tanh"):
        fibre_walk(dense([([[1.0, 2.0]], [0.5]), ([[1.0]], None)], "tanh"), x)
    with pytest.raises(InputError, match="at most one of"):
        fibre_walk(net, x, towards=x, roam=True)
    with pytest.raises(InputError, match="not all zeros"):
        fibre_walk(net, x, direction=torch.zeros(2))
    with pytest.raises(InputError, match="inside the domain"):
        fibre_walk(net, x, domain=(0.0, 1.0))
    with pytest.raises(InputError, match="pair"):
        fibre_walk(net, x, domain="box")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="until"):
        fibre_walk(net, x, until=-1.0)
    with pytest.raises(InputError, match="crossings"):
        fibre_walk(net, x, crossings=0)
    with pytest.raises(ShapeError, match="dimension 3"):
        fibre_walk(net, x, domain=Polytope.simplex(3))
    with pytest.raises(ShapeError, match="towards"):
        fibre_walk(net, x, towards=torch.zeros(3))


# -- projections on cones


def test_a_projection_on_a_cone_is_the_nearest_point_of_it() -> None:
    """Its conditions hold: in the cone, at a right angle to the rest, and the rest is barred."""
    random = torch.Generator().manual_seed(0)
    for n, m, k in ((3, 1, 2), (6, 2, 9), (12, 3, 30), (5, 5, 2), (8, 0, 20)):
        for _ in range(20):
            equal, rows = (torch.randn(size, n, generator=random, dtype=torch.float64) for size in (m, k))
            rows = torch.cat([rows, rows[:1]]) / torch.linalg.vector_norm(torch.cat([rows, rows[:1]]), dim=1)[:, None]  # twice
            sides = torch.randint(-1, 3, (n,), generator=random)
            cone, wanted = Cone(equal, rows, sides), torch.randn(n, generator=random, dtype=torch.float64)
            found = glide(cone, wanted)
            assert float((equal @ found.way).abs().max() if m else 0.0) <= 1e-12
            assert float(cone.crossed(found.way).max()) <= 1e-11
            assert not found.way[sides == 2].any()
            assert abs(float(found.way @ (wanted - found.way))) <= 1e-10
            pushing = found.weights[:n][found.held[:n] & (sides != 2)]
            assert bool((pushing >= 0).all())
            again = glide(cone, wanted, found.held)
            assert torch.allclose(again.way, found.way, atol=1e-10)


# -- real networks


@pytest.mark.slow
def test_a_thousand_regions_are_walked_through_without_drift(data: Path) -> None:
    net, images, _ = network_and_images(data, "mnist-net_256x2.onnx", 1)
    walk = fibre_walk(net, images[0], roam=True, until=8.0, crossings=1000, domain=(0.0, 1.0))
    assert walk.num_crossings == 1000
    assert float(walk.drift.max()) <= 1e-9
    assert float(walk.distance[-1]) >= 8.0 * (1 - 1e-9)
    assert 0 <= float(walk.path.min()) <= float(walk.path.max()) <= 1
    check_fibre(net, walk)
    check_goal(walk)


def test_a_seven_is_walked_into_a_four_that_the_network_cannot_tell_from_it(data: Path) -> None:
    net, images, labels = network_and_images(data, "mnist-net_256x2.onnx", 5)
    walk = fibre_walk(net, images[0], towards=images[4], domain=(0.0, 1.0))
    assert (int(labels[0]), int(labels[4])) == (7, 4)
    check_fibre(net, walk)
    check_goal(walk)
    assert walk.to_target is not None
    assert float(walk.to_target[-1]) < 0.4 * float(walk.to_target[0])
    assert walk.reason == "domain"


@pytest.mark.parametrize(
    "name",
    [
        "mnist-net_256x4.onnx",
        "cifar_base_kw.onnx",
        pytest.param("Convnet_maxpool.onnx", marks=pytest.mark.slow),
        pytest.param("resnet_2b.onnx", marks=pytest.mark.slow),
    ],
)
def test_real_networks_are_walked_on(data: Path, name: str) -> None:
    net, images, _ = network_and_images(data, name, 2)
    low, high = float(images.min()), float(images.max())
    for goal in ({"towards": images[1]}, {"roam": True}):
        walk = fibre_walk(net, images[0], crossings=10, bends=30, domain=(low, high), **goal)
        check_fibre(net, walk)
        check_goal(walk)
        assert walk.num_crossings >= 3
