"""Claim: patterns of 10 000 MNIST images cost at most 1.3 times the plain forward pass, in memory set by the chunk.

The plain forward pass is the one a user would write: all images through torch's own linear and relu, without gradients.
Peak memory is that of a process of its own for 2 000 and for 60 000 inputs of one and the same image; what it may grow
by is the packed result.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import torch
from _common import data_file, paired, report, sized
from torch.nn import functional as F

from polylens import Network, load, patterns
from polylens.data import read_data
from polylens.steps import Linear

MODEL = ("nets", "mnist-net_256x2.onnx")


def images(net: Network, count: int) -> torch.Tensor:
    path = data_file("mnist", "t10k-images-idx3-ubyte.gz")
    assert path is not None
    return read_data(path).first(count).fitted(net.input_shape).inputs


def plain(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return the outputs by torch's own functions, one after the other on the whole batch."""
    with torch.no_grad():
        layers = [n.step for n in net.nodes if isinstance(n.step, Linear)]
        y = x.flatten(1)
        for layer in layers[:-1]:
            y = F.relu(F.linear(y, layer.weight, layer.bias))
        return F.linear(y, layers[-1].weight, layers[-1].bias)


def peak_megabytes(count: int) -> float:
    """Return the peak resident memory of a process that takes the patterns of `count` inputs."""
    done = subprocess.run([sys.executable, __file__, str(count)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def child(count: int) -> None:
    path = data_file(*MODEL)
    assert path is not None
    net = load(path)
    x = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(0)).expand(count, *net.input_shape)
    assert len(patterns(net, x)) == count
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    path = data_file(*MODEL)
    if path is None:
        print("bench_patterns: POLYLENS_DATA does not name the MNIST networks and images; nothing was measured")
        return
    net = load(path)
    x = images(net, sized(10_000, 500))
    found = patterns(net, x)
    assert torch.allclose(net(x), plain(net, x), rtol=1e-4, atol=1e-4)
    assert found.num_units == 512
    assert found[:100] == patterns(net, x[:100])
    small, large = sized(2_000, 500), sized(60_000, 1_000)
    low, high = peak_megabytes(small), peak_megabytes(large)
    report(
        "patterns",
        images=len(x),
        against_plain_forward=paired(lambda: patterns(net, x), lambda: plain(net, x), repeats=15),
        against_own_forward=paired(lambda: patterns(net, x), lambda: net(x), repeats=15),
        peak_mb={str(small): round(low, 1), str(large): round(high, 1)},
        growth_mb=round(high - low, 1),
        input_growth_if_held_mb=round((large - small) * 784 * 4 / 2**20, 1),
        result_growth_mb=round((large - small) * 64 / 2**20, 1),
    )


if __name__ == "__main__":
    child(int(sys.argv[1])) if len(sys.argv) > 1 else main()
