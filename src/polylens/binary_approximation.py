"""How well a layer can be replaced by its pattern: whether the next layer's units keep their signs when it reads 0 and 1."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, final

import torch
from torch import Tensor

from ._check import ArrayLike
from ._types import Result
from .errors import InputError, UnsupportedError
from .gates import Gate, MaxGate
from .layer_map import LayerMap, layer_map
from .network import Network, chunks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMIT = 1 - math.acos(math.sqrt(2 / math.pi)) / math.pi  # 0.7940: wide layers with Gaussian weights and inputs, no biases


@final
@dataclass(frozen=True, slots=True)
class SignAgreement:
    """How often the units that read a layer keep their signs: shares of (input, unit) pairs.

    `replaced` is the layer that becomes its pattern, `reader` the one whose pre-activations are compared. `plain` reads 0 and
    1, `scaled` the pattern times `scale`, the factor that comes closest to the activations in least squares; `chance` is the
    agreement of independent signs of the same frequencies; `weighted` counts each pair of `scaled` by the distance of the true
    pre-activation from 0; `accumulated` reads patterns in every layer up to this one, each scaled.
    """

    replaced: str
    reader: str
    scale: float
    plain: float
    scaled: float
    chance: float
    weighted: float
    accumulated: float | None


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class BinaryApproximation(Result):
    """How well layers can be replaced by their patterns, one row a layer; `skipped` says why others have none."""

    layers: tuple[SignAgreement, ...]
    inputs: int
    skipped: dict[str, str]

    def __repr__(self) -> str:
        return f"BinaryApproximation({len(self.layers)} layers, {self.inputs} inputs)"

    def summary(self) -> str:
        lines = [f"signs kept behind layers replaced by patterns, over {self.inputs} inputs (wide random layers: {LIMIT:.1%})"]
        for row in self.layers:
            parts = f"plain {row.plain:.1%}, scaled by {row.scale:.3g} {row.scaled:.1%}, weighted by margin {row.weighted:.1%}"
            whole = "" if row.accumulated is None else f", all layers up to it {row.accumulated:.1%}"
            lines.append(f"  {row.replaced} -> {row.reader}: {parts}{whole}; chance {row.chance:.1%}")
        return "\n".join(lines + [f"  {name}: not asked: {why}" for name, why in self.skipped.items()])

    def to_dict(self) -> dict[str, Any]:
        rows = [{f.name: getattr(row, f.name) for f in fields(row)} for row in self.layers]
        return {"inputs": self.inputs, "limit": LIMIT, "layers": rows, "skipped": self.skipped}

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the share of signs that are kept behind every layer that becomes its pattern."""
        axes: Axes = importlib.import_module("polylens.plotting.models").draw(self, ax, **options)
        return axes


class _Pair(NamedTuple):
    """A ReLU layer, and the value behind what is affine in it: the pre-activation of the next, or the output."""

    replaced: str
    reader: str
    affine: LayerMap


def binary_approximation(net: Network, X: ArrayLike, *, batch_size: int | None = None) -> BinaryApproximation:
    """Return how often the units behind a ReLU layer keep their signs when they read its pattern instead of its activations.

    A pre-activation of exactly 0 counts as negative, as in patterns.

    Args:
        net: a network; asked are the ReLU layers, and the max-gates behind one, that reach one next gate, or the output,
            through affine steps.
        X: inputs (batch, *input_shape), or one of them; arrays in files are read chunk by chunk.
        batch_size: inputs evaluated at once; by default what keeps the activations near 32 MB.

    Raises:
        InputError: no layer can be asked; InputError, ShapeError: as for `patterns`.

    Algorithm: two passes over the data, the first for the scales. `accumulated` runs the chain of replaced layers beside the
    network; it is None from the first layer on that does not read the one asked before.

    References: Swiniarski, Bruna, Cho, Study on activation patterns, section 4.3.2. In wide layers with Gaussian weights the
    agreement tends to 1 - arccos(sqrt(2 / pi)) / pi = 0.7940, since activation and pattern have correlation sqrt(2 / pi).

    Example:
        >>> from polylens import dense
        >>> import torch
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, -3.0]], [-1.0])])
        >>> row = binary_approximation(net, torch.tensor([[0.5], [2.0], [-1.0]])).layers[0]
        >>> round(row.plain, 2), round(row.scaled, 2)  # 0.5 and 2 read as 1 reach 0, which is not positive
        (0.67, 0.67)
    """
    net = net.double()
    pairs, skipped = _pairs(net)
    if not pairs:
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or "the network has no gates"
        raise InputError(f"binary_approximation: expected a ReLU layer that reaches a next layer through affine steps; {why}")
    with torch.no_grad():
        scales = _scales(net, X, pairs, batch_size)
        counts, inputs = [_Counts() for _ in pairs], 0
        for x in chunks(net, X, batch_size, "signs"):
            inputs += len(x)
            reached: dict[str, Tensor] = {}  # pre-activations where every layer in front is its pattern
            for pair, scale, count, value in zip(pairs, scales, counts, _values(net, x, pairs), strict=True):
                start = value if pair is pairs[0] else reached.get(pair.replaced)
                end = _count(pair, scale, count, value, start)
                reached |= {} if end is None else {pair.reader: end}
    return BinaryApproximation(tuple(c.row(p, s) for p, s, c in zip(pairs, scales, counts, strict=True)), inputs, skipped)


def _pairs(net: Network) -> tuple[list[_Pair], dict[str, str]]:
    """Return the ReLU layers with what reads them, in order, and why others are left out."""
    found, skipped = list[_Pair](), dict[str, str]()
    readers = {net.nodes[net.value_of(g.name) - 1].inputs[0]: g.name for g in net.gates if not g.is_max}
    ends = {**readers, **({len(net.nodes): "output"} if len(net.nodes) not in readers else {})}
    affine = dict[int, list[tuple[str, LayerMap]]]()
    for value, reader in ends.items():
        try:
            way = layer_map(net, value)
        except UnsupportedError as error:
            skipped[reader] = str(error)
            continue
        affine.setdefault(way.source, []).append((reader, way))
    for gate in net.gates:
        value = net.value_of(gate.name)
        behind = [entry for entry in affine.get(value, []) if entry[1].way]
        if not _is_zero_or_positive(net, value):
            skipped[gate.name] = f"it is {gate.kind}, not a ReLU or a max-gate behind one"
        elif len(behind) != 1:
            skipped[gate.name] = "not one next gate, or the output, reads it through affine steps alone"
        else:
            found.append(_Pair(gate.name, *behind[0]))
    return found, skipped


def _is_zero_or_positive(net: Network, value: int) -> bool:
    """Say whether a value comes out of a ReLU, or of max-gates behind one: its pattern is 1 where it is positive."""
    node = net.nodes[value - 1] if value else None
    if node is not None and isinstance(node.step, MaxGate):
        return _is_zero_or_positive(net, node.inputs[0])
    return node is not None and isinstance(node.step, Gate) and node.step.kind == "relu"


def _values(net: Network, x: Tensor, pairs: list[_Pair]) -> Iterator[Tensor]:
    """Yield the activations of every layer that is replaced."""
    wanted, kept = {pair.affine.source for pair in pairs}, dict[int, Tensor]()
    positions = {id(node): k for k, node in enumerate(net.nodes, 1)}

    def visit(node: Any, inputs: list[Tensor]) -> None:
        if positions[id(node)] in wanted:
            kept[positions[id(node)]] = node.step.apply(*inputs)

    net.forward(x, visit, max(wanted))
    yield from (kept[pair.affine.source] for pair in pairs)


def _scales(net: Network, X: ArrayLike, pairs: list[_Pair], batch_size: int | None) -> list[float]:
    """Return the mean positive activation of every layer: the factor of the pattern that is closest in least squares."""
    sums = torch.zeros(len(pairs), 2, dtype=torch.float64)
    for x in chunks(net, X, batch_size, "scales"):
        for k, value in enumerate(_values(net, x, pairs)):
            sums[k] += torch.tensor([float(value.sum()), float((value > 0).sum())], dtype=torch.float64)
    return [float(total / count) if count else 0.0 for total, count in sums]


@dataclass(slots=True)
class _Counts:
    """Running sums for one layer."""

    pairs: int = 0
    plain: int = 0
    scaled: int = 0
    accumulated: int | None = 0
    margin: float = 0.0
    kept: float = 0.0
    inputs: int = 0
    true: Tensor | int = 0
    read: Tensor | int = 0

    def row(self, pair: _Pair, scale: float) -> SignAgreement:
        p, q = (torch.as_tensor(v).double() / max(1, self.inputs) for v in (self.true, self.read))
        return SignAgreement(
            replaced=pair.replaced,
            reader=pair.reader,
            scale=scale,
            plain=self.plain / self.pairs,
            scaled=self.scaled / self.pairs,
            chance=float((p * q + (1 - p) * (1 - q)).mean()),
            weighted=self.kept / self.margin if self.margin else math.nan,
            accumulated=None if self.accumulated is None else self.accumulated / self.pairs,
        )


def _count(pair: _Pair, scale: float, count: _Counts, value: Tensor, start: Tensor | None) -> Tensor | None:
    """Count one batch; `start` and what is returned go through layers that have all become their patterns."""
    bits = (value > 0).to(value)
    true, plain, scaled = (pair.affine(v).flatten(1) > 0 for v in (value, bits, scale * bits))
    margin = pair.affine(value).flatten(1).abs()
    agree = true == scaled
    count.inputs += len(value)
    count.pairs += true.numel()
    count.plain += int((true == plain).sum())
    count.scaled += int(agree.sum())
    count.margin += float(margin.sum())
    count.kept += float(margin[agree].sum())
    count.true = count.true + true.sum(0)
    count.read = count.read + scaled.sum(0)
    if start is None:
        count.accumulated = None
        return None
    end = pair.affine(scale * (start > 0).to(value))
    count.accumulated = (count.accumulated or 0) + int((true == (end.flatten(1) > 0)).sum())
    return end
