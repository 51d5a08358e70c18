"""Draw all regions that a small network has in the whole plane: python examples/regions_of_the_plane.py OUT.png"""

import itertools
import math
import sys

import torch

from polylens import WholeSpace, dense, subdivide
from polylens.plotting import new_figure, saved, style

random = torch.Generator().manual_seed(7)
widths = (2, 12, 12, 1)
layers = [
    (torch.randn(n, m, generator=random, dtype=torch.float64) / math.sqrt(m), torch.randn(n, generator=random).double() / 2)
    for m, n in itertools.pairwise(widths)
]
net = dense(layers)

regions = subdivide(net, WholeSpace(2))  # no box: the unbounded regions are there with their directions
assert regions.euler_characteristic() == 1

with style():
    figure = new_figure(12.4, 4.8)
    left, right = figure.subplots(1, 2)
    regions.plot(left, colour="pattern", window=((-4, 4), (-4, 4)))
    regions.plot(right, window=((-4, 4), (-4, 4)))
    left.set_title(f"All {regions.num_regions} regions of R², one colour each")
    right.set_title("The output, affine on each region")
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
