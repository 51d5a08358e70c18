"""The report: it parses, refers to nothing outside, agrees with the API, and is written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from polylens import (
    Network,
    Plane,
    Polytope,
    Segment,
    affine_map,
    constant_along,
    count_regions,
    dense,
    facets,
    forgotten_by_layer,
    load,
    nearest_boundary,
    null_space,
    patterns,
    region,
    subdivide,
    zoo,
)
from polylens._files import write_atomically, write_directory_atomically
from polylens.data import Data
from polylens.errors import FileError, InputError, ShapeError
from polylens.geometry import chebyshev_ball
from polylens.region import Region
from polylens.report import SECTIONS, Section, Subject, Table, examine, write_report
from polylens.report.fibres import aims, pairs
from polylens.report.forgotten import forgotten
from polylens.report.regions import _across, _Box, regions
from polylens.report.section import number, plain, rounded
from polylens.report.singular import singular_values
from polylens.report.slices import _line, _slice, slices

RANDOM = torch.Generator().manual_seed(0)
VOID = {"meta", "img", "br", "link", "input", "hr"}


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RANDOM)


class Page(HTMLParser):
    """Collects addresses and text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action")]
        assert tag not in ("script", "link", "iframe", "object", "base")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def net() -> Network:
    return dense([(rand(12, 64), rand(12)), (rand(9, 12), rand(9)), (rand(4, 9), rand(4))])


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(torch.rand(60, 64, generator=RANDOM), torch.randint(0, 4, (60,), generator=RANDOM), "sixty <images>")


@pytest.fixture(scope="module")
def folder(net: Network, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(net, data, tmp_path_factory.mktemp("report") / "out", title="A & B").parent


def test_the_page_is_whole_and_refers_to_nothing_outside(folder: Path) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.addresses
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in page.addresses)
    assert "http" not in "".join(page.words)
    assert "url(" not in text
    assert "@import" not in text
    assert "sixty &lt;images&gt;" in text
    anchors = {a[1:] for a in page.addresses if a.startswith("#")}
    assert anchors == set(json.loads((folder / "report.json").read_text())["sections"])


def test_each_figure_is_there_as_png_and_svg(folder: Path) -> None:
    names = {p.stem for p in (folder / "figures").iterdir()}
    regions = {"region_sizes", "across", "slice", "segment"}
    lost = {"forgotten", "forgotten_layers", "fibres"}
    maps = {
        "classifiers",
        "misclassified",
        "sensitivities",
        "singular_values",
        "layer_spectra",
        "gate_effects",
        "preimages_of_layers",
    }
    alike = {"distances", "votes", "clusters", "neighbours"}
    assert names == {"units", "frequencies"} | maps | regions | lost | alike
    for name in names:
        assert (folder / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "</svg>" in (folder / "figures" / f"{name}.svg").read_text()


def test_the_numbers_are_those_of_the_api(folder: Path, net: Network, data: Data) -> None:
    sections = json.loads((folder / "report.json").read_text())["sections"]
    assert sections["network"] == net.to_dict()
    right = net(data.inputs).argmax(1) == data.labels
    assert sections["performance"]["accuracy"] == float(right.double().mean())
    found = patterns(net, data.inputs)
    assert sections["frequencies"] == found.frequencies().to_dict() | {"distinct_patterns": len(found.unique().patterns)}
    for example, values in zip(sections["classifiers"]["examples"], sections["singular_values"]["examples"], strict=True):
        x = data.inputs[example["index"]].double()
        local = affine_map(net, x, dtype=torch.float64)
        assert example["chosen"] == int(net(x).argmax())
        assert example["linear_part"] == pytest.approx(float(local.weight[example["chosen"]] @ x), rel=1e-12)
        assert example["linear_part"] + example["offset"] == pytest.approx(float(net.double()(x).max()), rel=1e-12)
        assert values["singular_values"] == pytest.approx(local.singular_values().tolist(), rel=1e-12)
        assert values["rank"] == int(torch.linalg.matrix_rank(local.weight))
        largest, smallest = local.singular_values()[[0, values["rank"] - 1]].tolist()
        assert values["condition"] == pytest.approx(largest / smallest, rel=1e-9)


def test_exactness_is_measured_at_the_inputs_and_elsewhere_in_their_regions(net: Network, data: Data) -> None:
    exact = examine(net, data).exactness
    assert exact.points == len(examine(net, data).examples)
    assert 0 < exact.nearby <= 1e-12 * exact.scale
    assert exact.at_examples <= 1e-12 * exact.scale


def test_examples_are_one_right_input_a_class_and_some_wrong_ones(net: Network, data: Data) -> None:
    examples = examine(net, data).examples
    right = [e.chosen for e in examples if e.is_right]
    assert right == sorted(set(right))
    assert any(not e.is_right for e in examples)
    assert all(e.runner_up not in (e.chosen, None) for e in examples)


CASES: dict[str, Callable[[], tuple[Network, Data]]] = {
    "smooth": lambda: (dense([(rand(6, 4), rand(6)), (rand(3, 6), None)], "softplus"), Data(rand(9, 4), None, "d")),
    "one input and one output": lambda: (zoo.absolute_value(), Data(rand(5, 1), None, "d")),
    "labels on one output": lambda: (zoo.absolute_value(), Data(rand(5, 1), torch.ones(5).long(), "d")),
    "no gates": lambda: (dense([(rand(3, 4), None)]), Data(rand(4, 4), None, "d")),
    "a single sample": lambda: (dense([(rand(3, 4), None), (rand(2, 3), None)]), Data(rand(1, 4), torch.tensor([0]), "d")),
    "all units dead": lambda: (dense([(torch.zeros(3, 4), None), (rand(2, 3), None)]), Data(rand(4, 4), None, "d")),
    "many steps": lambda: (zoo.sawtooth(14), Data(torch.rand(9, 1, generator=RANDOM), None, "d")),
    "everything wrong": lambda: (dense([(torch.eye(2), None)]), Data(torch.eye(2), torch.tensor([1, 0]), "d")),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # raised within torch when it first differentiates
def test_unusual_networks_get_a_page_too(case: str, tmp_path: Path) -> None:
    net, data = CASES[case]()
    text = write_report(net, data, tmp_path).read_text(encoding="utf-8")
    Page(text)
    assert "nan" not in text.lower().split("<main", 1)[1].split("base64")[0]
    assert ("first-order" in text) == (not net.is_piecewise_linear)


def test_the_numbers_of_regions_are_those_of_the_api(folder: Path, net: Network, data: Data) -> None:
    found = json.loads((folder / "report.json").read_text())["sections"]["regions"]
    near = nearest_boundary(net, data.inputs).distance
    assert found["measured"] == len(data)
    assert found["median"] == found["distributions"]["distance"]["median"] == pytest.approx(float(near.median()))
    assert found["distributions"]["distance"]["largest"] == pytest.approx(float(near.max()))
    low, high = found["box"]
    assert (low, high) == (float(data.inputs.min()), float(data.inputs.max()))
    for row in found["examples"][:3]:
        here = region(net, data.inputs[row["index"]], domain=Polytope.box([low] * 64, [high] * 64))
        assert row["num_facets"] == facets(here.polytope).num_facets
        assert row["facets_complete"]
        assert row["inradius"] == pytest.approx(chebyshev_ball(here.polytope).radius)
        assert row["boundary_distance"] == pytest.approx(here.nearest[0])
        assert row["across_distance"] >= row["boundary_distance"] * (1 - 1e-9)
        assert row["across_switched"] == 1


def test_the_distributions_of_regions_cover_inputs_evenly_and_say_how_many(folder: Path, net: Network, data: Data) -> None:
    found = json.loads((folder / "report.json").read_text())["sections"]["regions"]["distributions"]
    low, high = float(data.inputs.min()), float(data.inputs.max())
    box = Polytope.box([low] * 64, [high] * 64)
    chosen = torch.linspace(0, len(data) - 1, found["inradius"]["inputs"]).round().long()
    radii = torch.tensor([chebyshev_ball(region(net, data.inputs[i], domain=box).polytope).radius for i in chosen])
    assert found["inradius"]["median"] == pytest.approx(float(radii.median()))
    assert found["inradius"]["least"] == pytest.approx(float(radii.min()))
    assert found["facets"]["inputs"] >= 10
    assert found["facets"]["least"] <= found["facets"]["median"] <= found["facets"]["largest"]
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert f"{found['inradius']['inputs']} of the 60 inputs, evenly spaced" in text


def nearest_by_enumeration(here: Region, low: float, high: float) -> float:
    """The least distance to a hyperplane within a box, by dual bisection for every row."""
    x, best = here.point.reshape(-1), torch.inf
    for a, gap in zip(here.polytope.matrix, here.polytope.slack(x), strict=True):
        if float((a * torch.where(a > 0, high, low)).sum() - a @ x) <= gap:
            continue
        t0, t1 = 0.0, 1e6
        for _ in range(200):
            t = (t0 + t1) / 2
            t0, t1 = (t, t1) if float(a @ ((x + t * a).clamp(low, high) - x)) < gap else (t0, t)
        best = min(best, float(((x + t1 * a).clamp(low, high) - x).norm()))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_input_across_stays_in_the_box_switches_its_unit_and_is_the_nearest(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weights = [(torch.randn(n, m, generator=random), torch.randn(n, generator=random)) for n, m in ((7, 5), (6, 7), (2, 6))]
    net = dense(weights).double()
    x = torch.rand(5, generator=random, dtype=torch.float64).round(decimals=1)  # some entries on the box's sides
    x[0], x[1] = 0.0, 1.0
    here = region(net, x)
    found = _across(here, _Box(0.0, 1.0, 5))
    assert found is not None
    assert float(found.point.min()) >= 0
    assert float(found.point.max()) <= 1
    assert found.distance == pytest.approx(nearest_by_enumeration(here, 0.0, 1.0), rel=1e-6)
    assert float((found.point - x).norm()) == pytest.approx(found.distance, rel=1e-3)
    beyond = patterns(net, found.point[None])
    assert found.switched == 1
    assert int(beyond.pieces(found.unit.name).flatten()[found.unit.unit]) == found.unit.piece


def test_a_box_that_no_boundary_enters_has_nothing_across() -> None:
    here = region(dense([([[1.0, 1.0]], [5.0]), ([[1.0]], None)]), torch.tensor([0.5, 0.5]))
    assert _across(here, _Box(0.0, 1.0, 2)) is None


def test_facets_that_are_too_many_to_find_are_left_out_in_words() -> None:
    net = dense([(rand(40, 400), rand(40)), (rand(3, 40), None)])  # 840 rows on 400 inputs: programs are too slow for a page
    section = regions(examine(net, Data(torch.rand(12, 400, generator=RANDOM), None, "d")))
    assert "facets" not in section.data["distributions"]
    assert section.data["distributions"]["inradius"]["inputs"] == 12
    assert "no distribution of their number" in " ".join(section.paragraphs)
    assert all(row["num_facets"] is None or row["num_facets"] <= row["rows"] for row in section.data["examples"])


def test_the_numbers_of_the_slice_are_those_of_the_api(folder: Path, net: Network, data: Data) -> None:
    found = json.loads((folder / "report.json").read_text())["sections"]["slice"]
    a, b, c = data.inputs[found["inputs"]].double()
    plane, counted = Plane.through(a, b, c), found["plane"]
    expected = count_regions(net, plane)
    assert counted["share_of_rectangle"] == 1.0
    assert (counted["regions"], counted["complete"], counted["bound"]) == (expected.count, True, expected.bound)
    assert counted["per_layer"] == dict(expected.per_layer)
    assert counted["linear_regions"] == subdivide(net, plane).linear_regions().count
    assert found["segment"]["regions"] == count_regions(net, Segment(a, b)).count
    winners = net(data.inputs).argmax(1)
    assert len(set(winners[found["inputs"]].tolist())) == min(3, len(winners.unique()))


def test_the_largest_output_changes_where_the_slice_says(folder: Path, net: Network, data: Data) -> None:
    found = json.loads((folder / "report.json").read_text())["sections"]["slice"]
    a, b = data.inputs[found["inputs"][:2]].double()
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    winner = net.double()(a + t[:, None] * (b - a)).argmax(1)
    changes = t[1:][winner[1:] != winner[:-1]]
    assert found["segment"]["class_changes"] == pytest.approx(changes.tolist(), abs=6e-5)


def test_a_plane_of_too_many_regions_is_cut_in_a_window_and_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polylens.report.slices._CELLS", 700)
    RANDOM.manual_seed(3)  # not what the tests before this one have left
    net = dense([(rand(60, 8), rand(60)), (rand(60, 60) / 8, rand(60)), (rand(4, 60), None)])
    data = Data(3 * rand(30, 8), None, "d")
    section = slices(examine(net, data))
    counted = section.data["plane"]
    assert 0 < counted["share_of_rectangle"] < 1
    assert counted["complete"]
    assert counted["regions"] < 3000
    assert "too long to cut and draw" in " ".join(section.paragraphs)
    a, b, c = data.inputs[section.data["inputs"]].double()
    plane = Plane.through(a, b, c)
    found = _slice(net, plane, _line(net, a, b))
    corners = plane.project(found.window.embed(found.window.corners))
    low, high = plane.corners.min(0).values, plane.corners.max(0).values
    assert bool(((corners >= low - 1e-9) & (corners <= high + 1e-9)).all())
    assert found.window.volume == pytest.approx(found.fraction**2 * plane.volume)


def test_what_is_forgotten_is_what_the_api_says(folder: Path, net: Network, data: Data) -> None:
    found = json.loads((folder / "report.json").read_text())["sections"]["forgotten"]
    shown = [row["index"] for row in found["examples"]]
    spaces = null_space(net, data.inputs[shown].double())
    assert [row["nullity"] for row in found["examples"]] == spaces.nullity.tolist()
    assert found["layers"] == forgotten_by_layer(net, data.inputs[shown].double()).to_dict()
    for k, row in enumerate(found["examples"]):
        x, aim = data.inputs[[row["index"], row["towards"]]].double()
        way = spaces[k].project(aim - x)
        constant = constant_along(net, x, way / way.norm())
        assert row["constant"]["above"]["t"] == pytest.approx(constant.t_max)
        assert row["constant"]["below"]["t"] == pytest.approx(constant.t_min)
        assert 0 <= row["share_seen"] <= 1


def test_the_pairs_of_the_report_have_equal_outputs(net: Network, data: Data) -> None:
    subject = examine(net, data)
    shown = [e.index for e in subject.examples[:6]]
    found = pairs(subject, aims(subject, shown))
    assert len(found) == 3
    for pair in found:
        assert int(subject.chosen[pair.number]) != int(subject.chosen[pair.aim])
        assert torch.equal(pair.walk.start, data.inputs[pair.number].double())
        y = net.double()(pair.walk.path[[0, -1]])
        row = pair.row(subject)
        assert float((y[1] - y[0]).abs().max()) == pytest.approx(row["largest_difference"], abs=1e-13)
        assert row["largest_difference"] <= 1e-9
        assert row["to_target"] < row["from_target"]
        assert float(pair.walk.end.min()) >= float(data.inputs.min()) - 1e-9
        assert float(pair.walk.end.max()) <= float(data.inputs.max()) + 1e-9


def test_inputs_on_boundaries_are_moved_off_them_before_a_walk() -> None:
    net = dense([(rand(12, 16), None), (rand(3, 12), None)])  # without biases all boundaries meet in 0
    data = Data(torch.cat([torch.zeros(1, 16), rand(9, 16)]), None, "d")
    first, *others = pairs(examine(net, data), {0: 1, 1: 2})
    assert 0 < first.moved < 0.1
    assert [pair.moved for pair in others] == [0.0]
    assert first.row(examine(net, data))["largest_difference"] <= 1e-12


def test_preimages_of_classes_fill_the_range_of_inputs_with_few_entries() -> None:
    RANDOM.manual_seed(5)
    for size in (1, 2, 3):
        net = dense([(rand(9, size), rand(9)), (rand(3, 9), rand(3))])
        section = forgotten(examine(net, Data(rand(50, size), None, "d")))
        assert sum(row["fraction"] for row in section.data["preimages"]) == pytest.approx(1.0)
        assert all(row["complete"] for row in section.data["preimages"])
        assert "preimages" in [figure.name for figure in section.figures]
        assert not {"forgotten", "fibres"} & {figure.name for figure in section.figures}
        assert ("held at its median" in " ".join(section.paragraphs)) == (size == 3)


def test_a_network_of_one_output_shows_the_inputs_of_some_values() -> None:
    RANDOM.manual_seed(6)
    net = dense([(rand(9, 2), rand(9)), (rand(1, 9), rand(1))])
    section = forgotten(examine(net, Data(rand(50, 2), None, "d")))
    assert [row["dimension"] for row in section.data["preimages"]] == [1, 1, 1]
    assert "does not tell inputs apart" in " ".join(section.paragraphs)
    assert section.data["walks"]


def test_smooth_networks_forget_to_first_order_and_the_rest_is_left_out_in_words() -> None:
    net = dense([(rand(20, 64), rand(20)), (rand(4, 20), rand(4))], "tanh")
    section = forgotten(examine(net, Data(rand(20, 64), None, "d")))
    words = " ".join(section.paragraphs)
    assert "to first order" in words
    assert "is left out: the network is smooth (tanh)" in words
    assert {row["nullity"] for row in section.data["examples"]} == {60}
    assert (section.data["walks"], section.data["preimages"]) == ([], [])
    assert {"forgotten", "forgotten_layers"} == {figure.name for figure in section.figures}


def test_networks_that_jump_or_forget_nothing_or_all_are_survived() -> None:
    jumps = load(
        torch.nn.Sequential(torch.nn.Linear(12, 9), torch.nn.Threshold(0.1, -1.0), torch.nn.Linear(9, 2)).eval(),
        torch.zeros(1, 12),
    )
    flat = dense([(torch.zeros(3, 12), torch.tensor([1.0, 2.0, 0.5]))])
    square = dense([(rand(12, 12), None)])
    data = Data(rand(20, 12), None, "d")
    for net in (jumps, flat, square):
        section = forgotten(examine(net, data))
        assert section.data["examples"]
        assert json.dumps(plain(section.data), allow_nan=False)
    assert "Nothing is forgotten" in " ".join(section.paragraphs)
    still = forgotten(examine(jumps, Data(torch.zeros(5, 12), None, "d")))
    assert still.data["walks"] == []


def test_null_spaces_that_take_too_long_are_left_out_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    net = dense([(rand(40, 64), rand(40)), (rand(4, 40), rand(4))])
    subject = examine(net, Data(rand(20, 64), None, "d"))
    monkeypatch.setattr("polylens.report.forgotten._MOST_WORK", 10_000)
    section = forgotten(subject)
    assert section.data["layers"] is None
    assert "take too long here" in " ".join(section.paragraphs)
    monkeypatch.setattr("polylens.report.forgotten._MOST_WORK", 1_000)
    assert "too many for this page" in forgotten(subject).paragraphs[0]


def test_slices_need_points_that_differ_and_networks_with_regions() -> None:
    line = torch.arange(5.0)[:, None] * torch.ones(5, 3)
    net = dense([(rand(6, 3), rand(6)), (rand(2, 6), None)])
    on_a_line = slices(examine(net, Data(line, None, "d")))
    assert "plane" not in on_a_line.data
    assert on_a_line.data["segment"]["regions"] >= 1
    assert "same point" in slices(examine(net, Data(torch.ones(4, 3), None, "d"))).paragraphs[0]
    smooth = dense([(rand(6, 3), None), (rand(2, 6), None)], "softplus")
    assert "softplus bends everywhere" in slices(examine(smooth, Data(line, None, "d"))).paragraphs[0]


def test_maps_too_large_to_hold_are_left_out_in_words() -> None:
    net = dense([(rand(20, 900), None), (rand(8000, 20), None)])  # 58 MB of weights for each example
    subject = examine(net, Data(rand(12, 900), None, "d"))
    assert set(subject.units.tolist()) == {c for e in subject.examples for c in e.classes}
    assert "too many to hold" in singular_values(subject).paragraphs[0]
    assert subject.exactness.nearby <= 1e-12 * subject.exactness.scale


def test_data_that_do_not_fit_leave_nothing_behind(tmp_path: Path, net: Network) -> None:
    with pytest.raises(ShapeError):
        write_report(net, Data(rand(3, 5), None, "d"), tmp_path / "out")
    with pytest.raises(InputError, match="classes from 0 to 3"):
        write_report(net, Data(rand(3, 64), torch.tensor([0, 1, 7]), "d"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_section_that_fails_midway_leaves_the_last_report_as_it_was(tmp_path: Path, net: Network, data: Data) -> None:
    write_report(net, data.first(9), tmp_path / "out", sections=SECTIONS[:1])
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}

    def broken(subject: Subject) -> Section:
        raise RuntimeError("no section today")

    with pytest.raises(RuntimeError, match="no section today"):
        write_report(net, data, tmp_path / "out", sections=(SECTIONS[0], broken))
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


def test_a_new_report_replaces_the_old_one_and_keeps_foreign_files(tmp_path: Path, net: Network, data: Data) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_report(net, data, tmp_path, sections=SECTIONS[:2])
    first = (tmp_path / "report.json").read_text()
    write_report(net, data.first(7), tmp_path, sections=SECTIONS[:2])
    assert (tmp_path / "report.json").read_text() != first
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["figures", "index.html", "notes.txt", "report.json"]


# -- what it is made of


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1234567, "1,234,567"), (-0.5, "−0.5"), (1.5e-14, "1.50e−14"), (2e9, "2.00e9"), (0.0, "0"), ("a-b", "a-b")],
)
def test_cells_read_well(value: object, text: str) -> None:
    assert number(value) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.04e-14, 1, "1e−14"), (-0.98765, 2, "−0.99"), (9.99e-4, 1, "0.001"), (0.0, 1, "0"), (123456.0, 3, "123,000")],
)
def test_numbers_are_rounded_to_few_digits(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits) == text


def test_json_holds_no_infinite_numbers() -> None:
    assert plain({"a": [float("nan"), float("inf"), 1.0], 2: (1,)}) == {"a": [None, None, 1.0], "2": [1]}


def test_columns_of_numbers_are_aligned_right_but_never_the_first() -> None:
    table = Table("t", ("name", "share", "shape"), (("9", "3.4%", "8 × 8"), ("11", "–", "100")))
    assert table.aligned_right == (False, True, False)
    signed = Table("t", ("name", "from", "to", "why"), (("a", "−∞", "1.2e−5", "#3"), ("b", "−3,072.5", "∞", "4")))
    assert signed.aligned_right == (False, True, True, False)


def interrupted(target: Path) -> None:
    with write_atomically(target) as part:
        part.write_text("half")
        raise KeyboardInterrupt


def with_a_figure(target: Path) -> None:
    with write_directory_atomically(target) as part:
        (part / "figures").mkdir()
        (part / "figures" / "a.png").write_text("a")
        (part / "index.html").write_text("new")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with write_atomically(target) as part:
        part.write_text("one")
    with pytest.raises(KeyboardInterrupt):
        interrupted(target)
    assert target.read_text() == "one"
    assert os.listdir(target.parent) == ["file.txt"]
    with pytest.raises(FileError), write_atomically(tmp_path):
        pass


def test_a_directory_is_refused_where_files_stand_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "figures").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileError), write_directory_atomically(target):
            pass
    with pytest.raises(FileError, match="figures"):
        with_a_figure(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["figures", "file"]


def test_units_are_counted_without_the_windows_of_max_gates() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten())
    net = load(module.eval(), torch.zeros(1, 1, 6, 6))
    inputs = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    section = next(s(examine(net, Data(inputs, None, "d"))) for s in SECTIONS if s.__name__ == "frequencies")
    assert net.num_units == 32
    assert dict(section.facts)["dead units"].endswith(" of 32")
