"""Claim: whether a layer's preimage is bounded is proven, with a certificate, hundreds of times faster than by a program.

The instances are the rows that inequalities leave on the kernel of the equalities: Gaussian ones of MNIST-sized layers, all
units off (3500 x 784) or 392 of them on (3108 x 392); some near the threshold of twice as many rows as dimensions; rows
that all but hide a ray. Ours ends with a verified certificate. The rivals, in the same run and on the same matrix, solve
max sum u, A z + u <= 0, 0 <= u <= 1 with scipy's `linprog` as it comes, which is HiGHS's dual simplex, and with HiGHS's
interior points; nonnegative least squares alone stands beside them. A program that takes more than `LIMIT` seconds is cut
off, and its ratio a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _common import report, seconds, sized
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

from polylens import is_omnidirectional

Array = NDArray[np.float64]
LIMIT = 100.0
NAMES = ("all off", "392 on", "planted ray", "near the threshold", "hidden ray", "small", "small, planted ray")


def instance(name: str) -> tuple[Array, bool | None]:
    """Return the matrix of an instance and the answer where it is known by construction."""
    rng = np.random.default_rng(NAMES.index(name))
    shapes = {"392 on": (3108, 392), "near the threshold": (1600, 784), "small": (600, 150), "small, planted ray": (600, 150)}
    rows, dim = shapes.get(name, (3500, 784))
    matrix = rng.standard_normal((sized(rows, rows // 20), sized(dim, dim // 20)))
    way = rng.standard_normal(matrix.shape[1])
    way /= np.linalg.norm(way)
    along = matrix @ way
    if name.endswith("planted ray"):
        return matrix - 2 * np.outer(np.maximum(along, 0), way), False
    if name == "hidden ray":
        return matrix - np.outer(along + 1e-3 * np.abs(along), way), False
    return matrix, None


def program(matrix: Array, method: str) -> bool | None:
    """Return whether the greatest sum of u with A z + u <= 0, 0 <= u <= 1 is 0: omnidirectional, given full rank.

    None where the solver was cut off or failed.
    """
    rows, dim = matrix.shape
    cost = np.concatenate([np.zeros(dim), -np.ones(rows)])
    bounds = [(None, None)] * dim + [(0, 1)] * rows
    limit = {"time_limit": LIMIT}
    found = linprog(cost, np.hstack([matrix, np.eye(rows)]), np.zeros(rows), bounds=bounds, method=method, options=limit)
    return bool(-found.fun < 1e-6) if found.status == 0 else None


def least_squares(matrix: Array) -> bool | None:
    """Return whether min |M^T (1 + mu)| is 0, None where scipy's iterations are used up."""
    try:
        _, residual = nnls(matrix.T, -matrix.sum(0))
    except RuntimeError:
        return None
    return bool(residual < 1e-8 * len(matrix))


def measured(name: str) -> dict[str, Any]:
    """Return the figures of one instance, its answer checked first."""
    matrix, known = instance(name)
    tensor = torch.from_numpy(matrix)
    found = is_omnidirectional(tensor)
    assert found.answer is not None
    assert known is None or found.answer is known
    check(matrix, found.multipliers, found.ray)
    ours = min(seconds(lambda: is_omnidirectional(tensor)) for _ in range(3))
    rivals: dict[str, Callable[[], bool | None]] = {"nnls": lambda: least_squares(matrix)}
    for method in ("highs", "highs-ipm"):
        rivals[method] = lambda method=method: program(matrix, method)  # type: ignore[misc]
    figures: dict[str, Any] = {
        "rows": matrix.shape[0],
        "dim": matrix.shape[1],
        "answer": found.answer,
        "ours_s": round(ours, 4),
    }
    for rival, run in rivals.items():
        said: list[bool | None] = []
        taken = seconds(lambda run=run, said=said: said.append(run()))  # type: ignore[misc]
        figures |= {
            f"{rival}_s": round(taken, 3),
            f"{rival}_ratio": round(taken / ours, 1),
            f"{rival}_agrees": None if said[0] is None else said[0] is found.answer,
        }
    return figures


def check(matrix: Array, multipliers: torch.Tensor | None, ray: torch.Tensor | None) -> None:
    """Hold the certificate against plain products."""
    if multipliers is not None:
        lam = multipliers.numpy()
        assert lam.min() > 0
        assert np.linalg.norm(matrix.T @ lam) < np.linalg.svd(matrix, compute_uv=False)[-1] * lam.min()
    if ray is not None:
        assert (matrix @ ray.numpy()).max() <= 1e-11 * np.linalg.norm(matrix, axis=1).max()


def main() -> None:
    torch.set_num_threads(1)
    figures = {name: measured(name) for name in NAMES}
    first, small = figures["all off"], figures["392 on"]
    least = min(row["highs_ratio"] for row in figures.values())
    report(
        "omnidirectional",
        headline=f"{first['rows']} x {first['dim']} in {first['ours_s']:.2g} s, linprog takes {first['highs_ratio']:.0f} times"
        f" as long; {small['rows']} x {small['dim']} {small['highs_ratio']:.0f} times; at least {least:.1f} times on"
        f" {len(figures)} instances",
        **figures,
    )


if __name__ == "__main__":
    main()
