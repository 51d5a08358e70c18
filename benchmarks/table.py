"""Write the measured rows of README.md from benchmarks/results: python benchmarks/table.py

A row is a benchmark's claim (the first paragraph of its script's docstring) and its `headline`, or else its ratio.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- measured: written by benchmarks/table.py -->", "<!-- end of measured -->"


def claim(name: str) -> str:
    script = ROOT / "benchmarks" / f"bench_{name}.py"
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    words = " ".join(text.split("\n\n")[0].split()).removeprefix("Claim:").strip().rstrip(".")
    return words[:1].upper() + words[1:]


def headline(result: dict[str, Any]) -> str:
    """Return what a benchmark says of itself, or its ratios by name."""
    if "headline" in result:
        return str(result["headline"])
    named = {"": result} | {f"{name.replace('_', ' ')}: ": v for name, v in result.items() if isinstance(v, dict)}
    return "; ".join(
        f"{name}{v['ratio']:.2f} times ({v['ratio_min']:.2f} to {v['ratio_max']:.2f})"
        for name, v in named.items()
        if "ratio" in v
    )


def rows() -> str:
    """Return the table as Markdown, one row for each kept result."""
    lines = ["| Claim | Measured |", "|---|---|"]
    machines = set()
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        lines.append(f"| {claim(path.stem)} | {headline(result)} |")
        at = result["machine"]
        machines.add(f"{at['cores']} cores ({at['cpu']}), torch {at['torch'].partition('+')[0]}, Python {at['python']}")
    return "\n".join([*lines, "", f"Measured on {'; '.join(sorted(machines))}; `make bench` measures again."])


def filled(text: str) -> str:
    """Return the README with its measured rows renewed."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md: expected one line {BEGIN!r} and one line {END!r}")
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{rows()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
