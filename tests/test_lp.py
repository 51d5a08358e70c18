"""Linear programs: proofs of every status, and proofs that are not."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from oracles import dot, exact
from polylens._lp import LinearProgram, Optimum, Proofs, deepest
from polylens._types import Status, Tolerance
from polylens.polytope import Polytope

ACCURACY = 1e-9  # what Tolerance() allows a solver's proof, see SOLVER_FACTOR


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def program(p: Polytope) -> LinearProgram:
    return LinearProgram(p.matrix, p.bound)


def proofs(p: Polytope) -> Proofs:
    return Proofs(p.matrix.numpy(), p.bound.numpy(), ACCURACY)


TRIANGLE = Polytope.of([[-1.0, 0.0], [0.0, -1.0], [1.0, 2.0]], [0.0, 0.0, 4.0])
TWICE_OVER = Polytope.of([[1.0, 1.0], [-1.0, -1.0], [1.0, 0.0]], [0.0, -1.0, 5.0])  # x + y <= 0 and x + y >= 1
WEDGE = Polytope.of([[-1.0, 1.0], [-1.0, -1.0]], [0.0, 0.0])


def test_an_optimum_comes_with_multipliers_of_the_same_worth() -> None:
    found = program(TRIANGLE).maximise(vector(1, 3))
    assert found.status is Status.OPTIMAL
    assert found.value == pytest.approx(6.0)
    assert found.upper == pytest.approx(6.0)
    y = exact([found.multipliers.tolist()])[0]
    columns = zip(*exact(TRIANGLE.matrix.tolist()), strict=True)
    assert [float(dot(y, column)) for column in columns] == pytest.approx([1, 3])
    assert min(y) >= 0


def test_an_unbounded_program_comes_with_a_point_and_a_ray() -> None:
    found = program(WEDGE).maximise(vector(1, 0.5))
    assert found.status is Status.UNBOUNDED
    assert found.value == math.inf
    assert (WEDGE.matrix @ found.ray <= 1e-12).all()
    assert float(found.ray @ vector(1, 0.5)) > 0.1
    assert WEDGE.contains(found.point, tol=1e-12)


def test_an_infeasible_program_comes_with_farkas_multipliers() -> None:
    found = program(TWICE_OVER).maximise(vector(1, 0))
    assert found.status is Status.INFEASIBLE
    assert found.value == -math.inf
    y = exact([found.multipliers.tolist()])[0]
    worth = dot(y, [Fraction(v) for v in TWICE_OVER.bound.tolist()])
    residue = [dot(y, column) for column in zip(*exact(TWICE_OVER.matrix.tolist()), strict=True)]
    assert min(y) >= 0
    # any solution has |x| >= -b.y / |A^T y|: in rationals, none within a million
    assert worth < -sum(abs(v) for v in residue) * 10**6


def test_infeasible_in_a_direction_without_bound_is_infeasible() -> None:
    both = Polytope.of([[1.0, 0.0], [-1.0, 0.0]], [0.0, -1.0])  # empty, and the objective runs along a line
    assert program(both).maximise(vector(0, 1)).status is Status.INFEASIBLE


def test_no_rows_are_unbounded_in_every_direction_but_zero() -> None:
    space = LinearProgram(torch.zeros(0, 2).double(), torch.zeros(0).double())
    assert space.maximise(vector(1, 0)).status is Status.UNBOUNDED
    assert space.maximise(vector(0, 0)).value == 0.0


def test_rows_of_zeros_decide_by_their_bound() -> None:
    rows = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert LinearProgram(rows, vector(0, 2)).maximise(vector(1)).value == 2.0
    assert LinearProgram(rows, vector(-1, 2)).maximise(vector(1)).status is Status.INFEASIBLE


def test_dimension_zero_is_a_point_or_nothing() -> None:
    rows = torch.zeros(1, 0).double()
    assert LinearProgram(rows, vector(0)).maximise(vector()).value == 0.0
    assert LinearProgram(rows, vector(-1)).maximise(vector()).status is Status.INFEASIBLE


@pytest.mark.parametrize("row", [0, 2], ids=["a bound of a variable", "a general row"])
def test_a_bound_can_be_moved_and_put_back(row: int) -> None:
    lp, c = program(TRIANGLE), -TRIANGLE.matrix[0] if row == 2 else TRIANGLE.matrix[0]
    before = lp.maximise(c).value
    lp.set_bound(row, float(TRIANGLE.bound[row]) + 1)
    assert lp.maximise(c).value == pytest.approx(before + 1)
    lp.set_bound(row, math.inf)
    assert lp.maximise(c).status is Status.UNBOUNDED
    lp.set_bound(row, -100.0)
    if row == 2:
        assert lp.maximise(c).status is Status.INFEASIBLE
    lp.set_bound(row, float(TRIANGLE.bound[row]))
    assert lp.maximise(c).value == pytest.approx(before)


@pytest.mark.parametrize("seed", [11, 15, 25, 37])
def test_a_side_that_was_taken_away_leaves_the_optimum_provable(seed: int) -> None:
    # a box with cuts, one side of it removed: rounding leaves reduced costs of 1e-17 that point to that side
    generator = torch.Generator().manual_seed(seed)
    for _ in range(60):
        cuts = torch.randn(12, 6, generator=generator).double()
        p = Polytope.box([-1.0] * 6, [1.0] * 6) & Polytope.of(cuts, torch.ones(12))
        lp, removed = program(p), int(torch.randint(12, (1,), generator=generator))
        lp.set_bound(removed, math.inf)
        found = lp.maximise(cuts[0] + 0.3 * cuts[1])
        assert found.status is Status.OPTIMAL
        assert found.multipliers[removed] == 0


def test_of_repeated_bounds_of_a_variable_the_tightest_counts() -> None:
    lp = LinearProgram(torch.tensor([[2.0], [1.0], [1.0]], dtype=torch.float64), vector(6, 5, 3))
    found = lp.maximise(vector(1))
    assert found.value == 3.0
    assert float(found.multipliers @ vector(2, 1, 1)) == pytest.approx(1.0)
    assert found.multipliers[1] == 0


def test_moving_the_callers_arrays_moves_nothing() -> None:
    bound = TRIANGLE.bound.clone()
    lp = LinearProgram(TRIANGLE.matrix, bound)
    lp.set_bound(2, 8.0)
    assert bound.tolist() == [0, 0, 4]


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1e6, 1e12])
def test_tiny_and_huge_polytopes_are_solved_alike(scale: float) -> None:
    p = Polytope.of(TRIANGLE.matrix, TRIANGLE.bound * scale)
    found = program(p).maximise(vector(1, 3))
    assert found.status is Status.OPTIMAL
    assert found.value == pytest.approx(6 * scale, rel=1e-9)
    assert deepest(p.matrix, p.bound).depth > 0.1 * scale


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1e8, 1e30])
def test_the_length_of_a_row_does_not_matter(scale: float) -> None:
    p = Polytope.of(TRIANGLE.matrix * vector(1, 1, scale)[:, None], TRIANGLE.bound * vector(1, 1, scale))
    assert program(p).maximise(vector(1, 3)).value == pytest.approx(6.0)


def test_a_corrupted_multiplier_is_no_proof() -> None:
    c = np.array([1.0, 3.0])
    found = program(TRIANGLE).maximise(torch.from_numpy(c))
    x, y = found.point.numpy(), found.multipliers.numpy()
    check = proofs(TRIANGLE)
    assert check.optimal(c, x, y)
    for row in range(3):
        for change in (1e-6, -1e-6):
            wrong = y.copy()
            wrong[row] += change
            assert not check.optimal(c, x, wrong)
    assert not check.optimal(c, x, np.full(3, np.nan))


def test_a_corrupted_point_is_no_proof() -> None:
    c = np.array([1.0, 3.0])
    found = program(TRIANGLE).maximise(torch.from_numpy(c))
    x, y = found.point.numpy(), found.multipliers.numpy()
    assert not proofs(TRIANGLE).feasible(x + np.array([0.0, 1e-6]))
    assert not proofs(TRIANGLE).optimal(c, x + np.array([0.0, 1e-6]), y)  # outside
    assert not proofs(TRIANGLE).optimal(c, x * (1 - 1e-6), y)  # inside, with a gap


def test_a_solver_that_lies_is_not_believed() -> None:
    lp = program(TRIANGLE)
    honest = lp._solver.minimise
    lp._solver.minimise = lambda cost, method: honest(cost, method)._replace(point=np.zeros(2))  # type: ignore[method-assign]
    found = lp.maximise(vector(1, 3))
    assert found.status is Status.UNDECIDED
    assert math.isnan(found.value)
    assert found.upper == math.inf


def test_false_rays_and_false_farkas_multipliers_are_no_proofs() -> None:
    check, c = proofs(WEDGE), np.array([1.0, 0.0])
    assert check.ray(c, np.array([1.0, 0.5]))
    assert not check.ray(c, np.array([1.0, 1.0 + 1e-6]))
    assert not check.ray(c, np.array([0.0, 0.0]))
    assert not check.ray(-c, np.array([1.0, 0.5]))
    empty = proofs(TWICE_OVER)
    assert empty.empty(np.array([1.0, 1.0, 0.0]))
    assert not empty.empty(np.array([1.0, 1.0, 1e-6]))
    assert not empty.empty(np.array([1.0, 1.0 + 1e-6, 0.0]))
    assert not empty.empty(np.zeros(3))
    assert not proofs(TRIANGLE).empty(np.array([1.0, 2.0, 1.0]))  # A^T y = 0, but b.y = 4


def test_the_deepest_point_of_an_empty_polytope_carries_its_proof() -> None:
    deep = deepest(TWICE_OVER.matrix, TWICE_OVER.bound)
    assert deep.depth == pytest.approx(-1 / (2 * math.sqrt(2)))
    assert proofs(TWICE_OVER).empty(deep.multipliers.numpy())


def test_a_larger_tolerance_accepts_larger_residues() -> None:
    loose = LinearProgram(TRIANGLE.matrix, TRIANGLE.bound, tolerance=Tolerance(2.0**30))
    assert loose.accuracy == pytest.approx(2.0**-12)


def test_solving_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for p in (TRIANGLE, WEDGE, TWICE_OVER):
        assert isinstance(program(p).maximise(vector(1, 0.5)), Optimum)
    assert capfd.readouterr() == ("", "")
