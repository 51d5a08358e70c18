"""The command `zeros`: many solutions of f(x) = y at once."""

from __future__ import annotations

import argparse
import math
from typing import Any

from ..zeros import Zeros, zeros
from .arguments import add_box, add_command, add_model, add_output, add_seed, positive
from .inputs import network, output_value, whole_box
from .output import answer, refuse_arrays_nowhere, refuse_pictures_nowhere, say, write_array, write_picture


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "zeros",
        "many solutions of f(x) = y at once",
        "Search for inputs with a given output, 0 if none is given, from many starts in a box: solutions, or least-squares"
        " points where there is none. That no start finds a solution is no proof; the command preimage gives one.",
        "polylens zeros model.onnx --box -1 1 --starts 1000 -o points.npy --plot zeros.png",
    )
    add_model(command, optional=False)
    add_box(command, required=True)
    command.add_argument(
        "--target", metavar="Y", default="0", help="the output: a .npy file, or a number for all entries (default: %(default)s)"
    )
    command.add_argument("--starts", metavar="N", type=positive, default=1000, help="how many (default: %(default)s)")
    add_seed(command)
    command.add_argument(
        "-o", "--out", metavar="FILE", help="where the searches ended, (starts, *input_shape) as .npy, and not in the JSON then"
    )
    command.add_argument(
        "--plot", metavar="FILE", help="draw the points, or for other than 2 inputs the residuals, as .png, .pdf or .svg"
    )
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    refuse_pictures_nowhere(options.plot)
    refuse_arrays_nowhere(options.out)
    net = network(options)
    box, target = whole_box(options.box, net), output_value(options.target, net, "--target")
    say(options, f"searching from {options.starts:,} starts")
    found = zeros(net, box, target, starts=options.starts, seed=options.seed)
    if options.out:
        write_array(found.points, options.out)
    if options.plot:
        write_picture(found, options.plot, (8.4, 6.2) if math.prod(net.input_shape) == 2 else (8.4, 4.2))
    return answer(options, lambda: _dict(options, found), lambda: _text(options, found))


def _dict(options: argparse.Namespace, found: Zeros) -> dict[str, Any]:
    result = found.to_dict() | {"num_distinct": len(found.distinct())}
    if options.out:
        del result["points"]
        result |= {"out": options.out}
    return result | ({"plot": options.plot} if options.plot else {})


def _text(options: argparse.Namespace, found: Zeros) -> str:
    lines = [found.summary(), f"  a residual up to {found.allowed:.3g} is rounding and counts as exact"]
    lines.append(f"  distinct exact solutions: {len(found.distinct())}")
    lines += [f"  points written to {options.out}"] if options.out else []
    return "\n".join([*lines, *([f"  drawn to {options.plot}"] if options.plot else [])])
