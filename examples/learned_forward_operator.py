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
    """Return a small ReLU network that imitates the measurement, trained by Adam (written out: torch.optim loads slowly)."""
    torch.manual_seed(0)
    first, second = torch.nn.Linear(x.shape[1], hidden), torch.nn.Linear(hidden, y.shape[1])
    weights = [*first.parameters(), *second.parameters()]
    means, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(1, steps + 1):
        miss = (second(torch.relu(first(x))) - y).square().mean()
        for w, mean, square, slope in zip(weights, means, squares, torch.autograd.grad(miss, weights), strict=True):
            mean.lerp_(slope, 0.1)
            square.lerp_(slope.square(), 0.001)
            w.data -= 5e-3 * mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    return dense([(part.weight.detach(), part.bias.detach()) for part in (first, second)]).double()


train, test = zoo.digits_data("train"), zoo.digits_data("test")
assert test.labels is not None
net = learned(train.inputs, measured(train.inputs).float())
unseen = measured(test.inputs)
print(f"unseen measurements imitated to {float((net(test.inputs.double()) - unseen).norm() / unseen.norm()):.1%}")
truth = torch.stack([test.inputs[int((test.labels == digit).nonzero()[1])] for digit in range(1, 8)]).double()
y = net(truth)  # what the learned operator says of pictures that it has not seen

pixels = (0.0, 1.0)
by_adam = reconstruct(net, y, box=pixels, prior="tv", weight=1, truth=truth, steps=600, rounds=0, restarts=0)
ours = reconstruct(net, y, box=pixels, prior="tv", weight=1, truth=truth, steps=100)
print(ours.summary())
assert by_adam.errors is not None
assert ours.errors is not None
assert bool(ours.exact.all())
assert float(ours.errors.max()) < 1e-9

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
