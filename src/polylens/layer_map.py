"""What is affine between a value of a network and the gate, smooth step or input in front of it: `x -> L x + c`.

It acts on columns and on rows, so that a convolution is never written down unless its matrix is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .errors import UnsupportedError
from .network import Network
from .steps import Affine, Shape


@final
@dataclass(frozen=True, eq=False, slots=True)
class LayerMap:
    """The affine map from one value of a network to a later one, through the nodes of its `way` in their order."""

    net: Network
    source: int
    value: int
    way: tuple[int, ...]

    @property
    def input_shape(self) -> Shape:
        """The shape of what it takes, for one sample."""
        return self.net.shape_of(self.source)

    @property
    def output_shape(self) -> Shape:
        """The shape of what it gives, for one sample."""
        return self.net.shape_of(self.value)

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """How many numbers it gives."""
        return math.prod(self.output_shape)

    def __call__(self, x: Tensor) -> Tensor:
        """Return L x + c (batch, *output_shape) for x (batch, *input_shape)."""
        return self._through(x, lambda step: step.apply)

    def linear(self, columns: Tensor) -> Tensor:
        """Return L applied to columns (n, *input_shape), as (n, *output_shape)."""
        return self._through(columns, lambda step: step.linear)

    def adjoint(self, rows: Tensor) -> Tensor:
        """Return the transpose of L applied to rows (k, *output_shape), as (k, *input_shape)."""
        pending = {self.value: rows}
        for value in reversed(self.way):
            node, here = self.net.nodes[value - 1], pending.pop(value)
            parts = self._steps[value].adjoint(here, [self.net.shape_of(i) for i in node.inputs])
            for i, part in zip(node.inputs, parts, strict=True):
                pending[i] = pending[i] + part if i in pending else part
        return pending[self.source]

    def matrix(self) -> Tensor:
        """Return L as a matrix (outputs, inputs), from the side that has fewer unit vectors."""
        columns = self.inputs <= self.outputs
        shape, size = (self.input_shape, self.inputs) if columns else (self.output_shape, self.outputs)
        unit = torch.eye(size, dtype=self.net.dtype, device=self.net.device).reshape(size, *shape)
        if columns:
            return self.linear(unit).reshape(size, self.outputs).T.contiguous()
        return self.adjoint(unit).reshape(size, self.inputs)

    @property
    def offset(self) -> Tensor:
        """The constant c (outputs,)."""
        origin = torch.zeros(1, *self.input_shape, dtype=self.net.dtype, device=self.net.device)
        return self(origin).reshape(-1)

    @property
    def _steps(self) -> Mapping[int, Affine]:
        nodes = {value: self.net.nodes[value - 1].step for value in self.way}
        return {value: step for value, step in nodes.items() if isinstance(step, Affine)}

    def _through(self, x: Tensor, way: Callable[[Affine], Callable[..., Tensor]]) -> Tensor:
        values = {self.source: x}
        for value, step in self._steps.items():
            values[value] = way(step)(*(values[i] for i in self.net.nodes[value - 1].inputs))
        return values[self.value]


def layer_map(net: Network, value: int) -> LayerMap:
    """Return the affine map that ends in a value of a network: from the last gate, smooth step or input in front of it.

    Branches that part and join again are one map when they start from one value.

    Args:
        net: any network; its parameters are taken in float64.
        value: the number of the value (`Network.value_of` gives it for a layer); one that no affine step puts out, the input
            among them, has the identity in front of it.

    Raises:
        UnsupportedError: the affine steps start from several values, such as the two branches of a residual block.

    Algorithm: one walk back through the program; nothing is evaluated.

    Example:
        >>> from polylens import dense
        >>> net = dense([([[1.0], [-2.0]], [0.0, 1.0]), ([[1.0, 3.0]], None)])
        >>> layer_map(net, net.value_of(None)).matrix()
        tensor([[1., 3.]], dtype=torch.float64)
    """
    net = net.double()
    way, sources, todo = set[int](), set[int](), [value]
    while todo:
        k = todo.pop()
        if k and isinstance(net.nodes[k - 1].step, Affine):
            if k not in way:
                way.add(k)
                todo += net.nodes[k - 1].inputs
        else:
            sources.add(k)
    if len(sources) > 1:
        names = ["the input" if k == 0 else net.nodes[k - 1].name for k in sorted(sources)]
        raise UnsupportedError(
            f"{net.nodes[value - 1].name}: expected a layer that is affine in one value; it joins {', '.join(names)};"
            " ask for a layer on one of the branches"
        )
    return LayerMap(net, sources.pop(), value, tuple(sorted(way)))
