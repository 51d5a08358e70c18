"""Facets against exact rationals and one linear program a row; every proof is checked again, by plain products."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path

import highspy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import dot, exact, hull_dimension, polytope_vertices
from polylens import affine_maps, region, zoo
from polylens._facets.certify import Boxed, certify
from polylens.errors import GeometryError
from polylens.facets import Facets, facets, reduced
from polylens.polytope import Polytope
from test_real_networks import network_and_images

FAR = 10**6  # vertices of small polytopes with small quarters for entries are nearer: cutting there changes no facet

Answer = tuple[set[tuple[int, ...]], set[int]]  # the rows of each facet, and the implicit equalities


def oracle(matrix: list[list[float]], bound: list[float]) -> Answer | None:
    """Return facets and equalities by the dimension of every row's face, None of an empty polytope."""
    dim, rows, values = len(matrix[0]), exact(matrix), exact([bound])[0]
    if any(not any(row) and value < 0 for row, value in zip(rows, values, strict=True)):
        return None
    sides = [[Fraction(sign * (i == j)) for j in range(dim)] for i in range(dim) for sign in (1, -1)]
    corners = polytope_vertices([*rows, *sides], [*values, *[Fraction(FAR)] * (2 * dim)])
    if not corners:
        return None
    size, faces = hull_dimension(corners), {}
    for k, (row, value) in enumerate(zip(rows, values, strict=True)):
        if any(row):
            faces[k] = frozenset(v for v in corners if dot(row, v) == value)
    equalities = {k for k, face in faces.items() if len(face) == len(corners)}
    bounding = [k for k, face in faces.items() if k not in equalities and hull_dimension(sorted(face)) == size - 1 >= 0]
    return {tuple(j for j in bounding if faces[j] == faces[k]) for k in bounding if faces[k]}, equalities


def check(p: Polytope, found: Facets) -> None:
    """Everything that a result claims, from its own data: a partition of the rows, points on facets, multipliers."""
    count, dim = len(p), p.dim
    on_facet = torch.nonzero(found.facet_of_row >= 0).reshape(-1).tolist()
    parts = [on_facet, found.equalities.tolist(), found.redundant.tolist(), found.undecided.tolist()]
    assert sorted(itertools.chain(*parts)) == list(range(count))
    assert found.witnesses.shape == found.normals.shape == (found.num_facets, dim)
    norms = torch.linalg.vector_norm(p.matrix, dim=1)
    size = 1e-8 * (p.bound.abs() + norms)
    for number, (point, normal) in enumerate(zip(found.witnesses, found.normals, strict=True)):
        slack, mine = p.slack(point), found.facet_of_row == number
        room = size + 1e-8 * norms * torch.linalg.vector_norm(point)
        assert bool((slack[mine].abs() <= room[mine]).all())
        assert bool((slack >= -room).all())
        assert bool((slack[(found.facet_of_row >= 0) & ~mine] > 0).all())
        assert float(torch.linalg.vector_norm(normal)) == pytest.approx(1)
        assert bool((p.matrix[mine] @ normal > 0).all())
    assert found.multipliers.shape == (len(found.redundant), count)
    for row, y in zip(found.redundant.tolist(), found.multipliers, strict=True):
        weight = float(y @ norms + norms[row])
        assert bool((y >= 0).all())
        assert float(y[row]) == 0
        assert float(torch.linalg.vector_norm(y @ p.matrix - p.matrix[row])) <= 1e-8 * weight
        worth = float(y @ p.bound.abs() + p.bound[row].abs()) + weight
        assert float(y @ p.bound) <= float(p.bound[row]) + 1e-8 * worth
    json.dumps(found.to_dict())
    assert str(found.num_facets) in found.summary()


def agree(matrix: list[list[float]], bound: list[float]) -> None:
    p = Polytope.of(matrix, bound)
    expected = oracle(matrix, bound)
    if expected is None:
        with pytest.raises(GeometryError, match="empty"):
            facets(p)
        return
    found = facets(p)
    check(p, found)
    assert found.complete
    assert (set(found.groups), set(found.equalities.tolist())) == expected


CASES = {
    "square": ([[1, 0], [0, 1], [-1, 0], [0, -1]], [1, 1, 0, 0]),
    "duplicates scaled by powers of two": ([[1, 1], [4, 4], [-1, 0], [0, -1], [0, -0.5]], [1, 4, 0, 0, 0]),
    "parallel rows": ([[1, 0], [1, 0], [2, 0], [0, 1], [-1, 0], [0, -1]], [1, 2, 1, 1, 0, 0]),
    "touching at a vertex": ([[1, 0], [0, 1], [-1, 0], [0, -1], [1, 1], [1, 2]], [1, 1, 0, 0, 2, 3]),
    "far away": ([[1, 0], [0, 1], [-1, -1], [1, 1]], [1, 1, 1, 9]),
    "rows of zeros": ([[1], [0], [-1], [0]], [1, 0, 1, 3]),
    "an impossible row of zeros": ([[1], [0]], [1, -1]),
    "a segment in the plane": ([[1, 1], [-1, -1], [-1, 0], [0, -1], [1, 0], [2, 1]], [1, -1, 0, 0, 1, 2]),
    "a segment, flat by three rows": ([[1, 0], [0, 1], [-1, -1], [-1, 1], [1, -1]], [0, 0, 0, 1, 1]),
    "a point": ([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1]], [1, -1, 2, -2, 3]),
    "a point by three rows": ([[1, 0], [0, 1], [-1, -1], [1, 1]], [0, 0, 0, 1]),
    "a plane in space, unbounded": ([[1, 1, 1], [-1, -1, -1], [1, 0, 0]], [1, -1, 5]),
    "a half-line": ([[1], [2], [1]], [1, 2, 3]),
    "a strip": ([[1, 1], [-1, -1]], [1, 1]),
    "a wedge": ([[1, 0], [0, 1], [1, 1]], [0, 0, 0]),
    "empty": ([[1, 0], [-1, 0]], [0, -1]),
    "empty in the end": ([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1]], [0, 0, 0, 0, -1]),
}


@pytest.mark.parametrize("name", CASES)
def test_facets_of_nasty_polytopes_equal_those_of_rational_arithmetic(name: str) -> None:
    agree(*CASES[name])


@st.composite
def nasty(draw: st.DrawFn) -> tuple[list[list[float]], list[float]]:
    """Draw small rows, then damage them: duplicate by a power of two, parallel, opposite, through a vertex, zero."""
    dim = draw(st.integers(1, 3))
    numbers = draw(st.sampled_from([st.integers(-2, 2).map(float), st.integers(-8, 8).map(lambda k: k / 4)]))
    count = draw(st.integers(1, 6))
    matrix = [[draw(numbers) for _ in range(dim)] for _ in range(count)]
    bound = [draw(st.one_of(numbers, st.just(1.0))) for _ in range(count)]
    for damage in draw(st.lists(st.sampled_from(["duplicate", "parallel", "opposite", "sum", "zero"]), max_size=4)):
        i, j, k = (draw(st.integers(0, count - 1)) for _ in range(3))
        if damage == "duplicate":
            matrix[i], bound[i] = [2 * v for v in matrix[j]], 2 * bound[j]
        elif damage == "parallel":
            matrix[i] = list(matrix[j])
        elif damage == "opposite":  # with `duplicate` bounds this makes the polytope flat
            matrix[i], bound[i] = [-v for v in matrix[j]], -bound[j]
        elif damage == "sum":  # touches where the two rows meet
            matrix[i], bound[i] = [x + y for x, y in zip(matrix[j], matrix[k], strict=True)], bound[j] + bound[k]
        else:
            matrix[i], bound[i] = [0.0] * dim, abs(bound[i])
    return matrix, bound


@settings(max_examples=60, deadline=None)
@given(nasty())
def test_facets_of_drawn_polytopes_equal_those_of_rational_arithmetic(rows: tuple[list[list[float]], list[float]]) -> None:
    agree(*rows)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8])
def test_every_row_of_the_standard_polytopes_is_a_facet(dim: int) -> None:
    for p in (Polytope.box([-1.0] * dim, [2.0] * dim), Polytope.simplex(dim), Polytope.cross_polytope(min(dim, 5))):
        found = facets(p)
        check(p, found)
        assert found.groups == tuple((k,) for k in range(len(p)))


def test_the_whole_space_has_no_facets() -> None:
    found = facets(Polytope.of(torch.zeros(0, 3), torch.zeros(0)))
    assert (found.num_facets, found.complete, found.witnesses.shape) == (0, True, (0, 3))


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**-10, 1.0, 2.0**30])
def test_facets_do_not_depend_on_the_scale_of_space_or_rows(scale: float) -> None:
    matrix, bound = (torch.tensor(v, dtype=torch.float64) for v in CASES["touching at a vertex"])
    rows = 4.0 ** torch.arange(-3, 3, dtype=torch.float64)
    for p in (
        Polytope(matrix, bound * scale, Polytope.of(matrix, bound).origins),
        Polytope.of(matrix * rows[:, None], bound * rows),
    ):
        found = facets(p)
        assert found.complete
        assert found.groups == ((0,), (1,), (2,), (3,))


def test_a_thin_box_keeps_its_facets() -> None:
    p = Polytope.box([0.0, 0.0, 0.0], [1.0, 1e-6, 1.0])
    found = facets(p)
    check(p, found)
    assert found.num_facets == 6


def test_facets_turn_with_the_polytope() -> None:
    generator = torch.Generator().manual_seed(3)
    p = random_polytope(6, 30, generator)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    turned = Polytope(p.matrix @ turn, p.bound + p.matrix @ torch.ones(6).double(), p.origins)
    assert facets(turned).groups == facets(p).groups


def random_polytope(dim: int, rows: int, generator: torch.Generator) -> Polytope:
    """Rows of which many are redundant: their distances from the origin vary by a factor of three."""
    matrix = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    distance = 1 + 2 * torch.rand(rows, generator=generator, dtype=torch.float64)
    return Polytope.of(matrix, distance * torch.linalg.vector_norm(matrix, dim=1)) & Polytope.box([-2.0] * dim, [2.0] * dim)


def violable(p: Polytope) -> list[int]:
    """Return the rows that points obeying all others can violate: one cold HiGHS program a row, rows at full accuracy."""
    matrix, bound = p.matrix.numpy(), p.bound.numpy()
    found = []
    for row in range(len(p)):
        solver, model = highspy.Highs(), highspy.HighsLp()
        solver.silent()
        upper = bound.copy()
        upper[row] += 1.0
        rows, columns = np.nonzero(matrix)
        model.num_row_, model.num_col_ = matrix.shape
        model.col_cost_, model.col_lower_, model.col_upper_ = -matrix[row], np.full(p.dim, -np.inf), np.full(p.dim, np.inf)
        model.row_lower_, model.row_upper_ = np.full(len(bound), -np.inf), upper
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.searchsorted(rows, np.arange(len(bound) + 1)).astype(np.int32)
        model.a_matrix_.index_, model.a_matrix_.value_ = columns.astype(np.int32), matrix[rows, columns]
        solver.passModel(model)
        solver.run()
        assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        if -solver.getInfo().objective_function_value > bound[row] + 1e-6:
            found.append(row)
    return found


@pytest.mark.parametrize("dim", [3, 8, 20])
def test_facets_of_random_polytopes_equal_one_program_a_row(dim: int) -> None:
    p = random_polytope(dim, 60, torch.Generator().manual_seed(dim))
    found = facets(p)
    check(p, found)
    assert found.complete
    assert [g[0] for g in found.groups] == violable(p)
    assert all(len(g) == 1 for g in found.groups)


def digits_region(image: int, box: bool) -> Polytope:
    net, x = zoo.digits().double(), zoo.digits_data("test").inputs[image].double()
    maps = affine_maps(net, x)
    weight = torch.cat([m.weight.reshape(-1, 64) for m in maps.values()])
    offset = torch.cat([m.offset.reshape(-1) for m in maps.values()])
    side = torch.where(weight @ x.reshape(-1) + offset > 0, -1.0, 1.0).double()
    p = Polytope.of(side[:, None] * weight, -side * offset)
    return p & Polytope.box([0.0] * 64, [1.0] * 64) if box else p


@pytest.mark.parametrize(("image", "box"), [(0, True), (1, True), (0, False)])
def test_facets_of_digits_regions_equal_one_program_a_row(image: int, box: bool) -> None:
    p = digits_region(image, box)
    found = facets(p)
    check(p, found)
    assert found.complete
    assert [g[0] for g in found.groups] == violable(p)


def test_the_region_of_an_mnist_image_is_decided_row_by_row(data: Path) -> None:
    net, images, _ = network_and_images(data, "mnist-net_256x2.onnx", 1)
    maps = affine_maps(net.double(), images[0])
    weight = torch.cat([m.weight.reshape(-1, 784) for m in maps.values()])
    offset = torch.cat([m.offset.reshape(-1) for m in maps.values()])
    side = torch.where(weight @ images[0].reshape(-1) + offset > 0, -1.0, 1.0).double()
    box = Polytope.box([0.0] * 784, [1.0] * 784)
    p, here = Polytope.of(side[:, None] * weight, -side * offset) & box, region(net, images[0], domain=box)
    rows = here.polytope.origins
    by_unit = torch.argsort(rows.layer[:512] * 256 + rows.unit[:512])
    assert torch.allclose(here.polytope.matrix[by_unit], p.matrix[:512], atol=1e-12)
    assert torch.allclose(here.polytope.bound[by_unit], p.bound[:512], atol=1e-12)
    found = facets(here)
    check(here.polytope, found)
    assert found.complete
    assert found.num_facets > 1568


def test_rows_that_several_rays_leave_through_keep_the_point_of_one() -> None:
    generator = torch.Generator().manual_seed(12)
    p = random_polytope(40, 300, generator) & Polytope.of(0.4 * torch.eye(40).double(), 0.01 * torch.ones(40).double())
    check(p, facets(p))


def test_the_reduced_polytope_is_the_same_set_with_as_many_rows_as_facets() -> None:
    p = random_polytope(5, 60, torch.Generator().manual_seed(7))
    small = reduced(p)
    assert len(small) == facets(p).num_facets < len(p)
    assert facets(small).num_facets == len(small)
    points = 2 * torch.randn(2000, 5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    assert torch.equal(small.contains(points), p.contains(points))


def test_the_reduced_flat_polytope_keeps_its_equalities() -> None:
    matrix, bound = CASES["a segment in the plane"]
    small = reduced(Polytope.of(matrix, bound))
    found = facets(small)
    assert len(found.equalities) == 2
    assert (found.num_facets, len(small)) == (2, 4)


def test_rows_that_a_time_limit_leaves_open_are_undecided_and_kept() -> None:
    p = random_polytope(8, 60, torch.Generator().manual_seed(9))
    found = facets(p, time_limit=0.0)
    check(p, found)
    assert not found.complete
    assert set(found.undecided.tolist()) | {g[0] for g in found.groups} >= set(violable(p))


def test_batched_proofs_hold_and_agree_with_one_program_a_row() -> None:
    dim, generator = 10, torch.Generator().manual_seed(11)
    p = random_polytope(dim, 80, generator)
    norms = torch.linalg.vector_norm(p.matrix[:80], dim=1)
    system = Boxed(
        p.matrix[:80] / norms[:, None], p.bound[:80] / norms, -2 * torch.ones(dim).double(), 2 * torch.ones(dim).double()
    )
    proofs = certify(system, torch.arange(80), torch.ones(80, dtype=torch.bool))
    expected = torch.full((80,), -1)
    expected[[row for row in violable(p) if row < 80]] = 1
    decided = proofs.verdict != 0
    assert int(decided.sum()) > 70
    assert torch.equal(proofs.verdict[decided], expected[decided])
    assert_batched_multipliers(system, proofs.verdict, proofs.multipliers)


def assert_batched_multipliers(system: Boxed, verdict: Tensor, multipliers: Tensor) -> None:
    for row in torch.nonzero(verdict < 0).reshape(-1).tolist():
        y = multipliers[row]
        left = system.matrix[row] - y @ system.matrix
        most = torch.maximum(left * system.high, left * system.low).sum()
        assert bool((y >= 0).all())
        assert float(y[row]) == 0
        assert float(y @ system.slack + most) < float(system.slack[row])
