"""Singular values of all layers' maps: against Jacobians and LAPACK, known edges and inequalities, on real regions."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor, nn

from polylens import (
    LayerSpectrum,
    Network,
    Polytope,
    Spectrum,
    affine_map,
    dense,
    forgotten_by_layer,
    geometry,
    linearise,
    load,
    patterns,
    region,
    row_removal,
    spectrum,
    zoo,
)
from polylens._spectrum.krylov import extremes
from polylens._spectrum.singular import gram_of, singular_values
from polylens._types import Result
from polylens.cli import main
from polylens.errors import InputError, ShapeError
from polylens.plotting.spectrum import effect_figure
from registry import Case
from test_laws import every, loaded
from test_real_networks import network_and_images

EPS = torch.finfo(torch.float64).eps


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_values(values: Tensor, rows: int, seed: int = 0) -> Tensor:
    """Return a matrix (rows, len(values)) with the given singular values."""
    n = len(values)
    left, right = (torch.linalg.qr(random(m, n, seed=seed + k))[0] for k, m in enumerate((rows, n)))
    return (left * values) @ right.T


def map_of(net: Network, layer: LayerSpectrum, x: Tensor) -> Tensor:
    """Return the matrix of a layer at inputs, by another way: rows behind a gate, columns or rows by `linearise`."""
    before = layer.side == "pre" and layer.name in {g.name for g in net.gates}
    return linearise(net, x, layer.name, at="pre" if before else "post", dtype=torch.float64).weight


def check(net: Network, x: Tensor, found: Spectrum, relative: float) -> None:
    for layer in found.layers:
        expected = torch.linalg.svdvals(map_of(net, layer, x))
        assert layer.complete
        assert layer.values.shape == expected.shape
        off = (layer.values - expected).abs().amax(-1) if expected.shape[1] else torch.zeros(1)
        assert bool((off <= relative * expected[:, :1].amax(-1)).all() if expected.shape[1] else True), layer.name


def relu_network(*sizes: int, seed: int = 0) -> Network:
    """Return a random network with He's initialisation."""
    shapes = list(itertools.pairwise(sizes))
    return dense([(math.sqrt(2 / a) * random(b, a, seed=seed + k), torch.zeros(b)) for k, (a, b) in enumerate(shapes)])


# -- all values of a matrix


@pytest.mark.parametrize("decades", [0, 2, 4, 6, 8, 10, 13])
def test_values_of_every_size_are_as_near_as_is_said(decades: int) -> None:
    true = torch.logspace(0, -decades, 300, dtype=torch.float64)
    found = singular_values(with_values(true, 700).T)
    assert bool(((found.values - true).abs() <= found.error).all()), found.method
    assert float(found.error.max()) <= 1e-6
    assert found.method == ("gram" if decades <= 4 else "inverse" if decades <= 8 else "svd")
    assert torch.equal(found.values, found.values.sort(descending=True).values)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (3, 5), (5, 3), (300, 310), (310, 300), (2, 900), (900, 2)])
def test_matrices_of_any_shape_have_their_values(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    found = singular_values(matrix)
    assert torch.allclose(found.values, torch.linalg.svdvals(matrix), rtol=1e-5, atol=1e-10)


def test_products_are_summed_where_there_are_any() -> None:
    far = torch.block_diag(*(random(100, 60, seed=k) for k in range(8)))  # blocks that do not see each other
    chosen = random(far.shape[1]) > 0
    for rows in (far, random(300, 200)):
        for mask in (None, chosen[: rows.shape[1]]):
            b = rows if mask is None else rows[:, mask]
            assert torch.allclose(gram_of(rows, mask).triu(), (b @ b.T).triu(), atol=1e-11)


def test_a_gaussian_matrix_has_its_values_between_the_known_edges() -> None:
    p, n = 1764, 784
    values = singular_values(random(p, n).T).values
    low, high = math.sqrt(p) - math.sqrt(n), math.sqrt(p) + math.sqrt(n)
    assert (low, high) == (14.0, 70.0)
    room = 3 * n ** (-1 / 6)  # the edges fluctuate by n^(-1/6), after Tracy and Widom, times a constant near 1
    assert low - room <= float(values[-1]) <= low + room
    assert high - room <= float(values[0]) <= high + room


# -- extreme values


@given(st.integers(0, 50), st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(2, 60))
@settings(max_examples=30)
def test_some_singular_value_lies_within_each_residual(seed: int, rank: int, m: int, n: int, steps: int) -> None:
    a = random(m, min(rank, m, n), seed=seed) @ random(min(rank, m, n), n, seed=seed + 1)
    found = extremes(lambda x: a @ x, lambda y: a.T @ y, random(m, 1, seed=seed + 2), n, steps=steps, count=3)
    true = torch.linalg.svdvals(a)
    rounding = 10 * max(m, n) * EPS * float(true[0])
    for value, error in zip(found.values, found.error, strict=True):
        assert float((true - value).abs().min()) <= float(error) + rounding
    if found.exhausted:
        nonzero = true[true > 100 * rounding]
        assert abs(float(found.values[-1] - nonzero[-1])) <= 100 * rounding


def test_a_map_of_zeros_has_no_extremes() -> None:
    found = extremes(torch.zeros_like, torch.zeros_like, torch.ones(4, 1, dtype=torch.float64), 4, steps=9, count=2)
    assert (len(found.values), found.exhausted) == (0, True)


def test_large_maps_are_searched_for_their_extreme_values() -> None:
    net, x = relu_network(40, 60, 50, 30), random(2, 40)
    whole, found = spectrum(net, x), spectrum(net, x, most=20, count=2, steps=60)
    for all_of, some in zip(whole.layers, found.layers, strict=True):
        assert (some.complete, set(some.method)) == (False, {"krylov"})
        assert torch.allclose(some.largest, all_of.largest, rtol=1e-10)
        assert torch.allclose(some.smallest, all_of.smallest, rtol=1e-6)
        assert some.rank.tolist() == [-1, -1]
        assert bool(torch.isnan(torch.cat([*some.bounds, some.stable_rank, some.effective_rank, some.log_volume])).all())
    assert "?" in found.summary()
    json.dumps(found.to_dict(), allow_nan=False)


def test_maps_of_many_inputs_and_few_units_are_taken_by_their_rows() -> None:
    net, x = relu_network(40, 60, 50, 12), random(2, 40)
    found = spectrum(net, x, most=20)
    assert [layer.complete for layer in found.layers] == [False] * 4 + [True]
    assert torch.allclose(found.layers[-1].values, spectrum(net, x).layers[-1].values, atol=1e-12)


# -- all layers of a network


@every
def test_values_are_those_of_the_jacobians_for_every_kind_of_layer(case: Case) -> None:
    _, net = loaded(case)
    x = case.inputs(2, torch.float64, seed=3)
    found = spectrum(net, x)
    check(net, x, found, 1e-11)
    assert found.exact == net.is_piecewise_linear


def test_values_are_those_of_jacobian_and_svdvals_of_the_module() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 5), nn.Tanh())
    model, x = model.double().eval(), random(3, 1, 8, 8)
    found = spectrum(load(model, x), x)
    sides = [(layer.kind, layer.side) for layer in found.layers]
    assert sides == [("relu", "pre"), ("relu", "post"), ("max_pool", "post"), ("tanh", "pre"), ("tanh", "post")]
    assert not found.exact
    for layer, depth in zip(found.layers, (1, 2, 3, 5, 6), strict=True):
        for i in range(3):
            jacobian = torch.autograd.functional.jacobian(model[:depth], x[i : i + 1]).reshape(-1, 64)
            expected = torch.linalg.svdvals(jacobian)
            assert float((layer.values[i] - expected).abs().max()) <= 1e-12 * float(expected[0])


def test_columns_that_are_rotated_and_products_that_are_summed_change_no_value() -> None:
    wide = relu_network(300, 900, 700, 280, 400, 20, seed=5)  # behind the third gate fewer units pass than there are columns
    x = random(2, 300)
    found = spectrum(wide, x)
    assert {"gram", "svd"} <= {method for layer in found.layers for method in layer.method}
    check(wide, x, found, 1e-9)


def test_pictures_are_taken_tile_by_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_spectrum.singular", "_spectrum.all_columns"):
        monkeypatch.setattr(f"polylens.{module}.BLOCK", 32)  # tiles of 4 x 4 pixels, whose images meet few others
    model = nn.Sequential(nn.Conv2d(2, 3, 3, 1, 1), nn.ReLU(), nn.Conv2d(3, 6, 4, 2, 1, groups=3), nn.ReLU())
    x = random(1, 2, 16, 16)
    net = load(model.double().eval(), x)
    check(net, x, spectrum(net, x), 1e-9)


def test_ranks_are_those_of_the_null_spaces() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[:12].double()
    found, lost = spectrum(net, x), forgotten_by_layer(net, x)
    last = net.nodes[-1].name
    ranks = torch.stack([layer.rank for layer in found.layers if layer.side == "post" or layer.name == last], 1)
    assert torch.equal(ranks, lost.rank)


def test_the_rank_behind_a_gate_is_at_most_the_number_of_units_that_are_on() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[:30].double()
    least = torch.full((30,), 64)
    for layer in spectrum(net, x).layers:
        if layer.side == "post":
            assert torch.equal(layer.rows, patterns(net.double(), x).pieces(layer.name).sum(1))
            least = torch.minimum(least, layer.rows)
        assert bool((layer.rank <= least).all())


def test_an_output_whose_terms_cancel_has_no_singular_value() -> None:
    net = dense([([[1.0], [1.0], [1.0]], [1.0, 1.0, 1.0]), ([[0.1, 0.2, -0.3]], None)])
    found = spectrum(net, [[1.0]]).layers[-1]
    assert (found.rank.tolist(), found.values.tolist()) == ([0], [[0.0]])


def test_random_weights_of_hes_size_keep_the_mean_square_of_directions_at_every_layer() -> None:
    net, x = relu_network(200, 200, 200, 200, 200, seed=3), random(6, 200)
    for layer in spectrum(net, x).layers:
        if layer.side == "post":
            # |J|_F^2 / n is 1 in the mean; its deviation grows by about sqrt(5 / width) = 0.16 a layer, over three of them
            assert float((layer.frobenius.square() / 200).mean()) == pytest.approx(1.0, abs=0.5)


def test_numbers_of_a_known_map_are_the_known_ones() -> None:
    values = [4.0, 2.0, 1.0, 0.0]
    found = spectrum(dense([(torch.diag(torch.tensor(values)), None)], gate=[]), torch.zeros(4)).layers[0]
    share = [v / 7 for v in values[:3]]
    expected = {
        "rank": 3,
        "largest": 4.0,
        "smallest": 1.0,
        "gap": math.inf,
        "condition": 4.0,
        "frobenius": math.sqrt(21),
        "nuclear": 7.0,
        "stable_rank": 21 / 16,
        "effective_rank": math.exp(-sum(p * math.log(p) for p in share)),
        "log_volume": math.log(8.0),
    }
    for name, value in expected.items():
        assert getattr(found, name).tolist() == pytest.approx([value]), name
    loose = spectrum(dense([(torch.diag(torch.tensor(values)), None)], gate=[]), torch.zeros(4), tolerance=1.5).layers[0]
    assert (loose.rank.tolist(), loose.gap.tolist(), loose.smallest.tolist()) == ([2], [2.0], [2.0])


def test_a_dead_layer_has_rank_zero_and_no_condition() -> None:
    found = spectrum(dense([([[1.0, 2.0]], [-9.0]), ([[1.0]], [3.0])]), torch.tensor([0.5, 0.5]))
    layer = found.layer("relu1")
    assert (layer.rows.tolist(), layer.rank.tolist(), layer.largest.tolist()) == ([0], [0], [0.0])
    assert bool(torch.isnan(layer.condition).all())
    assert [b.tolist() for b in layer.bounds] == [[0.0], [0.0]]
    assert "-" in found.summary()
    json.dumps(found.to_dict(), allow_nan=False)


def test_layers_are_chosen_by_name_or_position() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[0]
    one = spectrum(net, x, ["relu2"])
    assert [(layer.name, layer.side) for layer in one.layers] == [("relu2", "pre"), ("relu2", "post")]
    assert [layer.name for layer in spectrum(net, x, [0, "linear3"]).layers] == ["relu1", "relu1", "linear3"]
    assert one.layer("relu2").side == "post"
    assert one.layer("relu2", "pre").side == "pre"
    with pytest.raises(InputError, match=r"relu2 \(pre\)"):
        one.layer("relu1")


def test_wrong_arguments_are_named() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[0]
    for options in ({"tolerance": -1.0}, {"most": 0}, {"count": 0}, {"steps": 1.5}, {"layers": []}, {"layers": "relu1"}):
        with pytest.raises(InputError, match=next(iter(options)) if options != {"layers": []} else "layer"):
            spectrum(net, x, **options)
    with pytest.raises(ShapeError):
        spectrum(net, torch.zeros(3))


# -- bounds on distances


@pytest.mark.parametrize("seed", range(3))
def test_distances_within_a_region_stay_within_the_bounds(seed: int) -> None:
    net, x = relu_network(8, 12, 7, 5, seed=10 * seed), random(8, seed=seed)
    here = region(net, x)
    inside = geometry.sample(here.polytope & Polytope.box(x - 5, x + 5), 40, seed=seed).points
    for layer in spectrum(net, x).layers:
        a = affine_map(net, x, layer.name, at="pre" if layer.side == "pre" and layer.kind == "relu" else "post").weight
        seen = torch.linalg.svd(a, full_matrices=False).Vh[: int(layer.rank)]
        lower, upper = (float(b) for b in layer.bounds)
        f = linear_values(net, layer, inside)
        for i in range(0, 40, 2):
            d = inside[i] - inside[i + 1]
            size = float(torch.linalg.vector_norm(f[i] - f[i + 1]))
            rounding = 1e-12 * (1 + float(f.abs().max()))
            assert size <= upper * float(torch.linalg.vector_norm(d)) + rounding
            # the part of x - x' that the map sees is what its image comes from
            assert size >= lower * float(torch.linalg.vector_norm(seen @ d)) - rounding


def linear_values(net: Network, layer: LayerSpectrum, x: Tensor) -> Tensor:
    value = net.value_of(layer.name)
    node = net.nodes[value - 1]
    return net.forward(x, last=node.inputs[0] if layer.side == "pre" and layer.kind == "relu" else value)


# -- removing rows


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60)
def test_removed_rows_interlace_and_weak_ones_bound_the_least_value(seed: int, m: int, n: int, rank: int) -> None:
    a = random(m, min(rank, m, n), seed=seed) @ random(min(rank, m, n), n, seed=seed + 1)
    kept = random(m, seed=seed + 2) > -0.3
    found = row_removal(a, kept)
    assert found.interlaces
    assert found.removed == int((~kept).sum())
    if found.weakest is None:
        return
    weak, stays = found.weakest, a[kept]
    row = a[weak.row] / torch.linalg.vector_norm(a[weak.row])
    assert not bool(kept[weak.row])
    assert float((stays @ row).abs().max()) <= weak.c / math.sqrt(weak.kept) * (1 + 1e-12) + 1e-13
    assert float(torch.linalg.vector_norm(stays @ row)) <= weak.c * (1 + 1e-12) + 1e-13
    room = 1e-9 * float(found.before[0])
    assert found.smallest <= weak.sharper + room
    assert weak.sharper <= weak.bound + room
    if weak.in_row_space:
        assert weak.bound == pytest.approx(weak.c, rel=1e-9)


def test_a_removed_row_outside_the_row_space_bounds_no_nonzero_value() -> None:
    found = row_removal([[1.0, 0.0], [0.0, 1.0]], [0])  # c = 0, and yet the only nonzero value is 1
    assert (found.smallest, found.weakest) == (1.0, None)
    tilted = row_removal([[1.0, 0.0], [0.1, 1.0]], [0]).weakest
    assert tilted is not None
    assert not tilted.in_row_space
    assert tilted.c < 0.1 < 1.0 <= tilted.bound * (1 + 1e-12)  # c alone would be wrong


@pytest.mark.parametrize("kept", [[], [0, 1, 2]])
def test_all_rows_may_stay_and_all_may_go(kept: list[int]) -> None:
    found = row_removal(random(3, 4), torch.tensor(kept, dtype=torch.long))
    assert found.interlaces
    assert found.weakest is None
    assert found.rank == len(kept)
    assert math.isnan(found.smallest) == (not kept)
    json.dumps(found.to_dict(), allow_nan=False)


def test_wrong_rows_are_named() -> None:
    with pytest.raises(ShapeError, match="matrix"):
        row_removal([1.0, 2.0], [0])
    with pytest.raises(ShapeError, match="mask of 2 rows"):
        row_removal([[1.0], [2.0]], [True])
    with pytest.raises(InputError, match="from 0 to 1"):
        row_removal([[1.0], [2.0]], [2])
    with pytest.raises(InputError, match="integer"):
        row_removal([[1.0], [2.0]], [0.5])


# -- words, pictures, commands


def test_results_describe_and_draw_themselves() -> None:
    net, x = zoo.digits(), zoo.digits_data().inputs[:4]
    found = spectrum(net, x)
    removed = row_removal(affine_map(net, x[0], 0, at="pre").weight, patterns(net, x[0]).pieces(0)[0])
    for result in (found, spectrum(net, x[0]), spectrum(net, x, most=5), removed):
        assert isinstance(result, Result)
        assert repr(result) in result.summary()
        json.dumps(result.to_dict(), allow_nan=False)
        ax = result.plot(Figure().subplots())
        assert ax.get_yscale() == "log"
        assert "index" in ax.get_xlabel()
    assert len(found) == 4
    assert len(found.plot(Figure().subplots(), side=None).lines) == 5
    panels = effect_figure(found).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["relu1", "relu2"]
    with pytest.raises(InputError, match="side"):
        spectrum(net, x, [0]).plot(Figure().subplots(), side="behind")


def test_the_command_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "gates.png"
    assert main(["spectrum", "--count", "2", "--layer", "0", "--effect", "--plot", str(picture), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [layer["side"] for layer in answer["layers"]] == ["pre", "post"]
    assert picture.stat().st_size > 0
    assert main(["spectrum", "--count", "2"]) == 0
    assert "condition" in capsys.readouterr().out


# -- real networks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist-net_256x2.onnx", "cifar_base_kw.onnx", "resnet_2b.onnx", "Convnet_maxpool.onnx"])
def test_values_of_real_networks_are_those_of_their_jacobians(data: Path, name: str) -> None:
    net, images, _ = network_and_images(data, name, 1)
    check(net, images.double(), spectrum(net, images), 1e-6)


def test_positions_of_kept_rows_are_not_taken_for_a_mask() -> None:
    with pytest.raises(InputError, match="without repeats"):
        row_removal(torch.eye(4), torch.tensor([1, 1, 0, 1]))
    assert row_removal(torch.eye(4), [0, 1, 3]).to_dict() == row_removal(torch.eye(4), [True, True, False, True]).to_dict()
