"""Claim: the maps of all units of 784-512-512-512 at 8 inputs cost at most 1.5 times a hand-written chain of products.

The hand-written chain knows that the network is dense: the first matrix is shared, every later one multiplies the
masked product so far. Both give the weights and offsets of all 1 536 pre-activations, in float64 and in float32.
"""

from __future__ import annotations

import itertools

import torch
from _common import paired, report, sized
from torch import Tensor

from polylens import AffineMap, affine_maps, dense


def chain(layers: list[tuple[Tensor, Tensor]], x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return weights (batch, units, inputs) and offsets of every layer's pre-activations, gates fixed at x."""
    with torch.no_grad():
        (w, b), z = layers[0], x
        maps = [(w.expand(len(x), -1, -1), b.expand(len(x), -1))]
        z = x @ w.T + b
        for w, b in layers[1:]:
            mask = (z > 0).to(x.dtype)
            weight, offset = maps[-1]
            maps.append((w @ (mask.unsqueeze(2) * weight), (mask * offset) @ w.T + b))
            z = torch.relu(z) @ w.T + b
        return maps


def agree(ours: dict[str, AffineMap], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    close = 1e-9 if theirs[0][0].dtype == torch.float64 else 1e-4
    return all(
        torch.allclose(a.weight, w, rtol=close, atol=close) and torch.allclose(a.offset, b, rtol=close, atol=close)
        for a, (w, b) in zip(ours.values(), theirs, strict=True)
    )


def main() -> None:
    torch.manual_seed(0)
    width, inputs = sized(512, 32), sized(784, 20)
    modules = [torch.nn.Linear(n, m) for n, m in itertools.pairwise([inputs, width, width, width])]
    figures = {}
    for dtype in (torch.float64, torch.float32):
        layers = [(m.weight.detach().to(dtype), m.bias.detach().to(dtype)) for m in modules]
        net = dense(layers, gate=["relu"] * 3).to(dtype=dtype)
        x = torch.rand(8, inputs, generator=torch.Generator().manual_seed(1), dtype=dtype)
        assert agree(affine_maps(net, x), chain(layers, x))
        times = paired(lambda net=net, x=x: affine_maps(net, x), lambda layers=layers, x=x: chain(layers, x), repeats=25)
        figures[str(dtype).removeprefix("torch.")] = times
    report("affine_maps", network=f"{inputs}-{width}-{width}-{width}", points=8, units=3 * width, **figures)


if __name__ == "__main__":
    main()
