"""Draw what six images of digits are read by, and what would be read best: python examples/what_a_class_looks_at.py OUT.png"""

import sys

import torch

from polylens import Box, activate, sensitivity, zoo
from polylens.plotting import Panel, gallery, saved

net = zoo.digits()
data = zoo.digits_data("test")
assert data.labels is not None
digits = (0, 2, 3, 4, 6, 8)
x = data.inputs[[int((data.labels == digit).nonzero()[0]) for digit in digits]]

found = sensitivity(net, x, units="largest", methods=["gradient", "integrated_gradients", "guided_backprop"])
assert found.gap("integrated_gradients").abs().max() < 1e-10  # the sum is the change of the output, exactly

square = Box(torch.zeros(64), torch.ones(64))
best = [activate(net, digit, domain=square) for digit in digits]
calm = [activate(net, digit, domain=square, search="ascent", prior="tv", weight=60.0) for digit in digits]


def heat(method: str) -> list[Panel]:
    return [Panel("", values[0].unflatten(0, (8, 8)), signed=True) for values in found.of(method)]


def images(points: list[torch.Tensor], values: list[float]) -> list[Panel]:
    return [Panel(f"{v:.3g}", p.unflatten(0, (8, 8)), signed=False) for p, v in zip(points, values, strict=True)]


rows = [
    ("image, and\nits output", images(list(x), found.values[:, 0].tolist())),
    ("integrated\ngradients", heat("integrated_gradients")),
    ("gradient", heat("gradient")),
    ("guided back-\npropagation", heat("guided_backprop")),
    ("driven up", images([a.point for a in best], [a.value for a in best])),
    ("driven up, with\nlittle variation", images([a.point for a in calm], [a.value for a in calm])),
]
saved(gallery(rows, signed="value", unit="output"), lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
