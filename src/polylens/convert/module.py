"""The PyTorch door: a module is exported to ATen operations, which are read one by one into steps.

Nothing is traced with hooks and nothing of the module is kept. Nodes that do not depend on the input are evaluated
once, which folds weight norm, spectral norm and every other reparametrisation into plain weights.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils._pytree import tree_leaves, tree_unflatten

from ..errors import ConversionError, InputError, PolylensError, ShapeError, UnsupportedError
from ..network import Network
from . import _aten_operators, _aten_shapes, _aten_windows  # noqa: F401  (they register their operations)
from ._aten_call import OPERATIONS, Arguments
from ._builder import Builder
from ._program import Live

_PURE = {"_operator", "math", "builtins", "torch"}  # where sizes are computed; nothing else is called on constants
_SKIPPED = ("_assert", "sym_constrain")  # checks of the exporter that compute nothing
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}  # PyTorch can unroll them, into a program nobody would recognise
_RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def from_module(module: nn.Module, example: Tensor | tuple[Tensor] | None = None) -> Network:
    """Return the network of a module, checked against the module's own outputs.

    Args:
        module: in eval mode as far as it matters (no active dropout or batch statistics).
        example: any input with a batch axis, as the module is called; unneeded when the first leaf is `nn.Linear`.

    Raises:
        InputError: no example, or one that is not a floating-point tensor.
        ShapeError: the module itself fails on the example.
        UnsupportedError: an operation that no step represents, control flow that depends on the data, train mode.
        ConversionError: the program's outputs differ from the module's.
    """
    parameter = next((p for p in [*module.parameters(), *module.buffers()] if p.is_floating_point()), None)
    example = _example(module, parameter) if example is None else _checked(example, parameter)
    pair = example[:1].expand(2, *example.shape[1:]).contiguous()  # a batch of 1 would be specialised silently
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            f"{type(module).__name__} is compiled TorchScript, which cannot be exported; load the original module"
        )
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(module, (pair,))
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError, IndexError) as error:
        _explain(module, pair, error)
    net = from_exported(program, type(module).__name__, verify=False)
    _verify(net, module, pair, _coarsest(program))
    return net if parameter is None else net.to(device=parameter.device)


def from_exported(program: ExportedProgram, source: str = "exported program", *, verify: bool = True) -> Network:
    """Return the network of an exported program; the first axis of its one input is the batch."""
    example = _user_input(program)
    net = _read(program, example, source)
    if verify:
        _verify(net, runner(program), example, _coarsest(program))
    return net


def runner(program: ExportedProgram) -> Callable[[Tensor], Any]:
    """Return the program as a function of its one input, by position or by keyword as it was exported."""
    module, spec = program.module(), program.call_spec.in_spec

    def run(x: Tensor) -> Any:
        args, kwargs = tree_unflatten([x], spec)
        return module(*args, **kwargs)

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's advice to authors of modules, and its drafts of graphs, out of the user's terminal."""
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore", UserWarning)
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def _explain(module: nn.Module, pair: Tensor, error: Exception) -> NoReturn:
    """Raise the error of the module itself where it fails on the example (a copy is tried), else that of its export."""
    name = type(module).__name__
    try:
        with torch.no_grad():
            copy.deepcopy(module)(pair.clone())
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as own:
        raise ShapeError(
            f"{name} fails on an example of shape {tuple(pair.shape)}: {_first_line(own)};"
            " pass example=..., a batch as the module is called"
        ) from own
    raise UnsupportedError(
        f"{name} cannot be exported: {_first_line(error)}; control flow that depends on the data and Python side effects"
        " must move out of the model"
    ) from error


# -- what goes in


def _example(module: nn.Module, parameter: Tensor | None) -> Tensor:
    leaf = next((m for m in module.modules() if isinstance(m, nn.Linear) or not list(m.children())), module)
    if not isinstance(leaf, nn.Linear) or parameter is None:
        raise InputError(
            f"{type(module).__name__}: expected example=..., a batch as the module is called (say torch.zeros(1, 3, 32, 32)),"
            f" because its first layer, {type(leaf).__name__}, does not tell the input's shape"
        )
    return torch.zeros(2, leaf.in_features, dtype=parameter.dtype, device=parameter.device)


def _checked(example: Tensor | tuple[Tensor], parameter: Tensor | None) -> Tensor:
    if isinstance(example, tuple) and len(example) == 1:
        example = example[0]  # as torch.export takes it
    example = example if isinstance(example, Tensor) else torch.as_tensor(example, device="cpu")
    if not example.is_floating_point() or example.ndim == 0 or len(example) == 0:
        raise InputError(
            "example: expected a batch of floating-point inputs, as the module is called;"
            f" got {example.dtype} of shape {tuple(example.shape)}"
        )
    return example.detach() if parameter is None else example.detach().to(parameter.device, parameter.dtype)


def _user_input(program: ExportedProgram) -> Tensor:
    """Return the program's example input, whose shape names the batch axis."""
    names = program.graph_signature.user_inputs
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(nodes) != 1 or not isinstance(nodes[0].meta.get("val"), Tensor):
        raise UnsupportedError(
            f"expected a model with one tensor as input; got {len(names)} inputs; wrap it in a module that takes one tensor"
            " and splits it"
        )
    given = [v for v in tree_leaves(program.example_inputs) if isinstance(v, Tensor)]
    shape = given[0].shape if given else nodes[0].meta["val"].shape
    dtype = nodes[0].meta["val"].dtype
    if not dtype.is_floating_point or len(shape) == 0:
        raise UnsupportedError(f"expected a batch of floating-point inputs; the model takes {dtype} of shape {tuple(shape)}")
    return given[0] if given else torch.zeros(tuple(int(s) for s in shape), dtype=dtype)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# -- which form of the graph to read


def _read(program: ExportedProgram, example: Tensor, source: str) -> Network:
    """Read the graph as exported, else in core ATen, into which PyTorch can break up most operations.

    A graph with in-place operations means something else than its nodes say one by one, and one with graphs inside (what
    stands under `no_grad` or `autocast`) says little by itself, so these are rewritten first. What neither form can say is
    reported by the name that the author of the model knows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, about its own tree specifications
        plain = program.run_decompositions({}) if any(map(_rewritten, program.graph.nodes)) else program
        unknown = _unknown(plain)
        core = program.run_decompositions() if unknown and not unknown & _RECURRENT else plain
    if unknown and not _unknown(core):
        with contextlib.suppress(UnsupportedError):
            return _interpret(core, example, source)
    return _interpret(plain, example, source)


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


def _interpret(program: ExportedProgram, example: Tensor, source: str) -> Network:
    constants = dict(program.state_dict) | dict(program.constants)
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs if hasattr(spec.arg, "name")}
    builder = Builder(tuple(example.shape[1:]), len(example), example.dtype)
    values: dict[torch.fx.Node, Any] = {}
    with torch.no_grad(), torch.device("cpu"):
        for node in program.graph.nodes:
            if node.op == "placeholder":
                target = specs[node.name].target
                is_input = node.name in program.graph_signature.user_inputs
                values[node] = Live(0, builder.input_shape) if is_input else _plain(constants.get(str(target)))
            elif node.op == "get_attr":
                values[node] = None  # a graph for the operation that calls it, which is refused by its own name
            elif node.op == "call_function":
                values[node] = _call(builder, node, values)
            elif node.op == "output":
                return builder.finish(_output(program, node, values), example.dtype, source)
    raise ConversionError(f"{source}: the exported graph has no output")


def _plain(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _output(program: ExportedProgram, node: torch.fx.Node, values: dict[torch.fx.Node, Any]) -> Live:
    changed = sorted(program.graph_signature.buffers_to_mutate.values())
    if changed:
        raise UnsupportedError(
            f"the model changes its buffers {changed} when it is called; call module.eval() before loading it"
        )
    returned: Any = torch.fx.node.map_arg(node.args[0], lambda n: values[n])
    specs = program.graph_signature.output_specs  # beside outputs they name the inputs that are written to
    outputs = [v for v, spec in zip(returned, specs, strict=True) if spec.kind == OutputKind.USER_OUTPUT]
    live = [v for v in outputs if isinstance(v, Live)]
    if len(outputs) != 1 or not live:
        raise UnsupportedError(
            f"expected a model with one tensor as output that depends on the input; got {len(outputs)} outputs, of which"
            f" {len(live)} depend on it; wrap it in a module that returns one"
        )
    return live[0]


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
            f"{builder.where}: is used in a way that is not supported ({_first_line(error)}); please report the model"
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


# -- the check


def _coarsest(program: ExportedProgram) -> float:
    """Return the relative rounding that the source itself may show: that of the coarsest dtype it computes in."""
    found = [getattr(node.meta.get("val"), "dtype", None) for node in program.graph.nodes]
    return max(_RELATIVE.get(dtype, 0.0) for dtype in found if dtype is not None)


def _verify(net: Network, run: Any, example: Tensor, relative: float) -> None:
    """Compare the program with its source at the example and away from it."""
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(example.shape, generator=generator, dtype=torch.float64, device="cpu").to(example)
    here = net.to(device=example.device)
    for x in (example, example + noise):
        with torch.no_grad():
            want, got = run(x.clone()), here.forward(x)  # the source may write into its input
        want = next(leaf for leaf in tree_leaves(want) if isinstance(leaf, Tensor))
        if not bool(torch.isfinite(want).all()):
            continue
        scale = max(float(want.abs().max()) if want.numel() else 0.0, 1e-30)
        if want.shape != got.shape and want.numel() == got.numel():
            got = got.reshape(want.shape)
        error = float((want - got).abs().max()) if want.shape == got.shape and want.numel() else float(want.shape != got.shape)
        if not error <= relative * scale:
            raise ConversionError(
                f"{net.source}: the program differs from its source by {error:.3g} where outputs reach {scale:.3g}; the model"
                " may be random or keep state; if it is neither, please report it"
            )
