"""Noise in a region: it stays inside, follows its rules, and never beats the exact lengths."""

from __future__ import annotations

import pytest
import torch

from polylens import Polytope, dense, explore, patterns, region, zoo
from polylens.errors import InputError


def square():
    """Return the region [0, 2] x [-1, 1] of a network with walls on two sides, the domain on the others."""
    net = dense([([[1.0, 0.0], [-1.0, 0.0]], [0.0, 2.0]), ([[1.0, 1.0]], None)])
    return region(net, torch.tensor([0.5, 0.0]), domain=Polytope.box([-5.0, -1.0], [5.0, 1.0]))


def test_the_crowd_stays_in_the_region() -> None:
    here = square()
    found = explore(here, rounds=40)
    assert bool(here.pattern.matches(patterns(here.network, found.points)).all())
    assert bool(here.polytope.contains(found.points).all())
    assert found.points.std(0).min() > 0.1  # and spreads in it


def test_exact_lengths_are_those_of_the_square() -> None:
    found = explore(square(), rounds=40)
    assert found.inradius == pytest.approx(1.0)
    assert found.boundary_distance == pytest.approx(0.5)
    for width, v in zip(found.widths, found.directions, strict=True):
        v = v / v.norm()
        assert width == pytest.approx(2 * float(v.abs().sum()))  # of a square of side 2
    assert found.reach <= (1.5**2 + 1) ** 0.5


def test_noise_narrows_while_few_survive_and_only_then() -> None:
    found = explore(square(), scale=1000.0, rounds=30)
    falls = [b / a for a, b in zip(found.scales, found.scales[1:], strict=False)]
    assert set(falls) <= {0.5, 1.0}
    assert found.scales[-1] < 10


def test_chosen_layers_alone_reach_farther() -> None:
    here = region(zoo.digits(), zoo.digits_data("test").inputs[0])
    both, first = explore(here, rounds=40), explore(here, rounds=40, layers=["relu1"])
    assert first.scales[-1] >= both.scales[-1]
    assert bool(here.pattern.layer("relu1").matches(patterns(here.network, first.points).layer("relu1")).all())


def test_seeds_and_generators_repeat() -> None:
    a, b = explore(square(), generator=3), explore(square(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(a.points, b.points)
    assert a.to_dict() == b.to_dict()


def test_unbounded_regions_have_infinite_widths() -> None:
    net = dense([([[1.0, 0.0]], [0.0]), ([[1.0]], None)])
    found = explore(region(net, torch.tensor([1.0, 0.0])), rounds=10)
    assert found.inradius == torch.inf
    assert torch.inf in found.widths


def test_what_makes_no_crowd_is_refused() -> None:
    for options in ({"count": 1}, {"rounds": 0}, {"scale": 0.0}):
        with pytest.raises(InputError, match="count >= 2"):
            explore(square(), **options)
    with pytest.raises(InputError, match="has none"):
        explore(region(dense([([[1.0]], None)]), torch.zeros(1)))
