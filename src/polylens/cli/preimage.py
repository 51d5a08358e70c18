"""The command `preimage`: all inputs with certain outputs, or the verdict on a property."""

from __future__ import annotations

import argparse
import math
from typing import Any

from torch import Tensor

from ..convert.original import original
from ..domain import Domain
from ..errors import InputError
from ..network import Network
from ..preimage import Preimage, preimage
from ..target import Argmax, OutputSet
from ..verify import Verdict, verify
from ..vnnlib import read_vnnlib
from .arguments import (
    add_command,
    add_effort,
    add_model,
    add_output,
    add_place,
    add_seed,
    at_least_zero,
    natural,
    positive,
)
from .inputs import domain as domain_of
from .inputs import fixed_inputs, network, output_value
from .output import (
    answer,
    refuse_arrays_nowhere,
    refuse_pictures_nowhere,
    refuse_pictures_of_solids,
    say,
    write_array,
    write_picture,
)


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands,
        "preimage",
        "all inputs with certain outputs, or the verdict on a property",
        "Find all inputs of a domain that a network maps into a set of outputs, exactly, as a union of polytopes; or decide a"
        " property in VNN-LIB, whose input sets are the domain: sat with a witness that the model itself confirms, unsat, or"
        " unknown with the reason. In JSON an infinite volume is null.",
        'polylens preimage model.onnx --output "y0 >= y1" "y0 >= 0.5" --box -1 1 --plot preimage.png',
        "polylens preimage model.onnx --class 3 --margin 0.1 --plane three.npy --sample 1000 -o samples.npy",
        "polylens preimage model.onnx --value 0 --box -inf inf",
        "polylens preimage model.onnx --vnnlib property.vnnlib --json",
    )
    add_model(command, optional=False)
    _add_target(command)
    add_place(command, required=False)
    add_effort(command, "pieces")
    command.add_argument("--whole", action="store_true", help="with --vnnlib: find all counterexamples and not only one")
    command.add_argument("--sample", metavar="N", type=positive, help="draw so many inputs, uniformly in the preimage")
    command.add_argument("-o", "--out", metavar="FILE", help="where the samples go, (N, *input_shape) as .npy")
    add_seed(command)
    command.add_argument("--plot", metavar="FILE", help="draw a domain of 1 or 2 dimensions, as .png, .pdf or .svg")
    add_output(command)
    command.set_defaults(run=_run)


def _add_target(command: argparse.ArgumentParser) -> None:
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--output",
        metavar="CONSTRAINT",
        nargs="+",
        action="extend",
        help='what must hold of the flattened outputs, all of it: "y0 >= y1", "2*y3 - y0 <= 1.5", "y2 == 0"',
    )
    target.add_argument("--class", metavar="K", type=natural, dest="winner", help="output K is the largest; see --margin")
    target.add_argument("--value", metavar="Y", help="exactly this output: a .npy file, or a number for all entries")
    target.add_argument(
        "--vnnlib", metavar="FILE", help="decide a property in VNN-LIB 1.0 or 2.0, which has its own input sets"
    )
    command.add_argument("--margin", metavar="M", type=at_least_zero, help="by which --class is the largest, at least")


def _run(options: argparse.Namespace) -> int:
    _refuse_contradictions(options)
    refuse_pictures_nowhere(options.plot)
    refuse_arrays_nowhere(options.out)
    if options.vnnlib:
        return _decide(options)
    net = network(options)
    domain, target = domain_of(options, net), _target(options, net)
    refuse_pictures_of_solids(options, domain)
    say(options, f"searching {domain!r}")
    effort: dict[str, Any] = {"limit": options.limit, "time_limit": options.time_limit, "n_jobs": options.jobs}
    found = preimage(net, target, domain, **effort)
    drawn = _samples(options, found)
    if options.plot and len(found):
        size = (8.4, 2.6) if domain.dim == 1 else (8.4, 6.2)
        write_picture(found, options.plot, size, points=drawn, label="samples")
    return answer(options, lambda: _dict(options, found, drawn), lambda: _text(options, found, drawn))


def _decide(options: argparse.Namespace) -> int:
    say(options, f"reading {options.vnnlib}")
    property, net = read_vnnlib(options.vnnlib), network(options)
    confirm = original(options.model, net, inputs=fixed_inputs(options), outputs=options.outputs, weights=options.weights)
    say(options, f"deciding {property!r}")
    effort: dict[str, Any] = {"limit": options.limit, "time_limit": options.time_limit, "n_jobs": options.jobs}
    found: Verdict = verify(net, property, original=confirm, whole=options.whole, **effort)
    return answer(options, found.to_dict, found.summary)


def _target(options: argparse.Namespace, net: Network) -> Argmax | OutputSet | Tensor:
    if options.winner is not None:
        return Argmax(options.winner, options.margin or 0.0)
    if options.value is not None:
        return output_value(options.value, net, "--value")
    return OutputSet.parse(options.output, math.prod(net.output_shape))


def _samples(options: argparse.Namespace, found: Preimage) -> Tensor | None:
    """Draw and write what was asked for; None where that makes no sense, which is said."""
    if not options.sample or not found.complete or not len(found):
        return None
    say(options, "drawing samples")
    drawn = found.sample(options.sample, seed=options.seed)
    write_array(drawn, options.out)
    return drawn


def _dict(options: argparse.Namespace, found: Preimage, drawn: Tensor | None) -> dict[str, Any]:
    domain: Domain = found.domain
    volume = domain.volume if math.isfinite(domain.volume) else None
    result = found.to_dict() | {"domain": domain.to_dict() | {"volume": volume}}
    result |= {"samples": options.out if drawn is not None else None} if options.sample else {}
    return result | ({"plot": options.plot if len(found) else None} if options.plot else {})


def _text(options: argparse.Namespace, found: Preimage, drawn: Tensor | None) -> str:
    lines = [found.summary(), f"  domain: {found.domain!r}, volume {found.domain.volume:.6g}"]
    if found.witness is not None:
        entries = found.witness.reshape(-1).tolist()
        more = ", ..." if len(entries) > 8 else ""
        lines.append(f"  one such input: {', '.join(f'{v:.6g}' for v in entries[:8])}{more}")
    elif found.complete:
        lines.append("  there is no such input: all cells of the domain were looked at, or dropped by proven bounds")
    if options.sample:
        why = "there is nothing to draw from" if found.complete else "samples need all pieces; raise the limit"
        lines.append(f"  no samples: {why}" if drawn is None else f"  {len(drawn)} samples written to {options.out}")
    if options.plot:
        lines.append(f"  drawn to {options.plot}" if len(found) else "  not drawn: there is no piece")
    return "\n".join(lines)


def _refuse_contradictions(options: argparse.Namespace) -> None:
    placed = options.box or options.plane or options.segment
    if options.vnnlib and (placed or options.sample or options.plot):
        raise InputError("--vnnlib: expected no --box, --plane, --segment, --sample or --plot; the file has its own input sets")
    if not options.vnnlib and not placed:
        raise InputError("preimage: expected --box, --plane or --segment to look in; got none")
    if options.whole and not options.vnnlib:
        raise InputError("--whole: expected --vnnlib that it belongs to; a preimage is whole already")
    if options.margin is not None and options.winner is None:
        raise InputError("--margin: expected --class that it belongs to; got none")
    if bool(options.sample) != bool(options.out):
        raise InputError("--sample and -o: expected both, a number and the file that the samples go to; got one of them")
