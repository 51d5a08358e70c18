#!/usr/bin/env bash
# One would guess that onnx.inliner keeps what a model computes: a call that leaves an attribute of a function out gets the
# function's default for it, as the ONNX standard says of FunctionProto.attribute_proto.
# What happens: the default is dropped. LeakyRelu inside the function falls back to its own slope of 0.01 instead of the
# function's 0.25, without a word; onnxruntime runs the same model with 0.25.
# Seen with onnx 1.23.2 (onnx.inliner.inline_local_functions) and onnxruntime 1.31.1.
# Why it matters: a reader or a tool that inlines first gets another network from a valid file. Fill the defaults in before.
# Exits 0 while the behaviour is as described.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import inliner, parser

model = parser.parse_model("""
<ir_version: 9, opset_import: ["": 17, "own": 1]>
graph (float[2] x) => (float[2] y) { y = own.Leaky(x) }
<domain: "own", opset_import: ["": 17]>
Leaky <slope: float = 0.25> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }
""")
onnx.checker.check_model(model)
x = np.array([-1.0, 1.0], np.float32)


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0].tolist()


print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
print("the model as it is:", run(model))
print("the model inlined: ", run(inliner.inline_local_functions(model)))
assert run(model) == [-0.25, 1.0]
assert np.allclose(run(inliner.inline_local_functions(model)), [-0.01, 1.0])
PYTHON
