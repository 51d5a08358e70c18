"""ONNX operators that slide windows over an image or resample it: convolution, pooling, resizing.

Padding that PyTorch cannot write down is made of steps that are exact: zeros in front of a convolution or a sum, and for
max-pooling copies of an entry that the window holds anyway, which never change its maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..steps import Fixed, Scale
from ._onnx_call import Call, operator
from ._program import Live


@dataclass(frozen=True, slots=True)
class Windows:
    """Where the windows stand along one axis: `count` of them, the first beginning `before` in front of the axis."""

    size: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    @property
    def extent(self) -> int:
        """How many entries a window spans."""
        return (self.size - 1) * self.dilation + 1

    @property
    def covered(self) -> int:
        """How many entries all windows span together."""
        return (self.count - 1) * self.stride + self.extent


def _windows(n: Call, shape: Sequence[int], kernel: Sequence[int]) -> list[Windows]:
    rank = len(kernel)
    strides, dilations = n.ints("strides") or [1] * rank, n.ints("dilations") or [1] * rank
    pads = n.ints("pads") or [0] * 2 * rank
    ceil = bool(n.attribute("ceil_mode", 0))
    auto = n.attribute("auto_pad", "NOTSET")
    axes = zip(shape, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)
    return [_along(auto, ceil, *axis) for axis in axes]


def _along(auto: str, ceil: bool, length: int, size: int, stride: int, dilation: int, before: int, after: int) -> Windows:
    extent = (size - 1) * dilation + 1
    if auto.startswith("SAME"):
        count = -(-length // stride)
        total = max(0, (count - 1) * stride + extent - length)
        before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        return Windows(size, stride, dilation, before, total - before, count)
    if auto == "VALID":
        before = after = 0
    room = length + before + after - extent
    count = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= length + before:  # a window has to begin before the padding at the end
        count -= 1
    return Windows(size, stride, dilation, before, after, count)


def _torch_pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    return [p for pair in reversed(pairs) for p in pair]


# -- convolutions


@operator("Conv")
def _conv(n: Call) -> Live:
    x, weight = n.image(n.x), n.needed(1)
    windows = _windows(n, x.shape[1:], weight.shape[2:])
    padding = [w.before for w in windows]
    if any(w.before != w.after for w in windows):
        x = n.builder.pad(x, _torch_pads([(w.before, w.after) for w in windows]))
        padding = [0] * len(windows)
    strides, dilations = [w.stride for w in windows], [w.dilation for w in windows]
    return n.builder.convolution(x, weight, n.constant(2), strides, padding, dilations, groups=int(n.attribute("group", 1)))


@operator("ConvTranspose")
def _conv_transpose(n: Call) -> Live:
    x, weight, bias = n.image(n.x), n.needed(1), n.constant(2)
    rank = weight.ndim - 2
    strides, dilations = n.ints("strides") or [1] * rank, n.ints("dilations") or [1] * rank
    extra = n.ints("output_padding") or [0] * rank
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = [s * (i - 1) + e + o for i, s, e, o in zip(x.shape[1:], strides, extents, extra, strict=True)]
    pads = _transposed_pads(n, x.shape[1:], strides, full)
    groups = int(n.attribute("group", 1))
    if any(p < 0 for pair in pads for p in pair):
        n.builder.refuse(
            "asks for an output larger than its kernels reach, whose gaps the ONNX standard puts at both ends and onnxruntime"
            " at the last one or nowhere", "use output_padding",
        )  # fmt: skip
    if all(b == e for b, e in pads):
        return n.builder.convolution(x, weight, bias, strides, [b for b, _ in pads], dilations, True, extra, groups)
    y = n.builder.convolution(x, weight, bias, strides, [0] * rank, dilations, True, extra, groups)
    return n.builder.pad(y, _torch_pads([(-b, -e) for b, e in pads]))


def _transposed_pads(n: Call, shape: Sequence[int], strides: Sequence[int], full: Sequence[int]) -> list[tuple[int, int]]:
    """Return how much of the full output is cut off at both ends of each axis."""
    auto, wanted, pads = n.attribute("auto_pad", "NOTSET"), n.ints("output_shape"), n.ints("pads")
    if auto.startswith("SAME") and wanted is None:
        wanted = [i * s for i, s in zip(shape, strides, strict=True)]
    if wanted is None:
        flat = pads if pads and auto == "NOTSET" else [0] * 2 * len(shape)
        return list(zip(flat[: len(shape)], flat[len(shape) :], strict=True))
    surplus = [f - w for f, w in zip(full, wanted[-len(shape) :], strict=True)]
    return [(t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in surplus]


# -- pooling


def _pools(n: Call, lengths: Sequence[int]) -> list[Windows]:
    """Return the windows of a pool along each axis, of which none may be empty or open to two readings."""
    windows = _windows(n, lengths, n.ints("kernel_shape") or [])
    if n.attribute("auto_pad", "NOTSET").startswith("SAME") and any(w.extent > w.size for w in windows):
        n.builder.refuse(
            "pads by auto_pad with dilated windows, which the ONNX standard counts with their gaps and onnxruntime without",
            "write the pads as numbers",
        )
    averaged = n.op == "AveragePool" and n.attribute("count_include_pad", 0)  # zeros have a mean
    if not averaged and any(
        _is_empty(w, length, k) for w, length in zip(windows, lengths, strict=True) for k in range(w.count)
    ):
        n.builder.refuse("has a window that holds padding only, of which no value is right", "make the pads smaller")
    return windows


def _is_empty(w: Windows, length: int, number: int) -> bool:
    """Say whether a window holds padding only."""
    start = number * w.stride - w.before
    return not any(0 <= start + k * w.dilation < length for k in range(w.size))


@operator("MaxPool")
def _max_pool(n: Call) -> Live:
    x = n.image(n.x)
    windows = _pools(n, x.shape[1:])
    if all(_plain(w, length) for w, length in zip(windows, x.shape[1:], strict=True)):
        padding = [w.before for w in windows]
    else:
        padding = [0] * len(windows)
        for axis, w in enumerate(windows, 2):
            x = _repeated(n, x, axis, w)
    sizes, strides, dilations = zip(*((w.size, w.stride, w.dilation) for w in windows), strict=True)
    return n.builder.max_pool(x, sizes, strides, padding, dilations, False)


def _plain(w: Windows, length: int) -> bool:
    """Say whether PyTorch's padding, symmetric and half a kernel at most, places the windows where they stand."""
    return 2 * w.before <= w.size and (length + 2 * w.before - w.extent) // w.stride + 1 == w.count


def _repeated(n: Call, x: Live, axis: int, w: Windows) -> Live:
    """Return x with, in place of padding, the nearest entry that every window reaching so far also holds."""
    length, d = x.shape[axis - 1], w.dilation
    places = range(-w.before, w.covered - w.before)
    index = [p % d if p < 0 else p if p < length else p - d * ((p - length) // d + 1) for p in places]
    if not all(0 <= i < length for i in index):
        n.builder.refuse("has a window that lies in the padding", "make the padding smaller than the kernel")
    return x if index == list(range(length)) else n.builder.gather(x, axis, torch.tensor(index))


_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@operator("AveragePool")
def _average_pool(n: Call) -> Live:
    x, kernel = n.image(n.x), n.ints("kernel_shape") or []
    if len(kernel) not in _AVERAGE:
        n.builder.refuse(f"pools over {len(kernel)} axes", "1, 2 or 3 are understood")
    lengths = x.shape[1:]
    windows = _pools(n, lengths)
    shares = [_filled(w, length, n.attribute("count_include_pad", 0)) for w, length in zip(windows, lengths, strict=True)]
    ends = [(w.before, w.covered - w.before - length) for w, length in zip(windows, lengths, strict=True)]
    y = n.builder.pad(x, _torch_pads(ends)) if any(any(pair) for pair in ends) else x
    y = _averaged(n, y, windows)
    if all(bool((s == 1).all()) for s in shares):
        return y
    factor = torch.ones(())
    for share in shares:
        factor = factor[..., None] / share
    return n.builder.emit(Scale(factor[None, None], None), [y])


def _filled(w: Windows, length: int, include_padding: int) -> Tensor:
    """Return, for each window along an axis, which share of its entries counts."""
    starts = torch.arange(w.count)[:, None] * w.stride - w.before
    places = starts + torch.arange(w.size) * w.dilation
    low, high = (-w.before, length + w.after) if include_padding else (0, length)
    return ((places >= low) & (places < high)).double().mean(1)


def _averaged(n: Call, x: Live, windows: Sequence[Windows]) -> Live:
    sizes, strides, dilations = zip(*((w.size, w.stride, w.dilation) for w in windows), strict=True)
    if set(dilations) == {1}:
        options = {"kernel_size": sizes, "stride": strides}
        return n.builder.emit(Fixed("average_pool", _AVERAGE[len(sizes)], options), [x])
    weight = torch.full((x.shape[0], 1, *sizes), 1 / math.prod(sizes), dtype=torch.float64)
    return n.builder.convolution(x, weight, None, strides, [0] * len(sizes), dilations, groups=x.shape[0])


@operator("GlobalAveragePool")
def _global_average(n: Call) -> Live:
    x = n.image(n.x)
    return n.builder.reduce(x, range(2, x.rank), True, True)


@operator("GlobalMaxPool")
def _global_max(n: Call) -> Live:
    x = n.image(n.x)
    return n.builder.extreme(x, range(2, x.rank), True, True)


# -- resampling


def blend(x: Tensor, dim: int, low: tuple[int, ...], high: tuple[int, ...], share: tuple[float, ...]) -> Tensor:
    """Return (1 - share) x[low] + share x[high] along one axis: linear interpolation at fixed places."""
    weight = torch.tensor(share, dtype=x.dtype, device=x.device).reshape(-1, *(1,) * (x.ndim - dim - 1))
    first, second = (x.index_select(dim, torch.tensor(i, device=x.device)) for i in (low, high))
    return first + weight * (second - first)


def weigh(x: Tensor, dim: int, index: tuple[tuple[int, ...], ...], weight: tuple[tuple[float, ...], ...]) -> Tensor:
    """Return the sum of weight[k] x[index[k]] over k along one axis."""
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for places, factors in zip(index, weight, strict=True):
        factor = torch.tensor(factors, dtype=x.dtype, device=x.device).reshape(-1, *(1,) * (x.ndim - dim - 1))
        total = total + factor * x.index_select(dim, torch.tensor(places, device=x.device))
    return total


@operator("Upsample", "Resize")
def _resize(n: Call) -> Live:
    y, mode = n.x, n.attribute("mode", "nearest")
    shape = n.builder.source_shape(y)
    targets = _targets(n, shape)
    if all(size == shape[axis] for axis, (_, size) in targets.items()):
        return y  # runtimes and PyTorch return the input as it is, whatever the scales
    if mode not in ("nearest", *_MODES):
        n.builder.refuse(f"interpolates with mode {mode!r}", "use 'nearest', 'linear' or 'cubic'")
    if n.attribute("antialias", 0) or (mode != "cubic" and n.attribute("exclude_outside", 0)):
        n.builder.refuse("blurs while it resizes (antialias)", "export the model without antialias")
    if n.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        n.builder.refuse("keeps the aspect ratio", "write the sizes that come out")
    for axis, (scale, size) in targets.items():
        if scale == 1 and size == shape[axis]:
            continue
        places = _coordinates(n, shape[axis], size, scale)
        y = n.along(y, axis)
        y = _nearest(n, y, axis, places, scale) if mode == "nearest" else _MODES[mode](n, y, axis, places)
    return y


def _targets(n: Call, shape: Sequence[int]) -> dict[int, tuple[Fraction, int]]:
    """Return scale and new size for each axis that is resized.

    Scales stand in the file in float32 and mean the simplest fractions that are rounded to them, so that ties are ties as in
    the runtimes. `half_pixel_symmetric` has its ties in the middle whatever the scale, and takes it as it stands.
    """
    axes = [a % len(shape) for a in n.ints("axes") or range(len(shape))]
    sizes = n.ints("sizes", 3)
    if sizes:
        return {a: (Fraction(s, shape[a]), s) for a, s in zip(axes, sizes, strict=True)}
    given = n.attributes.get("scales")
    if given is None:
        given = n.needed(1 if n.op == "Upsample" or n.opset < 11 else 2).reshape(-1).tolist()
    scales = [np.float32(s) for s in given]
    symmetric = n.attribute("coordinate_transformation_mode", "") == "half_pixel_symmetric"
    exact = [Fraction(float(s)) if symmetric else _simplest(s) for s in scales]
    sizes = [math.floor(s * np.float32(shape[a])) for a, s in zip(axes, scales, strict=True)]
    return dict(zip(axes, zip(exact, sizes, strict=True), strict=True))


def _simplest(scale: np.float32) -> Fraction:
    """Return the simplest fraction that is rounded to a scale in float32: 8/5 for 1.6, 1/3 for 0.33333334."""
    exact = float(scale)
    fractions = (Fraction(round(exact * d), d) for d in range(1, 2**24))
    return next((f for f in fractions if np.float32(float(f)) == scale), Fraction(exact))


def _coordinates(n: Call, length: int, size: int, scale: Fraction) -> list[Fraction]:
    """Return where each new entry lies on the old axis: exactly, because half an entry more or less decides on the nearest."""
    old = n.op == "Upsample" or n.opset < 11
    mode = n.attribute("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    half = Fraction(1, 2)
    if mode == "asymmetric":
        return [i / scale for i in range(size)]
    if mode == "align_corners":
        return [Fraction(i * (length - 1), max(1, size - 1)) for i in range(size)]
    if mode == "tf_half_pixel_for_nn":
        return [(i + half) / scale for i in range(size)]
    if mode == "pytorch_half_pixel" and size == 1:
        return [Fraction(0)]
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return [(i + half) / scale - half for i in range(size)]
    if mode == "half_pixel_symmetric":
        shift = Fraction(length, 2) * (1 - size / (scale * length))
        return [shift + (i + half) / scale - half for i in range(size)]
    n.builder.refuse(f"places pixels with mode {mode!r}", "use 'half_pixel', 'align_corners' or 'asymmetric'")


def _nearest(n: Call, x: Live, axis: int, places: Sequence[Fraction], scale: Fraction) -> Live:
    old = n.op == "Upsample" or n.opset < 11
    mode = n.attribute("nearest_mode", "simple" if old else "round_prefer_floor")
    length = n.builder.source_shape(x)[axis]
    rounded = [_rounded(p, mode, shrinks=scale < 1) for p in places]
    return n.builder.gather(x, axis, torch.tensor([min(max(i, 0), length - 1) for i in rounded]))


def _rounded(place: Fraction, mode: str, shrinks: bool) -> int:
    if mode == "floor" or (mode == "simple" and not shrinks):
        return math.floor(place)
    if mode in ("ceil", "simple"):
        return math.ceil(place)
    return math.ceil(place - Fraction(1, 2)) if mode == "round_prefer_floor" else math.floor(place + Fraction(1, 2))


def _linear(n: Call, x: Live, axis: int, places: Sequence[Fraction]) -> Live:
    last = n.builder.source_shape(x)[axis] - 1
    inside = [min(max(p, Fraction(0)), Fraction(last)) for p in places]
    low = tuple(math.floor(p) for p in inside)
    high = tuple(min(i + 1, last) for i in low)
    share = tuple(float(p - i) for p, i in zip(inside, low, strict=True))
    return n.builder.fixed("resize", blend, x, dim=n.builder.axis(x, axis), low=low, high=high, share=share)


def _cubic(n: Call, x: Live, axis: int, places: Sequence[Fraction]) -> Live:
    """Interpolate by cubic convolution (Keys, 1981) of the four entries around each place; beyond the ends they repeat."""
    last = n.builder.source_shape(x)[axis] - 1
    coefficient = Fraction(float(np.float32(n.attribute("cubic_coeff_a", -0.75))))
    taps = [[math.floor(p) + k for p in places] for k in (-1, 0, 1, 2)]
    weights = [[_keys(abs(p - i), coefficient) for p, i in zip(places, tap, strict=True)] for tap in taps]
    if n.attribute("exclude_outside", 0):
        weights = [[w * (0 <= i <= last) for w, i in zip(*pair, strict=True)] for pair in zip(weights, taps, strict=True)]
        totals = [sum(column) for column in zip(*weights, strict=True)]
        weights = [[w / total for w, total in zip(row, totals, strict=True)] for row in weights]
    index = tuple(tuple(min(max(i, 0), last) for i in tap) for tap in taps)
    weight = tuple(tuple(float(w) for w in row) for row in weights)
    return n.builder.fixed("resize", weigh, x, dim=n.builder.axis(x, axis), index=index, weight=weight)


def _keys(distance: Fraction, a: Fraction) -> Fraction:
    """Return the weight of an entry at a distance."""
    if distance <= 1:
        return ((a + 2) * distance - (a + 3)) * distance**2 + 1
    return a * (((distance - 5) * distance + 8) * distance - 4) if distance < 2 else Fraction(0)


_MODES: dict[str, Callable[[Call, Live, int, Sequence[Fraction]], Live]] = {
    "linear": _linear,
    "bilinear": _linear,
    "cubic": _cubic,
}
