"""Affine maps against rational arithmetic, and what the arguments of affine_map do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from oracles import relu_network
from polylens import AffineMap, Network, affine_map, affine_maps, dense, linearise, load, patterns
from polylens.errors import InputError, ShapeError, SmoothError
from strategies import degenerate_network, points


def random_net(*sizes: int, dtype: torch.dtype = torch.float64, gate: str = "relu"):
    g = torch.Generator().manual_seed(3)
    layers = [(torch.randn(m, n, generator=g), torch.randn(m, generator=g)) for n, m in itertools.pairwise(sizes)]
    return dense(layers, gate).to(dtype=dtype)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_maps_and_patterns_of_degenerate_networks_equal_rational_arithmetic(data: st.DataObject) -> None:
    layers = data.draw(degenerate_network())
    point = data.draw(points(len(layers[0][0][0])))
    want_pattern, want_weight, want_offset = relu_network(layers, point)
    net = dense([(w, b) for w, b in layers])
    x = torch.tensor([point], dtype=torch.float64)
    found = patterns(net, x)
    assert [found.pieces(i)[0].long().tolist() for i in range(len(found.layers))] == want_pattern
    for a in (affine_map(net, x), affine_map(net, x, max_bytes=1)):
        assert a.weight[0].tolist() == [[float(v) for v in row] for row in want_weight]  # dyadic, so equal to the last bit
        assert a.offset[0].tolist() == [float(v) for v in want_offset]


@settings(deadline=None, max_examples=100)
@given(degenerate_network(), st.data())
def test_permuting_the_units_of_a_layer_changes_nothing(layers: list, data: st.DataObject) -> None:
    x = torch.tensor([data.draw(points(len(layers[0][0][0])))], dtype=torch.float64)
    order = data.draw(st.permutations(range(len(layers[0][0]))))
    (w1, b1), (w2, b2), *rest = layers
    shuffled = [([w1[i] for i in order], [b1[i] for i in order]), ([[row[i] for i in order] for row in w2], b2), *rest]
    a, b = affine_map(dense(layers), x), affine_map(dense(shuffled), x)
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(a.offset, b.offset)
    assert torch.equal(patterns(dense(layers), x).pieces(0)[:, list(order)], patterns(dense(shuffled), x).pieces(0))


def test_units_are_rows_of_the_full_map() -> None:
    net, x = random_net(6, 9, 8, 4), torch.randn(3, 6, dtype=torch.float64)
    full = affine_map(net, x, "relu2", at="pre")
    some = affine_map(net, x, "relu2", at="pre", units=[7, 0, 7])
    assert some.output_shape == (3,)
    assert torch.allclose(some.weight, full.weight[:, [7, 0, 7]], rtol=1e-13, atol=1e-14)
    assert torch.allclose(some.offset, full.offset[:, [7, 0, 7]], rtol=1e-13, atol=1e-14)
    assert affine_map(net, x, units=[]).weight.shape == (3, 0, 6)


def test_layers_are_asked_for_by_name_or_position() -> None:
    net, x = random_net(4, 5, 5, 2), torch.randn(2, 4, dtype=torch.float64)
    assert torch.equal(affine_map(net, x, 1, at="pre").weight, affine_map(net, x, "linear2").weight)
    assert torch.equal(affine_map(net, x, -1).weight, affine_map(net, x, "relu2").weight)
    with pytest.raises(InputError, match=r"relu1.*got 'nothing'"):
        affine_map(net, x, "nothing")
    with pytest.raises(InputError, match="'pre' or 'post'"):
        affine_map(net, x, at="before")  # type: ignore[arg-type]


def test_units_beyond_the_layer_are_refused() -> None:
    net, x = random_net(4, 5, 2), torch.zeros(4)
    for units in ([2], [-1]):
        with pytest.raises(InputError, match="positions from 0 to 1"):
            affine_map(net, x, units=units)


def test_units_are_chosen_by_a_mask_and_never_by_floats() -> None:
    net, x = random_net(6, 9, 4), torch.randn(3, 6, dtype=torch.float64)
    want = affine_map(net, x, units=[1, 3])
    mask = [False, True, False, True]
    for units in (mask, torch.tensor(mask), np.array(mask), np.array([1, 3]), torch.tensor([1, 3], dtype=torch.uint8)):
        assert torch.equal(affine_map(net, x, units=units).weight, want.weight)
    for units in (torch.tensor([], dtype=torch.long), np.zeros(4, dtype=bool), []):
        assert affine_map(net, x, units=units).weight.shape == (3, 0, 6)
    for units, problem in [
        ([1.0, 3.0], "integer positions or a mask of bools; got torch.float32"),
        ([True, False], r"mask of shape \(4,\) or \(4,\); got \(2,\)"),
        (torch.ones(2, 2, dtype=torch.bool), "mask of shape"),
        (["a"], "positions or a mask of bools"),
    ]:
        with pytest.raises(InputError, match=problem):
            affine_map(net, x, units=units)  # type: ignore[arg-type]


def test_a_mask_may_have_the_shape_of_the_layer() -> None:
    net = load(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), torch.nn.ReLU()).double().eval(), torch.zeros(1, 1, 3, 3).double())
    x = torch.randn(1, 3, 3, dtype=torch.float64)
    mask = torch.zeros(2, 2, 2, dtype=torch.bool)
    mask[1, 0, 1] = True
    assert torch.equal(affine_map(net, x, "0", units=mask).weight, affine_map(net, x, "0", units=[5]).weight)


def test_layers_of_no_units_have_maps_without_rows_and_pass_on_their_offset() -> None:
    net = dense([(torch.zeros(0, 3), torch.zeros(0)), (torch.zeros(2, 0), torch.tensor([1.0, -1.0]))]).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    assert affine_map(net, x, "relu1", at="pre").weight.shape == (4, 0, 3)
    assert affine_maps(net, x)["relu1"].weight.shape == (4, 0, 3)
    for a in (affine_map(net, x), affine_map(net, x, max_bytes=1), affine_map(net, x, units=[0, 1])):
        assert a.weight.tolist() == [[[0.0] * 3] * 2] * 4
        assert a.offset.tolist() == [[1.0, -1.0]] * 4
    assert patterns(net, x).num_units == 0


def test_a_network_without_steps_has_nothing_in_front_of_its_output() -> None:
    net = load(torch.nn.Sequential(torch.nn.Identity()), torch.zeros(1, 3))
    assert net.nodes == ()
    assert affine_map(net, torch.ones(3)).weight.tolist() == torch.eye(3).tolist()
    with pytest.raises(InputError, match="puts out its input"):
        affine_map(net, torch.ones(3), at="pre")


@pytest.mark.parametrize("function", [torch.sqrt, torch.log, torch.reciprocal, lambda y: y**0.5, lambda y: y / y.sum(1, True)])
def test_points_without_a_derivative_are_refused_and_the_step_is_named(function: object) -> None:
    net = load(Function(function), torch.ones(2, 3))
    good, bad = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert bool(torch.isfinite(linearise(net, good).weight).all())
    name = net.smooth_steps[0].name
    with pytest.raises(
        InputError, match=rf"differentiable; {name} \({net.smooth_steps[0].step.kind}\) has no finite derivative"
    ):
        linearise(net, bad)


class Function(torch.nn.Module):
    """The absolute value of a layer that keeps its input, and a function of it."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.keep = function, torch.nn.Linear(3, 3, bias=False)
        torch.nn.init.eye_(self.keep.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.keep(x).abs())


def test_a_side_branch_without_derivative_does_not_matter() -> None:
    net = load(Function(lambda y: torch.cat([y.sqrt(), 2 * y], 1)), torch.ones(2, 3))
    side = next(node.name for node in net.nodes if node.step.kind == "scale")
    assert affine_map(net, torch.zeros(2, 3), side).weight.shape == (2, 3, 3)
    assert linearise(net, torch.zeros(2, 3), side).offset.tolist() == [[0.0] * 3] * 2


def test_maps_stay_on_the_device_of_the_network_whatever_the_default() -> None:
    net, x = random_net(6, 9, 8, 4), torch.randn(3, 6, dtype=torch.float64)
    want = affine_map(net, x, units=[1, 2])
    with torch.device("meta"):
        assert torch.equal(affine_map(net, x, units=[1, 2]).weight, want.weight)
        assert affine_map(net, x).weight.device.type == "cpu"
        assert affine_map(net, x, "relu2", at="pre", max_bytes=1).weight.device.type == "cpu"


def test_one_point_gives_one_map_without_batch_axis() -> None:
    net, x = random_net(4, 5, 2), torch.randn(3, 4, dtype=torch.float64)
    single = affine_map(net, x[1])
    assert single.weight.shape == (2, 4)
    assert torch.allclose(single(x[1]), net(x[1]), rtol=1e-12, atol=1e-13)
    assert torch.allclose(single.weight, affine_map(net, x)[1].weight, rtol=1e-13, atol=1e-14)
    assert set(affine_maps(net, x[1])) == {"relu1"}


def test_all_pre_activations_come_in_one_pass() -> None:
    net, x = random_net(4, 5, 6, 3), torch.randn(3, 4, dtype=torch.float64)
    for name, a in affine_maps(net, x).items():
        alone = affine_map(net, x, name, at="pre")
        assert torch.allclose(a.weight, alone.weight, rtol=1e-13, atol=1e-14)
        assert torch.allclose(a.offset, alone.offset, rtol=1e-13, atol=1e-14)
    assert affine_maps(dense([([[1.0]], None)]), x[:, :1]) == {}


def test_maps_keep_the_dtype_unless_another_is_asked_for() -> None:
    net, x = random_net(4, 5, 2, dtype=torch.float32), torch.randn(3, 4)
    assert affine_map(net, x).weight.dtype == torch.float32
    wide = affine_map(net, x, dtype=torch.float64)
    assert wide.weight.dtype == torch.float64
    assert torch.equal(wide.weight, affine_map(net.double(), x).weight)


def test_maps_compose_where_the_patterns_agree() -> None:
    net, x = random_net(4, 5, 6, 3), torch.randn(4, dtype=torch.float64)
    first = affine_map(net, x, "relu1")
    tail = dense([(n.step.weight, n.step.bias) for n in net.nodes[2:] if n.step.kind == "linear"])  # type: ignore[attr-defined]
    second = affine_map(tail, first(x))
    assert torch.allclose((second @ first).weight, affine_map(net, x).weight, rtol=1e-12, atol=1e-13)
    assert torch.allclose((second @ first)(x), net(x), rtol=1e-12, atol=1e-13)
    with pytest.raises(ShapeError, match="expected 4 outputs of the inner map; got 5"):
        first @ dense_map(5, 3)


def dense_map(outputs: int, inputs: int):
    return affine_map(dense([(torch.ones(outputs, inputs), None)]), torch.zeros(inputs))


def test_smooth_layers_stop_only_what_lies_behind_them() -> None:
    net = dense([(torch.eye(3), None), (torch.eye(3), None), (torch.eye(3), None)], ["relu", "tanh", None])
    x = torch.tensor([[1.0, -1.0, 2.0]])
    assert affine_map(net, x, "tanh2", at="pre").weight.shape == (1, 3, 3)
    assert set(affine_maps(net, x)) == {"relu1", "tanh2"}
    with pytest.raises(SmoothError, match=r"tanh2 \(tanh\) is smooth.*linearise"):
        affine_map(net, x)
    slope = 1 - torch.tanh(torch.tensor([1.0, 0.0, 2.0])) ** 2
    assert torch.allclose(linearise(net, x).weight[0].diagonal(), slope * torch.tensor([1.0, 0.0, 1.0]))


def test_a_batch_of_maps_takes_one_point_each_or_one_in_all() -> None:
    net, x = random_net(4, 5, 2), torch.randn(5, 4, dtype=torch.float64)
    maps = affine_map(net, x)
    assert maps(x).shape == maps(x[0]).shape == (5, 2)
    assert torch.equal(maps(x[0])[3], maps[3](x[0]))
    assert maps(x.expand(3, 5, 4)).shape == (3, 5, 2)
    assert maps[0](x[:0]).shape == (0, 2)
    for wrong in (x[:4], x[:0], x[:, :3], torch.tensor(1.0)):
        with pytest.raises(ShapeError, match="expected"):
            maps(wrong)


def test_a_map_of_one_number_takes_a_single_point() -> None:
    a = affine_map(random_net(4, 5, 1), torch.zeros(4))
    scalar = AffineMap(a.weight, a.offset, (4,), ())
    assert scalar(torch.ones(4)).shape == ()
    assert scalar(torch.ones(3, 4)).shape == (3,)


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        ([[0.0, 1.0, 2.0, 3.0], [4.0]], "lists of numbers of equal lengths"),
        ([["a", "b", "c", "d"]], "lists of numbers of equal lengths"),
        (torch.zeros(2, 3), r"expected shape \(4,\) or \(batch, 4\); got \(2, 3\)"),
        (torch.zeros(2, 2, 2), r"it would fit after reshape\(\(-1, 4\)\)"),
        (torch.zeros(0, 4), "empty batch"),
        (torch.zeros(2, 4, dtype=torch.int64), "floating-point"),
        (torch.full((2, 4), float("nan")), "8 NaN or infinite among 8"),
        (torch.tensor([[0.0, float("inf"), 0, 0]]), "1 NaN or infinite among 4"),
    ],
)
def test_unfit_inputs_get_one_clear_error_from_every_function(x: object, problem: str) -> None:
    net = random_net(4, 5, 2)
    for function in (net, lambda v: patterns(net, v), lambda v: affine_map(net, v), lambda v: affine_maps(net, v)):
        with pytest.raises(InputError, match=problem):
            function(x)


def test_large_finite_inputs_are_not_mistaken_for_infinite_ones() -> None:
    net = dense([([[1.0, -1.0]], None)])
    big = torch.full((1, 2), 3e38)  # their sum overflows float32
    assert float(net(big)) == 0.0


class Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operation makes, views of the network's parameters aside."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.parameters = {v.data_ptr() for node in net.nodes for v in node.step.parameters().values()}
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in self.parameters:
                self.bytes = max(self.bytes, t.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("units", [None, range(10)], ids=["columns", "rows"])
@pytest.mark.parametrize("max_bytes", [1 << 16, 1 << 18])
def test_max_bytes_bounds_every_tensor_on_the_way_to_the_result(units: range | None, max_bytes: int) -> None:
    net = random_net(20, 300, 300, 30)
    x = torch.randn(100, 20, dtype=torch.float64)
    with Largest(net) as unbounded:
        want = linearise(net, x, units=units, max_bytes=1 << 40)
    result = want.weight.numel() * 8
    with Largest(net) as bounded:
        a = linearise(net, x, units=units, max_bytes=max_bytes)
    assert torch.allclose(a.weight, want.weight, rtol=1e-11, atol=1e-12)
    assert bounded.bytes <= max(max_bytes, result)
    assert unbounded.bytes > max(max_bytes, result)


def test_the_slopes_that_a_chunk_keeps_count_as_memory() -> None:
    net = random_net(2, 4000, 1)
    with Largest(net) as seen:
        linearise(net, torch.randn(100, 2, dtype=torch.float64), units=[0], max_bytes=8 * 4000 * 6)
    slopes = 8 * 4000
    assert seen.bytes <= 2 * slopes  # a point takes two slopes' worth beside its row, so a chunk has no more than two
