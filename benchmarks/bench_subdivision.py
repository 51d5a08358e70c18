"""Claim: regions are counted by the million a second, and in deep networks in a small multiple of the network alone.

Counts of the four random networks are asserted. The bare pass evaluates, in the same dtype and chunks, the layers in front of
each gate at as many points as the run had vertices there: what remains of the time is the cutting.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import torch
from _common import TOY, data_file, report
from torch import nn

from polylens import Box, Network, Plane, count_regions, load, subdivide
from polylens._subdivision.engine import Engine
from polylens._subdivision.stages import advance
from polylens._subdivision.tasks import alone
from polylens._types import Tolerance
from polylens.data import read_data
from polylens.domain import Domain, domain_of

RANDOM = {(3, 64, 64, 1): 93_425, (5, 20, 20, 1): 76_348, (6, 20, 20, 1): 455_258, (2, 512, 512, 1): 159_254}
JOBS = 2


def random_network(*widths: int) -> Network:
    """Return a ReLU network with PyTorch's initialisation from seed 0."""
    torch.manual_seed(0)
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise(widths)]
    return load(nn.Sequential(*[m for pair in layers for m in pair][:-1])).double()


def cases() -> Iterator[tuple[str, Network, Domain, int | None]]:
    """Yield what is measured: name, network, domain and the known count."""
    for widths, count in RANDOM.items():
        if not TOY or count < 80_000:
            domain = Box([-1.0] * widths[0], [1.0] * widths[0])
            yield "-".join(map(str, widths)), random_network(*widths), domain, count
    mnist, images = data_file("nets", "mnist-net_256x4.onnx"), data_file("mnist", "t10k-images-idx3-ubyte.gz")
    if mnist is not None and images is not None:
        net = load(mnist).double()
        x = read_data(images).first(3).fitted(net.input_shape).inputs.double()
        yield "plane of three MNIST images, 784-256x4-10", net, _window(x, 0.01 if TOY else 0.0), None
    if TOY:
        return
    pictures = data_file("cifar10", "test_first1000.bin.gz")
    for name in ("cifar_base_kw", "resnet_2b"):
        model = data_file("nets", f"{name}.onnx")
        if model is not None and pictures is not None:
            net = load(model).double()
            x = read_data(pictures).first(3).fitted(net.input_shape).inputs.double()
            part = 0.0 if name == "cifar_base_kw" else 0.1  # the whole plane has 852 980 regions and takes minutes
            yield f"plane of three CIFAR images, {name}" + (f", {part} of it" if part else ""), net, _window(x, part), None
    for model, low, high in acas_boxes():
        yield f"ACAS Xu {model}", load(data_file("acasxu", "onnx", model)).double(), Box(low, high), None


def _window(x: torch.Tensor, shrink: float) -> Domain:
    """Return the plane through three inputs, or a small part of it around their mean."""
    if not shrink:
        return Plane.through(*x, margin=0.0)
    centre = x.mean(0)
    return Plane.through(*(centre + shrink * (x - centre)), margin=0.0)


def acas_boxes() -> Iterator[tuple[str, Any, Any]]:
    """Yield the boxes of property 1 for two networks, in the coordinates of the networks."""
    low = torch.tensor([0.600000, -0.5, -0.5, 0.45, -0.5], dtype=torch.float64)
    high = torch.tensor([0.679858, 0.5, 0.5, 0.5, -0.45], dtype=torch.float64)
    for model in ("ACASXU_run2a_1_1_batch_2000.onnx", "ACASXU_run2a_1_2_batch_2000.onnx"):
        if data_file("acasxu", "onnx", model) is not None:
            yield model, low, high


def bare_pass(net: Network, domain: Domain) -> float:
    """Return the seconds of the network alone, on one core, at the vertices that a run meets, gate by gate."""
    engine, total = Engine(net, domain_of(domain), Tolerance()), 0.0

    def timed(level: int, chunk: Any, errors: Any = None) -> Any:
        nonlocal total
        carried = {v: engine._tensor(v, rows) for v, rows in chunk.carried.items()}
        begin = time.perf_counter()
        with torch.no_grad():
            advance(engine.network, carried, max(carried), engine.levels[level].before, None)
        total += time.perf_counter() - begin
        return original(level, chunk, errors)

    original, engine.front = engine.front, timed  # type: ignore[method-assign]
    for _ in alone(engine.run()):
        pass
    return total


def best(function: Any, repeats: int = 2) -> tuple[float, Any]:
    """Return the least time of several calls, and the last result."""
    times, result = [], None
    for _ in range(1 if TOY else repeats):
        begin = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begin)
    return min(times), result


def measure(net: Network, domain: Domain, known: int | None) -> dict[str, Any]:
    """Return the figures of one case."""
    count_regions(net, domain, limit=1)  # compiled
    one, found = best(lambda: count_regions(net, domain))
    assert known is None or found.count == known, (found.count, known)
    both, again = best(lambda: count_regions(net, domain, n_jobs=JOBS))
    assert again.count == found.count
    made, whole = best(lambda: subdivide(net, domain), 1)
    assert whole.num_regions == found.count
    volume = float(whole.volumes.sum()) if domain.dim < 5 else None
    assert volume is None or abs(volume / domain.volume - 1) <= 1e-9
    bare = bare_pass(net, domain)
    return {
        "regions": found.count,
        "counting_s": round(one, 4),
        "counting_2_jobs_s": round(both, 4),
        "regions_per_s": round(found.count / one),
        "regions_per_s_2_jobs": round(found.count / both),
        "complex_s": round(made, 4),
        "complex_regions_per_s": round(found.count / made),
        "bare_pass_s": round(bare, 4),
        "times_bare_pass": round(one / bare, 2),
        "fragile": found.fragile,
    }


def main() -> None:
    figures = {}
    for name, net, domain, known in cases():
        figures[name] = measure(net, domain, known)
        print(f"{name}: {figures[name]}", flush=True)
    fastest = max(figures.values(), key=lambda case: max(case["regions_per_s"], case["regions_per_s_2_jobs"]))
    rate = max(fastest["regions_per_s"], fastest["regions_per_s_2_jobs"])
    made = max(case["complex_regions_per_s"] for case in figures.values())
    planes = [f"{name}: {c['regions']:,} regions in {c['counting_s']:.2g} s" for name, c in figures.items() if "MNIST" in name]
    headline = "; ".join([f"up to {rate / 1e6:.2g} million counted and {made / 1e6:.2g} million made a second", *planes])
    report("subdivision", headline=headline, cases=figures)


if __name__ == "__main__":
    main()
