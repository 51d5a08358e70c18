"""A program under construction: live values beside constants, names, and the network in the end.

A source counts its axes with the batch among them, or without one where it dropped it; a `Live` value knows which, so
that the doors pass axes and shapes as the source has them. Inside, the batch is always dimension 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from .. import steps
from ..errors import ConversionError, UnsupportedError
from ..gates import Choice
from ..network import InputSlice, Network, Node
from ..smooth import Smooth
from ..steps import Convolution, Fixed, Linear, MatMul, Scale, Shape, Step


@dataclass(frozen=True, slots=True)
class Live:
    """A value that depends on the input: its number, the shape of one sample, and whether the source shows a batch axis."""

    value: int
    shape: Shape
    batched: bool = True

    @property
    def rank(self) -> int:
        """How many axes the source counts."""
        return len(self.shape) + self.batched


Operand = Live | Tensor


class Program:
    """Collects nodes; `batch` is the size of the batch axis in the source's example or declaration."""

    def __init__(self, input_shape: Shape, batch: int = 1, dtype: torch.dtype = torch.float32) -> None:
        self.input_shape = input_shape
        self.batch = batch
        self.dtype = dtype  # the source's, for constants that depend on it
        self.nodes: list[Node] = []  # named for the operation they came from; `finish` tells them apart
        self.groups: list[int] = []  # which operation of the source each node came from
        self.where = ""
        self.name = ""
        self.inputs: tuple[InputSlice, ...] = ()  # where several inputs of the source lie in a flat one
        self.alone = False  # whether the source is read as one without batch, so that no reshape may make one again
        self._operations = 0

    # -- bookkeeping

    def begin(self, name: str, where: str) -> None:
        """Start an operation of the source: `name` for its nodes, `where` for complaints ("relu in features.2")."""
        self.name, self.where = name, where
        self._operations += 1

    def refuse(self, problem: str, advice: str) -> NoReturn:
        """Raise UnsupportedError that names the operation and where it stands."""
        raise UnsupportedError(f"{self.where}: {problem}; {advice}")

    def source_shape(self, x: Live) -> Shape:
        """Return the shape as the source sees it."""
        return (self.batch, *x.shape) if x.batched else x.shape

    def axis(self, x: Live, dim: int) -> int:
        """Return the axis, batch as dimension 0, for an axis as the source counts it; never the batch itself."""
        dim = dim + x.rank if dim < 0 else dim
        if x.batched and dim == 0:
            self.refuse("acts along the batch axis", "networks act on every input alone; move the operation out of the model")
        return dim if x.batched else dim + 1

    def emit(self, step: Step, inputs: Sequence[Live], batched: bool | None = None) -> Live:
        """Append a step in float64; the shape of its output is found by running it on a sample of zeros."""
        exact = step.converted(lambda t: t.detach().to(device="cpu", dtype=torch.float64))
        with torch.no_grad():
            sample = exact.apply(*(torch.zeros(1, *x.shape, dtype=torch.float64, device="cpu") for x in inputs))
        self.nodes.append(Node(self.name or step.kind, exact, tuple(x.value for x in inputs), tuple(sample.shape[1:])))
        self.groups.append(self._operations)
        return Live(len(self.nodes), tuple(sample.shape[1:]), inputs[0].batched if batched is None else batched)

    def fixed(self, kind: str, function: Callable[..., Tensor], *inputs: Live, **options: Any) -> Live:
        """Append a linear map without parameters."""
        return self.emit(Fixed(kind, function, options), inputs)

    def finish(self, output: Live, dtype: torch.dtype, source: str) -> Network:
        """Return the network: nodes that the output does not read are dropped, lone shifts join the map in front."""
        nodes = _fold_shifts(_named(self.nodes, self.groups), output.value)
        needed = {output.value}
        for k in range(output.value, 0, -1):
            if k in needed:
                needed.update(nodes[k - 1].inputs)
        kept = [k for k in sorted(needed) if k]
        number = {0: 0} | {k: i for i, k in enumerate(kept, 1)}
        program = tuple(replace(nodes[k - 1], inputs=tuple(number[i] for i in nodes[k - 1].inputs)) for k in kept)
        program = tuple(replace(n, step=n.step.converted(lambda t: t.to(dtype).contiguous())) for n in program)
        return Network(program, self.input_shape, dtype, torch.device("cpu"), source, self.inputs)

    # -- constants beside live values

    def aligned(self, constant: Tensor, x: Live) -> Tensor:
        """Return a constant so that it broadcasts against (batch, *x.shape); a batch axis in it must repeat itself."""
        rank = x.rank
        if constant.ndim == rank and x.batched:
            constant = self.repeated(constant)
        if x.batched:
            return constant.reshape(*(1,) * (rank - constant.ndim), *constant.shape) if constant.ndim < rank else constant
        return constant.reshape(1, *(1,) * (rank - constant.ndim), *constant.shape)

    def repeated(self, constant: Tensor) -> Tensor:
        """Return the one entry along the batch axis of a constant that the source repeats for every input."""
        if not bool((constant == constant[:1]).all()):
            self.refuse("differs between the inputs of a batch", "make the constant the same for every input")
        return constant[:1]

    def constant(self, value: Tensor, like: Live, batched: bool) -> Live:
        """Return a constant as a live value, zero times the input plus the constant."""
        value = self.repeated(value) if batched else value[None]
        zero = self.emit(Fixed("zeros", steps.zeros, {"shape": tuple(value.shape[1:])}), [like], batched)
        return self.emit(Scale(None, value), [zero], batched)

    def live(self, x: Operand, like: Live) -> Live:
        """Return an operand as a live value of the kind that `like` is."""
        if isinstance(x, Live):
            return self.matched(x, like.rank, like.batched)
        x = x.reshape(1, *x.shape) if like.batched and x.ndim == like.rank - 1 else x
        return self.constant(x, like, like.batched and x.ndim == like.rank)

    def lifted(self, x: Live, rank: int) -> Live:
        """Return x with axes of size 1 in front until it has `rank`, where x shows no batch axis."""
        if rank <= x.rank:
            return x
        if x.batched:
            self.refuse("broadcasts over axes in front of the batch", "keep the batch as the first axis")
        return self.fixed("reshape", steps.reshape, x, shape=(1,) * (rank - x.rank) + x.shape)

    def matched(self, x: Live, rank: int, batched: bool) -> Live:
        """Return x with the given source rank and batch axis, as the source's own broadcasting would align it."""
        if x.batched == batched:
            return x if rank <= x.rank else self.lifted(x, rank)
        if x.batched:
            self.refuse("joins tensors with and without batch axis", "keep the batch as the first axis of both")
        if rank == len(x.shape) and x.shape[0] != 1:
            self.refuse(f"broadcasts {x.shape} against the batch", "keep the batch as the first axis of both")
        shape = (1,) * (rank - 1 - len(x.shape)) + x.shape if rank > len(x.shape) else x.shape[1:]
        return (
            self.emit(Fixed("reshape", steps.reshape, {"shape": shape}), [x], True)
            if shape != x.shape
            else replace(x, batched=True)
        )

    def pair(self, a: Live, b: Live) -> tuple[Live, Live]:
        """Return two live values so that they broadcast against each other sample by sample."""
        rank, batched = max(a.rank, b.rank), a.batched or b.batched
        return self.matched(a, rank, batched), self.matched(b, rank, batched)


def _named(nodes: list[Node], groups: list[int]) -> list[Node]:
    """Give every node a name of its own: the operation's name to its main step, with the step's kind to the others.

    The main step is the first that chooses a piece or is smooth, else the first product, else the last of all.
    """
    members: dict[int, list[int]] = {}
    for k, group in enumerate(groups):
        members.setdefault(group, []).append(k)
    main = {_main(nodes, ks) for ks in members.values()}
    taken, named = {"input"}, []
    for k, node in enumerate(nodes):
        base = node.name if k in main else f"{node.name}.{node.step.kind}"
        name = next(n for n in (base, *(f"{base}_{i}" for i in range(1, len(nodes) + 2))) if n not in taken)
        taken.add(name)
        named.append(replace(node, name=name))
    return named


def _main(nodes: list[Node], members: list[int]) -> int:
    for kinds in ((Choice, Smooth), (Linear, Convolution, MatMul)):
        for k in members:
            if isinstance(nodes[k].step, kinds):
                return k
    return members[-1]


def as_live(x: Operand) -> Live:
    """Return x, which must depend on the input: the doors evaluate operations on constants themselves."""
    if not isinstance(x, Live):
        raise ConversionError("an operation on constants reached the program; please report the model")
    return x


def _fold_shifts(nodes: list[Node], output: int) -> list[Node]:
    """Turn a product followed by the addition of a vector into one linear step, as most ONNX files write their layers."""
    readers: dict[int, list[int]] = {}
    for k, node in enumerate(nodes, 1):
        for i in node.inputs:
            readers.setdefault(i, []).append(k)
    nodes = list(nodes)
    for k, node in enumerate(nodes, 1):
        if not isinstance(node.step, Linear) or node.step.bias is not None or len(readers.get(k, [])) != 1 or k == output:
            continue
        shift = nodes[readers[k][0] - 1]
        if not isinstance(shift.step, Scale) or shift.step.factor is not None or shift.step.bias is None:
            continue
        bias = shift.step.bias
        if math.prod(bias.shape) in (1, bias.shape[-1]) and shift.shape == node.shape:
            linear = Linear(node.step.weight, bias.reshape(-1).expand(node.shape[-1]))
            nodes[readers[k][0] - 1] = replace(shift, step=linear, inputs=node.inputs, name=node.name)
    return nodes


def first_line(error: BaseException) -> str:
    """Return the beginning of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
