"""Claim: all pairs of 16 000 x 2 048 bits within 1.2 times the best of a compiled popcount and faiss, one thread each.

Rivals in the same run: the obvious compiled loop (exclusive or and popcount, tiles of 32 x 256, as C or numba would have it),
faiss's binary index where faiss is installed, numpy's bitwise_count in blocks and row by row, torch's int8 product. Each counts
the same histogram of all pairs of two inputs, or finds the same distances of the ten nearest, and is checked. faiss and the
products fill a matrix block by block, which is counted; "matrix" times are without the counting. And what 60 000 MNIST images x
512 units take: frequencies, all pairs, ten nearest neighbours.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from importlib import util
from typing import Any

import numpy as np
import torch
from _common import data_file, paired, report, seconds, sized
from numba import njit

from polylens import Patterns, UnitLayer, frequencies, hamming, load, patterns
from polylens._kernels.compiled import popcount
from polylens._kernels.popcount import histograms
from polylens.data import read_data

Array = np.ndarray[Any, Any]
COUNT, BITS, NEAREST = sized(16_000, 700), 2_048, 10
BLOCK = 256


@njit(nogil=True)
def loop(words: Array, histogram: Array) -> None:
    """Count all pairs with the loop that one would write: 32 x 256 rows at a time, one pair after the other."""
    count, width = words.shape
    for top in range(0, count, 32):
        for left in range(top, count, 256):
            for i in range(top, min(count, top + 32)):
                for j in range(max(left, i + 1), min(count, left + 256)):
                    total = 0
                    for k in range(width):
                        total += popcount(words[i, k] ^ words[j, k])
                    histogram[total] += 1


def by_loop(words: Array) -> Array:
    out = np.zeros(BITS + 1, np.int64)
    loop(words, out)
    return out


def halved(full: Array, count: int) -> Array:
    """Return the counts of pairs of two inputs from those of all ordered pairs, an input with itself among them."""
    full[0] -= count
    return full // 2


def by_blocks(blocks: Iterator[Array], count: int) -> Array:
    out = np.zeros(BITS + 1, np.int64)
    for block in blocks:
        out += np.bincount(block.ravel(), minlength=BITS + 1)
    return halved(out, count)


def numpy_blocks(words: Array) -> Iterator[Array]:
    for top in range(0, len(words), BLOCK):
        part = np.zeros((min(BLOCK, len(words) - top), len(words)), np.int32)
        for word in range(words.shape[1]):
            part += np.bitwise_count(words[top : top + BLOCK, word, None] ^ words[None, :, word])
        yield part


def numpy_rows(words: Array) -> Iterator[Array]:
    for row in words:
        yield np.bitwise_count(row ^ words).sum(1, dtype=np.int64)


def torch_products(words: Array) -> Iterator[Array]:
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    signs = torch.from_numpy(bits.astype(np.int8) * 2 - 1)
    for top in range(0, len(signs), 1024):
        product = torch._int_mm(signs[top : top + 1024], signs.T)
        yield ((BITS - product) // 2).numpy()


def faiss_blocks(words: Array) -> Iterator[Array]:
    import faiss

    flat = np.ascontiguousarray(words.view(np.uint8))
    out = np.empty((BLOCK, len(flat)), np.int32)
    for top in range(0, len(flat), BLOCK):
        part = flat[top : top + BLOCK]
        faiss.hammings(faiss.swig_ptr(part), faiss.swig_ptr(flat), len(part), len(flat), flat.shape[1], faiss.swig_ptr(out))
        yield out[: len(part)]


def drained(blocks: Iterator[Array]) -> int:
    return sum(int(block[0, 0]) if block.ndim > 1 else int(block[0]) for block in blocks)


def faiss_nearest(words: Array) -> Array:
    """Return the distances of the ten nearest others: the nearest of eleven is the input itself, or one at distance 0 too."""
    import faiss

    index = faiss.IndexBinaryFlat(BITS)
    flat = np.ascontiguousarray(words.view(np.uint8))
    index.add(flat)
    return index.search(flat, NEAREST + 1)[0][:, 1:]


def random_patterns() -> Patterns:
    """Return patterns around a hundred centres, so that neighbours are nearer than others and some coincide."""
    g = torch.Generator().manual_seed(0)
    centre = torch.rand(100, BITS, generator=g) < 0.5
    bits = torch.empty(COUNT, BITS, dtype=torch.bool)
    for start in range(0, COUNT, 1000):
        part = bits[start : start + 1000]
        flip = torch.rand(len(part), BITS, generator=g) < 0.2 * torch.rand(len(part), 1, generator=g)
        part.copy_(centre[torch.randint(100, (len(part),), generator=g)] ^ flip)
    return Patterns.from_pieces([UnitLayer("bits", "relu", (BITS,))], [bits])


def all_pairs(p: Patterns) -> dict[str, Any]:
    words, segments = p.words(), p.segments()
    rivals: dict[str, Callable[[], Array]] = {"compiled loop": lambda: by_loop(words)}
    if util.find_spec("faiss"):
        rivals["faiss, matrix in blocks"] = lambda: by_blocks(faiss_blocks(words), len(words))
    want = histograms(words, None, segments, BITS)[0, 0]
    assert want.sum() == COUNT * (COUNT - 1) // 2
    figures: dict[str, Any] = {}
    for name, rival in rivals.items():
        assert np.array_equal(rival(), want), name
        figures[name] = paired(lambda: histograms(words, None, segments, BITS), rival, repeats=5)
    if util.find_spec("faiss"):
        figures["faiss, matrix uncounted"] = paired(
            lambda: histograms(words, None, segments, BITS), lambda: drained(faiss_blocks(words)), repeats=5
        )
    slow = {"numpy in blocks": numpy_blocks, "numpy row by row": numpy_rows, "torch int8 product": torch_products}
    for name, blocks in slow.items():
        found: list[Array] = []
        figures[f"{name}_s"] = round(seconds(lambda b=blocks, f=found: f.append(by_blocks(b(words), COUNT))), 4)
        assert np.array_equal(found[0], want), name
    figures["whole result_s"] = round(statistics.median(seconds(lambda: hamming(p)) for _ in range(3)), 4)
    return figures


def nearest(p: Patterns) -> dict[str, Any]:
    found = p.neighbours(NEAREST)
    if not util.find_spec("faiss"):
        return {"own_s": round(seconds(lambda: p.neighbours(NEAREST)), 4)}
    assert np.array_equal(faiss_nearest(p.words()), found.distances.numpy())
    return paired(lambda: p.neighbours(NEAREST), lambda: faiss_nearest(p.words()), repeats=5)


def images() -> dict[str, Any] | None:
    model, data = data_file("nets", "mnist-net_256x2.onnx"), data_file("mnist", "train-images-idx3-ubyte.gz")
    if model is None or data is None:
        return None
    net = load(model)
    x = read_data(data).first(sized(60_000, 500)).fitted(net.input_shape).inputs
    p = patterns(net, x)
    hamming(p[:50]), p[:50].neighbours(NEAREST)  # compiled, or read from the cache, before the clock runs
    times = {
        "frequencies_s": seconds(lambda: frequencies(net, x)),
        "all_pairs_s": seconds(lambda: hamming(p)),
        "ten_nearest_s": seconds(lambda: p.neighbours(NEAREST)),
    }
    return {"images": len(x), "units": p.num_units} | {name: round(value, 4) for name, value in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    if util.find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(1)
    else:
        print("bench_hamming: faiss is not installed (pip install faiss-cpu); its figures are left out")
    p = random_patterns()
    mnist = images()
    if mnist is None:
        print("bench_hamming: POLYLENS_DATA does not name the MNIST network and images; those figures are left out")
    pairs = all_pairs(p)
    timed = {name: row for name, row in pairs.items() if isinstance(row, dict)}
    words = "; ".join(f"{row['ratio']:.2f} times the {name}" for name, row in timed.items())
    report(
        "hamming",
        headline=f"{next(iter(timed.values()))['a_s']:.2g} s: {words}",
        inputs=COUNT,
        bits=BITS,
        all_pairs=pairs,
        ten_nearest=nearest(p),
        mnist=mnist,
    )


if __name__ == "__main__":
    main()
