"""What is behind the gates of a network: patterns and values of batches, and inputs chosen by chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .._check import ArrayLike, array, is_batch
from ..errors import InputError, ShapeError
from ..network import Network, Node, chunks, has_pattern
from ..pattern import Patterns


def behind_gates(
    net: Network, x: ArrayLike, batch_size: int | None, label: str
) -> Iterator[tuple[Tensor, Patterns, list[Tensor]]]:
    """Yield batches of `x` with their patterns and the values behind every gate, each (batch, *shape)."""
    last = max((k for k, node in enumerate(net.nodes, 1) if has_pattern(node.step)), default=0)
    with torch.no_grad():
        for batch in chunks(net, x, batch_size, label):
            pieces: list[Tensor] = []
            values: list[Tensor] = []

            def collect(node: Node, inputs: list[Tensor], pieces: list[Tensor] = pieces, values: list[Tensor] = values) -> None:
                if has_pattern(node.step):
                    pieces.append(node.step.pieces(*inputs))
                    values.append(node.step.apply(*inputs))

            net.forward(batch, collect, last)
            yield batch, Patterns.from_pieces(net.gates, pieces, len(batch)), values


def chosen(count: int, most: int, seed: int) -> Tensor:
    """Return `most` of `count` positions, drawn without replacement and in ascending order; all where there are no more."""
    if most >= count:
        return torch.arange(count, device="cpu")
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed), device="cpu")[:most].sort().values


def rows(x: ArrayLike, positions: Tensor) -> Any:
    """Return some rows of an array of any kind."""
    return x[positions.to(x.device)] if isinstance(x, Tensor) else x[positions.numpy()]


def batch_of(net: Network, x: ArrayLike, least: int, what: str) -> Any:
    """Return `x` as an array, or raise InputError where it is no batch of at least so many inputs."""
    x = array(x)
    count = len(x) if is_batch(x, net.input_shape) else 1
    if count < least:
        raise InputError(f"{what}: expected {least} inputs or more; got {count}")
    return x


def whole_labels(labels: ArrayLike, count: int, what: str = "labels") -> Tensor:
    """Return labels (count,) as int64, or raise ShapeError or InputError."""
    try:
        given = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: expected an array of whole numbers; {error}; number other labels first") from None
    if given.shape != (count,):
        raise ShapeError(f"{what}: expected one for each of {count} inputs; got shape {tuple(given.shape)}")
    if given.is_floating_point() or given.is_complex():
        raise InputError(f"{what}: expected whole numbers; got {given.dtype}; convert with .long()")
    return given.long()
