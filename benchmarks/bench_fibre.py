"""Claim: 1 000 regions of the MNIST network are walked through on one fibre, and the output changes by rounding alone.

The walk starts at a test image, goes a stated distance away within [0, 1]^784 and stays at least as far while it roams.
Outputs are measured at every bend and in the middle of every straight piece before the time is kept. Beside it: how near
walks towards test images of other classes come to them.
"""

from __future__ import annotations

import torch
from _common import data_file, report, seconds, sized

from polylens import FibreWalk, Network, fibre_walk, load
from polylens.data import read_data

AWAY, DRIFT = 8.0, 1e-9


def drift(net: Network, walk: FibreWalk) -> float:
    """Return the largest change of an output at bends and in the middles between them."""
    with torch.no_grad():
        middles = net((walk.path[1:] + walk.path[:-1]) / 2)
    return max(float(walk.drift.max()), float((middles - walk.outputs[0]).abs().max()))


def main() -> None:
    model, images = data_file("nets", "mnist-net_256x2.onnx"), data_file("mnist", "t10k-images-idx3-ubyte.gz")
    if model is None or images is None:
        print("bench_fibre: POLYLENS_DATA does not name the MNIST network and images; nothing was measured")
        return
    net = load(model).double()
    x = read_data(images).first(20).fitted(net.input_shape).inputs.double()
    crossings, found = sized(1000, 20), list[FibreWalk]()
    options = {"roam": True, "crossings": crossings, "until": AWAY, "domain": (0.0, 1.0)}
    fibre_walk(net, x[0], **{**options, "crossings": 1})
    time = seconds(lambda: found.append(fibre_walk(net, x[0], **options)))
    walk = found[0]
    worst = drift(net, walk)
    assert walk.num_crossings == crossings, walk.summary()
    assert worst <= DRIFT, worst
    assert float(walk.distance[-1]) >= AWAY * (1 - 1e-9)
    classes, near = net(x).argmax(1), list[float]()
    for target in [t for t, k in zip(x, classes, strict=True) if k != classes[0]][: sized(10, 1)]:
        towards = fibre_walk(net, x[0], towards=target, domain=(0.0, 1.0))
        assert drift(net, towards) <= DRIFT
        assert towards.to_target is not None
        near.append(float(towards.to_target[-1] / towards.to_target[0]))
    report(
        "fibre",
        crossings=crossings,
        bends=len(walk.path) - 1,
        seconds=time,
        worst_drift=worst,
        distance=float(walk.distance[-1]),
        part_of_the_way_left_to_targets=sorted(near),
    )


if __name__ == "__main__":
    main()
