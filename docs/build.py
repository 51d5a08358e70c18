"""Build the site: copy docs/ to build/docs, draw the figures, run the notebooks, write the API page, run mkdocs strictly."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "docs"
TARGET = ROOT / "build" / "docs"
API_HEAD = """# API

Everything that `polylens.__all__` exports, module by module; this page is written from it. Other modules are reached by
their own name.
"""
GEOMETRY = tuple(f"polylens.geometry.{name}" for name in ("programs", "flats", "boundedness", "center", "sampling", "volume"))
ALSO = (*GEOMETRY, "polylens.zoo", "polylens.data", "polylens.report")  # public modules beside the names of __all__


def copy() -> None:
    """Start from the pages alone, with the change log among them."""
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(SOURCE, TARGET, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copyfile(ROOT / "CHANGELOG.md", TARGET / "changelog.md")


def drawn(commands: list[list[str]]) -> None:
    """Run scripts, two at a time; what one of them prints stays together, and an error ends the build."""

    def run(command: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, *command], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        print(
            f"==> {Path(command[-1] if '--notebook' in command else command[0]).relative_to(ROOT)}\n{done.stdout}",
            end="",
            flush=True,
        )
        if done.returncode:
            sys.exit(done.stderr)

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(run, commands):
            pass


def figures_and_notebooks() -> None:
    """Run every script of examples/ that draws a figure, into the copied pages, and every notebook."""
    scripts = sorted((ROOT / "examples").glob("*.py"))
    notebooks = sorted((SOURCE / "notebooks").glob("*.py"))
    drawn(
        [[__file__, "--notebook", str(script)] for script in notebooks]
        + [[str(script), str(TARGET / "images" / f"{script.stem}.png")] for script in scripts]
    )


def notebook(script: Path) -> None:
    """Run a notebook in jupytext's percent format and leave it as a page with its outputs; an error in it ends the build."""
    import jupytext
    from nbconvert import MarkdownExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    cells = jupytext.read(script)
    quiet = ["--IPKernelApp.log_level=ERROR"]
    run = ExecutePreprocessor(timeout=240, kernel_name="python3", extra_arguments=quiet)
    run.preprocess(cells, {"metadata": {"path": str(TARGET)}})
    page, resources = MarkdownExporter().from_notebook_node(cells, {"unique_key": script.stem, "output_files_dir": script.stem})
    folder = TARGET / script.parent.relative_to(SOURCE)
    (folder / script.stem).mkdir(parents=True, exist_ok=True)
    (folder / f"{script.stem}.md").write_text(page, encoding="utf-8")
    for name, content in resources["outputs"].items():
        (folder / name).write_bytes(content)


def first_line(module: str) -> str:
    """Return the first sentence of a module's docstring."""
    text = importlib.import_module(module).__doc__ or ""
    return text.split("\n\n")[0].replace("\n", " ")


def api() -> None:
    """Write api.md: the names of `__all__` under the modules that define them, and the public modules beside them."""
    import polylens

    modules: dict[str, list[str]] = {}
    for name in polylens.__all__:
        modules.setdefault(getattr(polylens, name).__module__, []).append(name)
    parts = [API_HEAD]
    for module in sorted(modules):
        parts += [f"## {module}\n\n{first_line(module)}\n"]
        parts += [f"::: {module}.{name}\n" for name in modules[module]]
    for module in ALSO:
        parts += [f"## {module}\n\n::: {module}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}\n"]
    (TARGET / "api.md").write_text("\n".join(parts), encoding="utf-8")


def site() -> int:
    """Run mkdocs; any warning fails it."""
    # mkdocs-material prints an advertisement for its successor unless told not to
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=ROOT, env=env).returncode


def main() -> int:
    """Build everything."""
    if sys.argv[1:2] == ["--notebook"]:
        notebook(Path(sys.argv[2]))
        return 0
    copy()
    figures_and_notebooks()
    api()
    return site()


if __name__ == "__main__":
    sys.exit(main())
