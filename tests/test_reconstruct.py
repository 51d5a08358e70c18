"""Inputs from features: exact by the network's own word, unique where that is the truth, and proofs of what cannot be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polylens import Box, dense, load, reconstruct, zoo
from polylens._reconstruct.nearest import Rows, least_squares, nearest
from polylens._reconstruct.priors import total_variation
from polylens.errors import InputError, ShapeError
from polylens.network import Network
from polylens.plotting.reconstruct import reconstruction_figure

PIXELS = (0.0, 1.0)


def digits(count: int) -> tuple[Network, Tensor]:
    return zoo.digits().double(), zoo.digits_data("test").inputs[:count].double()


def features(net: Network, x: Tensor, layer: int | str | None) -> Tensor:
    return net.forward(x, last=net.value_of(layer))


# -- first layers: the pattern is known


def test_first_layer_features_are_met_to_rounding_and_unique_inputs_are_the_truth() -> None:
    net, x = digits(24)
    found = reconstruct(net, features(net, x, 0), 0, box=PIXELS, truth=x)
    assert bool(found.exact.all())
    assert found.errors is not None
    unique = torch.tensor([u is True for u in found.unique])
    assert 5 <= int(unique.sum()) < 24
    assert float(found.errors[unique].max()) < 1e-8  # the residual times what the layer's narrow directions stretch it by
    assert bool(((found.points >= 0) & (found.points <= 1)).all())


def test_where_the_input_is_not_unique_another_one_has_the_same_features() -> None:
    net, x = digits(16)
    y = features(net, x, 0)
    found = reconstruct(net, y, 0, box=PIXELS)
    several = torch.tensor([u is False for u in found.unique])
    assert int(several.sum()) > 3
    others = found.others[several]
    assert bool(torch.isnan(found.others[~several]).all())
    assert float((features(net, others, 0) - y[several]).abs().max()) < 1e-10
    assert bool(((others >= 0) & (others <= 1)).all())
    assert float((others - found.points[several]).norm(dim=1).min()) > 1e-5


def test_the_nearest_input_to_the_start_is_found_where_several_have_the_features() -> None:
    net = dense([([[1.0, 1.0]], [0.0])], gate="relu")
    found = reconstruct(net, [[2.0]], "linear1", start=[[3.0, 0.0]])
    assert torch.allclose(found.points, torch.tensor([[2.5, -0.5]], dtype=torch.float64))
    assert found.unique == (False,)


def test_features_that_contradict_each_other_are_refuted_and_met_by_least_squares() -> None:
    net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    found = reconstruct(net, [[1.0, 1.0], [1.0, 0.0]], 0)
    assert found.impossible.tolist() == [True, False]
    assert found.exact.tolist() == [False, True]
    assert abs(float(found.points[0, 0])) < 1e-6  # x = 1 and x = -1, halfway
    assert "least squares" in found.summary()


def test_features_beyond_the_box_are_refuted() -> None:
    net = dense([([[1.0, 2.0]], [0.0]), ([[1.0]], None)])
    found = reconstruct(net, [[4.0]], 0, box=Box([0.0, 0.0], [1.0, 1.0]))
    assert found.impossible.tolist() == [True]
    assert torch.allclose(found.points, torch.ones(1, 2, dtype=torch.float64))


def test_negative_features_of_a_relu_are_impossible() -> None:
    net = dense([([[1.0]], [0.0]), ([[1.0]], None)])
    found = reconstruct(net, [[-1.0]], 0)
    assert found.impossible.tolist() == [True]
    assert found.exact.tolist() == [False]


def test_a_dead_layer_leaves_the_start_where_it_is_allowed_to_be() -> None:
    net = dense([([[1.0], [2.0]], [-1.0, -1.0]), ([[1.0, 1.0]], None)])
    found = reconstruct(net, torch.zeros(1, 2), 0, start=[[5.0]])
    assert found.points.tolist() == [[0.5]]
    assert found.exact.tolist() == [True]
    assert found.unique == (False,)


@pytest.mark.parametrize("gate", ["leaky_relu", "relu6", "hardtanh", "hardsigmoid", "abs"])
def test_other_gates_are_undone_or_walked_through(gate: str) -> None:
    layers = {
        "leaky_relu": nn.LeakyReLU(0.1),
        "relu6": nn.ReLU6(),
        "hardtanh": nn.Hardtanh(),
        "hardsigmoid": nn.Hardsigmoid(),
    }
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(12, 4, generator=generator), torch.randn(12, generator=generator)
    if gate == "abs":
        net = dense([(weight.double(), bias.double()), (torch.eye(12).double(), None)], gate="abs")
    else:
        first = nn.Linear(4, 12)
        first.load_state_dict({"weight": weight, "bias": bias})
        net = load(nn.Sequential(first, layers[gate])).double()
    x = 2 * torch.randn(5, 4, generator=generator, dtype=torch.float64)
    found = reconstruct(net, features(net, x, 0), 0, truth=x, start=x + 0.05, steps=0)
    assert bool(found.exact.all()), found.summary()


def test_features_in_front_of_the_gate_are_a_linear_system() -> None:
    net, x = digits(5)
    found = reconstruct(net, features(net, x, "linear1"), 0, at="pre", truth=x)
    assert bool(found.exact.all())
    assert found.errors is not None
    assert found.unique == (True,) * 5  # 64 rows of full rank


# -- behind several gates


def test_deeper_features_are_met_exactly_without_a_claim_on_other_pieces() -> None:
    net, x = digits(8)
    found = reconstruct(net, features(net, x, 1), 1, box=PIXELS, truth=x, steps=60)
    assert int(found.exact.sum()) >= 7
    assert all(u is not True for u in found.unique)


def test_a_start_where_every_unit_is_dead_is_left() -> None:
    net = dense([([[1.0]], [-1.0]), ([[1.0]], [-1.0]), ([[1.0]], None)])
    found = reconstruct(net, [[1.0]], start=[[-1.0]])  # f(x) = max(max(x - 1, 0) - 1, 0), no slope up to 2
    assert found.exact.tolist() == [True]
    assert abs(float(found.points[0, 0]) - 3) < 1e-9


def test_smooth_networks_are_solved_by_newton_and_say_so() -> None:
    torch.manual_seed(0)
    net = load(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    found = reconstruct(net, net(x), start=x + 0.1, steps=0, truth=x)
    assert bool(found.exact.all())
    assert found.smooth
    assert found.unique == (None,) * 4
    assert "smooth" in found.summary()


def test_convolutions_and_pooling_are_finished_exactly() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    net = load(model, example=torch.zeros(1, 1, 8, 8)).double()
    x = zoo.digits_data("test").inputs[:3].double().reshape(3, 1, 8, 8)
    found = reconstruct(net, net(x), box=PIXELS, truth=x, prior="tv", steps=80)
    assert int(found.exact.sum()) >= 2, found.summary()
    first = reconstruct(net, features(net, x, 0), 0, box=PIXELS, truth=x)
    assert bool(first.exact.all())
    assert float((features(net, first.points, 0) - features(net, x, 0)).abs().max()) < 1e-12


# -- what is reported


def test_the_history_begins_at_the_start_and_ends_with_the_answer() -> None:
    net, x = digits(6)
    found = reconstruct(net, features(net, x, 0), 0, box=PIXELS, truth=x, steps=30)
    assert found.residual_history.shape == found.agreement.shape == (6, 32)
    assert found.error_history is not None
    assert found.errors is not None
    assert torch.equal(found.residual_history[:, -1], found.residuals)
    assert torch.allclose(found.error_history[:, -1], found.errors)
    assert found.finished.tolist() == [31] * 6
    assert float(found.residual_history[:, 30].median()) < 0.2 * float(found.residual_history[:, 0].median())
    assert bool((found.agreement[:, -1] == 1).all())


def test_total_variation_makes_smoother_pictures_with_the_same_features() -> None:
    net, x = digits(6)
    y = features(net, x, 1)
    plain, smooth = (reconstruct(net, y, 1, box=PIXELS, prior=p, steps=100, uniqueness=False) for p in ("none", "tv"))
    both = plain.exact & smooth.exact
    assert int(both.sum()) >= 4
    variation = [total_variation(f.points[both].reshape(-1, 1, 8, 8)).mean() for f in (plain, smooth)]
    assert variation[1] < variation[0]


def test_a_network_in_single_precision_is_answered_in_double() -> None:
    net = zoo.digits()
    x = zoo.digits_data("test").inputs[:2]
    found = reconstruct(net, features(net.double(), x.double(), 0), 0, box=PIXELS)
    assert found.points.dtype == torch.float64
    assert bool(found.exact.all())


def test_the_same_seed_gives_the_same_answer() -> None:
    net, x = digits(3)
    first, second = (reconstruct(net, features(net, x, None), box=PIXELS, steps=20, rounds=5, seed=3) for _ in range(2))
    assert torch.equal(first.points, second.points)


def test_results_say_what_they_are_in_words_and_plain_types_and_draw_themselves() -> None:
    net, x = digits(3)
    found = reconstruct(net, features(net, x, 0), 0, box=PIXELS, truth=x, steps=5)
    assert "3 exact" in found.summary()
    assert found.to_dict()["exact"] == [True] * 3
    assert found.plot().get_yscale() == "log"
    assert reconstruction_figure(found).axes
    assert reconstruct(net, features(net, x, 0), 0, box=PIXELS).gallery(2).axes


# -- what is refused


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prior": "sparse"}, InputError, "'norm', 'tv' or 'none'"),
        ({"box": (1.0, 0.0)}, InputError, "low sides"),
        ({"box": (torch.zeros(3), 1.0)}, ShapeError, "sides of shape"),
        ({"steps": -1}, InputError, "steps"),
        ({"allowed": 0.0}, InputError, "allowed"),
        ({"truth": torch.zeros(2, 64)}, ShapeError, "truth"),
        ({"at": "both"}, InputError, "'pre' or 'post'"),
        ({"prior": "tv", "image": (7, 7)}, InputError, "image"),
    ],
)
def test_what_cannot_be_used_is_named(options: dict[str, object], error: type[Exception], words: str) -> None:
    net, x = digits(1)
    with pytest.raises(error, match=words):
        reconstruct(net, features(net, x, 0), 0, **options)  # type: ignore[arg-type]


def test_an_empty_batch_and_foreign_shapes_are_refused() -> None:
    net, _ = digits(1)
    with pytest.raises(InputError, match="empty"):
        reconstruct(net, torch.zeros(0, 64), 0)
    with pytest.raises(ShapeError, match="features"):
        reconstruct(net, torch.zeros(2, 63), 0)


# -- the nearest point of a polyhedron


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 5), st.integers(0, 8))
def test_the_nearest_point_has_no_feasible_point_on_its_near_side(seed: int, n: int, equal: int, less: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randint(-2, 3, shape, generator=generator).double()  # noqa: E731 - ties and zero rows
    inside = torch.rand(n, generator=generator, dtype=torch.float64).round(decimals=1)
    matrix = draw(equal + less, n)
    slack = torch.cat([torch.zeros(equal), draw(less).abs()]).double()
    rows = Rows(matrix, matrix @ inside + slack, equal, torch.zeros(n).double(), torch.ones(n).double())
    wanted = 2 * torch.randn(n, generator=generator, dtype=torch.float64)
    found = nearest(rows, wanted, insist=True)
    assert found.missed <= 1e-12
    assert found.empty is None
    others = [inside, *(nearest(rows, draw(n), insist=True).point for _ in range(3))]
    for z in others:  # the variational inequality of projections onto convex sets
        assert float((wanted - found.point) @ (z - found.point)) <= 1e-9 * (1 + float(wanted.norm())) * math.sqrt(n)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_empty_polyhedra_are_refuted_by_multipliers(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    row = torch.randn(n, generator=generator, dtype=torch.float64)
    rows = Rows(torch.stack([row, row]), torch.tensor([0.1, 0.7]).double(), 2, torch.zeros(n).double(), torch.ones(n).double())
    found = nearest(rows, torch.full((n,), 0.5).double(), insist=True)
    assert found.empty is not None
    combined = found.empty @ (rows.matrix / row.norm())
    least = torch.where(combined > 0, rows.low, rows.high) @ combined - found.empty @ (rows.bound / row.norm())
    assert float(least) > 0
    middle = least_squares(rows, torch.full((n,), 0.5).double())
    reach = (row.clamp(max=0).sum(), row.clamp(min=0).sum())  # of row.x over the box
    assert float(row @ middle) == pytest.approx(float(torch.tensor(0.4).clamp(*reach)), abs=1e-6)


# -- real networks


def test_first_layer_features_of_mnist_are_met_but_leave_many_inputs(data: Path) -> None:
    from polylens.data import read_data

    net = load(data / "nets" / "mnist-net_256x2.onnx").double()
    images = read_data(data / "mnist" / "t10k-images-idx3-ubyte.gz").inputs[:12].reshape(12, 784, 1).double()
    images = images / 255 if float(images.max()) > 1 else images
    found = reconstruct(net, features(net, images, 0), 0, box=PIXELS, truth=images)
    assert bool(found.exact.all())
    assert found.unique == (False,) * 12  # some ten equations, and a hundred pixels that are neither black nor white


def test_features_that_miss_the_range_by_less_than_is_allowed_are_not_called_impossible() -> None:
    net = dense([([[1.0, 1.0], [1.0, -1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
    found = reconstruct(net, [[3.0, -1e-12], [3.0, -1e-6]], layer=0)
    assert found.exact.tolist() == [True, False]
    assert found.impossible.tolist() == [False, True]
