"""The command `invertibility`: which layers can be undone at inputs."""

from __future__ import annotations

import argparse
from typing import Any

from torch import Tensor

from ..data import read_data
from ..errors import InputError
from ..invertibility import Invertibility, invertibility
from ..network import Network
from .arguments import add_command, add_model, add_output, positive
from .inputs import layer_of, network
from .output import answer, refuse_pictures_nowhere, say, write_figure


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "invertibility",
        "which layers can be undone at inputs",
        "Of every layer and every input: is the set of a layer's inputs with the same output a single point (singleton),"
        " bounded (finite) or unbounded (infinite)? The first layer is asked on the whole space, one behind a ReLU among"
        " inputs of at least 0. Without MODEL: the built-in digits network.",
        "polylens invertibility model.onnx --data images.npz --limit 50 --plot kinds.png",
    )
    add_model(command, optional=True)
    command.add_argument("--data", metavar="FILE", help="inputs: .npy, .npz, IDX (MNIST) or CIFAR-10 binary, gzipped or not")
    command.add_argument(
        "--layer", metavar="NAME", action="append", help="this layer only; may be given several times (default: all)"
    )
    command.add_argument("--limit", metavar="N", type=positive, default=100, help="the first N inputs (default: %(default)s)")
    command.add_argument("--plot", metavar="FILE", help="draw kinds by the number of positive outputs; .png, .pdf or .svg")
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    refuse_pictures_nowhere(options.plot)
    net = network(options)
    x = _inputs(options, net)
    layers = None if options.layer is None else [layer_of(name, net) for name in options.layer]
    say(options, f"preimages of the layers' outputs at {len(x):,} inputs")
    found = invertibility(net, x, layers)
    if options.plot:
        _draw(found, options.plot)
    drawn = {"plot": options.plot} if options.plot else {}
    return answer(options, lambda: found.to_dict() | drawn, lambda: _text(options, found))


def _inputs(options: argparse.Namespace, net: Network) -> Tensor:
    if options.data:
        return read_data(options.data).first(options.limit).fitted(net.input_shape).inputs
    from ..zoo import digits_data

    if options.model:
        raise InputError("invertibility: expected inputs, --data FILE; got none")
    return digits_data("test").first(options.limit).inputs


def _draw(found: Invertibility, name: str) -> None:
    from ..plotting.invertibility import invertibility_figure

    if not found.layers:
        raise InputError("--plot: expected a layer that can be asked; there is none; run without it for the reasons")
    write_figure(invertibility_figure(found), name)


def _text(options: argparse.Namespace, found: Invertibility) -> str:
    return "\n".join([found.summary(), *([f"  drawn to {options.plot}"] if options.plot else [])])
