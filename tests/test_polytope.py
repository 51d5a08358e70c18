"""What a polytope's definition answers without a solver, against closed forms."""

from __future__ import annotations

import json
import math

import pytest
import torch

from polylens._meeting import tight
from polylens.errors import InputError, ShapeError
from polylens.polytope import Origins, Polytope, RowOrigin, slack_rounding

SQUARE = Polytope.box([0, 0], [1, 1])


def test_a_box_has_a_row_for_each_finite_side() -> None:
    assert len(Polytope.box([0, -math.inf], [1, math.inf])) == 2
    assert Polytope.box([0, -math.inf], [math.inf, 3]).bound.tolist() == [3.0, 0.0]


def test_the_makers_have_their_vertices() -> None:
    assert Polytope.simplex(3).contains([[0, 0, 0], [1, 0, 0], [0, 0, 1]]).all()
    assert not Polytope.simplex(3).contains([0.5, 0.5, 0.1])
    cross = Polytope.cross_polytope(3)
    assert len(cross) == 8
    assert cross.contains(torch.cat([torch.eye(3), -torch.eye(3)])).all()
    assert not cross.contains([0.5, 0.5, 0.1])


def test_slack_and_membership_are_batched() -> None:
    assert SQUARE.slack([0.25, 0.5]).tolist() == [0.75, 0.5, 0.25, 0.5]
    assert SQUARE.slack([[0.25, 0.5], [1, 1]]).shape == (2, 4)
    assert SQUARE.contains([[0.5, 0.5], [1, 1], [1.001, 0]]).tolist() == [True, True, False]
    assert SQUARE.contains([1.001, 0], tol=0.01)


def test_the_tolerance_of_membership_is_a_distance() -> None:
    long = Polytope.of([[1000.0]], [0.0])
    assert long.contains([0.009], tol=0.01)
    assert not long.contains([0.011], tol=0.01)


def test_the_distance_to_the_boundary_is_that_to_the_nearest_row() -> None:
    close = Polytope.of([[3.0, 4.0], [1.0, 0.0]], [5.0, 10.0]).distance_to_boundary([[0, 0], [9.5, -10]])
    assert close.distance.tolist() == pytest.approx([1.0, 0.5])
    assert close.row.tolist() == [0, 1]


def test_a_point_outside_has_a_negative_distance() -> None:
    assert float(SQUARE.distance_to_boundary([1.5, 0.5]).distance) == pytest.approx(-0.5)


def test_rows_of_zeros_are_never_near() -> None:
    close = Polytope.of([[0.0, 0.0]], [0.0]).distance_to_boundary([1, 2])
    assert (float(close.distance), int(close.row)) == (math.inf, -1)


def test_no_rows_are_the_whole_space() -> None:
    space = Polytope.of(torch.zeros(0, 2), torch.zeros(0))
    assert space.contains([1e9, 0])
    assert int(space.distance_to_boundary([0, 0]).row) == -1
    assert float(space.ray_exit([0, 0], [1, 0]).t) == math.inf


def test_a_ray_leaves_through_the_row_that_it_meets_first() -> None:
    exit_ = SQUARE.ray_exit([[0.5, 0.5], [0.5, 0.5]], [[1, 0.5], [-1, -2]])
    assert exit_.t.tolist() == [0.5, 0.25]
    assert exit_.row.tolist() == [0, 3]


def test_a_ray_along_an_unbounded_side_never_leaves() -> None:
    exit_ = Polytope.box([0, 0], [math.inf, 1]).ray_exit([0.5, 0.5], [1, 0])
    assert (float(exit_.t), int(exit_.row)) == (math.inf, -1)


def test_a_section_has_the_slacks_of_its_points() -> None:
    basis = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    section = SQUARE.section(torch.tensor([0.25, 0.5], dtype=torch.float64), basis)
    assert torch.equal(section.slack([0.25]), SQUARE.slack([0.5, 0.75]))
    assert section.origins is SQUARE.origins


def test_a_section_needs_a_basis_of_its_space() -> None:
    with pytest.raises(ShapeError, match="expected point"):
        SQUARE.section(torch.zeros(2).double(), torch.zeros(3, 1).double())


def test_an_intersection_keeps_both_origins() -> None:
    unit = Polytope(torch.ones(1, 2).double(), torch.ones(1).double(), _relu_origin())
    both = SQUARE & unit
    assert len(both) == 5
    assert both.origins[4] == RowOrigin("relu", 7, 1)
    assert both.origins[1] == RowOrigin("domain", 1, -1)
    assert (unit & SQUARE).origins[0] == RowOrigin("relu", 7, 1)
    assert both.select([4]).origins[0].name == "relu"


def test_selection_takes_positions_and_masks() -> None:
    assert SQUARE.select([2, 0]).bound.tolist() == [0.0, 1.0]
    assert SQUARE.select(SQUARE.bound > 0).bound.tolist() == [1.0, 1.0]


def test_polytopes_describe_themselves() -> None:
    text = (SQUARE & Polytope(torch.ones(1, 2).double(), torch.ones(1).double(), _relu_origin())).summary()
    assert "5 rows in dimension 2" in text
    assert "1 rows from relu" in text
    assert "4 rows from domain" in text
    assert json.loads(json.dumps(SQUARE.to_dict()))["dim"] == 2


def test_misshapen_and_unreal_rows_are_refused() -> None:
    with pytest.raises(ShapeError, match="as many origins"):
        Polytope.of([[1.0, 0.0]], [1.0, 2.0])
    with pytest.raises(InputError, match="expected finite"):
        Polytope.of([[math.nan, 0.0]], [1.0])
    with pytest.raises(InputError, match="expected finite"):
        Polytope.of([[1.0, 0.0]], [math.inf])
    with pytest.raises(ShapeError, match="equal dimensions"):
        SQUARE & Polytope.simplex(3)
    with pytest.raises(ShapeError, match="one shape"):
        Polytope.box([0, 0], [1])
    with pytest.raises(ShapeError, match="expected shape"):
        SQUARE.slack([1.0, 2.0, 3.0])


def test_what_is_no_polytope_and_no_point_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="lists of numbers"):
        Polytope.of([[1.0, 2.0], [3.0]], [1.0, 1.0])
    with pytest.raises(InputError, match="lists of numbers"):
        Polytope.of("a", [1.0])
    with pytest.raises(InputError, match=r"Polytope\.of converts"):
        Polytope(torch.eye(2), torch.ones(2), Origins.of_domain(2))
    with pytest.raises(InputError, match="simplex: dim: expected a whole number of at least 0; got -1"):
        Polytope.simplex(-1)
    with pytest.raises(InputError, match="cross_polytope: dim"):
        Polytope.cross_polytope(0)
    for rows in ([9], [-5], [True, False]):
        with pytest.raises(InputError, match="positions among 4 rows"):
            SQUARE.select(rows)
    with pytest.raises(TypeError):
        SQUARE & 3  # type: ignore[operator]
    with pytest.raises(ShapeError, match="as many directions as points"):
        SQUARE.ray_exit(torch.zeros(2, 2), torch.ones(3, 2))
    for ask in (SQUARE.contains, SQUARE.slack, SQUARE.distance_to_boundary):
        with pytest.raises(InputError, match="points: expected finite"):
            ask([math.nan, 0.0])


def _relu_origin() -> Origins:
    return Origins(("relu",), torch.tensor([0]), torch.tensor([7]), torch.tensor([1]))


def test_slacks_at_computed_points_are_judged_by_the_points_rounding() -> None:
    corner = Polytope.of(torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), [0.0, 2.0])  # x <= 0, y <= 2
    computed = torch.tensor([[1e-16, 2.0], [1e-6, 2.0], [0.0, 2.0 + 1e-6]], dtype=torch.float64)
    beyond = -corner.slack(computed) > slack_rounding(corner, computed, 1e-9)
    assert beyond.any(1).tolist() == [False, True, True]
    assert tight(corner, computed[0]).tolist() == [True, True]
