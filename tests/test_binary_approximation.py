"""Layers as 0 and 1: counts by hand, the limit of wide layers, and layers that cannot be asked."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import nn

from polylens import binary_approximation, dense, load
from polylens.binary_approximation import LIMIT
from polylens.errors import InputError


def random(widths: list[int], seed: int) -> list[tuple[torch.Tensor, None]]:
    g = torch.Generator().manual_seed(seed)
    pairs = itertools.pairwise(widths)
    return [(torch.randn(m, n, generator=g, dtype=torch.float64) * math.sqrt(2 / n), None) for n, m in pairs]


def test_signs_are_those_of_the_products_written_out() -> None:
    g = torch.Generator().manual_seed(3)
    layers = [
        (torch.randn(m, n, generator=g, dtype=torch.float64), torch.randn(m, generator=g)) for n, m in ((4, 6), (6, 5), (5, 3))
    ]
    x = torch.randn(40, 4, generator=g, dtype=torch.float64)
    found = binary_approximation(dense(layers), x, batch_size=7)
    (w1, b1), (w2, b2), (w3, b3) = ((w, b.double()) for w, b in layers)
    h1 = torch.relu(x @ w1.T + b1)
    z2 = h1 @ w2.T + b2
    h2 = torch.relu(z2)
    z3 = h2 @ w3.T + b3
    s1, s2 = (float(h[h > 0].mean()) for h in (h1, h2))
    a2 = s1 * (h1 > 0).double() @ w2.T + b2
    a3 = s2 * (h2 > 0).double() @ w3.T + b3
    all3 = s2 * (a2 > 0).double() @ w3.T + b3
    first, second = found.layers
    assert first.scale == pytest.approx(s1, rel=1e-12)
    assert first.plain == float(((z2 > 0) == ((h1 > 0).double() @ w2.T + b2 > 0)).double().mean())
    assert first.scaled == first.accumulated == float(((z2 > 0) == (a2 > 0)).double().mean())
    assert second.scaled == float(((z3 > 0) == (a3 > 0)).double().mean())
    assert second.accumulated == float(((z3 > 0) == (all3 > 0)).double().mean())
    kept = z3.abs()[(z3 > 0) == (a3 > 0)].sum() / z3.abs().sum()
    assert second.weighted == pytest.approx(float(kept), rel=1e-12)
    p, q = (z3 > 0).double().mean(0), (a3 > 0).double().mean(0)
    assert second.chance == pytest.approx(float((p * q + (1 - p) * (1 - q)).mean()), rel=1e-12)


def test_the_scale_is_the_least_squares_one() -> None:
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = dense(random([4, 6, 2], 1))
    h = net.forward(x, last=net.value_of(0))
    bits = (h > 0).double()
    assert binary_approximation(net, x).layers[0].scale == pytest.approx(
        float((h * bits).sum() / bits.square().sum()), rel=1e-12
    )


def test_wide_layers_keep_the_share_of_signs_that_theory_says() -> None:
    assert round(LIMIT, 4) == 0.7940
    shares = [
        binary_approximation(
            dense(random([512, 512, 512], seed)), torch.randn(64, 512, generator=torch.Generator().manual_seed(seed))
        )
        .layers[0]
        .plain
        for seed in range(8)
    ]
    mean, error = float(torch.tensor(shares).mean()), float(torch.tensor(shares).std()) / math.sqrt(len(shares))
    assert abs(mean - LIMIT) < 3 * error + 0.002  # what width 512 leaves


def test_a_layer_without_biases_keeps_the_same_signs_with_and_without_a_scale() -> None:
    row = binary_approximation(
        dense(random([8, 16, 16], 0)), torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    ).layers[0]
    assert row.plain == row.scaled


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.a(x))
        return self.c(torch.relu(h + self.b(torch.relu(h))))


def test_layers_that_several_read_are_left_out_with_a_reason() -> None:
    torch.manual_seed(0)
    found = binary_approximation(load(Residual().eval(), example=torch.zeros(1, 4)), torch.randn(20, 4))
    assert [row.reader for row in found.layers][-1] == "output"
    assert found.skipped
    assert json.loads(json.dumps(found.to_dict()))["inputs"] == 20
    assert all(name in found.summary() for name in found.skipped)


def test_max_pooling_behind_a_relu_has_a_pattern_of_its_own() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)
    )
    found = binary_approximation(load(module.eval(), example=torch.zeros(1, 1, 6, 6)), torch.randn(10, 1, 6, 6))
    assert [row.reader for row in found.layers] == ["4", "output"]


@pytest.mark.parametrize("gate", ["abs", "leaky_relu"])
def test_gates_that_are_not_relu_are_refused_with_the_reason(gate: str) -> None:
    with pytest.raises(InputError, match="not a ReLU"):
        binary_approximation(dense([([[1.0]], None), ([[1.0]], None)], gate=gate), [[1.0]])


def test_a_layer_that_never_fires_keeps_the_signs_of_the_bias() -> None:
    row = binary_approximation(dense([([[1.0]], [-9.0]), ([[1.0]], [2.0])]), [[1.0], [2.0]]).layers[0]
    assert (row.scale, row.plain, row.scaled) == (0.0, 1.0, 1.0)
