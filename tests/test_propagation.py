"""The size of signals: moments by hand, the factors of known initialisations, and what has no theory."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from polylens import dense, load, propagation
from polylens.propagation import gate_second_moment


def stacked(kind: str, n: int, depth: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    gate = nn.SELU if kind == "selu" else nn.ReLU
    module = nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(n, n), gate())], nn.Linear(n, n))
    for part in module:
        if isinstance(part, nn.Linear) and kind != "default":
            nn.init.zeros_(part.bias)
            if kind == "he":
                nn.init.kaiming_normal_(part.weight)
            elif kind == "xavier":
                nn.init.xavier_uniform_(part.weight)
            else:
                nn.init.normal_(part.weight, 0, 1 / math.sqrt(n))
    return module.eval()


@pytest.mark.parametrize(("kind", "gain"), [("he", 1.0), ("xavier", 0.5), ("default", 1 / 6), ("selu", 1.0)])
def test_initialisations_have_the_gains_that_theory_says(kind: str, gain: float) -> None:
    x = torch.randn(300, 256, generator=torch.Generator().manual_seed(0))
    found = propagation(load(stacked(kind, 256, 3, seed=0)), x)
    for row in found.layers[1:]:
        assert row.gain == pytest.approx(gain, rel=0.03)  # weights of 256 x 256 have that scatter
        assert row.predicted is not None
    second = found.layers[1]
    assert second.second_moment == pytest.approx(second.predicted, rel=0.15)  # between single networks of width 256


def test_unequal_widths_have_xaviers_factor() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(100, 300), nn.ReLU(), nn.Linear(300, 100))
    for part in (module[0], module[2]):
        nn.init.xavier_uniform_(part.weight)
        nn.init.zeros_(part.bias)
    gain = propagation(load(module), torch.randn(50, 100)).layers[1].gain
    assert gain == pytest.approx(300 / 400, rel=0.03)


def test_the_variance_is_the_weights_with_the_covariance_of_what_they_read() -> None:
    g = torch.Generator().manual_seed(0)
    layers = [(torch.randn(m, n, generator=g, dtype=torch.float64), torch.randn(m, generator=g)) for n, m in ((4, 6), (6, 3))]
    net, x = dense(layers), torch.randn(200, 4, generator=g, dtype=torch.float64) @ torch.randn(4, 4, generator=g).double() + 5
    found = propagation(net, x, batch_size=13)
    h = torch.relu(x @ layers[0][0].T + layers[0][1])
    for row, (w, b), read in zip(found.layers, layers, (x, h), strict=True):
        covariance = torch.cov(read.T, correction=0)
        assert row.variance == pytest.approx(float(((w @ covariance) * w).sum(1).mean()), rel=1e-10)
        assert row.independent == pytest.approx(float((w.square() @ covariance.diagonal()).mean()), rel=1e-10)
        z = read @ w.T + b
        assert row.second_moment == pytest.approx(float(z.square().mean()), rel=1e-10)
        assert row.active == float((z > 0).double().mean())


def test_quadrature_knows_the_moments_of_gates() -> None:
    relu = dense([([[1.0]], None), ([[1.0]], None)]).nodes[1].step
    assert gate_second_moment(relu, 4.0) == pytest.approx(2.0, rel=1e-12)
    tanh = load(nn.Sequential(nn.Linear(1, 1), nn.Tanh())).nodes[1].step
    assert gate_second_moment(tanh, 1.0) == pytest.approx(0.394294, abs=1e-5)  # an integral known from mean-field theory


def test_branches_and_pools_are_measured_and_left_without_theory() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.relu(self.a(x))
            return torch.max_pool2d(torch.relu(h + self.b(h.relu())), 2).flatten(1)

    torch.manual_seed(0)
    found = propagation(load(Block().eval(), example=torch.zeros(1, 2, 4, 4)), torch.randn(9, 2, 4, 4))
    assert any(row.predicted is None for row in found.layers)
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["second_moment"] == found.layers[0].second_moment
    assert "active" in found.summary()


def test_a_single_input_has_moments_and_no_variance() -> None:
    row = propagation(dense([([[2.0]], [1.0]), ([[1.0]], None)]), [3.0]).layers[0]
    assert (row.second_moment, row.variance, row.independent, row.active) == (49.0, 0.0, 0.0, 1.0)
