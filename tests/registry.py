"""Small modules that together use every step; one line here puts a layer kind under all the laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


@dataclass(frozen=True)
class Case:
    """A module by name, the shape of one input, and whether it is piecewise linear."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    smooth: bool = False
    kinds: tuple[str, ...] = field(default=())  # the steps it is here for

    def module(self, dtype: torch.dtype) -> nn.Module:
        """Return the module with random weights, batch statistics included."""
        generator = torch.Generator().manual_seed(7)
        module = self.make().eval()
        with torch.no_grad():
            for tensor in [*module.parameters(), *module.buffers()]:
                if tensor.is_floating_point() and tensor.ndim:
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) * 1.2 - 0.5)
            for name, tensor in module.named_buffers():
                if name.endswith("running_var"):
                    tensor.copy_(tensor.abs() + 0.5)
        return module.to(dtype)

    def inputs(self, batch: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
        """Return random inputs."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *self.shape, generator=generator, dtype=torch.float64).to(dtype)


class Call(nn.Module):
    """A module around a function of the input and of named layers."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.layers)


def mlp(*between: nn.Module) -> Callable[[], nn.Module]:
    """Return a maker of a dense network 5-7-6-3 with the given modules after each hidden layer."""
    import copy

    return lambda: nn.Sequential(
        nn.Linear(5, 7), *copy.deepcopy(between), nn.Linear(7, 6), *copy.deepcopy(between), nn.Linear(6, 3)
    )


def image(*layers: nn.Module) -> Callable[[], nn.Module]:
    """Return a maker of conv 2 -> 4, ReLU, the given layers, flatten."""
    import copy

    return lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), *copy.deepcopy(layers), nn.Flatten())


def norm_and_relu(width: int) -> tuple[nn.Module, nn.Module]:
    """Return a layer norm without weights, and a ReLU."""
    return nn.LayerNorm(width, elementwise_affine=False), nn.ReLU()


def reused() -> nn.Module:
    """Return a network that calls one ReLU and one layer three times."""
    return Call(lambda x, fc, act: act(fc(act(fc(act(fc(x)))))), fc=nn.Linear(5, 5), act=nn.ReLU(inplace=True))


def in_place(x: Tensor, fc: nn.Module) -> Tensor:
    y = fc(x)
    y += 0.25
    y = F.relu_(y)
    z = torch.zeros_like(y)
    z[:, 1:4] = y[:, 2:5] * 2
    z[:, 0] = y[:, 5]
    z[:, [4, 6]] = y[:, [0, 1]]
    return torch.cat([z, y.mul_(0.5)], 1)


def shapes(x: Tensor, fc: nn.Module) -> Tensor:
    y = F.relu(fc(x)).reshape(-1, 2, 3, 2).permute(0, 2, 1, 3).transpose(1, 3)
    a, b = y.split([1, 1], 1)
    c = y[:, :, 1:, ::2].squeeze(2).unsqueeze(1).expand(-1, 3, -1, -1).flatten(1)
    d = y[:, :, :, [2, 0]].flip(3).roll(1, 2).reshape(len(x), -1)
    e = torch.stack([a.squeeze(1).flatten(1), b.squeeze(1).flatten(1)], 2).movedim(2, 1).flatten(1)
    return torch.cat([c, d, e, x.repeat(1, 2), y.select(1, 0).unbind(1)[1], torch.full((len(x), 2), 3.0, dtype=x.dtype)], 1)


def arithmetic(x: Tensor, fc: nn.Module, head: nn.Module) -> Tensor:
    weights = torch.arange(1.0, 15.0).reshape(7, 2).to(x)
    y = F.relu(fc(x))
    z = (3 - 2 * y) / 4 + torch.linspace(-1, 1, 7).to(x) - y.mean(1, keepdim=True) + y.sum(dim=1, keepdim=True)
    z = torch.cat([z @ weights, torch.sub(y[:, :2], y[:, 2:4], alpha=2), -y], 1)
    stacked = y[:, :6].reshape(-1, 2, 3)
    left = torch.matmul(weights[:4], stacked)
    batched = torch.matmul(stacked.unsqueeze(1), weights[:6].reshape(2, 3, 2))
    masked = y.masked_fill(torch.tensor([True, False, False, True, False, False, False]), 0.5)
    return head(F.relu(torch.cat([z, left.flatten(1), batched.flatten(1), masked.cumsum(1)], 1)))


def maxima(x: Tensor, fc: nn.Module) -> Tensor:
    y = fc(x).reshape(-1, 3, 4)
    parts = [torch.minimum(torch.maximum(y[:, :, 0], y[:, :, 1]), y[:, :, 2]), y.max(2).values, y.amax(1)]
    parts += [y.amin(dim=(1, 2), keepdim=True).flatten(1), y[:, 0].max(dim=1, keepdim=True)[0]]
    parts += [torch.maximum(y[:, 1], torch.tensor(0.1, dtype=x.dtype))]
    return torch.cat([*parts, y[:, 2].clamp(max=torch.linspace(0, 1, 4).to(x))], 1)


class Residual(nn.Module):
    """Two convolutions with batch norm, added to a strided projection."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1)
        self.bn1, self.bn2, self.skip = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Conv2d(2, 4, 1, stride=2)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.b(self.relu(self.bn1(self.a(x)))))
        y += self.skip(x)
        return self.head(F.adaptive_avg_pool2d(self.relu(y), 1).flatten(1))


def attention(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
    keys, queries = k(x), q(x)
    weights = torch.softmax(queries @ keys.transpose(1, 2) / 2.0, -1)
    return weights @ v(x) + F.scaled_dot_product_attention(queries, keys, v(x))


def functions(x: Tensor, fc: nn.Module) -> Tensor:
    y = fc(x)
    parts = [y.sin(), y.cos(), y**3, y.pow(2).add(1).sqrt(), torch.exp(-y.abs()), y[:, :3] * y[:, 3:6]]
    return torch.cat([*parts, y / (y * y + 1), F.log_softmax(y, 1), y.erf(), torch.logsumexp(y, 1, True)], 1)


def spectral() -> nn.Module:
    layer = parametrizations.spectral_norm(nn.Linear(5, 6))
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 5)), nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 2))


CASES = [
    Case("relu", mlp(nn.ReLU()), (5,), kinds=("linear", "relu")),
    Case("relu in place with dropout and identity", mlp(nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Identity()), (5,)),
    Case("leaky relu", mlp(nn.LeakyReLU(0.1)), (5,), kinds=("leaky_relu",)),
    Case("prelu", mlp(nn.PReLU()), (5,), kinds=("prelu",)),
    Case("abs", lambda: Call(lambda x, a, b: b(a(x).abs()), a=nn.Linear(5, 6), b=nn.Linear(6, 2)), (5,), kinds=("abs",)),
    Case("relu6", mlp(nn.ReLU6()), (5,), kinds=("relu6",)),
    Case("hardtanh", mlp(nn.Hardtanh(-0.5, 0.7)), (5,), kinds=("hardtanh",)),
    Case(
        "clip", lambda: Call(lambda x, a: a(x).clamp(min=0.2) - a(x).clip(-0.3, 0.3), a=nn.Linear(5, 6)), (5,), kinds=("clip",)
    ),
    Case("threshold", mlp(nn.Threshold(0.1, -0.4)), (5,), kinds=("threshold",)),
    Case("hardsigmoid", mlp(nn.Hardsigmoid()), (5,), kinds=("hardsigmoid",)),
    Case("shrinks", mlp(nn.Softshrink(0.2), nn.Hardshrink(0.1)), (5,), kinds=("softshrink", "hardshrink")),
    Case("rrelu", mlp(nn.RReLU()), (5,), kinds=("rrelu",)),
    Case("weight and spectral norm", spectral, (5,)),
    Case("no gate", lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), (4,)),
    Case("no bias", lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2, bias=False)), (4,)),
    Case("scalar output", lambda: Call(lambda x, a: F.relu(a(x)).sum(1), a=nn.Linear(4, 6)), (4,), kinds=("sum",)),
    Case("reused modules", reused, (5,)),
    Case(
        "in place and slice assignment",
        lambda: Call(in_place, fc=nn.Linear(5, 7)),
        (5,),
        kinds=("assign_slice", "assign_index"),
    ),
    Case(
        "shapes",
        lambda: Call(shapes, fc=nn.Linear(5, 12)),
        (5,),
        kinds=("reshape", "permute", "slice", "gather", "expand", "flip", "roll", "stack", "repeat", "concat"),
    ),
    Case(
        "arithmetic",
        lambda: Call(arithmetic, fc=nn.Linear(5, 7), head=nn.Linear(38, 4)),
        (5,),
        kinds=("scale", "matmul", "mean", "add", "cumsum"),
    ),
    Case("maxima", lambda: Call(maxima, fc=nn.Linear(5, 12)), (5,), kinds=("maximum", "minimum", "reduce_max", "reduce_min")),
    Case("concatenated relu", lambda: Call(lambda x, a: torch.cat([a(x).relu(), (-a(x)).relu()], 1), a=nn.Linear(4, 5)), (4,)),
    Case(
        "skip connections",
        lambda: Call(lambda x, a, b: x + b(F.relu(a(x))) - 0.5 * a(x)[:, :4], a=nn.Linear(4, 6), b=nn.Linear(6, 4)),
        (4,),
    ),
    Case(
        "conv",
        image(nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=1, groups=2), nn.ReLU()),
        (2, 6, 6),
        kinds=("convolution",),
    ),
    Case("conv with string padding", image(nn.Conv2d(4, 3, (2, 3), padding="same", dilation=2), nn.ReLU()), (2, 5, 5)),
    Case(
        "conv of padded edges",
        image(nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), nn.LeakyReLU()),
        (2, 5, 5),
        kinds=("pad",),
    ),
    Case("transposed conv", image(nn.ConvTranspose2d(4, 2, 3, stride=2, output_padding=1, groups=2), nn.ReLU()), (2, 3, 3)),
    Case(
        "conv 1-d",
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2), nn.ReLU(), nn.ConvTranspose1d(3, 2, 2), nn.Flatten()),
        (2, 9),
    ),
    Case(
        "conv 3-d",
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten()),
        (1, 4, 5, 4),
    ),
    Case("batch norm", image(nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(64), nn.ReLU()), (2, 4, 4)),
    Case("residual", Residual, (2, 6, 6)),
    Case("max pool", image(nn.MaxPool2d(2), nn.ReLU()), (2, 6, 6), kinds=("max_pool",)),
    Case("max pool, padded, dilated, overlapping", image(nn.MaxPool2d(3, 2, 1, dilation=(1, 2), ceil_mode=True)), (2, 7, 8)),
    Case(
        "max pool 1-d and adaptive",
        lambda: nn.Sequential(nn.Conv1d(1, 2, 2), nn.MaxPool1d(3, 2), nn.AdaptiveMaxPool1d(2)),
        (1, 10),
    ),
    Case(
        "average pools",
        image(nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AdaptiveAvgPool2d((2, 3)), nn.ReLU()),
        (2, 7, 7),
        kinds=("avg_pool",),
    ),
    Case("global average pool", lambda: Call(lambda x, c: c(x).relu().mean((2, 3)), c=nn.Conv2d(1, 3, 2)), (1, 4, 4)),
    Case(
        "upsample nearest and bilinear",
        image(nn.Upsample(scale_factor=2), nn.Upsample(size=(5, 7), mode="bilinear"), nn.ReLU()),
        (2, 3, 3),
        kinds=("upsample",),
    ),
    Case(
        "pads and pixel shuffle",
        image(nn.ZeroPad2d((1, 0, 2, -1)), nn.ConstantPad2d(1, 0.5), nn.ReplicationPad2d(1), nn.PixelShuffle(2)),
        (2, 4, 4),
        kinds=("pixel_shuffle",),
    ),
    Case(
        "unfold and fold",
        image(nn.Unfold(2, padding=1), nn.ReLU(), nn.Fold((4, 4), 2, padding=1)),
        (2, 4, 4),
        kinds=("unfold", "fold"),
    ),
    Case("channel shuffle", image(nn.ChannelShuffle(2), nn.Conv2d(4, 2, 1), nn.ReLU()), (2, 3, 3)),
    Case(
        "einsum",
        lambda: Call(
            lambda x, a: torch.einsum("bij,jk->bki", a(x).relu().reshape(-1, 2, 3), torch.ones(3, 2).to(x)), a=nn.Linear(4, 6)
        ),
        (4,),
    ),
    *(
        Case(kind, mlp(gate), (5,), smooth=True, kinds=(kind,))
        for kind, gate in {
            "tanh": nn.Tanh(),
            "sigmoid": nn.Sigmoid(),
            "softplus": nn.Softplus(2.0),
            "elu": nn.ELU(0.7),
            "selu": nn.SELU(),
            "celu": nn.CELU(0.8),
            "gelu": nn.GELU(),
            "silu": nn.SiLU(),
            "mish": nn.Mish(),
            "hardswish": nn.Hardswish(),
            "log_sigmoid": nn.LogSigmoid(),
        }.items()
    ),
    Case(
        "softmax and log-softmax",
        lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Softmax(-1), nn.LogSoftmax(1)),
        (4,),
        True,
        ("softmax", "log_softmax"),
    ),
    Case(
        "layer norm",
        lambda: nn.Sequential(nn.Linear(5, 7), *norm_and_relu(7), nn.Linear(7, 6), *norm_and_relu(6), nn.Linear(6, 3)),
        (5,),
        True,
        ("layer_norm", "relu"),
    ),
    Case(
        "layer norm with weights",
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)),
        (4,),
        True,
        ("layer_norm",),
    ),
    Case("rms norm and glu", lambda: nn.Sequential(nn.Linear(4, 6), nn.RMSNorm(6), nn.GLU()), (4,), True, ("rms_norm", "glu")),
    Case(
        "group and instance norm",
        image(nn.GroupNorm(2, 4), nn.ReLU(), nn.InstanceNorm2d(4, affine=True)),
        (2, 4, 4),
        True,
        ("group_norm",),
    ),
    Case(
        "norms and spreads",
        lambda: Call(
            lambda x, a: torch.cat(
                [F.normalize(a(x)), a(x) / a(x).norm(dim=1, keepdim=True), x.var(1, keepdim=True), x.std(1, keepdim=True)], 1
            ),
            a=nn.Linear(5, 4),
        ),
        (5,),
        True,
        ("norm", "var", "std"),
    ),
    Case(
        "attention",
        lambda: Call(attention, q=nn.Linear(4, 4), k=nn.Linear(4, 4), v=nn.Linear(4, 3)),
        (3, 4),
        True,
        ("attention",),
    ),
    Case(
        "functions", lambda: Call(functions, fc=nn.Linear(5, 7)), (5,), True, ("sin", "cos", "pow", "multiply", "divide", "exp")
    ),
]
