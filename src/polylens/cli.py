"""The command line: one function a command; what is heavy is imported inside them, so that `--help` is quick.

Exit code 0, 2 for a mistake of the user's with one line on stderr, 130 when interrupted. With `--json` the standard
output is one JSON object and nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from torch import Tensor

    from .data import Data
    from .facets import Facets
    from .network import Network
    from .polytope import Polytope
    from .region import Region

_MODEL = "an .onnx, .pt2 or .npz file, or package.module:factory for a torch module of your own"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        options = _parser().parse_args(_shielded(sys.argv[1:] if arguments is None else arguments))
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; the exit must not complain
        return 0
    except OSError as error:
        return _complain(f"{error.filename or 'file'}: {error.strerror or error}", 2)
    except Exception as error:
        from .errors import PolylensError

        if not isinstance(error, PolylensError):
            raise
        return _complain(str(error), 2)
    return code


def _complain(message: str, code: int) -> int:
    print(f"polylens: {' '.join(message.split())}", file=sys.stderr)
    return code


# -- what can be asked


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as every other mistake does."""

    def error(self, message: str) -> NoReturn:
        sys.exit(_complain(f"{message}; see {self.prog} --help", 2))


def _shielded(arguments: Sequence[str]) -> list[str]:
    """Put a blank before negative numbers: argparse takes -1 for one, but -1e0 and -inf for options."""
    return [f" {word}" if word.startswith("-") and _is_number(word) else word for word in arguments]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Version(argparse.Action):
    """Prints the version, read from the package's metadata so that torch stays unloaded."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib import metadata

        print(f"polylens {metadata.version('polylens')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="polylens", description="Look at a trained network through its polytopes.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_report(commands)
    _add_info(commands)
    _add_region(commands)
    return parser


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="write a page on a network and its data",
        description="Write a self-contained page, its figures and its numbers. Without MODEL: the built-in digits network.",
    )
    _add_model(report, optional=True)
    data = report.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="FILE",
        help=".npy, .npz, IDX (MNIST) or CIFAR-10 binary, gzipped or not; bytes count as images, / 255",
    )
    data.add_argument("--labels", metavar="FILE", help="class numbers as .npy, .npz or IDX, where --data has none")
    data.add_argument("--mean", metavar="M", type=float, nargs="+", help="subtracted from the data, one or one a channel")
    data.add_argument("--std", metavar="S", type=float, nargs="+", help="divides the data after that, one or one a channel")
    data.add_argument("--limit", metavar="N", type=_positive, help="look at the first N inputs only")
    report.add_argument("-o", "--out", metavar="DIR", default="report", help="where to write (default: %(default)s)")
    _add_output(report)
    report.set_defaults(run=_report)


def _add_info(commands: Any) -> None:
    info = commands.add_parser("info", help="show a network as a program", description="Show a network as a program of steps.")
    _add_model(info, optional=False)
    _add_output(info)
    info.set_defaults(run=_info)


def _add_region(commands: Any) -> None:
    command = commands.add_parser(
        "region",
        help="the linear region around an input",
        description="The facets, inradius and nearest boundary of a linear region. Without MODEL: the built-in digits network."
        " The nearest boundary is that of a unit, in any direction; facets and inradius are those of the region within the box,"
        " where one is given. In JSON an infinite inradius is null, and inradius_is_infinite says so.",
    )
    _add_model(command, optional=True)
    command.add_argument(
        "--at",
        metavar="FILE",
        required=True,
        help="the input: .npy of the network's input shape; bytes (uint8) are divided by 255",
    )
    command.add_argument(
        "--box", metavar=("LO", "HI"), type=_end, nargs=2, help="look within LO <= x <= HI only, every entry; inf is no side"
    )
    command.add_argument("--time-limit", metavar="S", type=_seconds, help="for the facets; what is open then is reported")
    _add_output(command)
    command.set_defaults(run=_region)


def _add_model(command: argparse.ArgumentParser, optional: bool) -> None:
    command.add_argument("model", metavar="MODEL", nargs="?" if optional else None, help=_MODEL)
    command.add_argument("--weights", metavar="FILE", help="for a factory: .safetensors or a state dict")
    command.add_argument(
        "--example-shape", metavar="SHAPE", type=_shape, help="for a factory: the shape of an input batch, as 1,3,32,32"
    )


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("-q", "--quiet", action="store_true", help="do not say what is being done")


def _end(text: str) -> float:
    if not _is_number(text) or math.isnan(float(text)):
        raise argparse.ArgumentTypeError(f"expected a number, or inf where there is no side; got {text.strip()!r}")
    return float(text)


def _seconds(text: str) -> float:
    if not _is_number(text) or not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0; got {text.strip()!r}")
    return float(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; got {text.strip()!r}")
    return int(text)


def _shape(text: str) -> tuple[int, ...]:
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas, as 1,3,32,32; got {text!r}")
    return tuple(int(part) for part in parts)


# -- commands


def _info(options: argparse.Namespace) -> int:
    net = _network(options)
    print(json.dumps(net.to_dict(), allow_nan=False) if options.json else net.summary())
    return 0


def _report(options: argparse.Namespace) -> int:
    _refuse_contradictions(options)
    from .report import write_report

    data = _data(options)
    net = _network(options)
    if data is None:
        from .zoo import digits_data

        data = digits_data("test")
    data = data.first(options.limit) if options.limit else data
    title = None if options.model else "The built-in digits network"
    _say(options, f"examining the network on {len(data):,} inputs")
    page = write_report(net, data, options.out, title=title)
    if options.json:
        content = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
        print(json.dumps({"page": str(page), **content}, allow_nan=False))
    else:
        print(f"report written to {page}")
    return 0


def _region(options: argparse.Namespace) -> int:
    from .data import read_data
    from .facets import facets
    from .geometry import chebyshev_ball
    from .region import region

    _refuse_empty_box(options.box)
    data = read_data(options.at)
    net = _network(options)
    x = _the_only(data.fitted(net.input_shape).inputs, options.at)
    _say(options, "the region and its facets")
    here = region(net, x, domain=_box(options.box, x))
    found = facets(here.polytope, time_limit=options.time_limit)
    radius = chebyshev_ball(here.polytope).radius
    result = here.to_dict() | {
        "box": options.box and [side if math.isfinite(side) else None for side in options.box],
        "num_facets": found.num_facets,
        "facets_complete": found.complete,
        "undecided_rows": len(found.undecided),
        "inradius": float(radius) if math.isfinite(radius) else None,
        "inradius_is_infinite": radius == math.inf,
    }
    print(json.dumps(result, allow_nan=False) if options.json else _region_text(here, found, radius, options.box))
    return 0


def _region_text(here: Region, found: Facets, radius: float, box: list[float] | None) -> str:
    from .explore import in_words

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
    from .errors import InputError

    if box and not box[0] < box[1]:
        raise InputError(f"--box: expected LO < HI; got {box[0]:g} {box[1]:g}")


def _box(box: list[float] | None, x: Tensor) -> Polytope | None:
    from .errors import InputError
    from .polytope import Polytope

    if box is None:
        return None
    if not box[0] <= float(x.min()) <= float(x.max()) <= box[1]:
        raise InputError(
            f"--at: expected an input inside the --box {box[0]:g} {box[1]:g}; got entries from {float(x.min()):g} to"
            f" {float(x.max()):g}; widen the box, or scale the input as the network was trained (bytes are divided by 255)"
        )
    return Polytope.box([box[0]] * x.numel(), [box[1]] * x.numel())


def _the_only(x: Tensor, path: str) -> Tensor:
    from .errors import InputError

    if len(x) != 1:
        raise InputError(f"{path}: expected one input; got {len(x)}; save x[0] alone")
    return x[0]


def _refuse_contradictions(options: argparse.Namespace) -> None:
    from .errors import InputError

    if options.model and not options.data:
        raise InputError(f"{options.model}: expected --data FILE with inputs; only the built-in network has data of its own")
    if not options.data and (options.labels or options.mean or options.std):
        raise InputError("--labels, --mean and --std: expected --data FILE that they belong to; got none")


def _data(options: argparse.Namespace) -> Data | None:
    if not options.data:
        return None
    from .data import read_data

    _say(options, f"reading {options.data}")
    data = read_data(options.data, options.labels)
    if options.mean or options.std:
        data = data.normalised(options.mean or 0.0, options.std or 1.0)
    return data


def _network(options: argparse.Namespace) -> Network:
    from .errors import InputError

    factory = _is_factory(options.model)
    if not factory and (options.weights or options.example_shape):
        raise InputError("--weights and --example-shape: expected package.module:factory as MODEL that they belong to")
    if not options.model:
        from .zoo import digits

        _say(options, "the built-in digits network (trained once, in seconds)")
        return digits()
    import torch

    from .convert import load

    if factory and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    _say(options, f"loading {options.model}")
    example = None if options.example_shape is None else torch.zeros(options.example_shape)
    return load(options.model, example=example, weights=options.weights)


def _is_factory(model: str | None) -> bool:
    return (
        model is not None and ":" in model and not Path(model).exists() and Path(model).suffix not in (".onnx", ".pt2", ".npz")
    )


def _say(options: argparse.Namespace, what: str) -> None:
    """Tell a person at a terminal what takes the time."""
    if not options.quiet and sys.stderr.isatty():
        print(f"polylens: {what}", file=sys.stderr)
