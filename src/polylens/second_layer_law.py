"""How often a random unit fires on random patterns: the law of P(active) over units that read fair bits."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import whole
from ._progress import progress
from ._types import Result
from .errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BITS = 16  # 65 536 patterns, on each of which every unit is evaluated
_CHUNK = 1 << 24  # values of one chunk of units


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class SecondLayerLaw(Result):
    """How many of `draws` random units fire on exactly k of the 2^bits patterns: `counts` (2^bits + 1,), k from 0.

    `stated` (2^bits + 1,) is the law of the study: 2^-(bits + 1) at both ends and 2^-bits between. `p_value` is that of the
    chi-square test of the counts against it.
    """

    bits: int
    bias: float
    draws: int
    counts: Tensor
    chi_square: float
    p_value: float

    @property
    def frequencies(self) -> Tensor:
        """The shares of units, (2^bits + 1,)."""
        return self.counts.double() / self.draws

    @property
    def stated(self) -> Tensor:
        """The law that the study states."""
        return stated_law(self.bits)

    def __repr__(self) -> str:
        return f"SecondLayerLaw({self.bits} bits, bias {self.bias:g}, {self.draws:,} units)"

    def summary(self) -> str:
        ends, middle = self.frequencies[[0, -1]].tolist(), self.frequencies[1:-1]
        low, high = float(middle.min()), float(middle.max())
        verdict = "contradicts" if self.p_value < 0.01 else "does not contradict"
        return "\n".join(
            [
                repr(self),
                f"  never active {ends[0]:.4f}, always {ends[1]:.4f}; the law says {float(self.stated[0]):.4f}",
                f"  k of {2**self.bits} patterns, 0 < k: {low:.4f} to {high:.4f}; the law says {float(self.stated[1]):.4f}",
                f"  chi-square {self.chi_square:.1f}, p = {self.p_value:.3g}: {verdict} the law",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "bias": self.bias,
            "draws": self.draws,
            "counts": self.counts.tolist(),
            "stated": self.stated.tolist(),
            "chi_square": self.chi_square,
            "p_value": self.p_value,
        }

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw how often random units fire on k patterns, beside the stated law."""
        axes: Axes = importlib.import_module("polylens.plotting.models").draw(self, ax, **options)
        return axes


def stated_law(bits: int) -> Tensor:
    """Return P(a unit fires on k of the 2^bits patterns) as the study states it: (2^bits + 1,)."""
    law = torch.full((2**bits + 1,), 2.0**-bits, dtype=torch.float64)
    law[[0, -1]] /= 2
    return law


def second_layer_law(bits: int, *, bias: float = 1.0, draws: int = 100_000, seed: int = 0) -> SecondLayerLaw:
    """Return how often random units fire on the patterns of fair bits, beside the study's law.

    Weights are uniform in +-1/sqrt(bits), the unit's own bias uniform in `bias` times that range. The law holds in the limit of
    no bias and fails with the study's, `bias` = 1: with two bits a share .27 lies at either end instead of .125.

    Args:
        bits: how many bits a unit reads, 1 to 16.
        bias: the size of the units' biases, in parts of that of the weights; positive, for without any the pattern of zeros
            would never make a unit fire.
        draws: how many units are drawn.
        seed: of the random numbers.

    Raises:
        InputError: an argument out of its range.

    Algorithm: every unit on every pattern, O(draws 2^bits bits). The chi-square test joins no cells: let draws exceed
    5 * 2^(bits + 1).

    References: Swiniarski, Bruna, Cho, Study on activation patterns, section 4.3.3.

    Example:
        >>> second_layer_law(2, bias=1e-9, draws=20_000).p_value > 0.01, second_layer_law(2, draws=20_000).p_value > 0.01
        (True, False)
    """
    if not 1 <= whole(bits, "bits") <= MOST_BITS:
        raise InputError(f"bits: expected 1 to {MOST_BITS}; got {bits}, with 2^{bits} patterns")
    if not 0 < bias < math.inf:
        raise InputError(f"bias: expected a positive number, 1e-9 for hardly any; got {bias!r}")
    whole(draws, "draws")
    generator = torch.Generator().manual_seed(seed)
    patterns = (torch.arange(2**bits)[:, None] >> torch.arange(bits) & 1).double()
    counts = torch.zeros(2**bits + 1, dtype=torch.int64)
    size = max(1, _CHUNK >> bits)
    for start in progress(range(0, draws, size), -(-draws // size), "units"):
        uniform = torch.rand(min(size, draws - start), bits + 1, generator=generator, dtype=torch.float64) * 2 - 1
        fires = (uniform[:, :bits] @ patterns.T + bias * uniform[:, bits:] > 0).sum(1)
        counts += torch.bincount(fires, minlength=2**bits + 1)
    expected = draws * stated_law(bits)
    chi = float(((counts - expected).square() / expected).sum())
    tail = torch.special.gammaincc(torch.tensor(2.0**bits / 2, dtype=torch.float64), torch.tensor(chi / 2, dtype=torch.float64))
    return SecondLayerLaw(bits, bias, draws, counts, chi, float(tail))
