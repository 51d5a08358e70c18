"""Claim: the exact finish meets first-layer features to rounding and returns the input itself where it is the only one.

Per network (`digits`, and `mnist` with POLYLENS_DATA): how many inputs are exact, how many of them are proven to be the only
one in the box [0, 1], one of several, or neither, and the input error of each kind. The rival is plain Adam, as people
write it: |f(x) - y|^2, clipped to the box after each step, the whole batch at once in float64 (rates 0.01 and 0.05, from 0 and
from the middle of the box, where units may be dead; the best of the four counts). `adam` has its steps and time to residuals of
1e-2, 1e-4 and 1e-6 (median over the batch; None where it does not get there), and its input error after all its steps.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from _common import data_file, report, seconds, sized
from torch import Tensor

from polylens import Network, load, reconstruct, zoo
from polylens.data import read_data

RESIDUALS = (1e-2, 1e-4, 1e-6)
Run = dict[str, Any]


def relative(difference: Tensor, of: Tensor) -> Tensor:
    """Return the lengths of the differences in parts of those of the second."""
    return difference.flatten(1).norm(dim=1) / of.flatten(1).norm(dim=1).clamp(min=1e-12)


def plain_adam(net: Network, y: Tensor, truth: Tensor, rate: float, begin: float, steps: int) -> Run:
    """Return when the median residual passes each of RESIDUALS, and where it ends."""
    last = net.value_of(0)
    x = torch.full_like(truth, begin).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=rate)
    passed: dict[float, tuple[int, float]] = {}
    start = time.perf_counter()
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        miss = net.forward(x, last=last) - y
        residual = float(relative(miss.detach(), y).median())
        for level in RESIDUALS:
            if residual <= level and level not in passed:
                passed[level] = (step - 1, time.perf_counter() - start)
        miss.square().sum().backward()
        optimiser.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    with torch.no_grad():
        residuals, errors = relative(net.forward(x, last=last) - y, y), relative(x - truth, truth)
    return {
        "rate": rate,
        "start": begin,
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 3),
        "residual": float(residuals.median()),
        "error": float(errors.median()),
        "to": {f"{level:.0e}": passed.get(level) for level in RESIDUALS},
        "errors": errors,
    }


def ours(net: Network, y: Tensor, truth: Tensor) -> Run:
    """Return what the exact finish finds, with and without the question of uniqueness in its time."""
    found = reconstruct(net, y, 0, box=(0.0, 1.0), truth=truth)
    assert found.errors is not None
    kinds = torch.tensor([{True: 1, False: 0, None: -1}[u] for u in found.unique])
    unique = found.errors[kinds == 1]
    assert bool(found.exact[kinds == 1].all())
    assert bool((unique < 1e-6).all())
    times = [seconds(lambda: reconstruct(net, y, 0, box=(0.0, 1.0), uniqueness=False)) for _ in range(sized(5, 1))]
    return {
        "inputs": len(y),
        "exact": int(found.exact.sum()),
        "residual": float(found.residuals.median()),
        "residual_max": float(found.residuals.max()),
        "unique": int((kinds == 1).sum()),
        "several": int((kinds == 0).sum()),
        "undecided": int((kinds == -1).sum()),
        "error": float(found.errors.median()),
        "error_where_unique": float(unique.max()) if len(unique) else None,
        "seconds": round(statistics.median(times), 4),
        "seconds_with_uniqueness": round(seconds(lambda: reconstruct(net, y, 0, box=(0.0, 1.0))), 4),
        "kinds": kinds,
    }


def compared(net: Network, truth: Tensor) -> Run:
    """Return both, and how many times longer Adam takes to each residual."""
    with torch.no_grad():
        y = net.forward(truth, last=net.value_of(0))
    exact, runs = (
        ours(net, y, truth),
        [plain_adam(net, y, truth, rate, begin, sized(3000, 60)) for rate in (0.01, 0.05) for begin in (0.0, 0.5)],
    )
    adam = min(runs, key=lambda run: run["residual"])
    unique, errors = exact.pop("kinds") == 1, [run.pop("errors") for run in runs][runs.index(adam)]
    exact["adam_error_where_unique"] = float(errors[unique].median()) if bool(unique.any()) else None
    times = {level: None if at is None else round(at[1] / exact["seconds"], 2) for level, at in adam["to"].items()}
    return {"ours": exact, "adam": adam, "adam_times_ours": times | {"all": round(adam["seconds"] / exact["seconds"], 2)}}


def main() -> None:
    torch.set_num_threads(1)
    count = sized(100, 10)
    figures = {"digits": compared(zoo.digits().double(), zoo.digits_data("test").inputs[:count].double())}
    model, images = data_file("nets", "mnist-net_256x2.onnx"), data_file("mnist", "t10k-images-idx3-ubyte.gz")
    if model is None or images is None:
        print("mnist: skipped, POLYLENS_DATA does not name the folder of real networks")
    else:
        net = load(model).double()
        pixels = read_data(images).inputs[:count].double().reshape(count, *net.input_shape)
        figures["mnist"] = compared(net, pixels / pixels.max())
    words = [
        f"{name}: {f['ours']['exact']} of {f['ours']['inputs']} exact, {f['ours']['unique']} the only input, in"
        f" {f['ours']['seconds']:.2f} s; Adam {f['adam']['seconds']:.2f} s to {f['adam']['residual']:.0e}"
        for name, f in figures.items()
    ]
    report("reconstruct", headline="; ".join(words), **figures)


if __name__ == "__main__":
    main()
