"""ONNX models against onnxruntime: real networks, every operator on its own, models that torch exports, and refusals."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from polylens import Network, affine_map, linearise, patterns
from polylens.convert.onnx import from_onnx, read_onnx
from polylens.errors import FileError, InputError, UnsupportedError

FLOAT32_AGREEMENT = 1e-5  # relative to max |f|: both sides add up the same float32 numbers in different orders
LARGE = 2**63 - 1


# -- comparing


def runtime(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def expected(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the runtime's output; where it lacks an operator for the opset, that of ONNX's reference."""
    constants = {tensor.name for tensor in model.graph.initializer}
    (entry,) = (i for i in model.graph.input if i.name not in constants)
    try:
        return np.asarray(runtime(model).run(None, {entry.name: x})[0])
    except (ort.capi.onnxruntime_pybind11_state.NotImplemented, ort.capi.onnxruntime_pybind11_state.Fail):
        return np.asarray(ReferenceEvaluator(model).run(None, {entry.name: x})[0])


def disagreement(got: torch.Tensor, wanted: np.ndarray[Any, Any]) -> float:
    assert got.numel() == wanted.size, f"{tuple(got.shape)} against {wanted.shape}"
    difference = np.abs(got.double().numpy().reshape(-1) - wanted.astype(np.float64).reshape(-1)).max()
    return float(difference / max(np.abs(wanted).max(), 1e-30))


def assert_affine_near(net: Network, x: torch.Tensor) -> None:
    """f(y) = A y + b at x and at neighbours that have the pattern of x, in float64."""
    net, x = net.double(), x.double()
    local, own = affine_map(net, x), patterns(net, x)
    nearby = x + 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    same = own.distances(patterns(net, nearby)).diagonal() == 0
    for y, keep in ((x, torch.ones(len(x), dtype=torch.bool)), (nearby, same)):
        value = net(y).reshape(len(y), -1)
        image = torch.einsum("boi,bi->bo", local.weight, y.reshape(len(y), -1)) + local.offset
        assert torch.all((value - image)[keep].abs() <= 1e-9 * (1 + value.abs().max()))


def assert_touches(net: Network, x: torch.Tensor) -> None:
    """The first-order map has the network's value at the point itself, in float64."""
    net, x = net.double(), x.double()
    local, value = linearise(net, x), net(x).reshape(len(x), -1)
    image = torch.einsum("boi,bi->bo", local.weight, x.reshape(len(x), -1)) + local.offset
    assert torch.all((value - image).abs() <= 1e-9 * (1 + value.abs().max()))


# -- hand-built models


@dataclass(frozen=True)
class Case:
    """Nodes between x and y in ONNX's text form, the shape of x (N stands for a symbolic batch), the weights."""

    nodes: str
    shape: str = "N,4"
    opset: int = 17
    weights: Mapping[str, Any] = field(default_factory=dict)
    agreement: float = FLOAT32_AGREEMENT

    def model(self) -> onnx.ModelProto:
        graph = onnx.parser.parse_graph(f"g (float[{self.shape}] x) => (float[] y) {{ {self.nodes} }}")
        for name, value in self.weights.items():
            array = np.asarray(value)
            array = array.astype(np.float32) if array.dtype == np.float64 else array
            graph.initializer.append(numpy_helper.from_array(array, name))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


W = normal(4, 5)
IMAGE = "N,3,7,6"
CASES: dict[str, Case] = {
    # arithmetic
    "add": Case("y = Add(x, b)", weights={"b": normal(4)}),
    "add a scalar on the left": Case("y = Add(b, x)", weights={"b": np.float32(2)}),
    "add two live": Case("z = Relu(x) y = Add(x, z)"),
    "add live of another rank": Case("z = ReduceSum <keepdims = 0> (x, a) y = Add(x, z)", "1,4", weights={"a": whole(0)}),
    "add broadcasts x": Case("y = Add(x, b)", "N,3,1", weights={"b": normal(3, 4)}),
    "add broadcasts one input": Case("y = Add(x, b)", "1,4", weights={"b": normal(3, 4)}),
    "sub": Case("y = Sub(x, b)", weights={"b": normal(4)}),
    "sub from a constant": Case("y = Sub(b, x)", weights={"b": normal(4)}),
    "sub live": Case("z = Abs(x) y = Sub(z, x)"),
    "mul": Case("y = Mul(x, b)", weights={"b": normal(1, 4)}),
    "mul live": Case("z = Sigmoid(x) y = Mul(x, z)"),
    "div": Case("y = Div(x, b)", weights={"b": normal(4)}),
    "div a constant": Case("z = Exp(x) y = Div(b, z)", weights={"b": normal(4)}),
    "div live": Case("z = Exp(x) y = Div(x, z)"),
    "neg": Case("y = Neg(x)"),
    "sum of several": Case("z = Relu(x) y = Sum(x, b, z)", weights={"b": normal(4)}),
    "sum of one": Case("y = Sum(x)"),
    "mean of several": Case("z = Relu(x) y = Mean(b, x, z)", weights={"b": normal(4)}),
    "max of several": Case("z = Neg(x) y = Max(x, b, z)", weights={"b": normal(4)}),
    "max with zero": Case("y = Max(x, b)", weights={"b": np.float32(0)}),
    "max broadcasts x": Case("y = Max(b, x)", "N,3,1", weights={"b": normal(3, 4)}),
    "min of several": Case("z = Neg(x) y = Min(b, x, z)", weights={"b": normal(1, 4)}),
    "matmul": Case("y = MatMul(x, w)", weights={"w": W}),
    "matmul with bias": Case("z = MatMul(x, w) y = Add(z, b)", weights={"w": W, "b": normal(5)}),
    "matmul by a vector": Case("y = MatMul(x, w)", weights={"w": normal(4)}),
    "matmul on the last axis": Case("y = MatMul(x, w)", "N,3,4", weights={"w": W}),
    "matmul by a stack": Case("y = MatMul(x, w)", "N,3,2,4", weights={"w": normal(3, 4, 5)}),
    "matmul by a stack of matching rank": Case("y = MatMul(x, w)", "N,2,4", weights={"w": normal(1, 4, 5)}),
    "matmul from the left": Case("y = MatMul(w, x)", "N,4,2", weights={"w": normal(3, 4)}),
    "matmul by a row from the left": Case("y = MatMul(w, x)", "N,4,2", weights={"w": normal(4)}),
    "matmul of a vector": Case("y = MatMul(x, w)", "4", weights={"w": W}),
    "matmul of a column": Case("z = MatMul(w, x) y = Relu(z)", "4,1", weights={"w": normal(3, 4)}),
    "matmul of a vector from the left": Case("y = MatMul(w, x)", "4", weights={"w": normal(3, 4)}),
    "matmul of one input from the left": Case("y = MatMul(w, x)", "1,4", weights={"w": normal(3, 1)}),
    "matmul live": Case("z = Transpose <perm = [0, 2, 1]> (x) y = MatMul(x, z)", "N,3,4"),
    "matmul live of one input": Case("z = Transpose (x) y = MatMul(z, x)", "1,4"),
    "matmul live of vectors": Case("y = MatMul(x, x)", "4"),
    "gemm": Case("y = Gemm(x, w, b)", weights={"w": W, "b": normal(5)}),
    "gemm without bias": Case("y = Gemm <transB = 1> (x, w)", weights={"w": normal(5, 4)}),
    "gemm scaled": Case(
        "y = Gemm <alpha = 0.5, beta = -2.0, transB = 1> (x, w, b)", weights={"w": normal(5, 4), "b": normal(1, 5)}
    ),
    "gemm with a scalar": Case("y = Gemm(x, w, b)", weights={"w": W, "b": np.float32(3)}),
    "gemm with live bias": Case("z = MatMul(x, w) y = Gemm <beta = 3.0> (x, w, z)", weights={"w": W}),
    "gemm of a column": Case("y = Gemm <alpha = 2.0> (w, x, b)", "4,1", weights={"w": normal(3, 4), "b": normal(3, 1)}),
    "gemm of a row turned": Case("y = Gemm <transA = 1> (x, w)", "1,4", weights={"w": normal(1, 3)}),
    "pow 1": Case("y = Pow(x, e)", weights={"e": np.float32(1)}),
    "pow 2": Case("y = Pow(x, e)", weights={"e": np.float32(2)}),
    "pow 3 in integers": Case("y = Pow(x, e)", weights={"e": whole(3)}),
    "pow of a constant": Case("y = Pow(e, x)", weights={"e": np.float32(2)}),
    # gates
    "relu": Case("y = Relu(x)"),
    "leaky relu": Case("y = LeakyRelu <alpha = 0.3> (x)"),
    "leaky relu by default": Case("y = LeakyRelu(x)"),
    "prelu": Case("y = PRelu(x, s)", "N,3,2,2", weights={"s": normal(3, 1, 1)}),
    "prelu of one slope": Case("y = PRelu(x, s)", weights={"s": normal(1)}),
    "abs": Case("y = Abs(x)"),
    "clip": Case("y = Clip(x, l, h)", weights={"l": np.float32(-0.5), "h": np.float32(1)}),
    "clip from below": Case("y = Clip(x, l)", weights={"l": np.float32(-0.5)}),
    "clip from above": Case("y = Clip(x, , h)", weights={"h": np.float32(0.5)}),
    "clip by attributes": Case("y = Clip <min = -0.5, max = 1.0> (x)", opset=10),
    "clip by nothing": Case("z = Clip(x) y = Relu(z)"),
    "hard sigmoid": Case("y = HardSigmoid(x)"),
    "hard sigmoid of its own": Case("y = HardSigmoid <alpha = 0.4, beta = 0.1> (x)"),
    "hard sigmoid downwards": Case("y = HardSigmoid <alpha = -0.4, beta = 0.1> (x)"),
    "thresholded relu": Case("y = ThresholdedRelu <alpha = 0.4> (x)"),
    "shrink": Case("y = Shrink <lambd = 0.4, bias = 0.3> (x)"),
    "hard shrink": Case("y = Shrink(x)"),
    # smooth
    **{
        name.lower(): Case(f"y = {name}(x)", opset=20 if name == "Gelu" else 18)
        for name in [
            "Sigmoid",
            "Tanh",
            "Elu",
            "Selu",
            "Celu",
            "Softplus",
            "Softsign",
            "Mish",
            "HardSwish",
            "Gelu",
            "Exp",
            "Erf",
            "Sin",
            "Cos",
            "Tan",
            "Atan",
            "Sinh",
            "Cosh",
            "Asinh",
        ]
    },
    "elu of its own": Case("y = Elu <alpha = 0.4> (x)"),
    "selu of its own": Case("y = Selu <alpha = 0.4, gamma = 2.0> (x)"),
    "celu of its own": Case("y = Celu <alpha = 0.4> (x)"),
    "gelu by tanh": Case('y = Gelu <approximate = "tanh"> (x)', opset=20),
    **{
        name.lower(): Case(f"z = Exp(x) w = Add(z, one) y = {name}(w)", weights={"one": np.float32(1)})
        for name in ("Log", "Sqrt", "Reciprocal", "Acosh")
    },
    **{name.lower(): Case(f"z = Sigmoid(x) y = {name}(z)") for name in ("Asin", "Acos", "Atanh")},
    "softmax": Case("y = Softmax(x)", "N,3,4"),
    "softmax along channels": Case("y = Softmax <axis = 1> (x)", "N,3,4"),
    "softmax before 13": Case("y = Softmax(x)", "N,3,4", opset=11),
    "softmax before 13 on the last axis": Case("y = Softmax <axis = -1> (x)", "N,3,4", opset=11),
    "softmax of one input before 13": Case("y = Softmax <axis = 0> (x)", "1,3,4", opset=11),
    "log softmax": Case("y = LogSoftmax <axis = -2> (x)", "N,3,4"),
    "log softmax before 13": Case("y = LogSoftmax <axis = 2> (x)", "N,3,2,4", opset=11),
    "layer norm": Case(
        "y = LayerNormalization <axis = 1> (x, s, b)", "N,3,4", weights={"s": normal(3, 4), "b": normal(3, 4, seed=1)}
    ),
    "layer norm without bias": Case("y = LayerNormalization <epsilon = 0.1> (x, s)", "N,3,4", weights={"s": normal(4)}),
    "batch norm": Case(
        "y = BatchNormalization <epsilon = 0.01> (x, s, b, m, v)",
        IMAGE,
        weights={"s": normal(3), "b": normal(3), "m": normal(3), "v": np.abs(normal(3))},
    ),
    "batch norm of vectors": Case(
        "y = BatchNormalization(x, s, b, m, v)",
        weights={"s": normal(4), "b": normal(4), "m": normal(4), "v": np.abs(normal(4))},
    ),
    "instance norm": Case("y = InstanceNormalization(x, s, b)", IMAGE, weights={"s": normal(3), "b": normal(3)}),
    "group norm": Case(
        "y = GroupNormalization <num_groups = 2> (x, s, b)", "N,4,3,2", 21, weights={"s": normal(4), "b": normal(4)}
    ),
    "group norm before 21": Case(
        "y = GroupNormalization <num_groups = 2> (x, s, b)", "N,4,3,2", 18, weights={"s": normal(2), "b": normal(2)}
    ),
    # reductions
    "reduce sum": Case("y = ReduceSum(x, a)", "N,3,4", weights={"a": whole(1)}),
    "reduce sum by attribute": Case("y = ReduceSum <axes = [-1], keepdims = 0> (x)", "N,3,4", opset=11),
    "reduce sum of everything": Case("y = ReduceSum <keepdims = 0> (x)", "1,3,4"),
    "reduce sum of nothing": Case("z = ReduceSum <noop_with_empty_axes = 1> (x) y = Relu(z)"),
    "reduce mean": Case("y = ReduceMean <axes = [2, 3]> (x)", IMAGE),
    "reduce mean by input": Case("y = ReduceMean <keepdims = 0> (x, a)", IMAGE, 18, {"a": whole(-1, 1)}),
    "reduce max": Case("y = ReduceMax <axes = [1]> (x)", "N,3,4"),
    "reduce max of two axes": Case("y = ReduceMax <keepdims = 0> (x, a)", IMAGE, 18, {"a": whole(1, 3)}),
    "reduce max of everything": Case("y = ReduceMax <keepdims = 1> (x)", "1,3,4"),
    "reduce min": Case("y = ReduceMin <axes = [-1], keepdims = 0> (x)", "N,3,4"),
    "reduce l1": Case("y = ReduceL1 <axes = [1]> (x)", "N,3,4"),
    "reduce l2": Case("y = ReduceL2 <axes = [1], keepdims = 0> (x)", "N,3,4"),
    "reduce sum of squares": Case("y = ReduceSumSquare <axes = [1]> (x)", "N,3,4"),
    # shapes
    "identity": Case("z = Identity(x) y = Relu(z)"),
    "dropout": Case("z, m = Dropout(x) y = Relu(z)"),
    "dropout by inputs": Case("z = Dropout(x, r, t) y = Relu(z)", weights={"r": np.float32(0.5), "t": np.array(False)}),
    "dropout by attribute": Case("z = Dropout <ratio = 0.5> (x) y = Relu(z)", opset=10),
    "cast": Case("z = Cast <to = 11> (x) w = Abs(z) y = Cast <to = 1> (w)"),
    "flatten": Case("y = Flatten(x)", IMAGE),
    "flatten from a later axis": Case(
        "z = Flatten <axis = 2> (x) w = Relu(z) y = Reshape(w, t)", IMAGE, weights={"t": whole(-1, 126)}
    ),
    "flatten one input": Case("y = Flatten <axis = 0> (x)", "1,3,4"),
    "flatten one input and back": Case("z = Flatten <axis = 0> (x) y = Reshape(z, t)", "N,3,4", weights={"t": whole(-1, 3, 4)}),
    "flatten a vector": Case("z = Flatten(x) y = Relu(z)", "4"),
    "reshape": Case("y = Reshape(x, t)", "N,12", weights={"t": whole(-1, 3, 4)}),
    "reshape with copies": Case("y = Reshape(x, t)", "N,3,4", weights={"t": whole(0, 2, -1)}),
    "reshape one input": Case("y = Reshape(x, t)", "1,12", weights={"t": whole(3, 4)}),
    "reshape to a traced shape": Case("y = Reshape(x, t)", "1,12", weights={"t": whole(1, 3, 4)}),
    "reshape folds the batch and back": Case(
        "z = Reshape(x, t) r = MatMul(z, w) y = Reshape(r, u)", "N,3,4", weights={"t": whole(-1, 4), "u": whole(-1, 15), "w": W}
    ),
    "reshape by the live shape": Case(
        "s = Shape(x) n = Gather(s, zero) m = Unsqueeze(n, at) t = Concat <axis = 0> (m, rest) y = Reshape(x, t)",
        "N,3,4",
        weights={"zero": np.int64(0), "at": whole(0), "rest": whole(-1)},
    ),
    "shape in part": Case("s = Shape <start = 1, end = 2> (x) f = Cast <to = 1> (s) y = Mul(x, f)", "N,3,4"),
    "size": Case("s = Size(x) f = Cast <to = 1> (s) y = Div(x, f)", "1,3,4"),
    "transpose": Case("y = Transpose <perm = [0, 2, 3, 1]> (x)", IMAGE),
    "transpose reversed": Case("y = Transpose(x)", "1,3,4"),
    "transpose of a matrix": Case("y = Transpose <perm = [1, 0]> (x)", "1,4"),
    "squeeze": Case("y = Squeeze(x, a)", "N,1,4", weights={"a": whole(1)}),
    "squeeze by attribute": Case("y = Squeeze <axes = [-2]> (x)", "N,1,4", opset=11),
    "squeeze everything": Case("z = Squeeze(x) y = MatMul(z, w)", "1,1,4", weights={"w": W}),
    "unsqueeze": Case("y = Unsqueeze(x, a)", weights={"a": whole(1, -1)}),
    "unsqueeze by attribute": Case("y = Unsqueeze <axes = [2]> (x)", opset=11),
    "unsqueeze in front": Case("z = Unsqueeze(x, a) y = Relu(z)", "1,4", weights={"a": whole(0)}),
    "unsqueeze a vector": Case("z = Unsqueeze(x, a) y = MatMul(z, w)", "4", weights={"a": whole(0), "w": W}),
    "expand": Case("y = Expand(x, s)", "N,3,1", weights={"s": whole(1, 3, 5)}),
    "expand by less": Case("y = Expand(x, s)", "N,3,1", weights={"s": whole(5)}),
    "expand one input": Case("y = Expand(x, s)", "1,4", weights={"s": whole(3, 4)}),
    "expand by more axes": Case("y = Expand(x, s)", "1,4", weights={"s": whole(2, 3, 4)}),
    "tile": Case("y = Tile(x, r)", "N,2,3", weights={"r": whole(1, 2, 3)}),
    "tile one input": Case("y = Tile(x, r)", "1,3", weights={"r": whole(2, 1)}),
    "concat": Case("z = Relu(x) y = Concat <axis = 1> (x, z)", "N,3,4"),
    "concat with a constant": Case("y = Concat <axis = -1> (c, x)", "1,4", weights={"c": normal(1, 3)}),
    "concat one input": Case("z = Abs(x) y = Concat <axis = 0> (x, z)", "1,4"),
    "concat vectors": Case("z = Abs(x) y = Concat <axis = 0> (x, z, c)", "4", weights={"c": normal(2)}),
    "split": Case("a, b = Split <axis = 1> (x, s) y = Sub(a, b)", "N,4", weights={"s": whole(2, 2)}),
    "split by attribute": Case("a, b = Split <axis = 1, split = [1, 3]> (x) y = Add(a, b)", opset=11),
    "split evenly": Case("a, b = Split <axis = -1> (x) y = Mul(a, b)"),
    "split unevenly": Case("a, b = Split <axis = 1, num_outputs = 2> (x) y = Concat <axis = 1> (b, a)", "N,5", 18),
    "slice": Case("y = Slice(x, b, e)", "4,5", weights={"b": whole(0, 1), "e": whole(LARGE, 3)}),
    "slice by attributes": Case("y = Slice <axes = [1], starts = [1], ends = [-1]> (x)", "N,5", opset=9),
    "slice by attributes on all axes": Case("y = Slice <starts = [0, 1], ends = [1000, 1000]> (x)", "N,5", opset=9),
    "slice with steps": Case(
        "y = Slice(x, b, e, a, s)", "N,3,7", weights={"b": whole(1), "e": whole(7), "a": whole(-1), "s": whole(2)}
    ),
    "slice backwards": Case(
        "y = Slice(x, b, e, a, s)", "N,7", weights={"b": whole(-1), "e": whole(-LARGE), "a": whole(1), "s": whole(-2)}
    ),
    "slice one input": Case("y = Slice(x, b, e, a)", "1,7", weights={"b": whole(0, 2), "e": whole(1, 9), "a": whole(0, 1)}),
    "pad": Case("y = Pad(x, p)", "N,3,4", weights={"p": whole(0, 1, 0, 0, 2, 3)}),
    "pad with a value": Case("y = Pad(x, p, v)", "N,3,4", weights={"p": whole(0, 1, 0, 0, 2, 3), "v": np.float32(1.5)}),
    "pad by attributes": Case("y = Pad <pads = [0, 1, 0, 2], value = 2.0> (x)", opset=10),
    "pad some axes": Case("y = Pad(x, p, , a)", "N,3,4", 18, weights={"p": whole(1, 2), "a": whole(-1)}),
    "pad and crop": Case("y = Pad(x, p)", "N,3,4", weights={"p": whole(0, -1, 0, 0, 2, -1)}),
    "pad the edge": Case('y = Pad <mode = "edge"> (x, p)', "N,3,4", weights={"p": whole(0, 1, 0, 0, 2, 3)}),
    "pad by reflection": Case('y = Pad <mode = "reflect"> (x, p)', "N,3,4", weights={"p": whole(0, 1, 0, 0, 2, 3)}),
    "pad around": Case('y = Pad <mode = "wrap"> (x, p)', "N,3,4", 19, weights={"p": whole(0, 1, 0, 0, 2, 3)}),
    "pad one input": Case("y = Pad(x, p)", "1,4", weights={"p": whole(1, 0, 2, 0)}),
    "gather": Case("y = Gather <axis = 1> (x, i)", weights={"i": whole(2, 0, -1, 2)}),
    "gather one": Case("y = Gather <axis = -1> (x, i)", "N,3,4", weights={"i": np.int64(-2)}),
    "gather a matrix": Case("y = Gather <axis = 1> (x, i)", weights={"i": np.array([[0, 1, 2], [3, 2, 1]])}),
    "gather one input": Case("z = Gather(x, i) y = MatMul(z, w)", "1,4", weights={"i": np.int64(0), "w": W}),
    "gather from a vector": Case("y = Gather(x, i)", "4", weights={"i": whole(3, 1)}),
    "gather elements": Case("y = GatherElements <axis = 1> (x, i)", "1,4", weights={"i": np.array([[3, 0]])}),
    "gather at places": Case("y = GatherND(x, i)", "1,3,4", weights={"i": np.array([[0, 2, 1], [0, 0, 3]])}),
    "scatter at places": Case("y = ScatterND(x, i, u)", "1,4", weights={"i": np.array([[0, 2]]), "u": normal(1)}),
    "scatter into zeros": Case(
        "z = Neg(x) y = ScatterND(c, i, z)",
        "4",
        weights={"c": normal(6), "i": np.array([[5], [0], [2], [1]])},
    ),
    "scatter elements": Case(
        "z = Relu(x) y = ScatterElements <axis = 1> (x, i, z)", "1,4", weights={"i": np.array([[1, 0, 3, 2]])}
    ),
    "where": Case("z = Neg(x) y = Where(c, x, z)", weights={"c": np.array([True, False, False, True])}),
    "where beside a constant": Case(
        "y = Where(c, v, x)", weights={"c": np.array([[True, False, False, True]]), "v": np.array([1, np.inf, -np.inf, 2])}
    ),
    "depth to space": Case("y = DepthToSpace <blocksize = 2> (x)", "N,8,2,3"),
    "depth to space by columns": Case('y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', "N,8,2,3"),
    "space to depth": Case("y = SpaceToDepth <blocksize = 2> (x)", "N,2,4,6"),
    # constants
    "constant": Case("c = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> () y = Mul(x, c)"),
    "constant of shape": Case("c = ConstantOfShape <value = float[1] {2.5}> (s) y = Add(x, c)", weights={"s": whole(1, 4)}),
    "constants among themselves": Case(
        "c = Cos(b) d = Mul(c, b) e = Where(m, c, d) y = Add(x, e)",
        weights={"b": normal(4), "m": np.array([True, False, True, False])},
    ),
    "constant of half precision": Case("d = Cast <to = 1> (b) y = Mul(x, d)", weights={"b": normal(4).astype(np.float16)}),
    # convolutions
    "conv": Case("y = Conv(x, w, b)", IMAGE, weights={"w": normal(4, 3, 3, 3), "b": normal(4)}),
    "conv without bias": Case("y = Conv(x, w)", IMAGE, weights={"w": normal(4, 3, 3, 2)}),
    "conv with everything": Case(
        "y = Conv <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 2, 1, 2], dilations = [1, 2], group = 3> (x, w, b)",
        IMAGE,
        weights={"w": normal(6, 1, 3, 2), "b": normal(6)},
    ),
    "conv padded on one side": Case(
        "y = Conv <pads = [0, 1, 2, 3], strides = [2, 2]> (x, w)", IMAGE, weights={"w": normal(2, 3, 3, 3)}
    ),
    **{
        f"conv {auto.lower().replace('_', ' ')}": Case(
            f'y = Conv <auto_pad = "{auto}", strides = [2, 3]> (x, w)', IMAGE, weights={"w": normal(2, 3, 4, 3)}
        )
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    },
    "conv over one axis": Case("y = Conv <pads = [1, 1]> (x, w)", "N,3,9", weights={"w": normal(2, 3, 3)}),
    "conv over three axes": Case(
        "y = Conv <pads = [1, 0, 1, 1, 0, 1]> (x, w)", "N,2,4,3,4", weights={"w": normal(2, 2, 3, 2, 3)}
    ),
    "conv transpose": Case("y = ConvTranspose(x, w, b)", IMAGE, weights={"w": normal(3, 2, 3, 3), "b": normal(2)}),
    "conv transpose with everything": Case(
        "y = ConvTranspose <strides = [2, 3], pads = [1, 2, 1, 2], output_padding = [1, 2], group = 3> (x, w)",
        IMAGE,
        weights={"w": normal(3, 2, 3, 4)},
    ),
    "conv transpose dilated": Case(
        "y = ConvTranspose <strides = [2, 2], dilations = [2, 1]> (x, w)", IMAGE, weights={"w": normal(3, 2, 2, 3)}
    ),
    "conv transpose cut on one side": Case(
        "y = ConvTranspose <strides = [2, 2], pads = [0, 1, 1, 0]> (x, w, b)",
        IMAGE,
        weights={"w": normal(3, 2, 3, 3), "b": normal(2)},
    ),
    "conv transpose same upper": Case(
        'y = ConvTranspose <strides = [2, 2], auto_pad = "SAME_UPPER"> (x, w)', IMAGE, weights={"w": normal(3, 2, 3, 3)}
    ),
    "conv transpose same lower": Case(
        'y = ConvTranspose <strides = [2, 2], auto_pad = "SAME_LOWER"> (x, w)', IMAGE, weights={"w": normal(3, 2, 3, 3)}
    ),
    "conv transpose to a shape": Case(
        "y = ConvTranspose <strides = [2, 2], output_shape = [14, 12]> (x, w)", IMAGE, weights={"w": normal(3, 2, 3, 3)}
    ),
    # pooling
    "max pool": Case("y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", IMAGE),
    "max pool at each pixel": Case("y = MaxPool <kernel_shape = [3, 2]> (x)", IMAGE),
    "max pool padded": Case("y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)", IMAGE),
    "max pool padded on one side": Case(
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 1], pads = [0, 2, 1, 0]> (x)", IMAGE
    ),
    "max pool dilated": Case("y = MaxPool <kernel_shape = [2, 3], dilations = [3, 2], pads = [1, 3, 2, 3]> (x)", IMAGE),
    "max pool with ceil": Case("y = MaxPool <kernel_shape = [2, 2], strides = [2, 4], ceil_mode = 1> (x)", IMAGE),
    "max pool with ceil and pads": Case(
        "y = MaxPool <kernel_shape = [3, 3], strides = [3, 2], pads = [1, 1, 1, 1], ceil_mode = 1> (x)", IMAGE
    ),
    "max pool same upper": Case('y = MaxPool <kernel_shape = [2, 2], strides = [2, 1], auto_pad = "SAME_UPPER"> (x)', IMAGE),
    "max pool same lower": Case('y = MaxPool <kernel_shape = [4, 3], strides = [2, 2], auto_pad = "SAME_LOWER"> (x)', IMAGE),
    "max pool valid": Case('y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "VALID"> (x)', IMAGE),
    "max pool over one axis": Case("y = MaxPool <kernel_shape = [3], strides = [2]> (x)", "N,3,9"),
    "max pool over three axes": Case("y = MaxPool <kernel_shape = [2, 2, 2]> (x)", "N,2,4,3,4"),
    "average pool": Case("y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)", IMAGE),
    "average pool padded": Case("y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)", IMAGE),
    "average pool that counts its padding": Case(
        "y = AveragePool <kernel_shape = [3, 2], pads = [1, 1, 1, 0], count_include_pad = 1> (x)", IMAGE
    ),
    "average pool with ceil": Case("y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)", IMAGE),
    "average pool with ceil that counts its padding": Case(
        "y = AveragePool <kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1> (x)",
        "N,3,8,6",
        19,
    ),
    "average pool same upper": Case(
        'y = AveragePool <kernel_shape = [2, 3], strides = [2, 2], auto_pad = "SAME_UPPER"> (x)', IMAGE
    ),
    "average pool same lower": Case(
        'y = AveragePool <kernel_shape = [2, 3], strides = [2, 2], auto_pad = "SAME_LOWER"> (x)', IMAGE
    ),
    "average pool dilated": Case("y = AveragePool <kernel_shape = [2, 2], dilations = [2, 3]> (x)", IMAGE, 19),
    "average pool over one axis": Case("y = AveragePool <kernel_shape = [3], pads = [0, 1]> (x)", "N,3,9"),
    "average pool over three axes": Case("y = AveragePool <kernel_shape = [2, 2, 2]> (x)", "N,2,4,3,4"),
    "global average pool": Case("y = GlobalAveragePool(x)", IMAGE),
    "global max pool": Case("y = GlobalMaxPool(x)", IMAGE),
    # resampling
    "upsample": Case("y = Upsample(x, s)", IMAGE, 9, {"s": np.array([1, 1, 2, 3.0])}),
    "upsample by attribute": Case("y = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (x)", IMAGE, 7),
    "upsample linearly": Case('y = Upsample <mode = "linear"> (x, s)', IMAGE, 9, {"s": np.array([1, 1, 2, 1.5])}),
    "resize of old": Case("y = Resize(x, s)", IMAGE, 10, {"s": np.array([1, 1, 0.5, 2.0])}),
    "resize of old linearly": Case('y = Resize <mode = "linear"> (x, s)', IMAGE, 10, {"s": np.array([1, 1, 2, 0.5])}),
    **{
        f"resize nearest {place} {mode} {number}": Case(
            f'y = Resize <coordinate_transformation_mode = "{place}", nearest_mode = "{mode}"> (x, , s)',
            IMAGE,
            19,
            {"s": np.array([1, 1, *scale])},
        )
        for place in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
        for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for number, scale in enumerate(((2.0, 3.0), (0.5, 1.7)))
    },
    **{
        f"resize linear {place} {number}": Case(
            f'y = Resize <coordinate_transformation_mode = "{place}", mode = "linear"> (x, , , t)',
            "1,3,7,6",
            19,
            {"t": whole(1, 3, *size)},
        )
        for place in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
        for number, size in enumerate(((14, 18), (3, 11), (1, 2)))
    },
    "resize some axes": Case("y = Resize <axes = [2, 3]> (x, , s)", IMAGE, 18, {"s": np.array([2, 1.0])}),
}


def inputs_for(shape: str, batch: int, seed: int = 0) -> np.ndarray[Any, Any]:
    sizes = [batch if s == "N" else int(s) for s in shape.split(",")]
    return (1.5 * normal(*sizes, seed=seed)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_agrees_with_the_runtime(name: str) -> None:
    case = CASES[name]
    model = case.model()
    net = from_onnx(model, "hand-built")
    for batch in (1, 7) if "N" in case.shape else (1,):
        x = inputs_for(case.shape, batch, seed=batch)
        assert disagreement(net(torch.from_numpy(x)), expected(model, x)) <= case.agreement


@pytest.mark.parametrize("name", CASES)
def test_the_map_of_an_operator_is_exact_nearby_or_for_smooth_ones_at_the_point(name: str) -> None:
    case = CASES[name]
    net = from_onnx(case.model(), "hand-built")
    sample = torch.from_numpy(inputs_for(",".join(map(str, net.input_shape)), 1))
    x = torch.stack([sample, -sample, 0.3 * sample])
    if net.is_piecewise_linear:
        assert_affine_near(net, x)
    else:
        assert_touches(net, x)


# -- other forms of models


def test_models_before_opset_7_broadcast_from_a_named_axis() -> None:
    # runtimes no longer read opset 6, so the same network is written in opset 17 for comparison
    old = Case("z = Add <broadcast = 1, axis = 1> (x, b) y = PRelu(z, s)", "N,3,2,2", 6, {"b": normal(3), "s": normal(3)})
    new = Case("z = Add(x, b) y = PRelu(z, s)", "N,3,2,2", 17, {"b": normal(3, 1, 1, seed=9), "s": normal(3, 1, 1)})
    old.weights["b"][:] = new.weights["b"].reshape(3)
    old.weights["s"][:] = new.weights["s"].reshape(3)
    x = inputs_for(old.shape, 4)
    assert disagreement(from_onnx(old.model(), "old")(torch.from_numpy(x)), expected(new.model(), x)) <= FLOAT32_AGREEMENT


def test_an_operator_has_the_same_meaning_in_every_opset() -> None:
    nodes = "z = Conv <pads = [1, 1, 1, 1]> (x, w) r = Relu(z) p = MaxPool <kernel_shape = [2, 2]> (r) y = Flatten(p)"
    x = inputs_for(IMAGE, 2)
    outputs = []
    for opset in range(7, 23):
        model = Case(nodes, IMAGE, opset, {"w": normal(2, 3, 3, 3)}).model()
        outputs.append(from_onnx(model, "hand-built")(torch.from_numpy(x)))
        assert disagreement(outputs[-1], expected(model, x)) <= FLOAT32_AGREEMENT
    assert all(torch.equal(y, outputs[0]) for y in outputs)


def test_a_double_model_becomes_a_double_network() -> None:
    graph = onnx.parser.parse_graph("g (double[N,4] x) => (double[] y) { z = MatMul(x, w) y = Relu(z) }")
    graph.initializer.append(numpy_helper.from_array(W.astype(np.float64), "w"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = inputs_for("N,4", 3).astype(np.float64)
    net = from_onnx(model, "hand-built")
    assert net.dtype == torch.float64
    assert disagreement(net(torch.from_numpy(x)), expected(model, x)) <= 1e-14  # a handful of float64 products


def test_a_half_precision_model_is_widened() -> None:
    graph = onnx.parser.parse_graph("g (float16[N,4] x) => (float16[] y) { z = MatMul(x, w) y = Relu(z) }")
    graph.initializer.append(numpy_helper.from_array(W.astype(np.float16), "w"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = inputs_for("N,4", 3).astype(np.float16)
    net = from_onnx(model, "hand-built")
    assert net.dtype == torch.float32
    assert disagreement(net(torch.from_numpy(x.astype(np.float32))), expected(model, x)) <= 2e-3  # two roundings to 11 bits


def test_initialisers_listed_as_inputs_are_weights() -> None:
    model = Case("y = MatMul(x, w)", weights={"w": W}).model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 5]))
    assert from_onnx(model, "hand-built").input_shape == (4,)


def test_a_fixed_first_axis_is_the_batch_where_the_model_keeps_it_apart() -> None:
    kept = Case("z = Reshape(x, t) y = Relu(z)", "10,3,4", weights={"t": whole(10, 12)})
    mixed = Case("z = MatMul(w, x) y = Relu(z)", "10,4", weights={"w": normal(3, 10)})
    assert from_onnx(kept.model(), "kept").input_shape == (3, 4)
    assert from_onnx(mixed.model(), "mixed").input_shape == (10, 4)
    x = inputs_for("10,3,4", 1)
    assert disagreement(from_onnx(kept.model(), "kept")(torch.from_numpy(x)), expected(kept.model(), x)) <= FLOAT32_AGREEMENT
    x = inputs_for("10,4", 1)
    assert disagreement(from_onnx(mixed.model(), "mixed")(torch.from_numpy(x)), expected(mixed.model(), x)) <= FLOAT32_AGREEMENT


@pytest.mark.parametrize(
    "case",
    [
        Case("z = Flatten <axis = 0> (x) y = MatMul(z, w)", weights={"w": W}),
        Case("r = Relu(x) z = Flatten <axis = -4> (r) y = MatMul(z, w)", IMAGE, weights={"w": normal(126, 3)}),
        Case("z = Flatten <axis = 0> (x) r = Relu(z) y = Reshape(r, t)", "N,3,4", weights={"t": whole(3, 4)}),
    ],
    ids=["vector", "image", "matrix"],
)
def test_a_batch_that_is_flattened_with_its_input_has_one_input(case: Case) -> None:
    """The runtime takes such a model for one input at a time; the network for any number of them."""
    model, x = case.model(), inputs_for(case.shape, 5)
    y = from_onnx(model, "hand-built")(torch.from_numpy(x))
    assert all(disagreement(y[i], expected(model, x[i : i + 1])) <= FLOAT32_AGREEMENT for i in range(5))


def test_an_input_without_batch_axis_keeps_its_shape() -> None:
    net = from_onnx(Case("z = MatMul(x, w) y = Add(z, b)", "1", weights={"w": normal(1, 3), "b": normal(3)}).model(), "vector")
    assert (net.input_shape, net.output_shape) == ((1,), (3,))


def test_nodes_are_named_as_in_the_model_and_typeable() -> None:
    model = Case("z = MatMul(x, w) y = Relu(z)", weights={"w": W}).model()
    model.graph.node[0].name = "/features/0/MatMul"
    net = from_onnx(model, "hand-built")
    assert [node.name for node in net.nodes] == ["features.0.MatMul", "y"]


def test_a_bias_behind_a_product_joins_it() -> None:
    net = from_onnx(CASES["matmul with bias"].model(), "hand-built")
    assert [node.step.kind for node in net.nodes] == ["linear"]


def test_nodes_that_the_output_does_not_need_are_not_read() -> None:
    case = Case("y = Relu(x) u, v = TopK(x, k)", weights={"k": whole(2)})
    assert from_onnx(case.model(), "hand-built").num_units == 4


def test_labels_beside_the_real_output_are_left_aside() -> None:
    model = Case("y = MatMul(x, w) label = ArgMax <axis = 1> (y)", weights={"w": W}).model()
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, None))
    assert from_onnx(model, "hand-built").output_shape == (5,)


def test_functions_of_the_model_are_written_out() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    g (float[N,4] x) => (float[N,4] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { c = Relu(a) b = Add(c, c) }"""
    model = onnx.parser.parse_model(text)
    x = inputs_for("N,4", 2)
    assert disagreement(from_onnx(model, "hand-built")(torch.from_numpy(x)), 2 * np.maximum(x, 0)) == 0


def test_importing_polylens_does_not_import_onnx() -> None:
    code = "import sys, polylens; sys.exit(any(m.split('.')[0] == 'onnx' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- models that torch exports


class Residual(nn.Module):
    """A small residual network with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.norm(self.inner(x)))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


TORCH_MODELS = {
    "conv net": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 5)
        ),
        (3, 8, 8),
    ),
    "residual net": (Residual, (3, 8, 8)),
    "mlp with layer norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)), (6,)),
}


@pytest.mark.parametrize("symbolic", [False, True], ids=["fixed batch", "symbolic batch"])
@pytest.mark.parametrize("dynamo", [False, True], ids=["traced", "exported"])
@pytest.mark.parametrize("name", TORCH_MODELS)
def test_a_model_exported_from_torch_agrees_with_its_module(name: str, dynamo: bool, symbolic: bool) -> None:
    torch.manual_seed(0)
    build, shape = TORCH_MODELS[name]
    module = build().eval()
    model = exported(module, torch.randn(2 if symbolic else 1, *shape), dynamo, symbolic)
    net = from_onnx(model, name)
    x = torch.randn(7, *shape)
    assert net.input_shape == shape
    with torch.no_grad():
        wanted = module(x).numpy()
    assert disagreement(net(x), wanted) <= FLOAT32_AGREEMENT
    if net.is_piecewise_linear:
        assert_affine_near(net, x)


def exported(module: nn.Module, example: torch.Tensor, dynamo: bool, symbolic: bool) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},) if symbolic else None
            program = torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False)
            assert program is not None
            return program.model_proto
        axes = {"x": {0: "batch"}} if symbolic else None
        torch.onnx.export(module, (example,), buffer, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return onnx.load_from_string(buffer.getvalue())


# -- real networks

REAL = [
    "nets/Convnet_maxpool.onnx", "nets/NN_rul_small_window_20.onnx", "nets/cartpole.onnx", "nets/cifar_base_kw.onnx",
    "nets/mnist-net_256x2.onnx", "nets/mnist-net_256x4.onnx", "nets/resnet_2b.onnx", "nets/robot.onnx", "nets/test_nano.onnx",
    "nets/test_sat.onnx", "nets/test_small.onnx", "nets/test_tiny.onnx", "nets/test_unsat.onnx", "nets/tll_8_0_0.onnx",
    *(f"acasxu/onnx/ACASXU_run2a_1_{i}_batch_2000.onnx" for i in range(1, 10)),
]  # fmt: skip


def test_every_real_network_is_listed(data: Path) -> None:
    found = {
        f"{p.parent.relative_to(data)}/{p.name}" for folder in ("nets", "acasxu/onnx") for p in (data / folder).glob("*.onnx")
    }
    assert found == set(REAL)


def images(data: Path, shape: tuple[int, ...], count: int) -> np.ndarray[Any, Any] | None:
    """Return real images for networks that take them: MNIST in [0, 1], CIFAR-10 normalised."""
    if np.prod(shape) == 784:
        raw = gzip.decompress((data / "mnist/t10k-images-idx3-ubyte.gz").read_bytes())[16:]
        return (np.frombuffer(raw, np.uint8)[: 784 * count].reshape(count, *shape) / 255).astype(np.float32)
    if shape == (3, 32, 32):
        raw = gzip.decompress((data / "cifar10/test_first1000.bin.gz").read_bytes())
        pixels = np.frombuffer(raw, np.uint8).reshape(-1, 3073)[:count, 1:].reshape(count, *shape) / 255
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.225, 0.225, 0.225])
        return ((pixels - mean[:, None, None]) / deviation[:, None, None]).astype(np.float32)
    return None


@pytest.mark.parametrize("name", REAL)
def test_a_real_network_agrees_with_the_runtime(data: Path, name: str) -> None:
    net = read_onnx(data / name)
    samples = [np.random.default_rng(0).random((20, *net.input_shape), np.float32)]
    real = images(data, net.input_shape, 20)
    samples += [] if real is None else [real]
    session = runtime(onnx.load(data / name))
    entry = next(i for i in session.get_inputs() if i.name == session.get_inputs()[0].name)
    for x in samples:
        single = [d if isinstance(d, int) else 1 for d in entry.shape]
        wanted = np.stack([session.run(None, {entry.name: one.reshape(single)})[0].reshape(-1) for one in x])
        assert disagreement(net(torch.from_numpy(x)), wanted) <= FLOAT32_AGREEMENT
        assert_affine_near(net, torch.from_numpy(x[:3]))


def test_an_mnist_network_recognises_digits(data: Path) -> None:
    net = read_onnx(data / "nets/mnist-net_256x4.onnx")
    x = images(data, net.input_shape, 1000)
    labels = np.frombuffer(gzip.decompress((data / "mnist/t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)[:1000]
    assert x is not None
    assert (net(torch.from_numpy(x)).argmax(1).numpy() == labels).mean() > 0.95


# -- refusals

REFUSED: dict[str, tuple[Case, str]] = {
    "recurrence": (
        Case("y, h = LSTM <hidden_size = 2> (x, w, r)", "3,1,4", weights={"w": normal(1, 8, 4), "r": normal(1, 8, 2)}),
        "unroll",
    ),
    "comparison": (
        Case("b = Greater(x, c) y = Cast <to = 1> (b)", weights={"c": np.float32(0)}),
        r"Greater 'b' \(node 0 of 2\)",
    ),
    "largest entries": (Case("y, i = TopK(x, k)", weights={"k": whole(2)}), "TopK"),
    "determinant": (Case("d = Det(x) y = Relu(d)", "N,3,3"), "MatMul"),
    "blurring resize": (
        Case('y = Resize <mode = "cubic", antialias = 1> (x, , s)', IMAGE, 18, weights={"s": np.array([1, 1, 0.5, 0.5])}),
        "antialias",
    ),
    "cropping resize": (
        Case(
            'y = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, r, s)',
            IMAGE,
            weights={"s": np.array([1, 1, 2.0, 2.0]), "r": np.zeros(8)},
        ),
        "tf_crop_and_resize",
    ),
    "live weights": (Case("z = Relu(x) y = Conv(x, z)", "1,1,3,3"), "make it a constant"),
    "live index": (Case("i = ArgMax <axis = 1> (x) y = Gather(c, i)", weights={"c": W}), "ArgMax"),
    "random": (Case("r = RandomNormal <shape = [1, 4]> () y = Add(x, r)"), "eval mode"),
    "batch statistics": (
        Case(
            "y, m2, v2 = BatchNormalization <training_mode = 1> (x, s, b, m, v)",
            weights={"s": normal(4), "b": normal(4), "m": normal(4), "v": np.abs(normal(4))},
        ),
        "eval mode",
    ),
    "active dropout": (Case("y = Dropout(x, r, t)", weights={"r": np.float32(0.5), "t": np.array(True)}), "eval mode"),
    "sum over the batch": (Case("y = ReduceSum(x, a)", weights={"a": whole(0)}), "batch axis"),
    "sum of a batch": (Case("y = ReduceSum <keepdims = 0> (x)"), "batch axis"),
    "transposed batch": (Case("y = Transpose(x)"), "moves the batch axis"),
    "first of a batch": (Case("y = Gather(x, i)", weights={"i": np.int64(0)}), "batch axis"),
    "squeezed batch": (Case("y = Squeeze(x, a)", weights={"a": whole(0)}), "batch axis"),
    "exponents": (Case("y = Pow(x, e)", weights={"e": normal(4)}), "exponent"),
    "infinite padding": (Case("y = Pad(x, p, v)", weights={"p": whole(0, 1, 0, 1), "v": np.float32(-np.inf)}), "-inf"),
    "adding scatter": (
        Case('y = ScatterND <reduction = "add"> (x, i, u)', "1,4", 18, {"i": np.array([[0, 2]]), "u": normal(1)}),
        "reduction",
    ),
    "integers": (Case("z = Cast <to = 7> (x) y = Cast <to = 1> (z)"), "integers"),
    "constant output": (Case("y = Relu(c)", weights={"c": normal(1, 4)}), "does not depend"),
    "free width": (Case("y = Relu(x)", "N,M"), "only the batch"),
    "free length": (Case("y = Relu(x)", "N"), "only the batch"),
    "foreign operator": (Case("y = com.microsoft.FusedGemm(x, w)", weights={"w": W}), "com.microsoft"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_represented_is_refused_with_name_place_and_advice(name: str) -> None:
    case, words = REFUSED[name]
    with pytest.raises(UnsupportedError, match=words) as caught:
        from_onnx(case.model(), "model.onnx")
    assert str(caught.value).startswith("model.onnx: ")
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def declared(inputs: str, outputs: str = "float[] y", nodes: str = "y = Relu(x)") -> onnx.ModelProto:
    graph = onnx.parser.parse_graph(f"g ({inputs}) => ({outputs}) {{ {nodes} }}")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_an_unmade_choice_of_inputs_or_outputs_is_asked_for_by_keyword() -> None:
    two = declared("float[N,4] x, float[N,4] u", nodes="y = Add(x, u)")
    with pytest.raises(
        InputError, match=r"2 inputs: 'x' \('N', 4\), 'u' \('N', 4\).*inputs=\{'u': value\}.*'x': None, 'u': None"
    ):
        from_onnx(two, "model.onnx")
    with pytest.raises(InputError, match=r"2 outputs: 'y' .*, 'z' .*outputs='y'"):
        from_onnx(declared("float[N,4] x", "float[] y, float[] z", "y = Relu(x) z = Abs(x)"), "model.onnx")


def test_integer_inputs_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="holds int64; expected floating-point"):
        from_onnx(declared("int64[N,4] x", "int64[] y", "y = Abs(x)"), "model.onnx")


def test_an_input_without_shape_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no shape; declare it"):
        from_onnx(declared("float[] x"), "model.onnx")


def test_weights_with_nan_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        from_onnx(Case("y = MatMul(x, w)", weights={"w": np.full((4, 5), np.nan)}).model(), "model.onnx")


def test_a_graph_that_does_not_hold_together_is_an_error_of_the_file() -> None:
    with pytest.raises(FileError, match="'nothing', which is neither a weight nor the output of a node"):
        from_onnx(declared("float[N,4] x", nodes="y = Add(x, nothing)"), "model.onnx")
    with pytest.raises(FileError, match=r"MatMul 'y' \(node 0 of 1\): does not fit its inputs"):
        from_onnx(Case("y = MatMul(x, w)", weights={"w": normal(3, 5)}).model(), "model.onnx")
