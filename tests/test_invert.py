"""Networks run backwards: what every layer gives back, what is said where one cannot, and how good the predictions are."""

from __future__ import annotations

import itertools
import json
import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polylens import Network, dense, invert, load
from polylens._inverse.least_distance import least
from polylens.cli import main
from polylens.errors import InputError, ShapeError
from polylens.network import section

DATA = os.environ.get("POLYLENS_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="POLYLENS_DATA names no directory")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def loaded(*layers: nn.Module, shape: tuple[int, ...], seed: int = 0) -> Network:
    """Return layers with weights of a seed, loaded in float64."""
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            scale = 1 / math.sqrt(max(1, math.prod(p.shape[1:])))
            fresh = torch.randn(p.shape, generator=seeded(1000 * seed + k)) * scale
            p.copy_(fresh.abs() + 0.2 if p.ndim == 1 and len(p) < 5 else fresh)
    return load(model, example=torch.zeros(1, *shape)).double()


def stack(widths: list[int], gate: str, seed: int, scale: float = 1.0) -> Network:
    """Return a dense network with the gate behind every layer, the last one too."""
    layers = [
        (normal(m, n, seed=seed + k) * scale / math.sqrt(n), 0.3 * normal(m, seed=seed + k + 500))
        for k, (n, m) in enumerate(itertools.pairwise(widths))
    ]
    net = dense([*layers, (torch.eye(widths[-1], dtype=torch.float64), None)], gate=gate)  # type: ignore[arg-type]
    return section(net, 0, len(net.nodes) - 1)


# -- the acceptance


def test_a_linear_layer_and_a_tanh_come_back_in_three_lines() -> None:
    net = load(nn.Sequential(nn.Linear(3, 3), nn.Tanh()).eval()).double()
    x = normal(10, 3)
    back = invert(net, net(x))
    assert (back.x - x).abs().max() < 1e-8
    assert set(back.kinds) == {"unique"}


def test_stacks_of_tanh_come_back_to_1e_8_where_that_is_predicted() -> None:
    for seed in range(40):
        net = stack([6, 6, 8, 8, 9], "tanh", seed)
        x = normal(5, 6, seed=seed + 77)
        back = invert(net, net(x))
        good = back.error < 1e-9
        assert bool(((back.x - x).norm(dim=1)[good] < 1e-8).all())
        assert back.kinds == ("unique",) * 5


def test_the_predicted_error_is_within_a_factor_of_10_of_the_true_one() -> None:
    """Of single outputs where one direction dominates, one normal number decides, which is small now and then."""
    each, whole = [], []
    for seed in range(60):
        width = 2 + seed % 12
        net = stack([width + k // 2 for k in range(1 + seed % 5)] + [width + 3], "tanh", seed, scale=0.4 + seed % 3 / 2)
        x = normal(20, width, seed=seed + 99)
        back = invert(net, net(x))
        true = (back.x - x).norm(dim=1)
        assert back.kinds == ("unique",) * 20
        each.append(true / back.error)
        whole.append(float(each[-1].median()))
    ratios = torch.cat(each)
    assert 0.1 < min(whole) <= max(whole) < 10
    assert float(((ratios > 0.1) & (ratios < 10)).double().mean()) > 0.95


def test_the_question_s_own_network_names_its_layer_and_gives_a_short_input_and_the_dimension_of_the_rest() -> None:
    torch.manual_seed(0)
    net = load(nn.Sequential(nn.Linear(1000, 100), nn.ReLU(), nn.Linear(100, 10)).eval()).double()
    x = normal(1000)
    y = net(x)
    back = invert(net, y, limit=30)
    assert (back.kind, back.obstacle.layer, back.obstacle.reason) == ("partial", "2", "rank")
    assert back.lossy.keys() == {"0", "1", "2"}
    rest = back.rest
    assert rest is not None
    assert rest.proven
    assert rest.dimension == 990
    assert not rest.is_global
    assert (net(back.x) - y).abs().max() < 1e-12
    assert rest.norm < 0.25 * float(x.norm())
    polytope = rest.polytope
    assert polytope is not None
    assert bool(polytope.contains(back.x, 1e-10))


# -- every step


GATES = [
    nn.Tanh(),
    nn.Sigmoid(),
    nn.LeakyReLU(0.2),
    nn.PReLU(),
    nn.ELU(0.7),
    nn.SELU(),
    nn.CELU(0.6),
    nn.Softplus(2.0),
    nn.LogSigmoid(),
    nn.Hardtanh(-9, 9),
]


@pytest.mark.parametrize("gate", GATES, ids=lambda g: type(g).__name__)
def test_every_gate_that_rises_is_undone(gate: nn.Module) -> None:
    net = loaded(nn.Linear(4, 4), gate, nn.Linear(4, 5), shape=(4,))
    x = normal(6, 4)
    back = invert(net, net(x))
    assert back.kinds == ("unique",) * 6
    assert bool(((back.x - x).norm(dim=1) <= 20 * back.error).all())
    assert (back.x - x).abs().max() < 1e-8
    assert bool((back.amplification >= 0).all())


class Elementwise(nn.Module):
    """A function of every entry."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = getattr(torch, self.name)(x)
        return found


PLAIN = [
    "asinh",
    "sinh",
    "atan",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "rsqrt",
    "erf",
    "erfc",
    "asin",
    "acos",
    "acosh",
    "atanh",
    "reciprocal",
]


@pytest.mark.parametrize("name", PLAIN)
def test_every_function_with_an_inverse_is_undone(name: str) -> None:
    net = load(Elementwise(name).eval(), example=torch.full((1, 9), 0.5)).double()
    x = torch.linspace(0.1, 0.9, 9, dtype=torch.float64) + (1.0 if name == "acosh" else 0.0)
    back = invert(net, net(x))
    assert back.kind == "unique"
    assert (back.x - x).abs().max() < 1e-13


@pytest.mark.parametrize("gate", [nn.GELU(), nn.SiLU(), nn.Mish(), nn.Hardswish()], ids=lambda g: type(g).__name__)
def test_gates_with_a_dip_are_undone_where_they_are_positive(gate: nn.Module) -> None:
    net = load(nn.Sequential(gate).eval(), example=torch.zeros(1, 4)).double()
    x = torch.tensor([0.01, 0.5, 2.0, 7.0], dtype=torch.float64)
    assert (invert(net, net(x)).x - x).abs().max() < 1e-12
    assert invert(net, net(-x / 8), starts=0).obstacle.reason == "folded"


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 4, 3, padding=1), (2, 5, 5)),
        (nn.Conv2d(1, 4, 2, stride=2), (1, 6, 6)),
        (nn.ConvTranspose2d(3, 2, 3, stride=2), (3, 3, 3)),
        (nn.Conv1d(2, 2, 3, padding=1), (2, 8)),
        (nn.BatchNorm2d(3), (3, 4, 4)),
    ],
    ids=["wider", "strided", "transposed", "square", "batch norm"],
)
def test_convolutions_and_batch_norm_are_undone(layer: nn.Module, shape: tuple[int, ...]) -> None:
    net = loaded(layer, nn.LeakyReLU(0.3), nn.Flatten(), shape=shape)
    x = normal(3, *shape)
    back = invert(net, net(x))
    assert back.kinds == ("unique",) * 3
    assert bool(((back.x - x).flatten(1).norm(dim=1) <= 20 * back.error).all())


def test_a_convolution_with_a_singular_spectrum_leaves_a_family() -> None:
    model = nn.Sequential(nn.Conv1d(1, 1, 2, padding=1, padding_mode="circular", bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[1.0, -1.0]]]))  # constants are its kernel
    net = load(model, example=torch.zeros(1, 1, 6)).double()
    x = normal(1, 6)
    back = invert(net, net(x))
    assert (back.kind, back.rest.dimension, back.rest.is_global) == ("family", 1, True)
    assert (back.x - (x - x.mean())).abs().max() < 1e-14


def test_large_convolutions_are_undone_as_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polylens._inverse.affine._DENSE", 0.0)
    net = loaded(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), shape=(1, 8, 8))
    x = normal(2, 1, 8, 8)
    back = invert(net, net(x))
    assert back.kinds == ("undecided",) * 2  # a rank is not proven by iterations
    assert (back.x - x).abs().max() < 1e-9


class Block(nn.Module):
    """x + g(x) with a second layer of spectral norm `slope` behind one of norm 1."""

    def __init__(self, slope: float, gate: nn.Module) -> None:
        super().__init__()
        self.inner, self.gate, self.outer = nn.Linear(5, 7), gate, nn.Linear(7, 5)
        with torch.no_grad():
            self.inner.weight /= torch.linalg.matrix_norm(self.inner.weight, 2)
            self.outer.weight *= slope / torch.linalg.matrix_norm(self.outer.weight, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = x + self.outer(self.gate(self.inner(x)))
        return found


@pytest.mark.parametrize("gate", [nn.ReLU(), nn.Tanh(), nn.ELU()], ids=lambda g: type(g).__name__)
def test_residual_blocks_that_contract_are_undone(gate: nn.Module) -> None:
    torch.manual_seed(0)
    net = load(nn.Sequential(Block(0.9, gate), nn.Linear(5, 5), nn.Tanh(), Block(0.5, gate)).eval()).double()
    x = normal(4, 5)
    back = invert(net, net(x))
    assert back.kinds == ("unique",) * 4
    assert bool(((back.x - x).norm(dim=1) <= 20 * back.error).all())
    assert back.steps[0].worst == pytest.approx(2.0, rel=1e-5)


def test_a_residual_block_without_a_proof_says_so() -> None:
    torch.manual_seed(0)
    net = load(nn.Sequential(Block(1.5, nn.Tanh())).eval(), example=torch.zeros(1, 5)).double()
    back = invert(net, net(normal(5)), starts=0)
    assert (back.kind, back.obstacle.reason) == ("undecided", "bound")


# -- what is not affine, not there, or not known


def test_a_max_pool_forgets_its_windows_and_layers_in_front_are_not_looked_at() -> None:
    net = loaded(nn.Conv1d(1, 2, 3, padding=1), nn.Tanh(), nn.MaxPool1d(2), nn.Tanh(), shape=(1, 6))
    back = invert(net, net(normal(2, 1, 6)), starts=0)
    assert [o.reason for o in back.obstacles if o] == ["folded", "folded"]
    assert bool(back.steps[-1].amplification.isnan().all())


@pytest.mark.parametrize(
    "gate", [nn.LeakyReLU(-0.5), nn.PReLU(init=-0.3), nn.GELU(), nn.SiLU()], ids=lambda g: type(g).__name__
)
def test_an_output_with_several_inputs_a_unit_gets_one_that_has_it(gate: nn.Module) -> None:
    torch.manual_seed(0)
    net = load(nn.Sequential(nn.Linear(3, 3), gate, nn.Linear(3, 3)).eval()).double()
    x = normal(8, 3)
    back = invert(net, net(x), starts=4, limit=20)
    folded = [i for i, obstacle in enumerate(back.obstacles) if obstacle is not None and obstacle.reason == "folded"]
    assert folded
    assert {back.kinds[i] for i in folded} == {"partial"}
    assert float((net(back.x[folded]) - net(x[folded])).abs().max()) < 1e-9
    assert all(back[i].rest.norm <= float(x[i].norm()) + 1e-9 for i in folded if back[i].rest.is_global)


def test_values_of_folded_units_are_compared_with_the_one_input_that_the_others_leave() -> None:
    torch.manual_seed(0)
    net = load(nn.Sequential(nn.Linear(2, 12), nn.GELU()).eval()).double()
    x = normal(2)
    y = net(x)
    assert (invert(net, y).x - x).norm() < 1e-12
    off = y.clone()
    off[int(torch.where(y < 0, y, -1.0).argmax())] /= 2
    back = invert(net, off)
    assert (back.kind, back.obstacle.reason) == ("none", "rows")


def test_intervals_are_not_forgotten_in_front_of_a_second_gate() -> None:
    torch.manual_seed(0)
    net = load(nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.2), nn.ReLU()).eval()).double()
    x = normal(10, 3)
    back = invert(net, net(x), starts=4, limit=20)
    assert "family" in back.kinds
    assert set(back.kinds) <= {"unique", "family"}
    assert float((net(back.x) - net(x)).abs().max()) < 1e-9
    assert all(back[i].rest.polytope.contains(x[i], 1e-9) for i, kind in enumerate(back.kinds) if kind == "family")


def test_the_end_of_a_piece_behind_which_a_gate_jumps_is_no_answer() -> None:
    torch.manual_seed(13)
    net = load(nn.Sequential(nn.Linear(3, 8), nn.Threshold(0.1, 0.3), nn.Linear(8, 2), nn.Threshold(0.1, 0.3)).eval()).double()
    x = normal(12, 3)
    back = invert(net, net(x), starts=3, limit=10)
    found = [i for i, kind in enumerate(back.kinds) if kind != "undecided"]
    assert bool(back.x[[i for i, kind in enumerate(back.kinds) if kind == "undecided"]].isnan().all())
    assert float((net(back.x[found]) - net(x[found])).abs().max()) < 1e-7


def test_a_relu_layer_is_undone_where_enough_of_its_units_are_on() -> None:
    net = stack([3, 14], "relu", seed=3)
    x = normal(30, 3)
    back = invert(net, net(x))
    assert back.kinds.count("unique") >= 28
    sure = torch.tensor([kind == "unique" for kind in back.kinds])
    assert (back.x - x)[sure].abs().max() < 1e-12


def test_a_wide_layer_behind_an_affine_one_is_no_obstacle() -> None:
    net = load(nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 3)).eval()).double()
    x = normal(2, 3)
    assert (invert(net, net(x)).x - x).abs().max() < 1e-11


def test_what_a_relu_forgets_at_the_input_is_an_orthant_and_its_shortest_point_is_global() -> None:
    net = dense([([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.0, 1.0, -9.0]), ([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], None)])
    back = invert(net, torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64))  # x = 2, y <= -1, x + y <= 9
    assert (back.kind, back.rest.dimension, back.rest.is_global) == ("family", 1, True)
    assert back.x.tolist() == pytest.approx([2.0, -1.0])


def test_outputs_outside_of_the_range_of_a_gate_have_no_input() -> None:
    net = stack([2, 2], "tanh", seed=0)
    back = invert(net, torch.tensor([[1.5, 0.0], [0.2, 0.1]], dtype=torch.float64))
    assert back.kinds == ("none", "unique")
    assert back.obstacles[0].reason == "range"
    assert bool(back.x[0].isnan().all())


def test_a_tanh_of_exactly_1_is_an_interval_that_other_units_may_settle() -> None:
    square, tall = stack([2, 2], "tanh", seed=0), stack([2, 4], "tanh", seed=1)
    end = invert(square, torch.tensor([1.0, 0.3], dtype=torch.float64))
    assert (end.kind, end.rest.dimension) == ("family", 1)
    assert end.obstacle.reason == "range"
    x = normal(2, seed=5)
    y = tall(x)
    # one unit saturated: the others know x, which does not fit an exact 1
    y[0] = 1.0
    assert invert(tall, y).kind == "none"
    far = 60 * x
    saturated = tall(far)
    assert bool((saturated.abs() == 1).any())
    assert invert(tall, saturated).kind in ("family", "unique")


def test_contradicting_equations_are_named() -> None:
    net = stack([2, 4], "leaky_relu", seed=0)
    back = invert(net, normal(4, seed=9))
    assert (back.kind, back.obstacle.layer, back.obstacle.reason) == ("none", "linear1", "rows")
    assert float(back.residual) > 1e-3


def test_rank_deficient_squares_and_zero_rows_leave_families() -> None:
    weight = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    eye = (torch.eye(2, dtype=torch.float64), None)
    net = dense([(weight, None), eye], gate="leaky_relu")
    back = invert(net, net(torch.tensor([3.0, 1.0], dtype=torch.float64)))
    assert (back.kind, back.rest.dimension) == ("family", 1)
    assert back.x.tolist() == pytest.approx([1.0, 2.0])
    zero = dense([(torch.zeros(2, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)), eye], gate="leaky_relu")
    assert invert(zero, torch.ones(2, dtype=torch.float64)).rest.dimension == 2
    assert invert(zero, torch.tensor([1.0, 2.0], dtype=torch.float64)).kind == "none"


def test_a_batch_norm_of_weight_zero_is_made_good_by_a_taller_layer() -> None:
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.Softplus()).eval()
    with torch.no_grad():
        norm.weight[1] = 0
    net = load(model).double()
    x = normal(3)
    assert (invert(net, net(x)).x - x).abs().max() < 1e-12
    y = net(x)
    y[1] += 0.1
    assert invert(net, y).kind == "none"


def test_float32_outputs_have_larger_predicted_errors() -> None:
    net = stack([4, 4, 4], "tanh", seed=2)
    x = normal(20, 4)
    y = net(x)
    fine, rough = invert(net, y), invert(net, y.float())
    assert bool((rough.error > 1e6 * fine.error).all())
    ratio = (rough.x - x).norm(dim=1) / rough.error
    assert 0.05 < float(ratio.median()) < 10


def test_one_number_in_and_out() -> None:
    net = dense([([[-2.0]], [1.0]), ([[3.0]], None)], gate="leaky_relu")
    back = invert(net, net(torch.tensor([5.0], dtype=torch.float64)))
    assert back.x.tolist() == [5.0]
    assert float(back.amplification) > 0


def test_mistakes_are_told() -> None:
    net = stack([2, 3], "tanh", seed=0)
    with pytest.raises(ShapeError, match="output: expected shape"):
        invert(net, torch.zeros(2))
    with pytest.raises(InputError, match="empty batch"):
        invert(net, torch.zeros(0, 3))
    with pytest.raises(InputError, match="finite"):
        invert(net, torch.full((3,), torch.nan))
    with pytest.raises(InputError, match="precision"):
        invert(net, torch.zeros(3), precision=2.0)
    with pytest.raises(InputError, match="batch of 2"):
        _ = invert(net, torch.zeros(2, 3)).kind


# -- least norm


def test_a_point_of_least_norm_of_a_polyhedron_is_that_of_the_textbook() -> None:
    corner = least(
        torch.ones(1, 3).double(), torch.tensor([3.0]).double(), -torch.eye(3).double(), -torch.tensor([2.0, 0, 0]).double()
    )
    assert corner is not None
    assert corner.proven
    assert corner.point.tolist() == pytest.approx([2.0, 0.5, 0.5])
    empty = least(torch.ones(1, 1).double(), torch.tensor([3.0]).double(), torch.ones(1, 1).double(), torch.ones(1).double())
    assert empty is None


@settings(max_examples=12)
@given(st.integers(0, 10_000))
def test_the_global_minimum_of_small_networks_is_that_of_all_patterns(seed: int) -> None:
    """The oracle solves the convex program of each of the 2^5 patterns."""
    draw = seeded(seed)
    w1, b1 = torch.randint(-3, 4, (5, 2), generator=draw).double(), torch.randint(-2, 3, (5,), generator=draw).double()
    w2 = torch.randint(-2, 3, (1, 5), generator=draw).double()
    net = dense([(w1, b1), (w2, None)])
    y = net(torch.randint(-2, 3, (2,), generator=draw).double())
    back = invert(net, y, starts=4)
    if back.rest is None:
        assert back.kind in ("undecided", "unique")
        return
    assert (net(back.x) - y).abs().max() < 1e-9
    norms = []
    for signs in itertools.product([0.0, 1.0], repeat=5):
        s = torch.tensor(signs, dtype=torch.float64)
        sides = 1 - 2 * s
        found = least(w2 @ (s[:, None] * w1), y - w2 @ (s * b1), sides[:, None] * w1, -sides * b1)
        norms += [float(found.point.norm())] if found is not None and found.proven else []
    shortest = min(norms)
    assert back.rest.norm >= shortest - 1e-7
    if back.rest.is_global:
        assert back.rest.norm == pytest.approx(shortest, abs=1e-6)


def test_an_output_that_no_value_of_the_gate_gives_has_a_proof() -> None:
    net = dense([(normal(5, 9), normal(5)), (-normal(2, 5).abs(), None)])
    assert invert(net, torch.ones(2, dtype=torch.float64), starts=4).kind == "none"


def test_a_smooth_network_that_is_not_undone_gives_a_short_input_by_its_derivative() -> None:
    net = stack([5, 4], "tanh", seed=4)
    narrow = dense([(normal(4, 5), normal(4)), (normal(2, 4), None)], gate="tanh")
    y = narrow(normal(5, seed=3))
    back = invert(narrow, y)
    assert (back.kind, back.rest.dimension, back.rest.is_global) == ("partial", 3, False)
    assert (narrow(back.x) - y).abs().max() < 1e-9
    assert back.rest.polytope is None
    assert invert(net, net(normal(5))).rest.dimension == 1


# -- exact answers


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 2))
def test_integer_layers_come_back_as_rationals_say(seed: int, n: int, more: int) -> None:
    draw = seeded(seed)
    weight = torch.randint(-3, 4, (n + more, n), generator=draw)
    x = torch.randint(-4, 5, (n,), generator=draw)
    net = dense([(weight.double(), None), (torch.eye(n + more).double(), None)], gate="leaky_relu")
    back = invert(net, net(x.double()))
    rank = rational_rank([[Fraction(int(v)) for v in row] for row in weight])
    if rank == n:
        assert back.kind == "unique"
        assert (back.x - x).abs().max() < 1e-9
    else:
        assert (back.kind, back.rest.dimension) == ("family", n - rank)
        assert (net(back.x) - net(x.double())).abs().max() < 1e-9


def rational_rank(rows: list[list[Fraction]]) -> int:
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


# -- faces


def test_a_batch_is_indexed_told_and_drawn() -> None:
    net = stack([3, 4, 4], "tanh", seed=1)
    y = torch.cat([net(normal(3, 3)), torch.full((1, 4), 2.0, dtype=torch.float64)])
    back = invert(net, y)
    assert len(back) == 4
    assert repr(back) == "Inversion(4 outputs: 3 unique, 1 none)"
    assert back[0].kind == "unique"
    assert [one.kind for one in back] == list(back.kinds)
    assert "predicted error" in back.summary()
    json.dumps(back.to_dict(), allow_nan=False)
    axes = back.plot()
    assert axes.get_yscale() == "log"
    assert "4 outputs" in axes.get_title(loc="left")
    with pytest.raises(IndexError):
        back[4]


def test_the_command_writes_inputs_a_picture_and_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {"W1": np.eye(3) + 0.1, "b1": np.ones(3), "W2": np.eye(3)}
    np.savez(tmp_path / "net.npz", **weights)
    np.save(tmp_path / "y.npy", np.array([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]]))
    options = ["--output", str(tmp_path / "y.npy"), "-o", str(tmp_path / "x.npy"), "--plot", str(tmp_path / "p.png"), "--json"]
    assert main(["invert", str(tmp_path / "net.npz"), *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kinds"] == ["unique", "unique"]
    x = np.load(tmp_path / "x.npy")
    assert np.allclose(np.maximum(x @ weights["W1"].T + 1, 0), [[1, 2, 3], [0.5, 0.5, 0.5]])
    assert (tmp_path / "p.png").stat().st_size > 1000


@pytest.mark.slow
@needs_data
def test_a_trained_digits_network_gives_a_short_input_with_the_same_scores() -> None:
    net = load(Path(DATA or "") / "nets" / "mnist-net_256x2.onnx").double()
    x = torch.rand(net.input_shape, generator=seeded(), dtype=torch.float64)
    back = invert(net, net(x), starts=4, limit=4)
    assert back.kind == "partial"
    assert float(back.residual) < 1e-9
    assert back.rest.norm < float(x.norm())
