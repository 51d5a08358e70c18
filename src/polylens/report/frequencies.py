"""Section: how often the units of each layer are active."""

from __future__ import annotations

from ..plotting.base import frequency_figure
from .section import Drawing, Section, Table, number, shape_text
from .subject import Subject

_LAYERS = 24


def frequencies(subject: Subject) -> Section:
    """Return a histogram a layer, and how many units are dead, always on and mixed."""
    found, layers = subject.frequencies, subject.net.gates
    data = found.to_dict()
    if not layers:
        text = "The network has no gates, so no unit switches and there is nothing to count."
        return Section("frequencies", "How often units are active", (text,), data=data)
    distinct = len(subject.patterns.unique().patterns)
    data["distinct_patterns"] = distinct
    units = [row for row, layer in zip(found.units(), layers, strict=True) if not layer.is_max]
    total, dead, always = (sum(r[k] for r in units) for k in ("units", "dead", "always_on"))
    return Section(
        "frequencies",
        "How often units are active",
        (_lead(found.total), _meaning(subject, distinct)),
        (
            ("dead units", f"{dead:,} of {total:,}"),
            ("always on", number(always)),
            ("mixed", number(total - dead - always)),
            ("distinct patterns", f"{distinct:,} of {found.total:,}"),
        ),
        (_figure(subject),),
        (_table(subject),),
        data,
    )


def _lead(count: int) -> str:
    return (
        f"Each histogram shows, for one layer, on which share of the {count:,} inputs its units are active. A "
        "dead unit is never "
        "active, one that is always on is never inactive; neither ever switches on these inputs, so here they add no bend."
    )


def _meaning(subject: Subject, distinct: int) -> str:
    same = "Inputs with the same pattern share one affine map. " if subject.net.is_piecewise_linear else ""
    return (
        f"Mixed units tell inputs apart: the {len(subject.data):,} inputs fall into {distinct:,} distinct activation patterns. "
        f"{same}All of this is a statement about these inputs, not about all possible ones."
    )


def _figure(subject: Subject) -> Drawing:
    count = len(subject.net.gates)
    cut = "" if count <= _LAYERS else f" The first {_LAYERS} of {count} layers are drawn; the table has them all."
    return Drawing(
        "frequencies",
        frequency_figure(subject.frequencies, _LAYERS),
        f"Units by how often they are active, layer by layer; grey: dead, orange: always on.{cut}",
        "Histograms: "
        + "; ".join(f"{r['name']}: active {r['mean_active']:.0%} on average" for r in subject.frequencies.units()),
    )


def _table(subject: Subject) -> Table:
    rows = tuple(
        (
            r["name"],
            r["kind"],
            shape_text(layer.shape),
            r["units"],
            r["dead"],
            r["always_on"],
            r["mixed"],
            f"{r['mean_active']:.1%}",
        )
        for r, layer in zip(subject.frequencies.units(), subject.net.gates, strict=True)
    )
    return Table(
        "Units by layer",
        ("layer", "kind", "shape", "units or windows", "dead", "always on", "mixed", "active on average"),
        rows,
    )
