"""ATen operations on images and series: convolutions, pools, resampling, padding."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from ._aten_call import Arguments, listed, operation
from ._builder import Builder
from ._program import Live


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


@operation("constant_pad_nd", "pad")
def _pad(b: Builder, a: Arguments) -> Live:
    mode = a.given.get("mode", "constant")
    return b.pad(a.self, a.pad, mode, float(a.given.get("value") or 0.0))


@operation(*(f"{mode}_pad{rank}d" for mode in ("reflection", "replication") for rank in (1, 2, 3)))
def _edge_pad(b: Builder, a: Arguments) -> Live:
    return b.pad(a.self, a.padding, "reflect" if b.where.startswith("reflection") else "replicate")
