"""The command `region`: the linear region around an input."""

from __future__ import annotations

import argparse
import math
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..explore import in_words
from ..facets import Facets, facets
from ..geometry import chebyshev_ball
from ..polytope import Polytope
from ..region import Region, region
from .arguments import add_command, add_model, add_output, end, seconds
from .inputs import network
from .output import answer, say


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "region",
        "the linear region around an input",
        "The facets, inradius and nearest boundary of a linear region. Without MODEL: the built-in digits network."
        " The nearest boundary is that of a unit, in any direction; facets and inradius are those of the region within the box,"
        " where one is given. In JSON an infinite inradius is null, and inradius_is_infinite says so.",
        "polylens region model.onnx --at x.npy --box 0 1",
    )
    add_model(command, optional=True)
    command.add_argument(
        "--at",
        metavar="FILE",
        required=True,
        help="the input: .npy of the network's input shape; bytes (uint8) are divided by 255",
    )
    command.add_argument(
        "--box", metavar=("LO", "HI"), type=end, nargs=2, help="look within LO <= x <= HI only, every entry; inf is no side"
    )
    command.add_argument("--time-limit", metavar="S", type=seconds, help="for the facets; what is open then is reported")
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..data import read_data

    _refuse_empty_box(options.box)
    data = read_data(options.at)
    net = network(options)
    x = _the_only(data.fitted(net.input_shape).inputs, options.at)
    say(options, "the region and its facets")
    here = region(net, x, domain=_box(options.box, x))
    found = facets(here.polytope, time_limit=options.time_limit)
    radius = chebyshev_ball(here.polytope).radius
    return answer(options, lambda: _dict(options.box, here, found, radius), lambda: _text(options.box, here, found, radius))


def _dict(box: list[float] | None, here: Region, found: Facets, radius: float) -> dict[str, Any]:
    sides = None if box is None else [side if math.isfinite(side) else None for side in box]
    return here.to_dict() | {
        "box": sides,
        "num_facets": found.num_facets,
        "facets_complete": found.complete,
        "undecided_rows": len(found.undecided),
        "inradius": float(radius) if math.isfinite(radius) else None,
        "inradius_is_infinite": radius == math.inf,
    }


def _text(box: list[float] | None, here: Region, found: Facets, radius: float) -> str:
    distance, unit = here.nearest
    boundary = "none: no unit ever switches" if unit is None else f"{distance:.4g} away, where {in_words(here.network, unit)}"
    of_units = sum(here.polytope.origins[rows[0]].name != "domain" for rows in found.groups)
    sides = f", {found.num_facets - of_units} sides of the box" if box else ""
    undecided = "" if found.complete else f"; {len(found.undecided)} rows are undecided and may be more"
    layers = ", ".join(here.layers) or "none"
    return "\n".join(
        [
            f"The region has {here.num_active} of {here.network.num_units} units active; layers with walls: {layers}",
            f"  domain: {f'the box {box[0]:g} <= x <= {box[1]:g}' if box else 'the whole space; --box bounds it'}",
            f"  nearest boundary of a unit, in any direction: {boundary}",
            f"  facets: {found.num_facets} of {len(here.polytope)} rows, {of_units} walls of units{sides}{undecided}",
            f"  inradius: {f'{radius:.4g}' if math.isfinite(radius) else 'infinite, balls of every size fit in the region'}",
            f"  on it the network is {here.map!r}",
        ]
    )


def _refuse_empty_box(box: list[float] | None) -> None:
    if box and not box[0] < box[1]:
        raise InputError(f"--box: expected LO < HI; got {box[0]:g} {box[1]:g}")


def _box(box: list[float] | None, x: Tensor) -> Polytope | None:
    if box is None:
        return None
    if not box[0] <= float(x.min()) <= float(x.max()) <= box[1]:
        raise InputError(
            f"--at: expected an input inside the --box {box[0]:g} {box[1]:g}; got entries from {float(x.min()):g} to"
            f" {float(x.max()):g}; widen the box, or scale the input as the network was trained (bytes are divided by 255)"
        )
    return Polytope.box([box[0]] * x.numel(), [box[1]] * x.numel())


def _the_only(x: Tensor, path: str) -> Tensor:
    if len(x) != 1:
        raise InputError(f"{path}: expected one input; got {len(x)}; save x[0] alone")
    return x[0]
