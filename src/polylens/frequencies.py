"""How often every unit is active over a stream of inputs, which is counted as it passes and never kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ._check import ArrayLike
from ._progress import counted
from .errors import InputError
from .network import Network, Node, chunks, has_pattern
from .pattern import Frequencies, UnitLayer


def frequencies(net: Network, x: ArrayLike | Iterable[Any], *, batch_size: int | None = None) -> Frequencies:
    """Return how often every unit is on each of its pieces, over any number of inputs.

    The fractions, their Wilson intervals, entropies and dead units are the result's. Patterns are those of `patterns`,
    whose `frequencies()` gives the same where patterns are at hand.

    Args:
        net: any network; of one without gates only the inputs are counted.
        x: (batch, *input_shape), or one sample; arrays in files (numpy.memmap) are read chunk by chunk. Or anything that
            yields batches when iterated: a list, a generator, or a DataLoader, of whose pairs (inputs, labels) the inputs
            count.
        batch_size: inputs evaluated at once; by default what keeps the activations near 32 MB.

    Raises:
        ShapeError: inputs do not have the network's input shape.
        InputError: inputs hold integers, NaN or infinity; there are none.

    Algorithm: one forward pass up to the last gate for each chunk. Memory: one chunk, and one number for each piece of each
    unit, however many inputs there are. Any division into batches gives the same counts, up to rounding in the matrix
    products, which matters to units within rounding of a breakpoint alone.

    Example:
        >>> from polylens import dense, frequencies
        >>> import torch
        >>> net = dense([([[1.0], [-1.0], [0.0]], [0.0, 0.0, 1.0]), ([[1.0, 1.0, 1.0]], None)])
        >>> found = frequencies(net, (torch.tensor([[float(i)]]) for i in range(-1, 3)))
        >>> found.active(0).tolist()  # at 0 neither of the first two is active
        [0.5, 0.25, 1.0]
        >>> [round(float(bound[1]), 2) for bound in found.interval(0)]
        [0.05, 0.7]
    """
    last = max((k for k, node in enumerate(net.nodes, 1) if has_pattern(node.step)), default=0)
    counts = [torch.zeros(gate.num_pieces, *gate.shape, dtype=torch.int64, device="cpu") for gate in net.gates]
    total = 0
    with torch.no_grad():
        for batch in _batches(net, x, batch_size):
            _count(net, batch, last, counts)
            total += len(batch)
    if not total:
        raise InputError("frequencies: expected one batch of inputs or more; got none")
    for count in counts:
        count[0] = total - count[1:].sum(0)
    return Frequencies(net.gates, tuple(counts), total)


def _batches(net: Network, x: Any, size: int | None) -> Iterator[Tensor]:
    """Yield checked batches of an array, or of everything that an iterable yields."""
    one = isinstance(x, Sequence) and not (len(x) and hasattr(x[0], "shape"))  # numbers in lists, not a list of batches
    if one or hasattr(x, "shape") or not isinstance(x, Iterable):
        yield from chunks(net, x, size, "frequencies")
        return
    parts = (part for item in x for part in chunks(net, _inputs(item), size))
    yield from counted(parts, "frequencies", "inputs")


def _inputs(item: Any) -> Any:
    """Return the inputs of what a loader yields: of a tuple or list of arrays the first."""
    return item[0] if isinstance(item, (tuple, list)) and len(item) and hasattr(item[0], "shape") else item


def _count(net: Network, batch: Tensor, last: int, counts: Sequence[Tensor]) -> None:
    """Add the pieces of a batch, other than piece 0, to the counts."""
    rest = iter(zip(net.gates, counts, strict=True))

    def visit(node: Node, inputs: list[Tensor]) -> None:
        if has_pattern(node.step):
            gate, count = next(rest)
            _add(gate, node.step.pieces(*inputs), count)

    net.forward(batch, visit, last)


def _add(gate: UnitLayer, pieces: Tensor, count: Tensor) -> None:
    for k in range(1, gate.num_pieces):
        count[k] += (pieces == k).sum(0).cpu()
