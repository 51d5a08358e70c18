"""Activation patterns, packed: which piece every unit is on, for many inputs at once.

A layer of units with p pieces takes ceil(log2 p) bit planes (one for ReLU); a plane holds one bit per unit, in
64-bit words, little endian. This module knows layers by name and shape and nothing of networks.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, SupportsIndex, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import _moments
from ._check import whole
from ._types import Result
from .errors import InputError

Words = npt.NDArray[np.uint64]
_BLOCK = 1 << 24  # bytes of temporaries per block of the loops below
_COLUMNS = 1 << 14  # of a matrix of covariances, which takes 2 GB then


@final
@dataclass(frozen=True, slots=True)
class UnitLayer:
    """What one gate chooses: its name, kind, the shape of one sample, how many pieces there are to choose from.

    The entries are units, or windows where the layer is a max-gate (`is_max`); packing treats both alike.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    num_pieces: int = 2
    is_max: bool = False

    @property
    def num_units(self) -> int:
        """How many units the layer has, or windows if it is a max-gate."""
        return math.prod(self.shape)

    @property
    def planes(self) -> int:
        """How many bits tell the pieces of one unit apart."""
        return max(1, (self.num_pieces - 1).bit_length())

    @property
    def plane_bytes(self) -> int:
        """How many bytes one bit plane takes: a whole number of 64-bit words."""
        return -(-self.num_units // 64) * 8

    @property
    def num_bytes(self) -> int:
        """How many bytes one pattern of the layer takes."""
        return self.planes * self.plane_bytes

    def pack(self, pieces: Tensor) -> npt.NDArray[np.uint8]:
        """Return pieces (batch, *shape) packed to (batch, num_bytes)."""
        flat = pieces.reshape(len(pieces), self.num_units).cpu().numpy()
        packed = np.zeros((len(flat), self.planes, self.plane_bytes), np.uint8)
        for plane in range(self.planes):
            bits = flat if flat.dtype == np.bool_ else (flat >> plane) & 1
            if bits.shape[1]:
                packed[:, plane, : -(-bits.shape[1] // 8)] = np.packbits(bits, axis=1, bitorder="little")
        return packed.reshape(len(flat), self.num_bytes)

    def unpack(self, packed: npt.NDArray[np.uint8]) -> Tensor:
        """Return packed patterns (batch, num_bytes) as pieces (batch, *shape): bool for two pieces, else int64."""
        planes = packed.reshape(len(packed), self.planes, self.plane_bytes)
        bits = np.unpackbits(planes, axis=2, count=self.num_units, bitorder="little")
        if self.num_pieces <= 2:
            return torch.from_numpy(bits[:, 0].astype(np.bool_)).reshape(len(packed), *self.shape)
        pieces = np.zeros((len(packed), self.num_units), np.int64)
        for k in range(self.planes):
            pieces |= bits[:, k].astype(np.int64) << k
        return torch.from_numpy(pieces).reshape(len(packed), *self.shape)


class Neighbours(NamedTuple):
    """The nearest patterns of each pattern: their positions (batch, k) and Hamming distances (batch, k), nearest first."""

    positions: Tensor
    distances: Tensor


class Interval(NamedTuple):
    """What a quantity of every unit lies between: `low` and `high` (*shape), float64."""

    low: Tensor
    high: Tensor


class DistanceMoments(NamedTuple):
    """Moments of the Hamming distances of all pairs: `means` (layers,) and `covariance` (layers, layers), float64.

    `mean` and `variance` are those of the whole distance, the sum over layers; `mean_error` and `variance_error` their
    standard errors by the jackknife over inputs (pairs share inputs, so pairs are no sample), NaN for fewer than four inputs.
    """

    means: Tensor
    covariance: Tensor
    mean_error: float
    variance_error: float

    @property
    def mean(self) -> float:
        """The mean distance, over all layers together."""
        return float(self.means.sum())

    @property
    def variance(self) -> float:
        """The variance of the distance, over all layers together."""
        return float(self.covariance.sum())

    @property
    def correlation(self) -> Tensor:
        """How the distances at two layers go together over pairs: (layers, layers), NaN where a layer's do not vary."""
        spread = self.covariance.diagonal().clamp(min=0).sqrt()
        return self.covariance / (spread[:, None] * spread)


class UniquePatterns(NamedTuple):
    """The distinct patterns in order of first appearance, where each input went, and how many inputs share each."""

    patterns: Patterns
    inverse: Tensor
    counts: Tensor


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Patterns(Result):
    """The activation patterns of a batch of inputs: `packed` (batch, bytes), uint8, the layers side by side.

    A sequence: `len(p)`, `p[3]` (a batch of one), `p[mask]`, which may select none. Two are equal when they hold the same
    layers and the same patterns in the same order; the hash is that of the content, so a single pattern is a dictionary
    key.
    """

    packed: Tensor
    layers: tuple[UnitLayer, ...]

    def __post_init__(self) -> None:
        want = sum(layer.num_bytes for layer in self.layers)
        if self.packed.dtype != torch.uint8 or self.packed.ndim != 2 or self.packed.shape[1] != want:
            got = f"{tuple(self.packed.shape)} of {self.packed.dtype}"
            raise InputError(f"packed patterns: expected uint8 of shape (batch, {want}); got {got}")

    @classmethod
    def from_pieces(cls, layers: Sequence[UnitLayer], pieces: Sequence[Tensor], batch: int | None = None) -> Patterns:
        """Return the patterns of the given pieces, one tensor (batch, *shape) for each layer.

        `batch` is needed only where there are no layers at all.
        """
        size = len(pieces[0]) if pieces else batch or 0
        packed = np.zeros((size, sum(layer.num_bytes for layer in layers)), np.uint8)
        start = 0
        for layer, piece in zip(layers, pieces, strict=True):
            packed[:, start : start + layer.num_bytes] = layer.pack(piece)
            start += layer.num_bytes
        return cls(torch.from_numpy(packed), tuple(layers))

    @classmethod
    def concat(cls, parts: Sequence[Patterns]) -> Patterns:
        """Return several batches as one; their layers must be the same."""
        if not parts or any(part.layers != parts[0].layers for part in parts):
            raise InputError(f"patterns to join: expected one or more with equal layers; got {len(parts)} that differ")
        return cls(torch.cat([part.packed for part in parts]), parts[0].layers)

    def __len__(self) -> int:
        return len(self.packed)

    def __iter__(self) -> Iterator[Patterns]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: SupportsIndex | slice | Sequence[int] | Tensor | npt.NDArray[Any]) -> Patterns:
        if isinstance(index, SupportsIndex) and getattr(index, "ndim", 0) == 0:
            index = operator.index(index)
            if not -len(self) <= index < len(self):
                raise IndexError(f"pattern {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        return Patterns(self.packed[index], self.layers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Patterns):
            return NotImplemented
        return self.layers == other.layers and torch.equal(self.packed, other.packed)

    def __hash__(self) -> int:
        return hash((self.layers, self.packed.numpy().tobytes()))

    def __repr__(self) -> str:
        return f"Patterns({len(self)} inputs, {self._size()}, {len(self.layers)} layers)"

    @property
    def num_units(self) -> int:
        """How many units one pattern covers; the windows of max-gates are counted apart."""
        return sum(layer.num_units for layer in self.layers if not layer.is_max)

    @property
    def num_windows(self) -> int:
        """How many windows of max-gates one pattern covers."""
        return sum(layer.num_units for layer in self.layers if layer.is_max)

    def layer(self, *names: str | int) -> Patterns:
        """Return the patterns of the named layers alone (names as in `layers`, or positions), without a copy for one.

        Raises InputError for a name that no layer has, and for no names.
        """
        if not names:
            raise InputError(f"layer: expected one or more of {[a.name for a in self.layers]}; got none")
        wanted = [_position(self.layers, name) for name in names]
        parts = [self.packed[:, self._columns(i)] for i in wanted]
        packed = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return Patterns(packed, tuple(self.layers[i] for i in wanted))

    def pieces(self, name: str | int = 0) -> Tensor:
        """Return which piece every unit of a layer is on: (batch, *shape), bool for two pieces, else int64."""
        i = _position(self.layers, name)
        return self.layers[i].unpack(self.packed[:, self._columns(i)].numpy())

    def matches(self, other: Patterns) -> Tensor:
        """Return which rows hold the same pattern as `other`'s: (batch,) of bool; a batch of one is compared to all."""
        self._same_layers(other)
        return (self.packed == other.packed).all(1)

    def distances(self, other: Patterns | None = None) -> Tensor:
        """Return the Hamming distances to `other`'s patterns (to its own when None): (batch, other batch), int64.

        A distance counts the units and windows that are on different pieces, whatever their number of pieces. Patterns of
        no units are at distance 0; an empty selection has a matrix without rows. Raises InputError for other layers.

        Algorithm: exclusive or and population count of 64-bit words, compiled; O(batch * other * units / 64), half of that
        among its own. The matrix is all the memory that it takes; `hamming` counts distances without one.
        """
        from ._kernels.popcount import matrix

        self._same_layers(self if other is None else other)
        return torch.from_numpy(matrix(self.words(), None if other is None else other.words(), self.segments()))

    def neighbours(self, k: int, other: Patterns | None = None) -> Neighbours:
        """Return the k nearest of `other`'s patterns (of all others of its own when None), and their Hamming distances.

        Nearest first; of patterns at one distance the one that comes first. Distances are as in `distances`. Raises
        InputError for other layers, and where there are fewer than k to choose from.

        Algorithm: all distances, as in `distances`, a tile at a time; memory O(batch * k).
        """
        from ._kernels.popcount import nearest

        self._same_layers(self if other is None else other)
        choice = max(0, len(self) - 1) if other is None else len(other)
        if whole(k, "k") > choice:
            raise InputError(f"k: expected at most {choice}, the number of patterns to choose from; got {k}")
        index, distance = nearest(self.words(), None if other is None else other.words(), self.segments(), k)
        return Neighbours(torch.from_numpy(index), torch.from_numpy(distance))

    def distance_moments(self) -> DistanceMoments:
        """Return mean and covariance, by layer, of the Hamming distances of all pairs of two patterns, without the pairs.

        With p the frequencies, the mean over all ordered pairs, an input with itself among them, is sum 2 p (1 - p); with s
        the signs, m their means and C their covariance, the variance is 1/4 sum_jk (C_jk^2 + 2 C_jk m_j m_k). Here the N
        pairs of an input with itself are taken out, so that both are what a count over all pairs gives. Units of more
        pieces have an indicator for each piece in place of a sign.

        Raises InputError for fewer than two patterns, and for more than 16 384 units (`hamming` counts distances then).

        Algorithm: products of blocks of signs, O(batch * units^2), twice for the errors; memory O(units^2).
        """
        codes, blocks = self.codes(), self.code_blocks
        if len(self) < 2 or len(codes.weight) > _COLUMNS:
            got = f"{len(self)} of {len(codes.weight)} columns"
            raise InputError(f"distance_moments: expected two patterns or more, of at most {_COLUMNS} columns; got {got}")
        sums, product = _moments.total(blocks, len(codes.weight)), _moments.gram(blocks, len(codes.weight))
        mean, covariance = _moments.moments(len(self), sums, product, codes)
        errors = _moments.moment_errors(*_moments.row_sums(blocks, len(self), sums, product, codes))
        return DistanceMoments(torch.from_numpy(mean), torch.from_numpy(covariance), *errors)

    def unique(self) -> UniquePatterns:
        """Return the distinct patterns in order of first appearance, with inverse (batch,) and counts.

        An empty selection has none; patterns of no units are all one. Algorithm: a sort, O(batch log batch) comparisons.
        """
        rows = np.ascontiguousarray(self.packed.numpy())
        keys = rows.view(np.dtype((np.void, rows.shape[1]))).reshape(-1) if rows.shape[1] else np.zeros(len(rows), np.uint8)
        _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return UniquePatterns(
            self[torch.from_numpy(first[order])], torch.from_numpy(rank[inverse]), torch.from_numpy(counts[order])
        )

    def frequencies(self) -> Frequencies:
        """Return how often every unit is on each of its pieces, counted in blocks of bounded memory.

        Raises InputError for an empty selection, of which there are no fractions.
        """
        if not len(self):
            raise InputError("frequencies: expected patterns of one input or more; got an empty selection")
        counts = []
        for i, layer in enumerate(self.layers):
            total = torch.zeros(layer.num_pieces, *layer.shape, dtype=torch.int64, device="cpu")
            rows = max(1, _BLOCK // max(1, 8 * layer.num_units))
            for start in range(0, len(self), rows):
                pieces = layer.unpack(self.packed[start : start + rows, self._columns(i)].numpy())
                for k in range(1, layer.num_pieces):
                    total[k] += (pieces == k).sum(0)
            total[0] = len(self) - total[1:].sum(0)
            counts.append(total)
        return Frequencies(self.layers, tuple(counts), len(self))

    def words(self) -> Words:
        """Return the patterns as 64-bit words (batch, bytes / 8), what the compiled kernels read; shared where they can be."""
        return np.ascontiguousarray(self.packed.numpy()).view(np.uint64)

    def segments(self) -> npt.NDArray[np.int64]:
        """Return where each layer lies among the words: (layers, 4) of first word, words in a plane, planes, 1 for windows."""
        sizes = np.array([[a.plane_bytes // 8, a.planes, int(a.is_max)] for a in self.layers], np.int64).reshape(-1, 3)
        ends = np.cumsum(sizes[:, 0] * sizes[:, 1])
        return np.column_stack([ends - sizes[:, 0] * sizes[:, 1], sizes])

    def codes(self) -> _moments.Codes:
        """Return what the columns of `code_blocks` stand for: twice a distance is a constant less a product of codes."""
        pairs = [(a.num_units, 1) if a.num_pieces <= 2 else (a.num_units * a.num_pieces, 2) for a in self.layers]
        sizes = [columns for columns, _ in pairs]
        weight = np.repeat([float(w) for _, w in pairs], sizes)
        constant = np.array([float(a.num_units * w) for a, (_, w) in zip(self.layers, pairs, strict=True)])
        return _moments.Codes(weight, np.repeat(np.arange(len(pairs)), sizes), constant)

    def code_blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the patterns as float32 codes, some rows at a time: a sign a unit, or an indicator for each of its pieces."""
        width = sum(a.num_units * (1 if a.num_pieces <= 2 else a.num_pieces) for a in self.layers)
        rows = max(1, _BLOCK // max(1, 8 * width))
        for start in range(0, len(self), rows):
            part = self[start : start + rows]
            yield np.concatenate([part._coded(i) for i in range(len(self.layers))] or [np.zeros((len(part), 0), np.float32)], 1)

    def summary(self) -> str:
        lines = [f"{len(self)} patterns of {self._size()}, {len(self.unique().patterns)} of them distinct"]
        lines += [f"  {layer.name}: {layer.kind}, shape {layer.shape}" for layer in self.layers]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        layers = [{"name": a.name, "kind": a.kind, "shape": list(a.shape), "pieces": a.num_pieces} for a in self.layers]
        sizes = {"num_units": self.num_units, "num_windows": self.num_windows}
        return {"count": len(self), **sizes, "distinct": len(self.unique().patterns), "layers": layers}

    def _size(self) -> str:
        return f"{self.num_units} units" + (f" and {self.num_windows} windows" if self.num_windows else "")

    def _columns(self, i: int) -> slice:
        start = sum(layer.num_bytes for layer in self.layers[:i])
        return slice(start, start + self.layers[i].num_bytes)

    def _same_layers(self, other: Patterns) -> None:
        if self.layers != other.layers:
            raise InputError(f"patterns to compare: expected the same layers; got {self!r} and {other!r}")

    def _coded(self, i: int) -> npt.NDArray[np.float32]:
        pieces = self.pieces(i).flatten(1)
        if self.layers[i].num_pieces <= 2:
            return (pieces.float() * 2 - 1).numpy()
        return torch.nn.functional.one_hot(pieces, self.layers[i].num_pieces).flatten(1).float().numpy()


def _position(layers: Sequence[UnitLayer], name: str | int) -> int:
    names = [layer.name for layer in layers]
    if isinstance(name, int) and -len(names) <= name < len(names):
        return name % len(names)
    if name not in names:
        raise InputError(f"layer: expected one of {names} or a position below {len(names)}; got {name!r}")
    return names.index(str(name))


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Frequencies(Result):
    """How often units are on their pieces: `counts`, one tensor (pieces, *shape) for each of `layers`, out of `total` > 0.

    A unit that was only ever on piece 0 is *dead* (for ReLU: never active), one that was only ever on another single
    piece is *always on*, every other one is *mixed*. All three are statements about the inputs that were counted.
    """

    layers: tuple[UnitLayer, ...]
    counts: tuple[Tensor, ...]
    total: int

    @classmethod
    def concat(cls, parts: Sequence[Frequencies]) -> Frequencies:
        """Return the frequencies over the inputs of several parts together; their layers must be the same."""
        if not parts or any(part.layers != parts[0].layers for part in parts):
            raise InputError(f"frequencies to join: expected one or more with equal layers; got {len(parts)} that differ")
        counts = (torch.stack(count).sum(0) for count in zip(*(part.counts for part in parts), strict=True))
        return cls(parts[0].layers, tuple(counts), sum(part.total for part in parts))

    def __repr__(self) -> str:
        return f"Frequencies({self.total} inputs, {len(self.layers)} layers)"

    def active(self, name: str | int) -> Tensor:
        """Return the fraction of inputs for which each unit is off piece 0: (*shape), float64; for ReLU, P(active).

        Raises InputError, which lists the names, when there is no such layer.
        """
        i = _position(self.layers, name)
        return 1 - self.counts[i][0].double() / self.total

    def interval(self, name: str | int, confidence: float = 0.95) -> Interval:
        """Return Wilson's interval for P(active) of each unit, where the inputs are a random sample of all that matter.

        The bounds stay within [0, 1]; of a unit that was never active on N inputs the upper one is z^2 / (N + z^2), z the
        normal quantile of (1 + confidence) / 2. Raises InputError for a confidence outside (0, 1), and for unknown layers.

        References: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
        """
        if not 0 < confidence < 1:
            raise InputError(f"confidence: expected a number between 0 and 1, such as 0.95; got {confidence!r}")
        n, z = self.total, NormalDist().inv_cdf((1 + confidence) / 2)
        off = self.counts[_position(self.layers, name)][0].double()
        middle, half = n - off + z * z / 2, z * (off * (n - off) / n + z * z / 4).sqrt()
        low, high = (middle - half) / (n + z * z), (middle + half) / (n + z * z)
        return Interval(low.masked_fill(off == n, 0.0), high.masked_fill(off == 0, 1.0))

    def entropy(self, name: str | int) -> Tensor:
        """Return the entropy of each unit's piece in bits: (*shape), float64; 0 for a unit that never switches.

        A ReLU has at most one bit, at P(active) = 1/2. The sum over a layer bounds the entropy of the layer's pattern, and
        is it where units are independent. That of the counted fractions: for a unit of p pieces and N inputs it is too low
        by (p - 1) / (2 N ln 2) or so.
        """
        share = self.counts[_position(self.layers, name)].double() / self.total
        return torch.special.entr(share).sum(0).abs() / math.log(2)

    def units(self) -> list[dict[str, Any]]:
        """Return one row a layer: how many of its units are dead, always on and mixed; `entropy` is the sum of theirs, in bits.

        Of a max-gate they are windows; "dead" means that the first candidate always won. Without units the mean is NaN.
        """
        rows = []
        for i, (layer, count) in enumerate(zip(self.layers, self.counts, strict=True)):
            dead = int((count[0] == self.total).sum())
            on = int((count[1:] == self.total).any(0).sum())
            mean = float(self.active(i).mean()) if layer.num_units else math.nan
            bits = float(self.entropy(i).sum())
            rows.append(
                {"name": layer.name, "kind": layer.kind, "units": layer.num_units, "dead": dead, "always_on": on}
                | {"mixed": layer.num_units - dead - on, "mean_active": mean, "entropy": bits}
            )
        return rows

    def summary(self) -> str:
        lines = [f"activation frequencies over {self.total} inputs"]
        for layer, r in zip(self.layers, self.units(), strict=True):
            size = f"{r['units']} {'windows' if layer.is_max else 'units'}"
            shares = f"{r['dead']} dead, {r['always_on']} always on, {r['mixed']} mixed"
            bits = f"at most {r['entropy']:.3g} bits"
            lines.append(f"  {r['name']}: {size}, {shares}, active {r['mean_active']:.1%} of the time, {bits}")
        if any(r["dead"] + r["always_on"] for r in self.units()):
            z = NormalDist().inv_cdf(0.975)
            most = z * z / (self.total + z * z)
            lines.append(f"  with 95 % confidence a unit that never switched does so on less than {most:.2g} of such inputs")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {"inputs": self.total, "layers": self.units()}
