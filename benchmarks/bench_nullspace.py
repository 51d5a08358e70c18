"""Claim: the null spaces of a trained network at 100 MNIST images cost at most 3 times the SVDs of their Jacobians alone.

The Jacobians (10 x 784) are at hand for the SVDs and not for the null spaces; both are timed in turn. Then the interval on
which the network stays constant along a null direction, and the polytope of constancy, for one image at a time.
"""

from __future__ import annotations

import statistics

import torch
from _common import data_file, paired, report, seconds, sized

from polylens import constant_along, constant_polytope, linearise, load, null_space
from polylens.data import read_data


def main() -> None:
    model, images = data_file("nets", "mnist-net_256x2.onnx"), data_file("mnist", "t10k-images-idx3-ubyte.gz")
    if model is None or images is None:
        print("bench_nullspace: POLYLENS_DATA does not name the MNIST network and images; nothing was measured")
        return
    net = load(model).double()
    x = read_data(images).first(sized(100, 8)).fitted(net.input_shape).inputs.double()
    jacobians = linearise(net, x).weight.contiguous()
    found = null_space(net, x)
    assert torch.equal(found.rank, torch.linalg.matrix_rank(jacobians))
    assert torch.allclose(found.singular_values, torch.linalg.svdvals(jacobians), rtol=0, atol=1e-12)
    against_svd = paired(lambda: null_space(net, x), lambda: torch.linalg.svd(jacobians, full_matrices=False), repeats=25)

    directions = found.project(torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    moved, lengths = 0.0, []
    for point, v in zip(x, directions, strict=True):
        along = constant_along(net, point, v)
        lengths.append((along.t_max - along.t_min) * float(torch.linalg.vector_norm(v)))
        for t in (along.t_min, along.t_max):
            moved = max(moved, float((net(point + t * v) - net(point)).abs().max()))
    assert moved <= 1e-9
    few = range(sized(20, 2))
    interval = [seconds(lambda i=i: constant_along(net, x[i], directions[i])) for i in few]
    polytope = [seconds(lambda i=i: constant_polytope(net, x[i])) for i in few]
    report(
        "nullspace",
        images=len(x),
        dimensions=[int(found.nullity.min()), int(found.nullity.max())],
        against_svd=against_svd,
        interval_s=statistics.median(interval),
        polytope_s=statistics.median(polytope),
        median_length=statistics.median(lengths),
        largest_change=moved,
    )


if __name__ == "__main__":
    main()
