"""Claim: zeros of the chain 2-8-8-8 from 1 000 starts come 50 times faster a start than by Nelder and Mead's method.

The chain has ReLU gates and no biases, so that zeros exist; every one that is called exact is evaluated again with numpy
alone and must be below 1e-12. The rival is scipy's `minimize` on |f|^2, written in numpy without any overhead, from some of
the same starts, in turn with ours: as it comes (`nelder_mead`, whose zeros are good to about 1e-4), asked for zeros as good
as ours (`nelder_mead_exact`), and, as its user would write it, with f as a torch module (`nelder_mead_module`). The same
chain with random biases has no zero; there both look for least-squares points (`biased`).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _common import report, seconds, sized
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from polylens import Box, Network, dense, zeros
from polylens.zeros import Zeros

Array = NDArray[np.float64]
Layers = list[tuple[Tensor, Tensor]]
HALF = 5.0
EXACT = {"xatol": 1e-13, "fatol": 1e-24}  # a residual of 1e-12


def chain(biased: bool) -> Layers:
    """Return the layers of a chain as torch's Linear begins, without biases unless asked for."""
    gen = torch.Generator().manual_seed(0)
    layers = []
    for n, m in [(2, 8), (8, 8), (8, 8)]:
        weight, bias = ((2 * torch.rand(*shape, generator=gen, dtype=torch.float64) - 1) / n**0.5 for shape in ((m, n), (m,)))
        layers.append((weight, bias if biased else torch.zeros_like(bias)))
    return layers


def plain(layers: Layers) -> Callable[[Array], Array]:
    """Return the chain in numpy alone."""
    arrays = [(w.numpy(), b.numpy()) for w, b in layers]

    def f(x: Array) -> Array:
        for w, b in arrays[:-1]:
            x = np.maximum(w @ x + b, 0.0)
        return arrays[-1][0] @ x + arrays[-1][1]

    return f


def module(layers: Layers) -> Callable[[Array], Array]:
    """Return the chain as a torch module, from numpy to numpy."""
    parts: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        linear.load_state_dict({"weight": weight, "bias": bias})
        parts += [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*parts[:-1])

    def f(x: Array) -> Array:
        with torch.no_grad():
            return np.asarray(net(torch.from_numpy(x)).numpy())

    return f


def nelder_mead(f: Callable[[Array], Array], starts: Array, **options: float) -> float:
    """Return the mean time of a start."""

    def loss(x: Array) -> float:
        y = f(x)
        return float(y @ y)

    def run() -> None:
        for x in starts:
            minimize(loss, x, method="Nelder-Mead", options=options)

    return seconds(run) / len(starts)


def check(found: Zeros, layers: Layers) -> None:
    """Hold what is called exact against numpy, and the rest against having failed."""
    f = plain(layers)
    residuals = [float(np.abs(f(x)).max()) for x in found.points[found.exact].numpy()]
    assert max(residuals, default=0.0) <= 1e-12
    assert not bool(found.failed.any())


def compared(layers: Layers, net: Network, starts: int) -> dict[str, Any]:
    """Return microseconds a start of ours and of the rivals, taken in turn, and the medians of their quotients."""
    box = Box([-HALF, -HALF], [HALF, HALF])
    found = zeros(net, box, starts=starts)
    check(found, layers)
    sample = np.random.default_rng(0).uniform(-HALF, HALF, (sized(40, 5), 2))
    rivals: dict[str, Callable[[], float]] = {
        "nelder_mead": lambda: nelder_mead(plain(layers), sample),
        "nelder_mead_exact": lambda: nelder_mead(plain(layers), sample, **EXACT),
        "nelder_mead_module": lambda: nelder_mead(module(layers), sample),
    }
    ours, theirs = list[float](), {name: list[float]() for name in rivals}
    for _ in range(sized(7, 2)):
        ours.append(seconds(lambda: zeros(net, box, starts=starts)) / starts)
        for name, rival in rivals.items():
            theirs[name].append(rival())
    ratios = {name: statistics.median(b / a for a, b in zip(ours, times, strict=True)) for name, times in theirs.items()}
    return {
        "starts": starts,
        "exact": int(found.exact.sum()),
        "least_squares": int(found.least_squares.sum()),
        "zeros_us": round(1e6 * statistics.median(ours), 1),
        **{f"{name}_us": round(1e6 * statistics.median(times), 1) for name, times in theirs.items()},
        **{f"times_{name}": round(ratio, 1) for name, ratio in ratios.items()},
    }


def main() -> None:
    torch.set_num_threads(1)
    starts = sized(1000, 100)
    figures = {name: compared(layers := chain(name == "biased"), dense(layers), starts) for name in ("unbiased", "biased")}
    first, second = figures["unbiased"], figures["biased"]
    report(
        "zeros",
        headline=f"{first['times_nelder_mead']:.0f} times, {first['times_nelder_mead_exact']:.0f} at the same residual"
        f" ({first['zeros_us']:.0f} us a start); least squares {second['times_nelder_mead']:.0f} and"
        f" {second['times_nelder_mead_exact']:.0f} times",
        **figures,
    )


if __name__ == "__main__":
    main()
