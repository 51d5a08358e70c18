"""Claim: counting 10^7 regions stays under 1 GiB above the baseline, and needs what counting 10^6 needs.

Peak memory is that of a process of its own, above its peak after a small count that loads and compiles everything. The
networks are 6-n-n-1 in [-1, 1]^6 for growing n, in one thread and in two; the arrays of a run grow with the units of a gate
and with the vertices of a chunk of cells, not with the count.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from _common import TOY, report
from torch import nn

from polylens import Box, Network, count_regions, dense

DIM = 6
WIDTHS = (8, 10) if TOY else (16, 24, 36)


def network(width: int) -> Network:
    """Return a random network as PyTorch initialises it."""
    torch.manual_seed(0)
    layers = [nn.Linear(n, m).double() for n, m in itertools.pairwise((DIM, width, width, 1))]
    return dense([(layer.weight, layer.bias) for layer in layers])


def peak_megabytes() -> float:
    per_megabyte = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_megabyte


def child(width: int, n_jobs: int) -> None:
    domain = Box([-1.0] * DIM, [1.0] * DIM)
    count_regions(network(4), domain, n_jobs=n_jobs)
    baseline, begin = peak_megabytes(), time.perf_counter()
    found = count_regions(network(width), domain, n_jobs=n_jobs)
    assert found.complete
    seconds = round(time.perf_counter() - begin, 2)
    print(json.dumps({"regions": found.count, "above_baseline_mb": round(peak_megabytes() - baseline, 1), "seconds": seconds}))


def measured(width: int, n_jobs: int) -> dict[str, Any]:
    """Return the figures of a process that does nothing else."""
    done = subprocess.run([sys.executable, __file__, str(width), str(n_jobs)], capture_output=True, text=True, check=True)
    return {"width": width, "n_jobs": n_jobs, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    runs = [measured(width, n_jobs) for n_jobs in (1, 2) for width in WIDTHS]
    assert [run["regions"] for run in runs[: len(WIDTHS)]] == [run["regions"] for run in runs[len(WIDTHS) :]]
    worst = max(run["above_baseline_mb"] for run in runs)
    one, two = runs[len(WIDTHS) - 1], runs[-1]
    speedup = round(one["seconds"] / two["seconds"], 2) if two["seconds"] else None
    headline = (
        f"{one['regions']:,} regions: {one['above_baseline_mb']:.0f} MB above the baseline ({two['above_baseline_mb']:.0f} MB"
        f" in two threads, which take {one['seconds']:.3g} / {two['seconds']:.3g} = {speedup} times less time)"
    )
    report("memory", headline=headline, runs=runs, worst_mb=worst, under_one_gib=worst < 1024, two_threads_speedup=speedup)


if __name__ == "__main__":
    child(int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else main()
