"""ONNX files on disk: damaged ones, and weights in other files, by their names, behind links, and out of reach."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from polylens import load, original
from polylens.convert._onnx_file import read_model
from polylens.convert.onnx import read_onnx
from polylens.errors import FileError, UnsupportedError

W = np.arange(20, dtype=np.float32).reshape(4, 5) / 7 - 1.3
X = np.array([[0.5, -1.0, 2.0, 0.25]], dtype=np.float32)


def model() -> onnx.ModelProto:
    graph = onnx.parser.parse_graph("g (float[N,4] x) => (float[] y) { z = MatMul(x, w) y = Relu(z) }")
    graph.initializer.append(numpy_helper.from_array(W, "w"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(folder: Path, location: str = "weights.bin", **entries: str) -> Path:
    """Write a model whose weights lie in weights.bin beside it; the file says `location`, and what else is given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save_model(model(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    written = onnx.load(str(path), load_external_data=False)
    for entry in written.graph.initializer[0].external_data:
        entry.value = ({"location": location} | entries).get(entry.key, entry.value)
    path.write_bytes(written.SerializeToString())
    return path


def linked(link: Path, target: Path) -> Path:
    """Make a link whose text is relative, as hubs' caches do."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))
    return link


def assert_right(path: Path) -> None:
    """The network has the values that numpy says, and so has its source when it runs itself."""
    net, wanted = load(path), np.maximum(X @ W, 0)
    assert np.allclose(net(torch.from_numpy(X)).numpy(), wanted, atol=1e-6)  # four float32 products
    assert np.allclose(original(path, net)(X).numpy(), wanted, atol=1e-6)


# -- damaged files


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no graph"), (b"\x08", "truncated"), (b"PK\x03\x04 something else", "truncated"), (b"\x00" * 64, "truncated")],
)
def test_a_foreign_file_is_an_error_of_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(FileError, match=words) as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_model_is_an_error_of_one_line_wherever_it_is_cut(tmp_path: Path) -> None:
    whole_file = model().SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(0, len(whole_file), 3):
        path.write_bytes(whole_file[:length])
        with pytest.raises((FileError, UnsupportedError)) as caught:
            read_onnx(path)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.onnx: cannot be read; No such file"):
        read_onnx(tmp_path / "nowhere.onnx")


# -- nodes out of order


def written(path: Path, nodes: str, functions: str = "") -> Path:
    """Write a model of the given nodes, in their order, with w for its weights."""
    text = f'<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g (float[N,4] x) => (float[N,5] y) {{ {nodes} }} {functions}'
    found = onnx.parser.parse_model(text)
    found.graph.initializer.append(numpy_helper.from_array(W, "w"))
    path.write_bytes(found.SerializeToString())
    return path


HALF = "half = Constant <value_float = 0.5> ()"


@pytest.mark.parametrize(
    "nodes",
    [
        "h = MatMul(x, w) r = Relu(h) y = Mul(r, half) " + HALF,
        "y = Mul(r, half) r = Relu(h) h = MatMul(x, w) " + HALF,
        "r = Relu(h) unused = Neg(s) " + HALF + " y = Mul(r, half) h = MatMul(x, w) s = Abs(h)",
        "y = Mul(half, r) h = MatMul(x, both) r = Relu(h) both = Mul(w, one) one = Add(half, half) " + HALF,
        "h = MatMul(x, w) y = own.scaled(h)",
    ],
)
def test_nodes_out_of_order_are_sorted(tmp_path: Path, nodes: str) -> None:
    scaled = '<domain: "own", opset_import: ["" : 17]> scaled (h) => (y) { y = Mul(r, half) r = Relu(h) ' + HALF + " }"
    path = written(tmp_path / "model.onnx", nodes, scaled)
    net, wanted = load(path), np.maximum(X @ W, 0) / 2
    assert np.allclose(net(torch.from_numpy(X)).numpy(), wanted, atol=1e-6)
    assert np.allclose(original(path, net)(X).numpy(), wanted, atol=1e-6)


def test_nodes_in_order_stay_where_they_are(tmp_path: Path) -> None:
    nodes = HALF + " h = MatMul(x, w) s = Abs(h) r = Relu(h) t = Mul(s, half) y = Add(r, t)"
    assert [node.op_type for node in read_model(written(tmp_path / "model.onnx", nodes)).graph.node] == [
        "Constant", "MatMul", "Abs", "Relu", "Mul", "Add"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("a = Add(x, b) b = Relu(a) c = MatMul(b, w) y = Neg(c)", r"the nodes '[ab]', '[ab]' read one another's outputs"),
        ("a = Add(x, a) y = MatMul(a, w)", "the nodes 'a' read one another's outputs in a circle"),
        ("a = MatMul(x, w) a = Relu(a) y = Neg(a)", "'a' stands for two values"),
        ("w = Relu(x) y = MatMul(x, w)", "'w' stands for two values"),
        ("a = Relu(x) x = Neg(a) y = MatMul(x, w)", "'x' stands for two values"),
        ("h = MatMul(x, w) y = Add(h, const)", "reads 'const', which is neither a weight nor the output of a node"),
    ],
)
def test_what_no_order_computes_is_an_error_of_the_file(tmp_path: Path, nodes: str, words: str) -> None:
    with pytest.raises(FileError, match=words):
        load(written(tmp_path / "model.onnx", nodes))


# -- weights in other files


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    assert_right(saved(tmp_path))


def test_weights_in_a_folder_below_the_model_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path, "below/deep/weights.bin")
    (tmp_path / "below" / "deep").mkdir(parents=True)
    (tmp_path / "weights.bin").rename(tmp_path / "below" / "deep" / "weights.bin")
    assert_right(path)


def test_a_path_that_is_relative_finds_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert_right(Path("model.onnx"))


@pytest.mark.parametrize("below", ["", "onnx", "onnx/fp32"])
def test_weights_are_found_in_the_cache_of_a_hub(tmp_path: Path, below: str) -> None:
    """Names are links in one folder; both files lie in another one, under names of their own."""
    path, blobs, shown = saved(tmp_path / "blobs"), tmp_path / "blobs", tmp_path / "snapshots" / "r1" / below
    path.rename(blobs / "f00d")
    (blobs / "weights.bin").rename(blobs / "beef")
    linked(shown / "weights.bin", blobs / "beef")
    assert_right(linked(shown / "model.onnx", blobs / "f00d"))


def test_weights_are_found_beside_the_model_that_a_link_leads_to(tmp_path: Path) -> None:
    assert_right(linked(tmp_path / "elsewhere" / "net.onnx", saved(tmp_path / "store")))


def test_weights_are_found_beside_a_link_to_the_model(tmp_path: Path) -> None:
    path = linked(tmp_path / "own" / "net.onnx", saved(tmp_path / "store"))
    (tmp_path / "store" / "weights.bin").rename(path.parent / "weights.bin")
    assert_right(path)


def test_weights_are_found_in_a_folder_that_is_a_link(tmp_path: Path) -> None:
    saved(tmp_path / "store")
    assert_right(linked(tmp_path / "alias", tmp_path / "store") / "model.onnx")


def test_of_two_files_of_one_name_the_one_beside_the_given_path_counts(tmp_path: Path) -> None:
    path = linked(tmp_path / "own" / "net.onnx", saved(tmp_path / "store"))
    (path.parent / "weights.bin").write_bytes(W.tobytes())
    (tmp_path / "store" / "weights.bin").write_bytes((2 * W).tobytes())
    assert_right(path)


# -- weights out of reach


def test_missing_and_short_weights_are_errors_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"\x00" * 8)
    with pytest.raises(FileError, match="'w' do not fit their shape"):
        read_onnx(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(FileError, match=r"expected 'weights\.bin' beside it"):
        read_onnx(path)


@pytest.mark.parametrize(
    "location", ["../outside.bin", "{top}/outside.bin", "below/../../outside.bin", "../model/../outside.bin"]
)
def test_weights_outside_the_folder_are_refused_whether_they_exist_or_not(tmp_path: Path, location: str) -> None:
    path = saved(tmp_path / "model", location.format(top=tmp_path))
    with pytest.raises(FileError, match=r"outside its folder, .*; keep them in one folder"):
        read_onnx(path)
    (tmp_path / "outside.bin").write_bytes(W.tobytes())
    (tmp_path / "model" / "below").mkdir()
    with pytest.raises(FileError, match=r"outside its folder, .*; keep them in one folder"):
        read_onnx(path)


def test_weights_behind_a_link_that_leaves_the_folder_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model")
    (tmp_path / "outside.bin").write_bytes(W.tobytes())
    (path.parent / "weights.bin").unlink()
    linked(path.parent / "weights.bin", tmp_path / "outside.bin")
    with pytest.raises(FileError, match="outside its folder"):
        read_onnx(path)


def test_weights_behind_a_folder_that_leaves_the_folder_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", "below/outside.bin")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "outside.bin").write_bytes(W.tobytes())
    linked(path.parent / "below", tmp_path / "other")
    with pytest.raises(FileError, match="outside its folder"):
        read_onnx(path)


def test_a_linked_model_reaches_no_third_folder(tmp_path: Path) -> None:
    path = linked(tmp_path / "snapshots" / "model.onnx", saved(tmp_path / "blobs").rename(tmp_path / "blobs" / "f00d"))
    (tmp_path / "outside.bin").write_bytes(W.tobytes())
    linked(path.parent / "weights.bin", tmp_path / "outside.bin")
    (tmp_path / "blobs" / "weights.bin").unlink()
    with pytest.raises(FileError, match="outside its folder"):
        read_onnx(path)


@pytest.mark.parametrize(("key", "value"), [("offset", "-8"), ("offset", "far"), ("length", "-1"), ("length", "1e2")])
def test_places_in_a_file_that_are_no_numbers_of_bytes_are_errors_of_the_file(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(FileError, match=f"the {key} of the weights of 'w' is '{value}'"):
        read_onnx(saved(tmp_path, **{key: value}))
