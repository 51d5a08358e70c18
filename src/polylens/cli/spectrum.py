"""The command `spectrum`: the singular values of all layers' local maps."""

from __future__ import annotations

import argparse
from typing import Any

from torch import Tensor

from ..data import read_data
from ..errors import InputError
from ..network import Network
from ..spectrum import Spectrum, spectrum
from .arguments import add_command, add_model, add_output, at_least_zero, positive
from .inputs import layer_of, network, one_or_many
from .output import answer, refuse_pictures_nowhere, say, write_figure, write_picture


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "spectrum",
        "singular values of all layers at inputs",
        "The singular values of the map from the input to every layer, in front of its gate and behind it, around inputs, with"
        " rank and condition number on the row space. Without MODEL: the built-in digits network. In JSON"
        " null is what is infinite or not known.",
        "polylens spectrum model.onnx --data images.npz --count 20 --plot decay.png",
        "polylens spectrum model.onnx --at x.npy --layer relu1 --plot gates.png --effect",
    )
    add_model(command, optional=True)
    place = command.add_mutually_exclusive_group()
    place.add_argument("--data", metavar="FILE", help="inputs: .npy, .npz, IDX (MNIST) or CIFAR-10 binary, gzipped or not")
    place.add_argument(
        "--at",
        metavar="FILE",
        help="one input of the network's shape, or a batch of them, as .npy; bytes (uint8) are divided by 255",
    )
    command.add_argument("--count", metavar="N", type=positive, default=10, help="inputs of --data (default: %(default)s)")
    command.add_argument(
        "--layer", metavar="NAME", action="append", help="this layer only; may be given several times (default: all)"
    )
    command.add_argument(
        "--tolerance", metavar="T", type=at_least_zero, help="singular values up to this count as 0 (default: by rounding)"
    )
    command.add_argument("--plot", metavar="FILE", help="draw how the values decay over layers, as .png, .pdf or .svg")
    command.add_argument(
        "--effect", action="store_true", help="draw what each gate does to the values instead, one panel a gate"
    )
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    refuse_pictures_nowhere(options.plot)
    net = network(options)
    x = _inputs(options, net)
    layers = None if options.layer is None else [layer_of(name, net) for name in options.layer]
    say(options, "singular values of the local maps")
    found = spectrum(net, x, layers, tolerance=options.tolerance)
    if options.plot:
        _draw(options, found)
    drawn = {"plot": options.plot} if options.plot else {}
    return answer(options, lambda: found.to_dict() | drawn, lambda: _text(options, found))


def _inputs(options: argparse.Namespace, net: Network) -> Tensor:
    if options.at:
        return one_or_many(options.at, net)
    if options.data:
        return read_data(options.data).first(options.count).fitted(net.input_shape).inputs
    from ..zoo import digits_data

    if options.model:
        raise InputError("spectrum: expected inputs, --data FILE or --at FILE; got neither")
    return digits_data("test").first(options.count).inputs


def _draw(options: argparse.Namespace, found: Spectrum) -> None:
    from ..plotting.spectrum import effect_figure

    if options.effect:
        write_figure(effect_figure(found), options.plot)
    else:
        write_picture(found, options.plot, (9.6, 4.6))


def _text(options: argparse.Namespace, found: Spectrum) -> str:
    return "\n".join([found.summary(), *([f"  drawn to {options.plot}"] if options.plot else [])])
