"""The doors: what is refused and with which words, what is safe to load, and that every door gives the same network."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from polylens import dense, load
from polylens.errors import (
    ConversionError,
    FileError,
    InputError,
    ShapeError,
    UnsafeFileError,
    UnsupportedError,
)
from registry import CASES, Call


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


MLP = mlp()
X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))


# -- modules


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(4)


class HiddenState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.memory(x)[0]


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (Lstm(), torch.zeros(2, 5, 4), ["lstm in memory", "replace it"]),
        (Branching(), X, ["cannot be exported", "depends on the data"]),
        (Noisy(), X, ["randn", "random numbers"]),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), None, ["dropout in 1", "train mode", "module.eval()"]),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), None, ["in 1", "statistics of the batch", "module.eval()"]),
        (nn.Sequential(nn.Linear(4, 4), nn.RReLU()).train(), None, ["in 1", "train mode"]),
        (Call(lambda x: x.sort(1).values), X, ["sort in forward", "not supported"]),
        (Call(lambda x: torch.where(x > 0, x, -x)), X, ["gt in forward", "not supported", "leaky_relu"]),
        (Call(lambda x: x * torch.vmap(torch.sin)(torch.ones(3, 4))[0]), X, ["not supported"]),
        (Call(lambda x: x - x.mean(0)), X, ["mean in forward", "batch axis"]),
        (Call(lambda x: x.reshape(-1, 2)), X, ["mixes the batch"]),
        (Call(lambda x: x.T), X, ["moves the batch axis"]),
        (Call(lambda x: torch.cat([x, x], 0)), X, ["batch axis"]),
        (Call(lambda x: x.round()), X, ["round in forward"]),
        (Call(lambda x: torch.ones(2, 3)), X, ["one tensor as output that depends on the input"]),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_what_cannot_be_represented_is_refused_by_name_and_place(module: nn.Module, example: Tensor, words: list[str]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        load(module, example)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_module_that_keeps_state_is_found_out_by_its_own_outputs() -> None:
    with pytest.raises((ConversionError, UnsupportedError)):
        load(HiddenState(), X)


def test_a_refused_module_in_train_mode_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(UnsupportedError, match="statistics of the batch"):
        load(module)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    spectral = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))).train()
    with pytest.raises(UnsupportedError, match=r"changes its buffers.*module\.eval\(\)"):
        load(spectral)


def test_masks_of_infinity_are_refused_with_advice_and_open_bounds_are_not() -> None:
    mask = torch.tensor([True, False, False, False])
    with pytest.raises(UnsupportedError, match="infinity"):
        load(Call(lambda x: x.masked_fill(mask, float("-inf")).softmax(1)), X)
    low = torch.tensor([0.0, -torch.inf, 0.5, -torch.inf])
    assert torch.equal(load(Call(lambda x: x.clamp(min=low)), X)(X), X.clamp(min=low))


def test_another_default_device_changes_nothing() -> None:
    with torch.device("meta"):
        arrays = dense([([[1.0, 2.0]], [0.5])])
        net = load(Call(lambda x, a: a(x).relu() + torch.ones(6, device=x.device), a=MLP[0]), X)
    assert arrays([1.0, 1.0]).tolist() == [3.5]
    assert torch.allclose(net(X), MLP[0](X).relu().detach() + 1)


def test_options_that_the_source_has_no_use_for_are_refused(tmp_path: Path) -> None:
    torch.save(mlp().state_dict(), tmp_path / "weights.pt")
    for options in ({"weights": tmp_path / "weights.pt"}, {"gate": "tanh"}):
        with pytest.raises(InputError, match="leave it out"):
            load(mlp(), **options)
    np.savez(tmp_path / "net.npz", W1=np.eye(2))
    for options in ({"weights": tmp_path / "missing.pt"}, {"example": X}):
        with pytest.raises(InputError, match="leave it out"):
            load(tmp_path / "net.npz", **options)
    assert load(tmp_path / "net.npz", gate="tanh").num_units == 0


def test_one_tensor_in_a_container_is_an_output_and_an_example_too() -> None:
    for wrap in (lambda y: {"logits": y}, lambda y: (y,), lambda y: [y]):
        net = load(Call(lambda x, a, wrap=wrap: wrap(a(x).relu()), a=MLP[0]), (X,))
        assert torch.allclose(net(X), MLP[0](X).relu().detach(), atol=1e-6)


def test_refusals_leave_terminal_and_torch_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    for module in (Branching(), Call(lambda x, a: torch.vmap(a)(x), a=MLP[0])):
        with contextlib.suppress(UnsupportedError):
            load(module, X)
    assert torch.randn(3).shape == (3,)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace_method` is deprecated:DeprecationWarning")
def test_torchscript_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnsupportedError, match=r"TorchScript.*load the original module"):
        load(torch.jit.trace(mlp(), X), X)


def test_a_fresh_module_loads_without_calling_eval() -> None:
    assert load(mlp().train()).num_units == 6


def test_an_example_is_needed_unless_the_first_leaf_is_linear() -> None:
    with pytest.raises(InputError, match=r"expected example=.*Conv2d"):
        load(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()))
    assert load(nn.Sequential(nn.Sequential(nn.Linear(4, 2)), nn.ReLU())).input_shape == (4,)


def test_an_unfit_example_gets_the_modules_own_complaint() -> None:
    with pytest.raises(ShapeError, match=r"Sequential fails on an example of shape \(2, 5\).*example="):
        load(mlp(), torch.zeros(2, 5))
    with pytest.raises(InputError, match=r"floating-point inputs.*int64"):
        load(mlp(), torch.zeros(2, 4, dtype=torch.int64))


def test_loading_leaves_the_module_alone() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True)).eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    load(module, torch.randn(2, 1, 5, 5))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert not any(m._forward_hooks for m in module.modules())


def test_weights_that_are_not_finite_are_refused_with_their_place() -> None:
    module = mlp()
    with torch.no_grad():
        module[2].weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"2\.weight.*1 NaN or infinite"):
        load(module)


def test_layers_are_named_as_in_the_module() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.body(self.body(x)) - 1))

    names = [g.name for g in load(Net(), X).gates]
    assert names == ["body.1", "body.1_1", "relu_2"]


def test_the_network_is_differentiable_in_its_input() -> None:
    net, x = load(mlp()), X.clone().requires_grad_()
    net(x).sum().backward()
    assert torch.allclose(x.grad, torch.autograd.functional.jacobian(lambda v: mlp()(v).sum(), X))


def test_networks_and_exported_programs_are_sources_too() -> None:
    net = load(torch.export.export(mlp(), (X,)))
    assert load(net) is net
    with pytest.raises(InputError, match="got int"):
        load(3)  # type: ignore[arg-type]


# -- .pt2 archives


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def archive(tmp_path: Path) -> dict[str, bytes]:
    path = tmp_path / "good.pt2"
    torch.export.save(torch.export.export(mlp(), (X,)), path)
    with zipfile.ZipFile(path) as z:
        return {name: z.read(name) for name in z.namelist()}


def written(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        for name, content in entries.items():
            z.writestr(name, content)
    return path


def entry(entries: dict[str, bytes], ending: str) -> str:
    return next(name for name in entries if name.endswith(ending))


def test_a_saved_program_loads(archive: dict[str, bytes], tmp_path: Path) -> None:
    net = load(written(tmp_path / "again.pt2", archive))
    assert torch.allclose(net(X), mlp()(X).detach(), atol=1e-6)


def payload(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Payload(mark), buffer)
    return buffer.getvalue()


def test_the_payload_of_these_tests_would_run(tmp_path: Path) -> None:
    torch.load(io.BytesIO(payload(tmp_path / "it ran")), weights_only=False)
    assert (tmp_path / "it ran").exists()


@pytest.mark.parametrize("place", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"])
def test_a_pickle_payload_in_a_pt2_is_refused_before_it_runs(archive: dict[str, bytes], tmp_path: Path, place: str) -> None:
    mark = tmp_path / "it ran"
    root = entry(archive, "models/model.json").split("/")[0]
    archive[f"{root}/{place}"] = payload(mark)
    with pytest.raises(UnsafeFileError, match=r"pickled objects other than tensors|neither tensors nor a graph"):
        load(written(tmp_path / "bad.pt2", archive))
    assert not mark.exists()


def test_entries_of_one_name_are_refused_whatever_their_order(archive: dict[str, bytes], tmp_path: Path) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "bad.pt2"
    examples = entry(archive, "sample_inputs/model.pt")
    for again in (examples, examples.replace("model.pt", "MODEL.pt")):
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as z:
            warnings.simplefilter("ignore", UserWarning)  # the zip module's own, about the double name
            for name, content in archive.items():
                z.writestr(name, content)
            z.writestr(again, payload(mark))
            z.writestr(examples, archive[examples])
        with pytest.raises(UnsafeFileError, match="two entries of one name"):
            load(path)
    assert not mark.exists()


def edited(archive: dict[str, bytes], edit: Callable[[dict], None]) -> dict[str, bytes]:
    model = entry(archive, "models/model.json")
    tree = json.loads(archive[model])
    edit(tree)
    return archive | {model: json.dumps(tree).encode()}


def test_guards_kept_as_source_are_refused_before_they_run(archive: dict[str, bytes], tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    source = f"__import__('pathlib').Path({str(mark)!r}).touch() is None"
    bad = edited(archive, lambda tree: tree.update(guards_code=[source]))
    with pytest.raises(UnsafeFileError, match="guards as Python source"):
        load(written(tmp_path / "bad.pt2", bad))
    assert not mark.exists()


def test_tree_specifications_that_name_modules_are_refused(
    archive: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "it ran"
    (tmp_path / "imported_by_a_tree.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass E: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    context = {"default_factory_module": "imported_by_a_tree", "default_factory_name": "E", "dict_context": []}
    spec = [1, {"type": "collections.defaultdict", "context": context, "children_spec": []}]

    def edit(tree: dict) -> None:
        tree["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps(spec)

    with pytest.raises(UnsafeFileError, match=r"collections\.defaultdict"):
        load(written(tmp_path / "bad.pt2", edited(archive, edit)))
    assert not mark.exists()


def test_damaged_and_encrypted_entries_get_one_line(archive: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "packed.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in archive.items():
            z.writestr(name, content)
    whole = path.read_bytes()
    for at in range(40, len(whole), len(whole) // 25):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with contextlib.suppress(FileError, UnsupportedError, ConversionError, InputError):
            load(path)  # a flipped bit may fall on what is not read; anything else is one of our errors
    model = entry(archive, "models/model.json")
    deep = archive | {model: b"[" * 100_000 + b"]" * 100_000}
    with pytest.raises(FileError):
        load(written(path, deep))


def test_weights_kept_as_pickles_are_refused(archive: dict[str, bytes], tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    config = entry(archive, "model_weights_config.json")
    tree = json.loads(archive[config])
    first = next(iter(tree["config"].values()))
    first["use_pickle"] = True
    archive[config] = json.dumps(tree).encode()
    archive[entry(archive, first["path_name"])] = pickle.dumps(Payload(mark))
    with pytest.raises(UnsafeFileError, match="kept as pickles"):
        load(written(tmp_path / "bad.pt2", archive))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('"torch.ops.aten.relu.default"', '"os.system"', "calls 'os.system'"),
        ('"torch.ops.aten.relu.default"', '"torch.load"', "calls 'torch.load'"),
        ('"torch.ops.aten.relu.default"', '"_operator.attrgetter"', "calls '_operator.attrgetter'"),
        ('"torch.ops.aten.relu.default"', '"torch.ops.aten.from_file.default"', "calls 'torch.ops.aten.from_file"),
        ('"torch.ops.aten.relu.default"', '"torch.ops.aten.__class__"', "calls 'torch.ops.aten.__class__'"),
        ('"range_constraints": {}', '"range_constraints": {}, "expr_str": "__import__(1)"', "no size"),
        ('"range_constraints": {}', '"range_constraints": {}, "expr_str": "s0.func"', "no size"),
        ('"range_constraints": {}', '"range_constraints": {}, "as_custom_obj": {"name": "x"}', "custom object"),
    ],
)
def test_graphs_that_call_other_than_tensor_operations_are_refused(
    archive: dict[str, bytes], tmp_path: Path, before: str, after: str, problem: str
) -> None:
    model = entry(archive, "models/model.json")
    assert before in archive[model].decode()
    archive[model] = archive[model].decode().replace(before, after).encode()
    with pytest.raises(UnsafeFileError, match=problem):
        load(written(tmp_path / "bad.pt2", archive))


def test_compiled_code_and_custom_objects_in_a_pt2_are_refused(archive: dict[str, bytes], tmp_path: Path) -> None:
    root = entry(archive, "models/model.json").split("/")[0]
    for name in ("data/aotinductor/model/code.so", "data/constants/custom_obj_0", "data/constants/opaque_obj_0", "run.py"):
        with pytest.raises(UnsafeFileError, match="neither tensors nor a graph"):
            load(written(tmp_path / "bad.pt2", archive | {f"{root}/{name}": b"\x80\x04."}))


def test_truncated_and_foreign_pt2_files_get_one_line(archive: dict[str, bytes], tmp_path: Path) -> None:
    path = written(tmp_path / "good.pt2", archive)
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:size])
        with pytest.raises(FileError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(FileError, match=r"expected a \.pt2 archive"):
        load(path)
    with pytest.raises(FileError, match="expected a program saved"):
        load(written(path, {k: v for k, v in archive.items() if not k.endswith("model.json")}))


def test_programs_with_a_symbolic_batch_load(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=1000)
    module = Call(lambda x, a: a(x).relu().reshape(x.shape[0], 2, 3).sum(1), a=nn.Linear(4, 6))
    path = tmp_path / "symbolic.pt2"
    program = torch.export.export(module, (X,), dynamic_shapes={"x": {0: batch}})
    torch.export.save(program, path)
    net = load(path)
    assert torch.allclose(net(X), module(X).detach(), atol=1e-6)
    assert net.output_shape == (3,)


# -- factories and weights


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_models.py").write_text(
        textwrap.dedent("""
            import torch
            def make():
                torch.manual_seed(5)
                return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
            number = 3
            def needs(argument): ...
            def breaks():
                raise KeyError("a key of its own")
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_models", None)
    return "my_models:make"


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".nested.pt"])
def test_factories_are_filled_with_weights(factory: str, tmp_path: Path, ending: str) -> None:
    state, path = mlp().state_dict(), tmp_path / f"weights{ending}"
    save_file(state, path) if ending == ".safetensors" else torch.save(
        {"state_dict": state} if "nested" in ending else state, path
    )
    net = load(factory, weights=path)
    assert torch.allclose(net(X), mlp()(X).detach(), atol=1e-6)
    assert not torch.allclose(load(factory)(X), net(X))


def test_a_state_dict_with_a_pickle_payload_is_refused_before_it_runs(factory: str, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    for i, content in enumerate([{"0.weight": Payload(mark)}, Payload(mark)]):
        torch.save(content, tmp_path / f"bad{i}.pt")
        with pytest.raises(UnsafeFileError, match="other pickled objects"):
            load(factory, weights=tmp_path / f"bad{i}.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UnsafeFileError, match="other pickled objects"):
        load(factory, weights=tmp_path / "raw.pt")
    assert not mark.exists()


def test_unfit_weight_files_are_named(factory: str, tmp_path: Path) -> None:
    other = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).state_dict()
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(FileError, match=r"other.safetensors: expected the weights of Sequential.*size mismatch"):
        load(factory, weights=tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes()[:50])
    (tmp_path / "text.pt").write_bytes(b"hello")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("cut.safetensors", "text.pt", "list.pt", "missing.pt"):
        with pytest.raises(FileError, match=name):
            load(factory, weights=tmp_path / name)


def test_factories_that_make_no_module_are_named(factory: str) -> None:
    for name in ("my_models:absent", "no_such_package:make", "my_models:number", "my_models:needs", "my_models:breaks"):
        with pytest.raises(InputError, match=name):
            load(name)


def test_files_of_weights_alone_say_what_is_missing(tmp_path: Path) -> None:
    torch.save(mlp().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(FileError, match="weights but no network"):
        load(tmp_path / "weights.pt")
    with pytest.raises(FileError, match="no such file"):
        load(tmp_path / "missing.onnx")
    (tmp_path / "net.h5").write_bytes(b"x")
    with pytest.raises(FileError, match=r"ending in .onnx, .pt2 or .npz; got .h5"):
        load(tmp_path / "net.h5")


# -- arrays


def test_arrays_give_the_network_they_spell() -> None:
    module = mlp()
    net = dense([(module[0].weight, module[0].bias), (module[2].weight.detach().numpy(), module[2].bias.tolist())])
    assert torch.allclose(net.to(dtype=torch.float32)(X), module(X).detach(), atol=1e-6)
    assert [n.name for n in net.nodes] == ["linear1", "relu1", "linear2"]


def test_wrong_sizes_of_arrays_name_the_layer_and_the_remedy() -> None:
    with pytest.raises(ShapeError, match=r"layer 2: expected W of shape \(outputs, 6\); got \(6, 3\); W.T would fit"):
        dense([(np.ones((6, 4)), None), (np.ones((6, 3)), None)])
    with pytest.raises(ShapeError, match=r"layer 1: expected b of shape \(6,\); got \(4,\)"):
        dense([(np.ones((6, 4)), np.ones(4))])
    with pytest.raises(InputError, match="gate: expected one of"):
        dense([(np.ones((6, 4)), None)] * 1 + [(np.ones((2, 6)), None)], gate="rectifier")
    with pytest.raises(InputError, match="at least one"):
        dense([])
    with pytest.raises(InputError, match="a gate for each of 2 layers; got 3"):
        dense([(np.ones((4, 4)), None)] * 2, gate=["relu"] * 3)


@pytest.mark.parametrize(
    "names",
    [("fcs.{}.weight", "fcs.{}.bias"), ("W{}", "b{}"), ("layer_{}/kernel", "layer_{}/bias"), ("arr_{}w", "arr_{}b")],
    ids=lambda n: n[0],
)
def test_npz_files_are_read_in_natural_order(tmp_path: Path, names: tuple[str, str]) -> None:
    g = np.random.default_rng(0)
    layers = [(g.normal(size=(3, 3)), g.normal(size=3)) for _ in range(11)]  # eleven, so that 10 must come after 9
    arrays = {n.format(i): a for i, pair in enumerate(layers) for n, a in zip(names, pair, strict=True)}
    np.savez(tmp_path / "net.npz", **dict(reversed(arrays.items())))
    x = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(load(tmp_path / "net.npz")(x), dense(layers)(x))


def test_npz_files_of_other_things_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x=np.ones((2, 3, 4)))
    np.savez(tmp_path / "stray.npz", W1=np.ones((2, 2)), c7=np.ones(2))
    np.savez(tmp_path / "twice.npz", W1=np.ones((2, 2)), b1=np.ones(2), bias1=np.zeros(2))
    np.savez(tmp_path / "objects.npz", W1=np.array([{}], dtype=object))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "images.npz").read_bytes()[:100])
    (tmp_path / "text.npz").write_text("hello")
    for name in ("images", "stray", "twice", "objects", "cut", "text"):
        with pytest.raises(FileError, match=f"{name}.npz"):
            load(tmp_path / f"{name}.npz")


def test_the_bunny_network_loads_through_the_arrays_door(data: Path) -> None:
    path = data / "nets" / "bunny_2d_4x32.npz"
    net = load(path)
    with np.load(path) as z:
        want = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
        x = torch.from_numpy(want)
        for i in range(5):
            want = want @ z[f"fcs.{i}.weight"].T + z[f"fcs.{i}.bias"]
            want = np.maximum(want, 0) if i < 4 else want
    assert net.num_units == 128
    assert float(np.abs(net(x).numpy() - want).max()) <= 1e-5 * float(np.abs(want).max())


def test_the_registry_is_not_only_easy_cases() -> None:
    assert {c.name for c in CASES} >= {"residual", "reused modules", "in place and slice assignment", "attention"}
