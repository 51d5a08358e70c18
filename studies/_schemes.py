"""The study's fully connected networks under its schemes of initialisation and normalisation, trained and recorded.

Schemes differ in nothing else: one seed draws the same weights before they are scaled, and the same batches.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from _training import Split, train
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from polylens import Recorder, initialise, read_recording
from polylens.recorder import Recording

BATCH = 128
FIRST = 500  # inputs that data-dependent initialisations see
OPTIMISERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
}
OPTIMISER_WORDS = {"sgd": "SGD, rate 0.01, momentum 0.9", "adam": "Adam, rate 0.001"}


@dataclass(frozen=True, eq=False)
class Run:
    """One network: how it began, what it became, and what was recorded on the way, epoch 0 being untrained."""

    scheme: str
    depth: int
    optimiser: str
    model: nn.Sequential
    recording: Recording

    @property
    def name(self) -> str:
        return f"{self.scheme}, {self.depth} layers, {self.optimiser}"

    @property
    def saturation(self) -> float:
        """The mean of |2 P(active) - 1| over all layers before training."""
        return float(self.recording[0].saturation.mean())

    def last(self, scalar: str) -> float:
        """Return a loss or an accuracy after the last epoch."""
        return float(self.recording.scalars(scalar)[-1])


def network(scheme: str, sizes: Sequence[int], x: Tensor, seed: int) -> nn.Sequential:
    """Return the untrained network of a scheme; schemes that begin with data take the first inputs of x."""
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        parts += [nn.Linear(inputs, outputs), *_behind(scheme, outputs)]
    model = nn.Sequential(*parts, nn.Linear(*sizes[-2:]))
    with torch.no_grad():
        STARTS[scheme](model, x[:FIRST])
    return model


def _behind(scheme: str, units: int) -> list[nn.Module]:
    if scheme == "batch norm":
        return [nn.BatchNorm1d(units), nn.ReLU()]
    if scheme == "layer norm":
        return [nn.LayerNorm(units), nn.ReLU()]
    return [nn.SELU() if scheme == "selu" else nn.ReLU()]


def _as_it_is(model: nn.Sequential, x: Tensor) -> None:
    """Leave PyTorch's default: weights and biases uniform in +-1/sqrt(n_in)."""


def _drawn_by(draw: Callable[[Tensor], object]) -> Callable[[nn.Sequential, Tensor], None]:
    def start(model: nn.Sequential, x: Tensor) -> None:
        for part in model:
            if isinstance(part, nn.Linear):
                draw(part.weight)
                nn.init.zeros_(part.bias)

    return start


def _statistics_of_the_first_batch(model: nn.Sequential, x: Tensor) -> None:
    """Give batch norm the statistics of data, for before training it would have mean 0 and variance 1 in evaluation mode."""
    norms = [part for part in model if isinstance(part, nn.BatchNorm1d)]
    momentum = [part.momentum for part in norms]
    for part in norms:
        part.momentum = 1.0
    model.train()(x)
    for part, before in zip(norms, momentum, strict=True):
        part.momentum = before


def _weight_normed(model: nn.Sequential, x: Tensor) -> None:
    """Put weight norm on, V from N(0, 0.05^2), so that on x every pre-activation has mean 0 and deviation 1.

    Salimans and Kingma (2016), section 3.
    """
    for part in model:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.05)
            weight_norm(part)
            z = nn.functional.linear(x, part.weight)
            deviation = z.std(0).clamp(min=1e-6)
            part.parametrizations.weight.original0.div_(deviation[:, None])
            part.bias.copy_(-z.mean(0) / deviation)
        x = part(x)


def _ours(model: nn.Sequential, x: Tensor) -> None:
    """Make every hidden pre-activation's variance 1 and its median 0 on x, along the directions of PyTorch's default."""
    initialise(model, x, variance=1.0, active=0.5)


STARTS: dict[str, Callable[[nn.Sequential, Tensor], None]] = {
    "none": _as_it_is,
    "xavier": _drawn_by(nn.init.xavier_uniform_),
    "he": _drawn_by(lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
    "batch norm": _statistics_of_the_first_batch,
    "weight norm": _weight_normed,
    "layer norm": _as_it_is,
    "selu": _drawn_by(lambda w: nn.init.normal_(w, std=w.shape[1] ** -0.5)),
    "ours": _ours,
}
SCHEMES = tuple(STARTS)


def plain(model: nn.Sequential) -> nn.Sequential:
    """Return the network with plain weights where weight norm makes them, which has the same patterns."""
    return nn.Sequential(*(_plain(part) if parametrize.is_parametrized(part, "weight") else part for part in model))


def _plain(part: nn.Module) -> nn.Module:
    found = nn.Linear(part.in_features, part.out_features)
    with torch.no_grad():
        found.weight.copy_(part.weight)
        found.bias.copy_(part.bias)
    return found


def judged(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return mean cross entropy and accuracy in evaluation mode; the model gets its own mode back."""
    mode = model.training
    model.eval()
    with torch.no_grad():
        values = torch.cat([model(part) for part in x.split(500)])
    model.train(mode)
    return float(nn.functional.cross_entropy(values, y)), float((values.argmax(1) == y).double().mean())


def trained(
    scheme: str, hidden: Sequence[int], optimiser: str, split: Split, *, epochs: int, recorded: int, folder: Path, seed: int = 0
) -> Run:
    """Return a network after training, and its recording on some training inputs: made now, or read from the folder.

    The folder holds a step for each epoch; a run that was stopped before the last one is begun again.
    """
    x, y, _, _ = split
    model = network(scheme, [x.shape[1], *hidden, int(y.max()) + 1], x, seed)
    weights = folder / "model.pt"
    if not (weights.exists() and read_recording(folder).steps == list(range(epochs + 1))):
        shutil.rmtree(folder, ignore_errors=True)
        watched(model, split, optimiser, epochs, Recorder(x[:recorded], path=folder), seed)
        torch.save(model.state_dict(), weights)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return Run(scheme, len(hidden), optimiser, model.eval(), read_recording(folder))


def watched(model: nn.Sequential, split: Split, optimiser: str, epochs: int, recorder: Recorder, seed: int) -> None:
    """Train, and record patterns, losses and accuracies before the first and after every epoch."""
    x, y, other_x, other_y = split
    steps = len(x) // BATCH

    def record(step: int) -> None:
        if step % steps == 0:
            (loss, right), (other_loss, other_right) = judged(model, x, y), judged(model, other_x, other_y)
            own = {"train_loss": loss, "train_accuracy": right, "test_loss": other_loss, "test_accuracy": other_right}
            recorder.record(plain(model), step // steps, **own)

    record(0)
    train(model, x, y, steps=epochs * steps, batch=BATCH, seed=seed, optimiser=OPTIMISERS[optimiser](model), after=record)
