"""The laws that every network obeys; a layer kind meets all of them by being registered once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from polylens import Network, Patterns, affine_map, affine_maps, linearise, load, patterns
from polylens.errors import SmoothError
from polylens.steps import Affine
from registry import CASES, Case

EXACT = [case for case in CASES if not case.smooth]
SMOOTH = [case for case in CASES if case.smooth]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Return the parametrisation over cases; those of one case run in one process, which exports it once."""
    params = [pytest.param(c, id=c.name, marks=pytest.mark.xdist_group(c.name)) for c in cases]
    return pytest.mark.parametrize("case", params)


every, piecewise_linear, smooth = each(CASES), each(EXACT), each(SMOOTH)


@cache
def loaded(case: Case, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Network]:
    module = case.module(dtype)
    return module, load(module, case.inputs(3, dtype))


def same_pattern(net: Network, x: Tensor, seed: int = 1) -> Tensor:
    """Return points with the patterns of x, found by halving random steps until no unit changes."""
    step = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    here = patterns(net, x)
    for _ in range(60):
        same = here.matches(patterns(net, x + step)).reshape(-1, *(1,) * (x.ndim - 1))
        if bool(same.all()):
            break
        step = torch.where(same, step, step / 2)
    assert bool(same.all())
    return x + step


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_program_computes_what_the_module_computes(case: Case, dtype: torch.dtype) -> None:
    module, net = loaded(case, dtype)
    relative = 1e-5 if dtype == torch.float32 else 1e-10  # what the project promises; rounding is ten times smaller
    for batch in (1, 7):
        x = case.inputs(batch, dtype, seed=batch)
        want, got = module(x).detach(), net(x)
        assert got.dtype == dtype
        assert got.shape == want.shape
        assert float((want - got).abs().max()) <= relative * float(want.abs().max())


@every
@pytest.mark.parametrize(("batch", "dtype"), [(1, torch.float32), (7, torch.float64)], ids=["1-float32", "7-float64"])
def test_the_pt2_door_gives_the_same_program_as_the_module_door(
    case: Case, batch: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    module, net = loaded(case, dtype)
    path = tmp_path / f"batch{batch}.pt2"
    torch.export.save(torch.export.export(module, (case.inputs(batch, dtype),)), path)
    again = load(path)
    assert (again.input_shape, again.dtype) == (net.input_shape, net.dtype)
    x = case.inputs(5, dtype, seed=4)
    relative = 1e-5 if dtype == torch.float32 else 1e-12  # both programs round alike, except where batches are folded
    assert float((again(x) - net(x)).abs().max()) <= relative * float(net(x).abs().max())
    assert [g.shape for g in again.gates] == [g.shape for g in net.gates]


@piecewise_linear
def test_the_affine_map_is_exact_on_the_region(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(7, torch.float64)
    near = same_pattern(net, x)
    assert not torch.equal(near, x)
    a = affine_map(net, x)
    for y in (x, near):
        f = net(y).reshape(7, *net.output_shape)
        assert float((f - a(y)).abs().max()) <= 1e-9 * (1 + float(f.abs().max()))


@every
def test_columns_and_rows_give_the_same_map(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(3, torch.float64)
    full = linearise(net, x)
    outputs = full.weight.shape[1]
    one_by_one = [linearise(net, x, units=[k]).weight[:, 0] for k in range(outputs)]  # one row is always pulled back
    assert torch.allclose(full.weight, torch.stack(one_by_one, 1), rtol=1e-10, atol=1e-12)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda v: net.forward(v[None])[0]))(x)
    assert torch.allclose(full.weight, jacobian.reshape(full.weight.shape), rtol=1e-9, atol=1e-12)


@every
def test_memory_limits_change_nothing(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(3, torch.float64)
    a, b = linearise(net, x), linearise(net, x, max_bytes=1)
    assert torch.allclose(a.weight, b.weight, rtol=1e-12, atol=1e-13)
    assert torch.allclose(a.offset, b.offset, rtol=1e-12, atol=1e-13)
    assert patterns(net, x) == patterns(net, x, batch_size=1)


@every
def test_a_batch_is_its_inputs_one_by_one(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(4, torch.float64)
    together = patterns(net, x)
    assert together == Patterns.concat([patterns(net, v) for v in x])
    assert together[[2, 0, 3, 1]] == patterns(net, x[[2, 0, 3, 1]])
    assert torch.allclose(net(x[1]), net(x)[1], rtol=1e-12, atol=1e-13)
    assert torch.allclose(linearise(net, x[1]).weight, linearise(net, x)[1].weight, rtol=1e-12, atol=1e-13)


@piecewise_linear
def test_pre_activations_decide_the_pattern(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(4, torch.float64)
    maps, found = affine_maps(net, x), patterns(net, x)
    assert set(maps) == {g.name for g in net.gates}
    for node in net.nodes:
        if node.name in maps:
            want = node.step.pieces(maps[node.name](x))  # type: ignore[attr-defined]
            assert torch.equal(want.long(), found.pieces(node.name).long())


@piecewise_linear
def test_every_layer_has_its_exact_map(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(2, torch.float64)
    seen: dict[str, Tensor] = {}
    net.forward(x, lambda node, values: seen.update({node.name: node.step.apply(*values)}))
    for node in net.nodes:
        value = affine_map(net, x, node.name)(x)
        assert float((value - seen[node.name]).abs().max()) <= 1e-9 * (1 + float(seen[node.name].abs().max()))


@smooth
def test_exact_maps_of_smooth_networks_are_refused_by_name(case: Case) -> None:
    _, net = loaded(case)
    assert not net.is_piecewise_linear
    with pytest.raises(SmoothError, match=net.smooth_steps[0].name):
        affine_map(net, case.inputs(2, torch.float64))


@smooth
def test_first_order_maps_touch_smooth_networks(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(3, torch.float64)
    a = linearise(net, x)
    assert float((a(x) - net(x)).abs().max()) <= 1e-10 * (1 + float(net(x).abs().max()))
    step = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    assert float((a(x + step) - net(x + step)).abs().max()) <= 1e-6 * (1 + float(net(x).abs().max()))  # second order


def test_every_case_holds_the_kinds_of_step_that_it_is_here_for() -> None:
    missing = {c.name: set(c.kinds) - {n.step.kind for n in loaded(c)[1].nodes} for c in CASES}
    assert not {name: kinds for name, kinds in missing.items() if kinds}


# What polylens promises to load, and the ATen operation or the kind of step by which the cases show that they hold it.
PROMISED = {
    "linear": ["linear"],
    "conv 1/2/3-d": ["conv1d", "conv2d", "conv3d"],
    "transposed conv": ["conv_transpose1d", "conv_transpose2d"],
    "batch norm": ["batch_norm"],
    "average, adaptive average, global pooling": ["avg_pool2d", "adaptive_avg_pool2d", "mean"],
    "flatten, reshape, transpose, squeeze": ["flatten", "reshape", "transpose", "permute", "squeeze", "unsqueeze"],
    "slice and slice assignment": ["slice", "select", "copy_", "assign_slice"],
    "gather with constant indices": ["index", "gather"],
    "split, concat, pad": ["split_with_sizes", "cat", "stack", "pad"],
    "upsample": ["upsample_nearest2d", "upsample_bilinear2d"],
    "arithmetic": ["add", "sub", "rsub", "neg", "sum", "mean", "mul", "div", "matmul"],
    "gates": ["relu", "leaky_relu", "prelu", "abs", "relu6", "hardtanh", "clip", "threshold", "hardsigmoid"],
    "max-gates": ["max_pool1d", "max_pool2d", "max_pool3d", "maximum", "minimum", "amax", "max"],
    "smooth activations": ["tanh", "sigmoid", "softplus", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish"],
    "smooth functions": ["softmax", "log_softmax", "layer_norm", "group_norm", "sin", "cos", "pow", "multiply"],
    "weight and spectral norm": ["_weight_norm", "vdot"],
    "in place, dropout": ["relu_", "add_", "mul_", "dropout"],
}


def operations(case: Case) -> set[str]:
    """Return the operations that torch exports the case's module to."""
    program = torch.export.export(case.module(torch.float64), (case.inputs(2, torch.float64),))
    targets = [n.target for n in program.graph.nodes if isinstance(n.target, torch._ops.OpOverload)]
    return {t._schema.name.removeprefix("aten::") for t in targets}


def test_the_registry_covers_every_step_that_is_promised() -> None:
    held = {n.step.kind for c in CASES for n in loaded(c)[1].nodes}.union(*(operations(c) for c in CASES))
    missing = {promise: set(shown) - held for promise, shown in PROMISED.items()}
    assert not {promise: names for promise, names in missing.items() if names}
    assert len(CASES) >= 30


@every
def test_parameters_are_folded_and_the_program_is_lean(case: Case) -> None:
    _, net = loaded(case)
    read = {i for node in net.nodes for i in node.inputs} | {len(net.nodes)}
    assert read >= set(range(1, len(net.nodes) + 1))
    assert len({n.name for n in net.nodes}) == len(net.nodes)
    assert all(p.dtype == net.dtype for n in net.nodes for p in n.step.parameters().values())
    assert isinstance(net.nodes[0].step, Affine)
