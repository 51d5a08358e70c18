"""What the README and the pages show works: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import types
from pathlib import Path

import pytest
import torch

import polylens
from polylens import affine_map, dense, patterns, zoo
from polylens.cli.arguments import shielded
from polylens.cli.entry import _parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
HOSTS = {"semver.org"}  # pages may be read without a network; each exception is a decision
PROMISES = re.compile(
    r"\b(todo|fixme|tbd|coming soon|work in progress|lorem|blazing|state[- ]of[- ]the[- ]art)\b", re.IGNORECASE
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    lines = [line for block in blocks(page, r"(?:sh|bash)?") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("polylens ", "make "))]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(blocks(page, "python"))
    if not code:
        return
    monkeypatch.chdir(tmp_path)  # pages write files and import them
    monkeypatch.syspath_prepend(tmp_path)
    for written in re.findall(r'Path\("(\w+)\.py"\)', code):  # another test may have imported its own module of that name
        monkeypatch.setitem(sys.modules, written, types.ModuleType(written))
        del sys.modules[written]
    exec(compile(code, str(page), "exec"), {"__name__": "__main__"})


def test_every_call_in_the_table_of_questions_works_on_the_digits_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a store is written there
    net, data = zoo.digits(), zoo.digits_data("test")
    names = vars(polylens) | {"torch": torch, "net": net, "x": data.inputs[0], "p": patterns(net, data.inputs[:20])}
    names |= {"xs": data.inputs[:20], "y": data.labels[:20] if data.labels is not None else None}
    names["module"] = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    names |= {"q": names["p"], "inner": affine_map(net, names["x"], "relu1")}
    names |= {"r": polylens.region(net, names["x"]), "geometry": importlib.import_module("polylens.geometry")}
    names |= dict(zip("abc", data.inputs[:3], strict=True))
    names["plane"] = polylens.Plane.through(*data.inputs[:3])
    names["cells"] = polylens.subdivide(net, names["plane"])
    names["outer"] = affine_map(dense([([[1.0] * 64], None)]), torch.zeros(64))
    text = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8").partition("## How do I load it?")[0]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "You call" not in line]
    calls = [call for row in rows for call in re.findall(r"`([^`]+)`", row[1]) if not call.startswith("polylens ")]
    assert len(calls) > 20
    for call in calls:
        exec(call, names)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for command in commands(page):
        if command[0] == "make":
            assert command[1] in targets, command
        else:
            assert _parser().parse_args(shielded(command[1:]))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            assert target.split("/")[2] in HOSTS, target
            continue
        path = page.parent / target.partition("#")[0]
        notebooks = {f"{script.stem}.md" for script in (ROOT / "docs" / "notebooks").glob("*.py")}
        made = {"api.md", "changelog.md"} | notebooks  # docs/build.py writes these
        assert not target.partition("#")[0] or path.exists() or path.name in made, target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_page_promises_nothing_and_names_no_place_of_this_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not PROMISES.search(text)
    assert str(Path.home()) not in text
    assert str(ROOT.parent) not in text


def test_the_readme_shows_its_picture_and_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"!\[[^\]]+\]\(docs/images/\w+\.png\)", text)
    assert "make report" in text
    assert "make test" in text
    assert sum(len(block.splitlines()) for block in blocks(ROOT / "README.md", "python")) <= 12


def test_the_measured_rows_of_the_readme_are_those_of_the_kept_results() -> None:
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.filled(text) == text, "results have changed: run python benchmarks/table.py"
