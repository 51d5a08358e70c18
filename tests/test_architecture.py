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
    {"_dendrogram", "_kernels", "errors", "_progress", "_types"},
    {
        "_active",
        "_factors",
        "_barrier",
        "_certify",
        "_check",
        "_faces",
        "_files",
        "_frames",
        "_glide",
        "_half_normal",
        "_hull",
        "_krylov",
        "_lp",
        "_measure",
        "_mirrors",
        "_moments",
        "_near_origin",
        "_nearest",
        "_pairs",
        "_popcount",
        "_raster",
        "_rational",
        "_singular",
        "_smt",
        "_spanning",
        "_stiemke",
        "_tree",
        "_walk",
    },
    {
        "_cut",
        "_cut_max",
        "_least_distance",
        "_formula",
        "_generators",
        "_linkage",
        "_recession",
        "affine",
        "ball",
        "pattern",
        "polytope",
        "steps",
    },
    {
        "_alone",
        "_course",
        "_exact_layer",
        "_layer_system",
        "_meeting",
        "_place",
        "_priors",
        "_workspace",
        "cells",
        "gates",
        "geometry",
        "omnidirectional",
        "store",
    },
    {"_collapse", "_findings", "_flat", "_layer_input", "domain", "prior", "smooth", "target"},
    {"_pieces", "_room", "_windows", "_saved", "_verdicts", "network", "vnnlib"},
    {
        "_all_columns",
        "_ascent",
        "_behind",
        "_decide",
        "_draw",
        "_gathered",
        "_rounding",
        "_stages",
        "_wanted",
        "compose",
        "frequencies",
        "layer_map",
        "layer_preimage",
        "local",
    },
    {
        "_cell_maps",
        "_descending",
        "_finish",
        "_undo",
        "_undo_affine",
        "_asked_layer",
        "_large_layer",
        "_local_spectrum",
        "_locate",
        "_marquardt",
        "_reach",
        "_saliency",
        "_sheets",
        "facets",
        "germ",
        "linearise",
    },
    {
        "_chart",
        "_descent",
        "_engine",
        "_searching",
        "_box_bounds",
        "_links",
        "boundary",
        "convert",
        "data",
        "nullspace",
        "region",
    },
    {"_near", "_unit", "_undo_residual", "_roam", "_tasks", "_ways", "explore"},
    {"_climb", "_partitions", "_pullback", "_undo_walk", "_walker"},
    {"subdivision"},
    {"_corners", "_integrated", "_everywhere", "complex", "preimage"},
    {
        "activate",
        "binary_approximation",
        "constancy",
        "constellations",
        "fibre",
        "hamming",
        "independence",
        "first_layer_model",
        "gaussian_layer",
        "initialise",
        "injectivity",
        "invertibility",
        "_least_norm",
        "largest_bias",
        "layer_usefulness",
        "merging",
        "nearby",
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
    {
        "plotting_complex",
        "plotting_constellations",
        "plotting_fibre",
        "plotting_injectivity",
        "plotting_invert",
        "plotting_invertibility",
        "plotting_models",
        "plotting_nullspace",
        "plotting_patterns",
        "plotting_preimage",
        "plotting_recorder",
        "plotting_reconstruct",
        "plotting_sensitivity",
        "plotting_spectrum",
        "plotting_zeros",
    },
    {"report"},
    {"cli"},
    {"__main__"},
)
# A folder is ordered in itself, by the same rule.
FOLDERS: dict[str, tuple[set[str], ...]] = {
    "cli": (
        {"arguments"},
        {"output"},
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
        {"_program"},
        {"_shapes"},
        {"_builder"},
        {"_aten_call", "_onnx_call"},
        {"_aten_operators", "_aten_shapes", "_aten_windows", "_onnx_operators", "_onnx_shapes", "_onnx_windows"},
        {"arrays", "factory", "module", "onnx"},
        {"_onnx_reference", "exported"},
        {"original"},
    ),
    "geometry": ({"_answers"}, {"programs", "center"}, {"flats", "boundedness"}, {"sampling"}, {"volume"}),
    "report": (
        {"section"},
        {"subject"},
        {"fibres", "preimages"},
        {
            "overview",
            "performance",
            "frequencies",
            "pattern_geometry",
            "classifiers",
            "regions",
            "sensitivities",
            "singular",
            "slices",
            "forgotten",
            "undone",
        },
        {"sections"},
        {"render"},
    ),
}
# Who may import what besides torch, numpy and the standard library, by the beginning of the module's name.
DOORS: dict[str, set[str]] = {
    "matplotlib": {"plotting", "report"},
    "jinja2": {"report"},
    "onnx": {"convert.onnx", "convert._onnx"},
    "safetensors": {"convert.factory", "zoo"},
    "sklearn": {"zoo"},
    "platformdirs": {"zoo"},
    "tqdm": {"_progress"},
    "highspy": {"_lp"},
    "scipy": {"_large_layer", "_generators", "_least_distance", "_hull", "_linkage", "_near_origin", "_stiemke"},
    "numba": {"_kernels"},
    "pyarrow": {"_partitions", "store"},
    "joblib": {"_tasks"},
    "threadpoolctl": {"_tasks"},
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
    declared = {entry.partition(">")[0] for entry in project["dependencies"]}
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
