"""The test of independent units: calibrated under the null, and seeing what the mean distance cannot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from polylens import Patterns, UnitLayer, hamming, independence_test, load, patterns
from polylens.data import read_data
from polylens.errors import InputError

Tensor = torch.Tensor


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(values: Tensor) -> Patterns:
    return Patterns.from_pieces([UnitLayer("g", "relu", (values.shape[1],))], [values])


def independent(inputs: int, share: Tensor, seed: int = 0) -> Patterns:
    return bits(torch.rand(inputs, len(share), generator=generator(seed)) < share)


def dependent(inputs: int, units: int, strength: float, seed: int = 0) -> Patterns:
    """Return balanced units that share one hidden cause."""
    g = generator(seed)
    cause, own = torch.randn(inputs, 1, generator=g), torch.randn(inputs, units, generator=g)
    return bits(own + strength * cause * torch.where(torch.arange(units) % 2 == 0, 1.0, -1.0) > 0)


def test_p_values_are_uniform_where_units_are_independent() -> None:
    share, found = torch.linspace(0.1, 0.9, 10), []
    for seed in range(160):
        one = independence_test(independent(25, share, seed), permutations=19, pairs=5, draws=5, seed=seed)
        found.append(round(one.p_value * 20))
    counts = np.bincount(found, minlength=21)[1:]
    chi = float(((counts - 8) ** 2 / 8).sum())
    assert chi < 43.8  # the 99.9 % quantile of chi squared with 19 degrees of freedom


def test_the_statistic_is_the_variance_of_all_pairs_over_that_of_independent_units() -> None:
    p = dependent(80, 30, 0.5)
    found, every = independence_test(p, permutations=9), hamming(p)
    differ = torch.stack([(p.pieces() != other).double() for other in p.pieces()])
    i, j = torch.triu_indices(80, 80, 1)
    q = differ[i, j].mean(0)
    assert math.isclose(found.independent_variance, float((q * (1 - q)).sum()), rel_tol=1e-12)
    assert math.isclose(found.variance, every.variance, rel_tol=1e-10)
    assert math.isclose(found.statistic, found.variance / found.independent_variance)
    assert found.inputs == found.of_inputs == 80


def test_permutations_of_units_of_several_pieces_keep_their_frequencies_and_centre_at_one() -> None:
    g = generator()
    layers = [UnitLayer("a", "relu", (20,)), UnitLayer("b", "relu6", (4, 5), 3), UnitLayer("m", "max_pool", (5,), 9, True)]
    pieces = [torch.rand(150, 20, generator=g) < 0.2, torch.randint(0, 3, (150, 4, 5), generator=g)]
    p = Patterns.from_pieces(layers, [*pieces, torch.randint(0, 9, (150, 5), generator=g)])
    found = independence_test(p, permutations=199)
    assert (found.num_units, found.what, found.fair_bits) == (40, "units", None)
    assert abs(float(found.null.mean()) - 1) < 0.02
    assert math.isclose(found.variance, hamming(p).variance, rel_tol=1e-10)
    assert independence_test(p.layer("m"), permutations=9).what == "windows"


def test_dependent_balanced_units_are_seen_here_and_not_by_the_mean_distance() -> None:
    found = independence_test(dependent(1000, 100, 0.3))
    assert found.p_value == 1 / 200
    assert found.excess > 10
    assert found.statistic > 1.1
    assert found.fair_bits is not None
    assert found.fair_bits.p_value > 0.05
    assert abs(found.fair_bits.mean - 50) < 0.3


def test_unbalanced_independent_units_are_seen_by_the_mean_distance_and_not_here() -> None:
    found = independence_test(independent(1000, torch.full((100,), 0.4)))
    assert 0.05 < found.p_value < 0.95
    assert found.fair_bits is not None
    assert found.fair_bits.p_value == 2 / 1001
    assert found.fair_bits.z < -10


def test_units_that_exclude_one_another_vary_too_little() -> None:
    one_hot = torch.nn.functional.one_hot(torch.randint(0, 10, (500,), generator=generator()), 10).bool()
    found = independence_test(bits(one_hot))
    assert found.p_lower == 1 / 200
    assert found.statistic < 0.8


def test_the_null_of_fair_bits_is_the_mean_distance_of_pairs_of_fair_vectors() -> None:
    found = independence_test(independent(50, torch.full((16,), 0.5)), permutations=1, pairs=40, draws=4000).fair_bits
    assert found is not None
    draws = torch.randint(0, 2, (4000, 40, 16, 2), generator=generator(), dtype=torch.int8)
    brute = (draws[..., 0] != draws[..., 1]).double().sum(2).mean(1)
    spread = math.sqrt(16 / 4 / 40)
    for null in (found.null, brute):
        assert abs(float(null.mean()) - 8) < 4 * spread / math.sqrt(4000)
        assert abs(float(null.std()) / spread - 1) < 4 / math.sqrt(2 * 4000)
    lower, upper = (float((found.null <= found.mean).sum()) + 1) / 4001, (float((found.null >= found.mean).sum()) + 1) / 4001
    assert (found.p_lower, found.p_upper) == (lower, upper)
    assert found.p_value == min(1.0, 2 * min(lower, upper))


def test_the_same_seed_gives_the_same_answer_and_inputs_can_be_drawn() -> None:
    p = dependent(400, 30, 0.2)
    a, b = (independence_test(p, permutations=19, seed=s) for s in (5, generator(5)))
    assert a.to_dict() == b.to_dict()
    assert torch.equal(a.null, b.null)
    some = independence_test(p, permutations=19, inputs=100)
    assert (some.inputs, some.of_inputs) == (100, 400)
    assert "(drawn from 400)" in some.summary()
    assert independence_test(p, permutations=19, inputs=None).inputs == 400


def test_units_that_never_switch_leave_nothing_to_test() -> None:
    found = independence_test(bits(torch.ones(20, 5, dtype=torch.bool)), permutations=9)
    assert math.isnan(found.statistic)
    assert (found.p_value, found.p_lower) == (1.0, 1.0)
    assert "nothing to test" in found.summary()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["statistic"] is None
    found.plot(Figure().subplots())


def test_what_cannot_be_tested_is_refused() -> None:
    p = dependent(30, 5, 0.0)
    with pytest.raises(InputError, match="three patterns or more"):
        independence_test(p[:2])
    with pytest.raises(InputError, match="with units"):
        independence_test(Patterns.from_pieces([], [], 5))
    for name in ("permutations", "pairs", "draws", "inputs"):
        with pytest.raises(InputError, match=f"{name}: expected a whole number"):
            independence_test(p, **{name: 0})
    with pytest.raises(InputError, match="at least 3 of them"):
        independence_test(p, inputs=2)


def test_results_say_what_they_see_and_draw_the_observed_beside_the_null() -> None:
    found = independence_test(dependent(100, 20, 0.5), permutations=49)
    assert "sees dependence" in found.summary()
    assert "of dependence between units the mean says nothing" in found.summary()
    assert found.fair_bits is not None
    for one in (found, found.fair_bits):
        axes = one.plot(Figure().subplots())
        assert axes.get_title(loc="right").startswith("observed")
        assert json.dumps(one.to_dict(), allow_nan=False)
    assert repr(found).startswith("Independence(T = ")


def test_units_of_a_trained_network_are_far_from_independent(data: Path) -> None:
    net = load(data / "nets" / "mnist-net_256x2.onnx")
    images = read_data(data / "mnist" / "t10k-images-idx3-ubyte.gz").first(400).fitted(net.input_shape)
    p = patterns(net, images.inputs)
    for layer in (0, 1):
        found = independence_test(p.layer(layer), permutations=19)
        assert found.p_value == 1 / 20
        assert found.statistic > 2
