"""One ONNX node as its operator sees it: operands, attributes, opset, and how its axes meet the builder's batch.

Operators are functions from a `Call` to a live value (or one for each output), registered by ONNX name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import steps
from ..steps import Fixed
from ._builder import Builder
from ._onnx_constants import Arguments, Array
from ._program import Live, Operand

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """A node with the values of its inputs; missing optional inputs are None.

    `single` says that the source declares a batch of exactly one (or none), so that operations along the batch axis mean
    something for a single input.
    """

    builder: Builder
    op: str
    inputs: tuple[Operand | None, ...]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int
    single: bool

    # -- operands and options

    def given(self, position: int) -> Operand | None:
        """Return an optional operand."""
        return self.inputs[position] if position < len(self.inputs) else None

    def operand(self, position: int) -> Operand:
        """Return an operand that has to be there."""
        value = self.given(position)
        if value is None:
            self.builder.refuse(f"lacks its input {position}", "check the file with onnx.checker")
        return value

    @property
    def operands(self) -> list[Operand]:
        """All operands of an operator that takes any number."""
        return [self.operand(i) for i in range(len(self.inputs))]

    @property
    def x(self) -> Live:
        """The first operand, which has to depend on the input."""
        return self.live(0)

    def live(self, position: int) -> Live:
        """Return an operand that has to depend on the input."""
        value = self.operand(position)
        if isinstance(value, Live):
            return value
        self.builder.refuse(f"has a constant input {position} beside live parameters", "only its data may depend on the input")

    def constant(self, position: int) -> Tensor | None:
        """Return an optional operand that may not depend on the input."""
        value = self.given(position)
        if isinstance(value, Live):
            self.builder.refuse(f"computes its input {position} from the network's input", "make it a constant of the model")
        return value

    def needed(self, position: int) -> Tensor:
        """Return a constant operand that has to be there."""
        value = self.constant(position)
        if value is None:
            self.builder.refuse(f"lacks its input {position}", "check the file with onnx.checker")
        return value

    def attribute(self, name: str, default: T) -> T:
        """Return an attribute, or its default."""
        value: T = self.attributes.get(name, default)
        return value

    def ints(self, name: str, position: int | None = None) -> list[int] | None:
        """Return a list of integers that older opsets keep as an attribute and newer ones as an input."""
        if name in self.attributes:
            return [int(i) for i in self.attributes[name]]
        value = None if position is None else self.constant(position)
        return None if value is None else [int(i) for i in value.reshape(-1)]

    def number(self, name: str, position: int, default: float | None) -> float | None:
        """Return a number that older opsets keep as an attribute and newer ones as an input."""
        if name in self.attributes:
            return float(self.attributes[name])
        value = self.constant(position)
        return default if value is None or not value.numel() else float(value.reshape(-1)[0])

    # -- the batch axis

    def axis(self, x: Live, default: int) -> int:
        """Return the attribute `axis`, counted from the front as the source does."""
        axis = int(self.attribute("axis", default))
        return axis + x.rank if axis < 0 else axis

    def whole(self, x: Live) -> Live:
        """Return x with a batch of one as an axis of the sample; otherwise as it is, for the builder to refuse."""
        if not (x.batched and self.single):
            return x
        return self.builder.emit(Fixed("reshape", steps.reshape, {"shape": (1, *x.shape)}), [x], batched=False)

    def along(self, x: Live, *dims: int) -> Live:
        """Return x ready for an operation along some of the source's axes."""
        return self.whole(x) if any(d % x.rank == 0 for d in dims) else x

    def front(self, x: Live) -> Live:
        """Return x with its first axis as the batch where that axis has size 1."""
        return x if x.batched or x.shape[:1] != (1,) else self.builder.reshape(x, x.shape)

    def image(self, x: Live) -> Live:
        """Return x as batch, channels and further axes."""
        x = self.front(x)
        if not x.batched:
            self.builder.refuse(f"acts on {x.shape} without a batch axis", "give it a batch axis of size 1")
        return x

    def fitted(self, operands: Sequence[Operand]) -> list[Operand]:
        """Return operands that broadcast as ONNX says: live ones of one rank, all with a batch axis or all without."""
        rank = max(o.rank if isinstance(o, Live) else o.ndim for o in operands)
        operands = [self._lifted(o, rank) if isinstance(o, Live) else o for o in operands]
        live = [o for o in operands if isinstance(o, Live)]
        wide = any(not o.batched and o.shape[:1] != (1,) for o in live) or (
            self.single and any(isinstance(o, Tensor) and o.ndim == rank and o.shape[:1] not in ((), (1,)) for o in operands)
        )
        if wide:
            return [self.whole(o) if isinstance(o, Live) else o for o in operands]
        if any(o.batched for o in live):
            return [self.front(o) if isinstance(o, Live) else o for o in operands]
        return list(operands)

    def pair(self, a: Operand, b: Operand) -> tuple[Operand, Operand]:
        """Return two operands that broadcast."""
        x, y = self.fitted([a, b])
        return x, y

    def _lifted(self, x: Live, rank: int) -> Live:
        if x.rank >= rank or (x.batched and not self.single):
            return x
        return self.builder.reshape(x, (1,) * (rank - x.rank) + self.builder.source_shape(x))

    def picked(self, parts: Sequence[Operand], index: Array) -> Live:
        """Return the entries of some operands, flattened and joined, at constant positions, in the shape of `index`."""
        flat: list[Operand] = []
        for part in parts:
            part = self.whole(part) if isinstance(part, Live) else part
            if isinstance(part, Live) and part.batched:
                self.builder.refuse("may move entries across the batch axis", "export the model with a batch of exactly 1")
            flat.append(self.builder.reshape(part, (-1,)) if isinstance(part, Live) else part.reshape(-1))
        joined = flat[0] if isinstance(flat[0], Live) and len(flat) == 1 else self.builder.concat(flat, 0)
        y = self.builder.gather(joined, 0, torch.from_numpy(index.reshape(-1).astype(np.int64)))
        return self.builder.reshape(y, index.shape)

    def arguments(self, *arrays: Array) -> Arguments:
        """Return the node with arrays of one's own as inputs, to see where it moves entries."""
        return Arguments(op=self.op, arrays=arrays, attributes=self.attributes, opset=self.opset, outputs=self.outputs)

    def places(self, *shapes: Sequence[int]) -> list[Array]:
        """Return arrays of the given shapes that number their entries one after the other."""
        sizes = [int(np.prod(s)) for s in shapes]
        return [np.arange(sum(sizes[:i]), sum(sizes[: i + 1])).reshape(s) for i, s in enumerate(shapes)]


Operator = Callable[[Call], "Live | list[Live]"]
OPERATORS: dict[str, Operator] = {}


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Register a function as the meaning of some ONNX operators."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register
