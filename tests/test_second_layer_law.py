"""The law of random units on fair bits: exact small cases, where it holds and where it does not."""

from __future__ import annotations

import pytest
import torch

from polylens import second_layer_law
from polylens.errors import InputError
from polylens.second_layer_law import stated_law


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_without_bias_the_stated_law_holds(bits: int) -> None:
    assert second_layer_law(bits, bias=1e-9, draws=40_000, seed=1).p_value > 0.01


def test_with_the_studys_bias_two_bits_are_at_the_ends_twice_as_often() -> None:
    found = second_layer_law(2, draws=100_000)
    ends = found.frequencies[[0, -1]]
    assert bool(((ends - 0.27).abs() < 0.01).all())
    assert found.p_value < 1e-6
    assert "contradicts" in found.summary()


def test_one_bit_is_a_matter_of_two_areas() -> None:
    found = second_layer_law(1, draws=200_000)
    # w, b uniform in [-1, 1]: active on both patterns iff b > 0 and w + b > 0, an area of 3/8 of the square
    torch.testing.assert_close(found.frequencies, torch.tensor([0.375, 0.25, 0.375]).double(), rtol=0, atol=0.005)


def test_every_unit_is_counted_once_and_seeds_repeat() -> None:
    one, two = (second_layer_law(4, draws=5_001, seed=3) for _ in range(2))
    assert int(one.counts.sum()) == 5_001
    assert torch.equal(one.counts, two.counts)
    assert float(stated_law(4).sum()) == 1.0
    assert one.to_dict()["counts"] == one.counts.tolist()


@pytest.mark.parametrize("wrong", [{"bits": 0}, {"bits": 17}, {"bits": 2, "bias": 0.0}, {"bits": 2, "draws": 0}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        second_layer_law(**wrong)  # type: ignore[arg-type]
