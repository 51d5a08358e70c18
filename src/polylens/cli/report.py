"""The command `report`: a page on a network and its data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .arguments import add_command, add_model, add_output, positive
from .inputs import network
from .output import answer, say

if TYPE_CHECKING:
    from ..data import Data


def add(commands: Any) -> None:
    """Add the command."""
    report = add_command(
        commands,
        "report",
        "write a page on a network and its data",
        "Write a self-contained page, its figures and its numbers. Without MODEL: the built-in digits network.",
        "polylens report",
        "polylens report model.onnx --data t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz -o page",
    )
    add_model(report, optional=True)
    data = report.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="FILE",
        help=".npy, .npz, IDX (MNIST) or CIFAR-10 binary, gzipped or not; bytes count as images, / 255",
    )
    data.add_argument("--labels", metavar="FILE", help="class numbers as .npy, .npz or IDX, where --data has none")
    data.add_argument("--mean", metavar="M", type=float, nargs="+", help="subtracted from the data, one or one a channel")
    data.add_argument("--std", metavar="S", type=float, nargs="+", help="divides the data after that, one or one a channel")
    data.add_argument("--limit", metavar="N", type=positive, help="look at the first N inputs only")
    report.add_argument("-o", "--out", metavar="DIR", default="report", help="where to write (default: %(default)s)")
    add_output(report)
    report.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    _refuse_contradictions(options)
    from ..report import write_report

    data = _data(options)
    net = network(options)
    if data is None:
        from ..zoo import digits_data

        data = digits_data("test")
    data = data.first(options.limit) if options.limit else data
    title = None if options.model else "The built-in digits network"
    say(options, f"examining the network on {len(data):,} inputs")
    page = write_report(net, data, options.out, title=title)
    return answer(options, lambda: {"page": str(page), **_content(page)}, lambda: f"report written to {page}")


def _content(page: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    return content


def _refuse_contradictions(options: argparse.Namespace) -> None:
    if options.model and not options.data:
        raise InputError(f"{options.model}: expected --data FILE with inputs; only the built-in network has data of its own")
    if not options.data and (options.labels or options.mean or options.std):
        raise InputError("--labels, --mean and --std: expected --data FILE that they belong to; got none")


def _data(options: argparse.Namespace) -> Data | None:
    if not options.data:
        return None
    from ..data import read_data

    say(options, f"reading {options.data}")
    data = read_data(options.data, options.labels)
    if options.mean or options.std:
        data = data.normalised(options.mean or 0.0, options.std or 1.0)
    return data
