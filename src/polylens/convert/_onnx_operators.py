"""What the ONNX operators mean: a table from operator to a small function, arithmetic, gates, smooth
functions, normalisation, reductions. Shapes are in `_onnx_shapes`, convolutions and pooling in `_onnx_windows`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..gates import absolute, hardsigmoid, leaky_relu, relu, shrink, threshold
from ..smooth import Smooth
from ._onnx_call import Call, operator
from ._program import Live, Operand, as_live

# -- arithmetic


def _pair(n: Call) -> tuple[Operand, Operand]:
    """Return two operands that broadcast; before opset 7 an attribute says where the second one starts."""
    a, b = n.operand(0), n.operand(1)
    if n.opset < 7 and isinstance(a, Live) and isinstance(b, Tensor) and "axis" in n.attributes and b.ndim:
        b = b.reshape(*b.shape, *(1,) * (a.rank - n.axis(a, 0) - b.ndim))
    return n.pair(a, b)


@operator("Add")
def _add(n: Call) -> Live:
    return n.builder.add(*_pair(n))


@operator("Sub")
def _sub(n: Call) -> Live:
    return n.builder.add(*_pair(n), weight=-1.0)


@operator("Mul")
def _mul(n: Call) -> Live:
    return n.builder.multiply(*_pair(n))


@operator("Div")
def _div(n: Call) -> Live:
    a, b = _pair(n)
    return n.builder.divide(a, b.double() if isinstance(b, Tensor) else b)


@operator("Neg")
def _neg(n: Call) -> Live:
    return n.builder.scale(n.x, torch.tensor(-1.0), None)


@operator("Sum", "Mean")
def _sum(n: Call) -> Live:
    y, rest = _parted(n)
    for term in rest:
        y = n.builder.add(y, term)
    count = torch.tensor(1 + len(rest), dtype=torch.float64)
    return y if n.op == "Sum" or not rest else n.builder.scale(y, 1 / count, None)


@operator("Max", "Min")
def _extreme(n: Call) -> Live:
    y, rest = _parted(n)
    for other in rest:
        y = n.builder.bigger(y, other, n.op == "Max")
    return y


def _parted(n: Call) -> tuple[Live, list[Operand]]:
    """Return a live operand and all others, live ones in front; sums and maxima do not mind the order."""
    operands = sorted(n.fitted(n.operands), key=lambda o: isinstance(o, Tensor))
    first, *rest = operands
    return as_live(first), rest


@operator("MatMul")
def _matmul(n: Call) -> Live:
    return _product(n, n.operand(0), n.operand(1))


def _product(n: Call, a: Operand, b: Operand) -> Live:
    """The matrix product of numpy: vectors are rows on the left and columns on the right, leading axes broadcast."""
    if isinstance(a, Live) and isinstance(b, Tensor):
        a = n.whole(a) if not a.shape else a
        if b.ndim > a.rank:
            a = n.fitted([a, b])[0]
        return n.builder.matmul(a, b)
    if _rank(a) == 1:
        row = n.builder.unsqueeze(a, [0]) if isinstance(a, Live) else a[None]
        return n.builder.squeeze(_product(n, row, b), [-2])
    if isinstance(a, Tensor) and a.ndim == 2 and isinstance(b, Live) and b.rank == 1:
        return n.builder.linear(n.whole(b), a, None)
    if _rank(b) == 1 and isinstance(b, Live):
        return n.builder.squeeze(_product(n, a, n.builder.unsqueeze(b, [1])), [-1])
    # the last two axes take part in the product, so a matrix shows the batch as one of them instead of keeping it aside
    factors: list[Operand] = [n.whole(o) if isinstance(o, Live) and len(o.shape) < 2 else o for o in n.fitted([a, b])]
    mixed = len({o.batched for o in factors if isinstance(o, Live)}) == 2
    x, y = n.fitted(factors) if mixed else factors
    if any(isinstance(o, Live) and len(o.shape) < 2 for o in (x, y)):
        n.builder.refuse("multiplies along the batch axis", "keep the batch in front and multiply from the right")
    return n.builder.matmul(x, y)


def _rank(x: Operand) -> int:
    return x.rank if isinstance(x, Live) else x.ndim


@operator("Gemm")
def _gemm(n: Call) -> Live:
    a, b, shift = n.operand(0), n.operand(1), n.given(2)
    a = _turned(n, a) if n.attribute("transA", 0) else a
    b = _turned(n, b) if n.attribute("transB", 0) else b
    alpha, beta = float(n.attribute("alpha", 1.0)), float(n.attribute("beta", 1.0))
    y = _product(n, a, _times(n, b, alpha))
    if shift is None or beta == 0:
        return y
    return n.builder.add(*n.pair(y, _times(n, shift, beta)))


def _times(n: Call, x: Operand, factor: float) -> Operand:
    if factor == 1:
        return x
    return n.builder.scale(x, torch.tensor(factor), None) if isinstance(x, Live) else factor * x


def _turned(n: Call, x: Operand) -> Operand:
    return n.builder.permute(n.along(x, 0), [1, 0]) if isinstance(x, Live) else x.T


@operator("Pow")
def _pow(n: Call) -> Live:
    base, exponent = _pair(n)
    if isinstance(base, Tensor) and isinstance(exponent, Live):
        if not bool((base > 0).all()):
            n.builder.refuse("raises a base that is not positive to a live power", "rewrite it with a positive base")
        return n.builder.elementwise("exp", torch.exp, n.builder.scale(exponent, base.double().log(), None))
    if not isinstance(base, Live) or not isinstance(exponent, Tensor) or not bool((exponent == exponent.reshape(-1)[0]).all()):
        n.builder.refuse("has an exponent that is not one constant number", "use one number, or exp(y * log(x))")
    power = float(exponent.reshape(-1)[0])
    return base if power == 1 else n.builder.elementwise("pow", torch.pow, base, exponent=power)


# -- gates


@operator("Relu")
def _relu(n: Call) -> Live:
    return n.builder.gate(n.x, relu())


@operator("LeakyRelu")
def _leaky_relu(n: Call) -> Live:
    return n.builder.gate(n.x, leaky_relu(n.attribute("alpha", 0.01)))


@operator("PRelu")
def _prelu(n: Call) -> Live:
    x, slope = n.x, n.needed(1)
    if n.opset < 7 and slope.numel() > 1:
        slope = slope.reshape(-1, *(1,) * (x.rank - 2))
    y = n.builder.spread(as_live(n.fitted([x, slope])[0]), slope)
    return n.builder.gate(y, leaky_relu(n.builder.aligned(slope, y)[0] if slope.numel() > 1 else slope.item(), "prelu"))


@operator("Abs")
def _abs(n: Call) -> Live:
    return n.builder.gate(n.x, absolute())


@operator("Clip")
def _clip(n: Call) -> Live:
    return n.builder.clamp(n.x, n.number("min", 1, None), n.number("max", 2, None))


@operator("HardSigmoid")
def _hard_sigmoid(n: Call) -> Live:
    slope, shift = n.attribute("alpha", 0.2), n.attribute("beta", 0.5)
    if slope <= 0:
        return n.builder.clamp(n.builder.scale(n.x, torch.tensor(slope), torch.tensor(shift)), 0.0, 1.0, "hardsigmoid")
    return n.builder.gate(n.x, hardsigmoid(slope, shift))


@operator("ThresholdedRelu")
def _thresholded_relu(n: Call) -> Live:
    return n.builder.gate(n.x, threshold(n.attribute("alpha", 1.0), 0.0))


@operator("Shrink")
def _shrink(n: Call) -> Live:
    return n.builder.gate(n.x, shrink(n.attribute("lambd", 0.5), n.attribute("bias", 0.0)))


# -- smooth functions


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * F.elu(x, alpha)


_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
}
_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "Tanh": (torch.tanh, {}),
    "Sigmoid": (torch.sigmoid, {}),
    "Softplus": (F.softplus, {}),
    "Softsign": (F.softsign, {}),
    "Mish": (F.mish, {}),
    "HardSwish": (F.hardswish, {}),
    "Elu": (F.elu, {"alpha": 1.0}),
    "Celu": (F.celu, {"alpha": 1.0}),
    "Selu": (_selu, {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
}


@operator(*_PLAIN)
def _elementwise(n: Call) -> Live:
    return n.builder.elementwise(n.op.lower(), _PLAIN[n.op], n.x)


@operator(*_ACTIVATIONS)
def _activation(n: Call) -> Live:
    function, options = _ACTIVATIONS[n.op]
    given = {name: float(n.attribute(name, default)) for name, default in options.items()}
    return n.builder.activation(n.op.lower(), function, n.x, **given)


@operator("Gelu")
def _gelu(n: Call) -> Live:
    return n.builder.activation("gelu", F.gelu, n.x, approximate=n.attribute("approximate", "none"))


@operator("Softmax", "LogSoftmax")
def _softmax(n: Call) -> Live:
    log = n.op == "LogSoftmax"
    axis = n.axis(n.x, -1 if n.opset >= 13 else 1)
    x = n.along(n.x, axis)
    if n.opset >= 13:
        return n.builder.softmax(x, axis, log)
    # before opset 13 all axes from `axis` on are one
    shape = n.builder.source_shape(x)
    n.builder.axis(x, axis)
    joined = n.builder.reshape(x, (*shape[:axis], math.prod(shape[axis:])))
    return n.builder.reshape(n.builder.softmax(joined, -1, log), shape)


# -- normalisation


@operator("BatchNormalization")
def _batch_norm(n: Call) -> Live:
    training = n.attribute("training_mode", 0) if n.opset >= 14 else n.outputs > 1
    if n.opset < 7:
        training = not n.attribute("is_test", 0)
    if training or not n.attribute("spatial", 1):
        n.builder.refuse("normalises with the statistics of the batch or of every pixel", "export the model in eval mode")
    x, (scale, bias, mean, variance) = n.image(n.x), (n.needed(i).double() for i in range(1, 5))
    return n.builder.batch_norm(x, scale, bias, mean, variance, n.attribute("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_norm(n: Call) -> Live:
    axis = n.axis(n.x, -1)
    x = n.along(n.x, axis)
    n.builder.axis(x, axis)
    return n.builder.layer_norm(x, n.builder.source_shape(x)[axis:], n.constant(1), n.constant(2), n.attribute("epsilon", 1e-5))


@operator("InstanceNormalization")
def _instance_norm(n: Call) -> Live:
    x = n.image(n.x)
    return n.builder.group_norm(x, x.shape[0], n.needed(1), n.needed(2), n.attribute("epsilon", 1e-5))


@operator("GroupNormalization")
def _group_norm(n: Call) -> Live:
    x, groups = n.image(n.x), int(n.attribute("num_groups", 1))
    each = x.shape[0] // groups if n.opset < 21 else 1  # weights for each group; later for each channel
    scale, bias = (n.needed(i).repeat_interleave(each) for i in (1, 2))
    return n.builder.group_norm(x, groups, scale, bias, n.attribute("epsilon", 1e-5))


# -- reductions


def _reduced_axes(n: Call, x: Live, since: int) -> list[int]:
    axes = n.ints("axes", 1 if n.opset >= since else None)
    if axes:
        return [a % x.rank for a in axes]
    return [] if n.attribute("noop_with_empty_axes", 0) else list(range(x.rank))


@operator("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def _reduce(n: Call) -> Live:
    axes = _reduced_axes(n, n.x, 13 if n.op == "ReduceSum" else 18)
    x = n.along(n.x, *axes)
    if n.op == "ReduceL1":
        x = n.builder.gate(x, absolute())
    elif n.op in ("ReduceL2", "ReduceSumSquare"):
        x = n.builder.elementwise("square", torch.square, x)
    y = n.builder.reduce(x, axes, bool(n.attribute("keepdims", 1)), n.op == "ReduceMean") if axes else x
    return n.builder.elementwise("sqrt", torch.sqrt, y) if n.op == "ReduceL2" else y


@operator("ReduceLogSumExp", "ReduceLogSum", "ReduceProd")
def _reduce_smooth(n: Call) -> Live:
    axes = _reduced_axes(n, n.x, 18)
    x, keepdim = n.along(n.x, *axes), bool(n.attribute("keepdims", 1))
    if not axes:
        return x
    if n.op == "ReduceLogSum":
        return n.builder.elementwise("log", torch.log, n.builder.reduce(x, axes, keepdim, False))
    options = {"dim": tuple(n.builder.axis(x, a) for a in axes), "keepdim": keepdim}
    kind, function = ("logsumexp", torch.logsumexp) if n.op == "ReduceLogSumExp" else ("product", product)
    return n.builder.emit(Smooth(kind, function, options), [x])


def product(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    """Return the product over several axes."""
    for d in sorted(dim, reverse=True):
        x = x.prod(d, keepdim)
    return x


@operator("ReduceMax", "ReduceMin")
def _reduce_extreme(n: Call) -> Live:
    axes = _reduced_axes(n, n.x, 18)
    x = n.along(n.x, *axes)
    return n.builder.extreme(x, axes, bool(n.attribute("keepdims", 1)), n.op == "ReduceMax") if axes else x
