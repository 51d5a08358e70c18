"""The command `sensitivity`: which entries of an input a unit hangs on."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple, cast

from ..errors import InputError
from ..network import Network
from ..sensitivity import METHODS, Method, Sensitivity, sensitivity
from .arguments import add_command, add_model, add_output, is_number, positive
from .inputs import network, one_or_many
from .output import answer, refuse_arrays_nowhere, refuse_pictures_nowhere, say, write_array, write_figure

_PLAIN = METHODS[:3]  # what is asked for where nothing is said


class _Asked(NamedTuple):
    """The layer that was asked for, the output when None, and its units: all of them when None."""

    layer: str | int | None
    units: list[int] | str | None


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "sensitivity",
        "which entries of an input a unit hangs on",
        "The gradient of a unit at an input, gradient times input, and integrated gradients, exact along the line from the"
        " baseline; guided backpropagation and Grad-CAM for comparison. Of the largest output, unless told otherwise. Without"
        " MODEL: the built-in digits network.",
        "polylens sensitivity model.onnx --at x.npy --plot heat.png",
        "polylens sensitivity model.onnx --at x.npy --class 3 --method integrated_gradients -o heat.npy",
        "polylens sensitivity model.onnx --at x.npy --unit Relu_4:17",
    )
    add_model(command, optional=True)
    command.add_argument(
        "--at",
        metavar="FILE",
        required=True,
        help="one input of the network's shape, or a batch of them, as .npy; bytes (uint8) are divided by 255",
    )
    what = command.add_mutually_exclusive_group()
    what.add_argument("--unit", metavar="NAME[:INDEX]", help="a unit of a layer by its position there, or all of its units")
    what.add_argument("--class", metavar="K", dest="output", type=_position, help="output K (default: the largest)")
    command.add_argument(
        "--method",
        metavar="NAME",
        action="append",
        choices=METHODS,
        help=f"one of {', '.join(METHODS)}; may be given again (default: the first three)",
    )
    command.add_argument("--baseline", metavar="B", default="0", help="a number, or an input as .npy (default: %(default)s)")
    command.add_argument("--feature-layer", metavar="NAME", help="Grad-CAM's (default: the last of convolutions)")
    command.add_argument(
        "--top", metavar="N", type=positive, default=10, help="how many entries to rank (default: %(default)s)"
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help="the last method's values, (batch, units, *input_shape) as .npy; none in the JSON then",
    )
    command.add_argument("--plot", metavar="FILE", help="draw them over the inputs, or as bars; .png, .pdf or .svg")
    add_output(command)
    command.set_defaults(run=_run)


def _position(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a position among the outputs, from 0 on; got {text.strip()!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    refuse_pictures_nowhere(options.plot)
    refuse_arrays_nowhere(options.out)
    net = network(options)
    x, asked = one_or_many(options.at, net), _asked(options, net)
    methods = tuple(dict.fromkeys(options.method or _PLAIN))
    say(options, f"{', '.join(methods)} at {1 if tuple(x.shape) == net.input_shape else len(x)} inputs")
    found = sensitivity(
        net,
        x,
        asked.layer,
        units=cast(Any, asked.units),
        methods=cast("tuple[Method, ...]", methods),
        baseline=_baseline(options.baseline, net),
        feature_layer=options.feature_layer,
    )
    if options.out:
        write_array(found.of(methods[-1]), options.out)
    if options.plot:
        from ..plotting.sensitivity import sensitivity_figure

        write_figure(sensitivity_figure(found, top=options.top), options.plot)
    return answer(options, lambda: _dict(options, found), lambda: _text(options, found))


def _asked(options: argparse.Namespace, net: Network) -> _Asked:
    """Return the layer and the units that the words name; a layer's own name may hold a colon."""
    if options.unit is None:
        return _Asked(None, "largest" if options.output is None else [options.output])
    names = [node.name for node in net.nodes]
    if options.unit in names:
        return _Asked(options.unit, None)
    name, _, index = options.unit.rpartition(":")
    if name not in names or not index.isdigit():
        raise InputError(f"--unit: expected NAME or NAME:INDEX with one of {names}; got {options.unit!r}")
    return _Asked(name, [int(index)])


def _baseline(text: str, net: Network) -> Any:
    if is_number(text):
        return float(text)
    if not text.endswith(".npy"):
        raise InputError(f"--baseline: expected a number, or a .npy file with an input; got {text!r}")
    return one_or_many(text, net)


def _dict(options: argparse.Namespace, found: Sensitivity) -> dict[str, Any]:
    result = found.to_dict()
    result["ranking"] = {method: found.ranking(method, options.top).features.tolist() for method in found.attributions}
    if options.out:
        del result["attributions"]
        result |= {"out": options.out}
    return result | ({"plot": options.plot} if options.plot else {})


def _text(options: argparse.Namespace, found: Sensitivity) -> str:
    lines = [found.summary()]
    lines += [f"  values of {list(found.attributions)[-1]} written to {options.out}"] if options.out else []
    return "\n".join([*lines, *([f"  drawn to {options.plot}"] if options.plot else [])])
