"""The command line: what it prints, how it ends, and that a mistake is one line and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from polylens import (
    Box,
    Plane,
    Polytope,
    Segment,
    WholeSpace,
    count_regions,
    facets,
    load,
    nearest_boundary,
    open_store,
    region,
    subdivide,
)
from polylens.cli import main
from polylens.geometry import chebyshev_ball
from polylens.zoo import digits_data

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as .npz, data that fit and do not, and a module to import, in one folder."""
    folder = tmp_path_factory.mktemp("files")
    weights = {"W1": RANDOM.normal(size=(6, 16)), "b1": RANDOM.normal(size=6), "W2": RANDOM.normal(size=(3, 6))}
    np.savez(folder / "net.npz", **weights)
    np.savez(folder / "data.npz", x=RANDOM.random((20, 4, 4)), y=RANDOM.integers(0, 3, 20))
    np.save(folder / "wide.npy", RANDOM.random((20, 5)))
    np.save(folder / "nan.npy", np.full((3, 16), np.nan))
    np.save(folder / "labels.npy", np.zeros(7, int))
    (folder / "cut.npz").write_bytes((folder / "data.npz").read_bytes()[:100])
    (folder / "text.onnx").write_text("this is no network")
    (folder / "mine.py").write_text(
        "import torch\n\ndef build():\n    return torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.ReLU())\n"
    )
    save_file({"0.weight": torch.ones(4, 16), "0.bias": torch.zeros(4)}, folder / "mine.safetensors")
    return folder


def polylens(*arguments: str, folder: Path, **options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "polylens", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env=os.environ | options, check=False
    )


# -- in a process of its own


def test_the_built_in_report_needs_no_arguments_and_prints_one_object(tmp_path: Path) -> None:
    done = polylens("report", "--json", folder=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    content = json.loads(done.stdout)
    assert content["page"] == "report/index.html"
    assert content["sections"]["performance"]["accuracy"] >= 0.95
    assert json.loads((tmp_path / "report" / "report.json").read_text())["sections"] == content["sections"]


def test_a_factory_is_imported_from_the_current_directory(files: Path) -> None:
    done = polylens("info", "mine:build", "--weights", "mine.safetensors", "--example-shape", "1,16", "--json", folder=files)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["input_shape"] == [16]


def test_a_mistake_is_one_line_and_exit_code_2(files: Path) -> None:
    done = polylens("report", "net.npz", "--data", "wide.npy", "-o", "never", "--json", folder=files)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("polylens: wide.npy: expected")
    assert "(16,)" in done.stderr
    assert "(5,)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (files / "never").exists()


@pytest.mark.skipif(os.name != "posix", reason="interrupts are sent by signals")
def test_ctrl_c_is_one_line_and_exit_code_130_and_leaves_nothing(files: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", RANDOM.random((400_000, 16), np.float32))
    command = [sys.executable, "-m", "polylens", "report", str(files / "net.npz"), "--data", "many.npy", "-o", "out"]
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    try:
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, previous)
    with process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".out.*.part")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (130, "", "polylens: interrupted\n")
    assert os.listdir(tmp_path) == ["many.npy"]


# -- in this process


def test_info_prints_the_program(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(files / "net.npz"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {"input_shape", "output_shape", "num_units", "piecewise_linear", "gates", "steps"} <= set(content)
    assert content["gates"] == [{"name": "relu1", "kind": "relu", "shape": [6]}]
    assert main(["info", str(files / "net.npz")]) == 0
    assert "relu1" in capsys.readouterr().out


@pytest.mark.slow
def test_report_takes_data_labels_scaling_and_a_limit(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--data",
        str(files / "data.npz"),
        "--mean",
        "0.5",
        "--std",
        "0.25",
        "--limit",
        "12",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(["report", str(files / "net.npz"), *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"report written to {tmp_path / 'out' / 'index.html'}\n"
    assert printed.err == ""
    assert json.loads((tmp_path / "out" / "report.json").read_text())["inputs"] == 12


MISTAKES = {
    "no data": (["report", "net.npz"], "expected --data FILE"),
    "missing data": (["report", "net.npz", "--data", "nothing.npy"], "nothing.npy: expected a data file"),
    "missing model": (["info", "nothing.onnx"], "nothing.onnx"),
    "truncated data": (["report", "net.npz", "--data", "cut.npz"], "damaged or truncated"),
    "foreign model": (["info", "text.onnx"], "text.onnx"),
    "not a number": (["report", "net.npz", "--data", "nan.npy"], "NaN"),
    "labels of another length": (["report", "net.npz", "--data", "data.npz", "--labels", "labels.npy"], "one label for each"),
    "too many means": (["report", "net.npz", "--data", "data.npz", "--mean", "1", "2", "3"], "got 3 numbers"),
    "scaling without data": (["report", "--mean", "1"], "expected --data FILE"),
    "weights without factory": (["info", "net.npz", "--weights", "mine.safetensors"], "package.module:factory"),
    "no such module": (["info", "not_there_at_all:build"], "not_there_at_all"),
    "output is a file": (["report", "net.npz", "--data", "data.npz", "-o", "mine.py"], "it is a file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_line_that_says_what_is_wrong(
    mistake: str, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    before = sorted(os.listdir(files))
    arguments, words = MISTAKES[mistake]
    assert main([*arguments, "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("polylens: ")
    assert printed.err.count("\n") == 1
    assert words in printed.err
    assert [name for name in sorted(os.listdir(files)) if name != "__pycache__"] == [n for n in before if n != "__pycache__"]


@pytest.mark.parametrize(
    "arguments", [[], ["juggle"], ["info"], ["report", "--limit", "0"], ["info", "a:b", "--example-shape", "1,x"]]
)
def test_what_cannot_be_parsed_is_one_line_too(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


def test_version_and_help_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for argument in ("--version", "--help"):
        with pytest.raises(SystemExit) as ended:
            main([argument])
        assert ended.value.code == 0
        assert "polylens" in capsys.readouterr().out


def real(*parts: str) -> str:
    root = os.environ.get("POLYLENS_DATA")
    if root is None or not (path := Path(root, *parts)).exists():
        pytest.skip(f"POLYLENS_DATA with {'/'.join(parts)} is not there")
    return str(path)


@pytest.mark.parametrize(
    ("model", "data", "accuracy", "scaling"),
    [
        pytest.param("mnist-net_256x2.onnx", "mnist/t10k-images-idx3-ubyte.gz", 0.96, [], marks=pytest.mark.slow),
        pytest.param(
            *("resnet_2b.onnx", "cifar10/test_first1000.bin.gz", 0.6, ["--mean", ".485", ".456", ".406", "--std", ".225"]),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_real_networks_are_reported_with_their_accuracy(
    model: str, data: str, accuracy: float, scaling: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [real("nets", model), "--data", real(*data.split("/")), *scaling, "--limit", "200", "-o", str(tmp_path / "out")]
    assert main(["report", *arguments, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["sections"]["performance"]["accuracy"] >= accuracy
    exact = content["sections"]["classifiers"]
    assert exact["max_deviation_nearby"] <= 1e-9 * (1 + exact["max_abs_output"])


def test_region_gives_the_numbers_of_one_input(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.zeros(load(files / "net.npz").input_shape, np.float32) + 0.25
    np.save(tmp_path / "x.npy", x)
    assert main(["region", str(files / "net.npz"), "--at", str(tmp_path / "x.npy"), "--box", "0", "1", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    wanted = {"num_facets", "inradius", "boundary_distance", "boundary_unit", "active_units", "num_units", "facets_complete"}
    assert wanted <= set(content)
    net = load(files / "net.npz")
    here = region(net, torch.from_numpy(x), domain=Polytope.box([0.0] * x.size, [1.0] * x.size))
    assert content["num_facets"] == facets(here.polytope).num_facets
    assert content["inradius"] == pytest.approx(chebyshev_ball(here.polytope).radius)
    assert content["boundary_distance"] == pytest.approx(float(nearest_boundary(net, torch.from_numpy(x)).distance))
    assert main(["region", str(files / "net.npz"), "--at", str(tmp_path / "x.npy")]) == 0
    text = capsys.readouterr().out
    assert "the whole space" in text
    assert "inradius: infinite" in text
    assert "switches o" in text  # on or off, in words


def test_region_says_in_json_that_an_inradius_is_infinite(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.full(16, 0.25, np.float32))
    for box, infinite in (([], True), (["--box", "-inf", "inf"], True), (["--box", "-1e0", "1"], False)):
        assert main(["region", str(files / "net.npz"), "--at", str(tmp_path / "x.npy"), *box, "--json"]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["inradius_is_infinite"] == infinite
        assert (content["inradius"] is None) == infinite


def test_region_says_what_is_open_when_its_time_is_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", digits_data("test").inputs[0].numpy())
    assert main(["region", "--at", str(tmp_path / "x.npy"), "--box", "0", "1", "--time-limit", "1e-9"]) == 0
    assert "rows are undecided" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--box", "1", "0"], "expected LO < HI; got 1 0"),
        (["--box", "-inf", "-inf"], "expected LO < HI"),
        (["--box", "nan", "1"], "expected a number, or inf"),
        (["--box", "0", "much"], "got 'much'"),
        (["--time-limit", "-1"], "seconds above 0; got '-1'"),
        (["--time-limit", "nan"], "seconds above 0"),
    ],
)
def test_region_refuses_boxes_and_times_that_mean_nothing(
    options: list[str], words: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.full(16, 0.25, np.float32))
    try:
        code = main(["region", str(files / "net.npz"), "--at", str(tmp_path / "x.npy"), *options])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_region_refuses_several_inputs_and_points_outside_the_box(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = load(files / "net.npz").input_shape[0]
    np.save(tmp_path / "two.npy", np.zeros((2, size), np.float32))
    np.save(tmp_path / "far.npy", np.full(size, 7.0, np.float32))
    for arguments, words in (
        (["two.npy"], "expected one input; got 2"),
        (["far.npy", "--box", "0", "1"], "inside the --box 0 1; got entries from 7 to 7"),
    ):
        assert main(["region", str(files / "net.npz"), "--at", str(tmp_path / arguments[0]), *arguments[1:], "--json"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err
        assert err.count("\n") == 1


# -- the regions of a domain


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two inputs with a unit that is there twice and one that does nothing, and points for domains."""
    folder = tmp_path_factory.mktemp("flat")
    first = np.concatenate([RANDOM.normal(size=(7, 2)), np.zeros((1, 2))])
    first[6] = 2 * first[5]
    bias = np.concatenate([0.3 * RANDOM.normal(size=5), np.zeros(2), [-1.0]])
    second = RANDOM.normal(size=(5, 8))
    np.savez(folder / "net.npz", W1=first, b1=bias, W2=second, b2=np.zeros(5), W3=RANDOM.normal(size=(3, 5)))
    np.save(folder / "three.npy", np.array([[0.0, 0.0], [1.0, 0.5], [-0.5, 1.0]]))
    np.save(folder / "two.npy", np.array([[-1.0, -1.0], [1.0, 0.7]]))
    np.save(folder / "low.npy", np.array([-1.0, -2.0]))
    np.save(folder / "solid.npy", RANDOM.random((3, 16)))
    return folder


def counted(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    code = main(["regions", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return dict(json.loads(out))


def test_regions_says_what_the_library_says(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = load(flat / "net.npz")
    low, three, two = (np.load(flat / name) for name in ("low.npy", "three.npy", "two.npy"))
    for domain, options in (
        (Box([-1.0, -1.0], [1.0, 1.0]), ["--box", "-1e0", "1"]),
        (Box(low, [1.0, 1.0]), ["--box", flat / "low.npy", "1"]),
        (Plane.through(*three), ["--plane", flat / "three.npy"]),
        (Segment(*two), ["--segment", flat / "two.npy"]),
    ):
        found = counted(capsys, flat / "net.npz", *options)
        expected = count_regions(net, domain).to_dict()
        changing = {"seconds", "volume"}
        assert {k: v for k, v in found.items() if k in expected.keys() - changing} == {
            k: v for k, v in expected.items() if k not in changing
        }
        assert found["complete"] is True
        assert found["volume"] == pytest.approx(found["domain_volume"], rel=1e-9)
        assert list(found["per_layer"].values())[-1] == found["regions"]  # type: ignore[attr-defined]


def test_regions_merges_neighbours_and_draws(flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = subdivide(load(flat / "net.npz"), Box([-2.0, -2.0], [2.0, 2.0]))
    for name, start in (("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")):
        found = counted(capsys, flat / "net.npz", "--box", -2, 2, "--linear", "--plot", tmp_path / name)
        assert found["linear_regions"] == whole.linear_regions().count
        assert (tmp_path / name).read_bytes()[:4] == start
    counted(capsys, flat / "net.npz", "--segment", flat / "two.npy", "--plot", tmp_path / "line.svg")
    assert "</svg>" in (tmp_path / "line.svg").read_text()


def test_regions_of_an_unbounded_box_have_no_volume(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = counted(capsys, flat / "net.npz", "--box", "-inf", "inf")
    assert found["regions"] == count_regions(load(flat / "net.npz"), WholeSpace(2)).count
    assert (found["volume"], found["domain_volume"]) == (None, None)


def test_regions_measures_nothing_when_told_so(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(capsys, flat / "net.npz", "--box", -1, 1, "--no-volumes")["volume"] is None
    assert counted(capsys, flat / "net.npz", "--box", -1, 1, "--volumes")["volume"] == pytest.approx(4.0)


def test_regions_that_were_cut_short_say_so_and_draw_nothing(
    files: Path, flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = {f"W{k}": RANDOM.normal(size=(300, 300 if k > 1 else 2)) for k in range(1, 4)}
    np.savez(tmp_path / "deep.npz", **layers, **{f"b{k}": RANDOM.normal(size=300) for k in range(1, 4)})  # type: ignore[arg-type]
    arguments = ["regions", str(tmp_path / "deep.npz"), "--box", "-1", "1", "--limit", "1", "--plot", str(tmp_path / "a.png")]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["complete"], found["reason"], found["plot"]) == (False, "limit", None)
    assert 0 < found["covered"] < 1
    assert not (tmp_path / "a.png").exists()
    assert main(arguments) == 0
    assert "raise the limit" in capsys.readouterr().out


def test_regions_keeps_a_store_and_finds_it_again(flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (flat / "net.npz", "--box", -1, 1, "--store", tmp_path / "cells", "--jobs", 2)
    first, second = counted(capsys, *arguments), counted(capsys, *arguments)
    assert open_store(tmp_path / "cells").count == first["regions"] == second["regions"]
    assert main(["regions", str(flat / "net.npz"), "--box", "-1", "2", "--store", str(tmp_path / "cells")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_regions_prints_a_summary(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regions", str(flat / "net.npz"), "--box", "-1", "1", "--linear"]) == 0
    text = capsys.readouterr().out
    assert "activation regions" in text
    assert "linear regions" in text
    assert "volume of the regions: 4" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "one of the arguments --box --plane --segment is required"),
        (["--box", "0", "1", "--plane", "three.npy"], "not allowed with"),
        (["--box", "1", "0"], "expected low <= high"),
        (["--box", "nan", "1"], "expected numbers; got 2 NaN"),
        (["--box", "much", "1"], "or a .npy file; got 'much'"),
        (["--box", "three.npy", "1"], "one side for each entry of (2,); got (3, 2)"),
        (["--box", "missing.npy", "1"], "missing.npy: No such file"),
        (["--plane", "two.npy"], "expected 3 inputs (3, 2); got (2, 2)"),
        (["--segment", "solid.npy"], "expected 2 inputs (2, 2); got (3, 16)"),
        (["--segment", "net.npz"], "got an archive of ['W1'"),
        (["--box", "0", "1", "--limit", "0"], "at least 1; got '0'"),
        (["--box", "0", "1", "--time-limit", "0"], "seconds above 0"),
        (["--box", "0", "1", "--jobs", "0"], "at least 1; got '0'"),
        (["--box", "0", "1", "--plot", "a.gif"], "ends in .png, .pdf, .svg"),
        (["--box", "0", "1", "--plot", "nowhere/a.png"], "a directory that exists"),
        (["--box", "0", "0", "--plot", "a.png"], "1 or 2 dimensions; got 0"),
        (["--box", "-inf", "inf", "--store", "cells"], "expected a bounded domain"),
    ],
)
def test_regions_refuses_what_means_nothing(
    options: list[str], words: str, flat: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(flat)
    before = sorted(os.listdir(flat))
    try:
        code = main(["regions", "net.npz", *options, "--json"])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert sorted(os.listdir(flat)) == before


def test_regions_refuses_boxes_of_images_and_smooth_networks(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "images.npz", W1=np.ones((3, 64)), W2=np.ones((1, 3)))
    (tmp_path / "soft.py").write_text(
        "import torch\n\ndef build():\n    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())\n"
    )
    assert main(["regions", str(tmp_path / "images.npz"), "--box", "0", "1"]) == 2
    assert "at most 16 dimensions to subdivide; got 64" in capsys.readouterr().err
    done = polylens("regions", "soft:build", "--box", "0", "1", "--json", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "tanh" in done.stderr.lower()
    assert done.stderr.count("\n") == 1
