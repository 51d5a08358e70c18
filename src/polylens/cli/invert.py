"""The command `invert`: the input that gave an output, layer by layer."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from ..invert import Inversion, invert
from ..network import Network
from .arguments import add_command, add_model, add_output, add_seed, is_number, natural, positive
from .inputs import floats, network
from .output import answer, refuse_arrays_nowhere, refuse_pictures_nowhere, say, write_array, write_picture


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "invert",
        "the input that gave an output, layer by layer",
        "Undo layer after layer, with the error that rounding leaves. Where a layer cannot be undone, say which and why, and"
        " give an input of least norm in a region with this output, and the dimension of all others there.",
        "polylens invert model.onnx --output y.npy -o x.npy --plot back.png",
    )
    add_model(command, optional=False)
    command.add_argument(
        "--output", metavar="FILE", required=True, help="an output of the network, or a batch of them, as .npy; or one number"
    )
    command.add_argument(
        "--starts",
        metavar="N",
        type=natural,
        default=16,
        help="of the search where a layer blocks; 0: none (default: %(default)s)",
    )
    command.add_argument(
        "--limit", metavar="N", type=positive, default=200, help="regions that it looks at (default: %(default)s)"
    )
    add_seed(command)
    command.add_argument(
        "-o", "--out", metavar="FILE", help="the inputs, in the shape of the outputs' batch, as .npy, and not in the JSON then"
    )
    command.add_argument("--plot", metavar="FILE", help="draw how errors grow from layer to layer, as .png, .pdf or .svg")
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    refuse_pictures_nowhere(options.plot)
    refuse_arrays_nowhere(options.out)
    net = network(options)
    y, precision = _outputs(options.output, net)
    say(options, "undoing layer after layer")
    found = invert(net, y, precision=precision, starts=options.starts, limit=options.limit, seed=options.seed)
    if options.out:
        write_array(found.x, options.out)
    if options.plot:
        write_picture(found, options.plot, (max(6.0, 2.0 + 0.9 * len(found.steps)), 4.2))
    return answer(options, lambda: _dict(options, found), lambda: _text(options, found))


def _outputs(path: str, net: Network) -> tuple[Tensor, float | None]:
    """Return one output or a batch of them, and the rounding of the numbers in the file."""
    if is_number(path):
        return torch.full(net.output_shape, _finite(path), dtype=torch.float64), None
    y, shape = floats(path), net.output_shape
    precision = _rounding(path)
    if y.numel() == math.prod(shape) and y.shape[: max(0, y.ndim - len(shape))] != (1,):
        return y.reshape(shape), precision
    if tuple(y.shape[1:]) != tuple(shape) and y.reshape(len(y), -1).shape[1] != math.prod(shape):
        raise ShapeError(f"{path}: expected an output {tuple(shape)} or a batch of them; got {tuple(y.shape)}")
    return y.reshape(-1, *shape), precision


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise InputError(f"--output: expected a finite number or a .npy file; got {text.strip()}")
    return float(text)


def _rounding(path: str) -> float | None:
    dtype = np.load(path, allow_pickle=False, mmap_mode="r").dtype
    return float(np.finfo(dtype).eps) if np.issubdtype(dtype, np.floating) else None


def _dict(options: argparse.Namespace, found: Inversion) -> dict[str, Any]:
    result = found.to_dict()
    if options.out:
        del result["x"]
        result |= {"out": options.out}
    return result | ({"plot": options.plot} if options.plot else {})


def _text(options: argparse.Namespace, found: Inversion) -> str:
    lines = [found.summary()]
    lines += [f"  inputs written to {options.out}"] if options.out else []
    return "\n".join([*lines, *([f"  drawn to {options.plot}"] if options.plot else [])])
