"""The report's section on how alike inputs are by their patterns: its numbers are the library's, and it degrades in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from polylens import Network, constellations, dense, hamming, load, neighbour_accuracy, patterns
from polylens.data import Data
from polylens.report import SECTIONS, Section, examine, write_report
from polylens.report import pattern_geometry as module
from polylens.report.pattern_geometry import pattern_geometry

RANDOM = torch.Generator().manual_seed(0)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RANDOM)


@pytest.fixture(scope="module")
def net() -> Network:
    return dense([(rand(12, 64), rand(12)), (rand(9, 12), rand(9)), (rand(4, 9), rand(4))])


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(torch.rand(60, 64, generator=RANDOM), torch.randint(0, 4, (60,), generator=RANDOM), "sixty images")


def words(section: Section) -> str:
    return " ".join(section.paragraphs)


def test_the_numbers_are_those_of_the_api(net: Network, data: Data) -> None:
    section, p = pattern_geometry(examine(net, data)), patterns(net, data.inputs)
    assert data.labels is not None
    apart = hamming(p, labels=data.labels.numpy())
    assert [row["mean"] for row in section.data["distances"]] == [d.mean for d in (*apart.layers, apart.units)]
    assert [row["separation"] for row in section.data["distances"]] == [d.separation for d in (*apart.layers, apart.units)]
    votes = neighbour_accuracy(net, data.inputs, data.labels, queries=500)
    assert section.data["votes"] == votes.to_dict()
    clusters = constellations(p)
    assert section.data["clusters"]["score"] == clusters.score
    facts = dict(section.facts)
    assert facts["mean distance"] == f"{apart.mean:.1f} of 21"
    assert facts["right votes, inputs"] == f"{votes.table[0].euclidean:.1%}"
    assert {figure.name for figure in section.figures} == {"distances", "votes", "clusters", "neighbours"}
    assert [row[0] for row in section.tables[0].rows] == ["input", "relu1", "relu2", "all layers"]
    assert all(len(row) == len(section.tables[0].columns) for row in section.tables[0].rows)
    assert "all 60 inputs" in words(section)


def test_without_labels_nothing_is_said_of_classes(net: Network, data: Data) -> None:
    section = pattern_geometry(examine(net, Data(data.inputs, None, "d")))
    assert "class" not in words(section)
    assert "vote" not in words(section)
    assert section.data["votes"] is None
    assert {figure.name for figure in section.figures} == {"distances", "clusters", "neighbours"}
    assert section.tables[0].columns == ("layer", "units", "mean distance", "deviation", "in parts of the units")


def test_inputs_that_are_no_pictures_have_no_grid(net: Network) -> None:
    small = dense([(rand(8, 5), rand(8)), (rand(3, 8), None)])
    section = pattern_geometry(examine(small, Data(rand(12, 5), torch.randint(0, 3, (12,), generator=RANDOM), "d")))
    assert "neighbours" not in {figure.name for figure in section.figures}
    assert [row[0] for row in section.tables[0].rows] == ["input", "relu1"]


def test_networks_without_gates_and_single_inputs_are_told_in_words(net: Network, data: Data) -> None:
    assert "no gates" in words(pattern_geometry(examine(dense([(rand(4, 64), None)]), data)))
    assert "one input only" in words(pattern_geometry(examine(net, data.first(1))))


def test_two_inputs_are_enough(net: Network, data: Data) -> None:
    section = pattern_geometry(examine(net, data.first(2)))
    assert section.data["inputs"] == 2
    assert section.data["votes"]["k"] == 1


def test_units_that_never_switch_leave_all_inputs_in_one_place(data: Data) -> None:
    dead = dense([(torch.zeros(3, 64), None), (rand(4, 3), None)])
    section = pattern_geometry(examine(dead, data))
    assert dict(section.facts)["mean distance"] == "0.0 of 3"
    assert "as long as" not in words(section)


def test_windows_count_where_there_are_no_units() -> None:
    pooling = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    section = pattern_geometry(examine(load(pooling.eval(), torch.zeros(1, 1, 6, 6)), Data(rand(9, 1, 6, 6), None, "d")))
    assert dict(section.facts)["mean distance"].endswith(" of 8")
    assert "windows" in words(section)


def test_too_many_inputs_are_thinned_and_the_section_says_so(net: Network, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INPUTS", 20)
    section = pattern_geometry(examine(net, data))
    assert (section.data["inputs"], section.data["of_inputs"]) == (20, 60)
    assert "20 of the 60 inputs, evenly spaced" in words(section)
    at = torch.linspace(0, 59, 20).round().long()
    assert section.data["distances"][-1]["mean"] == hamming(patterns(net, data.inputs[at])).mean


def test_the_section_is_on_the_page_behind_frequencies(tmp_path: Path, net: Network, data: Data) -> None:
    place = SECTIONS.index(pattern_geometry)
    assert SECTIONS[place - 1].__name__ == "frequencies"
    page = write_report(net, data, tmp_path / "out", sections=SECTIONS[place : place + 1])
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["sections"]) == ["pattern_geometry"]
    assert "How alike inputs are to the network" in page.read_text(encoding="utf-8")
