"""Claim: facets of the region of an MNIST image in 784-256-256-10, certified, come 10 times faster than by an LP a row.

The region within [0, 1]^784 has 2 080 rows. The rival is the textbook way, a cold HiGHS program for each row with the
sides of the box as bounds of variables; both have one thread. It is timed on some rows, drawn at random, in the same run
and extrapolated to all; its verdicts on those rows must agree with ours. `--oracle` runs it on every row instead, once, by
hand (minutes), and keeps the result as results/manual/facets_oracle.json. Without $POLYLENS_DATA only the toy size runs,
on a random network.
"""

from __future__ import annotations

import gzip
import json
import sys
import time

import highspy
import numpy as np
import torch
from _common import RESULTS, TOY, data_file, machine, report, seconds, sized
from numpy.typing import NDArray
from torch import Tensor

from polylens import Network, affine_maps, dense, load
from polylens.facets import Facets, facets
from polylens.polytope import Polytope

Array = NDArray[np.float64]
ORACLE = RESULTS / "manual" / "facets_oracle.json"  # apart from what `make bench` measures and the README shows
NETWORK, IMAGES = ("nets", "mnist-net_256x2.onnx"), ("mnist", "t10k-images-idx3-ubyte.gz")


def rows_of(net: Network, x: Tensor) -> tuple[Array, Array]:
    """Return the rows, of length 1, that keep every unit on its side."""
    maps = affine_maps(net.double(), x.double())
    weight = torch.cat([m.weight.reshape(-1, x.numel()) for m in maps.values()])
    offset = torch.cat([m.offset.reshape(-1) for m in maps.values()])
    side = torch.where(weight @ x.double().reshape(-1) + offset > 0, -1.0, 1.0).double()
    norms = torch.linalg.vector_norm(weight, dim=1)
    assert bool((norms > 0).all())
    return (side[:, None] * weight / norms[:, None]).numpy(), (-side * offset / norms).numpy()


def subject() -> tuple[Network, Tensor] | None:
    """Return the network and the first test image, a small random one in toy runs, or None without data."""
    if TOY:
        gen = torch.Generator().manual_seed(0)
        sizes = [(24, 40), (40, 40), (40, 3)]
        layers = [(torch.randn(m, n, generator=gen) / n**0.5, 0.1 * torch.randn(m, generator=gen)) for n, m in sizes]
        return dense(layers), torch.rand(24, generator=gen)
    net, images = data_file(*NETWORK), data_file(*IMAGES)
    if net is None or images is None:
        return None
    with gzip.open(images) as f:
        pixels = np.frombuffer(f.read(16 + 784), np.uint8, offset=16)
    loaded = load(net)
    return loaded, torch.from_numpy(pixels.astype(np.float64) / 255).reshape(loaded.input_shape)


def cold_program(matrix: Array, bound: Array, row: int) -> float:
    """Return by how much a row (general rows first, then the upper and the lower sides of [0, 1]^n) can be violated."""
    count, dim = matrix.shape
    low, high, upper = np.zeros(dim), np.ones(dim), bound.copy()
    cost, level = np.zeros(dim), 0.0
    if row < count:
        cost, level, upper[row] = matrix[row], bound[row], np.inf
    elif row < count + dim:
        cost[row - count], level, high[row - count] = 1.0, 1.0, 10.0
    else:
        cost[row - count - dim], low[row - count - dim] = -1.0, -10.0
    model, solver = highspy.HighsLp(), highspy.Highs()
    solver.silent()
    solver.setOptionValue("threads", 1)
    model.num_row_, model.num_col_ = count, dim
    model.col_cost_, model.col_lower_, model.col_upper_ = -cost, low, high
    model.row_lower_, model.row_upper_ = np.full(count, -np.inf), upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.arange(count + 1, dtype=np.int32) * dim
    model.a_matrix_.index_ = np.tile(np.arange(dim, dtype=np.int32), count)
    model.a_matrix_.value_ = matrix.reshape(-1)
    solver.passModel(model)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return float(-solver.getInfo().objective_function_value) - level


def check(found: Facets, row: int, excess: float) -> bool:
    """Say whether a program agrees: it can violate facets and no other row. Its own accuracy is 1e-7."""
    assert found.complete
    return (int(found.facet_of_row[row]) >= 0) == (excess > 1e-7)


def oracle(matrix: Array, bound: Array, found: Facets) -> None:
    """Compare all rows and keep the result."""
    start = time.perf_counter()
    excesses = [cold_program(matrix, bound, row) for row in range(len(found.facet_of_row))]
    taken = time.perf_counter() - start
    differing = [row for row, excess in enumerate(excesses) if not check(found, row, excess)]
    assert not differing, f"rows on which the programs disagree: {[(r, excesses[r]) for r in differing]}"
    on_facets = [e for e in excesses if e > 1e-7]
    figures = {
        "headline": f"all {len(excesses)} rows agree",
        "rows": len(excesses),
        "facets": found.num_facets,
        "least_excess_of_a_facet": min(on_facets),
        "greatest_excess_of_another_row": max((e for e in excesses if e <= 1e-7), default=None),
        "programs_s": round(taken, 1),
    }
    print(json.dumps(figures), flush=True)
    if not TOY:
        ORACLE.parent.mkdir(parents=True, exist_ok=True)
        ORACLE.write_text(json.dumps({"benchmark": "facets", **figures, "machine": machine()}, indent=2) + "\n")


def main() -> None:
    torch.set_num_threads(1)  # as the solver has one; two threads on a busy machine also wait for each other a lot
    chosen = subject()
    if chosen is None:
        print("bench_facets: skipped: POLYLENS_DATA does not name a folder with", "/".join(NETWORK), "and", "/".join(IMAGES))
        return
    matrix, bound = rows_of(*chosen)
    dim = matrix.shape[1]
    polytope = Polytope.of(matrix, bound) & Polytope.box([0.0] * dim, [1.0] * dim)
    found = facets(polytope)
    assert found.complete
    if "--oracle" in sys.argv:
        oracle(matrix, bound, found)
        return
    sample = np.random.default_rng(0).choice(len(polytope), sized(50, 10), replace=False).tolist()
    ours, cold = [], 0.0
    for part in np.array_split(sample, 5):  # in turn, so that a slow moment of the machine meets both
        ours.append(seconds(lambda: facets(polytope)))
        start = time.perf_counter()
        excesses = [cold_program(matrix, bound, row) for row in part]
        cold += time.perf_counter() - start
        assert all(check(found, row, excess) for row, excess in zip(part, excesses, strict=True))
    per_row, median = cold / len(sample), float(np.median(ours))
    extrapolated = per_row * len(polytope)
    report(
        "facets",
        headline=f"{extrapolated / median:.0f} times: {median:.1f} s, an LP a row {extrapolated:.0f} s"
        f" (extrapolated from {len(sample)} rows)",
        rows=len(polytope),
        facets=found.num_facets,
        redundant=len(found.redundant),
        undecided=len(found.undecided),
        how=found.how,
        ours_s=round(median, 3),
        ours_min_s=round(min(ours), 3),
        ours_max_s=round(max(ours), 3),
        lp_per_row_s=round(per_row, 4),
        lp_all_rows_s=round(extrapolated, 1),
        speed_up=round(extrapolated / median, 1),
    )


if __name__ == "__main__":
    main()
