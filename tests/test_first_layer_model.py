"""Models of a layer's activations: exact fits, the study's figures, and data that no normal describes."""

from __future__ import annotations

import json
import math

import pytest
import torch

from polylens import dense, first_layer_model
from polylens._half_normal import (
    Normal,
    fit_folded,
    fit_truncated,
    folded_density,
    half_normal_below,
    truncated_density,
)
from polylens.errors import InputError, UnsupportedError
from polylens.first_layer_model import FirstLayerModel, sigma_from_deviation, sigma_from_mean
from polylens.network import Network

GRID = torch.linspace(0.0005, 11.9995, 12_000, dtype=torch.float64)  # bins of 0.001


def layer(n: int, units: int, seed: int = 0, bias: bool = True) -> Network:
    g = torch.Generator().manual_seed(seed)
    weight, offset = ((torch.rand(*s, generator=g, dtype=torch.float64) * 2 - 1) / math.sqrt(n) for s in ((units, n), (units,)))
    return dense([(weight, offset if bias else None), (torch.ones(1, units), None)])


def normal(count: int, n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("at", [Normal(0.0, 0.7), Normal(1.0, 1.0), Normal(2.0, 0.5)])
def test_a_folded_normal_is_found_again(at: Normal) -> None:
    found = fit_folded(GRID, folded_density(GRID, at))
    assert found.mean == pytest.approx(at.mean, abs=2e-3)  # the fourth moment leaves a mean of 0 open to its fourth root
    assert found.deviation == pytest.approx(at.deviation, abs=1e-5 + 2e-3 * (at.mean == 0))


@pytest.mark.parametrize("at", [Normal(0.0, 0.7), Normal(1.0, 1.0), Normal(-1.5, 1.0)])
def test_a_truncated_normal_is_found_again(at: Normal) -> None:
    found = fit_truncated(GRID, truncated_density(GRID, at))
    assert found is not None
    assert tuple(found) == pytest.approx(tuple(at), abs=1e-4)  # of bins 0.001 wide, where the density is steepest at 0


def test_no_normal_is_best_for_tails_heavier_than_exponential() -> None:
    assert fit_truncated(GRID, (1 + GRID) ** -5.0) is None


def test_densities_are_densities_and_agree_at_mean_zero() -> None:
    for density in (folded_density, truncated_density):
        assert float(density(GRID, Normal(0.3, 0.7)).sum()) * 0.001 == pytest.approx(1, abs=1e-6)
    half = folded_density(GRID, Normal(0.0, 0.7))
    torch.testing.assert_close(half, truncated_density(GRID, Normal(0.0, 0.7)))
    torch.testing.assert_close(half_normal_below(GRID + 0.0005, 0.7), half.cumsum(0) * 0.001, rtol=0, atol=1e-6)


def test_the_studys_moments_give_the_studys_deviations() -> None:
    assert round(sigma_from_mean(0.4685), 4) == 0.5872
    assert round(sigma_from_deviation(0.4685, 0.3489), 4) == 0.5841  # the study prints 0.5842


def test_first_layers_at_initialisation_are_what_the_study_found() -> None:
    found = first_layer_model(layer(256, 256), normal(4_000, 256))
    assert found.mean == pytest.approx(0.230, abs=0.01)  # the study reads .25 and .35 off its samples
    assert found.deviation == pytest.approx(0.337, abs=0.01)
    assert found.positive_mean == pytest.approx(0.4685, abs=0.02)
    assert found.positive_deviation == pytest.approx(0.3489, abs=0.01)
    assert found.sigma_by_mean == pytest.approx(found.sigma_by_deviation, abs=0.01)
    assert found.half_normal_gap < 0.01
    assert found.mirrored_gap < 0.01
    assert float(found.active.mean()) == pytest.approx(0.5, abs=0.02)


def test_moments_and_shares_are_those_of_the_activations_themselves() -> None:
    net, x = layer(5, 7), normal(300, 5)
    found = first_layer_model(net, x, batch_size=17)
    h = net.double().forward(x, last=net.value_of(0))
    positive = h[h > 0]
    assert found.mean == pytest.approx(float(h.mean()), rel=1e-12)
    assert found.deviation == pytest.approx(float(h.std(correction=0)), rel=1e-12)
    assert found.positive_mean == pytest.approx(float(positive.mean()), rel=1e-12)
    assert found.positive_deviation == pytest.approx(float(positive.std(correction=0)), rel=1e-9)
    torch.testing.assert_close(found.active, (h > 0).double().mean(0))
    assert int(found.counts.sum()) == h.numel()


def test_gaps_are_those_of_sorted_samples() -> None:
    net, x = layer(3, 1, seed=2), normal(2_000, 3)
    found = first_layer_model(net, x)
    z = net.double().forward(x, last=net.nodes[net.value_of(0) - 1].inputs[0])[:, 0]
    y = z[z > 0].sort().values
    rank = torch.arange(1, len(y) + 1) / len(y)
    exact = (rank - half_normal_below(y, found.sigma_by_deviation)).abs().max()
    assert found.half_normal_gap == pytest.approx(float(exact), abs=3 / len(y))  # a bin holds few of them


def test_hyperplanes_lie_at_bias_over_length_and_nowhere_without_weights() -> None:
    net = dense([([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]], [10.0, 1.0, 0.0]), ([[1.0, 1.0, 1.0]], None)])
    assert first_layer_model(net, [[1.0, 1.0], [0.0, 1.0]]).distances.tolist() == [2.0, math.inf, 0.0]


def test_inputs_far_from_centred_are_better_described_by_a_truncated_normal() -> None:
    net = dense([([[1.0]], [-2.0]), ([[1.0]], None)])
    found = first_layer_model(net, normal(50_000, 1))
    assert found.truncated is not None
    assert found.truncated.mean == pytest.approx(-2, abs=0.5)  # about a thousand positive ones
    assert found.log_likelihood["truncated"] > found.log_likelihood["half-normal"]


@pytest.mark.parametrize("x", [[[2.0]], [[2.0], [2.0], [2.0]], [[1.0], [-1.0]]])
def test_very_few_values_are_taken(x: list[list[float]]) -> None:
    found = first_layer_model(dense([([[1.0]], None), ([[1.0]], None)]), x)
    assert isinstance(found, FirstLayerModel)
    assert all(math.isfinite(v) for v in found.log_likelihood.values())
    json.dumps(found.to_dict(), allow_nan=False)
    assert "positive ones" in found.summary()


def test_what_has_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="fires"):
        first_layer_model(dense([([[1.0]], None), ([[1.0]], None)]), [[-1.0]])
    with pytest.raises(UnsupportedError, match="ReLU"):
        first_layer_model(dense([([[1.0]], None), ([[1.0]], None)], gate="abs"), [[1.0]])


def test_layers_without_any_hyperplane_are_drawn_in_words() -> None:
    from polylens.plotting.models import distance_figure

    figure = distance_figure({"dead": torch.full((3,), math.inf), "one": torch.ones(3)})
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [["no unit has a hyperplane"], []]
    assert len(distance_figure({}).axes) == 1
