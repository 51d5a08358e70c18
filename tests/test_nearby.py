"""Preimages around a point, held against those of whole boxes, the networks themselves, and the proofs that come along."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import Step
from polylens import (
    Argmax,
    Box,
    NearbyPreimage,
    Network,
    OutputSet,
    Plane,
    Polytope,
    WholeSpace,
    dense,
    geometry,
    load,
    patterns,
    preimage,
    preimage_near,
    region,
)
from polylens._lp import Proofs, accuracy_of
from polylens._types import Tolerance
from polylens.errors import InputError, ShapeError, SmoothError
from strategies import continuous_program
from test_real_networks import network_and_images
from test_subdivision import network_of

ABSOLUTE = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])  # |x|
SUM = dense([([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.0] * 4), ([[1.0] * 4], None)])  # |x| + |y|
MANY = 4096  # more regions than any network here has


def random_net(*sizes: int, seed: int = 0) -> Network:
    random = torch.Generator().manual_seed(seed)
    shapes = itertools.pairwise(sizes)
    return dense([(torch.randn(m, n, generator=random).double(), torch.randn(m, generator=random).double()) for n, m in shapes])


def proven(found: NearbyPreimage) -> None:
    """Every region without a piece of a part comes with Farkas multipliers, which plain products confirm."""
    for looked in found.regions:
        for part, violation in enumerate(looked.violations):
            y = looked.multipliers(part)
            assert (y is None) == (violation == 0)
            if y is not None:
                p = looked.polytope(part)
                assert bool((y >= 0).all())
                assert float(p.bound @ y) < 0
                assert Proofs(p.matrix.numpy(), p.bound.numpy(), accuracy_of(Tolerance())).empty(y.numpy())


def sound(found: NearbyPreimage) -> None:
    """Witnesses lie in their regions, in the domain, and are mapped into the target."""
    for piece in found:
        x = piece.witness.reshape(-1)
        p = piece.polytope
        room = 1e-9 * (p.bound.abs() + p.matrix.abs() @ x.abs())
        assert bool((p.slack(x) >= -room).all())
        y = found.network(piece.witness[None])
        missed = -found.target.parts[piece.part].polytope.slack(y[0].reshape(-1))
        assert bool((missed <= 1e-8).all())  # weights and inputs are of order 1
        torch.testing.assert_close(piece.map(piece.witness), y[0], rtol=1e-9, atol=1e-9)
        assert piece.pattern == found.looks[found.found[piece.index].look].pattern
        assert set(p.origins.names) <= {*(g.name for g in found.network.gates), "target"}


def covers(net: Network, target: OutputSet, low: Sequence[float], high: Sequence[float], start: Sequence[float]) -> None:
    """With room for all regions, the pieces are those of the whole box."""
    domain = Box(low, high)
    whole = preimage(net, target, domain)
    found = preimage_near(net, target, start, domain=domain, limit=MANY)
    assert found.complete, found.summary()
    assert found.is_empty is whole.is_empty
    sound(found)
    proven(found)
    volume = sum(geometry.volume(piece.polytope).value for piece in found)
    assert math.isclose(volume, whole.volume, rel_tol=1e-7, abs_tol=1e-7)
    random = torch.Generator().manual_seed(0)
    a, b = (torch.tensor(v, dtype=torch.float64) for v in (low, high))
    x = a + (b - a) * torch.rand(256, len(low), generator=random, dtype=torch.float64)
    assert torch.equal(found.contains(x), whole.contains(x))


# -- against the preimage of a whole box


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("target", [Argmax(0), Argmax(1, margin=0.5)])
def test_with_room_for_all_regions_the_pieces_are_those_of_the_box(seed: int, target: Argmax) -> None:
    covers(random_net(2, 6, 4, 3, seed=seed), target.over(3), [-2.0, -2.0], [2.0, 2.0], [0.3, -0.4])


@pytest.mark.parametrize("seed", range(2))
def test_in_three_dimensions_too(seed: int) -> None:
    covers(random_net(3, 5, 3, 2, seed=seed), Argmax(1).over(2), [-1.0] * 3, [1.0] * 3, [0.1, 0.2, -0.3])


@settings(max_examples=10)
@given(steps=continuous_program(2, 4), side=st.sampled_from([-1.0, 0.0, 0.5]))
def test_degenerate_networks_keep_all_their_pieces(steps: list[Step], side: float) -> None:
    net = network_of(steps, 2)
    row = torch.ones(1, math.prod(net.output_shape), dtype=torch.float64)
    covers(net, OutputSet.halfspaces(row, [side]), [-2.0, -2.0], [2.0, 2.0], [0.0, 0.0])


def test_a_union_that_overlaps_counts_once() -> None:
    covers(SUM, OutputSet.box([0.0], [1.5]) | OutputSet.box([1.0], [2.0]), [-3.0, -3.0], [3.0, 3.0], [2.5, 2.5])


# -- by hand


def test_duplicate_units_are_crossed_together() -> None:
    net = dense([([[1.0], [2.0], [-4.0]], [0.0, 0.0, 0.0]), ([[1.0, 1.0, 1.0]], None)])
    found = preimage_near(net, 3.0, [-1.0], domain=Polytope.box([-4.0], [4.0]), limit=8)
    assert found.complete
    assert len(found.regions) == 2
    assert sorted(round(p.witness.item(), 9) for p in found) == [-0.75, 1.0]


def test_one_region_is_looked_at_alone() -> None:
    found = preimage_near(SUM, OutputSet.box([0.0], [1.0]), [0.5, 3.0], limit=1)
    assert len(found) == len(found.regions) == 1
    assert found.reason == "limit"
    assert not found.complete
    assert found.is_empty is False
    assert math.isclose(geometry.volume(found[0].polytope).value, 0.5)
    assert bool(found.contains([0.2, 0.2]))
    assert not bool(found.contains([-0.2, 0.2]))
    assert found.contains([[0.2, 0.2], [0.9, 0.9]]).tolist() == [True, False]


def test_an_affine_map_is_complete_in_one_region() -> None:
    net = dense([([[1.0, 2.0], [0.0, 1.0]], [1.0, 0.0])])
    found = preimage_near(net, Argmax(1), [0.0, 0.0], domain=Polytope.box([0.0, 0.0], [1.0, 1.0]))
    assert (len(found.regions), found.complete, found.is_empty, found.witness) == (1, True, True, None)
    assert math.isclose(found.violation, 1.0)
    proven(found)
    assert preimage_near(net, [1.0, 0.0], [3.0, 3.0], domain=WholeSpace(2)).is_empty is False


def test_a_target_that_is_only_touched_is_met_in_a_point() -> None:
    found = preimage_near(ABSOLUTE, OutputSet.halfspaces([[1.0]], [0.0]), [1.0], domain=Box([-2.0], [2.0]))
    assert found.complete
    assert len(found) == 2
    assert all(abs(p.witness.item()) < 1e-9 and p.depth == 0 for p in found)
    sound(found)


def test_the_missing_distance_is_that_of_the_nearest_region() -> None:
    found = preimage_near(ABSOLUTE, OutputSet.halfspaces([[1.0]], [-0.5]), [1.0])
    assert found.complete
    assert found.is_empty is True
    assert found.violation == 0.5
    assert found.closest is not None
    assert abs(found.closest.item()) < 1e-9
    proven(found)


def test_ties_belong_to_the_lower_index() -> None:
    tied = dense([([[1.0], [1.0]], [0.0, 0.0])])
    assert preimage_near(tied, Argmax(1), [0.5]).is_empty is True
    assert preimage_near(tied, Argmax(0), [0.5]).is_empty is False
    touching = dense([([[1.0], [0.0]], [0.0, 0.0])])  # x against 0
    box = Box([0.0], [1.0])
    assert preimage_near(touching, Argmax(1), [0.5], domain=box).is_empty is True
    assert preimage_near(touching, Argmax(0), [0.5], domain=box).is_empty is False


@pytest.mark.parametrize("start", [[0.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
def test_a_start_on_walls_is_no_trap(start: list[float]) -> None:
    covers(SUM, OutputSet.box([0.0], [1.0]), [-1.0, -1.0], [1.0, 1.0], start)


def test_a_flat_domain_is_searched_within_its_flat() -> None:
    line = Polytope.of([[1.0, 1.0], [-1.0, -1.0], [1.0, 0.0], [-1.0, 0.0]], [1.0, -1.0, 3.0, 3.0])
    found = preimage_near(SUM, OutputSet.halfspaces([[-1.0]], [-2.0]), [0.5, 0.5], domain=line)  # |x| + |1 - x| >= 2
    assert found.complete
    assert len(found.regions) == 3
    ends = sorted(
        (geometry.bounding_box(p.polytope).low[0].item(), geometry.bounding_box(p.polytope).high[0].item()) for p in found
    )
    torch.testing.assert_close(torch.tensor(ends), torch.tensor([[-3.0, -0.5], [1.5, 3.0]]))


def test_the_fibre_of_an_output_is_found_in_every_region_near() -> None:
    net = random_net(12, 16, 8, 2)
    x = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = preimage_near(net, net(x[None])[0], x, limit=6)
    assert found[0].pattern == patterns(net, x)
    assert len(found) == len(found.regions) == 6  # its neighbours on the fibre are asked first
    sound(found)
    assert bool(found.contains(x))


def test_the_region_of_a_piece_is_that_of_its_witness() -> None:
    net = random_net(8, 12, 6, 3)
    found = preimage_near(net, Argmax(1), torch.zeros(8), domain=Polytope.box([-1.0] * 8, [1.0] * 8), limit=5)
    assert len(found)
    sound(found)
    for piece in found:
        if piece.depth:
            assert region(net, piece.witness).pattern == piece.pattern


def test_a_network_with_jumps_is_not_called_complete() -> None:
    class Steps(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.threshold(x, 0.5, 0.0)

    net = load(Steps(), example=torch.zeros(1, 1))
    found = preimage_near(net, OutputSet.halfspaces([[1.0]], [-1.0]), [0.0])
    assert len(found) == 0
    assert (found.complete, found.reason, found.is_empty) == (False, "undecided", None)


def test_an_empty_target_needs_no_region() -> None:
    found = preimage_near(ABSOLUTE, OutputSet((), 1), [1.0])
    assert (found.is_empty, len(found.regions), found.violation, found.closest) == (True, 0, math.inf, None)
    assert json.dumps(found.to_dict())


# -- words and mistakes


def test_results_speak_and_are_plain() -> None:
    found = preimage_near(SUM, OutputSet.box([0.0], [1.0]), [0.5, 3.0], limit=1)
    assert "1 piece in 1 region" in found.summary()
    assert "ended by limit" in found.summary()
    words = json.loads(json.dumps(found.to_dict()))
    assert (words["pieces"], words["regions"], words["empty"], words["complete"]) == (1, 1, False, False)
    missed = preimage_near(SUM, -1.0, [0.5, 3.0], limit=1)
    assert "missed by at least 1" in missed.summary()
    assert found[-1].index == 0
    assert [p.index for p in found] == [0]
    assert "depth" in repr(found[0])
    assert "violation" in repr(missed.regions[0])
    with pytest.raises(IndexError, match="piece 1 of 1"):
        found[1]


def test_a_time_limit_ends_the_search() -> None:
    found = preimage_near(random_net(6, 24, 24, 2), [50.0, -50.0], torch.zeros(6), limit=MANY, time_limit=1e-6)
    assert (found.reason, len(found.regions)) == ("time_limit", 1)


def test_mistakes_are_named() -> None:
    smooth = load(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()))
    with pytest.raises(SmoothError, match="tanh"):
        preimage_near(smooth, Argmax(0), [0.0, 0.0])
    with pytest.raises(ShapeError, match="batch"):
        preimage_near(SUM, 1.0, torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="2 flattened inputs"):
        preimage_near(SUM, 1.0, [0.0, 0.0], domain=Polytope.box([0.0], [1.0]))
    with pytest.raises(ShapeError, match="2 flattened inputs"):
        preimage_near(SUM, 1.0, [0.0, 0.0], domain=WholeSpace(3))
    with pytest.raises(InputError, match="inside the domain"):
        preimage_near(SUM, 1.0, [5.0, 0.0], domain=Box([-1.0, -1.0], [1.0, 1.0]))
    with pytest.raises(InputError, match="got Plane"):
        preimage_near(SUM, 1.0, [0.0, 0.0], domain=Plane([0.0, 0.0], [1.0, 0.0], [0.0, 1.0]))
    with pytest.raises(InputError, match="limit"):
        preimage_near(SUM, 1.0, [0.0, 0.0], limit=0)
    with pytest.raises(InputError, match="time_limit"):
        preimage_near(SUM, 1.0, [0.0, 0.0], time_limit=-1.0)


# -- images


PIXELS = Polytope.box(torch.zeros(784), torch.ones(784))


@pytest.mark.parametrize(("image", "k"), [(2, 9), (4, 2)])
def test_an_image_that_a_network_takes_for_another_class_is_found(
    data: Path, image: int, k: int, record_property: pytest.RecordProperty
) -> None:
    net, images, labels = network_and_images(data, "mnist-net_256x2.onnx", image + 1)
    assert int(labels[image]) != k
    begin = time.perf_counter()
    found = preimage_near(net, Argmax(k), images[image], domain=PIXELS, limit=4)
    record_property("seconds", time.perf_counter() - begin)
    assert found.witness is not None
    assert int(found.network(found.witness[None]).argmax()) == k
    assert bool(((found.witness >= 0) & (found.witness <= 1)).all())
    assert bool(found.contains(found.witness))
    assert not bool(found.contains(images[image]))
    sound(found)
    proven(found)


def test_no_pixels_of_an_images_own_region_make_another_class_of_it(data: Path) -> None:
    net, images, _ = network_and_images(data, "mnist-net_256x2.onnx", 1)
    found = preimage_near(net, Argmax(4), images[0], domain=PIXELS, limit=1)
    assert (len(found), found.is_empty, found.reason) == (0, None, "limit")
    y = found.network(images[:1])[0]
    assert 0 < found.violation <= float(y.max() - y[4])
    assert found.closest is not None
    at = found.network(found.closest[None])[0]
    assert math.isclose(float(at.max() - at[4]), found.violation, rel_tol=1e-9)  # the point attains it
    proven(found)
