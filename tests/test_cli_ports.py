"""Models of several inputs and outputs on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from polylens.cli import main

MODEL = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2] x, float[1,2] m) => (float[1,2] y, float[1,2] z) {
    s = Add(x, m) y = Relu(s) z = Neg(s) }"""
RULE = """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (>= X_0 0.0)) (assert (<= X_0 1.0)) (assert (>= X_1 0.0)) (assert (<= X_1 1.0)) (assert (>= Y_0 10.5))"""
FACTORY = """import torch

class Two(torch.nn.Module):
    def forward(self, a, b):
        return a.relu(), a - b

def build():
    return Two()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(parser.parse_model(MODEL), tmp_path / "two.onnx")
    np.save(tmp_path / "m.npy", np.array([10.0, -1.0]))
    (tmp_path / "rule.vnnlib").write_text(RULE)
    (tmp_path / "two_inputs.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("folder")
def test_inputs_are_joined_or_fixed_at_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    both = told(capsys, "info", "two.onnx", "--inputs", "x", "--inputs", "m", "--outputs", "y")
    assert [(part["name"], part["start"], part["stop"]) for part in both["inputs"]] == [("x", 0, 2), ("m", 2, 4)]
    one = told(capsys, "info", "two.onnx", "--inputs", "m=m.npy", "--outputs", "z")
    assert (one["input_shape"], one["inputs"], one["num_units"]) == ([2], [], 0)
    regions = told(capsys, "regions", "two.onnx", "--inputs", "m=m.npy", "--outputs", "y", "--box", "-1", "2")
    assert regions["regions"] == 2  # 10 is far from both sides, and 1 is not


@pytest.mark.usefixtures("folder")
def test_a_verdict_on_a_model_of_two_inputs_is_confirmed_by_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "preimage", "two.onnx", "--inputs", "m=m.npy", "--outputs", "y", "--vnnlib", "rule.vnnlib")
    assert found["verdict"] == "sat"
    assert "onnx" in found["confirmed_by"].lower()


@pytest.mark.usefixtures("folder")
def test_a_factory_of_several_inputs_takes_a_shape_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    shapes = ("--example-shape", "1,3", "--example-shape", "1,3")
    found = told(capsys, "info", "two_inputs:build", *shapes, "--outputs", "1")
    assert [part["name"] for part in found["inputs"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "two.onnx", "--outputs", "y"], "takes 2 inputs"),
        (["info", "two.onnx", "--inputs", "m=m.npy"], "choose one, as outputs='y'"),
        (["info", "two.onnx", "--inputs", "k", "--outputs", "y"], "got ['k']"),
        (["info", "two.onnx", "--inputs", "m=rule.vnnlib", "--outputs", "y"], "expected a .npy array"),
        (["info", "two.onnx", "--inputs", "m=missing.npy", "--outputs", "y"], "missing.npy"),
        (["report", "--outputs", "y"], "expected a MODEL"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_each_mistake_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert words in printed.err
