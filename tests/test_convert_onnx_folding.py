"""What nodes give on constants: as they are defined, whoever is installed, and in every opset."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from onnx_constants import constant_model, folded_by_polylens
from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError
from test_convert_onnx import Case, expected, normal, whole

AGREEMENT = 1e-6  # relative to the largest entry: one rounding to float32 of what float64 has computed
K = normal(2, 3, 4)
STATISTICS = {"s": normal(3), "b": normal(3, seed=1), "m": normal(3, seed=2), "v": np.abs(normal(3, seed=3)) + 0.1}


def along_channels(v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return v.reshape(1, 3, 1)


def assert_folds(nodes: str, weights: dict[str, Any], opset: int, wanted: Any) -> None:
    got = folded_by_polylens(constant_model(nodes, weights, opset))
    wanted = np.asarray(wanted, dtype=np.float64).reshape(-1)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max(initial=0) <= AGREEMENT * max(np.abs(wanted).max(initial=0), 1e-30)


@pytest.fixture
def no_evaluators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither onnxruntime nor ONNX's reference evaluator can be imported."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx.reference", None)


@pytest.mark.usefixtures("no_evaluators")
@pytest.mark.parametrize("opset", [7, 9, 12, 13, 14, 15, 22])
def test_batch_norm_of_a_constant_is_its_definition(opset: int) -> None:
    s, b, m, v = (along_channels(STATISTICS[name].astype(np.float64)) for name in "sbmv")
    wanted = (K - m) / np.sqrt(v + 1e-5) * s + b
    assert_folds("c = BatchNormalization(k, s, b, m, v)", {"k": K, **STATISTICS}, opset, wanted)


@pytest.mark.usefixtures("no_evaluators")
@pytest.mark.parametrize("opset", [7, 11, 12, 13, 22])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_softmax_of_a_constant_joins_axes_before_opset_13_only(operator: str, axis: int, opset: int) -> None:
    k = K.astype(np.float64)
    joined = k.reshape(int(np.prod(k.shape[:axis])), -1) if opset < 13 else np.moveaxis(k, axis, -1)
    shares = np.exp(joined) / np.exp(joined).sum(-1, keepdims=True)
    wanted = shares if opset < 13 else np.moveaxis(shares, -1, axis)
    wanted = np.log(wanted) if operator == "LogSoftmax" else wanted
    assert_folds(f"c = {operator} <axis = {axis}> (k)", {"k": K}, opset, wanted)


@pytest.mark.usefixtures("no_evaluators")
def test_pools_of_a_constant_are_their_definitions() -> None:
    k = normal(1, 1, 5)
    k[0, 0] = [-5, -4, -3, -2, -1]
    pool = "kernel_shape = [2], strides = [2]"
    assert_folds(f'c = MaxPool <{pool}, auto_pad = "SAME_LOWER"> (k)', {"k": k}, 17, [-5, -3, -1])
    assert_folds(f"c = AveragePool <{pool}, pads = [1, 0]> (k)", {"k": k}, 17, [-5, -3.5, -1.5])
    assert_folds(f"c = AveragePool <{pool}, pads = [1, 0], count_include_pad = 1> (k)", {"k": k}, 17, [-2.5, -3.5, -1.5])


@pytest.mark.usefixtures("no_evaluators")
def test_a_constant_resized_with_aligned_corners_keeps_them() -> None:
    nodes = 'c = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (k, , , t)'
    weights = {"k": np.array([[[0, 1, 4.0]]]), "t": whole(1, 1, 5)}
    assert_folds(nodes, weights, 17, [0, 0.5, 1, 2.5, 4])


@pytest.mark.usefixtures("no_evaluators")
@pytest.mark.parametrize(("pads", "wanted"), [((1, -1), [0, 1, 2]), ((-1, 2), [2, 3, 0, 0]), ((-2, -1), [])])
def test_negative_pads_crop_a_constant(pads: tuple[int, int], wanted: list[float]) -> None:
    assert_folds("c = Pad(k, p)", {"k": np.array([1, 2, 3.0]), "p": whole(*pads)}, 17, wanted)


@pytest.mark.usefixtures("no_evaluators")
def test_infinities_of_a_constant_mask_move_unchanged() -> None:
    mask = np.triu(np.full((3, 3), -np.inf), 1)
    nodes = "t = Trilu <upper = 1> (full, one) h = Where(t, low, flat) c = Softmax <axis = -1> (h)"
    weights = {"full": np.ones((3, 3), np.bool_), "one": np.int64(1), "low": np.float32(-np.inf), "flat": np.float32(0)}
    shares = np.exp(mask) / np.exp(mask).sum(1, keepdims=True)
    assert_folds(nodes, weights, 17, shares)


@pytest.mark.usefixtures("no_evaluators")
def test_integers_stay_exact_however_large() -> None:
    # 2^62 + 1 and its neighbours are one number of float64
    weights = {"a": whole(2**62 + 1, 5), "b": whole(2**62, -2), "first": np.int64(0)}
    assert_folds("d = Sub(a, b) c = Concat <axis = 0> (d, d)", weights, 17, [1, 7, 1, 7])
    assert_folds("g = Gather(a, first) h = Gather(b, first) c = Sub(g, h)", weights, 17, [1])


@pytest.mark.usefixtures("no_evaluators")
@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        ("c = Div(a, b)", [-3, 3, -3, 3]),
        ("c = Mod(a, b)", [-1, -1, 1, 1]),
        ("c = Mod <fmod = 1> (a, b)", [1, -1, -1, 1]),
        ("c = ReduceSum <keepdims = 0> (a)", [0]),
        ("c = ReduceMax <keepdims = 0> (a)", [7]),
        ("c = CumSum(a, first)", [7, 0, -7, 0]),
        ("c = Max(a, b)", [7, -2, 2, 7]),
    ],
)
def test_integers_are_computed_as_integers(nodes: str, wanted: list[int]) -> None:
    weights = {"a": whole(7, -7, -7, 7), "b": whole(-2, -2, 2, 2), "first": np.int64(0)}
    assert_folds(nodes, weights, 17, wanted)


def test_integers_beyond_float64_are_refused_where_steps_compute_them(no_evaluators: None) -> None:
    model = constant_model("c = ReduceSum <keepdims = 0> (a)", {"a": whole(2**62, 1)}, 17)
    with pytest.raises(UnsupportedError, match=r"beyond 2\^53"):
        from_onnx(model, "constants")


@pytest.mark.usefixtures("no_evaluators")
def test_shapes_are_computed_without_any_evaluator() -> None:
    nodes = """s = Shape(x) n = Gather(s, first) m = Unsqueeze(n, at) e = Slice(s, far, far) rest = ConstantOfShape(none)
    t = Concat <axis = 0> (m, e, minus) y = Reshape(x, t)"""
    weights = {"first": np.int64(0), "at": whole(0), "far": whole(9), "none": whole(0), "minus": whole(-1)}
    net = from_onnx(Case(nodes, "N,3,4", weights=weights).model(), "shapes")
    assert (net.input_shape, net.output_shape) == ((3, 4), (12,))


def test_an_operator_without_a_step_is_evaluated_by_onnxruntime() -> None:
    k = normal(1, 4, 2, 2)
    padded = np.pad(k.astype(np.float64) ** 2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    near = sum(padded[:, i : i + 4] for i in range(3))
    wanted = k / (1 + 0.5 / 3 * near) ** 0.75
    assert_folds("c = LRN <size = 3, alpha = 0.5, beta = 0.75, bias = 1.0> (k)", {"k": k}, 13, wanted)
    wanted = k / np.abs(k).sum(1, keepdims=True)
    assert_folds("c = LpNormalization <axis = 1, p = 1> (k)", {"k": k}, 13, wanted)
    model = constant_model("c = Det(k)", {"k": normal(3, 3)}, 13)
    assert np.allclose(folded_by_polylens(model), expected(model, np.zeros((1, 1), np.float32)))


@pytest.mark.usefixtures("no_evaluators")
def test_without_onnxruntime_such_an_operator_is_refused_by_name() -> None:
    model = constant_model("d = Det(k) c = Identity(d)", {"k": normal(3, 3)}, 13)
    with pytest.raises(UnsupportedError, match=r"Det 'd' \(node 0 of 6\).*install onnxruntime, or fold constants"):
        from_onnx(model, "constants")


def test_what_has_two_readings_is_refused_on_constants_too() -> None:
    pool = 'c = MaxPool <kernel_shape = [2], dilations = [2], auto_pad = "SAME_UPPER"> (k)'
    with pytest.raises(UnsupportedError, match="the ONNX standard counts with their gaps"):
        from_onnx(constant_model(pool, {"k": normal(1, 1, 7)}, 19), "constants")
    with pytest.raises(UnsupportedError, match="drops units at random"):
        from_onnx(constant_model("c = Dropout(k, , t)", {"k": K, "t": np.array(True)}, 19), "constants")


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ("c = Reshape(k, t)", {"k": K, "t": whole(5, -1)}),
        ("c = Gather(k, i)", {"k": K, "i": whole(2)}),
        ("c = Add(k, l)", {"k": K, "l": normal(5)}),
        ("c = Div(i, zero)", {"i": whole(1), "zero": whole(0)}),
        ("c = MatMul(k, l)", {"k": K, "l": normal(5, 2)}),
    ],
)
def test_constants_that_do_not_fit_are_refused_with_the_node(nodes: str, weights: dict[str, Any]) -> None:
    weights = {k: v for k, v in weights.items() if k != "zero"} | {"naught": whole(0)}
    model = constant_model(nodes.replace("zero", "naught"), weights, 17)
    with pytest.raises(UnsupportedError, match=r"'c' \(node 0 of 5\): cannot be evaluated on constants"):
        from_onnx(model, "constants")


def test_half_precision_constants_stay_half_precision() -> None:
    k = normal(2, 3).astype(np.float16)
    wanted = (k.astype(np.float64) ** 2).sum(1).astype(np.float16)
    assert_folds("c = ReduceSumSquare <axes = [1]> (k)", {"k": k}, 13, wanted)
