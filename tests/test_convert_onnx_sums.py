"""ONNX operators that add products up, against onnxruntime or their definition in numpy, live and beside constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polylens.convert.onnx import from_onnx
from polylens.errors import UnsupportedError
from test_convert_onnx import (
    FLOAT32_AGREEMENT,
    Case,
    assert_affine_near,
    assert_touches,
    disagreement,
    expected,
    inputs_for,
    normal,
    whole,
)

MASK = np.array([[True, False, True], [True, True, False], [False, False, True], [True, True, True]])
CASES: dict[str, Case] = {
    # Einstein sums
    "sum of rows": Case('y = Einsum <equation = "bi,oi->bo"> (x, w)', weights={"w": normal(5, 4)}),
    "constant first": Case('y = Einsum <equation = "ij, bkj -> bki"> (w, x)', "N,3,4", weights={"w": normal(5, 4)}),
    "nothing behind the arrow": Case('y = Einsum <equation = "ba,ac"> (x, w)', weights={"w": normal(4, 5)}),
    "implicit result in the order of letters": Case('y = Einsum <equation = "bca"> (x)', "1,3,4"),
    "dots": Case('y = Einsum <equation = "b...i,ij->b...j"> (x, w)', "N,2,3,4", weights={"w": normal(4, 5)}),
    "dots of unlike rank": Case(
        'y = Einsum <equation = "b...i,...ij->b...j"> (x, w)', "N,2,3,4", weights={"w": normal(3, 4, 5)}
    ),
    "implicit dots": Case('y = Einsum <equation = "...i,ij"> (x, w)', "1,3,4", weights={"w": normal(4, 5)}),
    "capital letters": Case('y = Einsum <equation = "Bi,iJ->BJ"> (x, w)', weights={"w": normal(4, 5)}),
    "two constants": Case('y = Einsum <equation = "bi,ij,kj->bk"> (x, w, v)', weights={"w": normal(4, 5), "v": normal(3, 5)}),
    "constants on both sides": Case(
        'y = Einsum <equation = "hij,bi,j->bh"> (w, x, v)', weights={"w": normal(2, 4, 5), "v": normal(5)}
    ),
    "a number": Case('y = Einsum <equation = "bi,->bi"> (x, w)', weights={"w": np.float32(3)}),
    "turned": Case('y = Einsum <equation = "bij->bji"> (x)', "N,3,4"),
    "diagonal": Case('y = Einsum <equation = "bii->bi"> (x)', "N,3,3"),
    "trace": Case('y = Einsum <equation = "bii->b"> (x)', "N,3,3"),
    "sum of everything": Case('y = Einsum <equation = "ij->"> (x)', "1,4"),
    "one input without its batch": Case('y = Einsum <equation = "bi,oi->o"> (x, w)', "1,4", weights={"w": normal(5, 4)}),
    "one input turned": Case('y = Einsum <equation = "bi,oi->ob"> (x, w)', "1,4", weights={"w": normal(5, 4)}),
    "a vector": Case('y = Einsum <equation = "i,oi->o"> (x, w)', "4", weights={"w": normal(5, 4)}),
    "the same": Case('z = Einsum <equation = "bi->bi"> (x) y = Relu(z)'),
    "behind a gate": Case('r = Relu(x) y = Einsum <equation = "bi,oi->bo"> (r, w)', weights={"w": normal(5, 4)}),
    "two live": Case('z = Abs(x) y = Einsum <equation = "bij,bkj->bik"> (x, z)', "N,3,4"),
    "two live and a constant": Case(
        'z = Abs(x) y = Einsum <equation = "bij,jk,bkl->bil"> (x, w, z)', "N,4,4", weights={"w": normal(4, 4)}
    ),
    "three live": Case('z = Abs(x) y = Einsum <equation = "bi,bi,bi->bi"> (x, z, x)'),
    # cumulative sums
    "cumsum": Case("y = CumSum(x, a)", "N,3,4", weights={"a": np.int64(1)}),
    "cumsum exclusive": Case("y = CumSum <exclusive = 1> (x, a)", "N,3,4", weights={"a": np.int64(-1)}),
    "cumsum reverse": Case("y = CumSum <reverse = 1> (x, a)", "N,3,4", 13, {"a": np.int32(2)}),
    "cumsum both": Case("r = Relu(x) y = CumSum <reverse = 1, exclusive = 1> (r, a)", "N,3,4", 11, {"a": whole(1)}),
    "cumsum of one input": Case("y = CumSum(x, a)", "1,4", weights={"a": np.int64(0)}),
    "cumsum of a vector": Case("y = CumSum <exclusive = 1> (x, a)", "4", weights={"a": np.int64(0)}),
    # triangles
    "upper": Case("y = Trilu(x)", "N,3,4"),
    "upper from a diagonal on": Case("y = Trilu(x, k)", "N,2,4,3", weights={"k": np.int64(1)}),
    "lower": Case("r = Relu(x) y = Trilu <upper = 0> (r)", "N,3,4"),
    "lower from a diagonal on": Case("y = Trilu <upper = 0> (x, k)", "N,4,4", weights={"k": np.int64(-2)}),
    "beyond all diagonals": Case("z = Trilu(x, k) y = Relu(z)", "N,3,4", weights={"k": np.int64(-9)}),
    "triangle of one input": Case("y = Trilu(x)", "3,4"),
    # blocks
    "blocks": Case("y = Col2Im(x, i, b)", "N,8,9", 18, {"i": whole(4, 4), "b": whole(2, 2)}),
    "blocks with everything": Case(
        "y = Col2Im <strides = [2, 1], dilations = [1, 2], pads = [1, 0, 2, 1]> (x, i, b)",
        "N,12,24",
        18,
        {"i": whole(6, 7), "b": whole(3, 2)},
    ),
    "blocks that do not reach the end": Case(
        "y = Col2Im <strides = [3, 3]> (x, i, b)", "N,4,4", 18, {"i": whole(7, 6), "b": whole(2, 2)}
    ),
    "blocks over one axis": Case("y = Col2Im <pads = [1, 1]> (x, i, b)", "N,6,9", 18, {"i": whole(9), "b": whole(3)}),
    "blocks over three axes": Case("y = Col2Im(x, i, b)", "1,8,12", 18, {"i": whole(3, 4, 3), "b": whole(2, 2, 2)}),
    # smooth reductions
    "log-sum-exp": Case("y = ReduceLogSumExp <axes = [1]> (x)", "N,3,4"),
    "log-sum-exp by input": Case("y = ReduceLogSumExp <keepdims = 0> (x, a)", "N,3,4", 18, {"a": whole(-1, 1)}),
    "log-sum-exp of one input": Case("y = ReduceLogSumExp <keepdims = 0> (x)", "1,3,4"),
    "log-sum": Case("e = Exp(x) y = ReduceLogSum <axes = [2], keepdims = 0> (e)", "N,3,4"),
    "product": Case("y = ReduceProd <axes = [1]> (x)", "N,3,4"),
    "product over two axes": Case("y = ReduceProd <keepdims = 0> (x, a)", "N,3,4", 18, {"a": whole(1, 2)}),
    # normalisation by the root mean square
    "rms": Case("y = RMSNormalization(x, s)", "N,3,4", 23, {"s": normal(4)}),
    "rms over two axes": Case("y = RMSNormalization <axis = 1, epsilon = 0.01> (x, s)", "N,3,4", 23, {"s": normal(3, 4)}),
    "rms with one scale": Case("y = RMSNormalization(x, s)", "N,3,4", 23, {"s": np.float32([2.0])}),
    # attention
    "attention": Case("y = Attention(x, x, x)", "N,2,3,4", 23),
    "attention causal": Case("k = Neg(x) v = Abs(x) y = Attention <is_causal = 1, scale = 0.7> (x, k, v)", "N,2,3,4", 23),
    "attention with a mask": Case("y = Attention(x, x, x, m)", "N,2,3,4", 23, {"m": MASK[:3]}),
    "attention with a bias": Case("y = Attention(x, x, x, m)", "N,2,3,4", 23, {"m": normal(1, 2, 3, 3)}),
    "attention capped": Case("y = Attention <softcap = 0.5> (x, x, x, m)", "N,2,3,4", 23, {"m": MASK[1:]}),
    "attention of joined heads": Case("v = Abs(x) y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, v)", "N,3,8", 23),
    "attention of shared heads": Case(
        "k = MatMul(x, w) y = Attention <q_num_heads = 4, kv_num_heads = 2> (x, k, k)", "N,3,8", 23, {"w": normal(8, 4)}
    ),
    "attention to constants": Case("y = Attention(x, k, v)", "1,2,3,4", 23, {"k": normal(1, 2, 5, 4), "v": normal(1, 2, 5, 6)}),
    "attention by constants": Case("y = Attention(q, x, x)", "1,2,3,4", 23, {"q": normal(1, 2, 5, 4)}),
    "attention with a live bias": Case("b = MatMul(x, w) y = Attention(x, x, x, b)", "N,2,3,4", 23, {"w": normal(4, 3)}),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_agrees_with_the_runtime(name: str) -> None:
    case = CASES[name]
    net = from_onnx(case.model(), "hand-built")
    for batch in (1, 7) if "N" in case.shape else (1,):
        x = inputs_for(case.shape, batch, seed=batch)
        assert disagreement(net(torch.from_numpy(x)), expected(case.model(), x)) <= FLOAT32_AGREEMENT


@pytest.mark.parametrize("name", CASES)
def test_its_map_is_exact_nearby_or_for_smooth_ones_at_the_point(name: str) -> None:
    net = from_onnx(CASES[name].model(), "hand-built")
    sample = torch.from_numpy(inputs_for(",".join(map(str, net.input_shape)), 1))
    x = torch.stack([sample, -sample, 0.3 * sample])
    (assert_affine_near if net.is_piecewise_linear else assert_touches)(net, x)


REFUSED: dict[str, tuple[Case, str]] = {
    "inputs of a batch together": (
        Case('y = Einsum <equation = "bi,bj->ij"> (x, x)'),
        "does not keep the inputs of a batch apart",
    ),
    "a constant for every input": (
        Case('y = Einsum <equation = "bi,bi->bi"> (x, w)', weights={"w": normal(1, 4)}),
        "batch as first",
    ),
    "the batch summed": (Case('y = Einsum <equation = "bi->i"> (x)'), "batch as first"),
    "the batch behind": (Case('y = Einsum <equation = "bi->ib"> (x)'), "batch as first"),
    "too few subscripts": (Case('y = Einsum <equation = "bi->bi"> (x)', "N,3,4"), "one subscript for each axis"),
    "too few terms": (Case('y = Einsum <equation = "bi->bi"> (x, x)'), "one subscript for each axis"),
    "sums along the batch": (Case("y = CumSum(x, a)", weights={"a": np.int64(0)}), "batch axis"),
    "a triangle with the batch": (Case("y = Trilu(x)"), "batch axis"),
    "columns that fill no image": (Case("y = Col2Im(x, i, b)", "N,8,9", 18, {"i": whole(4, 5), "b": whole(2, 2)}), "image"),
    "a cache": (Case("y = Attention(x, x, x, , k, k)", "1,2,3,4", 23, {"k": normal(1, 2, 3, 4)}), "without cache"),
    "scores as an output": (Case("y, k, v, s = Attention(x, x, x)", "1,2,3,4", 23), "leave those outputs out"),
    "heads that do not fit": (
        Case("y = Attention <q_num_heads = 3, kv_num_heads = 3> (x, x, x)", "N,3,8", 23),
        "8 columns into 3",
    ),
    "a query without keys": (
        Case("y = Attention(x, x, x, m)", "1,2,2,4", 23, {"m": np.eye(2, dtype=bool) * [True, False]}),
        "no key",
    ),
    "constant scores": (Case("y = Attention(q, q, x)", "1,2,3,4", 23, {"q": normal(1, 2, 3, 4)}), "constant scores"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_represented_is_refused_with_name_place_and_advice(name: str) -> None:
    case, words = REFUSED[name]
    with pytest.raises(UnsupportedError, match=words) as caught:
        from_onnx(case.model(), "model.onnx")
    assert str(caught.value).startswith("model.onnx: ")
    assert ";" in str(caught.value)
