"""Omnidirectional matrices: every trap, both certificates checked by other arithmetic, and the known probabilities."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import dot, exact, rank, solve
from polylens import Omnidirectional, is_omnidirectional, unique_solution
from polylens._layers.rational import alternative as rational_alternative
from polylens._layers.stiemke import alternative, implicit
from polylens.errors import GeometryError, InputError, ShapeError

Rows = list[list[float]]
TRIANGLE: Rows = [[1, 0], [-1, 1], [-1, -1]]
CROSS: Rows = [[1, 0], [-1, 0], [0, 1], [0, -1]]
BOUNDARY: Rows = [[1, 0], [-1, 0], [0, 1]]
FLAT: Rows = [[1, 0], [-1, 0], [1, 0], [-2, 0]]


def rows(given: Rows) -> Tensor:
    return torch.tensor(given, dtype=torch.float64)


def omnidirectional(matrix: Rows) -> bool:
    """Answer by the definition in rationals: no vector of a basis of lines, and none along which dim - 1 rows are 0."""
    a, dim = exact(matrix), len(matrix[0])
    if rank(a) < dim:
        return False
    for held in itertools.combinations(range(len(a)), dim - 1):
        for free in range(dim):
            unit = [[*exact([[float(i == free) for i in range(dim)]])[0]]]
            z = solve([a[i] for i in held] + unit, exact([[0.0] * (dim - 1) + [1.0]])[0])
            for sign in (1, -1) if z is not None else ():
                if all(dot(row, [sign * v for v in z or []]) <= 0 for row in a):
                    return False
    return True


def check(found: Omnidirectional) -> None:
    """Hold the certificates against plain products."""
    a = found.matrix
    size = torch.linalg.vector_norm(a, dim=1)
    if found.answer:
        assert found.multipliers is not None
        assert found.radius is not None
        assert bool((found.multipliers > 0).all())
        assert float((a.T @ found.multipliers).norm()) <= 1e-12 * float(
            found.multipliers @ size
        )  # a sum of some thousand terms
        assert found.radius > 0
    elif found.answer is False:
        assert found.ray is not None
        assert float(found.ray.norm()) == pytest.approx(1)
        assert bool((a @ found.ray <= 2e-12 * size).all())  # the tolerance, in parts of the rows


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("matrix", "answer"),
    [(TRIANGLE, True), (CROSS, True), (BOUNDARY, False), (FLAT, False), ([[1.0], [-3.0]], True), ([[1.0], [2.0]], False)],
    ids=["triangle", "cross", "boundary", "rank-deficient", "line", "half-line"],
)
@pytest.mark.parametrize("in_rationals", [False, True])
def test_known_matrices_are_answered_at_every_scale(matrix: Rows, answer: bool, scale: float, in_rationals: bool) -> None:
    found = is_omnidirectional(scale * rows(matrix), exact=in_rationals)
    assert found.answer is answer
    check(found)


def test_multipliers_that_are_only_nonnegative_are_not_enough() -> None:
    # lambda = (1, 1, 0) has A^T lambda = 0, and yet (0, -1) is a ray: 0 is on the boundary of the hull
    found = is_omnidirectional(rows(BOUNDARY))
    assert found.ray is not None
    assert found.ray.tolist() == [0.0, -1.0]


def test_rank_deficient_rows_leave_a_vector_of_their_kernel() -> None:
    # (2, 1, 1, 1) is positive with A^T lambda = 0 and proves nothing
    found = is_omnidirectional(rows(FLAT))
    assert found.ray is not None
    assert found.ray.abs().tolist() == [0.0, 1.0]


def test_rows_of_very_different_lengths_count_alike() -> None:
    lengths = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)
    found = is_omnidirectional(lengths[:, None] * rows(TRIANGLE))
    assert found.answer
    check(found)
    assert is_omnidirectional(lengths[:, None] * rows(BOUNDARY)).answer is False


def test_rows_of_zeros_and_duplicates_change_nothing() -> None:
    for matrix, answer in ((TRIANGLE, True), (BOUNDARY, False), (FLAT, False)):
        found = is_omnidirectional(rows([[0, 0], *matrix, *matrix, [0, 0]]))
        assert found.answer is answer
        check(found)


def test_in_dimension_zero_every_matrix_is_omnidirectional() -> None:
    for count in (0, 3):
        found = is_omnidirectional(torch.zeros(count, 0, dtype=torch.float64))
        assert found.answer
        assert found.radius == math.inf


def test_without_rows_every_direction_is_a_ray() -> None:
    found = is_omnidirectional(torch.zeros(0, 3, dtype=torch.float64))
    assert found.answer is False
    check(found)


def test_as_many_independent_rows_as_dimensions_leave_a_strict_ray() -> None:
    found = is_omnidirectional(torch.eye(4, dtype=torch.float64))
    assert found.ray is not None
    assert bool((found.ray < 0).all())


def test_the_ball_lies_within_the_hull() -> None:
    gen = torch.Generator().manual_seed(0)
    for count, dim in ((5, 2), (9, 3), (40, 6)):
        matrix = torch.randn(count, dim, generator=gen, dtype=torch.float64)
        found = is_omnidirectional(matrix)
        if found.radius is None:
            continue
        ways = torch.nn.functional.normalize(torch.randn(4000, dim, generator=gen, dtype=torch.float64), dim=1)
        assert 0 < found.radius <= float((ways @ matrix.T).amax(1).min())


def test_the_balls_of_cross_and_simplex_are_not_far_from_the_largest() -> None:
    radius = is_omnidirectional(rows(CROSS)).radius
    assert radius is not None
    assert 0.49 < radius <= 1 / math.sqrt(2)


def test_words_name_the_three_views() -> None:
    text = is_omnidirectional(rows(TRIANGLE)).summary()
    assert "A x <= 0 for x = 0 alone" in text
    assert "every open halfspace holds a row" in text
    assert "inside the convex hull" in text
    other = is_omnidirectional(rows(BOUNDARY))
    assert "not omnidirectional" in other.summary()
    assert other.to_dict()["answer"] is False


def test_a_hair_from_the_boundary_is_decided_in_rationals_and_never_guessed() -> None:
    for lift in (1e-13, 1e-15, 1e-17):
        matrix = rows([[1, 0], [-1, 0], [0, 1], [1, -lift]])
        assert is_omnidirectional(matrix).answer is not False or lift < 1e-14  # below that it is rounding of the rows
        assert is_omnidirectional(matrix, exact=True).answer is True
        assert is_omnidirectional(matrix[:3], exact=True).answer is False


@pytest.mark.parametrize(("count", "dim", "missing"), [(12, 6, 0.5), (20, 8, 0.1796), (40, 20, 0.5), (150, 78, 0.6884)])
def test_gaussian_rows_are_omnidirectional_as_often_as_wendel_says(count: int, dim: int, missing: float) -> None:
    wendel = sum(math.comb(count - 1, k) for k in range(dim)) / 2 ** (count - 1)
    assert wendel == pytest.approx(missing, abs=5e-5)
    gen, draws = np.random.default_rng(1), 1000
    answers = [alternative(gen.standard_normal((count, dim))).answer for _ in range(draws)]
    assert None not in answers
    error = math.sqrt(wendel * (1 - wendel) / draws)
    assert abs(answers.count(False) / draws - wendel) < 4 * error  # one seed in 16 000 misses this


@settings(max_examples=200)
@given(
    st.integers(1, 3).flatmap(
        lambda dim: st.lists(st.lists(st.integers(-3, 3).map(float), min_size=dim, max_size=dim), min_size=dim, max_size=7)
    )
)
@example([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
def test_answers_are_those_of_the_definition_in_rationals(matrix: Rows) -> None:
    expected = omnidirectional(matrix)
    for in_rationals in (False, True):
        found = is_omnidirectional(rows(matrix), exact=in_rationals)
        assert found.answer is expected
        check(found)


def test_certificates_in_rationals_are_exact() -> None:
    for matrix in (TRIANGLE, CROSS, BOUNDARY, FLAT):
        a = exact(matrix)
        multipliers, ray = rational_alternative(a, 2)
        if multipliers is not None:
            assert min(multipliers) > 0
            assert [dot(column, multipliers) for column in zip(*a, strict=True)] == [0, 0]
        else:
            assert ray is not None
            assert any(ray)
            assert all(dot(row, ray) <= 0 for row in a)


# -- for a point, and unique solutions


def test_a_matrix_is_omnidirectional_for_the_point_where_all_rows_meet() -> None:
    p = torch.tensor([2.0, -3.0], dtype=torch.float64)
    b = -rows(TRIANGLE) @ p
    assert is_omnidirectional(rows(TRIANGLE), b, p).answer is True
    missed = is_omnidirectional(rows(TRIANGLE), b, p + 1)
    assert missed.answer is False
    assert missed.ray is None
    assert "not for this point" in missed.summary()
    assert is_omnidirectional(rows(BOUNDARY), -rows(BOUNDARY) @ p, p).answer is False


def test_a_solution_is_unique_iff_its_tight_rows_are_omnidirectional() -> None:
    p = torch.tensor([2.0, -3.0], dtype=torch.float64)
    matrix, b = rows([*TRIANGLE, [1, 1]]), torch.cat([-rows(TRIANGLE) @ p, torch.tensor([-100.0], dtype=torch.float64)])
    found = unique_solution(matrix, b, p)
    assert found.answer is True
    assert found.rows.tolist() == [0, 1, 2]
    assert found.multipliers is not None
    assert float((matrix[:3].T @ found.multipliers).norm()) <= 1e-15
    assert "only solution" in found.summary()
    assert unique_solution(matrix, b, p, exact=True).answer is True


def test_a_solution_that_is_not_unique_comes_with_a_way_to_others() -> None:
    matrix, b = rows([[1, 0], [-1, 0], [0, 1], [0, -1]]), torch.tensor([0.0, 0.0, 0.0, -2.0], dtype=torch.float64)
    found = unique_solution(matrix, b, torch.zeros(2, dtype=torch.float64))  # x = 0, -2 <= y <= 0
    assert found.answer is False
    assert found.ray is not None
    assert found.length == pytest.approx(2)
    assert bool((matrix @ (found.length * found.ray) + b <= 1e-12).all())
    assert unique_solution(matrix[:3], b[:3], torch.zeros(2, dtype=torch.float64)).length == math.inf


def test_what_is_no_solution_is_refused() -> None:
    with pytest.raises(GeometryError, match="row 0 is 1"):
        unique_solution([[1.0]], [0.0], [1.0])


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(-2, 2).map(float), min_size=2, max_size=2), min_size=1, max_size=6))
def test_equalities_of_a_cone_are_rows_whose_removal_of_equality_is_impossible(matrix: Rows) -> None:
    a = exact(matrix)
    equal, inner = implicit(np.array(matrix))
    for i, row in enumerate(a):
        # a row is strict somewhere on the cone iff an extreme ray or line of the plane's cone is: try all candidates
        ways = (
            [[s * r[1], -s * r[0]] for r in a for s in (1, -1)]
            + [[-r[0], -r[1]] for r in a]
            + [[1, 0], [0, 1], [-1, 0], [0, -1]]
        )
        cone = [w for w in ways if all(dot(r, w) <= 0 for r in a)]
        assert equal[i] == all(dot(row, w) == 0 for w in cone)
    slack = np.array(matrix) @ inner
    assert (slack[~equal] < 0).all()
    assert np.abs(slack[equal]).max(initial=0) < 1e-12


# -- errors


def test_what_is_no_matrix_is_refused_with_reasons() -> None:
    with pytest.raises(ShapeError, match="expected shape"):
        is_omnidirectional([1.0, 2.0])
    with pytest.raises(InputError, match="finite"):
        is_omnidirectional([[math.nan]])
    with pytest.raises(InputError, match="b and a point"):
        is_omnidirectional(rows(CROSS), b=torch.zeros(4))
    with pytest.raises(ShapeError, match="expected b"):
        is_omnidirectional(rows(CROSS), torch.zeros(3), torch.zeros(2))
    with pytest.raises(InputError, match="4096 entries"):
        is_omnidirectional(torch.ones(100, 50), exact=True)
