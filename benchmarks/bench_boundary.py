"""Claim: the nearest boundaries of 10 000 MNIST images cost what the maps of all their units cost.

The maps are those of `affine_maps`, taken in chunks of the same size and dropped. Distances and units of 100 images are
first compared with brute force over all rows of their regions.
"""

from __future__ import annotations

import torch
from _common import data_file, report, sized
from _common import paired as measured

from polylens import affine_maps, load, nearest_boundary, region
from polylens.data import read_data

CHUNK = 64


def main() -> None:
    model, images = data_file("nets", "mnist-net_256x2.onnx"), data_file("mnist", "t10k-images-idx3-ubyte.gz")
    if model is None or images is None:
        print("bench_boundary: POLYLENS_DATA does not name the MNIST network and images; nothing was measured")
        return
    net = load(model).double()
    x = read_data(images).first(sized(10_000, 200)).fitted(net.input_shape).inputs.double()
    found = nearest_boundary(net, x[: sized(100, 10)])
    for i, point in enumerate(x[: sized(100, 10)]):
        distance, unit = region(net, point).nearest
        assert abs(float(found.distance[i]) - distance) <= 1e-9 * (1 + distance)
        assert unit is not None
        assert (found.names[found.layer[i]], int(found.unit[i]), int(found.piece[i])) == unit

    def all_maps() -> None:
        for part in x.split(CHUNK):
            affine_maps(net, part)

    figures = measured(lambda: nearest_boundary(net, x, batch_size=CHUNK), all_maps, repeats=3)
    report("boundary", images=len(x), units=net.num_units, against_maps=figures, median=float(torch.median(found.distance)))


if __name__ == "__main__":
    main()
