"""The command `info`: a network as a program."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_command, add_model, add_output
from .inputs import network
from .output import answer


def add(commands: Any) -> None:
    """Add the command."""
    info = add_command(
        commands,
        "info",
        "show a network as a program",
        "Show a network as a program of steps.",
        "polylens info model.onnx --json",
    )
    add_model(info, optional=False)
    add_output(info)
    info.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    net = network(options)
    return answer(options, net.to_dict, net.summary)
