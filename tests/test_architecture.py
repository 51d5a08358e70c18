"""The layers of docs/architecture.md, read off the imports, and what importing polylens leaves untouched."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "polylens"

# An import points to a lower layer only; modules of one layer are peers. A folder is one module.
LAYERS: tuple[set[str], ...] = (
    {"_barrier", "_evaluating", "_half_normal", "_moments", "_progress", "_types", "_walk", "errors", "steps"},
    {"_check", "_files", "_hull", "_kernels", "_lp", "affine", "gates"},
    {"_vnnlib", "ball", "data", "pattern", "polytope", "prior", "smooth"},
    {"_meeting", "cells", "geometry", "network", "store"},
    {
        "_clusters",
        "_facets",
        "_falsify",
        "_rational",
        "_rounding",
        "compose",
        "convert",
        "domain",
        "layer_map",
        "local",
        "target",
    },
    {"_layers", "_ranks", "_saliency", "_spectrum", "facets", "germ", "linearise", "vnnlib"},
    {"_fibre", "_ray", "_reconstruct", "_subdivision", "layer_preimage", "nullspace", "region"},
    {"_near", "_preimage", "boundary", "subdivision"},
    {"_injectivity", "_integrated", "_zeros", "preimage"},
    {"_activate", "_inverse"},
    {
        "activate",
        "binary_approximation",
        "complex",
        "constancy",
        "constellations",
        "explore",
        "fibre",
        "first_layer_model",
        "frequencies",
        "gaussian_layer",
        "hamming",
        "independence",
        "initialise",
        "injectivity",
        "invertibility",
        "largest_bias",
        "layer_usefulness",
        "merging",
        "nearby",
        "omnidirectional",
        "pattern_neighbours",
        "propagation",
        "reconstruct",
        "row_removal",
        "second_layer_law",
        "second_order",
        "sensitivity",
        "spectrum",
        "verify",
        "zeros",
    },
    {"invert", "recorder", "zoo"},
    {"plotting"},
    {"report"},
    {"cli"},
    {"__main__"},
)
# A folder is ordered in itself, by the same rule.
FOLDERS: dict[str, tuple[set[str], ...]] = {
    "_activate": (
        {"ascent", "box_bounds", "climb"},
        {"unit"},
    ),
    "_clusters": (
        {"behind", "dendrogram", "pairs"},
        {"tree"},
        {"linkage"},
    ),
    "_facets": (
        {"certify", "flat"},
        {"verdicts"},
        {"decide"},
    ),
    "_fibre": (
        {"chart", "course", "glide"},
        {"roam", "ways"},
        {"walker"},
    ),
    "_injectivity": (
        {"near_origin", "spanning"},
        {"place"},
        {"collapse"},
        {"everywhere"},
    ),
    "_inverse": (
        {"elementwise", "factors", "links"},
        {"affine", "least_distance", "residual"},
        {"least_norm", "walk"},
    ),
    "_kernels": (
        {"compiled"},
        {"faces", "frames", "measure", "popcount", "raster"},
        {"cut", "cut_max"},
    ),
    "_layers": (
        {"rational", "stiemke"},
        {"recession"},
        {"large", "system"},
        {"given", "mirrors"},
        {"exact", "windows"},
        {"asked"},
    ),
    "_preimage": (
        {"generators", "reach"},
        {"findings"},
        {"pieces"},
        {"draw", "gathered", "pullback"},
        {"saved"},
    ),
    "_reconstruct": (
        {"nearest", "priors", "wanted"},
        {"alone", "descending", "finish"},
        {"searching"},
    ),
    "_spectrum": (
        {"krylov", "singular"},
        {"all_columns"},
        {"local"},
    ),
    "_subdivision": (
        {"cell_maps", "locate", "saved", "stages"},
        {"fronts"},
        {"workspace"},
        {"engine"},
        {"tasks"},
        {"partitions"},
    ),
    "_vnnlib": ({"formula", "words"}, {"reader"}, {"scalars", "tensors"}, {"problem"}),
    "_zeros": (
        {"active", "corners", "room", "sheets"},
        {"descent", "marquardt"},
    ),
    "cli": (
        {"arguments", "output"},
        {"inputs"},
        {
            "info",
            "invert",
            "invertibility",
            "nullspace",
            "patterns",
            "preimage",
            "region",
            "regions",
            "report",
            "sensitivity",
            "spectrum",
            "zeros",
        },
        {"entry"},
    ),
    "convert": (
        {"_onnx_constants", "_onnx_file", "_onnx_functions", "_onnxruntime", "_piecewise", "_program", "factory"},
        {"_ports", "_shapes"},
        {"_builder", "_module_call", "_onnx_declared", "_signature"},
        {"_aten_call", "_einsum", "_onnx_call", "_onnx_choices", "arrays", "estimator"},
        {
            "_aten_operators",
            "_aten_shapes",
            "_aten_windows",
            "_onnx_arithmetic",
            "_onnx_operators",
            "_onnx_quantized",
            "_onnx_shapes",
            "_onnx_sums",
            "_onnx_windows",
        },
        {"_interpreter", "_onnx_folding"},
        {"module", "onnx"},
        {"_onnx_reference", "exported"},
        {"original"},
    ),
    "geometry": (
        {"_answers", "center"},
        {"programs"},
        {"boundedness", "flats"},
        {"sampling"},
        {"volume"},
    ),
    "plotting": (
        {"base"},
        {
            "complex",
            "constellations",
            "fibre",
            "injectivity",
            "invert",
            "invertibility",
            "models",
            "nullspace",
            "patterns",
            "preimage",
            "reconstruct",
            "recorder",
            "sensitivity",
            "spectrum",
            "zeros",
        },
    ),
    "report": (
        {"section", "subject"},
        {
            "classifiers",
            "fibres",
            "frequencies",
            "overview",
            "pattern_geometry",
            "performance",
            "preimages",
            "regions",
            "sensitivities",
            "singular",
            "slices",
            "undone",
        },
        {"forgotten"},
        {"sections"},
        {"render"},
    ),
}
# Who may import what besides torch, numpy and the standard library, by the beginning of the module's name.
DOORS: dict[str, set[str]] = {
    "matplotlib": {"plotting", "report"},
    "jinja2": {"report"},
    "onnx": {"convert.onnx", "convert._onnx"},
    "onnxruntime": {"convert._onnxruntime"},
    "safetensors": {"convert.factory", "zoo"},
    "sklearn": {"zoo"},
    "platformdirs": {"zoo"},
    "tqdm": {"_progress"},
    "highspy": {"_lp"},
    "scipy": {
        "_layers.large",
        "_preimage.generators",
        "_inverse.least_distance",
        "_hull",
        "_clusters.linkage",
        "_injectivity.near_origin",
        "_layers.stiemke",
    },
    "numba": {"_kernels"},
    "pyarrow": {"_subdivision.partitions", "store"},
    "joblib": {"_subdivision.tasks"},
    "threadpoolctl": {"_subdivision.tasks"},
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
PARTS = {"google": "onnx"}  # protobuf, whose errors onnx lets through
KNOBS = {"set_default_dtype", "set_default_device", "set_num_threads", "set_float32_matmul_precision", "set_printoptions"}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """Return the dotted name below polylens; a folder's __init__ is the folder, the package's own is ''."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top(module: str) -> str:
    return module.partition(".")[0]


def layer_of(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if top(module) in layer)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a module without what stands under `if TYPE_CHECKING`, which is never imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from runtime_nodes(node)


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute dotted names that a file imports when it runs, lazily or not."""
    package = ["polylens", *path.relative_to(PACKAGE).parent.parts]
    for node in runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import steps` names modules, `from .steps import Step` names what is in one
            names = [f"{origin}.{alias.name}" for alias in node.names] if node.module is None else [origin]
            yield from names


def inner(path: Path) -> set[str]:
    """Return the modules of polylens that a file imports, as dotted names below the package."""
    found = {name.removeprefix("polylens").removeprefix(".") for name in imports(path) if top(name) == "polylens"}
    known = {module_of(p) for p in FILES}
    return {name if name in known else name.rpartition(".")[0] for name in found}


def outer(path: Path) -> set[str]:
    found = {top(name) for name in imports(path)} - {"polylens"} - set(sys.stdlib_module_names)
    return {PARTS.get(name, name) for name in found}


IDS = [module_of(path) or "polylens" for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_file_has_a_layer(path: Path) -> None:
    module = module_of(path)
    assert not module or any(top(module) in layer for layer in LAYERS), f"{module}: give it a layer here and in architecture.md"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_point_down_only(path: Path) -> None:
    module = module_of(path)
    if not module:
        return
    for name in inner(path):
        if top(name) == top(module):
            continue
        assert name, f"{module} imports the package itself, not the module that it needs"
        assert layer_of(name) < layer_of(module), f"{module} (layer {layer_of(module)}) imports {name} (layer {layer_of(name)})"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE and p.name != "__init__.py"], ids=module_of)
def test_imports_within_a_folder_point_down_only(path: Path) -> None:
    folder, _, name = module_of(path).partition(".")
    place = {module: i for i, layer in enumerate(FOLDERS[folder]) for module in layer}
    assert name in place, f"{folder}/{name}: give it a place among {FOLDERS[folder]}"
    for sibling in (other.partition(".")[2] for other in inner(path) if top(other) == folder):
        assert sibling, f"{folder}/{name} imports its own folder"
        assert place[sibling] < place[name], f"{folder}/{name} imports {sibling}"


def test_no_module_imports_itself_through_others() -> None:
    graph = {module_of(path): inner(path) for path in FILES if module_of(path)}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert set(order) >= set(graph)


def test_the_package_only_re_exports() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body[1:]:
        named = isinstance(node, ast.Assign) and {ast.unparse(t) for t in node.targets} <= {"__all__", "__version__"}
        assert named or (isinstance(node, ast.ImportFrom) and node.level == 1), ast.unparse(node)


def test_all_lists_what_is_imported_and_nothing_else() -> None:
    import polylens

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    names = {alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert sorted(names) == polylens.__all__


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_each_foreign_package_has_its_doors(path: Path) -> None:
    for package in outer(path) - {"torch", "numpy"}:
        assert package in DOORS, f"{module_of(path)} imports {package}, which has no door"
        assert module_of(path).startswith(tuple(DOORS[package])), f"{module_of(path)} imports {package}"


def test_runtime_dependencies_are_those_that_are_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]["onnxruntime"]  # used where it is installed
    declared = {entry.partition(">")[0] for entry in (*project["dependencies"], *optional)}
    imported = {DISTRIBUTIONS.get(name, name) for path in FILES for name in outer(path)}
    assert declared == imported


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_process_wide_setting_is_turned(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call.rpartition(".")[2] not in KNOBS, call
            assert call not in {"torch.manual_seed", "np.random.seed", "random.seed"}, call


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_polylens_loads_torch_and_numpy_and_nothing_heavier() -> None:
    heavy = ("matplotlib", "onnx", "sklearn", "scipy", "highspy", "tqdm", "jinja2", "safetensors", "platformdirs", "PIL")
    code = f"""
import sys, torch, numpy
before = set(sys.modules)  # torch itself loads tqdm where there is one
import polylens
print([m for m in {heavy!r} if m in set(sys.modules) - before])
"""
    assert run(code) == "[]"


def test_importing_polylens_changes_nothing() -> None:
    code = """
import random, warnings, numpy, torch

def state():
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(), torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state().tolist(),
        str(torch._tensor_str.PRINT_OPTS), str(numpy.random.get_state()), str(numpy.get_printoptions()),
        numpy.geterr(), random.getstate(), list(warnings.filters),
    )

before = state()
import polylens
print(state() == before)
"""
    assert run(code) == "True"
