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
    from .network import Network

_MODEL = "an .onnx, .pt2 or .npz file, or package.module:factory for a torch module of your own"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        options = _parser().parse_args(arguments)
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
    data.add_argument("--data", metavar="FILE", help=".npy, .npz, IDX (MNIST) or CIFAR-10 binary, gzipped or not")
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
        description="The facets, inradius and nearest boundary of a linear region. Without MODEL: the built-in digits network.",
    )
    _add_model(command, optional=True)
    command.add_argument("--at", metavar="FILE", required=True, help="the input: .npy of the network's input shape")
    command.add_argument("--box", metavar=("LO", "HI"), type=float, nargs=2, help="look within the box LO <= x <= HI only")
    command.add_argument("--time-limit", metavar="S", type=float, help="seconds for the facets; what is open then is reported")
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


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; got {text!r}")
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
    from .polytope import Polytope
    from .region import region

    data = read_data(options.at)
    net = _network(options)
    x = data.fitted(net.input_shape).inputs
    size = x[0].numel()
    box = None if options.box is None else Polytope.box([options.box[0]] * size, [options.box[1]] * size)
    _say(options, "the region and its facets")
    here = region(net, _the_only(x, options.at), domain=box)
    found = facets(here.polytope, time_limit=options.time_limit)
    radius = chebyshev_ball(here.polytope).radius
    result = here.to_dict() | {
        "num_facets": found.num_facets,
        "facets_complete": found.complete,
        "undecided_rows": len(found.undecided),
        "inradius": float(radius) if math.isfinite(radius) else None,
    }
    print(json.dumps(result, allow_nan=False) if options.json else f"{here.summary()}\n  {found!r}, inradius {radius:.4g}")
    return 0


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
