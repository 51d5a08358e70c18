"""Claim: 36 ACAS Xu instances of properties 1 to 4 get the verdicts on which the verifiers of 2022 agree, most within a second.

Every verdict is asserted against verdicts.csv before its time is kept; a witness counts only where ONNX's reference evaluator
confirms it in float32. What dropping cells that cannot reach the outputs saves is told by instances that are unsat, where the
cover is complete: the cells that the full subdivision of the same box has, and the time that it takes to count them.
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any

from _common import TOY, data_file, report

from polylens import count_regions, load, original, read_vnnlib, verify

INSTANCES = 36
COMPARED = 2  # unsat instances of each property of which the full subdivision is counted


def decided(folder: Path, row: dict[str, str]) -> dict[str, Any]:
    """Return what a verdict took, once it is the known one."""
    path = folder / "onnx" / row["network"]
    net = load(path)
    found = verify(net, folder / "vnnlib" / row["property"], original=original(path, net))
    assert found.verdict == row["result"], (row, found.reason)
    name = f"{row['network'][13:16]} {row['property'].removesuffix('.vnnlib')}"
    return {"instance": name, "verdict": found.verdict, "s": round(found.seconds, 3), "cells": found.cells}


def subdivided(folder: Path, row: dict[str, str]) -> dict[str, Any]:
    """Return how many cells the box of an instance has; they are counted and not measured, which is quickest."""
    net = load(folder / "onnx" / row["network"])
    ((domain, _),) = read_vnnlib(folder / "vnnlib" / row["property"]).grouped()
    found = count_regions(net, domain)
    return {"regions": found.count, "subdivision_s": round(found.seconds, 3)}


def main() -> None:
    verdicts = data_file("acasxu", "verdicts.csv")
    if verdicts is None:
        print("POLYLENS_DATA does not name a folder with acasxu; nothing is measured")
        return
    folder = verdicts.parent
    with verdicts.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == INSTANCES
    rows = rows[-4:] if TOY else rows
    decided(folder, rows[0])  # the kernel is compiled or taken from its cache
    results = [decided(folder, row) for row in rows]
    for i in compared(rows):
        results[i] |= subdivided(folder, rows[i])
    times = [result["s"] for result in results]
    both = [result for result in results if "regions" in result]
    cells = statistics.median(result["cells"] / result["regions"] for result in both)
    longer = statistics.median(result["subdivision_s"] / result["s"] for result in both)
    report(
        "acasxu",
        headline=f"all of {len(results)}: {statistics.median(times):.2g} s each (median), {max(times):.2g} s at most,"
        f" {sum(times):.3g} s in all; {cells:.0%} of the cells of the full subdivision, a bare count of which takes"
        f" {longer:.2g} times as long",
        results=results,
    )


def compared(rows: list[dict[str, str]]) -> list[int]:
    """Return the first unsat instances of each property."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row["result"] == "unsat":
            found.setdefault(row["property"], []).append(i)
    return [i for places in found.values() for i in places[:COMPARED]]


if __name__ == "__main__":
    main()
