"""A table of the ONNX operators that the door claims: what they are compared on with onnxruntime, and in which opsets.

A row holds nodes that make `c` from the array `a`, for a range of opsets. Two kinds of gaps: rows that are not live take
constants alone, because the operator gives or takes integers or truths, or because its live form is refused (scatters that add,
exponents that differ, gathering with batch axes); and operators that are GONE. onnxruntime has code for all other cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FIRST, LAST = 7, 24


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """Nodes from `a` to `c` in ONNX's text form; `live` says whether `a` may be the input of a network."""

    nodes: str
    a: Array
    weights: Mapping[str, Array] = field(default_factory=dict)
    since: int = FIRST
    until: int = LAST
    live: bool = True


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def real(*numbers: Any) -> Array:
    return np.array(numbers, np.float32)


def whole(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


CUBE, IMAGE, ONE = normal(2, 3, 4), normal(2, 3, 6, 5), normal(1, 3, 4)
INSIDE = np.tanh(CUBE)
POSITIVE = np.abs(CUBE) + 0.2
INTEGERS = np.array([[7, -7, 3], [-7, 7, -3]])
DIVISORS = np.array([[2, 2, -2], [-2, 3, 3]])
TRUTHS = np.array([[True, False, True], [False, False, True]])
OTHERS = np.array([[True, True, False], [False, True, True]])


def two(op: str, right: Array, a: Array = CUBE) -> list[Row]:
    """A constant on the right, on the left, and the value itself on the right."""
    return [
        Row(f"c = {op}(a, b)", a, {"b": right}),
        Row(f"c = {op}(b, a)", a, {"b": right}),
        Row(f"t = Tanh(a) e = Exp(t) c = {op}(a, e)", a),
    ]


def integers(op: str) -> Row:
    return Row(f"c = {op}(a, b)", INTEGERS, {"b": DIVISORS}, live=False)


def one(op: str, a: Array = CUBE, since: int = FIRST, attributes: str = "") -> list[Row]:
    return [Row(f"c = {op} {attributes} (a)", a, since=since)]


def compared(op: str, since: int, a: Array = INTEGERS, b: Array = DIVISORS) -> list[Row]:
    return [Row(f"c = {op}(a, b)", a, {"b": b}, since=since, live=False)]


def choosing(made: str, since: int = 9) -> list[Row]:
    """Choices between a value and its half by a truth `m` that is made of it, which are gates."""
    weights = {"z": real(0.25).reshape(()), "y": real(-0.5).reshape(()), "half": real(0.5).reshape(())}
    return [Row(f"{made} n = Mul(a, half) c = Where(m, a, n)", CUBE, weights, since=since)]


def reduced(op: str, by_input: int, a: Array = CUBE) -> list[Row]:
    """Over one axis and over two, which are an attribute at first and an input from some opset on."""
    return [
        Row(f"c = {op} <axes = [2], keepdims = 0> (a)", a, until=by_input - 1),
        Row(f"c = {op} <axes = [1, -1]> (a)", a, since=11, until=by_input - 1),
        Row(f"c = {op} <keepdims = 0> (a, i)", a, {"i": whole(2)}, since=by_input),
        Row(f"c = {op}(a, i)", a, {"i": whole(1, -1)}, since=by_input),
        Row(f"c = {op} <keepdims = 0> (a)", a[:1]),
    ]


def softmaxes(op: str) -> list[Row]:
    return [
        *(Row(f"c = {op} <axis = {axis}> (a)", CUBE) for axis in (1, 2)),
        Row(f"c = {op}(a)", CUBE),
        Row(f"c = {op} <axis = -2> (a)", CUBE, since=11),
    ]


def pooled(op: str, attributes: str, since: int = FIRST, until: int = LAST, a: Array = IMAGE) -> Row:
    return Row(f"c = {op} <{attributes}> (a)", a, since=since, until=until)


def resized(attributes: str, scales: Array, since: int, until: int = LAST, a: Array = IMAGE) -> list[Row]:
    return [
        Row(f"c = Resize <{attributes}> (a, s)", a, {"s": scales}, since=10, until=10) if since == 10 else
        Row(f"c = Resize <{attributes}> (a, none, s)", a, {"s": scales, "none": real()}, since=11, until=12) if since == 11 else
        Row(f"c = Resize <{attributes}> (a, , s)", a, {"s": scales}, since=since, until=until)
    ]  # fmt: skip


def places(op: str) -> list[Row]:
    a = real([1, 3, 3, 2], [4, 4, 0, 4])
    return [
        Row(f"c = {op} <axis = 1, keepdims = 0> (a)", a, live=False),
        Row(f"c = {op}(a)", a, live=False),
        Row(f"c = {op} <axis = -1, select_last_index = 1> (a)", a, since=12, live=False),
    ]


_STATISTICS = {"s": normal(3), "b": normal(3, seed=1), "m": normal(3, seed=2), "v": np.abs(normal(3, seed=3)) + 0.1}
_CODES = {"zero": np.array(3, np.uint8), "scale": np.array(0.25, np.float32)}
_KERNEL, _BIAS = normal(4, 3, 3, 2), normal(4)
_TRANSPOSED = normal(3, 2, 3, 2)
_INDEX = np.array([[[0, 2, 1, 0], [1, 1, 2, 2]]])

TABLE: dict[str, list[Row]] = {
    # arithmetic
    "Add": [*two("Add", normal(3, 1)), integers("Add")],
    "Sub": [*two("Sub", normal(4)), integers("Sub")],
    "Mul": [*two("Mul", normal(1, 3, 1)), integers("Mul")],
    "Div": [Row("c = Div(a, b)", CUBE, {"b": normal(4) + 3}), Row("e = Exp(a) c = Div(b, e)", CUBE, {"b": normal(4)}),
            Row("e = Exp(a) c = Div(a, e)", CUBE), integers("Div")],
    "Neg": [*one("Neg"), Row("c = Neg(a)", INTEGERS, live=False)],
    "Sum": [Row("r = Relu(a) c = Sum(a, b, r)", CUBE, {"b": normal(2, 3, 4, seed=5)[:1]}, since=8),
            Row("r = Relu(a) c = Sum(a, r)", CUBE)],
    "Mean": [Row("r = Relu(a) c = Mean(r, a, b)", CUBE, {"b": normal(4)}, since=8), Row("r = Relu(a) c = Mean(a, r)", CUBE)],
    "Max": [Row("r = Neg(a) c = Max(a, r)", CUBE), Row("c = Max(a, b)", CUBE, {"b": normal(4)}, since=8),
            Row("c = Max(a, b)", INTEGERS, {"b": DIVISORS}, since=12, live=False)],
    "Min": [Row("r = Neg(a) c = Min(a, r)", CUBE), Row("c = Min(a, b)", CUBE, {"b": normal(4)}, since=8),
            Row("c = Min(a, b)", INTEGERS, {"b": DIVISORS}, since=12, live=False)],
    "Pow": [Row("c = Pow(a, b)", CUBE, {"b": real(2)}), Row("c = Pow(a, b)", POSITIVE, {"b": real(0.5)}),
            Row("c = Pow(b, a)", CUBE, {"b": real(2)}),
            Row("c = Pow(a, b)", INTEGERS, {"b": whole(3)}, since=12, live=False),
            Row("c = Pow(a, b)", POSITIVE, {"b": normal(4)}, live=False)],
    "Mod": [Row("c = Mod(a, b)", INTEGERS, {"b": DIVISORS}, since=10, live=False),
            Row("c = Mod <fmod = 1> (a, b)", INTEGERS, {"b": DIVISORS}, since=10, live=False),
            Row("c = Mod <fmod = 1> (a, b)", CUBE, {"b": real(0.7)}, since=10, live=False)],
    "MatMul": [Row("c = MatMul(a, b)", CUBE, {"b": normal(4, 5)}), Row("c = MatMul(a, b)", CUBE, {"b": normal(4)}),
               Row("c = MatMul(b, a)", CUBE, {"b": normal(2, 3)}),
               Row("t = Transpose <perm = [0, 2, 1]> (a) c = MatMul(t, a)", CUBE),
               Row("c = MatMul(a, b)", INTEGERS, {"b": DIVISORS.T}, since=9, live=False)],
    "Gemm": [Row("c = Gemm <alpha = 0.5, beta = -2.0, transB = 1> (a, b, d)", normal(2, 4),
                 {"b": normal(5, 4), "d": normal(5)}),
             Row("c = Gemm <transA = 1> (a, b, d)", normal(1, 4), {"b": normal(1, 3), "d": normal(4, 3)}),
             Row("c = Gemm <alpha = 3.0> (a, b)", normal(2, 4), {"b": normal(4, 3)}, since=11)],
    "Einsum": [Row('c = Einsum <equation = "bij,jk->bik"> (a, b)', CUBE, {"b": normal(4, 5)}, since=12),
               Row('c = Einsum <equation = "bij->bji"> (a)', CUBE, since=12),
               Row('c = Einsum <equation = "bij,bkj->bik"> (a, a)', CUBE, since=12)],
    "CumSum": [Row("c = CumSum(a, i)", CUBE, {"i": np.array(1)}, since=11),
               Row("c = CumSum <exclusive = 1, reverse = 1> (a, i)", CUBE, {"i": np.array(-1)}, since=11),
               Row("c = CumSum(a, i)", INTEGERS, {"i": np.array(0)}, since=11, live=False)],
    # gates
    "Relu": one("Relu"),
    "LeakyRelu": [*one("LeakyRelu"), *one("LeakyRelu", attributes="<alpha = 0.3>")],
    "PRelu": [Row("c = PRelu(a, s)", CUBE, {"s": normal(3, 1)}), Row("c = PRelu(a, s)", CUBE, {"s": normal(1)})],
    "Abs": [*one("Abs"), Row("c = Abs(a)", INTEGERS, live=False)],
    "Clip": [Row("c = Clip <min = -0.5, max = 1.0> (a)", CUBE, until=10),
             Row("c = Clip(a, l, h)", CUBE, {"l": real(-0.5).reshape(()), "h": real(1).reshape(())}, since=11),
             Row("c = Clip(a, , h)", CUBE, {"h": real(0.3).reshape(())}, since=11),
             Row("c = Clip(a, l)", INTEGERS, {"l": np.array(-3)}, since=12, live=False)],
    "HardSigmoid": [*one("HardSigmoid"), *one("HardSigmoid", attributes="<alpha = 0.4, beta = 0.1>")],
    "ThresholdedRelu": [*one("ThresholdedRelu", since=10), *one("ThresholdedRelu", since=10, attributes="<alpha = 0.4>")],
    "Shrink": [*one("Shrink", since=9), *one("Shrink", since=9, attributes="<lambd = 0.4, bias = 0.3>")],
    # smooth functions
    **{op: one(op) for op in ("Exp", "Tanh", "Sigmoid", "Sin", "Cos", "Tan", "Atan", "Softplus", "Softsign")},
    **{op: one(op, POSITIVE) for op in ("Log", "Sqrt", "Reciprocal")},
    **{op: one(op, since=9) for op in ("Sinh", "Cosh", "Asinh", "Erf")},
    **{op: one(op, INSIDE) for op in ("Asin", "Acos")},
    "Atanh": one("Atanh", INSIDE, 9), "Acosh": one("Acosh", POSITIVE + 1, 9),
    "Elu": [*one("Elu"), *one("Elu", attributes="<alpha = 0.4>")],
    "Selu": [*one("Selu"), *one("Selu", attributes="<alpha = 0.4, gamma = 2.0>")],
    "Celu": [*one("Celu", since=12), *one("Celu", since=12, attributes="<alpha = 0.4>")],
    "Mish": one("Mish", since=18), "HardSwish": one("HardSwish", since=14),
    "Gelu": [*one("Gelu", since=20), *one("Gelu", since=20, attributes='<approximate = "tanh">')],
    "Softmax": softmaxes("Softmax"), "LogSoftmax": softmaxes("LogSoftmax"),
    # normalisation
    "BatchNormalization": [
        Row("c = BatchNormalization <epsilon = 0.01> (a, s, b, m, v)", IMAGE, _STATISTICS),
        Row("c = BatchNormalization(a, s, b, m, v)", CUBE, _STATISTICS),
        Row("c = BatchNormalization(a, s, b, m, v)", normal(2, 3), _STATISTICS, since=9),
    ],
    "InstanceNormalization": [Row("c = InstanceNormalization <epsilon = 0.1> (a, s, b)", IMAGE,
                                  {"s": normal(3), "b": normal(3, seed=1)})],
    "LayerNormalization": [
        Row("c = LayerNormalization <axis = 1> (a, s, b)", CUBE, {"s": normal(3, 4), "b": normal(3, 4, seed=1)}, since=17),
        Row("c = LayerNormalization <epsilon = 0.1> (a, s)", CUBE, {"s": normal(4)}, since=17),
    ],
    "GroupNormalization": [
        Row("c = GroupNormalization <num_groups = 2> (a, s, b)", normal(2, 4, 3, 2),
            {"s": normal(2), "b": normal(2, seed=1)}, since=18, until=20),
        Row("c = GroupNormalization <num_groups = 2> (a, s, b)", normal(2, 4, 3, 2),
            {"s": normal(4), "b": normal(4, seed=1)}, since=21),
    ],
    "RMSNormalization": [
        Row("c = RMSNormalization(a, s)", CUBE, {"s": normal(4)}, since=23),
        Row("c = RMSNormalization <axis = 1, epsilon = 0.1> (a, s)", CUBE, {"s": normal(3, 4)}, since=23),
    ],
    "Attention": [
        Row("c = Attention(a, k, v)", normal(1, 2, 3, 4), {"k": normal(1, 2, 5, 4, seed=1), "v": normal(1, 2, 5, 4, seed=2)},
            since=23),
        Row("t = Tanh(a) e = Exp(a) c = Attention <is_causal = 1> (a, t, e)", normal(1, 2, 3, 4), since=23),
    ],
    # reductions
    "ReduceSum": reduced("ReduceSum", 13),
    **{op: reduced(op, 18) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
                                      "ReduceLogSumExp")},
    "ReduceLogSum": reduced("ReduceLogSum", 18, POSITIVE),
    "ReduceProd": [*reduced("ReduceProd", 18, POSITIVE), Row("c = ReduceProd(a)", INTEGERS, live=False)],
    # moving
    "Identity": [Row("i = Identity(a) c = Relu(i)", CUBE)],
    "Dropout": [Row("d = Dropout <ratio = 0.5> (a) c = Relu(d)", CUBE, until=11), Row("d = Dropout(a) c = Relu(d)", CUBE),
                Row("d, m = Dropout(a, r, t) c = Relu(d)", CUBE, {"r": real(0.5).reshape(()), "t": np.array(False)}, since=12)],
    "Cast": [Row("w = Cast <to = 11> (a) n = Cast <to = 1> (w) c = Relu(n)", CUBE),
             Row("n = Cast <to = 7> (a) c = Cast <to = 1> (n)", 3 * CUBE, live=False),
             Row("n = Cast <to = 9> (a) c = Cast <to = 6> (n)", INTEGERS - 3, live=False),
             Row("h = Cast <to = 10> (a) c = Cast <to = 1> (h)", CUBE, live=False)],
    "CastLike": [Row("w = CastLike(a, d) r = Abs(w) c = CastLike(r, a)", CUBE, {"d": np.zeros(1)}, since=15),
                 Row("c = CastLike(a, d)", 3 * CUBE, {"d": whole(0)}, since=15, live=False)],
    "Flatten": [Row("c = Flatten(a)", IMAGE), Row("c = Flatten <axis = 0> (a)", ONE),
                Row("c = Flatten <axis = -1> (a)", ONE, since=11)],
    "Reshape": [Row("c = Reshape(a, t)", CUBE, {"t": whole(0, 2, -1)}), Row("c = Reshape(a, t)", ONE, {"t": whole(2, 6)}),
                Row("c = Reshape(a, t)", INTEGERS, {"t": whole(3, 2)}, live=False)],
    "Transpose": [Row("c = Transpose <perm = [0, 2, 1]> (a)", CUBE), Row("c = Transpose(a)", ONE),
                  Row("c = Transpose(a)", INTEGERS, live=False)],
    "Squeeze": [Row("c = Squeeze <axes = [1]> (a)", normal(2, 1, 3), until=12),
                Row("c = Squeeze(a, i)", normal(2, 1, 3, 1), {"i": whole(1, -1)}, since=13), Row("c = Squeeze(a)", ONE)],
    "Unsqueeze": [Row("c = Unsqueeze <axes = [1, 3]> (a)", CUBE, until=12),
                  Row("c = Unsqueeze(a, i)", CUBE, {"i": whole(1, -1)}, since=13),
                  Row("c = Unsqueeze(a, i)", ONE, {"i": whole(0)}, since=13)],
    "Expand": [Row("c = Expand(a, t)", normal(2, 3, 1), {"t": whole(1, 3, 5)}, since=8),
               Row("c = Expand(a, t)", normal(1, 3, 1), {"t": whole(2, 1, 3, 4)}, since=8)],
    "Tile": [Row("c = Tile(a, t)", CUBE, {"t": whole(1, 2, 3)}), Row("c = Tile(a, t)", ONE, {"t": whole(2, 1, 2)})],
    "Concat": [Row("r = Relu(a) c = Concat <axis = 1> (a, r)", CUBE),
               Row("c = Concat <axis = -1> (b, a)", ONE, {"b": normal(1, 3, 2)}, since=11)],
    "Split": [Row("d, e = Split <axis = 2, split = [1, 3]> (a) c = Concat <axis = 2> (e, d)", CUBE, until=12),
              Row("d, e = Split <axis = 2> (a, s) c = Concat <axis = 2> (e, d)", CUBE, {"s": whole(1, 3)}, since=13),
              Row("d, e = Split <axis = 2> (a) c = Sub(e, d)", CUBE, until=17),
              Row("d, e = Split <axis = 1, num_outputs = 2> (a) c = Concat <axis = 1> (e, d)", CUBE, since=18)],
    "Slice": [Row("c = Slice <axes = [1, 2], starts = [1, -3], ends = [1000, -1]> (a)", CUBE, until=9),
              Row("c = Slice(a, s, e, i)", CUBE, {"s": whole(1, -3), "e": whole(1000, -1), "i": whole(1, 2)}, since=10),
              Row("c = Slice(a, s, e, i, t)", CUBE,
                  {"s": whole(-1), "e": whole(-1000), "i": whole(-1), "t": whole(-2)}, since=10)],
    "Gather": [Row("c = Gather <axis = 1> (a, i)", CUBE, {"i": whole(2, 0)}),
               Row("c = Gather <axis = 2> (a, i)", CUBE, {"i": np.array([[0, -1], [2, 1]])}, since=11),
               Row("c = Gather(a, i)", INTEGERS, {"i": np.array(1)}, live=False)],
    "GatherElements": [Row("c = GatherElements <axis = 1> (a, i)", ONE, {"i": _INDEX}, since=11),
                       Row("c = GatherElements <axis = 1> (a, i)", INTEGERS, {"i": np.array([[2, -1], [0, 0]])}, since=11,
                           live=False)],
    "GatherND": [Row("c = GatherND(a, i)", ONE, {"i": np.array([[0, 2, 1], [0, 0, -1]])}, since=11),
                 Row("c = GatherND(a, i)", ONE, {"i": np.array([[0, 2]])}, since=11),
                 Row("c = GatherND <batch_dims = 1> (a, i)", CUBE, {"i": np.array([[1], [2]])}, since=12, live=False)],
    "Scatter": [Row("c = Scatter <axis = 1> (a, i, u)", ONE, {"i": _INDEX[:, :1], "u": normal(1, 1, 4)}, since=9, until=10)],
    "ScatterElements": [
        Row("c = ScatterElements <axis = 1> (a, i, u)", ONE, {"i": _INDEX[:, :1], "u": normal(1, 1, 4)}, since=11),
        Row('c = ScatterElements <axis = 1, reduction = "add"> (a, i, u)', CUBE,
            {"i": np.array([[[0], [0]]]), "u": normal(1, 2, 1)}, since=16, live=False),
        Row('c = ScatterElements <axis = 1, reduction = "max"> (a, i, u)', CUBE,
            {"i": np.array([[[0], [0]]]), "u": normal(1, 2, 1)}, since=18, live=False),
    ],
    "ScatterND": [
        Row("c = ScatterND(a, i, u)", ONE, {"i": np.array([[0, 2], [0, 0]]), "u": normal(2, 4)}, since=11),
        Row('c = ScatterND <reduction = "add"> (a, i, u)', CUBE, {"i": np.array([[1], [1]]), "u": normal(2, 3, 4)}, since=16,
            live=False),
        Row('c = ScatterND <reduction = "mul"> (a, i, u)', CUBE, {"i": np.array([[1], [1]]), "u": normal(2, 3, 4)}, since=16,
            live=False),
    ],
    "Where": [Row("n = Neg(a) c = Where(m, a, n)", CUBE, {"m": np.array([True, False, False, True])}, since=9),
              Row("c = Where(m, a, b)", CUBE, {"m": np.array([True, False, False, True]), "b": normal(3, 1)}, since=9),
              Row("c = Where(m, a, b)", INTEGERS, {"m": TRUTHS, "b": DIVISORS}, since=9, live=False)],
    "DepthToSpace": [Row("c = DepthToSpace <blocksize = 2> (a)", normal(2, 8, 2, 3)),
                     Row('c = DepthToSpace <blocksize = 2, mode = "CRD"> (a)', normal(2, 8, 2, 3), since=11)],
    "SpaceToDepth": [Row("c = SpaceToDepth <blocksize = 2> (a)", normal(2, 2, 4, 6))],
    "Trilu": [Row("c = Trilu(a)", CUBE, since=14), Row("c = Trilu <upper = 0> (a, k)", CUBE, {"k": np.array(1)}, since=14),
              Row("c = Trilu(a, k)", INTEGERS, {"k": np.array(-1)}, since=14, live=False)],
    "Pad": [Row("c = Pad <pads = [0, 1, 0, 0, 2, 3], value = 1.5> (a)", CUBE, until=10),
            Row('c = Pad <mode = "reflect", pads = [0, 1, 0, 0, 2, 3]> (a)', CUBE, until=10),
            Row("c = Pad(a, p, v)", CUBE, {"p": whole(0, 1, -1, 0, 2, 3), "v": real(1.5).reshape(())}, since=11),
            Row('c = Pad <mode = "edge"> (a, p)', CUBE, {"p": whole(0, 1, 0, 0, 2, 3)}, since=11),
            Row('c = Pad <mode = "reflect"> (a, p)', CUBE, {"p": whole(0, 1, 0, 0, 2, 3)}, since=11),
            Row("c = Pad(a, p, , i)", CUBE, {"p": whole(1, 2), "i": whole(-1)}, since=18),
            Row('c = Pad <mode = "wrap"> (a, p)', CUBE, {"p": whole(0, 1, -1, 0, 2, 3)}, since=19)],
    "Col2Im": [Row("c = Col2Im <strides = [1, 1]> (a, i, b)", normal(2, 8, 6), {"i": whole(3, 4), "b": whole(2, 2)}, since=18)],
    # windows
    "Conv": [Row("c = Conv(a, w, b)", IMAGE, {"w": _KERNEL, "b": _BIAS}),
             Row("c = Conv <strides = [2, 1], pads = [1, 2, 0, 1], dilations = [1, 2]> (a, w)", IMAGE, {"w": _KERNEL}),
             Row("c = Conv <group = 3> (a, w)", IMAGE, {"w": normal(6, 1, 3, 2)}),
             Row('c = Conv <auto_pad = "SAME_LOWER", strides = [2, 3]> (a, w)', IMAGE, {"w": _KERNEL}),
             Row("c = Conv <pads = [1, 1]> (a, w)", CUBE, {"w": normal(2, 3, 3)})],
    "ConvTranspose": [
        Row("c = ConvTranspose(a, w, b)", IMAGE, {"w": _TRANSPOSED, "b": normal(2)}),
        Row("c = ConvTranspose <strides = [2, 3], pads = [1, 0, 0, 1], output_padding = [1, 2]> (a, w)", IMAGE,
            {"w": _TRANSPOSED}),
        Row('c = ConvTranspose <strides = [2, 2], auto_pad = "SAME_UPPER"> (a, w)', IMAGE, {"w": _TRANSPOSED}),
    ],
    "MaxPool": [
        pooled("MaxPool", "kernel_shape = [2, 3], strides = [2, 1]"),
        pooled("MaxPool", "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 1, 2]"),
        pooled("MaxPool", 'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "SAME_LOWER"'),
        pooled("MaxPool", "kernel_shape = [3, 2], strides = [2, 3], ceil_mode = 1", since=10),
        pooled("MaxPool", "kernel_shape = [2, 2], dilations = [2, 3], pads = [1, 1, 1, 1]", since=10),
    ],
    "AveragePool": [
        pooled("AveragePool", "kernel_shape = [2, 3], strides = [2, 1]"),
        pooled("AveragePool", "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 1, 2]"),
        pooled("AveragePool", "kernel_shape = [3, 3], pads = [1, 0, 1, 2], count_include_pad = 1"),
        pooled("AveragePool", 'kernel_shape = [2, 2], strides = [2, 2], auto_pad = "SAME_LOWER"'),
        pooled("AveragePool", "kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1", since=10),
        pooled("AveragePool", "kernel_shape = [2, 2], dilations = [2, 3]", since=19),
    ],
    "GlobalAveragePool": one("GlobalAveragePool", IMAGE), "GlobalMaxPool": one("GlobalMaxPool", IMAGE),
    "Upsample": [
        Row("c = Upsample <scales = [1.0, 1.0, 2.0, 3.0]> (a)", IMAGE, until=8),
        Row("c = Upsample(a, s)", IMAGE, {"s": real(1, 1, 2, 3)}, since=9, until=9),
        Row('c = Upsample <mode = "linear"> (a, s)', IMAGE, {"s": real(1, 1, 2, 1.5)}, since=9, until=9),
    ],
    "Resize": [
        row for since in (10, 11, 13) for attributes in ('mode = "nearest"', 'mode = "linear"')
        for row in resized(attributes, real(1, 1, 2, 1.5), since)
    ] + [
        row for since in (11, 13)
        for attributes in (
            'mode = "linear", coordinate_transformation_mode = "align_corners"',
            'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
            'mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"',
        )
        for row in resized(attributes, real(1, 1, 0.5, 2), since)
    ],
    # made, counted, compared: of constants alone
    "Constant": [Row("d = Constant <value = float[2] {1.5, -2.0}> () c = Add(d, b)", CUBE, {"b": real(1, 1)}, live=False),
                 Row("c = Constant <value_ints = [3, -4]> ()", CUBE, since=12, live=False)],
    "ConstantOfShape": [Row("c = ConstantOfShape <value = float[1] {2.5}> (a)", whole(2, 3), since=9, live=False),
                        Row("c = ConstantOfShape(a)", whole(4), since=9, live=False)],
    "Range": [Row("c = Range(a, s, d)", np.array(7), {"s": np.array(-2), "d": np.array(-2)}, since=11, live=False),
              Row("c = Range(a, s, d)", np.array(0.5, np.float32),
                  {"s": np.array(2.2, np.float32), "d": np.array(0.5, np.float32)}, since=11, live=False)],
    "EyeLike": [Row("c = EyeLike(a)", normal(3, 4), since=9, live=False),
                Row("c = EyeLike <k = -1, dtype = 7> (a)", normal(3, 4), since=9, live=False)],
    "OneHot": [Row("c = OneHot(a, d, v)", np.array([0, 2, -1]), {"d": np.array(3), "v": real(-1, 5)}, since=9, live=False),
               Row("c = OneHot <axis = 0> (a, d, v)", np.array([[0, 2, -1]]), {"d": np.array(4), "v": real(0, 1)}, since=11,
                   live=False)],
    "Shape": [Row("s = Shape(a) f = Cast <to = 1> (s) c = Mul(a, f)", normal(1, 1, 3)),
              Row("s = Shape <start = -2, end = 2> (a) f = Cast <to = 1> (s) c = Mul(a, f)", CUBE, since=15)],
    "Size": [Row("s = Size(a) f = Cast <to = 1> (s) c = Mul(a, f)", ONE)],
    "Equal": [*compared("Equal", 7, INTEGERS, -INTEGERS[::-1]),
              *choosing("e = Equal(a, z) g = Greater(a, z) m = Or(e, g)", 11)],
    "Greater": [*compared("Greater", 9), *choosing("m = Greater(a, z)"), *compared("Greater", 7, CUBE, CUBE[::-1])],
    "Less": [*compared("Less", 9), *choosing("m = Less(a, z)"), *compared("Less", 7, CUBE, CUBE[::-1])],
    "GreaterOrEqual": [*compared("GreaterOrEqual", 12, INTEGERS, INTEGERS[::-1]), *choosing("m = GreaterOrEqual(a, z)", 12)],
    "LessOrEqual": [*compared("LessOrEqual", 12, INTEGERS, INTEGERS[::-1]), *choosing("m = LessOrEqual(a, z)", 12)],
    "And": [*compared("And", 7, TRUTHS, OTHERS), *choosing("g = Less(a, z) h = Greater(a, y) m = And(g, h)")],
     "Or": [*compared("Or", 7, TRUTHS, OTHERS), *choosing("g = Less(a, y) h = Greater(a, z) m = Or(g, h)")],
    "Xor": compared("Xor", 7, TRUTHS, OTHERS),
    "Not": [Row("c = Not(a)", TRUTHS, live=False), *choosing("g = Greater(a, z) m = Not(g)")],
    "Sign": [Row("c = Sign(a)", real(-2, 0, 3), since=9, live=False), *choosing("g = Sign(a) m = Greater(g, z)")],
    "Floor": [Row("c = Floor(a)", 3 * CUBE, live=False)], "Ceil": [Row("c = Ceil(a)", 3 * CUBE, live=False)],
    "Round": [Row("c = Round(a)", real(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.6), since=11, live=False)],
    "IsNaN": [Row("c = IsNaN(a)", real(1, np.nan, np.inf), since=9, live=False)],
    "IsInf": [Row("c = IsInf(a)", real(1, np.nan, np.inf, -np.inf), since=10, live=False),
              Row("c = IsInf <detect_negative = 0> (a)", real(1, np.nan, np.inf, -np.inf), since=10, live=False)],
    "ArgMax": places("ArgMax"), "ArgMin": places("ArgMin"),
    "NonZero": [Row("c = NonZero(a)", real([1, 0], [0, 3]), since=9, live=False)],
    "TopK": [Row("d, i = TopK <k = 2, axis = 1> (a) f = Cast <to = 1> (i) c = Add(d, f)", real([1, 3, 3, 2], [4, 4, 0, 4]),
                 until=9, live=False),
             Row("d, i = TopK <axis = 1> (a, k) f = Cast <to = 1> (i) c = Add(d, f)", real([1, 3, 3, 2], [4, 4, 0, 4]),
                 {"k": whole(3)}, since=10, live=False),
             Row("d, i = TopK <largest = 0> (a, k) f = Cast <to = 1> (i) c = Add(d, f)", real([1, 3, 3, 2], [4, 4, 0, 4]),
                 {"k": whole(3)}, since=11, live=False)],
    "DequantizeLinear": [
        Row("c = DequantizeLinear(a, scale, zero)", np.array([[0, 3, 255]], np.uint8), _CODES, since=10, live=False),
        Row("c = DequantizeLinear <axis = 0> (a, s)", np.array([[0, 3], [-7, 127]], np.int8), {"s": real(0.5, 2)}, since=13,
            live=False),
    ],
    "QuantizeLinear": [Row("c = QuantizeLinear(a, scale, zero)", 20 * CUBE, _CODES, since=10, live=False)],
}  # fmt: skip

GONE = {"Scatter": 11, "Upsample": 10}  # from these opsets on ONNX deprecates them, and onnxruntime refuses them
