"""Undo a learned measurement of pictures, by Adam and exactly: python examples/learned_forward_operator.py OUT.png"""

import sys

import torch
from torch import Tensor

from polylens import Network, dense, reconstruct, zoo
from polylens.plotting import Panel, gallery, saved

LINES = 15  # as many as a diagonal direction has; rows and columns have 8, in the middle


def projections() -> Tensor:
    """Return the rows (60, 64) that sum 8 x 8 pixels along rows, columns and both diagonals, 0 where no line is."""
    i, j = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    along = (i + 3, j + 3, i + j, i - j + 7)
    return torch.stack([(line == k).double().reshape(-1) for line in along for k in range(LINES)])


def measured(x: Tensor) -> Tensor:
    """Return what a detector reads that saturates: 1 - exp(-s) for each sum s, as in tomography."""
    return 1 - torch.exp(-(x.double() @ projections().T) / 2)


def learned(x: Tensor, y: Tensor, hidden: int = 128, steps: int = 400) -> Network:
    """Return a small ReLU network that imitates the measurement, trained by gradient descent with momentum."""
    torch.manual_seed(0)
    first, second = torch.nn.Linear(x.shape[1], hidden).double(), torch.nn.Linear(hidden, y.shape[1]).double()
    weights = [*first.parameters(), *second.parameters()]
    speeds = [torch.zeros_like(w) for w in weights]
    for _ in range(steps):
        miss = (second(torch.relu(first(x))) - y).square().sum(1).mean()
        for w, speed, slope in zip(weights, speeds, torch.autograd.grad(miss, weights), strict=True):
            w.data += speed.mul_(0.9).sub_(slope, alpha=0.01)
    return dense([(part.weight.detach(), part.bias.detach()) for part in (first, second)])


train, test = zoo.digits_data("train"), zoo.digits_data("test")
assert test.labels is not None
net = learned(train.inputs.double(), measured(train.inputs))
unseen = measured(test.inputs)
print(f"unseen measurements imitated to {float((net(test.inputs) - unseen).norm() / unseen.norm()):.1%}")
truth = torch.stack([test.inputs[int((test.labels == digit).nonzero()[1])] for digit in range(1, 8)]).double()
y = net(truth)  # what the learned operator says of pictures that it has not seen

pixels = (0.0, 1.0)
by_adam = reconstruct(net, y, box=pixels, prior="tv", weight=1, truth=truth, steps=600, rounds=0, restarts=0)
ours = reconstruct(net, y, box=pixels, prior="tv", weight=1, truth=truth, steps=300, restarts=6)
print(ours.summary())
assert by_adam.errors is not None
assert ours.errors is not None
assert int(ours.exact.sum()) >= 5

rows: list[tuple[str, list[Panel | None]]] = [
    ("truth", [Panel("", x.reshape(8, 8), False) for x in truth]),
    ("measured\nin 4 directions", [Panel("", v.reshape(4, LINES).repeat_interleave(3, 0), False) for v in y]),
    (
        "Adam, 600 steps",
        [Panel(f"error {e:.2f}", x.reshape(8, 8), False) for x, e in zip(by_adam.points, by_adam.errors, strict=True)],
    ),
    ("exact finish", [Panel(f"error {e:.0e}", x.reshape(8, 8), False) for x, e in zip(ours.points, ours.errors, strict=True)]),
    ("Adam less truth", [Panel("", (x - t).reshape(8, 8), True) for x, t in zip(by_adam.points, truth, strict=True)]),
]
saved(gallery(rows, signed="difference", unit="value of a pixel"), lambda drawn: drawn.savefig(sys.argv[1], dpi=110))
