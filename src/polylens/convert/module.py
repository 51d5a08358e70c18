"""The PyTorch door: a module is exported to ATen operations, which are read one by one into steps.

Nothing is traced with hooks and nothing of the module is kept.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..errors import ConversionError, PolylensError, ShapeError, UnsupportedError
from ..network import Network
from ._interpreter import read
from ._module_call import Example, ModuleCall, first_parameter, module_call
from ._ports import Values
from ._program import first_line
from ._signature import Entry, Signature, program_entries, signature, signed

_RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
_FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError, IndexError)


def from_module(
    module: nn.Module, example: Example | None = None, *, inputs: Values | None = None, output: str | None = None
) -> Network:
    """Return the network of a module, checked against the module's own outputs.

    Args:
        module: in eval mode as far as it matters (no active dropout or batch statistics).
        example: any input with a batch axis, as the module is called, or several, one for each free input; unneeded when
            the first leaf is `nn.Linear`.
        inputs: values of inputs to fix, by the names of forward's parameters; None leaves an input free.
        output: which of several outputs is the network's.

    Raises:
        InputError: no example, or one that is not a floating-point tensor; a choice that is missing or names nothing.
        ShapeError: the module itself fails on the example.
        UnsupportedError: an operation that no step represents, control flow that depends on the data, train mode.
        ConversionError: the program's outputs differ from the module's.

    Algorithm: the example is exported as a batch of two. A module that moves the batch axis inside is exported once more as
        a function of one input, and compared on a batch of two different ones, which it must not mix.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            f"{type(module).__name__} is compiled TorchScript, which cannot be exported; load the original module"
        )
    call, name = module_call(module, example, inputs), type(module).__name__
    program, repeated = _program(module, call)
    form = _signature(program, call, output, name)
    run = _caller(module, form, call, repeated)

    def alone() -> ExportedProgram:
        return _exported(module, *call.rows(1))

    net = _converted(program, form, name, alone, run)
    parameter = first_parameter(module)
    return net if parameter is None else net.to(device=parameter.device)


def from_exported(
    program: ExportedProgram,
    source: str = "exported program",
    *,
    inputs: Values | None = None,
    output: str | None = None,
) -> Network:
    """Return the network of an exported program; the first axis of its free inputs is the batch."""
    form = signature(program, inputs, output, source)

    def alone() -> ExportedProgram:
        return program if len(form.examples[0]) == 1 else _shortened(program, form)

    return _converted(program, form, source, alone, form.runner(program))


def _converted(
    program: ExportedProgram, form: Signature, source: str, alone: Callable[[], ExportedProgram], run: Callable[..., Any]
) -> Network:
    """Return the network of a program, compared with its source; `alone` gives the program of a batch of one."""
    try:
        net = read(program, form, source)
    except UnsupportedError as refused:
        return _read_alone(form, source, alone, run, refused)
    _verify(net, run, form, _coarsest(program))
    return net


def _read_alone(
    form: Signature, source: str, alone: Callable[[], ExportedProgram], run: Callable[..., Any], refused: UnsupportedError
) -> Network:
    """Return the network of a program that is no batch of programs as it stands, or raise what it was refused for."""
    try:
        program = alone()
        net = read(program, _first_rows(program, form), source, alone=True)
        compared = _verify(net, run, form, _coarsest(program), same_shape=True)
    except (*_FAILURES, PolylensError):
        raise refused from None
    if not compared:
        raise refused
    return net


def _first_rows(program: ExportedProgram, form: Signature) -> Signature:
    """Return the signature of the same source exported with a batch of one."""
    entries = [
        Entry(name=old.name, node=new.node, value=new.value, free=old.free)
        for old, new in zip(form.entries, program_entries(program), strict=True)
    ]
    return Signature(tuple(entries), form.output)


def _shortened(program: ExportedProgram, form: Signature) -> ExportedProgram:
    """Return a program whose batch is symbolic, exported once more with a batch of one."""
    values = [e.value[:1] if e.free or e.repeated else e.value for e in form.entries]
    args, kwargs = torch.utils._pytree.tree_unflatten(values, program.call_spec.in_spec)
    return _exported(program.module(), args, kwargs)


def _exported(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    with torch.no_grad(), _quiet():
        return torch.export.export(module, args, kwargs or None)


def _program(module: nn.Module, call: ModuleCall) -> tuple[ExportedProgram, bool]:
    """Return the program of a batch of two, and whether the values of fixed inputs had to be repeated for it."""
    try:
        return _exported(module, *call.rows(2)), False  # a batch of 1 would be specialised silently
    except _FAILURES as error:
        if call.can_repeat:
            with contextlib.suppress(*_FAILURES):
                return _exported(module, *call.rows(2, repeated=True)), True
        _explain(module, call, error)


def _signature(program: ExportedProgram, call: ModuleCall, output: str | None, name: str) -> Signature:
    entries = [
        Entry(
            name=e.name, node=e.node, value=e.value, free=isinstance(e.value, Tensor) and e.name.split(".")[0] not in call.fixed
        )
        for e in program_entries(program)
    ]
    return signed(program, entries, output, name)


def _caller(module: nn.Module, form: Signature, call: ModuleCall, repeated: bool) -> Callable[..., Any]:
    """Return the module as a function of a batch of its free inputs, in the order of the signature."""
    free = [e.name for e in form.entries if e.free]

    def run(*xs: Tensor) -> Any:
        if call.args:
            return module(*xs)
        _, kwargs = call.rows(len(xs[0]), repeated=repeated)
        return module(**kwargs | dict(zip(free, xs, strict=True)))

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


def _explain(module: nn.Module, call: ModuleCall, error: Exception) -> NoReturn:
    """Raise the error of the module itself where it fails on the example (a copy is tried), else that of its export."""
    name, (args, kwargs) = type(module).__name__, call.rows(2)
    try:
        with torch.no_grad():
            copy.deepcopy(module)(*args, **kwargs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as own:
        shapes = [tuple(x.shape) for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        raise ShapeError(
            f"{name} fails on an example of shape {', '.join(map(str, shapes))}: {first_line(own)};"
            " pass example=..., a batch as the module is called"
        ) from own
    raise UnsupportedError(
        f"{name} cannot be exported: {first_line(error)}; control flow that depends on the data and Python side effects"
        " must move out of the model"
    ) from error


# -- the check


def _coarsest(program: ExportedProgram) -> float:
    """Return the relative rounding that the source itself may show: that of the coarsest dtype it computes in."""
    found = [getattr(node.meta.get("val"), "dtype", None) for node in program.graph.nodes]
    return max(_RELATIVE.get(dtype, 0.0) for dtype in found if dtype is not None)


def _verify(net: Network, run: Callable[..., Any], form: Signature, relative: float, same_shape: bool = False) -> int:
    """Compare the program with its source at the example and away from it; return how often both were finite.

    The source may arrange its numbers otherwise, unless the outputs must have the `same_shape`.
    """
    examples, compared = form.examples, 0
    for xs in (examples, [_away(x, seed) for seed, x in enumerate(examples)]):
        with torch.no_grad():
            want = form.chosen(run(*(x.clone() for x in xs)))  # the source may write into its input
            got = _evaluated(net, xs, want)
        if not bool(torch.isfinite(want).all()):
            continue
        compared += 1
        scale = max(float(want.abs().max()) if want.numel() else 0.0, 1e-30)
        if not same_shape and want.numel() == got.numel():
            got = got.reshape(want.shape)
        error = float((want - got).abs().max()) if want.shape == got.shape and want.numel() else float(want.shape != got.shape)
        if not error <= relative * scale:
            raise ConversionError(
                f"{net.source}: the program differs from its source by {error:.3g} where outputs reach {scale:.3g}; the model"
                " may be random or keep state; if it is neither, please report it"
            )
    return compared


def _away(x: Tensor, seed: int) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return x + torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x)


def _evaluated(net: Network, xs: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the network's output for a batch of the source's free inputs."""
    x = xs[0] if len(xs) == 1 else torch.cat([x.reshape(len(x), -1) for x in xs], 1)
    return net.to(device=x.device).forward(x.to(net.dtype)).to(like.device)
