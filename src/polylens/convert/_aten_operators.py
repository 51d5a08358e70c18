"""ATen arithmetic, gates and smooth functions: how their arguments become calls of the builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import gates
from ..smooth import Smooth
from ._aten_call import Arguments, listed, operand, operation
from ._builder import Builder
from ._einsum import einsum
from ._program import Live, Operand


@operation("clone", "detach", "alias", "contiguous", "lift_fresh_copy", "lift_fresh", "_to_copy", "to", "type_as")
def _identity(b: Builder, a: Arguments) -> Live:
    dtype = a.given.get("dtype")
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
        b.refuse(f"casts to {dtype}", "only floating-point casts keep a network piecewise linear or smooth")
    return a.first()


@operation("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout")
def _dropout(b: Builder, a: Arguments) -> Any:
    if a.train and a.p > 0:
        b.refuse("is active, the module is in train mode", "call module.eval() before loading it")
    return [a.input, None] if "native" in b.where else a.input


@operation("copy")
def _copy(b: Builder, a: Arguments) -> Operand:
    if not isinstance(a.src, Live):
        return a.src.expand(b.source_shape(a.self))
    shape = b.source_shape(a.self) if isinstance(a.self, Live) else tuple(a.self.shape)
    return b.expand(a.src, shape)


@operation("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty", "fill")
def _filled(b: Builder, a: Arguments) -> Tensor:
    name = b.where.split()[0]
    value = 1.0 if "ones" in name else a.given.get("fill_value", a.given.get("value", 0.0))
    return torch.full(tuple(a.size) if a.has("size") else b.source_shape(a.self), float(value), dtype=torch.float64)


@operation("sym_size")
def _size(b: Builder, a: Arguments) -> int:
    return b.source_shape(a.self)[int(a.dim)]


@operation("linear")
def _linear(b: Builder, a: Arguments) -> Live:
    if isinstance(a.weight, Live) or isinstance(a.bias, Live):
        b.refuse("has weights that depend on the input", "hypernetworks are not supported")
    return b.linear(a.input, a.weight, a.bias)


@operation("addmm", "baddbmm")
def _addmm(b: Builder, a: Arguments) -> Live:
    left, right = (a.mat1, a.mat2) if a.has("mat1") else (a.batch1, a.batch2)
    return b.add(operand(a.self), b.matmul(*_factors(left, right)), weight=float(a.alpha), first=float(a.beta))


@operation("mm", "matmul", "bmm", "mv")
def _matmul(b: Builder, a: Arguments) -> Live:
    other = a.given.get("other", a.given.get("mat2", a.given.get("vec")))
    return b.matmul(*_factors(a.first(), other))


def _factors(left: Any, right: Any) -> tuple[Operand, Operand]:
    return operand(left), operand(right)


@operation("einsum")
def _einsum(b: Builder, a: Arguments) -> Live:
    return einsum(b, a.equation, [operand(t) for t in a.tensors])


@operation("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "_native_batch_norm_legit_functional")
def _batch_norm(b: Builder, a: Arguments) -> Any:
    if a.given.get("training", False) or not a.has("running_mean"):
        b.refuse("uses the statistics of the batch", "call module.eval() before loading it, with running statistics kept")
    y = b.batch_norm(a.input, a.weight, a.bias, a.running_mean, a.running_var, a.eps)
    return y if b.where.startswith("batch_norm") else [y, None, None]


@operation("add", "sub", "rsub", "subtract")
def _add(b: Builder, a: Arguments) -> Live:
    name, alpha = b.where.split()[0], float(a.given.get("alpha", 1))
    if name == "rsub":
        return b.add(operand(a.self), operand(a.other), weight=1.0, first=-alpha)
    return b.add(operand(a.self), operand(a.other), weight=alpha if name == "add" else -alpha)


@operation("neg")
def _neg(b: Builder, a: Arguments) -> Live:
    return b.scale(a.self, torch.tensor(-1.0, dtype=torch.float64), None)


@operation("mul", "multiply")
def _mul(b: Builder, a: Arguments) -> Live:
    return b.multiply(operand(a.self), operand(a.other))


@operation("div", "divide", "true_divide")
def _div(b: Builder, a: Arguments) -> Live:
    if a.has("rounding_mode"):
        b.refuse("rounds", "a rounded quotient is not piecewise linear with finitely many pieces")
    return b.divide(operand(a.self), operand(a.other))


_BRANCHES = (
    "gt",
    "lt",
    "ge",
    "le",
    "eq",
    "ne",
    "sign",
    "sgn",
    "heaviside",
    "round",
    "floor",
    "ceil",
    "trunc",
    "isnan",
    "logical_not",
)


@operation(*_BRANCHES)
def _branch(b: Builder, a: Arguments) -> Live:
    b.refuse("is not supported: its result jumps", "write what depends on it with relu, leaky_relu, clamp, maximum or abs")


@operation("where")
def _where(b: Builder, a: Arguments) -> Live:
    if isinstance(a.condition, Live):
        b.refuse("chooses by a condition on the input", "write it with relu, clamp, maximum or abs")
    mask = a.condition.double()
    return b.add(b.multiply(operand(a.self), mask), b.multiply(operand(a.other), 1 - mask)) if _both(a) else _masked(b, a, mask)


def _both(a: Arguments) -> bool:
    return isinstance(a.self, Live) and isinstance(a.other, Live)


def _masked(b: Builder, a: Arguments, mask: Tensor) -> Live:
    x, c, keep = (a.self, operand(a.other), mask) if isinstance(a.self, Live) else (a.other, operand(a.self), 1 - mask)
    return b.scale(x, keep, torch.where(keep == 1, 0.0, c))  # type: ignore[arg-type]


@operation("masked_fill")
def _masked_fill(b: Builder, a: Arguments) -> Live:
    if isinstance(a.mask, Live) or not isinstance(a.self, Live):
        b.refuse("chooses by a condition on the input", "write it with relu, clamp, maximum or abs")
    keep = 1 - a.mask.double()
    return b.scale(a.self, keep, torch.where(keep == 1, 0.0, operand(a.value)))  # type: ignore[arg-type]


@operation("mean", "sum")
def _reduce(b: Builder, a: Arguments) -> Live:
    dims = listed(a.dim) if a.given.get("dim") not in (None, []) else None
    return b.reduce(a.self, dims, a.given.get("keepdim", False), mean=b.where.startswith("mean"))


@operation("cumsum", "flip", "roll", "pixel_shuffle", "pixel_unshuffle", "im2col", "col2im")
def _fixed(b: Builder, a: Arguments) -> Live:
    name, x = b.where.split()[0], a.self
    if name == "cumsum":
        return b.fixed("cumsum", torch.cumsum, x, dim=b.axis(x, a.dim))
    if name == "flip":
        return b.fixed("flip", torch.flip, x, dims=tuple(b.axis(x, d) for d in a.dims))
    if name == "roll":
        if not a.dims:
            b.axis(x, 0)
        return b.fixed("roll", torch.roll, x, shifts=tuple(a.shifts), dims=tuple(b.axis(x, d) for d in a.dims))
    if name == "pixel_shuffle":
        return b.fixed(name, F.pixel_shuffle, x, upscale_factor=a.upscale_factor)
    if name == "pixel_unshuffle":
        return b.fixed(name, F.pixel_unshuffle, x, downscale_factor=a.downscale_factor)
    options = {k: tuple(a.given[k]) for k in ("kernel_size", "dilation", "padding", "stride")}
    if name == "im2col":
        return b.fixed("unfold", F.unfold, x, **options)
    return b.fixed("fold", F.fold, x, output_size=tuple(a.output_size), **options)


@operation("relu")
def _relu(b: Builder, a: Arguments) -> Live:
    return b.gate(a.self, gates.relu())


@operation("relu6", "hardtanh")
def _hardtanh(b: Builder, a: Arguments) -> Live:
    low, high = float(a.given.get("min_val", 0.0)), float(a.given.get("max_val", 6.0))
    return b.clamp(a.self, low, high, "relu6" if (low, high) == (0.0, 6.0) else "hardtanh")


@operation("clamp", "clip")
def _clamp(b: Builder, a: Arguments) -> Live:
    if isinstance(a.min, Live) or isinstance(a.max, Live):
        x: Any = operand(a.self)
        x = b.bigger(x, operand(a.min), largest=True) if a.has("min") else x
        return b.bigger(x, operand(a.max), largest=False) if a.has("max") else x
    return b.clamp(a.self, a.min, a.max)


@operation("clamp_min")
def _clamp_min(b: Builder, a: Arguments) -> Live:
    return b.bigger(operand(a.self), operand(a.min), largest=True)


@operation("clamp_max")
def _clamp_max(b: Builder, a: Arguments) -> Live:
    return b.bigger(operand(a.self), operand(a.max), largest=False)


@operation("leaky_relu")
def _leaky_relu(b: Builder, a: Arguments) -> Live:
    return b.gate(a.self, gates.leaky_relu(a.negative_slope))


@operation("rrelu", "rrelu_with_noise", "rrelu_with_noise_functional")
def _rrelu(b: Builder, a: Arguments) -> Live:
    if a.training:
        b.refuse("is random, the module is in train mode", "call module.eval() before loading it")
    return b.gate(a.self, gates.leaky_relu((a.lower + a.upper) / 2, "rrelu"))


@operation("prelu", "_prelu_kernel")
def _prelu(b: Builder, a: Arguments) -> Live:
    slope = a.weight
    if b.where.startswith("prelu"):
        slope = slope.reshape(-1, *(1,) * (len(a.self.shape) - 1)) if slope.numel() > 1 else slope.reshape(1)
    elif slope.ndim > len(a.self.shape):
        slope = slope[0]
    return b.gate(a.self, gates.leaky_relu(slope, "prelu"))


@operation("abs")
def _abs(b: Builder, a: Arguments) -> Live:
    return b.gate(a.self, gates.absolute())


@operation("threshold")
def _threshold(b: Builder, a: Arguments) -> Live:
    return b.gate(a.self, gates.threshold(float(a.threshold), float(a.value)))


@operation("hardsigmoid")
def _hardsigmoid(b: Builder, a: Arguments) -> Live:
    return b.gate(a.self, gates.hardsigmoid())


@operation("softshrink")
def _softshrink(b: Builder, a: Arguments) -> Live:
    return b.gate(a.self, gates.softshrink(float(a.lambd)))


@operation("hardshrink")
def _hardshrink(b: Builder, a: Arguments) -> Live:
    return b.gate(a.self, gates.hardshrink(float(a.lambd)))


@operation("maximum", "fmax")
def _maximum(b: Builder, a: Arguments) -> Live:
    return b.bigger(operand(a.self), operand(a.other), largest=True)


@operation("minimum", "fmin")
def _minimum(b: Builder, a: Arguments) -> Live:
    return b.bigger(operand(a.self), operand(a.other), largest=False)


@operation("max", "min")
def _extreme(b: Builder, a: Arguments) -> Any:
    largest = b.where.startswith("max")
    if a.has("other"):
        return b.bigger(operand(a.self), operand(a.other), largest)
    y = b.extreme(a.self, listed(a.dim) if a.has("dim") else None, a.given.get("keepdim", False), largest)
    return [y, None] if a.has("dim") else y


@operation("amax", "amin")
def _reduce_extreme(b: Builder, a: Arguments) -> Live:
    return b.extreme(a.self, a.dim or None, a.keepdim, b.where.startswith("amax"))


def _elu(x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    return torch.where(x > 0, scale * x, scale * alpha * torch.expm1(torch.minimum(x, torch.zeros_like(x)) * input_scale))


_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "tanh": (torch.tanh, ()),
    "sigmoid": (torch.sigmoid, ()),
    "softplus": (F.softplus, ("beta", "threshold")),
    "elu": (_elu, ("alpha", "scale", "input_scale")),
    "selu": (F.selu, ()),
    "celu": (F.celu, ("alpha",)),
    "gelu": (F.gelu, ("approximate",)),
    "silu": (F.silu, ()),
    "mish": (F.mish, ()),
    "hardswish": (F.hardswish, ()),
    "log_sigmoid": (F.logsigmoid, ()),
    "softsign": (F.softsign, ()),
}


@operation(*_ACTIVATIONS, "log_sigmoid_forward")
def _activation(b: Builder, a: Arguments) -> Any:
    name = b.where.split()[0]
    kind = name.removesuffix("_forward")
    function, options = _ACTIVATIONS[kind]
    y = b.activation(kind, function, a.self, **{k: a.given[k] for k in options})
    return [y, None] if name.endswith("_forward") else y


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    name: getattr(torch, name)
    for name in (
        "sin",
        "cos",
        "tan",
        "sinh",
        "cosh",
        "asin",
        "acos",
        "atan",
        "asinh",
        "acosh",
        "atanh",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "erf",
        "erfc",
        "square",
    )
}


@operation(*_ELEMENTWISE)
def _elementwise(b: Builder, a: Arguments) -> Live:
    name = b.where.split()[0]
    return b.elementwise(name, _ELEMENTWISE[name], a.self)


@operation("pow")
def _pow(b: Builder, a: Arguments) -> Live:
    if isinstance(a.self, Live) and not isinstance(a.exponent, Live):
        exponent = a.exponent.item() if isinstance(a.exponent, Tensor) and a.exponent.numel() == 1 else a.exponent
        if isinstance(exponent, Tensor):
            b.refuse("raises to a tensor of exponents", "use one number as exponent")
        return a.self if exponent == 1 else b.elementwise("pow", torch.pow, a.self, exponent=exponent)
    if isinstance(a.self, Live):
        return b.emit(Smooth("pow", torch.pow), [a.self, a.exponent])
    return b.elementwise("exp", torch.exp, b.scale(a.exponent, operand(a.self).log(), None))  # type: ignore[union-attr]


@operation("softmax", "_softmax", "_safe_softmax")
def _softmax(b: Builder, a: Arguments) -> Live:
    return b.softmax(a.self, a.dim)


@operation("log_softmax", "_log_softmax")
def _log_softmax(b: Builder, a: Arguments) -> Live:
    return b.softmax(a.self, a.dim, log=True)


@operation("logsumexp")
def _logsumexp(b: Builder, a: Arguments) -> Live:
    dims = tuple(b.axis(a.self, d) for d in listed(a.dim))
    return b.emit(Smooth("logsumexp", torch.logsumexp, {"dim": dims, "keepdim": a.keepdim}), [a.self])


@operation("layer_norm", "native_layer_norm")
def _layer_norm(b: Builder, a: Arguments) -> Any:
    y = b.layer_norm(a.input, a.normalized_shape, a.weight, a.bias, a.eps)
    return [y, None, None] if b.where.startswith("native") else y


@operation("rms_norm")
def _rms_norm(b: Builder, a: Arguments) -> Live:
    eps = a.eps if a.has("eps") else torch.finfo(b.dtype).eps
    y = b.emit(Smooth("rms_norm", F.rms_norm, {"normalized_shape": tuple(a.normalized_shape), "eps": eps}), [a.input])
    return b.scale(y, a.weight, None) if a.has("weight") else y


@operation("group_norm")
def _group_norm(b: Builder, a: Arguments) -> Live:
    return b.group_norm(a.input, a.num_groups, a.weight, a.bias, a.eps)


@operation("native_group_norm")
def _native_group_norm(b: Builder, a: Arguments) -> list[Any]:
    return [b.group_norm(a.input, a.group, a.weight, a.bias, a.eps), None, None]


@operation("instance_norm")
def _instance_norm(b: Builder, a: Arguments) -> Live:
    if not a.use_input_stats:
        return b.batch_norm(a.input, a.weight, a.bias, a.running_mean, a.running_var, a.eps)
    return b.group_norm(a.input, a.input.shape[0], a.weight, a.bias, a.eps)


@operation("glu")
def _glu(b: Builder, a: Arguments) -> Live:
    return b.emit(Smooth("glu", F.glu, {"dim": b.axis(a.self, a.dim)}), [a.self])


@operation("scaled_dot_product_attention")
def _attention(b: Builder, a: Arguments) -> Live:
    if isinstance(a.attn_mask, Live) or a.dropout_p or a.given.get("enable_gqa"):
        b.refuse("has a mask that depends on the input, dropout or grouped queries", "only fixed masks are supported")
    if a.has("attn_mask"):
        return b.masked_attention(a.query, operand(a.key), operand(a.value), a.attn_mask, a.given.get("scale"))
    options = {"is_causal": a.is_causal, "scale": a.given.get("scale")}
    return b.emit(Smooth("attention", F.scaled_dot_product_attention, options), [a.query, a.key, a.value])


@operation("linalg_vector_norm", "norm")
def _norm(b: Builder, a: Arguments) -> Live:
    order = a.given.get("ord", a.given.get("p"))
    dims = tuple(b.axis(a.self, d) for d in listed(a.dim)) if a.has("dim") else None
    if dims is None:
        b.axis(a.self, 0)
    options = {"ord": 2 if order is None else order, "dim": dims, "keepdim": a.given.get("keepdim", False)}
    return b.emit(Smooth("norm", torch.linalg.vector_norm, options), [a.self])


@operation("var", "std")
def _spread(b: Builder, a: Arguments) -> Live:
    if not a.has("dim"):
        b.axis(a.self, 0)
    name = b.where.split()[0]
    dims = tuple(b.axis(a.self, d) for d in listed(a.dim))
    correction = a.given.get("correction", float(a.given.get("unbiased", True)))
    options = {"dim": dims, "correction": 1 if correction is None else correction, "keepdim": a.keepdim}
    return b.emit(Smooth(name, torch.var if name == "var" else torch.std, options), [a.self])
