"""The command patterns: it says what the library says, and a mistake is one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polylens import constellations, hamming, independence_test, load, neighbour_accuracy, patterns
from polylens.cli import main

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with 16 inputs and two layers, one without gates, and inputs with and without labels."""
    folder = tmp_path_factory.mktemp("files")
    sizes = (16, 20, 12, 3)
    weights = {f"W{k}": RANDOM.normal(size=(sizes[k], sizes[k - 1])) for k in (1, 2, 3)}
    np.savez(folder / "net.npz", **weights, b1=RANDOM.normal(size=20), b2=RANDOM.normal(size=12))
    np.savez(folder / "linear.npz", W1=RANDOM.normal(size=(3, 16)))
    x, y = RANDOM.normal(size=(60, 16)).astype(np.float32), RANDOM.integers(0, 3, 60)
    np.savez(folder / "both.npz", x=x, y=y)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.save(folder / "one.npy", x[:1])
    np.save(folder / "wide.npy", RANDOM.normal(size=(5, 17)))
    (folder / "taken").write_text("")
    (folder / "named.py").write_text(
        "import torch\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2),\n"
        "        torch.nn.Flatten(), torch.nn.Linear(2, 2))\n"
    )
    return folder


@pytest.fixture(autouse=True)
def _there(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code = main(["patterns", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return dict(json.loads(out))


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code = main(["patterns", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_patterns_says_what_the_library_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "net.npz", "--data", "both.npz", "--clusters", "--test", "--neighbours", 4)
    net, x, y = load("net.npz"), torch.from_numpy(np.load("x.npy")), np.load("y.npy")
    p = patterns(net, x)
    assert found["layers"] == p.frequencies().units()
    assert found["distinct_patterns"] == len(p.unique().patterns)
    apart = hamming(p, labels=y)
    assert found["distances"]["units"]["mean"] == apart.mean
    assert found["distances"]["layers"][1]["within"]["variance"] == apart.layer(1).within.variance  # type: ignore[union-attr]
    assert found["distances"]["layers"][0]["separation"] == apart.layer(0).separation
    assert found["neighbours"] == neighbour_accuracy(net, x, y, 4).to_dict()
    clusters = constellations(p, labels=y)
    assert (found["clusters"]["score"], found["clusters"]["normalised"]) == (clusters.score, clusters.normalised)
    assert found["clusters"]["plateaus"] == [plateau._asdict() for plateau in clusters.plateaus()]
    assert found["clusters"]["first_plateau"] == clusters.contents(clusters.plateaus()[0].start).to_dict()
    for name in ("relu1", "relu2"):
        assert found["independence"][name] == independence_test(p.layer(name), permutations=99).to_dict()


def test_nothing_of_the_answer_grows_with_the_number_of_distances(capsys: pytest.CaptureFixture[str]) -> None:
    assert '"counts"' not in json.dumps(told(capsys, "net.npz", "--data", "both.npz", "--clusters"))


def test_labels_may_be_in_a_file_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    both = told(capsys, "net.npz", "--data", "both.npz")
    assert told(capsys, "net.npz", "--data", "x.npy", "--labels", "y.npy") == both
    assert both["labelled"]
    alone = told(capsys, "net.npz", "--data", "x.npy")
    assert (alone["labelled"], alone["neighbours"], alone["layers"]) == (False, None, both["layers"])
    assert "within" not in alone["distances"]["units"]
    assert "no labels" in said(capsys, "net.npz", "--data", "x.npy")


def test_a_layer_goes_by_name_or_number(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "net.npz", "--data", "both.npz", "--layer", "relu2", "--clusters", "--test")
    assert found == told(capsys, "net.npz", "--data", "both.npz", "--layer", 1, "--clusters", "--test")
    assert [row["name"] for row in found["layers"]] == ["relu2"]
    assert [line["name"] for line in found["neighbours"]["layers"]] == ["input", "relu2"]
    assert list(found["independence"]) == ["relu2"]
    p = patterns(load("net.npz"), torch.from_numpy(np.load("x.npy"))).layer("relu2")
    assert found["clusters"]["score"] == constellations(p).score
    both = told(capsys, "net.npz", "--data", "both.npz", "--layer", 1, "--layer", 0, "--layer", "relu2")
    assert [row["name"] for row in both["layers"]] == ["relu2", "relu1"]


def test_the_words_name_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "net.npz", "--data", "both.npz", "--clusters", "--test")
    words = ("dead", "always on", "mixed", "bits", "distinct patterns", "within classes", "votes of the 10 nearest", "plateau")
    assert [word for word in words if word not in text] == []
    assert "relu2: independence of 12 units over 60 inputs" in text
    assert "adjusted Rand index" in text
    few = said(capsys, "net.npz", "--data", "both.npz", "--limit", 5)
    assert "over 5 inputs" in few
    assert "votes of the 4 nearest" in few


def test_one_input_has_frequencies_and_no_distances(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "net.npz", "--data", "one.npy", "--clusters", "--test")
    assert (found["inputs"], found["distances"], found["neighbours"]) == (1, None, None)
    assert found["independence"] == {"relu1": None, "relu2": None}
    assert "not tested" in said(capsys, "net.npz", "--data", "one.npy", "--test")


def test_patterns_are_written_layer_by_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.npz"
    assert told(capsys, "net.npz", "--data", "both.npz", "-o", out)["out"] == str(out)
    p = patterns(load("net.npz"), torch.from_numpy(np.load("x.npy")))
    with np.load(out, allow_pickle=False) as written:
        assert sorted(written.files) == ["relu1", "relu2"]
        for name in written.files:
            assert np.array_equal(written[name], p.pieces(name).numpy())


def test_windows_of_max_gates_are_counted_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", RANDOM.random((7, 1, 4, 4)))
    arguments = ("named:build", "--example-shape", "1,1,4,4", "--data", tmp_path / "x.npy")
    found = told(capsys, *arguments, "-o", tmp_path / "p.npz", "--clusters", "--test")
    assert found["distances"]["windows"]["units"] == 2
    with np.load(tmp_path / "p.npz") as written:
        assert [written[name].shape for name in written.files] == [(7, 2, 2, 2), (7, 2, 1, 1)]
    assert "windows" in said(capsys, *arguments)


def test_pictures_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "net.npz", "--data", "both.npz", "--plot", tmp_path / "a.svg")
    assert found["plot"] == str(tmp_path / "a.svg")
    assert "</svg>" in (tmp_path / "a.svg").read_text()
    drawn = told(capsys, "--limit", 40, "--clusters", "--test", "--plots", tmp_path / "all")["plots"]
    assert sorted(drawn) == sorted(str(tmp_path / "all" / name) for name in os.listdir(tmp_path / "all"))
    names = {"frequencies", "distances", "neighbours", "votes", "clusters", "independence"}
    assert {Path(name).stem for name in drawn} == names
    assert all(Path(name).read_bytes()[:4] == b"\x89PNG" for name in drawn)
    again = said(capsys, "net.npz", "--data", "one.npy", "--plots", tmp_path / "all")
    assert "drawn to" in again
    assert "neighbours.png" not in again


def test_many_inputs_are_compared_in_random_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = RANDOM.normal(size=(5001, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    found = told(capsys, "net.npz", "--data", tmp_path / "x.npy", "--seed", 3)
    p = patterns(load("net.npz"), torch.from_numpy(x))
    assert (found["distances"]["sampled"], found["distances"]["units"]["pairs"]) == (True, 1_000_000)
    assert found["distances"]["units"]["mean"] == hamming(p, pairs=1_000_000, seed=3).mean
    assert found["distances"]["units"]["mean"] == pytest.approx(hamming(p).mean, abs=5 * found["distances"]["units"]["error"])


MISTAKES = {
    "no inputs": (["net.npz"], "expected inputs, --data FILE"),
    "labels alone": (["--labels", "y.npy"], "expected --data FILE that they belong to"),
    "no such file": (["net.npz", "--data", "none.npy"], "none.npy"),
    "inputs of another size": (["net.npz", "--data", "wide.npy"], "16 numbers"),
    "no such layer": (["net.npz", "--data", "x.npy", "--layer", "relu9"], "relu9"),
    "no such position": (["net.npz", "--data", "x.npy", "--layer", "9"], "9"),
    "no gates": (["linear.npz", "--data", "x.npy"], "expected a network with gates"),
    "too many neighbours": (["net.npz", "--data", "both.npz", "--limit", "5", "--neighbours", "5"], "expected"),
    "no neighbours": (["net.npz", "--data", "both.npz", "--neighbours", "0"], "at least 1; got '0'"),
    "patterns as text": (["net.npz", "--data", "x.npy", "-o", "p.npy"], "ends in .npz"),
    "patterns nowhere": (["net.npz", "--data", "x.npy", "-o", "no/p.npz"], "expected a file in a directory that exists"),
    "pictures nowhere": (["net.npz", "--data", "x.npy", "--plots", "no/all"], "a directory in a directory that exists"),
    "pictures in a file": (["net.npz", "--data", "x.npy", "--plots", "taken"], "--plots taken: expected a directory"),
    "a picture as gif": (["net.npz", "--data", "x.npy", "--plot", "a.gif"], "ends in .png, .pdf, .svg"),
    "both kinds of pictures": (["net.npz", "--data", "x.npy", "--plot", "a.png", "--plots", "b"], "not allowed with"),
    "a picture of no distances": (["net.npz", "--data", "one.npy", "--plot", "a.png", "-o", "p.npz"], "two inputs or more"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_line_and_leaves_nothing(mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(name for name in os.listdir() if name != "__pycache__")
    arguments, words = MISTAKES[mistake]
    try:
        code: Any = main(["patterns", *arguments, "--json"])
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("polylens: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(name for name in os.listdir() if name != "__pycache__") == before


def test_the_help_ends_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["patterns", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "\n  polylens patterns" in text[text.index("examples:") :]


def test_ten_thousand_images_of_a_real_network_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    root = os.environ.get("POLYLENS_DATA")
    if root is None or not (model := Path(root, "nets", "mnist-net_256x2.onnx")).exists():
        pytest.skip("POLYLENS_DATA with nets/mnist-net_256x2.onnx is not there")
    found = told(capsys, model, "--data", Path(root, "mnist", "t10k-images-idx3-ubyte.gz"), "--limit", 2000)
    first, second = found["distances"]["layers"]
    assert first["separation"] < second["separation"]
    assert found["neighbours"]["layers"][2]["hamming"] > 0.9
