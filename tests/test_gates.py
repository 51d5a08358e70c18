"""Gates against torch and onnxruntime where they bend and jump, and the pieces that they say they are on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from polylens import affine_map, load, patterns
from polylens.errors import InputError
from polylens.gates import (
    Gate,
    MaxPool,
    absolute,
    clip,
    gate,
    hardshrink,
    hardsigmoid,
    leaky_relu,
    relu,
    softshrink,
    threshold,
)

BOUNDS = torch.tensor([-0.3, 0.1, 0.7], dtype=torch.float64)

# name -> the gate, and what torch computes
GATES: dict[str, tuple[Gate, Callable[[Tensor], Tensor]]] = {
    "relu": (relu(), F.relu),
    "leaky_relu": (leaky_relu(0.1), lambda z: F.leaky_relu(z, 0.1)),
    "prelu": (leaky_relu(torch.tensor([0.3, -0.2, 1.5]), "prelu"), lambda z: F.prelu(z, torch.tensor([0.3, -0.2, 1.5]).to(z))),
    "abs": (absolute(), torch.abs),
    "relu6": (clip(0.0, 6.0, "relu6"), F.relu6),
    "hardtanh": (clip(-0.3, 0.7, "hardtanh"), lambda z: F.hardtanh(z, -0.3, 0.7)),
    "clip from below": (clip(0.1, None), lambda z: z.clamp(min=0.1)),
    "clip from above": (clip(None, 0.1), lambda z: z.clamp(max=0.1)),
    "clip to tensors": (clip(BOUNDS, BOUNDS + 0.3), lambda z: z.clamp(BOUNDS.to(z), (BOUNDS + 0.3).to(z))),
    "clip to one number": (clip(0.3, 0.3), lambda z: z.clamp(0.3, 0.3)),
    "clip of crossed bounds": (clip(0.7, -0.3), lambda z: z.clamp(0.7, -0.3)),
    "clip of crossed tensors": (clip(BOUNDS.flip(0), BOUNDS), lambda z: z.clamp(BOUNDS.flip(0).to(z), BOUNDS.to(z))),
    "threshold": (threshold(0.1, -0.4), lambda z: F.threshold(z, 0.1, -0.4)),
    "hardsigmoid": (hardsigmoid(), F.hardsigmoid),
    "softshrink": (softshrink(0.3), lambda z: F.softshrink(z, 0.3)),
    "hardshrink": (hardshrink(0.3), lambda z: F.hardshrink(z, 0.3)),
    "hardshrink of no width": (hardshrink(0.0), lambda z: F.hardshrink(z, 0.0)),
}
FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def around(breakpoints: Tensor) -> Tensor:
    """Return inputs (points, 3) at the breakpoints, one number beside them, and further off."""
    t = breakpoints.expand(len(breakpoints), 3)
    far = torch.tensor(torch.inf, dtype=t.dtype)
    return torch.cat([t, torch.nextafter(t, far), torch.nextafter(t, -far), t + 0.05, t - 0.05, t.mean(0, keepdim=True)])


@FLOATS
@pytest.mark.parametrize("name", GATES)
def test_gates_agree_with_torch_at_their_breakpoints_and_beside_them(name: str, dtype: torch.dtype) -> None:
    exact, reference = GATES[name]
    step = exact.converted(lambda t: t.to(dtype))
    z = around(step.breakpoints)
    want = reference(z)
    rounding = 4 * torch.finfo(dtype).eps  # of numbers below 6, and far below every jump
    assert float((step.apply(z) - want).abs().max()) <= rounding * max(1.0, float(want.abs().max()))
    assert torch.equal(step.at(z).offset(z), step.apply(z))
    assert (step.pieces(z).dtype == torch.bool) == (step.num_pieces == 2)


@FLOATS
def test_both_ends_of_a_hard_shrink_are_0_in_a_loaded_network_whatever_its_dtype(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Hardshrink(0.3)).to(dtype)
    nn.init.ones_(module[0].weight)
    net = load(module)
    for other in (net, net.double(), net.double().to(dtype=torch.float32)):
        z = around(other.nodes[-1].step.parameters()["breakpoints"])[:, :1]
        assert other(z)[:2].tolist() == [[0.0], [0.0]]
        assert patterns(other, z).pieces()[:6].flatten().tolist() == [1, 1, 1, 2, 0, 1]
        assert torch.equal(affine_map(other, z)(z), other(z))


def onnx_shrink(path: Path, width: float, bias: float) -> None:
    node = helper.make_node("Shrink", ["x"], ["y"], lambd=width, bias=bias)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 6]) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.mark.parametrize("bias", [0.0, 0.3, 1.0])
def test_an_onnx_shrink_is_0_at_both_ends_as_in_onnxruntime(tmp_path: Path, bias: float) -> None:
    onnx_shrink(tmp_path / "shrink.onnx", 0.3, bias)
    net = load(tmp_path / "shrink.onnx")
    z = around(net.nodes[0].step.parameters()["breakpoints"])[:, 0].reshape(1, -1)[:, :6]
    session = onnxruntime.InferenceSession(tmp_path / "shrink.onnx", providers=["CPUExecutionProvider"])
    assert torch.equal(net(z), torch.from_numpy(session.run(None, {"x": z.numpy()})[0]))


def test_breakpoints_that_descend_are_refused() -> None:
    with pytest.raises(InputError, match=r"bent: expected breakpoints that do not descend; got \[1.0, 0.0\]"):
        gate("bent", [1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="hardshrink"):
        hardshrink(-1.0)
    with pytest.raises(InputError, match="a lower bound, an upper bound or both"):
        clip(None, None)


def test_pieces_towards_a_direction_agree_with_the_pieces_behind_the_point() -> None:
    for step, _ in GATES.values():
        t = step.breakpoints.expand(len(step.breakpoints), 3)
        z = torch.cat([t, t + 0.05, t - 0.05])
        for direction in (1.0, -1.0, 0.0):
            behind = step.pieces(z + 1e-6 * direction).long()
            at = torch.stack([step.pieces_towards(v, torch.full_like(v, direction), 0.0) for v in z])
            assert torch.equal(at, behind)


def test_a_max_gate_of_two_candidates_has_pieces_of_bool() -> None:
    z = torch.tensor([[[1.0, 1.0, 0.0, 2.0]]])
    step = MaxPool((2,), (2,), (0,), (1,), False)
    assert step.pieces(z).tolist() == [[[False, True]]]
    assert step.pieces(z).dtype == torch.bool
    assert step.apply(z).tolist() == step.at(z).offset(z).tolist() == [[[1.0, 2.0]]]


def test_gates_stay_on_the_cpu_whatever_the_default_device() -> None:
    with torch.device("meta"):
        made = [clip(-1.0, 1.0), leaky_relu(torch.ones(3, device="cpu")), hardsigmoid()]
        table = MaxPool((2, 2), (2, 2), (0, 0), (1, 1), False).candidates((1, 4, 4))
        walls = made[0].walls(made[0].pieces(torch.zeros(1, 3, device="cpu"))[0], (3,))
    assert {t.device.type for g in made for t in g.parameters().values()} == {"cpu"}
    assert table[-1].tolist() == [10, 11, 14, 15]
    assert walls.bound.tolist() == [1.0] * 6


class Function(nn.Module):
    """A function of one tensor behind a linear layer that keeps it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.keep = nn.Linear(3, 3, dtype=torch.float64)
        nn.init.eye_(self.keep.weight)
        nn.init.zeros_(self.keep.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.keep(x))


WIDER = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: torch.maximum(z.unsqueeze(1), WIDER),
        lambda z: torch.minimum(z[:, :, None], WIDER[:, 0]),
        lambda z: z.unsqueeze(1).clamp(WIDER, WIDER + 0.5),
        lambda z: z.unsqueeze(1).clamp(min=WIDER[None]),
        lambda z: torch.maximum(z.sum(1), torch.tensor(0.5, dtype=torch.float64)),
    ],
)
def test_constants_wider_than_what_a_gate_clips_widen_it_first(function: Callable[[Tensor], Tensor]) -> None:
    module, x = Function(function), torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = load(module, x)
    want = module(x).detach()
    assert torch.equal(net(x), want)
    assert net.gates[-1].shape == want.shape[1:]
    for i in range(5):
        assert torch.allclose(affine_map(net, x[i])(x[i]), want[i], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: F.max_pool1d(z.unsqueeze(1), 1, 2).flatten(1),
        lambda z: F.max_pool2d(z[:, None, None], (1, 1), (1, 2), ceil_mode=True).flatten(1),
        lambda z: z.unsqueeze(1).amax(1),
        lambda z: z.reshape(-1, 1, 3, 1).amin((1, 3)),
        lambda z: z.unsqueeze(2).max(2, keepdim=True).values.flatten(1),
    ],
)
def test_a_single_candidate_leaves_no_choice_and_so_no_gate(function: Callable[[Tensor], Tensor]) -> None:
    module, x = Function(function), torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = load(module, x)
    assert net.gates == ()
    assert torch.equal(net(x), module(x).detach())
    assert torch.equal(affine_map(net, x)(x), net(x))
