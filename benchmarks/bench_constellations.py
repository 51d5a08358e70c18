"""Claim: single-linkage constellations of 16 000 patterns of 2 048 bits take less than 3 s and 200 MB, a part of scipy's.

Each contender runs in a process of its own on the same bits, and says how long it took, once it is compiled, and how far
memory rose at its peak above what it was when the bits lay there (Linux counts it); the sum of all heights and the number of
clusters at every threshold are asserted equal. scipy gets its distances from the package's own compiled kernel. Ours is the
whole of `constellations` without random patterns: the spanning tree, the hierarchy and the diameters of all clusters; the
tree alone stands beside it. The second part takes 60 000 MNIST images through the 512 units of a network, with the curve of
random patterns of the same frequencies.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
from _common import TOY, data_file, report, seconds, sized

COUNT, BITS = sized(16_000, 1_500), sized(2_048, 256)
REPEATS = sized(5, 1)
START = f"""
import ctypes, json, time
from pathlib import Path
import numpy as np
import torch
from polylens import Patterns, UnitLayer, constellations

def memory(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))

def begin():
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not hide what is taken now
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    return memory("VmRSS")

def bits():
    generator = np.random.default_rng(0)
    centres = generator.random((40, {BITS})) < 0.5  # groups within groups, so that heights differ
    found = centres[generator.integers(0, 40, {COUNT})]
    for start in range(0, {COUNT}, 1000):
        part = found[start : start + 1000]
        part ^= generator.random(part.shape) < generator.random((len(part), 1)) / 3
    return found

def patterns(on):
    return Patterns.from_pieces([UnitLayer("relu", "relu", ({BITS},))], [torch.from_numpy(on)])
"""
OURS = """
constellations(patterns(bits()[:200]), null=())  # compile, or take what is compiled from the cache
from polylens._clusters.tree import spanning_tree
given = patterns(bits())
before = begin()
start = time.perf_counter()
found = constellations(given, null=())
took = time.perf_counter() - start
rose = memory("VmHWM") - before
start = time.perf_counter()
spanning_tree(given.words())
tree = time.perf_counter() - start
weight, clusters = int(found.gaps.sum()), found.counts.tolist()
print(json.dumps({"s": took, "tree_s": tree, "bytes": rose, "weight": weight, "clusters": clusters}))
"""
SCIPY = """
from scipy.cluster.hierarchy import linkage
given = patterns(bits())
given[:500].distances(given)  # compiled, as ours are
before = begin()
start = time.perf_counter()
size, at = len(given), 0
condensed = np.empty(size * (size - 1) // 2)
for first in range(0, size, 500):  # scipy's own distances of bits take far longer
    for i, row in enumerate(given[first : first + 500].distances(given[first:]).numpy()):
        condensed[at : at + len(row) - i - 1] = row[i + 1 :]
        at += len(row) - i - 1
heights = linkage(condensed, "single")[:, 2]
took = time.perf_counter() - start
clusters = len(given) - np.searchsorted(heights, np.arange(given.num_units + 1), side="right")
print(json.dumps({"s": took, "bytes": memory("VmHWM") - before, "weight": int(heights.sum()), "clusters": clusters.tolist()}))
"""


def run(code: str) -> dict[str, Any]:
    """Return what a process of its own printed."""
    done = subprocess.run([sys.executable, "-c", START + code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def middle(runs: list[dict[str, Any]], name: str) -> float:
    return float(f"{np.median([one[name] for one in runs]):.4g}")


def against_scipy() -> dict[str, Any]:
    """Return the figures of both contenders, in turn."""
    ours, scipys = [], []
    for _ in range(REPEATS):
        ours.append(run(OURS))
        scipys.append(run(SCIPY))
    assert all(one["weight"] == ours[0]["weight"] and one["clusters"] == ours[0]["clusters"] for one in ours + scipys)
    times, memory = ({"ours": middle(ours, name), "scipy": middle(scipys, name)} for name in ("s", "bytes"))
    return {
        "patterns": COUNT,
        "bits": BITS,
        "ours_s": times["ours"],
        "ours_tree_s": middle(ours, "tree_s"),
        "scipy_s": times["scipy"],
        "ours_mb": round(memory["ours"] / 1e6, 1),
        "scipy_mb": round(memory["scipy"] / 1e6, 1),
        "ratio": float(f"{times['scipy'] / times['ours']:.3g}"),
        "repeats": REPEATS,
    }


def of_images() -> dict[str, Any]:
    """Return what the curves of 60 000 images take, or say why there are none."""
    import polylens
    from polylens.data import read_data

    net_file, images = data_file("nets", "mnist-net_256x2.onnx"), data_file("mnist", "train-images-idx3-ubyte.gz")
    if TOY or net_file is None or images is None:
        print("60 000 images: only in a full run, with POLYLENS_DATA", flush=True)
        return {}
    net = polylens.load(net_file)
    data = read_data(images).fitted(net.input_shape)
    p = polylens.patterns(net, data.inputs)
    alone = seconds(lambda: polylens.constellations(p, null=()))
    found = polylens.constellations(p, null=("marginals",), labels=data.labels)
    assert int(found.counts[-1]) == 1
    assert found.score == float(found.counts[:-1].sum())
    agreement = found.agreement()
    best = int(agreement.adjusted_rand.argmax())
    return {
        "images": len(p),
        "units": p.num_units,
        "curve_s": float(f"{alone:.4g}"),
        "curve_and_null_s": float(f"{seconds(lambda: polylens.constellations(p, null=('marginals',))):.4g}"),
        "normalised": float(f"{found.normalised:.4g}"),
        "best_threshold": best,
        "best_adjusted_rand": float(f"{agreement.adjusted_rand[best]:.3g}"),
    }


if __name__ == "__main__":
    figures = against_scipy()
    ours, theirs = (f"{figures[f'{name}_s']:.2g} s and {figures[f'{name}_mb']:.0f} MB" for name in ("ours", "scipy"))
    headline = f"{ours}; scipy {theirs}"
    report("constellations", headline=headline, **figures, **of_images())
