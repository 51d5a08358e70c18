"""Several inputs and outputs: joined, fixed and chosen by name, whatever door they come through."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from torch import Tensor, nn

from polylens import InputSlice, Network, compose, load, original
from polylens.errors import InputError, ShapeError, UnsupportedError

GENERATOR = torch.Generator().manual_seed(3)
X, M = torch.randn(6, 4, generator=GENERATOR), torch.randn(6, 3, generator=GENERATOR)
BOTH = {"x": X, "m": M}


class Two(nn.Module):
    """Two inputs, three outputs in containers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(4, 5), nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor, m: Tensor) -> dict[str, Any]:
        hidden = (self.a(x) + self.b(m)).relu()
        return {"logits": self.c(hidden), "aux": [hidden, hidden.sum(1)]}


TWO = Two()


@pytest.fixture(params=["module", "program", "program with a symbolic batch", "file", "file with a symbolic batch"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "module":
        return TWO
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.export.export(
            TWO, (X, M), dynamic_shapes=({0: batch}, {0: batch}) if "symbolic" in request.param else None
        )
        if request.param.startswith("program"):
            return program
        torch.export.save(program, tmp_path / "two.pt2")
    return tmp_path / "two.pt2"


def loaded(source: Any, example: Any, **options: Any) -> Network:
    return load(source, example, **options) if source is TWO else load(source, **options)


def test_free_inputs_are_joined_into_one_and_found_again_by_name(source: Any) -> None:
    net = loaded(source, (X, M), inputs={}, outputs="logits")
    assert net.input_shape == (7,)
    assert net.inputs == (InputSlice("x", 0, 4, (4,)), InputSlice("m", 4, 7, (3,)))
    flat, want = torch.cat([X, M], 1), TWO(X, M)["logits"].detach()
    assert torch.equal(net.join(BOTH), flat)
    assert torch.allclose(net(flat), want, atol=1e-6)
    assert torch.allclose(original(source, net, inputs={}, outputs="logits")(flat), want, atol=1e-6)
    assert all(torch.equal(net.split(flat)[name], value) for name, value in BOTH.items())


@pytest.mark.parametrize("value", [M[:1], M[0], M[0].tolist(), M[0].double().numpy()], ids=["row", "vector", "list", "array"])
def test_a_fixed_input_leaves_the_network_of_the_other(source: Any, value: Any) -> None:
    value = torch.as_tensor(value)[None] if source is TWO and not isinstance(value, Tensor) else value
    net = loaded(source, X, inputs={"m": value}, outputs="logits")
    assert net.input_shape == (4,)
    assert net.inputs == ()
    want = TWO(X, M[:1].expand(6, 3))["logits"].detach()
    assert torch.allclose(net(X), want, atol=1e-6)
    assert torch.allclose(original(source, net, inputs={"m": value}, outputs="logits")(X), want, atol=1e-6)


def test_the_first_input_can_be_the_fixed_one(source: Any) -> None:
    net = loaded(source, M, inputs={"x": X[:1]}, outputs="aux.0")
    want = TWO(X[:1].expand(6, 4), M)["aux"][0].detach()
    assert torch.allclose(net(M), want, atol=1e-6)
    assert torch.allclose(original(source, net, inputs={"x": X[:1]}, outputs="aux.0")(M), want, atol=1e-6)


@pytest.mark.parametrize("name", ["logits", "aux.0", "aux.1"])
def test_outputs_go_by_their_place_in_what_the_model_returns(source: Any, name: str) -> None:
    returned = TWO(X, M)
    want = returned["logits"] if name == "logits" else returned["aux"][int(name[-1])]
    net = loaded(source, (X, M), inputs={}, outputs=name)
    assert net.output_shape == want.shape[1:]
    assert torch.allclose(net(net.join(BOTH)), want.detach(), atol=1e-6)
    assert torch.allclose(original(source, net, outputs=name)(net.join(BOTH)), want.detach(), atol=1e-6)


def test_choices_that_are_missing_or_wrong_are_named_with_their_keyword(source: Any) -> None:
    if source is not TWO:
        with pytest.raises(InputError, match=r"inputs=\{'m': value\}, or join .* inputs=\{'x': None, 'm': None\}"):
            load(source, outputs="logits")
        with pytest.raises(ShapeError, match=r"'m' of shape \(1, 3\)"):
            load(source, inputs={"m": torch.zeros(4)}, outputs="logits")
        with pytest.raises(InputError, match="to stay free; got values for all"):
            load(source, inputs={"m": M[:1], "x": X[:1]}, outputs="logits")
    with pytest.raises(InputError, match=r"3 outputs: 'logits' .*'aux\.0'.* choose one, as outputs='logits'"):
        loaded(source, (X, M), inputs={})
    with pytest.raises(InputError, match=r"expected one of 'logits'.*got 'aux'"):
        loaded(source, (X, M), inputs={}, outputs="aux")
    with pytest.raises(InputError, match=r"'x'.*'m'.*got \['mask'\]"):
        loaded(source, (X, M), inputs={"mask": M}, outputs="logits")


def test_a_module_of_several_inputs_asks_for_an_example_of_each() -> None:
    for example in (None, X):
        with pytest.raises(InputError, match=r"2 inputs: x, m; .*example=\(x, m\).*inputs=\{'m': value\}"):
            load(TWO, example)
    with pytest.raises(InputError, match=r"does not fix, \['x'\]; got 2 tensors"):
        load(TWO, (X, M), inputs={"m": M[:1]})
    by_name = load(TWO, {"m": M, "x": X}, outputs="logits")
    assert torch.allclose(by_name(by_name.join(BOTH)), TWO(X, M)["logits"].detach(), atol=1e-6)


class Joined(nn.Module):
    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        return torch.cat([x.relu(), m], 1)


class Graph(nn.Module):
    """A second input without batch axis, of whole numbers, and a third that is no tensor."""

    def forward(self, x: Tensor, neighbours: Tensor, power: int = 1) -> Tensor:
        return (x[:, neighbours] - power * x).relu()


def test_fixed_values_are_rows_or_have_no_batch_as_the_module_takes_them() -> None:
    net = load(Joined(), X, inputs={"m": M[:1]})
    assert torch.equal(net(X), Joined()(X, M[:1].expand(6, 3)))
    neighbours = torch.tensor([1, 2, 3, 0])
    net = load(Graph(), X, inputs={"neighbours": neighbours, "power": 2})
    assert torch.allclose(net(X), Graph()(X, neighbours, 2))
    program = torch.export.export(Graph(), (X, neighbours))
    net = load(program, inputs={"neighbours": neighbours.flip(0)})
    assert torch.allclose(net(X), Graph()(X, neighbours.flip(0)))
    with pytest.raises(UnsupportedError, match=r"torch.int64 of shape \(4,\) as 'neighbours'; fix it, as inputs="):
        load(program, inputs={})


def test_joined_inputs_keep_their_own_shapes() -> None:
    class Images(nn.Module):
        def forward(self, image: Tensor, scale: Tensor) -> Tensor:
            return nn.functional.max_pool2d(image, 2).flatten(1) + scale[:, None]

    image, scale = torch.randn(3, 2, 4, 4, generator=GENERATOR), torch.randn(3, generator=GENERATOR)
    net = load(Images(), (image, scale))
    assert [part.shape for part in net.inputs] == [(2, 4, 4), ()]
    assert torch.equal(net(net.join({"image": image, "scale": scale})), Images()(image, scale))
    one = net.join({"image": image[0], "scale": scale[0]})
    assert one.shape == (33,)
    assert torch.equal(net.split(one)["image"], image[0])
    repeated = net.join({"image": image[0], "scale": scale})
    assert torch.equal(net(repeated), Images()(image[:1].expand(3, 2, 4, 4), scale))
    with pytest.raises(InputError, match=r"batches of one size; got \{'image': 3, 'scale': 2\}"):
        net.join({"image": image, "scale": scale[:2]})
    with pytest.raises(InputError, match=r"values for \['image', 'scale'\]; got \['image'\]"):
        net.join({"image": image})
    assert "input scale: entries 32 to 33" in net.summary()
    assert net.to_dict()["inputs"][1] == {"name": "scale", "start": 32, "stop": 33, "shape": []}


def test_inputs_stay_known_behind_another_network_and_not_behind_a_layer() -> None:
    net = load(Joined(), (X, M))
    tail = load(nn.Linear(7, 2))
    assert compose(net, tail).inputs == net.inputs


def test_options_for_several_inputs_belong_to_sources_that_have_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", W1=np.eye(2))
    for option in ({"inputs": {"x": None}}, {"outputs": "y"}):
        with pytest.raises(InputError, match=r"belongs to modules, exported programs, \.onnx and \.pt2 files"):
            load(tmp_path / "w.npz", **option)


# -- batch axes that move inside


def encoder(**options: Any) -> nn.Module:
    torch.manual_seed(1)
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options).eval()


@pytest.mark.parametrize(
    "module",
    [
        encoder(),
        encoder(norm_first=True, activation="gelu"),
        nn.TransformerEncoder(encoder(), 2, enable_nested_tensor=False).eval(),
        nn.Sequential(nn.Linear(8, 8), encoder(), nn.Flatten(), nn.Linear(40, 3)).eval(),
    ],
)
def test_transformer_layers_load_as_smooth_steps(module: nn.Module) -> None:
    x = torch.randn(3, 5, 8, generator=GENERATOR)
    want = module(x).detach()
    batch = torch.export.Dim("batch", min=1, max=64)
    for net in (
        load(module, x),
        load(torch.export.export(module, (x[:1],))),
        load(torch.export.export(module, (x,), dynamic_shapes=({0: batch},))),
    ):
        assert not net.is_piecewise_linear
        assert "attention" in {node.step.kind for node in net.smooth_steps}
        assert torch.allclose(net(x), want, atol=1e-5)  # float32 sums of some tens of terms of size 1


CAUSAL = nn.Transformer.generate_square_subsequent_mask(5)


@pytest.mark.parametrize("mask", [CAUSAL, CAUSAL < 0], ids=["-inf", "bool"])
def test_transformer_layers_with_a_fixed_mask_load(mask: Tensor) -> None:
    layer, x = encoder(), torch.randn(3, 5, 8, generator=GENERATOR)
    net = load(layer, x, inputs={"src_mask": mask})
    assert torch.allclose(net(x), layer(x, src_mask=mask).detach(), atol=1e-5)  # float32, as above


@pytest.mark.parametrize(
    "mask", [CAUSAL, CAUSAL == 0, torch.randn(2, 5, 5, generator=GENERATOR)], ids=["-inf", "bool", "heads"]
)
def test_attention_with_a_fixed_mask_is_pytorch_s_own(mask: Tensor) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.unflatten(-1, (2, 4)).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(y, y * 2, y.abs(), attn_mask=mask).transpose(1, 2).flatten(2)

    x = torch.randn(3, 5, 8, generator=GENERATOR)
    assert torch.allclose(load(Masked(), x)(x), Masked()(x), atol=1e-6)


def test_multihead_attention_loads_with_its_output_chosen() -> None:
    torch.manual_seed(2)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    q, k = torch.randn(3, 5, 8, generator=GENERATOR), torch.randn(3, 6, 8, generator=GENERATOR)
    for output, position in (("0", 0), ("1", 1)):
        net = load(attention, (q, k, k), outputs=output)
        x = net.join({"query": q, "key": k, "value": k})
        assert torch.allclose(net(x), attention(q, k, k)[position].detach(), atol=1e-6)
    net = load(attention, q, inputs={"key": k[:1], "value": k[:1]}, outputs="0")
    assert torch.allclose(net(q), attention(q, k[:1].expand(3, 6, 8), k[:1].expand(3, 6, 8))[0].detach(), atol=1e-6)


class Mixing(nn.Module):
    """Gives 0 for a batch of one input, whatever it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class MixingToNothing(nn.Module):
    """Is NaN wherever it is looked at."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(-(x - x.mean(0)).abs() - 1)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (Mixing(), X),
        (MixingToNothing(), X),
        (nn.TransformerEncoderLayer(8, 2, 16).eval(), torch.zeros(2, 5, 8)),  # attends along the first axis
    ],
)
def test_modules_that_mix_a_batch_stay_refused(module: nn.Module, x: Tensor) -> None:
    with pytest.raises(UnsupportedError, match="the batch"):
        load(module, x)


def test_a_batch_that_moves_and_comes_back_keeps_a_network_piecewise_linear() -> None:
    class SequenceFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.transpose(0, 1).relu()).transpose(0, 1)

    x, module = torch.randn(3, 5, 4, generator=GENERATOR), SequenceFirst()
    net = load(module, x)
    assert net.is_piecewise_linear
    assert torch.allclose(net(x), module(x).detach(), atol=1e-6)


# -- ONNX


def model(inputs: str, outputs: str, nodes: str) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {nodes} }}'
    found = parser.parse_model(text)
    onnx.checker.check_model(found)
    return found


def run(found: onnx.ModelProto, output: str, **values: Tensor) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(found.SerializeToString())
    return session.run([output], {name: value.numpy() for name, value in values.items()})[0]


def saved(found: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(found, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


CONCAT = ("r = Relu(x) y = Concat <axis = 1> (r, m) z = Neg(y)", "float[N,7] y, float[N,7] z")


@pytest.mark.parametrize("batch", ["N", "1", "6"])
def test_onnx_inputs_are_joined_or_fixed_and_outputs_chosen(batch: str, tmp_path: Path) -> None:
    found = model(f"float[{batch},4] x, float[{batch},3] m", CONCAT[1].replace("N", batch), CONCAT[0])
    path, want = saved(found, tmp_path), torch.cat([X.relu(), M], 1)
    if batch != "1":
        assert np.array_equal(run(found, "z", x=X, m=M), -want)
    net = load(path, inputs={"x": None, "m": None}, outputs="z")
    assert net.inputs == (InputSlice("x", 0, 4, (4,)), InputSlice("m", 4, 7, (3,)))
    assert torch.equal(net(net.join(BOTH)), -want)
    assert torch.equal(original(path, net, inputs={}, outputs="z")(net.join(BOTH)), -want)
    fixed = torch.cat([X.relu(), M[:1].expand(6, 3)], 1)
    for value in (M[:1], M[0], M[0].tolist()):
        net = load(path, inputs={"m": value}, outputs="y")
        assert torch.equal(net(X), fixed)
        assert torch.equal(original(path, net, inputs={"m": value}, outputs="y")(X), fixed)


def test_onnx_inputs_without_a_batch_in_common_keep_all_their_axes(tmp_path: Path) -> None:
    found = model("float[2,3] a, float[3,2] b, float[2] c", "float[2,2] y", "p = MatMul(a, b) s = Add(p, c) y = Relu(s)")
    a, b, c = (torch.randn(*s, generator=GENERATOR) for s in ((2, 3), (3, 2), (2,)))
    want = run(found, "y", a=a, b=b, c=c)
    path = saved(found, tmp_path)
    net = load(path, inputs={"a": a, "b": b})
    assert np.allclose(net(c), want, atol=1e-6)
    everything = load(path, inputs={})
    assert [part.shape for part in everything.inputs] == [(2, 3), (3, 2), (2,)]
    assert not everything.is_piecewise_linear  # a product of two inputs
    x = everything.join({"a": a, "b": b, "c": c})
    assert np.allclose(everything(x), want, atol=1e-6)
    assert np.allclose(original(path, everything, inputs={})(x), want, atol=1e-6)


def test_onnx_inputs_of_whole_numbers_can_be_fixed(tmp_path: Path) -> None:
    found = model("float[N,4] x, int64[2] k", "float[N,2] y", "g = Gather <axis = 1> (x, k) y = Relu(g)")
    k = torch.tensor([3, 1])
    net = load(saved(found, tmp_path), inputs={"k": k})
    assert np.array_equal(net(X), run(found, "y", x=X, k=k))
    with pytest.raises(UnsupportedError, match=r"'k' holds int64; expected floating-point numbers; fix it, as inputs="):
        load(saved(found, tmp_path), inputs={})
    with pytest.raises(ShapeError, match=r"'k' of shape \(2,\); got \(3,\)"):
        load(saved(found, tmp_path), inputs={"k": [1, 2, 3]})


def test_a_double_among_joined_inputs_makes_a_double_network(tmp_path: Path) -> None:
    found = model("float[N,4] x, double[N,4] m", "double[N,4] y", "d = Cast <to = 11> (x) y = Add(d, m)")
    net = load(saved(found, tmp_path), inputs={})
    assert net.dtype == torch.float64
    m = X.double() / 3
    assert np.allclose(net(net.join({"x": X, "m": m})), run(found, "y", x=X, m=m), atol=1e-15)
