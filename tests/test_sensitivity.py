"""Sensitivity: exact gradients and integrals along lines, against hand-made answers, finite sums and captum."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polylens import Box, activate, dense, load, sensitivity, zoo
from polylens._integrated import _GAUSS, _KRONROD, _POINTS
from polylens.cli import main
from polylens.errors import InputError, ShapeError
from polylens.network import Network
from polylens.plotting import saved
from polylens.plotting.sensitivity import activation_figure, sensitivity_figure
from polylens.report import examine
from polylens.report.sensitivities import sensitivities
from polylens.sensitivity import METHODS

DATA = os.environ.get("POLYLENS_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="needs the networks of POLYLENS_DATA")
CLOSE = 1e-10  # of sums of some thousand terms of size 1 to 100, in float64


def convolutional(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 2 * 2, 7, bias=bias),
        nn.ReLU(),
        nn.Linear(7, 3, bias=bias),
    ).double()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relus[0](self.first(x))
        x = self.relus[2](x + self.third(self.relus[1](self.second(x))))
        return self.last(x.mean((2, 3)))


MODULES: dict[str, Callable[[], nn.Module]] = {"pooled": convolutional, "residual": Residual}


def images(count: int = 3, channels: int = 2, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def named(net: Network, kind: str, nth: int) -> str:
    return [node.name for node in net.nodes if node.step.kind == kind][nth]


# -- gradients


def test_the_gradient_is_that_of_automatic_differentiation() -> None:
    module, x = convolutional().eval(), images()
    found = sensitivity(load(module, example=x[:1]), x, methods=["gradient", "gradient_times_input"])
    for k in range(3):
        at = x.clone().requires_grad_()
        (wanted,) = torch.autograd.grad(module(at)[:, k].sum(), at)
        assert (found.gradient[:, k] - wanted).abs().max() < 1e-12
        assert torch.equal(found.gradient_times_input[:, k], found.gradient[:, k] * x)
    assert torch.allclose(found.values, module(x).detach(), atol=1e-13)


def test_gradient_times_input_sums_to_the_output_of_networks_without_biases() -> None:
    x = images()
    found = sensitivity(load(convolutional(bias=False).eval(), example=x[:1]), x)
    assert found.gap("gradient_times_input").abs().max() < 1e-12


def test_units_of_a_layer_are_asked_for_by_position_by_mask_and_as_the_largest() -> None:
    net = zoo.digits()
    x = zoo.digits_data("test").inputs[:4].double()
    every = sensitivity(net, x, methods=["gradient"])
    some = sensitivity(net, x, units=[3, 1], methods=["gradient"])
    assert torch.equal(some.gradient, every.gradient[:, [3, 1]])
    mask = torch.zeros(10, dtype=torch.bool)
    mask[[1, 3]] = True
    assert sensitivity(net, x, units=mask, methods=["gradient"]).units[0].tolist() == [1, 3]
    largest = sensitivity(net, x, units="largest", methods=["gradient"])
    assert torch.equal(largest.units[:, 0], net.double()(x).argmax(1))
    assert torch.equal(largest.gradient[:, 0], every.gradient[torch.arange(4), largest.units[:, 0]])


def test_a_gate_has_values_in_front_of_it_and_behind() -> None:
    net = dense([([[2.0], [-3.0]], [1.0, 0.0]), ([[1.0, 1.0]], None)])
    x = torch.tensor([[1.0]])
    assert sensitivity(net, x, 0, at="pre").gradient.flatten().tolist() == [2.0, -3.0]
    behind = sensitivity(net, x, 0)
    assert behind.gradient.flatten().tolist() == [2.0, 0.0]  # the second unit is off: nothing moves it
    assert "no entry counts" in behind.summary()


# -- integrated gradients


@pytest.mark.parametrize("module", MODULES)
def test_integrated_gradients_sum_to_the_change_from_the_baseline(module: str) -> None:
    x = images()
    found = sensitivity(load(MODULES[module]().eval(), example=x[:1]), x, baseline=images(seed=5))
    assert found.gap("integrated_gradients").abs().max() < CLOSE
    assert (found.breakpoints > 10).all()
    assert (found.error == 0).all()


@pytest.mark.parametrize("module", MODULES)
def test_sums_over_steps_come_nearer_to_the_exact_integral_the_more_steps_they_take(module: str) -> None:
    captum = pytest.importorskip("captum.attr")
    torch_module, x = MODULES[module]().eval(), images(2)
    net = load(torch_module, example=x[:1])
    exact = sensitivity(net, x, units=[1], methods=["integrated_gradients"]).integrated_gradients[:, 0]
    integral = captum.IntegratedGradients(torch_module)
    missed = [(integral.attribute(x, target=1, n_steps=n) - exact).abs().max().item() for n in (10, 60, 360)]
    assert missed[0] > missed[1] > missed[2]
    assert missed[2] < 3e-3 * exact.abs().max()


def test_an_input_that_is_its_own_baseline_has_attributions_of_zero() -> None:
    x = images()
    found = sensitivity(load(convolutional().eval(), example=x[:1]), x, baseline=torch.cat([x[:1], 0 * x[1:]]))
    assert not found.integrated_gradients[0].any()
    assert found.breakpoints[0] == 0
    assert found.integrated_gradients[1:].abs().amax((1, 2, 3, 4)).min() > 0
    assert found.gap("integrated_gradients").abs().max() < CLOSE


def test_a_line_that_runs_along_a_hyperplane_is_integrated_too() -> None:
    net = dense([([[1.0, 0.0], [1.0, 1.0]], [0.0, -1.0]), ([[1.0, 1.0]], None)])  # unit 0 is 0 all along
    found = sensitivity(net, torch.tensor([[0.0, 2.0]]))
    assert found.integrated_gradients.flatten().tolist() == [0.0, 1.0]
    assert found.boundaries.tolist() == [1]
    assert "lie on boundaries" in found.summary()


def test_gates_that_jump_leave_their_jumps() -> None:
    net = load(nn.Sequential(nn.Linear(1, 1), nn.Threshold(0.5, 0.0)).eval())
    weight, bias = (p.item() for p in net_parameters(net))
    sign = 1.0 if weight > 0 else -1.0
    x = torch.tensor([[sign * 5.0]], dtype=torch.float64)
    found = sensitivity(net, x, baseline=-x)
    assert found.gap("integrated_gradients").item() == pytest.approx(0.5)
    assert found.values.item() == pytest.approx(weight * x.item() + bias)


def net_parameters(net: Network) -> list[Tensor]:
    return list(net.nodes[0].step.parameters().values())


@pytest.mark.parametrize("tolerance", [1e-4, 1e-10])
@pytest.mark.parametrize("last", ["tanh", "softmax", "sigmoid, linear, relu"])
def test_smooth_networks_are_integrated_to_the_tolerance_and_say_how_far_off_they_may_be(last: str, tolerance: float) -> None:
    torch.manual_seed(3)
    behind = {"tanh": [nn.Tanh()], "softmax": [nn.Softmax(1)]}
    parts = behind.get(last) or [nn.Sigmoid(), nn.Linear(3, 3), nn.ReLU()]  # made here, behind the seed
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), *parts).double().eval()
    x = torch.randn(3, 4, dtype=torch.float64)
    net = load(module, example=x[:1])
    found = sensitivity(net, x, baseline=-x, tolerance=tolerance)
    size = found.integrated_gradients.abs().flatten(2).amax(2).clamp(min=1e-3)
    fine = sensitivity(net, x, baseline=-x, tolerance=1e-12)
    missed = (found.integrated_gradients - fine.integrated_gradients).abs().flatten(2).amax(2)
    assert (missed <= found.error + 1e-12).all()
    assert (found.error <= 10 * tolerance * size).all()  # nothing cancels by more than that here
    assert (found.gap("integrated_gradients").abs() <= 4 * found.error + 1e-12).all()  # four entries sum up
    assert (found.breakpoints > 0).all()


def test_the_two_rules_of_quadrature_are_exact_up_to_their_degrees() -> None:
    for weights, degree in ((_KRONROD, 11), (_GAUSS, 5)):
        for power in range(0, degree + 1, 2):
            whole = 2 * sum(w * p**power for w, p in zip(weights[:3], _POINTS[:3], strict=True)) + weights[3] * 0.0**power
            assert whole == pytest.approx(2 / (power + 1), abs=1e-15), power


# -- what the literature compares with


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
def test_guided_backpropagation_agrees_with_captum(module: str) -> None:
    captum = pytest.importorskip("captum.attr")
    torch_module, x = MODULES[module]().eval(), images()
    found = sensitivity(load(torch_module, example=x[:1]), x, methods=["guided_backprop"])
    for k in range(3):
        wanted = captum.GuidedBackprop(torch_module).attribute(x.clone().requires_grad_(), target=k)
        assert (found.guided_backprop[:, k] - wanted).abs().max() < 1e-13


@pytest.mark.parametrize(("module", "layer", "kind", "nth"), [
    ("pooled", lambda m: m[4], "relu", 1), ("pooled", lambda m: m[0], "convolution", 0),
    ("pooled", lambda m: m[2], "max_pool", 0),
    ("residual", lambda m: m.relus[0], "relu", 0), ("residual", lambda m: m.relus[2], "relu", 2),
])  # fmt: skip
def test_grad_cam_agrees_with_captum(module: str, layer: Callable[[nn.Module], nn.Module], kind: str, nth: int) -> None:
    captum = pytest.importorskip("captum.attr")
    torch_module, x = MODULES[module]().eval(), images()
    net = load(torch_module, example=x[:1])
    found = sensitivity(net, x, methods=["grad_cam"], feature_layer=named(net, kind, nth))
    for k in range(3):
        small = captum.LayerGradCam(torch_module, layer(torch_module)).attribute(x, target=k, relu_attributions=True)
        wanted = captum.LayerAttribution.interpolate(small, (8, 8), interpolate_mode="bilinear")
        assert (found.grad_cam[:, k] - wanted.detach()).abs().max() < 1e-13


def test_grad_cam_takes_the_last_layer_of_convolutions_unless_told() -> None:
    x = images()
    net = load(convolutional().eval(), example=x[:1])
    found = sensitivity(net, x, methods=["grad_cam"])
    assert found.feature_layer == named(net, "relu", 1)
    assert found.grad_cam.shape == (3, 3, 2, 8, 8)
    assert torch.equal(found.grad_cam[:, :, 0], found.grad_cam[:, :, 1])


# -- what comes back


def test_features_are_ranked_by_size_and_equal_ones_by_position() -> None:
    net = dense([([[1.0, -4.0, 4.0, 0.0]], None)])
    found = sensitivity(net, torch.ones(1, 4))
    ranked = found.ranking("gradient", top=3)
    assert ranked.features.tolist() == [[[1, 2, 0]]]
    assert ranked.values.tolist() == [[[-4.0, 4.0, 1.0]]]
    assert found.ranking(top=9).features.shape == (1, 1, 4)


def test_the_result_speaks_in_plain_types_and_gives_parts_of_itself() -> None:
    net, x = zoo.digits(), zoo.digits_data("test").inputs[:3]
    found = sensitivity(net, x, units="largest")
    plain = found.to_dict()
    assert len(plain["attributions"]["gradient"][2][0]) == 64
    assert max(abs(g) for row in plain["gaps"]["integrated_gradients"] for g in row) < CLOSE
    assert "integrated gradients, exact along" in found.summary()
    assert found[1].to_dict()["units"] == plain["units"][1:2]
    assert len(found[-1]) == 1
    assert len(found[torch.tensor([True, False, True])]) == 2


def test_inputs_of_one_entry_and_networks_without_steps_are_no_special_case() -> None:
    one = sensitivity(dense([([[3.0]], [1.0])]), torch.tensor([2.0]))
    assert one.gradient.tolist() == [[[3.0]]]
    assert one.integrated_gradients.tolist() == [[[6.0]]]
    none = sensitivity(dense([([[3.0, 1.0]], [1.0])]), torch.ones(2, 2), units=[])
    assert none.gradient.shape == (2, 0, 2)
    assert none.to_dict()["gaps"]["integrated_gradients"] == [[], []]


def test_what_cannot_be_answered_is_refused() -> None:
    net, x = zoo.digits(), zoo.digits_data("test").inputs[:2]
    with pytest.raises(InputError, match="methods: expected some of"):
        sensitivity(net, x, methods=["magic"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="methods: expected some of"):
        sensitivity(net, x, methods=[])
    with pytest.raises(InputError, match="write \\['gradient'\\]"):
        sensitivity(net, x, methods="gradient")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="grad_cam: expected feature maps"):
        sensitivity(net, x, methods=METHODS)
    with pytest.raises(InputError, match="empty batch"):
        sensitivity(net, x[:0])
    with pytest.raises(ShapeError):
        sensitivity(net, x[:, :5])
    with pytest.raises(InputError, match="baseline: expected"):
        sensitivity(net, x, baseline=torch.zeros(3, 64))
    with pytest.raises(InputError, match="which were asked for; got 'grad_cam'"):
        sensitivity(net, x).of("grad_cam")
    with pytest.raises(InputError, match="gap: expected one of"):
        sensitivity(net, x).gap("gradient")
    with pytest.raises(InputError, match="largest"):
        sensitivity(net, x, units="best")  # type: ignore[arg-type]


# -- pictures, the command and the report


@pytest.mark.parametrize("kind", ["picture", "colours", "bars", "ranked"])
def test_every_kind_of_input_is_drawn(kind: str, tmp_path: Path) -> None:
    if kind == "picture":
        net, x = zoo.digits(), zoo.digits_data("test").inputs[:2]
    elif kind == "colours":
        net, x = (
            load(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)).eval(), torch.zeros(1, 3, 8, 8)),
            images(2, 3),
        )
    else:
        size = 5 if kind == "bars" else 50
        net, x = dense([(torch.randn(3, size), None), (torch.randn(2, 3), None)]), torch.randn(2, size)
    methods = METHODS if kind == "colours" else METHODS[:4]
    found = sensitivity(net, x, units="largest", methods=methods)
    for name, figure in {"all": sensitivity_figure(found), "one": found.plot(method="gradient", input=1, top=3).figure}.items():
        saved(figure, lambda drawn, name=name: drawn.savefig(tmp_path / f"{name}.png"))
        assert (tmp_path / f"{name}.png").stat().st_size > 2000
    with pytest.raises(InputError, match="draw: expected an input below 2"):
        found.plot(input=2)


def test_what_activates_a_unit_is_drawn(tmp_path: Path) -> None:
    best = [activate(zoo.digits(), k, domain=Box(torch.zeros(64), torch.ones(64)), search="ascent", steps=5) for k in (0, 1)]
    small = activate(dense([([[1.0, -1.0]], None)]), 0, domain=Box([-1.0] * 2, [1.0] * 2))
    saved(activation_figure(best), lambda drawn: drawn.savefig(tmp_path / "a.png"))
    saved(small.plot().figure, lambda drawn: drawn.savefig(tmp_path / "b.png"))
    assert (tmp_path / "b.png").stat().st_size > 2000


def test_the_command_tells_draws_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = zoo.digits_data("test").inputs[:2]
    np.save(tmp_path / "x.npy", x.numpy())
    at = ["sensitivity", "--at", str(tmp_path / "x.npy"), "-q"]
    assert main([*at, "--plot", str(tmp_path / "heat.png")]) == 0
    assert "integrated gradients, exact along" in capsys.readouterr().out
    assert (tmp_path / "heat.png").stat().st_size > 2000
    assert main([*at, "--class", "3", "--method", "gradient", "-o", str(tmp_path / "heat.npy"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["units"] == [[3], [3]]
    assert "attributions" not in told
    wanted = sensitivity(zoo.digits(), x.double(), units=[3], methods=["gradient"]).gradient
    assert np.array_equal(np.load(tmp_path / "heat.npy"), wanted.numpy())
    assert main([*at, "--unit", "relu1:7", "--top", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["layer"], told["units"][0]) == ("relu1", [7])
    assert len(told["ranking"]["gradient"][0][0]) == 4
    assert main([*at, "--unit", "relu1", "--baseline", str(tmp_path / "x.npy"), "--json"]) == 0
    assert not np.any(json.loads(capsys.readouterr().out)["attributions"]["integrated_gradients"])


@pytest.mark.parametrize(("words", "said"), [
    (["--unit", "nowhere:3"], "--unit: expected NAME"), (["--unit", "relu1:x"], "--unit: expected NAME"),
    (["--class", "12"], "units: expected positions from 0 to 9"), (["--baseline", "b.txt"], "--baseline: expected"),
    (["--method", "grad_cam"], "grad_cam: expected feature maps"),
])  # fmt: skip
def test_the_command_says_in_one_line_what_is_wrong(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", zoo.digits_data("test").inputs[0].numpy())
    assert main(["sensitivity", "--at", str(tmp_path / "x.npy"), "-q", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_section_of_the_report_says_what_the_api_says() -> None:
    net, data = zoo.digits(), zoo.digits_data("test").first(60)
    section = sensitivities(examine(net, data))
    for row in section.data["examples"]:
        x = data.inputs[row["index"]].double()
        found = sensitivity(net, x, units=[row["output"]])
        assert row["value"] == pytest.approx(found.values.item())
        assert row["features"] == found.ranking("integrated_gradients").features.flatten().tolist()
        assert abs(row["missing"]) < CLOSE
    smooth = load(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).eval())
    words = sensitivities(examine(smooth, type(data)(torch.randn(5, 4), None, "five"))).paragraphs
    assert "quadrature" in words[1]


@needs_data
@pytest.mark.parametrize(("name", "least"), [
    ("mnist-net_256x2", 100), ("cifar_base_kw", 150),
    pytest.param("resnet_2b", 500, marks=pytest.mark.slow),
    pytest.param("Convnet_maxpool", 1000, marks=pytest.mark.slow),
])  # fmt: skip
def test_integrated_gradients_of_public_networks_are_complete(name: str, least: int) -> None:
    net = load(f"{Path(DATA or '')}/nets/{name}.onnx")
    x = torch.rand(net.input_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sensitivity(net, x, units="largest")
    assert found.gap("integrated_gradients").abs().max() < CLOSE
    assert found.breakpoints.item() > least
    assert math.isfinite(found.gap("gradient_times_input").item())


def test_a_layer_is_called_by_its_name_where_its_position_was_given() -> None:
    net, x = zoo.digits(), zoo.digits_data("test").inputs[:1]
    found = sensitivity(net, x, layer=1, units=[3])
    assert found.layer == "relu2"
    assert found.unit_name(0, 0) == "relu2 3"
    assert repr(found).startswith("Sensitivity(1 input, 1 unit of relu2:")
