"""Claim: `import polylens` adds half a second at most to `import torch` (aim: 0.3 s), and imports no heavy package."""

from __future__ import annotations

import statistics
import subprocess
import sys

from _common import ratios, report, seconds, sized

HEAVY = ("matplotlib", "onnx", "sklearn", "scipy", "jinja2")  # tqdm too, where torch has not loaded it already


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def main() -> None:
    loaded = run(f"import sys, polylens; print([m for m in {HEAVY} if m in sys.modules])").strip()
    assert loaded == "[]", f"imported with polylens: {loaded}"
    run("import torch")
    pairs = [(seconds(lambda: run("import polylens")), seconds(lambda: run("import torch, numpy"))) for _ in range(sized(9, 2))]
    added = sorted(a - b for a, b in pairs)
    headline = f"{statistics.median(added):.2f} s on top of {statistics.median(b for _, b in pairs):.1f} s"
    report("import", headline=headline, added_s=round(statistics.median(added), 4), **ratios(pairs))


if __name__ == "__main__":
    main()
