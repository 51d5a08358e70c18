"""Quantised constants of ONNX models against their formula and against onnxruntime, in every opset that has them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError

OPSETS = (10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
ROUNDING = 1e-6  # relative: sums of a few float32 products in two orders
TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32}
NEW_TYPES = {"int16": TensorProto.INT16, "uint16": TensorProto.UINT16, "int4": TensorProto.INT4, "uint4": TensorProto.UINT4}
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-(2**20), 2**20)}
NEW_RANGES = {"int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1), "int4": (-8, 7), "uint4": (0, 15)}
Values = np.ndarray[Any, Any]


def tensor(name: str, kind: int, values: Values) -> onnx.TensorProto:
    return helper.make_tensor(name, kind, values.shape, values.reshape(-1).tolist())


def model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], opset: int, width: int = 4) -> onnx.ModelProto:
    """Return relu(x w), where w is what the nodes make of the weights."""
    nodes = [*nodes, helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])
    graph = helper.make_graph(nodes, "g", [entry], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def weight(found: onnx.ModelProto, width: int = 4) -> Values:
    """Return w as the network holds it, after a look at whether the runtime agrees about the values."""
    x = np.random.default_rng(1).standard_normal((5, width)).astype(np.float32)
    net = from_onnx(found, "model.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = ort.InferenceSession(found.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert np.abs(net(torch.from_numpy(x)).numpy() - wanted).max() <= ROUNDING * np.abs(wanted).max()
    return np.asarray(net.nodes[0].step.parameters()["weight"].numpy().T)


def formula(q: Values, scale: Values, zero: Values) -> Values:
    """Return (q - zero) * scale in rationals, rounded once; both have the shape of q."""
    exact = [Fraction(int(a) - int(z)) * Fraction(float(s)) for a, s, z in zip(q.flat, scale.flat, zero.flat, strict=True)]
    return np.array([float(v) for v in exact]).astype(np.float32).reshape(q.shape)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("opset", OPSETS)
def test_one_scale_is_for_all_entries(opset: int, kind: str) -> None:
    rng = np.random.default_rng([opset, len(kind)])
    q, zero = rng.integers(*RANGES[kind], (4, 5)), np.array(0 if kind == "int32" else rng.integers(*RANGES[kind]))
    scale = np.float32(0.037)
    weights = [tensor("q", TYPES[kind], q), numpy_helper.from_array(np.array(scale), "s"), tensor("z", TYPES[kind], zero)]
    given = ["q", "s"] if kind == "int32" else ["q", "s", "z"]
    found = weight(model([helper.make_node("DequantizeLinear", given, ["w"])], weights, opset))
    assert np.array_equal(found, formula(q, np.broadcast_to(scale, q.shape), np.broadcast_to(zero, q.shape)))


@pytest.mark.parametrize(("axis", "own"), [(0, 0), (1, 1), (-1, 1), (-2, 0), (None, 1)])
@pytest.mark.parametrize("opset", [o for o in OPSETS if o >= 13])
def test_scales_along_an_axis_are_for_its_indices(opset: int, axis: int | None, own: int) -> None:
    rng = np.random.default_rng([opset, own])
    q, size = rng.integers(-128, 127, (4, 5)), (4, 5)[own]
    zero, scale = rng.integers(-9, 9, size), rng.random(size).astype(np.float32)
    wide = (size, 1) if own == 0 else (1, size)
    weights = [tensor("q", TYPES["int8"], q), numpy_helper.from_array(scale, "s"), tensor("z", TYPES["int8"], zero)]
    attributes = {} if axis is None else {"axis": axis}
    found = weight(model([helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes)], weights, opset))
    broadcast = [np.broadcast_to(v.reshape(wide), q.shape) for v in (scale, zero)]
    assert np.array_equal(found, formula(q, *broadcast))


@pytest.mark.parametrize("kind", NEW_TYPES)
@pytest.mark.parametrize(("axis", "block"), [(0, 2), (1, 3), (0, 4)])
@pytest.mark.parametrize("opset", [21, 23])
def test_scales_of_blocks_are_for_the_entries_in_them(opset: int, axis: int, block: int, kind: str) -> None:
    rng = np.random.default_rng([opset, axis, block])
    q = rng.integers(*NEW_RANGES[kind], (4, 6))
    shape = (4 // block, 6) if axis == 0 else (4, 6 // block)
    scale, zero = rng.random(shape).astype(np.float32), rng.integers(*NEW_RANGES[kind], shape)
    weights = [tensor("q", NEW_TYPES[kind], q), numpy_helper.from_array(scale, "s"), tensor("z", NEW_TYPES[kind], zero)]
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=axis, block_size=block)
    found = weight(model([node], weights, opset))
    assert np.array_equal(found, formula(q, *(np.repeat(v, block, axis) for v in (scale, zero))))


@pytest.mark.parametrize("opset", OPSETS)
def test_constants_that_are_quantised_and_back_are_on_the_grid_of_their_scale(opset: int) -> None:
    """Ties go to the even integer, and what lies beyond the range of the type to its ends."""
    w = np.array([[0.5, 1.5, 2.5, -0.5, -1.5], [300, -300, 126.5, 127.5, -128.5], [0.4, 0.6, -2.5, 3, -7], [1, 2, 3, 4, 5]])
    wanted = np.array([[0, 2, 2, 0, -2], [127, -128, 126, 127, -128], [0, 1, -2, 3, -7], [1, 2, 3, 4, 5]])
    weights = [
        numpy_helper.from_array((w / 4).astype(np.float32), "c"),
        numpy_helper.from_array(np.array(0.25, dtype=np.float32), "s"),
        tensor("z", TYPES["int8"], np.array(0)),
    ]
    pair = [
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"]),
    ]
    assert np.array_equal(weight(model(pair, weights, opset)), wanted / 4)


@pytest.mark.parametrize("opset", [10, 13, 18, 21])
def test_without_zero_point_constants_become_bytes_without_sign(opset: int) -> None:
    c = np.array([[-3, 0.6, 254.7, 256, 1]] * 4, dtype=np.float32)
    weights = [numpy_helper.from_array(c, "c"), numpy_helper.from_array(np.array(1, dtype=np.float32), "s")]
    pair = [helper.make_node("QuantizeLinear", ["c", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["w"])]
    assert np.array_equal(weight(model(pair, weights, opset)), [[0, 1, 255, 255, 1]] * 4)


@pytest.mark.parametrize(
    ("opset", "attributes", "size"), [(10, {}, 5), (17, {"axis": 1}, 4), (17, {"axis": 2}, 5), (21, {"block_size": 2}, 3)]
)
def test_scales_that_fit_no_axis_are_refused(opset: int, attributes: dict[str, int], size: int) -> None:
    weights = [tensor("q", TYPES["int8"], np.ones((4, 5))), numpy_helper.from_array(np.ones(size, np.float32), "s")]
    found = model([helper.make_node("DequantizeLinear", ["q", "s"], ["w"], **attributes)], weights, opset)
    with pytest.raises(UnsupportedError, match=r"DequantizeLinear 'w' .*scales of shape \(\d,\)"):
        from_onnx(found, "model.onnx")


def test_values_of_the_network_are_not_quantised() -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["w"])]
    found = model(nodes, [numpy_helper.from_array(np.array(1, dtype=np.float32), "s")], 17)
    with pytest.raises(UnsupportedError, match=r"QuantizeLinear 'q' .*jumps with its input"):
        from_onnx(found, "model.onnx")
