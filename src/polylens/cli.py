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

    from .complex import Complex
    from .data import Data
    from .domain import Box, Domain
    from .facets import Facets
    from .network import Network
    from .polytope import Polytope
    from .region import Region
    from .subdivision import RegionCount

_PICTURES = (".png", ".pdf", ".svg")
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
    _add_regions(commands)
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


def _add_regions(commands: Any) -> None:
    command = commands.add_parser(
        "regions",
        help="count the linear regions of a domain",
        description="Count the activation regions of a network in a box, in a plane through three inputs, or on a segment"
        " between two, exactly. With a limit the count is a lower bound, and what part of the domain it covers is reported."
        " In JSON an infinite volume, and a volume that was not measured, are null.",
    )
    _add_model(command, optional=False)
    place = command.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--box",
        metavar=("LO", "HI"),
        nargs=2,
        help="LO <= x <= HI: numbers for every entry, or .npy files; inf is no side, equal sides fix an entry",
    )
    place.add_argument(
        "--plane", metavar="FILE", help="three inputs, (3, *input_shape): the rectangle around them in their plane"
    )
    place.add_argument("--segment", metavar="FILE", help="two inputs, (2, *input_shape): the straight line between them")
    command.add_argument("--limit", metavar="N", type=_positive, help="stop when so many regions are found")
    command.add_argument("--time-limit", metavar="S", type=_seconds, help="stop after so many seconds")
    command.add_argument(
        "--store", metavar="DIR", help="keep every region in Parquet files; the same command resumes a killed run"
    )
    command.add_argument("--jobs", metavar="N", type=_jobs, default=1, help="threads; -1 for all cores (default: %(default)s)")
    command.add_argument(
        "--volumes", action=argparse.BooleanOptionalAction, default=None, help="measure volumes (default: up to 5 dimensions)"
    )
    command.add_argument(
        "--linear", action="store_true", help="also merge neighbours with equal maps; holds all regions at once"
    )
    command.add_argument("--plot", metavar="FILE", help="draw a domain of 1 or 2 dimensions, as .png, .pdf or .svg")
    _add_output(command)
    command.set_defaults(run=_regions)


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


def _jobs(text: str) -> int:
    return -1 if text.strip() == "-1" else _positive(text.strip())


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


def _regions(options: argparse.Namespace) -> int:
    from .subdivision import count_regions

    _refuse_pictures_nowhere(options.plot)
    net = _network(options)
    domain = _domain(options, net)
    _refuse_pictures_of_solids(options, domain)
    _say(options, f"cutting {domain!r}")
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
        _draw(whole, Path(options.plot))
    linear = whole.linear_regions().count if whole is not None and options.linear else None
    result = _count_dict(options, found, domain, linear, whole is not None)
    print(json.dumps(result, allow_nan=False) if options.json else _count_text(options, found, domain, linear))
    return 0


def _count_dict(
    options: argparse.Namespace, found: RegionCount, domain: Domain, linear: int | None, whole: bool
) -> dict[str, Any]:
    volume = domain.volume if math.isfinite(domain.volume) else None
    result = found.to_dict() | {"domain": domain.to_dict() | {"volume": volume}}
    if options.volumes is False:
        result |= {"volume": None}
    result |= {"store": options.store} if options.store else {}
    result |= {"linear_regions": linear} if options.linear else {}
    return result | ({"plot": options.plot if whole else None} if options.plot else {})


def _count_text(options: argparse.Namespace, found: RegionCount, domain: Domain, linear: int | None) -> str:
    lines = [f"{found.summary()}", f"  domain: {domain!r}, volume {domain.volume:.6g}"]
    if found.volume is not None and options.volumes is not False:
        lines.append(f"  volume of the regions: {found.volume:.6g}")
    lines += [f"  linear regions: {linear}"] if linear is not None else []
    if not found.complete and (options.plot or options.linear):
        lines.append("  not drawn, and neighbours not merged: both need all regions; raise the limit")
    lines += [f"  drawn to {options.plot}"] if found.complete and options.plot else []
    lines += [f"  stored in {options.store}"] if options.store else []
    return "\n".join([*lines, f"  in {found.seconds:.3g} s"])


def _refuse_pictures_nowhere(name: str | None) -> None:
    """Complain before the work of what would fail after it."""
    from .errors import FileError

    if name is None:
        return
    if Path(name).suffix.lower() not in _PICTURES:
        raise FileError(f"--plot {name}: expected a name that ends in {', '.join(_PICTURES)}")
    if Path(name).is_dir() or not Path(name).absolute().parent.is_dir():
        raise FileError(f"--plot {name}: expected a file in a directory that exists")


def _domain(options: argparse.Namespace, net: Network) -> Domain:
    from .domain import Plane, Segment

    if options.box:
        return _whole_box(options.box, net)
    inputs = _inputs(options.plane or options.segment, net, 3 if options.plane else 2)
    return Plane.through(*inputs) if options.plane else Segment(*inputs)


def _inputs(path: str, net: Network, count: int) -> Tensor:
    """Return `count` inputs of a file in the network's shape, in the precision in which the file has them."""
    from .errors import ShapeError

    x = _floats(path)
    want = (count, *net.input_shape)
    if x.shape[:1] != (count,) or x.numel() != math.prod(want):
        raise ShapeError(f"{path}: expected {count} inputs {want}; got {tuple(x.shape)}")
    return x.reshape(want)


def _floats(path: str) -> Tensor:
    """Return a .npy array of floating-point numbers in float64, of bytes divided by 255."""
    import numpy as np
    import torch

    from .errors import FileError, InputError

    try:
        x = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileError(f"{path}: expected a .npy array of numbers; {error}") from None
    if not isinstance(x, np.ndarray):
        raise FileError(f"{path}: expected a .npy array of numbers; got an archive of {sorted(x.files)}")
    if x.dtype == np.uint8:
        return torch.from_numpy(x / 255.0)
    if not np.issubdtype(x.dtype, np.floating):
        raise InputError(f"{path}: expected floating-point numbers, or bytes as images; got {x.dtype}; convert first")
    return torch.from_numpy(x.astype(np.float64))


def _whole_box(sides: list[str], net: Network) -> Box:
    from .domain import Box

    return Box(_side(sides[0], net), _side(sides[1], net))


def _side(text: str, net: Network) -> Tensor:
    """Return one side of a box: a number for every entry, or a file with one for each."""
    import torch

    from .errors import InputError, ShapeError

    if _is_number(text):
        return torch.full(net.input_shape, float(text), dtype=torch.float64)
    if not Path(text).suffix == ".npy":
        raise InputError(f"--box: expected a number, inf where there is no side, or a .npy file; got {text!r}")
    x = _floats(text)
    if x.numel() != math.prod(net.input_shape):
        raise ShapeError(f"{text}: expected one side for each entry of {tuple(net.input_shape)}; got {tuple(x.shape)}")
    return x.reshape(net.input_shape)


def _refuse_pictures_of_solids(options: argparse.Namespace, domain: Domain) -> None:
    from .errors import InputError

    if options.plot and domain.dim not in (1, 2):
        raise InputError(f"--plot: expected a domain of 1 or 2 dimensions; got {domain.dim}; cut it with --plane or --segment")


def _complex(options: argparse.Namespace, net: Network, domain: Domain) -> Complex:
    from .complex import subdivide

    _say(options, "holding all regions at once")
    return subdivide(net, domain, n_jobs=options.jobs)


def _draw(whole: Complex, path: Path) -> None:
    from ._files import write_atomically
    from .plotting import new_figure, saved, style

    with style():
        figure = new_figure(8.4, 3.8) if whole.dim == 1 else new_figure(8.4, 6.2)
        whole.plot(figure.subplots())
    kind = path.suffix.lower().removeprefix(".")
    with write_atomically(path) as part:
        saved(figure, lambda drawn: drawn.savefig(part, dpi=150, format=kind))


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
