"""The source itself, run on inputs: beside the network that was read from it, to check what was found with the network."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path

from .._check import ArrayLike, array, as_tensor, finite, floating, is_batch
from .._evaluating import evaluating
from ..errors import ConversionError, InputError
from ..network import Network
from ._ports import Values, words

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@final
@dataclass(frozen=True, eq=False, slots=True)
class Original:
    """What a source computes itself: called with x (batch, *input_shape), it returns y (batch, *output_shape).

    x is rounded to the nearest numbers of `dtype`, in which the source works; y is on the CPU. `source` is a word on what is
    run, and `runner` on what runs it.
    """

    source: str
    runner: str
    dtype: torch.dtype
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    run: Callable[[Tensor], Tensor]

    def __call__(self, x: ArrayLike) -> Tensor:
        """Return the outputs of a batch.

        Raises: ShapeError, and InputError for integers, NaN and infinity; ConversionError when there are not as many
            outputs as the network has; UnsupportedError when the source cannot be run.
        """
        x = array(x)
        floating(x)
        if not is_batch(x, self.input_shape):
            x = x[None]
        x = finite(as_tensor(x, self.dtype, torch.device("cpu")), "input")
        with torch.no_grad():
            y = self.run(x)
        if y.numel() != len(x) * math.prod(self.output_shape):
            raise ConversionError(
                f"{self.source}: expected outputs {(len(x), *self.output_shape)}, as the network's; {self.runner} gives"
                f" {tuple(y.shape)}; load the network from the same source"
            )
        return y.reshape(len(x), *self.output_shape)


def original(
    source: nn.Module | ExportedProgram | Network | str | os.PathLike[str],
    net: Network,
    *,
    inputs: Values | None = None,
    outputs: str | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> Original:
    """Return the function that the source of a network computes itself, in its own precision.

    What is found with `net` in float64 can be checked with it by means that share no code with the network: an ONNX file
    runs in onnxruntime where it is installed, just as the file says; modules and exported programs run in PyTorch, a module
    in eval mode whatever its own. A network, and weights in an `.npz` file, have no other source; they run in float32.

    Without onnxruntime an ONNX file runs in ONNX's own reference evaluator, which misreads some operators: it counts only
    where the network agrees with it in float32, its outputs are NaN at other inputs, and where it contradicts the network
    at once, or cannot run the file, the network in float32 is what runs. `runner` says which of these it is.

    Args:
        source: what `net` was loaded from, as for `load`.
        net: the network, for the shapes of inputs and outputs.
        inputs: which inputs were fixed, as for `load`.
        outputs: which output was chosen, as for `load`.
        weights: for "package.module:callable", as for `load`.

    Raises:
        FileError, UnsafeFileError, InputError: as for `load`.
        UnsupportedError: the source cannot be run.

    Algorithm: one input after the other where the batch is fixed in the source, or some of several inputs are.

    Example:
        >>> import torch
        >>> from polylens import load, original
        >>> module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
        >>> f = original(module, load(module))
        >>> f(torch.zeros(4, 2)).shape, f.dtype
        (torch.Size([4, 3]), torch.float32)
    """
    if isinstance(source, nn.Module):
        return _of_module(source, net, inputs, outputs, type(source).__name__)
    if isinstance(source, torch.export.ExportedProgram):
        return _of_program(source, net, inputs, outputs, "exported program")
    if isinstance(source, Network):
        return _of_network(net)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"original: expected what the network was loaded from, a module, a program or a file; got {type(source).__name__}"
        )
    return _of_file(os.fspath(source), net, inputs, outputs, weights)


def _of_file(
    text: str, net: Network, inputs: Values | None, output: str | None, weights: str | os.PathLike[str] | None
) -> Original:
    path = Path(text)
    ending = path.suffix.lower()
    if ending == ".onnx":
        from ._onnx_reference import onnx_function

        run, dtype, runner = onnx_function(path, net, inputs, output)
        return Original(path.name, runner, dtype, net.input_shape, net.output_shape, run)
    if ending == ".pt2":
        from .exported import read_program

        return _of_program(read_program(path), net, inputs, output, path.name)
    if ":" in text and not path.exists():
        from .factory import filled

        return _of_module(filled(text, weights), net, inputs, output, text)
    return _of_network(net)


def _of_network(net: Network) -> Original:
    single = net.to(dtype=torch.float32)

    def run(x: Tensor) -> Tensor:
        return single.forward(x.to(net.device)).cpu()

    return Original(net.source, "the network in float32", torch.float32, net.input_shape, net.output_shape, run)


def _of_module(module: nn.Module, net: Network, inputs: Values | None, output: str | None, name: str) -> Original:
    from ._module_call import called, first_parameter

    parameter = first_parameter(module)
    here = torch.empty(0) if parameter is None else parameter
    call = called(module, [part.name for part in net.inputs], inputs)

    def run(x: Tensor) -> Tensor:
        with evaluating(module):
            x = x.to(here.device, copy=True)  # the module may write into its input
            return torch.cat([_named(call(*_parts(net, part)), output) for part in (x.split(1) if inputs else [x])])

    return Original(name, "PyTorch", here.dtype, net.input_shape, net.output_shape, run)


def _parts(net: Network, x: Tensor) -> list[Tensor]:
    """Return the source's free inputs, of which the network's is one or the joined ones."""
    return list(net.split(x).values()) or [x]


def _of_program(program: ExportedProgram, net: Network, inputs: Values | None, output: str | None, name: str) -> Original:
    from ._signature import signature

    form = signature(program, inputs if inputs is not None or not net.inputs else {}, output, name)
    call, example = form.runner(program), form.examples[0]
    symbolic = form.batch_is_symbolic(program)

    def run(x: Tensor) -> Tensor:
        x = x.to(example.device, copy=True)
        if symbolic:
            return form.chosen(call(*_parts(net, x))).cpu()
        rows = [_parts(net, sample.repeat(len(example), *(1,) * (x.ndim - 1))) for sample in x.split(1)]
        return torch.cat([form.chosen(call(*parts))[:1] for parts in rows]).cpu()

    return Original(name, "PyTorch", form.dtype, net.input_shape, net.output_shape, run)


def _named(returned: Any, output: str | None) -> Tensor:
    """Return the output of a given name, the first tensor where there is none."""
    leaves = tree_flatten_with_path(returned)[0]
    found: Tensor = next(leaf for path, leaf in leaves if isinstance(leaf, Tensor) and output in (None, words(path)))
    return found.cpu()
