"""The commands preimage, nullspace and zeros: they say what the library says, and a mistake is one line."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polylens import (
    Argmax,
    Box,
    OutputSet,
    Plane,
    Segment,
    WholeSpace,
    forgotten_by_layer,
    load,
    null_space,
    original,
    preimage,
    verify,
    zeros,
)
from polylens.cli import main
from polylens.zoo import digits, digits_data

RANDOM = np.random.default_rng(0)
HEAD = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))
BOX = "(assert (and (<= -1 X_0 1) (<= -1 X_1 1)))"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of two and of sixteen inputs, points for domains, outputs and inputs, and properties, in one folder."""
    folder = tmp_path_factory.mktemp("files")
    np.savez(
        folder / "net.npz",
        W1=RANDOM.normal(size=(8, 2)),
        b1=RANDOM.normal(size=8),
        W2=RANDOM.normal(size=(6, 8)),
        b2=RANDOM.normal(size=6),
        W3=RANDOM.normal(size=(3, 6)),
    )
    np.savez(folder / "wide.npz", W1=RANDOM.normal(size=(6, 16)), b1=RANDOM.normal(size=6), W2=RANDOM.normal(size=(3, 6)))
    np.savez(folder / "strip.npz", W1=[[1.0, 0.0], [-1.0, 0.0]], b1=[-1.0, -1.0], W2=[[1.0, 1.0]])  # 0 for -1 <= x0 <= 1
    np.save(folder / "three.npy", np.array([[0.0, 0.0], [1.0, 0.5], [-0.5, 1.0]]))
    np.save(folder / "two.npy", np.array([[-1.0, -1.0], [1.0, 0.7]]))
    np.save(folder / "low.npy", np.array([-1.0, -2.0]))
    np.save(folder / "one.npy", RANDOM.random(16))
    np.save(folder / "many.npy", RANDOM.random((5, 4, 4)))
    np.save(folder / "bytes.npy", RANDOM.integers(0, 255, (2, 16), np.uint8))
    value = load(folder / "net.npz").double()(torch.tensor([[0.3, -0.2]], dtype=torch.float64))
    np.save(folder / "value.npy", value[0].numpy())
    np.save(folder / "nan.npy", np.full(3, np.nan))
    (folder / "reached.vnnlib").write_text(HEAD + BOX + "(assert (>= Y_0 -100))")
    (folder / "missed.vnnlib").write_text(HEAD + BOX + "(assert (>= Y_0 1e6))")
    (folder / "broken.vnnlib").write_text(HEAD + BOX + "(assert (>= Y_0 1e6)")
    (folder / "soft.py").write_text(
        "import torch\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))\n"
    )
    return folder


@pytest.fixture(autouse=True)
def _there(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code = main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return dict(json.loads(out))


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def same(found: dict[str, Any], expected: dict[str, Any], *but: str) -> bool:
    return all(found[key] == value for key, value in expected.items() if key not in ("seconds", *but))


# -- preimages


def test_preimage_says_what_the_library_says(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = load("net.npz")
    low, three, two, value = (np.load(f"{name}.npy") for name in ("low", "three", "two", "value"))
    square = Box([-1.0, -1.0], [1.0, 1.0])
    for target, words, domain, place in (
        (OutputSet.parse(["y0 >= y1"], 3), ["--output", "y0 >= y1"], square, ["--box", "-1e0", "1"]),
        (OutputSet.parse(["-y0<=1", "y1 >= y2"], 3), ["--output", "-y0<=1", "--output", "y1 >= y2"], square, ["--box", -1, 1]),
        (Argmax(1), ["--class", 1], Box(low, [1.0, 1.0]), ["--box", "low.npy", "1"]),
        (Argmax(1, 0.25), ["--class", 1, "--margin", "0.25"], Plane.through(*three), ["--plane", "three.npy"]),
        (Argmax(0), ["--class", 0], Segment(*two), ["--segment", "two.npy"]),
        (value, ["--value", "value.npy"], square, ["--box", -1, 1]),
        (7.5, ["--value", "7.5"], square, ["--box", -1, 1]),
    ):
        found, expected = told(capsys, "preimage", "net.npz", *words, *place), preimage(net, target, domain)
        assert same(found, expected.to_dict())
        assert found["domain"]["volume"] == pytest.approx(domain.volume)
        text = said(capsys, "preimage", "net.npz", *words, *place)
        assert ("one such input" in text) == bool(len(expected))
        assert ("there is no such input" in text) == (not len(expected))


def test_preimage_finds_the_kernel_in_the_whole_space(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "preimage", "strip.npz", "--value", 0, "--box", "-inf", "inf")
    assert same(found, preimage(load("strip.npz"), 0.0, WholeSpace(2)).to_dict())
    assert (found["pieces"], found["dimension"], found["volume"]) == (1, 2, None)
    assert found["empty"] is False


def test_preimage_draws_samples_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("preimage", "net.npz", "--class", 1, "--box", -1, 1, "--sample", 50, "--seed", 3)
    found = told(capsys, *arguments, "-o", tmp_path / "x.npy", "--plot", tmp_path / "a.png")
    expected = preimage(load("net.npz"), Argmax(1), Box([-1.0, -1.0], [1.0, 1.0])).sample(50, seed=3)
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected.numpy())
    assert (found["samples"], found["plot"]) == (str(tmp_path / "x.npy"), str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    line = ("preimage", "net.npz", "--class", 1, "--segment", "two.npy", "--plot", tmp_path / "a.svg")
    assert "drawn to" in said(capsys, *line)
    assert "</svg>" in (tmp_path / "a.svg").read_text()


def test_preimage_writes_nothing_where_there_is_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("preimage", "net.npz", "--output", "y0 >= 1000", "--box", -1, 1)
    places = ("--sample", 5, "-o", tmp_path / "x.npy", "--plot", tmp_path / "a.png")
    found = told(capsys, *arguments, *places)
    assert (found["empty"], found["samples"], found["plot"], os.listdir(tmp_path)) == (True, None, None, [])
    text = said(capsys, *arguments, *places)
    assert "nothing to draw from" in text
    assert "there is no piece" in text


def test_preimage_that_was_cut_short_says_so_and_draws_no_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = {f"W{k}": RANDOM.normal(size=(900 if k < 2 else 3, 900 if k > 1 else 2)) for k in range(1, 3)}
    np.savez(tmp_path / "deep.npz", **layers, b1=RANDOM.normal(size=900), b2=RANDOM.normal(size=3))
    arguments = ("preimage", tmp_path / "deep.npz", "--output", "y0 >= -1e9", "--box", -1, 1, "--limit", 1)
    found = told(capsys, *arguments, "--sample", 5, "-o", tmp_path / "x.npy")
    assert (found["complete"], found["reason"], found["samples"]) == (False, "limit", None)
    assert "raise the limit" in said(capsys, *arguments, "--sample", 5, "-o", tmp_path / "x.npy")
    assert os.listdir(tmp_path) == ["deep.npz"]
    late = told(capsys, *arguments[:-2], "--time-limit", "1e-9")
    assert (late["complete"], late["reason"], late["empty"]) == (False, "time_limit", None if not late["pieces"] else False)


# -- properties


def test_properties_are_decided(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("preimage", "net.npz", "--vnnlib")
    found = told(capsys, *arguments, "reached.vnnlib")
    assert (found["verdict"], found["reason"], found["property"]) == ("sat", None, "reached.vnnlib")
    x, net = torch.tensor(found["witness"]["input"], dtype=torch.float32), load("net.npz")
    assert original("net.npz", net)(x)[0].tolist() == pytest.approx(found["witness"]["output"], rel=1e-5)
    assert bool((x.abs() <= 1).all())
    missed = told(capsys, *arguments, "missed.vnnlib")
    assert same(missed, verify(load("net.npz"), "missed.vnnlib").to_dict())
    assert (missed["verdict"], missed["witness"]) == ("unsat", None)
    assert "missed.vnnlib: unsat" in said(capsys, *arguments, "missed.vnnlib")


def test_a_property_of_version_2_is_decided_like_the_same_one_of_version_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = "(vnnlib-version <2.0>)(declare-network f (declare-input X Real [1,2]) (declare-output Y Real [3]))"
    box = "".join(f"(assert (and (<= -1 X[0,{i}]) (<= X[0,{i}] 1)))" for i in (0, 1))
    for name, bound in (("reached", "-100"), ("missed", "1e6")):
        (tmp_path / f"{name}.vnnlib").write_text(f"{head}{box}(assert (>= Y[0] {bound}))")
        found, first = (
            told(capsys, "preimage", "net.npz", "--vnnlib", p) for p in (str(tmp_path / f"{name}.vnnlib"), f"{name}.vnnlib")
        )
        assert same(found, first)
    (tmp_path / "two.vnnlib").write_text(head + "(declare-network g (declare-input A Real [2]) (declare-output B Real [3]))")
    assert main(["preimage", "net.npz", "--vnnlib", str(tmp_path / "two.vnnlib")]) == 2
    assert "join the networks into one model" in capsys.readouterr().err


def test_the_whole_unsafe_set_is_found_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("preimage", "net.npz", "--vnnlib", "reached.vnnlib")
    assert told(capsys, *arguments)["unsafe"] is None
    (unsafe,) = told(capsys, *arguments, "--whole")["unsafe"]
    assert unsafe["volume"] == pytest.approx(4.0)
    assert "of dimension 2, volume 4" in said(capsys, *arguments, "--whole")


def test_a_property_that_takes_too_long_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "preimage", "net.npz", "--vnnlib", "missed.vnnlib", "--time-limit", "1e-9")
    assert (found["verdict"], found["reason"]) == ("unknown", "ended by time_limit")


def real(*parts: str) -> str:
    root = os.environ.get("POLYLENS_DATA")
    if root is None or not (path := Path(root, *parts)).exists():
        pytest.skip(f"POLYLENS_DATA with {'/'.join(parts)} is not there")
    return str(path)


@pytest.mark.parametrize("number", [7, 10])
def test_a_collision_avoidance_network_gets_its_known_verdict(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(real("acasxu", "verdicts.csv")).open() as file:
        row = list(csv.DictReader(file))[number]
    model, rule = real("acasxu", "onnx", row["network"]), real("acasxu", "vnnlib", row["property"])
    found = told(capsys, "preimage", model, "--vnnlib", rule)
    assert found["verdict"] == row["result"]
    if row["result"] == "sat":
        assert "onnx" in found["confirmed_by"].lower()


# -- null spaces


def test_nullspace_says_what_the_library_says(capsys: pytest.CaptureFixture[str]) -> None:
    net, one, many = load("wide.npz"), torch.from_numpy(np.load("one.npy")), torch.from_numpy(np.load("many.npy"))
    for name, x in (("one.npy", one), ("many.npy", many.reshape(5, 16))):
        found = told(capsys, "nullspace", "wide.npz", "--at", name)
        assert same(found, null_space(net, x).to_dict(), "singular_values", "tolerance", "gap")
        for key in ("singular_values", "tolerance"):
            assert np.allclose(found[key], null_space(net, x).to_dict()[key], rtol=1e-9, atol=1e-15)
        assert {"rank", "nullity", "gap"} <= set(found)
        assert found["by_layer"] == forgotten_by_layer(net, x).to_dict()


def test_nullspace_has_a_line_for_each_input_and_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "nullspace", "wide.npz", "--at", "many.npy")
    assert sum(line.startswith("  input ") for line in text.splitlines()) == 5
    assert "up to relu1" in text
    assert "up to output" in text
    assert "exactly, within the region" in text
    alone = said(capsys, "nullspace", "wide.npz", "--at", "one.npy")
    assert "input 0" not in alone
    assert f"null space {16 - int(null_space(load('wide.npz'), torch.from_numpy(np.load('one.npy'))).rank)}" in alone


def test_nullspace_of_a_layer_goes_by_name_or_number(capsys: pytest.CaptureFixture[str]) -> None:
    found = [told(capsys, "nullspace", "wide.npz", "--at", "bytes.npy", "--layer", name) for name in ("relu1", "0")]
    assert found[0] == found[1]
    x = torch.from_numpy(np.load("bytes.npy") / 255.0)
    assert found[0]["rank"] == null_space(load("wide.npz"), x, layer="relu1").rank.tolist()
    all_zero = told(capsys, "nullspace", "wide.npz", "--at", "one.npy", "--tolerance", "1e9")
    assert (all_zero["rank"], all_zero["nullity"]) == (0, 16)


def test_nullspace_draws_pictures_and_singular_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", digits_data("test").inputs[:3].numpy())
    for model, at, name in ((), tmp_path / "x.npy", "p.png"), (("wide.npz",), "one.npy", "s.pdf"):
        found = told(capsys, "nullspace", *model, "--at", at, "--plot", tmp_path / name)
        assert found["plot"] == str(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000
    assert told(capsys, "nullspace", "--at", tmp_path / "x.npy")["rank"] == [10, 10, 10]
    assert digits().output_shape == (10,)


def test_nullspace_of_a_smooth_network_holds_to_first_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", RANDOM.random(4))
    arguments = ("nullspace", "soft:build", "--example-shape", "1,4", "--at", tmp_path / "x.npy")
    assert (found := told(capsys, *arguments))["rank"] == 2
    assert found["nullity"] == 2
    assert "to first order" in said(capsys, *arguments)


# -- zeros


def test_zeros_says_what_the_library_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, box, value = load("net.npz"), Box([-1.0, -1.0], [1.0, 1.0]), np.load("value.npy")
    for target, words in ((0, []), (0.25, ["--target", "0.25"]), (value, ["--target", "value.npy"])):
        found = told(capsys, "zeros", "net.npz", "--box", -1, 1, *words, "--starts", 40, "--seed", 5)
        expected = zeros(net, box, target, starts=40, seed=5)
        assert found["num_exact"] == int(expected.exact.sum())
        assert found["num_exact"] + found["num_least_squares"] + found["num_failed"] == 40
        assert np.allclose(found["points"], expected.points)
        assert np.allclose(found["residuals"], expected.residuals, atol=1e-12)
        assert found["num_distinct"] == len(expected.distinct())
    assert found["num_exact"] > 0  # the value of a point in the box


def test_zeros_writes_points_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("zeros", "net.npz", "--box", -1, 1, "--target", "value.npy", "--starts", 30)
    found = told(capsys, *arguments, "-o", tmp_path / "x.npy", "--plot", tmp_path / "a.png")
    x = torch.from_numpy(np.load(tmp_path / "x.npy"))
    assert (x.shape, "points" in found, found["out"]) == ((30, 2), False, str(tmp_path / "x.npy"))
    residuals = (load("net.npz").double()(x) - torch.from_numpy(np.load("value.npy"))).abs().amax(1)
    assert residuals.tolist() == pytest.approx(found["residuals"], abs=1e-12)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    text = said(capsys, *arguments, "-o", tmp_path / "x.npy", "--plot", tmp_path / "a.png")
    assert "distinct exact solutions" in text
    assert "points written to" in text


def test_zeros_of_smooth_networks_and_without_sides(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(
        capsys, "zeros", "soft:build", "--example-shape", "1,4", "--box", "-inf", "inf", "--starts", 10, "--target", "0.1"
    )
    assert found["num_exact"] >= 1
    assert max(r for r, e in zip(found["residuals"], found["exact"], strict=True) if e) <= found["allowed"]


# -- mistakes


MISTAKES = {
    "no target": (["preimage", "net.npz", "--box", "0", "1"], "--output --class --value --vnnlib is required"),
    "two targets": (["preimage", "net.npz", "--class", "1", "--value", "0", "--box", "0", "1"], "not allowed with"),
    "no domain": (["preimage", "net.npz", "--class", "1"], "expected --box, --plane or --segment"),
    "two domains": (["preimage", "net.npz", "--class", "1", "--box", "0", "1", "--plane", "three.npy"], "not allowed with"),
    "no such class": (["preimage", "net.npz", "--class", "3", "--box", "0", "1"], "expected an index below 3"),
    "a class below 0": (["preimage", "net.npz", "--class", "-1", "--box", "0", "1"], "at least 0; got '-1'"),
    "a margin below 0": (["preimage", "net.npz", "--class", "1", "--margin", "-1", "--box", "0", "1"], "at least 0"),
    "a margin alone": (["preimage", "net.npz", "--value", "0", "--margin", "1", "--box", "0", "1"], "expected --class"),
    "no such output": (["preimage", "net.npz", "--output", "y7 >= 0", "--box", "0", "1"], "outputs y0 to y2; got y7"),
    "no constraint": (["preimage", "net.npz", "--output", "y0", "--box", "0", "1"], "expected one of <=, >=, =="),
    "no output": (["preimage", "net.npz", "--value", "much", "--box", "0", "1"], "or a .npy file with an output; got 'much'"),
    "output of another size": (["preimage", "net.npz", "--value", "low.npy", "--box", "0", "1"], "one output (3,); got (2,)"),
    "output of NaN": (["preimage", "net.npz", "--value", "nan.npy", "--box", "0", "1"], "expected finite numbers"),
    "samples nowhere": (["preimage", "net.npz", "--class", "1", "--box", "0", "1", "--sample", "5"], "got one of them"),
    "samples as text": (
        ["preimage", "net.npz", "--class", "1", "--box", "0", "1", "--sample", "5", "-o", "x.txt"],
        "ends in .npy",
    ),
    "samples without end": (
        ["preimage", "strip.npz", "--value", "0", "--box", "-inf", "inf", "--sample", "5", "-o", "x.npy"],
        "unbounded",
    ),
    "picture of a solid": (["preimage", "wide.npz", "--class", "1", "--box", "0", "1", "--plot", "a.png"], "got 16"),
    "picture nowhere": (["preimage", "net.npz", "--class", "1", "--box", "0", "1", "--plot", "no/a.png"], "a directory"),
    "too many dimensions": (
        ["preimage", "net.npz", "--class", "1", "--box", "one.npy", "1"],
        "one side for each entry of (2,); got (16,)",
    ),
    "whole without property": (["preimage", "net.npz", "--class", "1", "--box", "0", "1", "--whole"], "expected --vnnlib"),
    "property and box": (["preimage", "net.npz", "--vnnlib", "missed.vnnlib", "--box", "0", "1"], "its own input sets"),
    "property missing": (["preimage", "net.npz", "--vnnlib", "none.vnnlib"], "none.vnnlib: expected a VNN-LIB file"),
    "property broken": (["preimage", "net.npz", "--vnnlib", "broken.vnnlib"], "broken.vnnlib"),
    "property of another network": (["preimage", "wide.npz", "--vnnlib", "missed.vnnlib"], "expected 16 inputs"),
    "smooth preimage": (
        ["preimage", "soft:build", "--example-shape", "1,4", "--value", "0", "--box", "0", "1"],
        "tanh",
    ),
    "no input": (["nullspace", "net.npz"], "required: --at"),
    "input of another size": (["nullspace", "net.npz", "--at", "one.npy"], "expected an input (2,), or a batch"),
    "no such layer": (["nullspace", "wide.npz", "--at", "one.npy", "--layer", "relu9"], "relu9"),
    "no such position": (["nullspace", "wide.npz", "--at", "one.npy", "--layer", "9"], "9"),
    "a tolerance below 0": (["nullspace", "wide.npz", "--at", "one.npy", "--tolerance", "-1"], "at least 0"),
    "picture as gif": (["nullspace", "wide.npz", "--at", "one.npy", "--plot", "a.gif"], "ends in .png, .pdf, .svg"),
    "zeros nowhere": (["zeros", "net.npz"], "required: --box"),
    "zeros in an empty box": (["zeros", "net.npz", "--box", "1", "0"], "expected low <= high"),
    "no starts": (["zeros", "net.npz", "--box", "0", "1", "--starts", "0"], "at least 1; got '0'"),
    "a target that is none": (["zeros", "net.npz", "--box", "0", "1", "--target", "inf"], "expected finite numbers"),
    "points as text": (["zeros", "net.npz", "--box", "0", "1", "-o", "x.txt"], "ends in .npy"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_line_and_leaves_nothing(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(name for name in os.listdir() if name != "__pycache__")
    arguments, words = MISTAKES[mistake]
    try:
        code: Any = main([*arguments, "--json"])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("polylens: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(name for name in os.listdir() if name != "__pycache__") == before


@pytest.mark.parametrize("command", ["report", "info", "regions", "region", "preimage", "nullspace", "zeros"])
def test_the_help_of_each_command_ends_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"\n  polylens {command}" in text[text.index("example") :]
