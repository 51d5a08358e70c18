"""Data and training for the studies: MNIST and CIFAR-10 from the folder that POLYLENS_DATA names, scikit-learn's digits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from polylens._progress import progress
from polylens.data import read_data

Split = tuple[Tensor, Tensor, Tensor, Tensor]  # training inputs and labels, test inputs and labels
TESTED = 297  # of the 1 797 digits


def mnist() -> Split:
    """Return MNIST, images flattened to 784 numbers in [0, 1]."""
    train, test = (read_data(_folder() / f"mnist/{name}-images-idx3-ubyte.gz") for name in ("train", "t10k"))
    return train.inputs.flatten(1), _labels(train.labels), test.inputs.flatten(1), _labels(test.labels)


def cifar() -> Split:
    """Return a part of CIFAR-10, images (3, 32, 32) in [0, 1]: its first 4 000 for training, 1 000 for testing."""
    names = ("train_first4000", "test_first1000")
    train, test = (read_data(_folder() / f"cifar10/{name}.bin.gz") for name in names)
    return train.inputs, _labels(train.labels), test.inputs, _labels(test.labels)


def digits() -> Split:
    """Return scikit-learn's 8 x 8 digits, flattened to 64 numbers in [0, 1], in a fixed random order."""
    found = load_digits()
    order = torch.randperm(len(found.data), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(found.data).float()[order] / 16
    y = torch.from_numpy(found.target).long()[order]
    return x[:-TESTED], y[:-TESTED], x[-TESTED:], y[-TESTED:]


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    batch: int = 128,
    seed: int = 0,
    learning_rate: float = 1e-3,
    optimiser: torch.optim.Optimizer | None = None,
    after: Callable[[int], object] | None = None,
) -> nn.Module:
    """Return the model after `steps` of Adam on cross entropy, or of another optimiser, in evaluation mode.

    Batches are drawn from a seeded shuffle; `after` is called with the number of every step once it is done.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = optimiser or torch.optim.Adam(model.parameters(), lr=learning_rate)
    model.train()
    order = torch.empty(0, dtype=torch.long)
    for step in progress(range(steps), steps, "training"):
        if len(order) < batch:
            order = torch.randperm(len(x), generator=generator)
        part, order = order[:batch], order[batch:]
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
        optimiser.step()
        if after is not None:
            after(step + 1)
    return model.eval()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of inputs that get their label."""
    with torch.no_grad():
        right = [model(part).argmax(1) == label for part, label in zip(x.split(500), y.split(500), strict=True)]
    return float(torch.cat(right).double().mean())


def _folder() -> Path:
    given = os.environ.get("POLYLENS_DATA")
    if not given:
        sys.exit("POLYLENS_DATA: expected the folder that holds mnist/ and cifar10/; set it, or take --data digits")
    return Path(given)


def _labels(labels: Tensor | None) -> Tensor:
    if labels is None:
        sys.exit("expected labels beside the images; there are none")
    return labels
