"""Noise in a region: it stays inside, follows its rules, and never beats the exact lengths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polylens import Polytope, dense, explore, load, patterns, region, zoo
from polylens.errors import InputError
from polylens.explore import in_words
from polylens.polytope import RowOrigin


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
    a, b = explore(square(), seed=3), explore(square(), seed=torch.Generator().manual_seed(3))
    assert torch.equal(a.points, b.points)
    assert a.to_dict() == b.to_dict()


def test_unbounded_regions_have_infinite_widths() -> None:
    net = dense([([[1.0, 0.0]], [0.0]), ([[1.0]], None)])
    found = explore(region(net, torch.tensor([1.0, 0.0])), rounds=10)
    assert found.inradius == found.volume == torch.inf
    assert set(found.widths) == {torch.inf}
    assert found.missing == {}


def test_a_strip_has_a_largest_ball_and_yet_infinite_widths() -> None:
    strip = dense([([[1.0, 0.0], [-1.0, 0.0]], [0.0, 2.0]), ([[1.0, 1.0]], None)])
    found = explore(region(strip, torch.tensor([0.5, 0.0])), rounds=10)
    assert found.inradius == pytest.approx(1.0)
    assert found.volume == torch.inf
    assert torch.inf in found.widths


def test_the_volume_is_exact_in_low_dimension_and_missing_with_its_reason_beyond() -> None:
    assert explore(square(), rounds=5).volume == pytest.approx(4.0)
    net = dense([(torch.eye(9), torch.ones(9)), (torch.ones(1, 9), None)])
    found = explore(region(net, torch.zeros(9), domain=Polytope.box([-1.0] * 9, [1.0] * 9)), rounds=5)
    assert found.volume is None
    assert "dimension 7" in found.missing["volume"]
    assert "dimension 7" in found.summary()
    assert found.to_dict()["missing"] == found.missing
    assert None not in found.widths
    assert found.inradius == pytest.approx(1.0)


def test_what_the_solver_cannot_settle_is_missing_and_not_infinite() -> None:
    a, b = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), [1.0, -1.0 - 1e-6, 1.0, 1.0]
    here = replace(square(), polytope=Polytope.of(a, b))  # empty, and no question about its size has an answer
    found = explore(here, rounds=5)
    assert found.inradius is None
    assert set(found.widths) == {None}
    assert {"inradius", "width 0", "width 1"} <= set(found.missing)
    assert "no inradius" in found.summary()


def test_the_final_noise_is_one_that_somebody_survived() -> None:
    found = explore(square(), count=2, rounds=1, scale=100.0)
    assert found.survivors == (0.0,)
    assert found.final_scale is None
    assert found.reach == 0.0
    assert "survivors" in found.summary()
    assert found.to_dict()["final_scale"] is None


def test_the_last_crowd_that_survived_is_kept_when_later_rounds_kill_all() -> None:
    for seed in range(20):
        found = explore(square(), count=2, rounds=9, scale=4.0, seed=seed)
        if found.final_scale is not None and found.survivors[-1] == 0:
            assert found.reach > 0
            assert found.final_scale == [s for s, kept in zip(found.scales, found.survivors, strict=True) if kept][-1]
            return
    pytest.fail("no seed ends in a round without survivors")


def test_noise_cannot_stay_in_a_flat_set() -> None:
    net = dense([([[1.0, 0.0]], [0.0]), ([[1.0]], None)])
    flat = region(net, torch.tensor([0.5, 0.5]), domain=Polytope.box([0.0, 0.5], [1.0, 0.5]))
    found = explore(flat, rounds=80)
    assert found.final_scale is None
    assert "flat" in found.summary()
    assert found.inradius == found.volume == 0.0


def test_what_makes_no_crowd_is_refused() -> None:
    for options in ({"count": 1}, {"rounds": 0}, {"scale": 0.0}):
        with pytest.raises(InputError, match="count >= 2"):
            explore(square(), **options)
    with pytest.raises(InputError, match="has none"):
        explore(region(dense([([[1.0]], None)]), torch.zeros(1)))


def test_what_happens_at_a_row_is_said_in_words() -> None:
    clips = load(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Hardtanh(), torch.nn.Linear(3, 1)))
    pool = load(torch.nn.Sequential(torch.nn.MaxPool1d(2), torch.nn.Flatten()), torch.zeros(1, 1, 4))
    relu = dense([([[1.0]], None), ([[1.0]], None)])
    assert in_words(relu, RowOrigin("relu1", 0, 1)) == "unit 0 of layer relu1 switches on"
    assert in_words(relu, RowOrigin("relu1", 0, 0)).endswith("switches off")
    assert "goes to piece 2 of 0 to 2" in in_words(clips, RowOrigin(clips.gates[0].name, 1, 2))
    assert "window 1" in in_words(pool, RowOrigin(pool.gates[0].name, 1, 0))
    assert in_words(relu, RowOrigin("domain", 3, -1)) == "side 3 of the domain"
