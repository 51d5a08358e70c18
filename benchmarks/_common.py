"""What the benchmarks share: paired timing, the machine's description, and the file that keeps the figures.

Two contenders are timed in turn, A B A B ..., so that a slow moment of the machine meets both; the figure that is
reported is the median over the pairs of the ratio of their times. `POLYLENS_BENCH=toy` asks for sizes that CI can afford:
figures are printed then and not kept.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
TOY = os.environ.get("POLYLENS_BENCH") == "toy"


def sized(full: int, toy: int) -> int:
    """Return the size that this run can afford."""
    return toy if TOY else full


def seconds(function: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratios(pairs: list[tuple[float, float]]) -> dict[str, float | int]:
    """Return the median times of paired measurements, and the median, least and largest of their ratios a / b."""
    quotients = [a / b for a, b in pairs]
    return {
        "a_s": _short(statistics.median(a for a, _ in pairs)),
        "b_s": _short(statistics.median(b for _, b in pairs)),
        "ratio": _short(statistics.median(quotients)),
        "ratio_min": _short(min(quotients)),
        "ratio_max": _short(max(quotients)),
        "repeats": len(pairs),
    }


def paired(f: Callable[[], object], g: Callable[[], object], repeats: int = 9) -> dict[str, float | int]:
    """Return the figures of `ratios` for f (a) and g (b), each called once unmeasured and then in turn."""
    f(), g()
    return ratios([(seconds(f), seconds(g)) for _ in range(sized(repeats, min(repeats, 3)))])


def data_file(*parts: str) -> Path | None:
    """Return a file below $POLYLENS_DATA, or None where there is none (the benchmark then says so and ends)."""
    root = os.environ.get("POLYLENS_DATA")
    path = Path(root, *parts) if root else None
    return path if path is not None and path.exists() else None


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code: processor, cores, versions."""
    packages = {name: metadata.version(name) for name in ("polylens", "torch", "numpy")}
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    } | packages


def report(name: str, **figures: Any) -> None:
    """Print the figures as one JSON line and, unless this is a toy run, keep them in `results/<name>.json`."""
    result = {"benchmark": name, **figures, "machine": machine()}
    print(json.dumps(result | {"toy": True} if TOY else result), flush=True)
    if not TOY:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
