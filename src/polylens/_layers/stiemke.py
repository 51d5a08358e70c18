"""Stiemke's alternative for the rows of M: lambda > 0 with M^T lambda = 0 and M of full rank, or z != 0 with M z <= 0.

Proofs are checked here in plain products, for rows that are known up to an error; what cannot be settled is neither. The
one door to scipy's nonnegative least squares and triangular solves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._types import Tolerance

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

EPS = 2.0**-52
STEPS = 12  # alternating projections: where they help they need few, and each costs as much as two products with M
FEW_STEPS = 3
NEWTON_STEPS, STATIONARY, DESCENT = 40, 1e-12, 1e-4
ITERATIONS = 10  # of least squares, a row: scipy's own limit of 3 ends thin cones of 3 500 rows too early
NUDGES, NUDGED = 20, 1e-5  # steps from a start that is near, and the least slack that single precision means
NEARLY = 1e-3  # residues of multipliers that one more projection makes rounding
RELAXATION = 1.8  # how far beyond the nearest positive vector each of them goes
CLEAR = 1e-6  # the least singular value, in parts of the largest that there can be, that products M^T M settle
SHARES = (0.9, 0.5, 0.1)  # of what inverse iteration takes for the least eigenvalue, to be proven below it
INVERSE_STEPS = 6
ACTIVE = (1e-10, 1e-8, 1e-6)  # slacks of unit rows, of which the solver may leave this much where it means 0


class Alternative(NamedTuple):
    """`multipliers` (rows,) > 0, with rows that span the space, or a unit `ray` (dim,); None and None is undecided.

    For rows scaled by `scale`: `sigma` bounds their least singular value from below, `residue` |M^T lambda| from above
    (lambda scaled alike), both with rounding and the rows' errors taken into account. Rows of zeros have multiplier 1.
    """

    multipliers: Array | None
    ray: Array | None
    scale: Array
    sigma: float = 0.0
    residue: float = 0.0

    @property
    def answer(self) -> bool | None:
        """Whether M z <= 0 only for z = 0."""
        return True if self.multipliers is not None else False if self.ray is not None else None


class _Rows(NamedTuple):
    """Rows other than zero, of lengths about 1 (scaling by powers of two rounds nothing), and how large their errors are."""

    m: Array
    error: Array
    room: float

    @property
    def blur(self) -> float:
        """How much the errors can change a singular value."""
        return float(np.linalg.norm(self.error))

    @property
    def slack(self) -> Array:
        """Products with unit vectors count as 0 up to this much."""
        return self.room + self.error

    def rank(self, values: Array, shape: tuple[int, int]) -> int:
        """Return how many singular values are none of rounding."""
        return int((values > max(shape) * EPS * values.max(initial=0.0) + self.blur).sum())


def alternative(matrix: Array, error: Array | None = None, *, tolerance: Tolerance | None = None) -> Alternative:
    """Return multipliers or a ray for the rows of a matrix (rows, dim), which are known up to `error` (rows,) each.

    Multipliers hold for all matrices within the errors. A ray has rows that are strictly negative along it, and others, of
    rank below dim up to rounding, that are 0. In dimension 0 there are no rays.

    Algorithm: ranks first, since on rank-deficient rows a residual of 0 proves nothing; then alternating projections, onto
    ker M^T and {lambda >= 1} and onto the range of M and {v <= -1}, through one Cholesky factor of M^T M; then Newton's
    method (`_curved`); at last, for rays that are 0 on some rows, nonnegative least squares, min |M^T (1 + mu)|, whose
    residual r is 0 (multipliers 1 + mu) or gives the ray -r.
    """
    norms = np.linalg.norm(matrix, axis=1)
    error = 4 * EPS * norms if error is None else error
    live = norms > 2 * error
    scale = np.ones(len(norms))
    scale[live] = np.exp2(np.round(np.log2(norms[live])))
    rows = _Rows(matrix[live] / scale[live, None], error[live] / scale[live], (tolerance or Tolerance()).relative)
    found = _settled(rows)
    if found.multipliers is None:
        return found._replace(scale=scale)
    multipliers = np.ones(len(norms))
    multipliers[live] = found.multipliers / scale[live]
    return found._replace(multipliers=multipliers, scale=scale)


def implicit(matrix: Array, error: Array | None = None) -> tuple[Mask, Array]:
    """Return which rows hold with equality on all of {z : M z <= 0}, and a point of its relative interior.

    A row does iff it has a positive multiplier in some lambda >= 0 with M^T lambda = 0. Algorithm: the nearest point of
    the rows' hull to 0 is a ray that some rows are strict on; the same question for the others, until none is left.
    """
    norms = np.linalg.norm(matrix, axis=1)
    error = 4 * EPS * norms if error is None else error
    live = norms > 2 * error
    left, inner = live.copy(), np.zeros(matrix.shape[1])
    while left.any():
        unit = matrix[left] / norms[left, None]
        ray = _downhill(unit)
        slack = np.zeros(0) if ray is None else unit @ ray
        if ray is None or not (slack < -ACTIVE[0]).any():
            break
        kept = slack >= -ACTIVE[0]
        inner, left[left] = _shifted(matrix, inner, ray), kept
    return left | ~live, inner


def _shifted(matrix: Array, inner: Array, ray: Array) -> Array:
    """Return inner + t ray, t as large as half of what keeps the rows that are strict at `inner` so."""
    now, speed = matrix @ inner, matrix @ ray
    rising = (speed > 0) & (now < 0)
    return inner + min(1.0, 0.5 * float((-now[rising] / speed[rising]).min(initial=2.0))) * ray


def gordan(
    matrix: Array, start: Array | None = None, *, tolerance: Tolerance | None = None
) -> tuple[Array | None, Array | None]:
    """Return u >= 0, u != 0 with M^T u = 0, or z with M z < 0 in every row, or neither, for rows of any lengths but 0.

    A u that is not positive throughout has rows of rank below their number where it is, up to rounding.

    Algorithm: from the z of a similar matrix (`start`), or the mean of the rows, least steps that put right what rows are
    not negative along it; a few alternating projections; Newton's method on sum max(0, 1 + m_i.z)^2, whose minimum is 0
    for some multiple of any such z and otherwise has u = max(0, 1 + M z); at last nonnegative least squares on
    |M^T u|^2 + (sum u - 1)^2.
    """
    scale = np.exp2(np.round(np.log2(np.linalg.norm(matrix, axis=1))))
    rows = _Rows(matrix / scale[:, None], np.full(len(scale), 4 * EPS), (tolerance or Tolerance()).relative)
    for u, z in _gordan_proposals(rows, start):
        if z is not None and (rows.m @ z < -rows.slack * np.linalg.norm(z)).all():
            return None, z
        found = None if u is None else _nonnegative(rows, u)
        if found is not None:
            return found / scale, None
    return None, None


def _gordan_proposals(rows: _Rows, start: Array | None) -> Iterator[tuple[Array | None, Array | None]]:
    from scipy.optimize import nnls

    yield None, _nudged(rows.m, -rows.m.mean(0) if start is None else start)
    n, d = rows.m.shape
    solver = _factored(rows) if n >= d else None
    if solver is not None:
        yield from _projected(rows.m, solver, FEW_STEPS)
        yield _hinged(rows.m, solver)
    try:
        u, _ = nnls(np.vstack([rows.m.T, np.ones(n)]), np.append(np.zeros(d), 1.0), maxiter=ITERATIONS * n)
    except RuntimeError:  # its iterations are used up
        return
    yield u, -(rows.m.T @ u)


def _nudged(m: Array, z: Array) -> Array | None:
    """Return a z with M z < 0 near one that few rows are not negative along, None where steps on those rows find none.

    A step is the least that brings the rows above -1 to -1, all in single precision: what comes out is verified.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    single, z = m.astype(np.float32), z.astype(np.float32)
    t = single @ z
    for _ in range(NUDGES):
        if t.max() < -NUDGED:
            return z.astype(np.float64)
        held = single[t > -1]
        gram = held @ held.T if len(held) <= len(z) else held.T @ held
        gram.flat[:: len(gram) + 1] += NUDGED * len(m) ** 0.5
        missing = -1 - t[t > -1]
        try:
            factor = cho_factor(gram, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        if len(held) <= len(z):
            step = held.T @ cho_solve(factor, missing, check_finite=False)
        else:
            step = cho_solve(factor, held.T @ missing, check_finite=False)
        speed, length, value = single @ step, 1.0, _above(t)
        while _above(t + length * speed) > value and length > NEARLY:
            length /= 2
        z, t = z + length * step, t + length * speed
    return None


def _above(t: Any) -> float:
    return float(np.square(np.maximum(1 + t, 0)).sum())


def _hinged(m: Array, solver: _Solver) -> tuple[Array | None, Array | None]:
    """Return u and z at the minimum of sum max(0, 1 + m_i.z)^2, or a z with M z < 0 that is met on the way."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    z = -solver(m.sum(0))
    u = np.maximum(1 + m @ z, 0.0)
    for _ in range(NEWTON_STEPS):
        if u.max() < 1:
            return None, z
        used = u > 0
        gradient = m[used].T @ u[used]
        if np.linalg.norm(gradient) <= STATIONARY * u.sum():
            return u, None
        hessian = m[used].T @ m[used]
        hessian.flat[:: len(z) + 1] += STATIONARY * len(m)
        try:
            step = -cho_solve(cho_factor(hessian, overwrite_a=True, check_finite=False), gradient, check_finite=False)
        except LinAlgError:
            break
        value, speed, length = float(u @ u), m @ step, 1.0
        while float(np.square(np.maximum(1 + m @ z + length * speed, 0.0)).sum()) > value and length > STATIONARY:
            length /= 2
        z = z + length * step
        u = np.maximum(1 + m @ z, 0.0)
    return u, z


def _nonnegative(rows: _Rows, u: Array) -> Array | None:
    """Return u >= 0 made to have M^T u = 0 more exactly, None where no exact one near it is proven."""
    used = u > 0
    if not used.any():
        return None
    held = _Rows(rows.m[used], rows.error[used], rows.room)
    solver = _factored(held) if len(held.m) > held.m.shape[1] else None
    if solver is not None:
        part = u[used] - held.m @ solver(held.m.T @ u[used])
        proven = _positive(held, part, solver.sigma) is not None
    else:
        left, values, _ = _svd(held.m)
        rank = rows.rank(values, held.m.shape)
        part = u[used] - left[:, :rank] @ (left[:, :rank].T @ u[used])
        exact = np.linalg.norm(held.m.T @ part) <= held.slack.max() * np.abs(part).sum()
        proven = bool(rank < len(part) and (part > 0).all() and exact)
    if not proven:
        return None
    found = np.zeros(len(u))
    found[used] = part
    return found


def factored_rows(matrix: Array) -> _Solver | None:
    """Return the factor of A A^T for rows A (rows, dim) of lengths about 1 that are proven to be independent."""
    return _factored(_Rows(np.ascontiguousarray(matrix.T), np.full(matrix.shape[1], EPS), 0.0))


def rank_of(matrix: Array, error: Array) -> int:
    """Return the rank of rows (rows, dim) that are known up to `error` (rows,)."""
    norms = np.linalg.norm(matrix, axis=1)
    live = norms > 2 * error
    if not live.any():
        return 0
    rows = _Rows(matrix[live] / norms[live, None], error[live] / norms[live], 0.0)
    return rows.rank(_svd(rows.m)[1], rows.m.shape)


def hull_radius(matrix: Array, multipliers: Array) -> float:
    """Return a lower bound of the radius of the ball around 0 within the hull of the rows (rows, dim), 0 for none.

    With multipliers that sum to 1 as probabilities, the values v of the rows along a unit vector have mean e = A^T lambda
    and are at least -c, so that by Bhatia and Davis E v^2 <= m c + e (m - c) where m is the largest; E v^2 is at least the
    least eigenvalue w of sum lambda_i a_i a_i^T, hence m >= (w - |e| c) / (c + |e|).
    """
    if matrix.shape[1] == 0:
        return float("inf")
    norms = np.linalg.norm(matrix, axis=1)
    live = norms > 0
    least, most = norms[live].min(), norms[live].max()
    rows, shares = matrix[live], multipliers[live] / multipliers[live].sum()
    even = shares * norms[live]
    found = _radius(rows, shares)
    if most <= 2 * least:
        return found
    # 0 lies in the hull, so the hull of the rows holds that of the rows cut to the shortest one's length
    return max(found, least * _radius(rows / norms[live, None], even / even.sum()))


def _radius(rows: Array, shares: Array) -> float:
    n, d = rows.shape
    c = float(np.linalg.norm(rows, axis=1).max()) * (1 + d * EPS)
    e = float(np.linalg.norm(rows.T @ shares)) + (n + d) * EPS * c
    w = float(np.linalg.eigvalsh((rows * shares[:, None]).T @ rows)[0]) - 2 * (n + d) * EPS * c * c
    return max(0.0, (w - e * c) / (c + e))


def _settled(rows: _Rows) -> Alternative:
    """Return the alternative for rows of length about 1, none of zeros."""
    n, d = rows.m.shape
    nothing = Alternative(None, None, np.ones(n))
    if d == 0:
        return nothing._replace(multipliers=np.ones(n), sigma=np.inf)
    solver = _factored(rows) if n > d else None
    sigma, kernel = (solver.sigma, None) if solver is not None else _spectrum(rows)
    if kernel is not None:
        return nothing._replace(ray=kernel)
    if n == d:
        return nothing._replace(ray=_ray(rows, np.asarray(np.linalg.solve(rows.m, -np.ones(n)), dtype=np.float64)))
    for multipliers, ray in _proposals(rows.m, solver):
        lam = None if multipliers is None else _positive(rows, multipliers, sigma)
        if lam is not None:
            return Alternative(lam[0], None, nothing.scale, sigma, lam[1])
        way = None if ray is None else _ray(rows, ray)
        if way is not None:
            return nothing._replace(ray=way)
    return nothing


class _Solver(NamedTuple):
    """The Cholesky factor of M^T M, and a lower bound of M's least singular value."""

    factor: Any
    sigma: float

    def __call__(self, right: Array) -> Array:
        from scipy.linalg import cho_solve

        found: Array = cho_solve(self.factor, right, check_finite=False)
        return found


def _factored(rows: _Rows) -> _Solver | None:
    """Return the factor of M^T M with a proven bound, None where products settle nothing.

    A Cholesky factor of M^T M - s exists only where s is below the least eigenvalue, but for rounding; inverse iteration
    says which s to try.
    """
    return _factored_gram(rows.m.T @ rows.m, len(rows.m), rows.blur)


def factored_columns(gram: Array, count: int) -> _Solver | None:
    """Return the factor of A^T A, given as an array, for `count` rows of lengths about 1 that are proven to span the space."""
    return _factored_gram(gram, count, EPS * float(np.sqrt(count)))


def _factored_gram(gram: Array, n: int, blur: float) -> _Solver | None:
    from scipy.linalg import LinAlgError, cho_factor

    d = len(gram)
    rounding = 2 * (n + d) * EPS * float(np.trace(gram))
    try:
        solver = _Solver(cho_factor(gram, check_finite=False), 0.0)
    except LinAlgError:
        return None
    guess = _least_eigenvalue(solver, d)
    for share in SHARES:
        square = share * guess - rounding
        if square <= max(CLEAR**2 * n, 4 * blur**2):
            return None
        try:
            cho_factor(gram - share * guess * np.eye(d), overwrite_a=True, check_finite=False)
        except LinAlgError:
            continue
        return solver._replace(sigma=float(np.sqrt(square)) - blur)
    return None


def _least_eigenvalue(solver: _Solver, d: int) -> float:
    """Return about the least eigenvalue of M^T M, from above."""
    v, size = np.random.default_rng(0).standard_normal(d), 1.0
    for _ in range(INVERSE_STEPS):
        v = solver(v / np.linalg.norm(v))
        size = float(np.linalg.norm(v))
    return 1 / size


def _spectrum(rows: _Rows) -> tuple[float, Array | None]:
    """Return a lower bound of the least singular value and, where the rank is below dim, a unit vector of the kernel."""
    n, d = rows.m.shape
    _, values, right = _svd(rows.m, full=n < d)
    if rows.rank(values, rows.m.shape) < d:
        return 0.0, right[-1]
    return float(values.min() - 2 * (n + d) * EPS * values.max()) - rows.blur, None


def _proposals(m: Array, solver: _Solver | None) -> Iterator[tuple[Array | None, Array | None]]:
    """Yield multipliers and rays that may prove something, the cheaper ones first."""
    if solver is not None:
        yield from _projected(m, solver)
        lam, z = _curved(m)
        yield (None if lam is None else lam - m @ solver(m.T @ lam)), z
    mu, residual = _least(m)
    if mu is not None and residual is not None:
        lam = 1 + mu
        yield lam if solver is None else lam - m @ solver(m.T @ lam), -residual


def _projected(m: Array, solve: _Solver, steps: int = STEPS) -> Iterator[tuple[Array | None, Array | None]]:
    """Yield what over-relaxed alternating projections come upon: positive vectors of ker M^T, negative ones of M's range."""
    both = np.stack([np.ones(len(m)), -np.ones(len(m))], 1)
    for _ in range(steps):
        z = solve(m.T @ both)
        image = m @ z
        lam, v = both[:, 0] - image[:, 0], image[:, 1]
        if lam.min() > 0:
            yield lam - m @ solve(m.T @ lam), None
        if v.max() < 0:
            yield None, z[:, 1]
        both[:, 0] = lam + RELAXATION * np.maximum(1 - lam, 0)
        both[:, 1] = v + RELAXATION * np.minimum(-1 - v, 0)


def _curved(m: Array) -> tuple[Array | None, Array | None]:
    """Return positive lambda or a z with M z < 0, as Newton's method meets them on sum phi(m_i.z).

    phi is t + t^2 / 2 above 0 and -log(1 - t) below, convex and growing, so its derivatives are positive multipliers: with
    M^T lambda = 0 at the minimum, which exists iff the rows are omnidirectional.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    t, z = np.zeros(len(m)), np.zeros(m.shape[1])
    for _ in range(NEWTON_STEPS):
        lam = np.where(t >= 0, 1 + t, 1 / (1 + np.maximum(-t, 0)))
        gradient = m.T @ lam
        if np.linalg.norm(gradient) <= NEARLY * lam.min():
            return lam, None
        curved = m * np.where(t >= 0, 1.0, lam)[:, None]
        hessian = curved.T @ curved
        hessian.flat[:: len(z) + 1] += STATIONARY * len(m)
        try:
            step = -cho_solve(cho_factor(hessian, overwrite_a=True, check_finite=False), gradient, check_finite=False)
        except LinAlgError:
            break
        speed, length, value, slope = m @ step, 1.0, _phi(t), float(gradient @ step)
        while _phi(t + length * speed) > value + DESCENT * length * slope and length > STATIONARY:
            length /= 2
        z, t = z + length * step, t + length * speed
        if t.max() < 0:
            return None, z
    return None, None


def _phi(t: Array) -> float:
    return float(np.where(t >= 0, t + t * t / 2, -np.log1p(np.maximum(-t, 0))).sum())


def _least(m: Array) -> tuple[Array | None, Array | None]:
    """Return the mu >= 0 that makes |M^T (1 + mu)| least, and the residual; None where the solver gives up."""
    from scipy.optimize import nnls

    start = m.sum(0)
    try:
        mu, _ = nnls(m.T, -start, maxiter=ITERATIONS * len(m))
    except RuntimeError:  # its iterations are used up
        return None, None
    return mu, start + m.T @ mu


def _downhill(unit: Array) -> Array | None:
    """Return a unit vector z with M z <= 0 that is strict on some rows, or None where there is none."""
    _, residual = _least(unit)
    size = 0.0 if residual is None else float(np.linalg.norm(residual))
    return None if residual is None or size <= ACTIVE[0] * len(unit) else -residual / size


def _positive(rows: _Rows, lam: Array, sigma: float) -> tuple[Array, float] | None:
    """Return multipliers and their residue if an exact lambda > 0 lies near: |M^T lambda| < sigma_min(M) min lambda.

    M^T (lambda - M (M^T M)^-1 r) = 0 for r = M^T lambda, and no entry changes by more than |r| / sigma_min.
    """
    if not (np.isfinite(lam).all() and lam.min() > 0 and sigma > 0):
        return None
    lam = lam / lam.max()
    sizes = np.linalg.norm(rows.m, axis=1)
    residue = float(np.linalg.norm(rows.m.T @ lam) + lam @ (rows.error + len(lam) * EPS * sizes))
    return (lam, residue) if residue < sigma * lam.min() else None


def _ray(rows: _Rows, z: Array) -> Array | None:
    """Return the unit ray near z if it is one: some rows are 0 on it, of rank below dim, and the others strictly negative."""
    size = float(np.linalg.norm(z))
    if not (np.isfinite(size) and size > 0):
        return None
    z = z / size
    v = rows.m @ z
    if (v < -rows.slack).all():
        return z
    for width in ACTIVE:
        active = v > -np.maximum(width, 2 * rows.slack)
        if (v > np.maximum(width, rows.slack)).any():
            continue
        found = _within(rows, active, z)
        if found is not None:
            return found
    return None


def _within(rows: _Rows, active: Mask, z: Array) -> Array | None:
    """Return z moved into the kernel of its active rows, None where they have none near or other rows become positive."""
    held = rows.m[active]
    _, values, right = _svd(held)
    rank = rows.rank(values, held.shape)
    if rank >= held.shape[1]:
        return None
    z = z - right[:rank].T @ (right[:rank] @ z)
    size = float(np.linalg.norm(z))
    if size < 0.5:
        return None
    v = rows.m @ (z / size)
    proven = (np.abs(v) <= rows.slack)[active].all() and (v < -rows.slack)[~active].all()
    return z / size if proven else None


def _svd(m: Array, *, full: bool = False) -> tuple[Array, Array, Array]:
    left, values, right = np.linalg.svd(m, full_matrices=full)
    return left, np.asarray(values, dtype=np.float64), right
