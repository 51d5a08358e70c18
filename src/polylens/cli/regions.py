"""The command `regions`: how many linear regions a domain has."""

from __future__ import annotations

import argparse
import math
from typing import Any

from ..complex import Complex, subdivide
from ..domain import Domain
from ..network import Network
from ..subdivision import RegionCount, count_regions
from .arguments import add_command, add_effort, add_model, add_output, add_place
from .inputs import domain as domain_of
from .inputs import network
from .output import answer, refuse_pictures_nowhere, refuse_pictures_of_solids, say, write_picture


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "regions",
        "count the linear regions of a domain",
        "Count the activation regions of a network in a box, in a plane through three inputs, or on a segment"
        " between two, exactly. With a limit the count is a lower bound, and what part of the domain it covers is reported."
        " In JSON an infinite volume, and a volume that was not measured, are null.",
        "polylens regions model.onnx --box -1 1 --plot regions.png",
    )
    add_model(command, optional=False)
    add_place(command, required=True)
    add_effort(command, "regions")
    command.add_argument(
        "--store", metavar="DIR", help="keep every region in Parquet files; the same command resumes a killed run"
    )
    command.add_argument(
        "--volumes", action=argparse.BooleanOptionalAction, default=None, help="measure volumes (default: up to 5 dimensions)"
    )
    command.add_argument(
        "--linear", action="store_true", help="also merge neighbours with equal maps; holds all regions at once"
    )
    command.add_argument("--plot", metavar="FILE", help="draw a domain of 1 or 2 dimensions, as .png, .pdf or .svg")
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    refuse_pictures_nowhere(options.plot)
    net = network(options)
    domain = domain_of(options, net)
    refuse_pictures_of_solids(options, domain)
    say(options, f"cutting {domain!r}")
    found = count_regions(
        net,
        domain,
        limit=options.limit,
        time_limit=options.time_limit,
        volumes=domain.is_bounded and (domain.dim <= 5 if options.volumes is None else options.volumes),
        n_jobs=options.jobs,
        store=options.store,
    )
    whole = _complex(options, net, domain) if found.complete and (options.plot or options.linear) else None
    if whole is not None and options.plot:
        write_picture(whole, options.plot, (8.4, 3.8) if whole.dim == 1 else (8.4, 6.2))
    linear = whole.linear_regions().count if whole is not None and options.linear else None
    drawn = whole is not None
    return answer(options, lambda: _dict(options, found, domain, linear, drawn), lambda: _text(options, found, domain, linear))


def _complex(options: argparse.Namespace, net: Network, domain: Domain) -> Complex:
    say(options, "holding all regions at once")
    return subdivide(net, domain, n_jobs=options.jobs)


def _dict(options: argparse.Namespace, found: RegionCount, domain: Domain, linear: int | None, whole: bool) -> dict[str, Any]:
    volume = domain.volume if math.isfinite(domain.volume) else None
    result = found.to_dict() | {"domain": domain.to_dict() | {"volume": volume}}
    if options.volumes is False:
        result |= {"volume": None}
    result |= {"store": options.store} if options.store else {}
    result |= {"linear_regions": linear} if options.linear else {}
    return result | ({"plot": options.plot if whole else None} if options.plot else {})


def _text(options: argparse.Namespace, found: RegionCount, domain: Domain, linear: int | None) -> str:
    lines = [f"{found.summary()}", f"  domain: {domain!r}, volume {domain.volume:.6g}"]
    if found.volume is not None and options.volumes is not False:
        lines.append(f"  volume of the regions: {found.volume:.6g}")
    lines += [f"  linear regions: {linear}"] if linear is not None else []
    if not found.complete and (options.plot or options.linear):
        lines.append("  not drawn, and neighbours not merged: both need all regions; raise the limit")
    lines += [f"  drawn to {options.plot}"] if found.complete and options.plot else []
    lines += [f"  stored in {options.store}"] if options.store else []
    return "\n".join([*lines, f"  in {found.seconds:.3g} s"])
