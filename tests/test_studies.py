"""The studies: that the criteria decide as they say, and that a study runs from data to figures and numbers."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

STUDIES = Path(__file__).parents[1] / "studies"
sys.path.append(str(STUDIES))

import _claims as claims  # noqa: E402
import _schemes as schemes  # noqa: E402

FIGURES = {
    "batch_norm_axes",
    "binary_approximation",
    "constellations",
    "distances",
    "first_layer",
    "frequencies_2_sgd",
    "frequencies_4_sgd",
    "hyperplanes",
    "independence",
    "learning_curves",
    "neighbours",
    "propagation",
    "second_layer_law",
    "trainability",
}
X = torch.randn(600, 12, generator=torch.Generator().manual_seed(0)) + 0.5


def test_frequencies_are_told_apart_by_the_law_they_are_nearest_to() -> None:
    assert claims.nearest(torch.full((50,), 0.45)) == claims.HALF
    assert claims.nearest(torch.linspace(0, 1, 50)) == claims.UNIFORM
    assert claims.nearest(torch.tensor([0.02] * 30 + [0.97] * 20)) == claims.SATURATED
    exact = claims.references((torch.arange(64, dtype=torch.float64) + 0.5) / 64)
    assert exact == pytest.approx({claims.HALF: 0.25, claims.UNIFORM: 0.0, claims.SATURATED: 0.25})


def test_rank_correlations_see_order_alone_and_ties_count_half() -> None:
    a = [0.1, 0.2, 0.5, 0.9, 1.1, 1.5, 2.0, 3.0]
    found = claims.rank_correlation(a, [math.exp(v) for v in a])
    assert found["value"] == pytest.approx(1)
    assert found["p_value"] < 0.001
    tied = claims.rank_correlation([1, 1, 2, 2], [1, 2, 3, 4])
    assert tied["value"] == pytest.approx(4 / math.sqrt(4 * 5))


def test_differences_between_groups_are_no_correlation_within_them() -> None:
    up, apart = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 5.0, 3.0, 1.0, 4.0]
    pooled = claims.rank_correlation([*up, *(v + 10 for v in up)], [*apart, *(v + 10 for v in apart)])
    within = claims.within_groups([(up, apart), ([v + 10 for v in up], [v + 10 for v in apart])])
    assert pooled["value"] > 0.7
    assert abs(within["value"]) < 0.15
    assert within["p_value"] > 0.5


@pytest.mark.parametrize(("accuracy", "learns"), [(0.105, False), (0.11, False), (0.15, True)])
def test_a_network_trains_when_it_beats_the_most_frequent_class_by_three_errors(accuracy: float, learns: bool) -> None:
    assert claims.trains(accuracy, 0.105, 4000) is learns
    claim = claims.does_not_train(10, "sgd", [accuracy], 5, 0.105, 4000)
    assert claim.agrees is not learns
    assert bool(claim.why) is learns


def test_criteria_go_both_ways() -> None:
    near, far = [torch.full((9,), 0.5)] * 2, [torch.full((9,), 0.01)] * 2
    decided = {
        True: [
            claims.layer_law([near, near], [0, 1], claims.HALF, "", ""),
            claims.batch_norm_balances(near, 0.5, 0.1, 4000),
            claims.balanced_by_learning([0.3, 0.2], [0.48, 0.47], {}),
            claims.fair_bits_before({"images": ([0.18, 0.4, 0.01], 127.9)}, 256, 1.0),
            claims.fair_bits_after(0.001, 999, (128, 126), 256),
            claims.as_bits([0.791, 0.788], "", 256, 0.3),
            claims.second_layer(2, 1e-9, 0.4, 0.125),
            claims.gains("he", [0.99, 1.02], 1.0),
            claims.moment_equations(),
            claims.hyperplanes({256: torch.tensor([0.1, 0.05])}),
        ],
        False: [
            claims.layer_law([near, far], [0, 1], claims.HALF, "", ""),
            claims.batch_norm_balances(far, 0.5, 0.1, 4000),
            claims.balanced_by_learning([0.3, 0.2], [0.2, 0.47], {"he": ([0.3, 0.2], [0.3, 0.4])}),
            claims.fair_bits_before({"images": ([0.001, 0.4, 0.01], 126.0)}, 256, 1.0),
            claims.fair_bits_after(0.04, 999, (126, 128), 256),
            claims.as_bits([0.791, 0.83], "", 256, 0.3),
            claims.second_layer(2, 1.0, 1e-9, 0.27),
            claims.gains("he", [0.5, 0.6], 1.0),
            claims.moment_equations(0.46, 0.36),
            claims.hyperplanes({256: torch.tensor([0.1, 5.0])}),
        ],
    }
    for verdict, found in decided.items():
        assert [claim.name for claim in found if claim.agrees is not verdict] == []
    assert all(claim.why for claim in decided[False])
    text = claims.table(decided[False])
    assert text.count("DIFFERS") == len(decided[False])


def test_one_unit_may_have_moments_that_the_mean_over_units_has_not() -> None:
    drawn = torch.linspace(0.19, 0.27, 999, dtype=torch.float64)
    units = claims.Units(256, drawn, drawn + 0.1, drawn + 0.23, drawn + 0.12)
    claim = claims.first_layer("all", (0.25, 0.35), (units.mean, units.deviation), 2, units)
    assert claim.agrees is False
    assert "one unit" in claim.why
    stated = {"mean": 0.25, "deviation": 0.35, "positive mean": 0.48, "positive deviation": 0.37}
    assert claims.one_unit(stated, units).agrees
    assert not claims.one_unit(stated | {"mean": 0.26}, units).agrees
    assert claims.theory((0.2303, 0.3371), (1e-4, 1e-4)).agrees
    assert not claims.theory((0.25, 0.35), (1e-4, 1e-4)).agrees


@pytest.mark.parametrize("scheme", schemes.SCHEMES)
def test_schemes_start_as_they_should(scheme: str) -> None:
    model = schemes.network(scheme, [12, 64, 64, 3], X, seed=0)
    first = model[0].weight.detach()
    expected = {
        "none": 1 / math.sqrt(3 * 12),
        "xavier": math.sqrt(2 / (12 + 64)),
        "he": math.sqrt(2 / 12),
        "selu": math.sqrt(1 / 12),
    }
    if scheme in expected:
        assert float(first.std()) == pytest.approx(expected[scheme], rel=0.1)
    with torch.no_grad():
        z = [nn.Sequential(*model.eval()[: k + 1])(X[: schemes.FIRST]) for k in range(len(model))]
    before = [z[k - 1] for k, part in enumerate(model) if isinstance(part, nn.ReLU | nn.SELU)]
    if scheme in ("batch norm", "weight norm"):
        room = 1e-3 if scheme == "weight norm" else 1e-2  # running variances are divided by n - 1, those of a batch by n
        assert all(float(v.mean(0).abs().max()) < room for v in before)
        assert all(float((v.std(0) - 1).abs().max()) < room for v in before)
    if scheme == "ours":
        assert all(float(((v > 0).double().mean(0) - 0.5).abs().max()) < 0.01 for v in before)


def test_weight_norm_is_read_with_plain_weights_and_the_same_outputs() -> None:
    model = schemes.network("weight norm", [12, 8, 3], X, seed=0)
    torch.testing.assert_close(schemes.plain(model)(X), model(X))
    assert len(list(model.parameters())) == 6  # and stays as it is


def test_a_run_is_read_back_and_one_that_was_stopped_is_begun_again(tmp_path: Path) -> None:
    split = (X, (X[:, 0] > 0.5).long(), X[:100], (X[:100, 0] > 0.5).long())
    asked = {"epochs": 1, "recorded": 50, "folder": tmp_path / "run"}
    first = schemes.trained("none", [8], "sgd", split, **asked)
    assert first.recording.steps == [0, 1]
    assert first.last("train_loss") < float(first.recording.scalars("train_loss")[0])
    again = schemes.trained("none", [8], "sgd", split, **asked)
    torch.testing.assert_close(again.model(X), first.model(X), rtol=0, atol=0)
    (tmp_path / "run" / "step-00000001.npz").unlink()
    assert schemes.trained("none", [8], "sgd", split, **asked).recording.steps == [0, 1]


@pytest.mark.slow
def test_the_study_of_activation_patterns_runs_and_decides_every_claim(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(STUDIES / "activation_patterns.py")]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [*command, "--quick", "--data", "digits", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env=settings,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {file.stem for file in tmp_path.glob("*.png")} == FIGURES
    kept = json.loads((tmp_path / "activation_patterns.json").read_text())
    assert len(kept["measured"]["schemes"]) == 2 * len(schemes.SCHEMES)
    decided = [claim["agrees"] for claim in kept["claims"]]
    assert (decided.count(True), decided.count(False)) == (kept["agree"], kept["differ"])
    assert all(claim["criterion"] and claim["ours"] and claim["stated"] for claim in kept["claims"])
    assert all(claim["why"] for claim in kept["claims"] if claim["agrees"] is False)
    assert "first layer, theory of B|Y|" in done.stdout
    within = kept["measured"]["saturation_and_training"]["within"]["train_accuracy"]
    assert -1 <= within["low"] <= within["high"] <= 1
