"""The command `nullspace`: what a network forgets at inputs."""

from __future__ import annotations

import argparse
from typing import Any

from ..network import Network
from ..nullspace import Forgotten, NullSpace, forgotten_by_layer, null_space
from .arguments import add_command, add_model, add_output, at_least_zero
from .inputs import layer_of, network, one_or_many
from .output import answer, refuse_pictures_nowhere, say, write_figure, write_picture


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "nullspace",
        "what a network forgets at inputs",
        "The rank and the null space of the network's Jacobian at an input, or at each of a batch, and how many dimensions are"
        " forgotten up to each layer. Without MODEL: the built-in digits network. In JSON a gap that is infinite is null.",
        "polylens nullspace model.onnx --at x.npy --plot forgotten.png",
    )
    add_model(command, optional=True)
    command.add_argument(
        "--at",
        metavar="FILE",
        required=True,
        help="one input of the network's shape, or a batch of them, as .npy; bytes (uint8) are divided by 255",
    )
    command.add_argument("--layer", metavar="NAME", help="what the network up to this layer forgets (default: the output)")
    command.add_argument(
        "--tolerance", metavar="T", type=at_least_zero, help="singular values up to this count as 0 (default: by rounding)"
    )
    command.add_argument(
        "--plot",
        metavar="FILE",
        help="draw what is seen and what is forgotten of pictures, of other inputs the singular values; .png, .pdf or .svg",
    )
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    refuse_pictures_nowhere(options.plot)
    net = network(options)
    x = one_or_many(options.at, net)
    say(options, "singular values of the local maps")
    found = null_space(
        net, x, layer=None if options.layer is None else layer_of(options.layer, net), tolerance=options.tolerance
    )
    layers = forgotten_by_layer(net, x, tolerance=options.tolerance)
    if options.plot:
        _draw(found, options.plot)
    drawn = {"plot": options.plot} if options.plot else {}
    return answer(options, lambda: found.to_dict() | {"by_layer": layers.to_dict()} | drawn, lambda: _text(net, found, layers))


def _draw(found: NullSpace, name: str) -> None:
    from ..plotting.base import picture
    from ..plotting.nullspace import null_space_figure

    if picture(found.point[0] if found.is_batch else found.point) is None:
        write_picture(found, name, (8.4, 4.2))
    else:
        write_figure(null_space_figure(found), name)


def _text(net: Network, found: NullSpace, layers: Forgotten) -> str:
    ones = [found[i] for i in range(len(found))] if found.is_batch else [found]
    where = "the output" if found.layer is None else found.layer
    far = "exactly, within the region" if net.is_piecewise_linear else "to first order"
    lines = [f"What {where} does not see of {found.inputs} dimensions, {far}:"]
    lines += [f"  {f'input {i}: ' if found.is_batch else ''}{_line(one)}" for i, one in enumerate(ones)]
    lines.append("forgotten, of these dimensions, up to each layer" + (", least to most:" if len(ones) > 1 else ":"))
    return "\n".join([*lines, *layers.summary().splitlines()[1:]])


def _line(one: NullSpace) -> str:
    values, rank, gap = one.singular_values, int(one.rank), float(one.gap)
    text = f"null space {int(one.nullity)}, rank {rank}"
    if rank:
        text += f", singular values {float(values[0]):.4g} to {float(values[rank - 1]):.4g}"
    clear = "none dropped but zeros" if gap == float("inf") else f"gap {gap:.3g}"
    return f"{text}; up to {float(one.tolerance):.2g} counts as 0, {clear}"
