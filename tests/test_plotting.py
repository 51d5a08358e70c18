"""Drawings: every result draws itself, leaves matplotlib's settings alone, and shows the numbers it holds."""

from __future__ import annotations

import io

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polylens import affine_map, dense, patterns, zoo
from polylens.errors import InputError
from polylens.plotting import Panel, draw, frequency_figure, gallery, picture


@pytest.fixture(autouse=True)
def agg() -> object:
    before = mpl.get_backend()
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")
    pyplot.switch_backend(before)


X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NET = zoo.arrangement(9, 3)


def results() -> list[object]:
    found = patterns(NET, X)
    return [NET, found, found.frequencies(), affine_map(NET, X), affine_map(NET, X[0])]


@pytest.mark.parametrize("k", range(5))
def test_every_result_draws_itself_and_changes_no_settings(k: int) -> None:
    before = dict(mpl.rcParams)
    ax = results()[k].plot()  # type: ignore[attr-defined]
    ax.figure.canvas.draw()
    assert isinstance(ax, Axes)
    assert dict(mpl.rcParams) == before
    assert ax.get_xlabel()


@pytest.mark.parametrize("k", range(5))
def test_a_drawing_goes_where_it_is_told(k: int) -> None:
    ax = Figure().subplots()
    assert draw(results()[k], ax) is ax
    assert not pyplot.get_fignums()


def test_the_bars_of_a_network_are_its_units() -> None:
    net = dense([(torch.ones(5, 2), None), (torch.ones(7, 5), None), (torch.ones(1, 7), None)])
    assert [bar.get_width() for bar in draw(net).patches] == [5, 7]


def test_the_histogram_holds_every_unit_once() -> None:
    weight = torch.cat([torch.zeros(2, 3), torch.zeros(1, 3), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))])
    bias = torch.tensor([-1.0, -1.0, 1.0, 0, 0, 0, 0])
    found = patterns(dense([(weight, bias), (torch.ones(1, 7), None)]), X.float()).frequencies()
    heights = [bar.get_height() for bar in draw(found, layer=0).patches]
    assert sum(heights[:-2]) == 4
    assert heights[-2:] == [2, 1]  # dead, always on


def test_a_network_without_gates_and_a_zero_map_can_be_drawn() -> None:
    net = dense([(torch.zeros(2, 3), None)])
    for result in (net, patterns(net, X.float()), affine_map(net, X[0].float())):
        result.plot().figure.canvas.draw()
    frequency_figure(patterns(net, X.float()).frequencies())


def test_what_has_no_drawing_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="got str"):
        draw("a picture")
    with pytest.raises(InputError, match="position below 1; got 'no'"):
        draw(results()[2], layer="no")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64,), (8, 8)),
        ((784,), (28, 28)),
        ((784, 1), (28, 28)),
        ((3072,), (32, 32, 3)),
        ((1, 28, 28), (28, 28)),
        ((3, 32, 32), (32, 32, 3)),
        ((32, 32, 3), (32, 32, 3)),
        ((16, 8, 8), (8, 8)),
        ((5,), None),
        ((1, 1, 5), None),
        ((100, 2), None),
        ((), None),
    ],
)
def test_the_layout_of_a_picture_is_guessed_from_the_shape(shape: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    found = picture(torch.zeros(shape))
    assert (None if found is None else tuple(found.shape)) == expected


@pytest.mark.parametrize("shape", [(64,), (3, 8, 8), (5,), (200,), (1,)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e-9])
def test_a_gallery_takes_any_sample(shape: tuple[int, ...], scale: float) -> None:
    values = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape) * scale
    rows = [("input", [Panel("a", values, signed=False)] * 2), ("weights", [Panel("b", values, signed=True), None])]
    gallery(rows).savefig(io.BytesIO())
