"""The table of ATen operations: for each name, how its arguments become calls of the builder.

Reductions, shapes and axes are passed on as the graph has them; the builder knows about the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import gates
from ..smooth import Smooth
from ._builder import Builder, Live, Operand


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one operation by the names of its schema."""

    given: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.given[name]
        except KeyError:
            raise AttributeError(name) from None

    def first(self) -> Any:
        """Return the first argument, which the schemas call self or input."""
        return next(iter(self.given.values())) if "self" not in self.given else self.given["self"]

    def has(self, name: str) -> bool:
        """Say whether an argument is given and not None."""
        return self.given.get(name) is not None


Handler = Callable[[Builder, Arguments], Any]
OPERATIONS: dict[str, Handler] = {}


def operation(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler under the names of ATen operations."""

    def register(handler: Handler) -> Handler:
        OPERATIONS.update(dict.fromkeys(names, handler))
        return handler

    return register


def operand(value: Any) -> Operand:
    """Return a live value as it is, and a constant or number as a tensor in float64."""
    return value if isinstance(value, Live) else torch.as_tensor(value, dtype=torch.float64)


def listed(value: Any) -> list[int]:
    """Return an integer or a sequence of them as a list."""
    return [value] if isinstance(value, int) else list(value)


# -- the identity


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


# -- affine


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
    return b.einsum(a.equation, [operand(t) for t in a.tensors])


@operation("conv1d", "conv2d", "conv3d")
def _conv(b: Builder, a: Arguments) -> Live:
    x, padding = a.input, a.padding
    rank, dilation = a.weight.ndim - 2, listed(a.dilation)
    if isinstance(padding, str):
        total = [d * (k - 1) for d, k in zip(dilation * (rank if len(dilation) == 1 else 1), a.weight.shape[2:], strict=True)]
        total = total if padding == "same" else [0] * rank
        if any(t % 2 for t in total):
            x = b.pad(x, [p for t in reversed(total) for p in (t // 2, t - t // 2)])
            total = [0] * rank
        padding = [t // 2 for t in total]
    return b.convolution(x, a.weight, a.bias, listed(a.stride), listed(padding), dilation, groups=a.groups)


@operation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(b: Builder, a: Arguments) -> Live:
    return b.convolution(a.input, a.weight, a.bias, *_window(a), True, listed(a.output_padding), a.groups)


@operation("convolution", "_convolution")
def _convolution(b: Builder, a: Arguments) -> Live:
    return b.convolution(a.input, a.weight, a.bias, *_window(a), a.transposed, listed(a.output_padding), a.groups)


def _window(a: Arguments) -> tuple[list[int], list[int], list[int]]:
    return listed(a.stride), listed(a.padding), listed(a.dilation)


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


@operation("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(b: Builder, a: Arguments) -> Live:
    pool = {"1": F.avg_pool1d, "2": F.avg_pool2d, "3": F.avg_pool3d}[b.where.split()[0][-2]]
    options = {"kernel_size": tuple(a.kernel_size), "stride": tuple(a.stride) or tuple(a.kernel_size)}
    options |= {"padding": tuple(a.padding), "ceil_mode": a.ceil_mode, "count_include_pad": a.count_include_pad}
    if a.has("divisor_override"):
        options["divisor_override"] = a.divisor_override
    return b.fixed("avg_pool", pool, a.self, **options)


@operation("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _adaptive_avg_pool(b: Builder, a: Arguments) -> Live:
    pools = {"1": F.adaptive_avg_pool1d, "2": F.adaptive_avg_pool2d, "3": F.adaptive_avg_pool3d}
    return b.fixed("avg_pool", pools[b.where.split()[0][-2]], a.self, output_size=tuple(a.output_size))


_MODES = {
    "upsample_nearest": "nearest",
    "_upsample_nearest_exact": "nearest-exact",
    "upsample_linear": "linear",
    "upsample_bilinear": "bilinear",
    "upsample_trilinear": "trilinear",
    "upsample_bicubic": "bicubic",
}


@operation(*(f"{name}{rank}d" for name in _MODES for rank in (1, 2, 3)))
def _upsample(b: Builder, a: Arguments) -> Live:
    name, rank = b.where.split()[0], len(a.first().shape) - 1
    mode = _MODES[name.rstrip("d").rstrip("123")]
    options: dict[str, Any] = {"mode": mode}
    if a.has("align_corners"):
        options["align_corners"] = a.align_corners
    if a.has("scale_factors"):
        options["scale_factor"] = tuple(a.scale_factors)
    else:
        options["size"] = tuple(a.output_size)
        scales = [a.given.get(k) for k in (("scales",) if rank == 1 else ("scales_d", "scales_h", "scales_w")[-rank:])]
        if all(s is not None for s in scales):
            del options["size"]
            options["scale_factor"] = tuple(scales)
    return b.fixed("upsample", F.interpolate, a.first(), **options)


# -- shapes


@operation("view", "reshape", "_unsafe_view", "view_copy", "_reshape_copy")
def _view(b: Builder, a: Arguments) -> Live:
    return b.reshape(a.self, a.size if a.has("size") else a.shape)


@operation("flatten")
def _flatten(b: Builder, a: Arguments) -> Live:
    shape = b.source_shape(a.self)
    first, last = a.start_dim % len(shape), a.end_dim % len(shape)
    return b.reshape(a.self, [*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]])


@operation("unflatten")
def _unflatten(b: Builder, a: Arguments) -> Live:
    shape, dim = b.source_shape(a.self), a.dim % a.self.rank
    return b.reshape(a.self, [*shape[:dim], *_resolved(a.sizes, shape[dim]), *shape[dim + 1 :]])


def _resolved(sizes: list[int], total: int) -> list[int]:
    known = math.prod(s for s in sizes if s != -1)
    return [total // known if s == -1 else s for s in sizes]


@operation("permute", "permute_copy")
def _permute(b: Builder, a: Arguments) -> Live:
    return b.permute(a.self, a.dims)


@operation("transpose", "swapaxes", "swapdims", "t", "numpy_T", "transpose_copy", "mT")
def _transpose(b: Builder, a: Arguments) -> Live:
    names = [k for k in ("dim0", "axis0") if k in a.given]
    dims = list(range(a.self.rank))
    i, j = (a.given[names[0]], a.given[names[0].replace("0", "1")]) if names else (-2, -1)
    dims[i], dims[j] = dims[j], dims[i]
    return b.permute(a.self, dims)


@operation("movedim", "moveaxis")
def _movedim(b: Builder, a: Arguments) -> Live:
    order = torch.zeros([1] * a.self.rank)
    sizes = torch.empty(tuple(range(1, order.ndim + 1)), device="meta")
    return b.permute(a.self, [s - 1 for s in sizes.movedim(listed(a.source), listed(a.destination)).shape])


@operation("squeeze", "squeeze_copy")
def _squeeze(b: Builder, a: Arguments) -> Live:
    return b.squeeze(a.self, listed(a.dim) if a.has("dim") else None)


@operation("unsqueeze", "unsqueeze_copy")
def _unsqueeze(b: Builder, a: Arguments) -> Live:
    return b.unsqueeze(a.self, [a.dim])


@operation("expand", "expand_copy")
def _expand(b: Builder, a: Arguments) -> Live:
    return b.expand(a.self, a.size)


@operation("expand_as")
def _expand_as(b: Builder, a: Arguments) -> Live:
    return b.expand(a.self, b.source_shape(a.other) if isinstance(a.other, Live) else tuple(a.other.shape))


@operation("repeat", "tile")
def _repeat(b: Builder, a: Arguments) -> Live:
    counts = list(a.repeats if a.has("repeats") else a.dims)
    counts = [1] * (a.self.rank - len(counts)) + counts
    if len(counts) > a.self.rank or (a.self.batched and counts[0] != 1):
        b.refuse("repeats the batch", "keep the batch as it is")
    inner = counts[1:] if a.self.batched else counts
    return b.fixed("repeat", Tensor.repeat, a.self, repeats=(1, *inner))


@operation("slice", "slice_copy")
def _slice(b: Builder, a: Arguments) -> Live:
    return b.slice(a.self, a.dim, a.start, a.end, a.step)


@operation("narrow")
def _narrow(b: Builder, a: Arguments) -> Live:
    return b.slice(a.self, a.dim, a.start, a.start + a.length)


@operation("select", "select_copy")
def _select(b: Builder, a: Arguments) -> Live:
    return b.select(a.self, a.dim, a.index)


@operation("index_select")
def _index_select(b: Builder, a: Arguments) -> Live:
    return b.gather(a.self, a.dim, _indices(b, a.index))


@operation("index", "_unsafe_index")
def _index(b: Builder, a: Arguments) -> Live:
    places = [(d, i) for d, i in enumerate(a.indices) if i is not None]
    if len(places) != 1:
        b.refuse("indexes several axes at once", "index one axis after the other")
    dim, index = places[0]
    index = _indices(b, index)
    return b.gather(a.self, dim, index.nonzero().reshape(-1) if index.dtype == torch.bool else index)


def _indices(b: Builder, index: Any) -> Tensor:
    if isinstance(index, Live):
        b.refuse("takes indices that depend on the input", "only constant indices keep the network piecewise linear")
    return index


@operation("slice_scatter")
def _slice_scatter(b: Builder, a: Arguments) -> Live:
    return b.assign_slice(operand(a.self), operand(a.src), a.dim, a.start, a.end, a.step)


@operation("select_scatter")
def _select_scatter(b: Builder, a: Arguments) -> Live:
    return b.assign_select(operand(a.self), operand(a.src), a.dim, a.index)


@operation("index_put")
def _index_put(b: Builder, a: Arguments) -> Live:
    places = [(d, i) for d, i in enumerate(a.indices) if i is not None]
    if len(places) != 1 or a.accumulate or _indices(b, places[0][1]).ndim != 1:
        b.refuse("assigns at several axes at once", "assign along one axis after the other")
    dim, index = places[0]
    index = index.nonzero().reshape(-1) if index.dtype == torch.bool else index
    return b.assign_index(operand(a.self), operand(a.given["values"]), dim, index)


@operation(
    "split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split", "tensor_split", "split_copy", "split_with_sizes_copy"
)
def _split(b: Builder, a: Arguments) -> list[Live]:
    size, name = b.source_shape(a.self)[a.dim], b.where.split()[0]
    if name == "tensor_split" and a.has("indices"):
        edges = [0, *a.indices, size]
        return b.split(a.self, a.dim, [j - i for i, j in itertools.pairwise(edges)])
    if name == "tensor_split":
        return b.split(a.self, a.dim, [size // a.sections + (i < size % a.sections) for i in range(a.sections)])
    if "chunk" in name:
        each = -(-size // a.chunks)
    elif a.has("split_sizes") or not isinstance(a.split_size, int):
        return b.split(a.self, a.dim, a.split_sizes if a.has("split_sizes") else a.split_size)
    else:
        each = a.split_size
    return b.split(a.self, a.dim, [min(each, size - start) for start in range(0, size, each)])


@operation("unbind")
def _unbind(b: Builder, a: Arguments) -> list[Live]:
    return [b.select(a.self, a.dim, i) for i in range(b.source_shape(a.self)[a.dim])]


@operation("cat", "concat", "concatenate")
def _cat(b: Builder, a: Arguments) -> Live:
    return b.concat([operand(t) for t in a.tensors], a.dim)


@operation("stack")
def _stack(b: Builder, a: Arguments) -> Live:
    return b.stack([operand(t) for t in a.tensors], a.dim)


@operation("hstack")
def _hstack(b: Builder, a: Arguments) -> Live:
    return b.concat([operand(t) for t in a.tensors], 1)


@operation("constant_pad_nd", "pad")
def _pad(b: Builder, a: Arguments) -> Live:
    mode = a.given.get("mode", "constant")
    return b.pad(a.self, a.pad, mode, float(a.given.get("value") or 0.0))


@operation(*(f"{mode}_pad{rank}d" for mode in ("reflection", "replication") for rank in (1, 2, 3)))
def _edge_pad(b: Builder, a: Arguments) -> Live:
    return b.pad(a.self, a.padding, "reflect" if b.where.startswith("reflection") else "replicate")


# -- gates and max-gates


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


@operation(*(f"max_pool{rank}d{ending}" for rank in (1, 2, 3) for ending in ("", "_with_indices")))
def _max_pool(b: Builder, a: Arguments) -> Any:
    sizes = [listed(v) for v in (a.kernel_size, a.stride, a.padding, a.dilation)]
    y = b.max_pool(a.self, sizes[0], sizes[1], sizes[2], sizes[3], a.ceil_mode)
    return [y, None] if "with_indices" in b.where else y


@operation("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max_pool(b: Builder, a: Arguments) -> list[Any]:
    inner, outer = a.self.shape[1:], listed(a.output_size)
    if any(i % o for i, o in zip(inner, outer, strict=True)):
        b.refuse(f"pools {inner} to {tuple(outer)} with windows of different sizes", "use max-pooling with a fixed window")
    size = [i // o for i, o in zip(inner, outer, strict=True)]
    return [b.max_pool(a.self, size, size, [0], [1], ceil_mode=False), None]


# -- smooth


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
    if a.has("attn_mask") or a.dropout_p or a.given.get("enable_gqa"):
        b.refuse("has a mask, dropout or grouped queries", "only plain or causal attention is supported")
    options = {"is_causal": a.is_causal, "scale": a.given.get("scale")}
    return b.emit(Smooth("attention", F.scaled_dot_product_attention, options), [a.query, a.key, a.value])
