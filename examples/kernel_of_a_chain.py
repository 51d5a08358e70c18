"""Draw the exact kernel of a fresh chain under the points that zeros finds: python examples/kernel_of_a_chain.py OUT.png"""

import itertools
import math
import sys

import torch

from polylens import Box, OutputSet, dense, preimage, zeros
from polylens.plotting import new_figure, saved, style

random = torch.Generator().manual_seed(50)
layers = []
for n, m in itertools.pairwise((2, 8, 8, 8)):
    uniform = 2 * torch.rand(m, n, generator=random, dtype=torch.float64) - 1
    layers.append((math.sqrt(6 / (n + m)) * uniform, None))  # Glorot's, without biases
net = dense(layers)

square = Box([-1.0, -1.0], [1.0, 1.0])
kernel = preimage(net, 0.0, square)
found = zeros(net, square, starts=400)
assert bool(found.exact.all())
near = preimage(net, OutputSet.box([-0.05] * 8, [0.05] * 8), square)
assert bool(near.contains(found.points).all())

with style():
    figure = new_figure(11.6, 5.2)
    left, right = figure.subplots(1, 2)
    kernel.plot(left, points=found.points)
    near.plot(right)
    left.set_title(f"f = 0: {kernel.fraction:.2%} of the square")
    right.set_title(f"every output within 0.05 of 0: {near.fraction:.2%}")
saved(figure, lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
