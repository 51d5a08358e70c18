"""A network as a program: nodes in order of evaluation, each a step applied to the input or to earlier nodes.

Value 0 is the input and value k the output of `nodes[k - 1]`; shapes are those of one sample, the batch is dimension 0
of every tensor. A network is a value: converting it returns another one. Where it came from is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeGuard, final

import torch
from torch import Tensor

from ._check import ArrayLike, array, as_tensor, batches, finite, floating, is_batch
from ._progress import progress
from ._types import Result
from .errors import InputError
from .gates import Choice, MaxGate
from .pattern import Patterns, UnitLayer
from .smooth import Smooth
from .steps import Affine, Shape, Step

_CHUNK_BYTES = 1 << 25  # activations of one chunk: large enough for full speed, small enough to stay near the caches


@final
@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A step in its place: its name, the values it reads, and the shape of its output for one sample."""

    name: str
    step: Step
    inputs: tuple[int, ...]
    shape: Shape


@final
@dataclass(frozen=True, slots=True)
class InputSlice:
    """Where one of several inputs lies in a network's flat one: entries `start` to `stop`, which have the shape `shape`."""

    name: str
    start: int
    stop: int
    shape: Shape


def has_pattern(step: Step) -> TypeGuard[Choice | Smooth]:
    """Say whether the step's units have an activation pattern: gates, max-gates and smooth activations do."""
    return isinstance(step, Choice) or (isinstance(step, Smooth) and step.signed)


@final
@dataclass(frozen=True, eq=False)
class Network(Result):
    """A trained network, held as a program of affine steps, gates, max-gates and smooth steps.

    Calling it evaluates it: `net(x)` takes a batch (batch, *input_shape) or one sample and is differentiable in x.

    Attributes: `nodes`, the program; `input_shape` and `output_shape` of one sample; `dtype` and `device` of its
    parameters; `source`, a word on where it came from; `inputs`, where several inputs of the source were joined into a flat
    one, says by name which entries are whose, and is empty otherwise. `join` and `split` go from the ones to the other.

    Raises: InputError when a parameter holds NaN or infinity.
    """

    nodes: tuple[Node, ...]
    input_shape: Shape
    dtype: torch.dtype
    device: torch.device
    source: str
    inputs: tuple[InputSlice, ...] = ()

    def __post_init__(self) -> None:
        for node in self.nodes:
            for name, value in node.step.parameters().items():
                finite(value, f"{node.name}.{name}")

    # -- what the program says of itself

    @property
    def output_shape(self) -> Shape:
        """The shape of the output for one sample."""
        return self.nodes[-1].shape if self.nodes else self.input_shape

    @cached_property
    def gates(self) -> tuple[UnitLayer, ...]:
        """The layers that have a pattern, in order: gates, max-gates and smooth activations."""
        return tuple(
            UnitLayer(node.name, node.step.kind, node.shape, node.step.num_pieces, isinstance(node.step, MaxGate))
            for node in self.nodes
            if has_pattern(node.step)
        )

    @cached_property
    def num_units(self) -> int:
        """How many units pass through elementwise gates; the windows of max-gates are not counted."""
        return sum(gate.num_units for gate in self.gates if not gate.is_max)

    @cached_property
    def smooth_steps(self) -> tuple[Node, ...]:
        """The nodes that are not piecewise linear."""
        return tuple(node for node in self.nodes if isinstance(node.step, Smooth))

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether the whole network is piecewise linear."""
        return not self.smooth_steps

    @cached_property
    def num_parameters(self) -> int:
        """How many numbers the affine steps hold."""
        steps = [node.step for node in self.nodes if isinstance(node.step, Affine)]
        return sum(value.numel() for step in steps for value in step.parameters().values())

    def shape_of(self, value: int) -> Shape:
        """Return the shape of a value for one sample; value 0 is the input."""
        return self.input_shape if value == 0 else self.nodes[value - 1].shape

    def value_of(self, layer: str | int | None) -> int:
        """Return the value that a layer computes: by node name, by position among `gates`, or the output for None.

        Raises InputError, which lists the names, when there is no such layer.
        """
        if layer is None:
            return len(self.nodes)
        names = [node.name for node in self.nodes]
        if isinstance(layer, int) and not isinstance(layer, bool) and -len(self.gates) <= layer < len(self.gates):
            layer = self.gates[layer].name
        if layer not in names:
            raise InputError(f"layer: expected one of {names}, or a position among {len(self.gates)} gates; got {layer!r}")
        return names.index(str(layer)) + 1

    # -- evaluation

    def __call__(self, x: ArrayLike) -> Tensor:
        """Return the output (batch, *output_shape), or (*output_shape) for one sample; x is moved to dtype and device.

        Raises ShapeError, and InputError for integers, NaN, infinity, ragged lists or an empty batch.
        """
        x = array(x)
        floating(x)
        batched = is_batch(x, self.input_shape)
        tensor = finite(as_tensor(x, self.dtype, self.device), "input")
        y = self.forward(tensor if batched else tensor[None])
        return y if batched else y[0]

    def forward(self, x: Tensor, visit: Callable[[Node, list[Tensor]], None] | None = None, last: int | None = None) -> Tensor:
        """Return value `last` (the output when None) on a checked batch, showing every node its inputs on the way.

        Values are dropped as soon as no later node reads them.
        """
        last = len(self.nodes) if last is None else last
        values: dict[int, Tensor] = {0: x}
        for k, node in enumerate(self.nodes[:last], 1):
            inputs = [values[i] for i in node.inputs]
            if visit is not None:
                visit(node, inputs)
            values[k] = node.step.apply(*inputs)
            for i in self.expiring[k]:
                if i != last:
                    values.pop(i, None)
        return values[last]

    @cached_property
    def expiring(self) -> tuple[tuple[int, ...], ...]:
        """For every value k, the values that node k is the last to read."""
        last = {i: k for k, node in enumerate(self.nodes, 1) for i in node.inputs}
        return tuple(tuple(i for i, k in last.items() if k == n) for n in range(len(self.nodes) + 1))

    @cached_property
    def sample_bytes(self) -> int:
        """The most bytes that the values of one sample take at once during evaluation."""
        alive, most = {0}, 0
        for k in range(1, len(self.nodes) + 1):
            alive.add(k)
            most = max(most, sum(torch.Size(self.shape_of(i)).numel() for i in alive))
            alive -= set(self.expiring[k])
        return max(1, most) * self.dtype.itemsize

    # -- several inputs in one

    def join(self, values: Mapping[str, ArrayLike]) -> Tensor:
        """Return the flat input that several named inputs make, (batch, entries) or (entries,) where none is a batch.

        An input without batch axis is repeated for every one of the others.

        Raises: InputError for names other than those of `inputs`, and for batches of several sizes; ShapeError.
        """
        names = [part.name for part in self.inputs]
        if set(values) != set(names):
            raise InputError(f"join: expected values for {names}; got {list(values)}")
        tensors = {name: as_tensor(array(x, name), self.dtype, self.device) for name, x in values.items()}
        batched = {part.name: is_batch(tensors[part.name], part.shape, part.name) for part in self.inputs}
        sizes = {name: len(tensors[name]) for name in names if batched[name]}
        if len(set(sizes.values())) > 1:
            raise InputError(f"join: expected batches of one size; got {sizes}")
        size = next(iter(sizes.values()), 1)
        rows = [
            tensors[name].reshape(size, -1) if batched[name] else tensors[name].reshape(1, -1).expand(size, -1)
            for name in names
        ]
        flat = torch.cat(rows, 1) if rows else torch.empty(size, 0)
        return flat if sizes else flat[0]

    def split(self, x: ArrayLike) -> dict[str, Tensor]:
        """Return the named inputs that a flat input, or a batch of them, is made of; of a single input none.

        Raises ShapeError when x has not the network's input shape.
        """
        x = array(x)
        lead = tuple(x.shape[:1]) if is_batch(x, self.input_shape) else ()
        flat = as_tensor(x, self.dtype, self.device)
        return {part.name: flat[..., part.start : part.stop].reshape((*lead, *part.shape)) for part in self.inputs}

    # -- conversion

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Network:
        """Return the network with its parameters in another floating dtype or on another device."""
        dtype, device = dtype or self.dtype, torch.device(device) if device is not None else self.device
        if dtype == self.dtype and device == self.device:
            return self
        if not dtype.is_floating_point:
            raise InputError(f"dtype: expected a floating-point dtype; got {dtype}")
        nodes = tuple(replace(n, step=n.step.converted(lambda t: t.to(device, dtype))) for n in self.nodes)
        return replace(self, nodes=nodes, dtype=dtype, device=device)

    def double(self) -> Network:
        """Return the network in float64."""
        return self.to(dtype=torch.float64)

    # -- the result's three faces

    def __repr__(self) -> str:
        kind = "piecewise linear" if self.is_piecewise_linear else "smooth"
        return f"Network({self.input_shape} -> {self.output_shape}, {self.num_units} units, {kind}, {self.dtype})"

    def steps(self) -> list[dict[str, Any]]:
        """Return the program as rows of plain types: name, kind, inputs, shape and number of parameters."""
        names = ["input", *(node.name for node in self.nodes)]
        return [
            {
                "name": node.name,
                "kind": node.step.kind,
                "inputs": [names[i] for i in node.inputs],
                "shape": list(node.shape),
                "parameters": sum(v.numel() for v in node.step.parameters().values()) if isinstance(node.step, Affine) else 0,
            }
            for node in self.nodes
        ]

    def summary(self) -> str:
        rows = self.steps()
        wide = max([len(r["name"]) for r in rows] + [5])
        lines = [repr(self)]
        lines += [f"  input {part.name}: entries {part.start} to {part.stop}, of shape {part.shape}" for part in self.inputs]
        for r in rows:
            shape, inputs = "x".join(map(str, r["shape"])) or "scalar", ", ".join(r["inputs"])
            lines.append(f"  {r['name']:<{wide}}  {r['kind']:<14} {shape:<12} {r['parameters'] or '':>9}  <- {inputs}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "input_shape": list(self.input_shape),
            "output_shape": list(self.output_shape),
            "num_units": self.num_units,
            "num_parameters": self.num_parameters,
            "piecewise_linear": self.is_piecewise_linear,
            "dtype": str(self.dtype).removeprefix("torch."),
            "source": self.source,
            "inputs": [{"name": p.name, "start": p.start, "stop": p.stop, "shape": list(p.shape)} for p in self.inputs],
            "gates": [{"name": g.name, "kind": g.kind, "shape": list(g.shape)} for g in self.gates],
            "steps": self.steps(),
        }


def ancestors(net: Network, value: int) -> set[int]:
    """Return the values that a value is computed from, itself and the input (0) among them."""
    found, todo = set[int](), [value]
    while todo:
        k = todo.pop()
        if k not in found:
            found.add(k)
            todo += net.nodes[k - 1].inputs if k else ()
    return found


def section(net: Network, source: int, value: int) -> Network:
    """Return the part of a network between two values that everything passes through."""
    kept = sorted(k for k in ancestors(net, value) if k > source)
    number = {source: 0} | {k: i for i, k in enumerate(kept, 1)}
    nodes = tuple(replace(net.nodes[k - 1], inputs=tuple(number[i] for i in net.nodes[k - 1].inputs)) for k in kept)
    return replace(net, nodes=nodes, input_shape=net.shape_of(source), inputs=() if source else net.inputs)


def chunks(net: Network, x: ArrayLike, size: int | None = None, label: str = "") -> Iterator[Tensor]:
    """Yield `x` as checked batches whose activations stay within a fixed amount of memory, with progress."""
    if size is not None and size < 1:
        raise InputError(f"batch_size: expected at least 1; got {size}")
    size = size or max(1, _CHUNK_BYTES // net.sample_bytes)
    single = tuple(getattr(x, "shape", ())) == net.input_shape
    total = 1 if single or not hasattr(x, "shape") else -(-len(x) // size)
    return progress(batches(x, net.input_shape, size, net.dtype, net.device), total, label)


def patterns(net: Network, x: ArrayLike, *, batch_size: int | None = None) -> Patterns:
    """Return the activation patterns of a batch: which piece of its gate every unit of the network is on.

    A unit is on piece p when p breakpoints of its gate lie strictly below its pre-activation (ReLU: 1 iff > 0; the lower
    jump of a hard shrink, which is 0 at both ends, counts as below from the breakpoint itself on). A max-gate's piece is
    the position of the winner, the lowest among equals; a smooth activation's is the sign of its pre-activation.
    Decided in the network's own dtype.

    Args:
        net: any network; one without gates gives patterns of no units.
        x: (batch, *input_shape), or one sample, which gives a batch of one. Arrays in files (numpy.memmap) are read
            chunk by chunk.
        batch_size: inputs evaluated at once; by default what keeps the activations near 32 MB.

    Raises:
        ShapeError: x does not have the network's input shape.
        InputError: x holds integers, NaN or infinity, or is empty.

    Algorithm: one forward pass up to the last gate, the signs packed to one bit a unit as they appear. Memory: one
    chunk and the result, units / 8 bytes for every input.

    Example:
        >>> from polylens import dense, patterns
        >>> import torch
        >>> net = dense([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], None)])
        >>> patterns(net, torch.tensor([[-2.0], [0.0], [3.0]])).pieces().int().tolist()  # at 0 no unit is active
        [[0, 1], [0, 0], [1, 0]]
    """
    last = max((k for k, node in enumerate(net.nodes, 1) if has_pattern(node.step)), default=0)
    parts = []
    with torch.no_grad():
        for batch in chunks(net, x, batch_size, "patterns"):
            pieces: list[Tensor] = []

            def collect(node: Node, inputs: list[Tensor], into: list[Tensor] = pieces) -> None:
                if has_pattern(node.step):
                    into.append(node.step.pieces(*inputs))

            net.forward(batch, collect, last)
            parts.append(Patterns.from_pieces(net.gates, pieces, len(batch)))
    return Patterns.concat(parts)
