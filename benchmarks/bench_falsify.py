"""Claim: ascents along the gradient find the witness of ACAS Xu property 7 on network 1_9 in 60 s; cells alone do not.

A verdict counts only where the original confirms its witness; the cells looked at until then do not depend on the machine.
"""

from __future__ import annotations

from _common import data_file, report

from polylens import load, original, parse_vnnlib, verify

SIDES = [(-0.328422877, 0.679857769), (-0.499999896, 0.499999896), (-0.499999896, 0.499999896), (-0.5, 0.5), (-0.5, 0.5)]


def text() -> str:
    """Return property 7: neither strong left nor strong right is the least output."""
    inputs = "".join(f"(declare-const X_{i} Real)(assert (<= {low} X_{i} {high}))" for i, (low, high) in enumerate(SIDES))
    outputs = "".join(f"(declare-const Y_{i} Real)" for i in range(5))
    strong = ("".join(f"(<= Y_{k} Y_{j})" for j in range(3)) for k in (3, 4))
    return inputs + outputs + "(assert (or " + "".join(f"(and {rows})" for rows in strong) + "))"


def main() -> None:
    path = data_file("acasxu", "onnx", "ACASXU_run2a_1_9_batch_2000.onnx")
    if path is None:
        print("POLYLENS_DATA does not name a folder with acasxu; nothing is measured")
        return
    net = load(path)
    found = verify(net, parse_vnnlib(text()), original=original(path, net), time_limit=60.0)
    assert found.verdict == "sat", found.reason
    report(
        "falsify",
        headline=f"sat in {found.seconds:.3g} s, after {found.cells} cells, confirmed by {found.runner}",
        results=[{"instance": "1_9 prop_7", "verdict": found.verdict, "s": round(found.seconds, 3), "cells": found.cells}],
    )


if __name__ == "__main__":
    main()
