"""Exported programs, in memory and in `.pt2` files: graphs in graphs, keywords, inputs that are written to, extra files."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from polylens import load, original
from polylens.errors import UnsafeFileError, UnsupportedError
from registry import Call

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def exported(module: nn.Module, *args: Tensor, **kwargs: Tensor) -> ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        return torch.export.export(module, args, kwargs)


def saved(program: ExportedProgram, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, **options)
    return path


def layers() -> dict[str, nn.Linear]:
    torch.manual_seed(0)
    return {"a": nn.Linear(6, 4), "b": nn.Linear(4, 3)}


def frozen_first(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    with torch.no_grad():
        features = a(x).relu()
    return b(features)


def frozen_all(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    with torch.no_grad():
        return b(a(x).relu())


def frozen_within(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    with torch.no_grad():
        y = a(x)
        with torch.enable_grad():
            z = y.abs()
        return b(z) + y[:, :3]


def frozen_in_place(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    with torch.no_grad():
        y = a(x)
        y.relu_()
        y += 1
    return b(y) - y[:, :3]


@pytest.mark.parametrize("forward", [frozen_first, frozen_all, frozen_within, frozen_in_place])
def test_what_stands_under_no_grad_is_part_of_the_network(forward: Callable[..., Tensor], tmp_path: Path) -> None:
    module = Call(forward, **layers())
    want = module(X).detach()
    program = exported(module, X)
    for source in (module, program, saved(program, tmp_path / "m.pt2")):
        net = load(source, X) if source is module else load(source)
        assert torch.allclose(net(X), want, atol=1e-6)
        assert net.num_units == 4


def test_what_stands_under_autocast_is_the_same_function_without_its_rounding(tmp_path: Path) -> None:
    def forward(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = a(x).relu()
        return b(y.float())

    module = Call(forward, **layers())
    a, b = layers().values()
    net = load(saved(exported(module, X), tmp_path / "m.pt2"))
    assert torch.allclose(net(X), b(a(X).relu()).detach(), atol=2e-2)  # bfloat16 keeps 8 bits of the weights


def test_targets_in_inner_graphs_are_checked_as_those_of_the_outer_one(tmp_path: Path) -> None:
    path = saved(exported(Call(frozen_first, **layers()), X), tmp_path / "m.pt2")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    model = next(name for name in entries if name.endswith("models/model.json"))
    inner = json.loads(entries[model])["graph_module"]["graph"]["nodes"][0]["inputs"][1]["arg"]["as_graph"]["graph"]
    assert "torch.ops.aten.relu.default" in [node["target"] for node in inner["nodes"]]
    for target, error, words in [
        ("os.system", UnsafeFileError, r"calls 'os\.system'"),
        ("torch.ops.higher_order.cond", UnsupportedError, "'cond' with graphs of its own"),
        ("torch.ops.mylib.wrap_with_autocast", UnsafeFileError, "no tensor operation"),
    ]:
        entries[model] = entries[model].replace(b'"torch.ops.aten.relu.default"', f'"{target}"'.encode())
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        with pytest.raises(error, match=words):
            load(path)
        entries[model] = entries[model].replace(f'"{target}"'.encode(), b'"torch.ops.aten.relu.default"')


def test_control_flow_is_refused_by_its_name() -> None:
    def forward(x: Tensor, a: nn.Linear) -> Tensor:
        return torch.cond(a.bias.sum() > 0, lambda z: z.relu(), lambda z: z.abs(), (x,))

    program = exported(Call(forward, a=nn.Linear(6, 4)), X)
    with pytest.raises(UnsupportedError, match=r"cond in .*is not supported"):
        load(program)


@pytest.mark.parametrize(
    "extra",
    [{"classes.txt": "cat dog"}, {"a/b.json": "{}", "models/model.json": "import os"}, {"m.pt": "\x80\x04.", "x\ny": ""}],
)
def test_extra_files_are_passed_over(extra: dict[str, str], tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(6, 3), nn.ReLU())
    net = load(saved(exported(module, X), tmp_path / "m.pt2", extra_files=extra))
    assert torch.allclose(net(X), module(X).detach(), atol=1e-6)


def in_place(x: Tensor, a: nn.Module) -> Tensor:
    x -= 0.5
    return a(x).relu()


def in_place_twice(x: Tensor, a: nn.Module) -> Tensor:
    nn.functional.relu(x, inplace=True)
    x[:, 0] = 2.0
    return a(x) + x[:, :4]


def in_place_under_no_grad(x: Tensor, a: nn.Module) -> Tensor:
    with torch.no_grad():
        x.clamp_(-1, 1)
    return a(x)


def returns_its_input(x: Tensor) -> Tensor:
    return x.mul_(2)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)),
        nn.Sequential(nn.LeakyReLU(0.2, inplace=True), nn.Linear(6, 3)),
        nn.Hardtanh(inplace=True),
        Call(in_place, a=nn.Linear(6, 3)),
        Call(in_place_twice, a=nn.Linear(6, 4)),
        Call(in_place_under_no_grad, a=nn.Linear(6, 3)),
        Call(returns_its_input),
    ],
)
def test_a_module_that_writes_into_its_input_is_the_function_of_a_fresh_one(module: nn.Module, tmp_path: Path) -> None:
    example = X.clone()
    with torch.no_grad():
        want = module(X.clone())
    program = exported(module, X.clone())
    for source in (module, program, saved(program, tmp_path / "m.pt2")):
        net = load(source, example) if source is module else load(source)
        assert torch.allclose(net(X), want, atol=1e-6)
        assert torch.equal(example, X)
        assert torch.allclose(original(source, net)(X), want, atol=1e-6)
        assert torch.equal(example, X)


def test_a_program_exported_by_keyword_is_called_by_keyword(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Call(lambda x, a: a(x).relu(), a=nn.Linear(6, 3))
    batch = torch.export.Dim("batch", min=1, max=100)
    for program in (
        torch.export.export(module, (), {"x": X}),
        torch.export.export(module, (), {"x": X}, dynamic_shapes={"x": {0: batch}}),
    ):
        for source in (program, saved(program, tmp_path / "m.pt2")):
            net = load(source)
            assert torch.allclose(net(X), module(x=X).detach(), atol=1e-6)
            assert torch.allclose(original(source, net)(X), module(x=X).detach(), atol=1e-6)


def test_a_program_whose_input_lies_in_a_container_is_called_with_the_container() -> None:
    module = Call(lambda pair: pair["x"][0].abs())
    net = load(torch.export.export(module, ({"x": [X]},)))
    assert torch.equal(net(X), X.abs())
