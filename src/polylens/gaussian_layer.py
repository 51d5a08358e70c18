"""What a ReLU layer does to a Gaussian input, in closed form: moments, how often it fires, and batch norm without batches."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, finite
from ._half_normal import below, density
from ._types import Result
from .errors import InputError, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAR = 40.0  # deviations beyond which a normal's density is 0 in float64


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class GaussianLayer(Result):
    """The moments of z = W x + b and of ReLU(z) for x from N(m, S), unit by unit, all of shape (units,).

    `pre_mean` and `pre_deviation` are those of z, for any x with that mean and covariance; `mean`, `deviation` and `active`,
    P(z > 0), hold for normal x. The axes that batch norm puts in place of the old ones cross at the mean, a deviation long.
    """

    weight: Tensor
    bias: Tensor
    pre_mean: Tensor
    pre_deviation: Tensor
    mean: Tensor
    deviation: Tensor
    active: Tensor

    def normalised(self, epsilon: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the layer with batch norm of its pre-activations folded in: (z - mean) / deviation.

        A unit of deviation 0 is divided by 1. `epsilon` is added to variances, as batch norm does.
        """
        scale = _scale(self.pre_deviation, epsilon)
        return self.weight / scale[:, None], (self.bias - self.pre_mean) / scale

    def folded_into(self, weight: ArrayLike, bias: ArrayLike | None = None, epsilon: float = 0.0) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the next layer (outputs, units) with batch norm of this one's activations folded in.

        Raises ShapeError for a weight that does not take this layer's units.
        """
        matrix, offset = _layer(weight, bias)
        if matrix.shape[1] != len(self.bias):
            raise ShapeError(f"weight: expected (outputs, {len(self.bias)}); got {tuple(matrix.shape)}")
        scaled = matrix / _scale(self.deviation, epsilon)
        return scaled, offset - scaled @ self.mean

    def __repr__(self) -> str:
        return f"GaussianLayer({self.weight.shape[1]} -> {len(self.bias)})"

    def summary(self) -> str:
        return "\n".join(
            [
                f"{self!r}: means over the units",
                f"  pre-activations {_words(self.pre_mean)} +- {_words(self.pre_deviation)}",
                f"  activations {_words(self.mean)} +- {_words(self.deviation)}, active {_share(self.active)}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        names = ("pre_mean", "pre_deviation", "mean", "deviation", "active")
        return {"inputs": self.weight.shape[1], "units": len(self.bias)} | {k: getattr(self, k).tolist() for k in names}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the axes that batch norm gives two `units`; `points` (batch, inputs) appear as pairs of activations."""
        axes: Axes = importlib.import_module("polylens.plotting.models").draw(self, ax, **options)
        return axes


def gaussian_layer(
    weight: ArrayLike, bias: ArrayLike | None = None, mean: ArrayLike | None = None, covariance: ArrayLike | None = None
) -> GaussianLayer:
    """Return the moments of a ReLU layer's pre-activations and activations for inputs of a given mean and covariance.

    Args:
        weight: (units, inputs).
        bias: (units,), 0 when None.
        mean: (inputs,), 0 when None.
        covariance: (inputs, inputs), the identity when None; singular ones are welcome.

    Raises:
        ShapeError, InputError: shapes that do not fit, NaN or infinity, or a variance below 0.

    Algorithm: w^T S w; with r = m / s and P = P(z > 0), E[ReLU(z)] = m P + s phi(r) and
    Var ReLU(z) = s^2 (P + r^2 P (1 - P) + r phi(r) (1 - 2 P) - phi(r)^2), which holds its digits at large r.
    O(units inputs^2). A unit of deviation 0 is the constant ReLU(m).

    References: Ioffe, Szegedy (2015) for batch norm; the moments are those of a rectified normal distribution.

    Example:
        >>> layer = gaussian_layer([[3.0, 4.0]])
        >>> round(float(layer.deviation), 3), float(layer.pre_deviation)  # 5 times that of ReLU(N(0, 1)), .5838
        (2.919, 5.0)
    """
    matrix, offset = _layer(weight, bias)
    n = matrix.shape[1]
    centre = _shaped(mean, (n,), "mean") if mean is not None else torch.zeros(n, dtype=torch.float64)
    if covariance is None:
        variance = matrix.square().sum(1)
    else:
        spread = _shaped(covariance, (n, n), "covariance")
        variance = ((matrix @ spread) * matrix).sum(1)
        room = 64 * n * torch.finfo(torch.float64).eps * ((matrix.abs() @ spread.abs()) * matrix.abs()).sum(1)
        if bool((variance < -room).any()):
            raise InputError(
                f"covariance: expected variances of at least 0; along a row of the weight it is {variance.min():.3g}"
            )
    m, s = matrix @ centre + offset, variance.clamp(min=0).sqrt()
    ratio = torch.where(s > 0, m / torch.where(s > 0, s, 1.0), torch.sign(m) * math.inf)
    ratio = torch.where(ratio.isnan(), 0.0, ratio)
    active = torch.where((s == 0) & (m <= 0), 0.0, below(ratio))
    phi = density(ratio)
    first = torch.where(s > 0, m * active + s * phi, m.clamp(min=0))
    deviation = torch.where(s > 0, s * _rectified_variance(ratio).sqrt(), 0.0)
    return GaussianLayer(matrix, offset, m, s, first, deviation, active)


def _rectified_variance(r: Tensor) -> Tensor:
    """Return the variance of ReLU(r + Z), Z standard normal; a difference of moments would lose what is below r^2 eps."""
    r = r.clamp(-_FAR, _FAR)
    on, off, phi = below(r), below(-r), density(r)
    return (on + r.square() * on * off + r * phi * (off - on) - phi.square()).clamp(min=0)


def _layer(weight: ArrayLike, bias: ArrayLike | None) -> tuple[Tensor, Tensor]:
    matrix = finite(as_tensor(array(weight, "weight"), torch.float64, torch.device("cpu")), "weight")
    if matrix.ndim != 2:
        raise ShapeError(f"weight: expected (units, inputs); got shape {tuple(matrix.shape)}")
    offset = torch.zeros(len(matrix), dtype=torch.float64) if bias is None else _shaped(bias, (len(matrix),), "bias")
    return matrix, offset


def _shaped(value: ArrayLike, shape: tuple[int, ...], what: str) -> Tensor:
    tensor = finite(as_tensor(array(value, what), torch.float64, torch.device("cpu")), what)
    if tensor.shape != shape:
        raise ShapeError(f"{what}: expected shape {shape}; got {tuple(tensor.shape)}")
    return tensor


def _scale(deviation: Tensor, epsilon: float) -> Tensor:
    scale = (deviation.square() + epsilon).sqrt()
    return torch.where(scale > 0, scale, 1.0)


def _words(values: Tensor) -> str:
    return f"{float(values.mean()):.4f}" if values.numel() else "-"


def _share(values: Tensor) -> str:
    return f"{float(values.mean()):.1%}" if values.numel() else "-"
