"""The house's rules: short ways, imports one way, and who knows of files and names."""

import ast
import graphlib
import re

import pytest

from tests.conftest import ROOT
from uatmc_jax.models import MODELS

SOURCES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for top in ("uatmc_jax", "experiments", "configs")
    for file in sorted((ROOT / top).rglob("*.py"))
}
TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in SOURCES.items()}
PURE = ("attacks", "defenses", "models", "evaluation", "ascent")
# Of the top level, what knows of files, flags and terminals.
IMPURE = {
    "pathlib",
    "absl",
    "os",
    "tqdm",
    "shutil",
    "sys",
    "uatmc_jax.store",
    "uatmc_jax.checkpoint",
}


def imported(module):
    """The modules that a module imports, whether from within functions or not."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in names}
    return found


def package(module):
    """The part of the library, or of the experiments, that a module belongs to."""
    return ".".join(module.split(".")[:2])


def test_no_function_takes_more_than_seven_parameters():
    long = []
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                of = node.args
                names = [argument.arg for argument in of.posonlyargs + of.args + of.kwonlyargs]
                names += [argument.arg for argument in (of.vararg, of.kwarg) if argument]
                if len([name for name in names if name not in ("self", "cls")]) > 7:
                    long.append(f"{module}.{getattr(node, 'name', 'lambda')}")
    assert not long


def test_no_module_has_more_than_350_lines():
    sizes = {
        module: file.read_text(encoding="utf-8").count("\n") for module, file in SOURCES.items()
    }
    assert not {module: size for module, size in sizes.items() if size > 350}


@pytest.mark.parametrize("of", [lambda module: module, package], ids=["modules", "packages"])
def test_imports_run_one_way(of):
    """A command's module is the top of everything, and the door names what it opens."""
    graph = {}
    for module in SOURCES:
        if module != "uatmc_jax" and not module.endswith("__main__"):
            needs = {of(name) for name in imported(module) if name in SOURCES}
            graph.setdefault(of(module), set()).update(needs - {of(module), "uatmc_jax"})
    graphlib.TopologicalSorter(graph).prepare()  # CycleError: with the circle


@pytest.mark.parametrize("part", PURE)
def test_files_and_flags_stay_out(part):
    inside = [module for module in SOURCES if package(module) == f"uatmc_jax.{part}"]
    assert inside
    assert not {module: found for module in inside if (found := imported(module) & IMPURE)}


def test_nothing_outside_asks_a_model_for_its_name():
    asked = []
    for module, tree in TREES.items():
        if not module.startswith("uatmc_jax.") or package(module) == "uatmc_jax.models":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in MODELS:
                asked.append(f"{module}:{node.lineno}")
    assert not asked


def test_no_committed_result_names_a_place_on_a_machine():
    files = [
        file
        for kind in ("jsonl", "json")
        for file in ROOT.glob(f"experiments/results*/**/*.{kind}")
    ]
    assert files
    for file in files:
        assert not re.search(r'"/[a-z]', file.read_text(encoding="utf-8")), file


def test_no_committed_result_is_larger_than_a_mebibyte():
    """`experiments.shared_rows` says once what rows have alike."""
    found = [file for file in ROOT.glob("experiments/results*/**/*") if file.is_file()]
    files = [file for file in found if file.suffix != ".csv"]  # measures.csv is not in git
    assert files
    assert not {file: size for file in files if (size := file.stat().st_size) > 2**20}
