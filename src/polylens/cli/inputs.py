"""What a run reads: networks, inputs, boxes and other domains."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..convert import load
from ..domain import Box, Domain, Plane, Segment
from ..errors import FileError, InputError, ShapeError
from ..network import Network
from .arguments import is_number
from .output import say


def network(options: argparse.Namespace) -> Network:
    """Return the network that the arguments name, the built-in one without MODEL."""
    factory = _is_factory(options.model)
    if not factory and (options.weights or options.example_shape):
        raise InputError("--weights and --example-shape: expected package.module:factory as MODEL that they belong to")
    if not options.model and (options.inputs or options.outputs):
        raise InputError("--inputs and --outputs: expected a MODEL that they belong to; the built-in network has one of each")
    if not options.model:
        from ..zoo import digits

        say(options, "the built-in digits network (trained once, in seconds)")
        return digits()
    if factory and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    say(options, f"loading {options.model}")
    examples = [torch.zeros(shape) for shape in options.example_shape or ()]
    example = tuple(examples) if len(examples) > 1 else examples[0] if examples else None
    return load(options.model, example, inputs=fixed_inputs(options), outputs=options.outputs, weights=options.weights)


def fixed_inputs(options: argparse.Namespace) -> dict[str, np.ndarray[Any, Any] | None] | None:
    """Return the values of --inputs by name, None for those that stay free; None where nothing was said."""
    words = [word.partition("=") for word in options.inputs or ()]
    return {name: _array(path) if sign else None for name, sign, path in words} or None


def _array(path: str) -> np.ndarray[Any, Any]:
    """Return a .npy array of numbers of any kind."""
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileError(f"{path}: expected a .npy array of numbers; {error}") from None
    if not isinstance(found, np.ndarray):
        raise FileError(f"{path}: expected a .npy array of numbers; got an archive of {sorted(found.files)}")
    return found


def _is_factory(model: str | None) -> bool:
    return (
        model is not None and ":" in model and not Path(model).exists() and Path(model).suffix not in (".onnx", ".pt2", ".npz")
    )


def domain(options: argparse.Namespace, net: Network) -> Domain:
    """Return where to look: a box, a plane or a segment."""
    if options.box:
        return whole_box(options.box, net)
    points = _inputs(options.plane or options.segment, net, 3 if options.plane else 2)
    return Plane.through(*points) if options.plane else Segment(*points)


def _inputs(path: str, net: Network, count: int) -> Tensor:
    """Return `count` inputs of a file in the network's shape, in the precision in which the file has them."""
    x = floats(path)
    want = (count, *net.input_shape)
    if x.shape[:1] != (count,) or x.numel() != math.prod(want):
        raise ShapeError(f"{path}: expected {count} inputs {want}; got {tuple(x.shape)}")
    return x.reshape(want)


def floats(path: str) -> Tensor:
    """Return a .npy array of floating-point numbers in float64, of bytes divided by 255."""
    x = _array(path)
    if x.dtype == np.uint8:
        return torch.from_numpy(x / 255.0)
    if not np.issubdtype(x.dtype, np.floating):
        raise InputError(f"{path}: expected floating-point numbers, or bytes as images; got {x.dtype}; convert first")
    return torch.from_numpy(x.astype(np.float64))


def whole_box(sides: list[str], net: Network) -> Box:
    """Return the box that two words stand for: numbers or files."""
    return Box(_side(sides[0], net), _side(sides[1], net))


def _side(text: str, net: Network) -> Tensor:
    """Return one side of a box: a number for every entry, or a file with one for each."""
    if is_number(text):
        return torch.full(net.input_shape, float(text), dtype=torch.float64)
    if not Path(text).suffix == ".npy":
        raise InputError(f"--box: expected a number, inf where there is no side, or a .npy file; got {text!r}")
    x = floats(text)
    if x.numel() != math.prod(net.input_shape):
        raise ShapeError(f"{text}: expected one side for each entry of {tuple(net.input_shape)}; got {tuple(x.shape)}")
    return x.reshape(net.input_shape)


def output_value(text: str, net: Network, option: str) -> Tensor:
    """Return an output (*output_shape): a number for every entry, or a file with one for each; NaN and inf are refused."""
    if is_number(text):
        value = torch.full(net.output_shape, float(text), dtype=torch.float64)
    elif Path(text).suffix == ".npy":
        value = floats(text)
    else:
        raise InputError(f"{option}: expected a number, or a .npy file with an output; got {text.strip()!r}")
    if value.numel() != math.prod(net.output_shape):
        raise ShapeError(f"{text}: expected one output {tuple(net.output_shape)}; got {tuple(value.shape)}")
    if not bool(torch.isfinite(value).all()):
        raise InputError(f"{option}: expected finite numbers; got NaN or infinity in {text.strip()}")
    return value.reshape(net.output_shape)


def one_or_many(path: str, net: Network) -> Tensor:
    """Return one input (*input_shape), or a batch of them (batch, *input_shape), of a file."""
    x, size = floats(path), math.prod(net.input_shape)
    if tuple(x.shape) == net.input_shape:
        return x
    if x.ndim > 1 and len(x) and x.numel() == len(x) * size:
        return x.reshape(-1, *net.input_shape)
    if x.numel() != size:
        raise ShapeError(
            f"{path}: expected an input {tuple(net.input_shape)}, or a batch of them, (batch,"
            f" {', '.join(map(str, net.input_shape))}); got {tuple(x.shape)}"
        )
    return x.reshape(net.input_shape)


def layer_of(name: str, net: Network) -> str | int:
    """Return a layer's name, or its position among the gates where a number is no name."""
    known = any(node.name == name for node in net.nodes)
    return name if known or not name.isdigit() else int(name)
