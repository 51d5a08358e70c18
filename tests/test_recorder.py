"""Recording during learning: what is kept, files that survive interruptions, and modules that stay as they were."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from polylens import Recorder, hamming, load, patterns, read_recording
from polylens.errors import FileError, InputError

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def module(seed: int = 0, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    parts = [nn.Linear(4, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)]
    return nn.Sequential(*parts)


def test_a_record_is_what_patterns_and_hamming_say() -> None:
    recorder = Recorder(X, pairs=500, seed=3, clustered=60)
    kept = recorder.record(module(), 0, loss=2.5)
    seen = patterns(load(module()), X)
    assert torch.equal(kept.frequencies.active(1), seen.frequencies().active(1))
    apart = hamming(seen, pairs=500, seed=3)
    assert all(torch.equal(one, other.counts) for one, other in zip(kept.distances, apart.layers, strict=True))
    assert float(kept.mean_distances[0]) == pytest.approx(apart.layers[0].mean / 6)
    assert bool(((kept.scores > 0) & (kept.scores <= 1)).all())
    shares = seen.frequencies().active(0)
    assert float(kept.saturation[0]) == pytest.approx(float((2 * shares - 1).abs().mean()))
    assert kept.scalars == {"loss": 2.5}


def test_learning_is_followed_step_by_step() -> None:
    net, recorder = module(norm=True).train(), Recorder(X)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    labels = (X[:, 0] > 0).long()
    for epoch in range(3):
        loss = nn.functional.cross_entropy(net(X), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        statistics = net[1].running_mean.clone()
        recorder.record(net, epoch, loss=loss.item())
        assert net.training
        assert torch.equal(net[1].running_mean, statistics)
    found = recorder.recording
    assert found.steps == [0, 1, 2]
    assert found.active(0).shape == (3, 6)
    assert found.saturation().shape == found.distances().shape == (3, 2)
    assert bool((found.scalars("loss").diff() < 0).all())
    assert bool(found.scalars("nothing").isnan().all())


def test_what_is_read_from_files_is_what_was_kept_and_recording_goes_on(tmp_path: Path) -> None:
    first = Recorder(X, path=tmp_path / "run", clustered=20)
    first.record(module(0), 0, loss=math.inf, accuracy=0.5)
    first.record(module(1), 10)
    again = Recorder(X, path=tmp_path / "run", clustered=20)
    again.record(module(2), 20)
    found = read_recording(tmp_path / "run")
    assert found.steps == again.recording.steps == [0, 10, 20]
    assert found[0].scalars == {"loss": math.inf, "accuracy": 0.5}
    for one, other in zip(found.snapshots[:2], first.recording.snapshots, strict=True):
        assert one.frequencies.layers == other.frequencies.layers
        assert all(torch.equal(a, b) for a, b in zip(one.frequencies.counts, other.frequencies.counts, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one.distances, other.distances, strict=True))
        assert torch.equal(one.scores, other.scores)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_run_that_was_killed_while_writing_leaves_a_readable_directory(tmp_path: Path) -> None:
    recorder = Recorder(X, path=tmp_path)
    recorder.record(module(0), 0)
    whole = (tmp_path / "step-00000000.npz").read_bytes()
    (tmp_path / ".step-00000001.npz.1-abcd.part").write_bytes(whole[:100])  # what a kill leaves behind
    assert read_recording(tmp_path).steps == [0]
    assert Recorder(X, path=tmp_path).record(module(1), 1).step == 1


def test_damaged_files_are_named(tmp_path: Path) -> None:
    Recorder(X, path=tmp_path).record(module(), 0)
    file = tmp_path / "step-00000000.npz"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(FileError, match=r"step-00000000\.npz: expected a step"):
        read_recording(tmp_path)
    with pytest.raises(FileError, match="there is none"):
        read_recording(tmp_path / "missing")
    with pytest.raises(FileError, match="it is a file"):
        Recorder(X, path=file)


def test_files_with_any_one_byte_changed_are_read_or_named(tmp_path: Path) -> None:
    Recorder(X, path=tmp_path).record(module(), 0, loss=math.nan)
    file = tmp_path / "step-00000000.npz"
    whole, named = file.read_bytes(), 0
    for at in range(0, len(whole), 3):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_recording(tmp_path)
        except FileError as error:
            named += str(error).startswith(str(file))
    assert named > len(whole) / 6  # some bytes of a zip archive are read by nobody


def test_inputs_keep_their_precision() -> None:
    torch.manual_seed(0)
    double, x = nn.Sequential(nn.Linear(4, 30), nn.ReLU()).double(), X.double() / 3
    with torch.no_grad():
        double[0].bias.copy_(1e-12 - double[0].weight @ x[0])  # hyperplanes past an input by less than float32 tells
    kept, seen = Recorder(x).record(double, 0), patterns(load(double), x)
    assert bool(seen.pieces(0)[0].all())
    assert torch.equal(kept.frequencies.counts[0], seen.frequencies().counts[0])


def test_saturation_is_one_for_units_that_never_switch_and_only_for_them() -> None:
    three = nn.Sequential(nn.Linear(1, 1), nn.Hardtanh(), nn.Linear(1, 1))
    with torch.no_grad():
        three[0].weight.fill_(1.0)
        three[0].bias.zero_()
    kept = [Recorder(torch.tensor(x)[:, None]).record(three, 0) for x in ([-2.0, 0.0, 2.0], [0.5, 0.1, 2.0], [3.0, 4.0, 5.0])]
    assert [float(one.saturation[0]) for one in kept] == pytest.approx([0.0, 0.5, 1.0])


@pytest.mark.parametrize("other", [{"pairs": 7}, {"seed": 1}, {"inputs": X.flip(0)}])
def test_steps_of_another_recorder_are_not_continued(tmp_path: Path, other: dict[str, Any]) -> None:
    Recorder(X, path=tmp_path).record(module(), 0)
    Recorder(X.double(), path=tmp_path).record(module(1), 1)  # the same numbers
    changed = {"inputs": X, **other}
    with pytest.raises(FileError, match=f"other {next(iter(other))} here"):
        Recorder(changed.pop("inputs"), path=tmp_path, **changed)


def test_recordings_without_steps_and_names_of_nothing_are_refused() -> None:
    recorder = Recorder(X)
    for ask in (recorder.recording.saturation, recorder.recording.distances, lambda: recorder.recording.active(0)):
        with pytest.raises(InputError, match="expected one step or more"):
            ask()
    recorder.record(module(), 0, loss=1.0)
    with pytest.raises(InputError, match=r"of: expected one of \['saturation', 'distances', 'loss'\]; got 'lost'"):
        recorder.recording.plot(of="lost")


def test_other_inputs_layers_and_earlier_steps_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    recorder = Recorder(X, path=tmp_path)
    recorder.record(module(), 5)
    with pytest.raises(InputError, match="above the last one, 5"):
        recorder.record(module(), 5)
    with pytest.raises(InputError, match="expected the layers"):
        recorder.record(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), 6)
    with pytest.raises(InputError, match="loss: expected a number"):
        recorder.record(module(), 6, loss="high")  # type: ignore[arg-type]
    assert recorder.recording.steps == read_recording(tmp_path).steps == [5]
    with pytest.raises(FileError, match="on 10 inputs"):
        Recorder(X[:10], path=tmp_path)
    with pytest.raises(InputError, match="two inputs or more"):
        Recorder(X[:1])


def test_recordings_are_drawn_and_summed_up() -> None:
    from polylens.plotting.recorder import recording_figure

    recorder = Recorder(X)
    for step in range(3):
        recorder.record(module(step), step, loss=float(step))
    found = recorder.recording
    assert len(found.plot().lines) == 2
    assert found.plot(of="loss").lines[0].get_ydata().tolist() == [0.0, 1.0, 2.0]
    assert len(recording_figure(found).axes) == 3
    assert found.summary().count("step ") == 3
    with pytest.raises(InputError, match="got none"):
        Recorder(X).recording.plot()
