"""Networks with known answers, and the built-in network of handwritten digits.

The small ones are for tests and for learning: each docstring states what is true of the network, exactly.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ._files import write_atomically
from .convert.arrays import dense
from .data import Data
from .errors import InputError
from .network import Network

_SIZES = (64, 64, 32, 10)
_CACHE_NAME = "digits-v1.safetensors"  # another recipe below needs another version here

Split = Literal["train", "test", "all"]


# -- networks with known answers


def absolute_value() -> Network:
    """Return |x| = relu(x) + relu(-x) on the line.

    Known answer: two linear regions, x < 0 with the map -x and x > 0 with the map x; at 0 both units are off, so the
    pattern there is a third one, of a region without interior, where the map is 0.
    """
    return dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])


def identity(dim: int = 1) -> Network:
    """Return x = relu(x) - relu(-x) on R^dim, through 2 * dim units.

    Known answer: 2^dim activation regions (the orthants), all with the identity as map, so one linear region. On the
    coordinate planes the pattern switches both units of a coordinate off, and the row of the local map is 0 there.
    """
    _at_least(1, dim=dim)
    eye = torch.eye(dim, dtype=torch.float64)
    return dense([(torch.cat([eye, -eye]), torch.zeros(2 * dim, dtype=torch.float64)), (torch.cat([eye, -eye], 1), None)])


def triangle() -> Network:
    """Return z = relu(x1 - x2) - relu(2 x1 - x2) on the plane.

    Known answer: on the box [-1, 2] x [-2, 1] the preimage of z <= -1 is the rectangle [1, 2] x [-2, 1], of area 3.
    Two lines through the origin cut the plane into four regions; where both units are active z = -x1.
    """
    return dense([([[1.0, -1.0], [2.0, -1.0]], [0.0, 0.0]), ([[1.0, -1.0]], None)])


def sawtooth(depth: int) -> Network:
    """Return the hat function composed with itself `depth` times, two units a layer, in float64.

    Known answer: 2^depth linear pieces on [0, 1], each of width 2^-depth and slope +-2^depth, alternating; the value at
    k / 2^depth is 1 for odd k and 0 for even k. All weights are powers of two (or 0.5), so arithmetic on dyadic inputs
    is exact.

    References: Telgarsky, Benefits of depth in neural networks, COLT 2016, section 3; Montufar, Pascanu, Cho, Bengio,
    On the number of linear regions of deep neural networks, NeurIPS 2014.
    """
    _at_least(1, depth=depth)
    kinks = torch.tensor([0.0, -0.5], dtype=torch.float64)
    hat = torch.tensor([[2.0, -4.0]], dtype=torch.float64)  # hat(x) = 2 relu(x) - 4 relu(x - 1/2)
    first = (torch.ones(2, 1, dtype=torch.float64), kinks)
    return dense([first, *[(hat.expand(2, 2), kinks)] * (depth - 1), (hat, None)])


def arrangement(units: int, dim: int, seed: int = 0) -> Network:
    """Return one hidden layer of `units` random hyperplanes in general position in R^dim, with one output, in float64.

    Known answer: sum over i = 0..dim of C(units, i) activation regions, bounded ones C(units - 1, dim) of them, and as
    many linear regions, for no output weight is 0.

    References: Zaslavsky, Facing up to arrangements, Memoirs AMS 154, 1975, theorem A.
    """
    _at_least(1, units=units, dim=dim)
    random = torch.Generator().manual_seed(seed)
    weight, bias, out = (
        torch.randn(shape, generator=random, dtype=torch.float64, device="cpu")
        for shape in ((units, dim), (units,), (1, units))
    )
    return dense([(weight, bias), (out, None)])


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise InputError(f"{name}: expected at least {low}; got {value}")


# -- handwritten digits


def digits() -> Network:
    """Return the built-in default: a 64-64-32-10 ReLU network that reads handwritten digits of 8 x 8 pixels.

    Trained on scikit-learn's digits in a few seconds with a fixed seed the first time, then kept as
    `digits-v1.safetensors` in the user's cache directory; a damaged file is replaced, and where nothing can be
    written the network is trained anew each time. Known answer: at least 95 % of `digits_data("test")` right.
    """
    path = _cache_path()
    weights = _cached(path)
    if weights is None:
        weights = _trained()
        _store(path, weights)
    layers = [(weights[f"weight{i}"], weights[f"bias{i}"]) for i in range(1, len(_SIZES))]
    return dense(layers)


def digits_data(split: Split = "test") -> Data:
    """Return scikit-learn's handwritten digits, (batch, 64) scaled to [0, 1], with labels 0 to 9.

    1797 images: 1347 to train on and 450 to test on, by a fixed shuffle.
    """
    if split not in ("train", "test", "all"):
        raise InputError(f"split: expected 'train', 'test' or 'all'; got {split!r}")
    return Data(*_digits(split), f"handwritten digits ({split})")


def _digits(split: Split) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    chosen = {"train": order[450:], "test": order[:450], "all": np.arange(len(images))}[split]
    inputs = torch.from_numpy((images[chosen] / 16).astype(np.float32))
    return inputs, torch.from_numpy(labels[chosen].astype(np.int64))


def _cache_path() -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("polylens")) / _CACHE_NAME


def _shapes() -> dict[str, tuple[int, ...]]:
    pairs = list(itertools.pairwise(_SIZES))
    weights: dict[str, tuple[int, ...]] = {f"weight{i}": (m, n) for i, (n, m) in enumerate(pairs, 1)}
    return weights | {f"bias{i}": (m,) for i, (_, m) in enumerate(pairs, 1)}


def _cached(path: Path) -> dict[str, Tensor] | None:
    """Return the weights of the cache file, None when it is missing, damaged or holds something else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            digest = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError):
        return None
    if {name: tuple(w.shape) for name, w in weights.items()} != _shapes() or digest != _digest(weights):
        return None
    return weights


def _store(path: Path, weights: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    try:
        with write_atomically(path) as part:
            part.write_bytes(save(weights, {"sha256": _digest(weights)}))
    except OSError:
        return  # a cache that cannot be written costs the next caller two seconds, nothing else


def _digest(weights: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name in sorted(weights):
        content.update(name.encode() + weights[name].numpy().tobytes())
    return content.hexdigest()


def _trained() -> dict[str, Tensor]:
    """Return the weights after 120 steps of Adam (Kingma, Ba 2015) on all training images; one local generator starts it.

    Written out, because the first use of `torch.optim` loads the compiler, which takes longer than the training.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
        inputs, labels = _digits("train")
        weights = _initial(torch.Generator().manual_seed(0))
        values = list(weights.values())
        mean, square = [torch.zeros_like(w) for w in values], [torch.zeros_like(w) for w in values]
        for step in range(1, 121):
            slopes = torch.autograd.grad(F.cross_entropy(_logits(weights, inputs), labels), values)
            for w, g, m, v in zip(values, slopes, mean, square, strict=True):
                m.lerp_(g, 0.1)
                v.lerp_(g * g, 0.001)
                change = m / (1 - 0.9**step) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
                w.data.mul_(1 - 1e-4).sub_(change, alpha=1.5e-2)
    return {name: w.detach().contiguous() for name, w in weights.items()}


def _initial(random: torch.Generator) -> dict[str, Tensor]:
    """Return weights after He et al. 2015 and biases 0, ready to be trained."""
    found = {}
    for name, shape in _shapes().items():
        scale = (2 / shape[1]) ** 0.5 if len(shape) == 2 else 0.0
        found[name] = (torch.randn(shape, generator=random, dtype=torch.float32) * scale).requires_grad_()
    return found


def _logits(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    last: Sequence[int] = range(1, len(_SIZES))
    for i in last:
        x = F.linear(x, weights[f"weight{i}"], weights[f"bias{i}"])
        x = torch.relu(x) if i < last[-1] else x
    return x
