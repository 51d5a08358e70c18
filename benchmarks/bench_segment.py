"""Claim: all breakpoints between two MNIST images come faster than 2 000 evenly spaced forward evaluations find some.

Every breakpoint is checked: at it some unit's pre-activation is at most 1e-12 of its terms; and every change of the pattern
between the 2 000 points lies at one.
"""

from __future__ import annotations

import torch
from _common import data_file, paired, report, sized

from polylens import Network, Segment, load, patterns, subdivide
from polylens.data import read_data
from polylens.gates import Choice


def smallest_part(net: Network, x: torch.Tensor) -> torch.Tensor:
    """Return for each input the least pre-activation of all units, in parts of the sum of its terms' magnitudes."""
    found = torch.full((len(x),), torch.inf, dtype=torch.float64)
    reader = {node.inputs[0] for node in net.nodes if isinstance(node.step, Choice)}
    values, sizes = x, x.abs()
    for k, node in enumerate(net.nodes, 1):
        absolute = node.step.converted(torch.abs)
        sizes = absolute.apply(sizes if not isinstance(node.step, Choice) else values.abs())
        values = node.step.apply(values)
        sizes = values.abs() if isinstance(node.step, Choice) else sizes
        if k in reader:
            found = torch.minimum(found, (values.abs() / sizes).flatten(1).amin(1))
    return found


def main() -> None:
    model, images = data_file("nets", "mnist-net_256x4.onnx"), data_file("mnist", "t10k-images-idx3-ubyte.gz")
    if model is None or images is None:
        print("bench_segment: POLYLENS_DATA does not name the MNIST network and images; nothing was measured")
        return
    net = load(model).double()
    x = read_data(images).first(2).fitted(net.input_shape).inputs.double()
    segment = Segment(x[0], x[1])
    whole = subdivide(net, segment)
    t = torch.as_tensor(whole.vertices).reshape(-1).sort().values[1:-1]
    worst = float(smallest_part(net, segment.embed(t[:, None]).reshape(-1, *net.input_shape)).max())
    assert worst <= 1e-12, worst
    grid = torch.linspace(0, 1, 2000, dtype=torch.float64)
    points = segment.embed(grid[:, None]).reshape(-1, *net.input_shape)
    seen = patterns(net, points)
    changes = torch.nonzero(~seen[:-1].matches(seen[1:])).reshape(-1)
    assert all(bool(((t >= grid[i] - 1e-12) & (t <= grid[i + 1] + 1e-12)).any()) for i in changes)
    figures = paired(lambda: subdivide(net, segment), lambda: net(points), repeats=sized(9, 3))
    report("segment", breakpoints=len(t), seen_by_2000_points=len(changes), worst_part=worst, against_2000=figures)


if __name__ == "__main__":
    main()
