"""Reading a graph of ATen operations one by one into steps.

Nodes that do not depend on the input are evaluated once, which folds weight norm, spectral norm and every other
reparametrisation into plain weights.
"""

from __future__ import annotations

import contextlib
import math
import operator
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from ..errors import ConversionError, PolylensError, UnsupportedError
from ..network import Network
from . import _aten_operators, _aten_shapes, _aten_windows  # noqa: F401  (they register their operations)
from ._aten_call import OPERATIONS, Arguments
from ._builder import Builder
from ._ports import entered, joined
from ._program import Live, first_line
from ._signature import Signature

_PURE = {"_operator", "math", "builtins", "torch"}  # where sizes are computed; nothing else is called on constants
_SKIPPED = ("_assert", "sym_constrain")  # checks of the exporter that compute nothing
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}  # PyTorch can unroll them, into a program nobody would recognise


# -- which form of the graph to read


def read(program: ExportedProgram, signature: Signature, source: str, *, alone: bool = False) -> Network:
    """Return the network of a program.

    The graph is read as exported, else in core ATen, into which PyTorch can break up most operations. A graph with
    in-place operations means something else than its nodes say one by one, and one with graphs inside (what stands under
    `no_grad` or `autocast`) says little by itself, so these are rewritten first. What neither form can say is reported by
    the name that the author of the model knows.

    Args:
        program: any; how it is called is in `signature`.
        source: a word on where it came from.
        alone: read a program of a batch of one as one of no batch, so that its first axis may go anywhere.

    Raises: UnsupportedError, ConversionError.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, about its own tree specifications
        plain = program.run_decompositions({}) if any(map(_rewritten, program.graph.nodes)) else program
        unknown = _unknown(plain)
        core = program.run_decompositions() if unknown and not unknown & _RECURRENT else plain
    if unknown and not _unknown(core):
        with contextlib.suppress(UnsupportedError):
            return _interpret(core, signature, source, alone)
    return _interpret(plain, signature, source, alone)


def _rewritten(node: torch.fx.Node) -> bool:
    """Say whether a node changes its operands, or calls a graph of its own."""
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return True
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _unknown(program: ExportedProgram) -> set[str]:
    """Return the operations that the table lacks."""
    calls = [n for n in program.graph.nodes if isinstance(n.target, torch._ops.OpOverload) and _depends(n)]
    return {_operation(n) for n in calls} - set(OPERATIONS) - {n for n in map(_operation, calls) if n.startswith(_SKIPPED)}


def _depends(node: torch.fx.Node) -> bool:
    """Say, roughly, whether a node reads any other: constants made from nothing are evaluated whatever they are."""
    return bool(node.all_input_nodes)


def _operation(node: torch.fx.Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.split("::")[-1]
    return getattr(target, "__name__", str(target))


# -- the interpreter


def _interpret(program: ExportedProgram, signature: Signature, source: str, alone: bool) -> Network:
    constants = dict(program.state_dict) | dict(program.constants)
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs if hasattr(spec.arg, "name")}
    values: dict[torch.fx.Node, Any] = {}
    with torch.no_grad(), torch.device("cpu"):
        builder, given = _begun(signature, alone)
        for node in program.graph.nodes:
            if node.op == "placeholder":
                target = specs[node.name].target
                values[node] = given[node.name] if node.name in given else _plain(constants.get(str(target)))
            elif node.op == "get_attr":
                values[node] = None  # a graph for the operation that calls it, which is refused by its own name
            elif node.op == "call_function":
                values[node] = _call(builder, node, values)
            elif node.op == "output":
                output = _output(program, node, values, signature, source)
                builder.alone = False
                if alone and output.shape[:1] == (1,):
                    output = builder.reshape(output, output.shape)
                return builder.finish(output, signature.dtype, source)
    raise ConversionError(f"{source}: the exported graph has no output")


def _begun(signature: Signature, alone: bool) -> tuple[Builder, dict[str, Any]]:
    """Return a program with its inputs, and what every placeholder of the graph stands for."""
    free = [e for e in signature.entries if e.free]
    shapes = {e.name: tuple(e.value.shape[1:]) for e in free}
    whole = next(iter(shapes.values())) if len(free) == 1 else (sum(math.prod(s) for s in shapes.values()),)
    builder = Builder(whole, len(free[0].value), signature.dtype)
    builder.inputs, builder.alone = joined(shapes), alone
    live = entered(builder, {name: ((1, *s), False) if alone else (s, True) for name, s in shapes.items()})
    return builder, {e.node: live[e.name] if e.free else _plain(e.value) for e in signature.entries}


def _plain(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _output(
    program: ExportedProgram, node: torch.fx.Node, values: dict[torch.fx.Node, Any], signature: Signature, source: str
) -> Live:
    changed = sorted(program.graph_signature.buffers_to_mutate.values())
    if changed:
        raise UnsupportedError(
            f"the model changes its buffers {changed} when it is called; call module.eval() before loading it"
        )
    returned: Any = torch.fx.node.map_arg(node.args[0], lambda n: values[n])
    specs = program.graph_signature.output_specs  # beside outputs they name the inputs that are written to
    outputs = [v for v, spec in zip(returned, specs, strict=True) if spec.kind == OutputKind.USER_OUTPUT]
    output = outputs[signature.output]
    if not isinstance(output, Live):
        raise UnsupportedError(f"{source}: expected one tensor as output that depends on the input; this one is constant")
    return output


def _call(builder: Builder, node: torch.fx.Node, values: dict[torch.fx.Node, Any]) -> Any:
    operation = _operation(node)
    if operation.startswith(_SKIPPED):
        return None
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
    if node.target is operator.getitem:
        return values[node.all_input_nodes[0]][node.args[1]]
    path, leaf = _place(node)
    builder.begin(path if leaf else ".".join(p for p in (path, node.name) if p), f"{operation} in {path or 'forward'}")
    try:
        if not any(isinstance(v, Live) for v in _leaves((args, kwargs))):
            return _folded(builder, node.target, args, kwargs)
        handler = OPERATIONS.get(operation)
        if handler is None:
            builder.refuse("is not supported", "replace it, or take the part of the model in front of it")
        return handler(builder, _bound(node.target, args, kwargs))
    except PolylensError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        raise UnsupportedError(
            f"{builder.where}: is used in a way that is not supported ({first_line(error)}); please report the model"
        ) from error


def _place(node: torch.fx.Node) -> tuple[str, bool]:
    """Return the path of the innermost module around a node, and whether it is a layer of PyTorch's own."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", False
    path, kind = stack[-1][0], str(getattr(stack[-1][1], "__module__", stack[-1][1]))
    return path.removeprefix("L['self'].").removeprefix("L['self']"), kind.startswith("torch.nn.") and ".container." not in kind


def _folded(builder: Builder, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operation on constants gives, on the CPU wherever the model lives."""
    if not isinstance(target, torch._ops.OpOverload) and getattr(target, "__module__", "") not in _PURE:
        builder.refuse("is not supported", "replace it, or take the part of the model in front of it")
    if isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in target.tags:
        builder.refuse("draws random numbers", "networks are functions of their input; pass the noise in, or remove it")
    return target(*args, **(kwargs | {"device": "cpu"} if "device" in kwargs else kwargs))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in _leaves(v)]
    if isinstance(value, list | tuple):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value]


def _bound(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments by the names of the operation's schema, defaults filled in."""
    schema = target._schema
    bound = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    bound |= {a.name: v for a, v in zip(schema.arguments, args, strict=False)}
    return Arguments(bound | kwargs)
