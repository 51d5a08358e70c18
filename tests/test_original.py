"""The source itself beside its network: ONNX files against onnxruntime, modules and programs against their own calls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from polylens import dense, load, original, parse_vnnlib, verify
from polylens.convert.original import Original
from polylens.errors import ConversionError, InputError, ShapeError

FLOAT32_AGREEMENT = 1e-5  # relative to max |f|: both sides add up the same float32 numbers in different orders
PATHS = [
    "acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx",
    *(f"nets/{n}.onnx" for n in ("Convnet_maxpool", "NN_rul_small_window_20", "cartpole", "cifar_base_kw", "mnist-net_256x2")),
    *(f"nets/{n}.onnx" for n in ("resnet_2b", "robot", "test_nano", "test_small", "tll_8_0_0")),
]


def inputs(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.3


def runtime(path: Path, x: torch.Tensor) -> torch.Tensor:
    """Return the runtime's outputs, input by input in the shape that the file declares."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in entry.shape]
    outputs = [session.run(None, {entry.name: sample.reshape(shape)})[0].reshape(-1) for sample in x.float().numpy()]
    return torch.from_numpy(np.stack(outputs))


def one_layer(path: Path, shape: list[Any], kind: int, nodes: list[Any], weights: dict[str, Any], opset: int = 13) -> Path:
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("x", kind, shape)], [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.mark.parametrize("name", PATHS, ids=lambda name: Path(name).stem)
def test_a_file_gives_what_onnxruntime_gives(data: Path, name: str) -> None:
    net = load(data / name)
    f = original(data / name, net)
    x = inputs(net.input_shape)
    y = f(x)
    assert (y.dtype, f.dtype, tuple(y.shape)) == (torch.float32, torch.float32, (3, *net.output_shape))
    wanted = runtime(data / name, x)
    assert float((y.reshape(3, -1) - wanted).abs().max()) <= FLOAT32_AGREEMENT * float(wanted.abs().max())
    assert float((y - net(x)).abs().max()) <= FLOAT32_AGREEMENT * float(wanted.abs().max())


@pytest.mark.parametrize("batch", [1, 4, "batch"])
def test_a_batch_that_the_file_fixes_is_filled_with_copies(tmp_path: Path, batch: int | str) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    path = one_layer(tmp_path / "net.onnx", [batch, 3], TensorProto.FLOAT, nodes, {"w": weight})
    net = load(path)
    x = inputs(net.input_shape, 5)
    assert net.input_shape == (3,)
    assert torch.equal(original(path, net)(x), (x.float() @ torch.from_numpy(weight)).relu())


@pytest.mark.parametrize(
    ("kind", "number", "dtype"),
    [(TensorProto.DOUBLE, np.float64, torch.float64), (TensorProto.FLOAT16, np.float16, torch.float16)],
)
def test_a_file_runs_in_the_precision_that_it_declares(tmp_path: Path, kind: int, number: Any, dtype: torch.dtype) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = one_layer(tmp_path / "net.onnx", [1, 1], kind, nodes, {"w": np.array([[3]], number)})
    f = original(path, load(path))
    third = torch.tensor([[1 / 3]], dtype=torch.float64)
    assert f.dtype == dtype
    assert torch.equal(f(third), third.to(dtype) * 3)


# -- what runs an ONNX file

STATISTICS = {
    "s": np.array([2, -1], np.float32), "b": np.zeros(2, np.float32), "m": np.zeros(2, np.float32),
    "v": np.array([4, 0.25], np.float32), "t": np.array([50], np.float32),
}  # fmt: skip


def normalised(path: Path, opset: int) -> Path:
    """A batch norm of what exceeds 50, next to what is below: y = bn(relu(x - 50)) + x."""
    nodes = [
        helper.make_node("Sub", ["x", "t"], ["d"]), helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "s", "b", "m", "v"], ["n"], epsilon=0.0),
        helper.make_node("Add", ["n", "x"], ["y"]),
    ]  # fmt: skip
    return one_layer(path, ["batch", 2], TensorProto.FLOAT, nodes, STATISTICS, opset)


@pytest.fixture
def no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


@pytest.mark.parametrize("opset", [7, 9, 12, 13, 14, 15])
def test_onnxruntime_runs_a_file_where_it_is_installed(tmp_path: Path, opset: int) -> None:
    path = normalised(tmp_path / "net.onnx", opset)
    f = original(path, load(path))
    assert f.runner == "onnxruntime"
    torch.testing.assert_close(f(torch.tensor([[60.0, 60.0], [1.0, 2.0]])), torch.tensor([[70.0, 40.0], [1.0, 2.0]]))


@pytest.mark.usefixtures("no_onnxruntime")
@pytest.mark.parametrize("opset", [14, 15])
def test_without_onnxruntime_the_reference_evaluator_runs_what_it_reads_as_the_network_does(tmp_path: Path, opset: int) -> None:
    path = normalised(tmp_path / "net.onnx", opset)
    f = original(path, load(path))
    assert f.runner == "ONNX's reference evaluator"
    torch.testing.assert_close(f(torch.tensor([[60.0, 60.0], [1.0, 2.0]])), torch.tensor([[70.0, 40.0], [1.0, 2.0]]))


@pytest.mark.usefixtures("no_onnxruntime")
def test_where_the_reference_evaluator_disagrees_it_has_no_word(tmp_path: Path) -> None:
    path = normalised(tmp_path / "net.onnx", 9)  # which it reads with another variance, seen beyond 50 alone
    f = original(path, load(path))
    assert f.runner == "ONNX's reference evaluator"
    y = f(torch.tensor([[60.0, 60.0], [1.0, 2.0]]))
    assert torch.isnan(y[0]).all()
    assert torch.equal(y[1], torch.tensor([1.0, 2.0]))


@pytest.mark.usefixtures("no_onnxruntime")
@pytest.mark.parametrize("opset", [9, 12, 13])
def test_where_the_reference_evaluator_contradicts_the_network_the_network_runs_and_says_so(tmp_path: Path, opset: int) -> None:
    nodes = [helper.make_node("BatchNormalization", ["x", "s", "t2", "m", "v"], ["y"])]
    path = one_layer(tmp_path / "net.onnx", ["batch", 2], TensorProto.FLOAT, nodes, STATISTICS | {"t2": STATISTICS["s"]}, opset)
    f = original(path, load(path))
    assert f.runner.startswith("the network in float32 (which ONNX's reference evaluator contradicts; install onnxruntime")
    x = inputs((2,))
    wanted = x / torch.tensor([4.00001, 0.25001], dtype=torch.float64).sqrt() * torch.tensor([2.0, -1.0]) + torch.tensor(
        [2, -1]
    )
    torch.testing.assert_close(f(x).double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("no_onnxruntime")
def test_a_verdict_does_not_depend_on_an_evaluator_that_is_wrong(tmp_path: Path) -> None:
    nodes = [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=0.0)]
    path = one_layer(tmp_path / "net.onnx", ["batch", 2], TensorProto.FLOAT, nodes, STATISTICS, 9)
    net = load(path)
    text = "".join(f"(declare-const {k}_{i} Real)" for k in "XY" for i in range(2))
    text += "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(2))
    found = verify(net, parse_vnnlib(text + "(assert (>= Y_1 1.99))"), original=original(path, net))  # y1 = -2 x1
    assert found.verdict == "sat"
    assert found.witness is not None
    assert float(found.witness[0][1]) <= -0.995
    assert "the network in float32" in found.summary()


@pytest.mark.usefixtures("no_onnxruntime")
def test_a_file_that_nothing_runs_leaves_the_network_which_says_so(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = one_layer(tmp_path / "net.onnx", [1, 2], TensorProto.FLOAT, nodes, {"w": np.ones((2, 1), np.float32)})
    net = load(path)
    one_layer(path, [1, 2], TensorProto.FLOAT, nodes, {"w": np.ones((3, 1), np.float32)})  # the file has changed since
    f = original(path, net)
    assert f.runner.startswith("the network in float32 (because ONNX's reference evaluator cannot run the file")
    assert torch.equal(f(torch.ones(1, 2)), torch.full((1, 1), 2.0))


def test_a_file_that_onnxruntime_has_no_code_for_is_left_to_the_reference_evaluator(tmp_path: Path) -> None:
    path = one_layer(tmp_path / "net.onnx", [1, 2], TensorProto.FLOAT, [helper.make_node("Relu", ["x"], ["y"])], {}, 6)
    model = onnx.load(path)
    model.opset_import[0].version = 10**6  # newer than any runtime
    onnx.save(model, path)
    f = original(path, load(path))
    assert f.runner != "onnxruntime"
    assert torch.equal(f(torch.tensor([[-1.0, 2.0]])), torch.tensor([[0.0, 2.0]]))


def test_outputs_of_another_size_than_the_networks_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = one_layer(tmp_path / "net.onnx", [1, 2], TensorProto.FLOAT, nodes, {"w": np.ones((2, 1), np.float32)})
    net = load(path)
    one_layer(path, [1, 2], TensorProto.FLOAT, nodes, {"w": np.ones((2, 3), np.float32)})
    with pytest.raises(ConversionError, match="load the network from the same source"):
        original(path, net)(torch.zeros(1, 2))


class Modes(nn.Module):
    """Drops half of its input in train mode; its second part is frozen in eval mode, as people do with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.ReLU())
        self.second = nn.Linear(8, 2).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_a_module_runs_in_eval_mode_and_keeps_its_own() -> None:
    module = Modes().eval()
    net = load(module)
    module.train()
    module.second.eval()
    x = inputs((3,))
    got = original(module, net)(x)
    assert [part.training for part in (module, module.first, module.first[1], module.second)] == [True, True, True, False]
    assert not got.requires_grad
    assert torch.equal(got, module.eval()(x.float()).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_runs_in_its_own_precision(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).to(dtype)
    f = original(module, load(module))
    assert (f.dtype, f(inputs((3,))).dtype) == (dtype, dtype)


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_program_runs_with_the_batch_that_it_was_exported_with(tmp_path: Path, dynamic: bool) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(module, (torch.zeros(2, 1, 4, 4),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    x = inputs((1, 4, 4), 5)
    wanted = module(x.float()).detach()
    for source in (program, tmp_path / "net.pt2"):
        torch.testing.assert_close(original(source, load(source))(x), wanted)


def test_a_factory_is_filled_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_for_original.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    weights = {"weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "bias": torch.zeros(2)}
    torch.save(weights, tmp_path / "weights.pt")
    net = load("made_for_original:make", weights=tmp_path / "weights.pt")
    f = original("made_for_original:make", net, weights=tmp_path / "weights.pt")
    assert torch.equal(f(torch.tensor([[1.0, 1.0]])), torch.tensor([[3.0, 7.0]]))
    sys.modules.pop("made_for_original")


def test_networks_and_arrays_run_in_float32(tmp_path: Path) -> None:
    third = np.array([[1 / 3]])
    np.savez(tmp_path / "net.npz", third)
    for source in (dense([(third, None)]), tmp_path / "net.npz"):
        f = original(source, load(source))
        assert torch.equal(f(torch.ones(2, 1)), torch.full((2, 1), 1 / 3))
        assert f.dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    net = dense([([[1.0, 2.0]], None)])
    f = original(net, net)
    assert isinstance(f, Original)
    with pytest.raises(ShapeError):
        f(torch.zeros(1, 3))
    with pytest.raises(InputError, match="NaN"):
        f(torch.tensor([[0.0, torch.nan]]))
    with pytest.raises(InputError, match="what the network was loaded from"):
        original(7, net)  # type: ignore[arg-type]
