"""Moments of ReLU layers on Gaussian inputs against samples, and batch norm folded in against batch norm itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from polylens import gaussian_layer
from polylens.errors import InputError, ShapeError

G = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(6, 4, generator=G, dtype=torch.float64)
BIAS = torch.randn(6, generator=G, dtype=torch.float64)
MEAN = torch.randn(4, generator=G, dtype=torch.float64)
ROOT = torch.randn(4, 4, generator=G, dtype=torch.float64)


def test_moments_are_those_of_samples() -> None:
    layer = gaussian_layer(WEIGHT, BIAS, MEAN, ROOT @ ROOT.T)
    x = MEAN + torch.randn(400_000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) @ ROOT.T
    z = x @ WEIGHT.T + BIAS
    h = z.relu()
    error = 4 / math.sqrt(len(x))  # four standard errors, in deviations
    for exact, seen in ((layer.pre_mean, z.mean(0)), (layer.mean, h.mean(0)), (layer.deviation, h.std(0))):
        assert bool(((exact - seen).abs() < 3 * error * layer.pre_deviation).all())  # rectified tails are heavier
    torch.testing.assert_close(layer.pre_deviation, z.std(0), rtol=2 * error, atol=0)
    assert bool(((layer.active - (z > 0).double().mean(0)).abs() < error).all())


def test_standard_figures() -> None:
    layer = gaussian_layer([[1.0]])
    assert round(float(layer.deviation), 4) == 0.5838
    assert float(layer.mean) == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert float(layer.active) == 0.5


def test_folded_batch_norm_is_batch_norm_with_these_moments() -> None:
    layer = gaussian_layer(WEIGHT, BIAS, MEAN, ROOT @ ROOT.T)
    norm = nn.BatchNorm1d(6, affine=False).double().eval()
    norm.running_mean, norm.running_var = layer.pre_mean, layer.pre_deviation.square()
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weight, bias = layer.normalised(norm.eps)
    torch.testing.assert_close(x @ weight.T + bias, norm(x @ WEIGHT.T + BIAS))
    norm.running_mean, norm.running_var = layer.mean, layer.deviation.square()
    following = torch.randn(3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight, bias = layer.folded_into(following, [1.0, 2.0, 3.0], norm.eps)
    h = (x @ WEIGHT.T + BIAS).relu()
    torch.testing.assert_close(h @ weight.T + bias, norm(h) @ following.T + torch.tensor([1.0, 2.0, 3.0]).double())


def test_normalised_inputs_have_mean_zero_and_deviation_one() -> None:
    weight, bias = gaussian_layer(WEIGHT, BIAS, MEAN, ROOT @ ROOT.T).normalised()
    again = gaussian_layer(weight, bias, MEAN, ROOT @ ROOT.T)
    torch.testing.assert_close(again.pre_mean, torch.zeros(6).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(again.pre_deviation, torch.ones(6).double())


@pytest.mark.parametrize(("bias", "mean", "active"), [(2.0, 2.0, 1.0), (-2.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_a_unit_that_does_not_move_is_a_constant(bias: float, mean: float, active: float) -> None:
    layer = gaussian_layer([[0.0, 0.0]], [bias])
    assert (float(layer.mean), float(layer.deviation), float(layer.active)) == (mean, 0.0, active)
    weight, offset = layer.normalised()
    assert weight.tolist() == [[0.0, 0.0]]
    assert offset.tolist() == [0.0]


def test_what_is_no_covariance_or_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="variances of at least 0"):
        gaussian_layer([[1.0]], covariance=[[-1.0]])
    with pytest.raises(ShapeError, match="mean: expected shape"):
        gaussian_layer([[1.0, 2.0]], mean=[1.0])
    with pytest.raises(ShapeError, match="weight: expected"):
        gaussian_layer([[1.0]]).folded_into([[1.0, 2.0]])
    assert "active 50.0%" in gaussian_layer([[1.0, 2.0]]).summary()


@pytest.mark.parametrize("shift", [3.0, 30.0, 1e4, 1e9])
def test_units_far_above_zero_keep_the_deviation_of_their_pre_activations(shift: float) -> None:
    layer = gaussian_layer([[2.0], [2.0]], [2 * shift, -2 * shift])
    above, below = (2 * math.sqrt(_variance_by_quadrature(r)) for r in (shift, -shift))
    assert float(layer.deviation[0]) == pytest.approx(above, rel=1e-8)  # the rule's h^2 phi(3) at the kink
    assert float(layer.deviation[1]) == pytest.approx(below, rel=1e-5, abs=1e-12)  # the same, in parts of much less


def _variance_by_quadrature(r: float) -> float:
    """Return the variance of ReLU(r + Z) less the constant max(r, 0), which takes no digits with it."""
    z = torch.linspace(-39, 39, 78_001, dtype=torch.float64)
    away = torch.maximum(z, torch.full_like(z, -r)) if r > 0 else (z + r).clamp(min=0)
    weight = torch.exp(-0.5 * z.square()) * 1e-3 / math.sqrt(2 * math.pi)
    mean = float((weight * away).sum())
    return float((weight * (away - mean).square()).sum())


def test_drawings_take_arrays_and_refuse_units_that_there_are_not() -> None:
    layer = gaussian_layer([[1.0, 1.0], [1.0, -1.0]])
    assert len(layer.plot(points=[[0.5, 0.25]]).lines[0].get_xdata()) == 1
    with pytest.raises(InputError, match="two positions below 1"):
        gaussian_layer([[1.0, 1.0]]).plot()
    assert "active -" in gaussian_layer(torch.zeros(0, 3)).summary()
