"""Claim: the singular values of all layers of a CIFAR-sized network at one image cost a tenth of Jacobian and SVD per layer.

The network is conv 3 x 3 with 32, 64 (stride 2), 64, 32, 32, 64 (stride 2) maps, dense 512 and 10, with seeded weights; both
sides run in float64. The comparison takes `torch.autograd.functional.jacobian` of the module up to every layer, each ReLU one
of its own, and `torch.linalg.svdvals` of it; every layer's values agree to 1e-6 of the largest before a time is kept. One run
each: the slow side takes minutes.
"""

from __future__ import annotations

import time

import torch
from _common import report, seconds, sized
from torch import Tensor, nn

from polylens import Spectrum, load, spectrum

CHANNELS, STRIDES = (3, 32, 64, 64, 32, 32, 64), (1, 2, 1, 1, 1, 2)


def network(side: int, share: int, seed: int = 0) -> nn.Sequential:
    """Return the network for images of `side` pixels, with a `share`-th of the maps; He's initialisation, no training."""
    widths = [3, *(c // share for c in CHANNELS[1:])]
    layers: list[nn.Module] = []
    for a, b, stride in zip(widths, widths[1:], STRIDES, strict=False):
        layers += [nn.Conv2d(a, b, 3, stride, 1), nn.ReLU()]
    size = widths[-1] * (side // 4) ** 2
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 512 // share), nn.ReLU(), nn.Linear(512 // share, 10))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        scale = (2 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.01
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def by_autograd(model: nn.Sequential, x: Tensor) -> tuple[list[Tensor], float, float]:
    """Return every layer's singular values, and the seconds for the Jacobians and for the decompositions."""
    values, jacobians, decompositions = [], 0.0, 0.0
    for k, layer in enumerate(model, 1):
        if isinstance(layer, nn.Flatten):
            continue
        start = time.perf_counter()
        jacobian = torch.autograd.functional.jacobian(model[:k], x).reshape(-1, x.numel())
        between = time.perf_counter()
        values.append(torch.linalg.svdvals(jacobian))
        jacobians += between - start
        decompositions += time.perf_counter() - between
        del jacobian
    return values, jacobians, decompositions


def disagreement(found: Spectrum, expected: list[Tensor]) -> float:
    """Return the largest difference of a singular value, over all layers, as a part of the layer's largest one."""
    pairs = zip(found.layers, expected, strict=True)
    return max(float((layer.values[0] - values).abs().max() / values[0]) for layer, values in pairs)


def main() -> None:
    side = sized(32, 8)
    model = network(side, sized(1, 8))
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net = load(model, x)
    found: list[Spectrum] = []
    ours = seconds(lambda: found.append(spectrum(net, x)))
    expected, jacobians, decompositions = by_autograd(model, x)
    off = disagreement(found[0], expected)
    assert off <= 1e-6, off
    total = jacobians + decompositions
    report(
        "spectrum",
        headline=f"{total / ours:.1f} times: {ours:.1f} s, Jacobians {jacobians:.0f} s and SVDs {decompositions:.0f} s; values"
        f" differ by up to {off:.0e} of the largest",
        inputs=x.numel(),
        layers=len(expected),
        dtype="float64",
        threads=torch.get_num_threads(),
        ours_s=round(ours, 3),
        jacobians_s=round(jacobians, 3),
        svd_s=round(decompositions, 3),
        ratio=round(total / ours, 3),
        disagreement=off,
        methods=[layer.method[0] for layer in found[0].layers],
    )


if __name__ == "__main__":
    main()
