"""Section: the network, its headline numbers and its program."""

from __future__ import annotations

from ..network import Network
from ..plotting.base import network_figure
from .section import Drawing, Section, Table, number, shape_text
from .subject import Subject


def overview(subject: Subject) -> Section:
    """Return what the network is: a program of steps, and the units behind its gates."""
    net = subject.net
    return Section(
        "network",
        "The network",
        (_what(net), _why(net)),
        _facts(subject),
        (_figure(net),) if net.gates else (),
        (_program(net),),
        net.to_dict(),
    )


def _what(net: Network) -> str:
    return (
        f"The network maps an input of shape {shape_text(net.input_shape)} to an output of shape "
        f"{shape_text(net.output_shape)} in {len(net.nodes)} steps. The table lists them "
        "in the order in which they are evaluated."
    )


def _why(net: Network) -> str:
    if not net.is_piecewise_linear:
        names = ", ".join(dict.fromkeys(node.step.kind for node in net.smooth_steps))
        return (
            f"It is smooth: {names} bends everywhere, so there are no regions on which it is exactly affine. "
            "What follows about single inputs is its first-order map there, its Jacobian."
        )
    if not net.gates:
        return "It has no gates: it is one affine map everywhere, the same for every input."
    return (
        f"It is piecewise linear: each of its {net.num_units:,} units is on one of a few straight pieces, and "
        "as long as no unit "
        "changes its piece the network is exactly one affine map. Everything below follows from this."
    )


def _facts(subject: Subject) -> tuple[tuple[str, str], ...]:
    net = subject.net
    return (
        ("input", shape_text(net.input_shape)),
        ("output", shape_text(net.output_shape)),
        ("units", number(net.num_units)),
        ("parameters", number(net.num_parameters)),
        ("kind", "piecewise linear" if net.is_piecewise_linear else "smooth"),
        ("inputs looked at", number(len(subject.data))),
    )


def _figure(net: Network) -> Drawing:
    return Drawing(
        "units",
        network_figure(net),
        "How many units pass through each gate. A unit is one number that a gate bends.",
        "Bar chart: " + ", ".join(f"{g.name} {g.num_units} units" for g in net.gates[:30]),
    )


def _program(net: Network) -> Table:
    rows = tuple(
        (s["name"], s["kind"], ", ".join(s["inputs"]), shape_text(s["shape"]), s["parameters"] or None) for s in net.steps()
    )
    return Table("The program: one row for each step", ("step", "kind", "reads", "shape of its output", "parameters"), rows)
