"""Rendering: sections to one HTML page, figures and report.json, written all or nothing."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path

from .._files import write_directory_atomically
from .._progress import progress
from ..data import Data
from ..network import Network
from ..plotting.base import saved
from .section import Drawing, Section, number, plain
from .sections import SECTIONS
from .subject import Subject, examine

_DPI = 200
_OPEN_ROWS = 25  # tables with more rows than this start closed


def write_report(
    net: Network,
    data: Data,
    out: str | Path,
    title: str | None = None,
    *,
    sections: Sequence[Callable[[Subject], Section]] = SECTIONS,
) -> Path:
    """Write the report on a network and its data into the directory `out`, and return the path of its page.

    `out/index.html` holds everything, images included, and needs no network; `out/figures` has each figure as PNG and
    SVG, `out/report.json` the numbers. Other files in `out` stay. When anything fails, `out` is as it was.

    Raises:
        ShapeError: the samples do not fit the network.
        InputError: labels name outputs that the network does not have.
        FileError: `out` is a file.
    """
    start = time.perf_counter()
    with write_directory_atomically(out) as part:
        subject = examine(net, data)
        made = [make(subject) for make in progress(sections, len(sections), "report")]
        title = title or f"{_name(net)} on {data.source}"
        _write(part, title, subject, made, time.perf_counter() - start)
    return Path(out) / "index.html"


def _name(net: Network) -> str:
    return "A network" if net.source == "arrays" else Path(net.source).name


def _write(folder: Path, title: str, subject: Subject, sections: Sequence[Section], seconds: float) -> None:
    (folder / "figures").mkdir()
    images = {d.name: _save(d, folder / "figures") for s in sections for d in s.figures}
    page = _template()(title=title, subject=subject, sections=sections, images=images, seconds=seconds, version=_version())
    (folder / "index.html").write_text(page, encoding="utf-8")
    content = {"title": title, "polylens": _version(), "source": subject.data.source, "inputs": len(subject.data)}
    content["sections"] = {s.name: s.data for s in sections}
    (folder / "report.json").write_text(json.dumps(plain(content), indent=1, allow_nan=False), encoding="utf-8")


def _save(drawing: Drawing, folder: Path) -> str:
    """Write the figure as PNG and SVG, and return the PNG as a data URI."""
    png, svg = folder / f"{drawing.name}.png", folder / f"{drawing.name}.svg"
    saved(drawing.figure, lambda figure: figure.savefig(png, dpi=_DPI))
    drawing.figure.set_layout_engine("none")  # the layout that the PNG found; finding it again costs as much as drawing
    saved(drawing.figure, lambda figure: figure.savefig(svg, metadata={"Date": None}))
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()


def _template() -> Callable[..., str]:
    from jinja2 import Environment, StrictUndefined

    source = resources.files(__package__).joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    environment.globals["open_rows"] = _OPEN_ROWS
    return environment.from_string(source).render


def _version() -> str:
    return metadata.version("polylens")
