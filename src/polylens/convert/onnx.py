"""The ONNX door: a file or a model in memory becomes a program, node by node.

The network is what the model computes for one input. A first axis of symbolic size, or of size 1, is the batch; one of
another fixed size is tried as the batch and, where the model mixes it, kept as an axis of the input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import FileError, PolylensError, UnsupportedError
from ..network import Network
from ._builder import Builder
from ._onnx_call import OPERATORS, Call
from ._onnx_choices import Choice, chosen
from ._onnx_constants import Array
from ._onnx_declared import Declared, declared_inputs, declared_output
from ._onnx_file import read_model
from ._onnx_folding import BAD_VALUES, attributes_of, folded, tensor_of
from ._onnx_functions import inlined
from ._ports import Values, entered, joined
from ._program import Live, Operand, first_line

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

Value = Live | Choice | Array
_STANDARD = ("", "ai.onnx")
_RECURRENT = dict.fromkeys(
    ["LSTM", "GRU", "RNN"], "recurrent layers have no finite program; unroll them, or cut the model there"
)
_BRANCHING = dict.fromkeys(
    ["If", "Loop", "Scan", "SequenceMap"],
    "control flow is not followed; export the model with fixed shapes and constant folding",
)
_RANDOM = dict.fromkeys(
    ["RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"],
    "random values make no function; export the model in eval mode",
)
_JUMPING = dict.fromkeys(
    [
        "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not", "Xor", "Sign", "Floor", "Ceil",
        "Round", "Mod", "IsNaN", "IsInf", "ArgMax", "ArgMin", "TopK", "NonZero", "Hardmax", "QuantizeLinear",
        "DynamicQuantizeLinear", "BitShift", "Unique", "NonMaxSuppression",
    ],
    "it jumps with its input or gives integers; cut the model in front of it",
)  # fmt: skip
_PRODUCTS = dict.fromkeys(["Det"], "write the product with MatMul, Mul and ReduceSum")
_ADVICE = _RECURRENT | _BRANCHING | _RANDOM | _JUMPING | _PRODUCTS
_REAL = {"float16", "bfloat16", "float32", "float64"}


def read_onnx(path: Path, *, inputs: Values | None = None, output: str | None = None) -> Network:
    """Return the network of an .onnx file; weights in other files of its folder are read.

    Raises: FileError for a missing, truncated or foreign file; what `from_onnx` raises.
    """
    return from_onnx(read_model(path), path.name, inputs=inputs, output=output)


def from_onnx(model: ModelProto, source: str, *, inputs: Values | None = None, output: str | None = None) -> Network:
    """Return the network of an ONNX model in memory, in float64 if an input is double and else in float32.

    Args:
        model: any opset from 6 on. Initialisers may be listed as inputs.
        source: a word on where the model came from, for the network and for complaints.
        inputs: values of inputs to fix, by name, where there are several; None leaves one free.
        output: which of several outputs of real numbers counts.

    Raises:
        UnsupportedError: an input without fixed shape, an operator that no step can represent; the message names the
            operator, the node and its place.
        FileError: a graph that does not hold together.
        InputError: NaN or infinity among the weights; several inputs or outputs and nothing chosen, or unknown names.
        ShapeError: a value that does not fit its input.
    """
    door = Door.of(inlined(model), source, inputs, output)
    if door.batch > 1:
        try:
            return door.network(batched=True)
        except UnsupportedError as refused:
            try:
                return door.network(batched=False)
            except UnsupportedError:
                raise refused from None
    return door.network(batched=door.batch == 1)


@dataclass(frozen=True, slots=True)
class Door:
    """A model with what its declarations say: the free inputs, the values of all others, and the output that counts."""

    graph: GraphProto
    source: str
    opset: int
    constants: Mapping[str, Array]
    inputs: tuple[Declared, ...]
    output: str

    @classmethod
    def of(cls, model: ModelProto, source: str, inputs: Values | None = None, output: str | None = None) -> Door:
        """Read the declarations."""
        graph = model.graph
        if graph.sparse_initializer:
            raise UnsupportedError(f"{source}: holds sparse weights; store them as dense tensors")
        constants = {tensor.name: _array(tensor, source) for tensor in graph.initializer}
        opset = next((o.version for o in model.opset_import if o.domain in _STANDARD), 1)
        free, fixed = declared_inputs(graph, constants, inputs, source)
        return cls(graph, source, opset, constants | fixed, free, declared_output(graph, output, source))

    @property
    def batch(self) -> int:
        """The size of the first axis that all inputs of several axes have in common, 0 where they have none."""
        sizes = {entry.shape[0] for entry in self.inputs if len(entry.shape) > 1}
        return sizes.pop() if len(sizes) == 1 else 0

    @property
    def symbolic(self) -> bool:
        """Whether that axis may have any size."""
        return any(entry.symbolic for entry in self.inputs)

    def sample_shapes(self, batched: bool) -> dict[str, tuple[tuple[int, ...], bool]]:
        """Return the shape of one sample of every free input, and whether the batch axis in front of it is left out."""
        heads = {entry.name: batched and len(entry.shape) > 1 for entry in self.inputs}
        return {entry.name: (entry.shape[heads[entry.name] :], heads[entry.name]) for entry in self.inputs}

    def network(self, batched: bool) -> Network:
        """Convert the nodes that the output needs, in order."""
        shapes = self.sample_shapes(batched)
        whole = next(iter(shapes.values()))[0] if len(shapes) == 1 else (sum(math.prod(s) for s, _ in shapes.values()),)
        builder = Builder(whole, self.batch if batched else 1)
        builder.inputs = joined({name: shape for name, (shape, _) in shapes.items()})
        values: dict[str, Value] = {**self.constants, **entered(builder, shapes)}
        types = {entry.name: entry.element_type for entry in self.inputs}
        for place, node in _needed(self.graph, self.output):
            name = cleaned(node.name or node.output[0]) or node.op_type.lower()
            builder.begin(name, f"{self.source}: {node.op_type} {name!r} (node {place} of {len(self.graph.node)})")
            like = node.op_type == "CastLike" and node.domain in _STANDARD
            found = _cast_like(node, values, types, builder) if like else self._converted(node, builder, values, batched)
            values.update(zip(node.output, found, strict=False))
            types.update(dict.fromkeys(node.output, _element_type(node, values, types)))
        output = values.get(self.output)
        if isinstance(output, Choice):
            output.refuse()
        if not isinstance(output, Live):
            raise UnsupportedError(f"{self.source}: output {self.output!r} does not depend on the input; nothing to look at")
        if batched and not output.batched and output.shape[:1] == (1,):
            output = builder.reshape(output, output.shape)
        # half precision is widened: its weights are exact in float32, and few processors compute in it
        double = any(entry.element_type == np.float64 for entry in self.inputs)
        return builder.finish(output, torch.float64 if double else torch.float32, self.source)

    def _converted(self, node: NodeProto, builder: Builder, values: Mapping[str, Value], batched: bool) -> Sequence[Value]:
        """Return the outputs of a node: folded where all inputs are constant, else appended to the program."""
        inputs = [_read(name, values, builder) for name in node.input]
        live = any(isinstance(i, Live) for i in inputs)
        if node.op_type in _RECURRENT | _BRANCHING | _RANDOM or node.domain not in _STANDARD:
            builder.refuse(*_complaint(node))
        if node.op_type in ("Shape", "Size") and isinstance(inputs[0], Live):
            return [_shape(node, builder.source_shape(inputs[0]))]
        found = chosen(node.op_type, inputs, builder)
        if found is not None:
            return [found]
        plain = [i for i in inputs if not isinstance(i, Choice)]  # where one is left, something has been made of it
        if not live:
            return folded(node, self.opset, [None if isinstance(i, Live) else i for i in plain], builder)
        if node.op_type not in OPERATORS:
            builder.refuse(*_complaint(node))
        single = not (batched and self.symbolic) and builder.batch == 1
        operands = tuple(_operand(i) for i in plain)
        call = Call(builder, node.op_type, operands, attributes_of(node), self.opset, _outputs(node), single)
        return _applied(call)


def _outputs(node: NodeProto) -> int:
    """Return how many outputs a node has; missing optional ones behind the last do not count."""
    return max(place for place, name in enumerate(node.output, 1) if name)


def _applied(call: Call) -> Sequence[Live]:
    """Run the operator; what PyTorch or Python raises there means that the node does not fit its inputs."""
    try:
        result = OPERATORS[call.op](call)
    except PolylensError:
        raise
    except BAD_VALUES as error:
        raise FileError(f"{call.builder.where}: does not fit its inputs; {first_line(error)}") from error
    return result if isinstance(result, list) else [result]


def _complaint(node: NodeProto) -> tuple[str, str]:
    if node.domain not in _STANDARD:
        return f"belongs to {node.domain!r}, whose meaning is not known", "export the model with standard ONNX operators only"
    return "no step represents it", _ADVICE.get(
        node.op_type, "cut the model in front of it, or replace it by simpler operators"
    )


# -- element types, which a live value can lend to a constant


def _element_type(node: NodeProto, values: Mapping[str, Value], types: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
    """Return the element type of a node's live outputs: that of its live operand, unless it casts."""
    from onnx import helper

    if node.op_type == "Cast":
        return np.dtype(helper.tensor_dtype_to_np_dtype(attributes_of(node).get("to", 1)))
    if node.op_type == "CastLike":
        like = values[node.input[1]]
        return like.dtype if isinstance(like, np.ndarray) else types[node.input[1]]
    return next((types[name] for name in node.input if isinstance(values.get(name), Live)), np.dtype(np.float32))


def _cast_like(
    node: NodeProto, values: Mapping[str, Value], types: Mapping[str, np.dtype[Any]], builder: Builder
) -> list[Value]:
    """Return the first input in the type of the second, whose values do not matter."""
    x, like = (_read(name, values, builder) for name in [*node.input, "", ""][:2])
    for value in (x, like):
        if isinstance(value, Choice):
            value.refuse()
    if x is None or like is None or isinstance(x, Choice) or isinstance(like, Choice):
        builder.refuse("lacks an input", "check the file with onnx.checker")
    kind = types[node.input[1]] if isinstance(like, Live) else like.dtype
    if isinstance(x, Live):
        if kind.name not in _REAL:
            builder.refuse(f"turns the network's values into {kind.name}", "cut the model in front of it")
        return [x]
    with np.errstate(over="ignore"):
        return [x.astype(kind)]


# -- the graph


def cleaned(name: str) -> str:
    """Return a node's name as a user can type it: path-like parts joined by dots."""
    return re.sub(r"[^\w.\-]+", "_", name.strip("/").replace("/", ".")).strip("_")


def _needed(graph: GraphProto, output: str) -> list[tuple[int, NodeProto]]:
    """Return the nodes that the output depends on, in order, with their places."""
    wanted, kept = {output}, list[tuple[int, Any]]()
    for place, node in reversed(list(enumerate(graph.node))):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append((place, node))
    return kept[::-1]


def _read(name: str, values: Mapping[str, Value], builder: Builder) -> Value | None:
    if not name:
        return None
    if name not in values:
        raise FileError(
            f"{builder.where}: reads {name!r}, which is neither a weight nor the output of a node; check it with onnx.checker"
        )
    return values[name]


def _shape(node: NodeProto, shape: Sequence[int]) -> Array:
    if node.op_type == "Size":
        return np.array(int(np.prod(shape)), dtype=np.int64)
    options = attributes_of(node)
    return np.array(shape[options.get("start", 0) : options.get("end", len(shape))], dtype=np.int64)


def _array(tensor: Any, source: str) -> Array:
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise FileError(f"{source}: the weights of {tensor.name!r} do not fit their shape; {error}") from None


def _operand(value: Live | Array | None) -> Operand | None:
    return value if value is None or isinstance(value, Live) else tensor_of(value)
