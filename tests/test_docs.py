"""The documents' code, run as written; and that what they name is there."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest

import uatmc_jax
from tests.auditing.cases import K, small_audit, small_folder
from tests.conftest import ROOT
from uatmc_jax.auditing.run import run_audit
from uatmc_jax.checkpoint import restore
from uatmc_jax.data import load_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import OwnModelSettings, Sizes, build_model, make_graph

FENCE = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / f"{n}.md" for n in ("README", "CONTRIBUTING"))]
# Parts of the package without a page: what only other parts use.
UNLISTED = {"configs"}


def blocks(name):
    """(language, text) of a document's code, in order."""
    return FENCE.findall((ROOT / name).read_text(encoding="utf-8"))


def cells(kind):
    """The tutorial's cells of one kind."""
    notebook = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.fixture
def fresh_folder(tmp_path, monkeypatch):
    """An empty folder to work in, without data sets from elsewhere and windows that open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UATMC_DATA", raising=False)
    matplotlib.use("Agg")
    yield tmp_path
    matplotlib.pyplot.close("all")


def test_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150 and len(text.split()) <= 900


@pytest.mark.slow
def test_the_tutorial_runs_as_written(fresh_folder, capsys):
    namespace = {}
    for number, cell in enumerate(cells("code")):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "at most" in printed and "hardened    recall@20" in printed


def test_the_tutorial_is_made_of_its_script_and_was_executed():
    """`python docs/execute_tutorial.py` was run after the last change of docs/tutorial.py."""
    script = (DOCS / "tutorial.py").read_text(encoding="utf-8")
    prose = "".join("".join(cell["source"]) for cell in cells("markdown"))
    assert re.sub(r"\W", "", prose) == re.sub(
        r"\W", "", "".join(re.findall(r"^# %% \[markdown\]\n((?:#.*\n)*)", script, re.MULTILINE))
    )
    assert len(cells("code")) == len(re.findall(r"^# %%$", script, re.MULTILINE))
    outputs = []
    for cell in cells("code"):
        source = "".join(cell["source"])
        compile(source, "tutorial.ipynb", "exec")
        assert source in script
        outputs += cell["outputs"]
    assert all(output["output_type"] != "error" for output in outputs)
    assert "Traceback" not in json.dumps(outputs)
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 1
    assert sum(output["output_type"] == "stream" for output in outputs) >= 5
    assert len(json.dumps(outputs)) < 200_000


@pytest.mark.slow
def test_the_shop_runs_as_written(fresh_folder, capsys):
    environment = dict(os.environ)
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    namespace = {}
    for language, text in blocks("docs/shop.md"):
        if language == "python":
            exec(compile(text, "shop.md", "exec"), namespace)
            continue
        done = subprocess.run(
            ["bash", "-euc", text], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    printed = capsys.readouterr().out
    assert "victim: recall@20" in printed and "exact_05: recall@20" in printed
    assert printed.count("Article number") == 5
    assert (fresh_folder / "runs" / "audit_shop" / "report.html").is_file()


@pytest.fixture
def my_models(tmp_path, monkeypatch):
    """The module of docs/own_model.md, to be imported as its reader would."""
    ((_, text),) = [block for block in blocks("docs/own_model.md") if block[0] == "python"]
    assert len(text.split("def make_lightgcn")[1].splitlines()) <= 40
    (tmp_path / "my_models.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_models", None)


def dense_lightgcn(params, dataset, n_layers):
    """(users, items) scores in float64, with the whole normalised adjacency matrix."""
    n, pairs = dataset.n_users, dataset.train
    adjacency = np.zeros((n + dataset.n_items,) * 2)
    adjacency[pairs.users, n + pairs.items] = adjacency[n + pairs.items, pairs.users] = 1
    scale = np.maximum(adjacency.sum(axis=1), 1) ** -0.5
    adjacency *= scale[:, None] * scale
    x = np.array(params.encoder.nodes, np.float64)
    for feature, name, kernel in zip(
        dataset.features, dataset.modalities, params.encoder.kernels, strict=True
    ):
        z = np.asarray(feature, np.float64) @ np.asarray(params.projectors[name], np.float64)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        x[n:] += z @ np.asarray(kernel, np.float64)
    powers = [np.linalg.matrix_power(adjacency, hop) @ x for hop in range(n_layers + 1)]
    mean = np.mean(powers, axis=0)
    return mean[:n] @ mean[n:].T


@pytest.mark.long
def test_a_model_of_ones_own_is_trained_attacked_and_audited(tmp_path, my_models):
    folder = small_folder(tmp_path)
    settings = small_audit(folder, harden={"uat_mc": {"defense": "uat_mc", "lam": 1.0}})
    chosen = OwnModelSettings(
        "my_models:make_lightgcn", dim=settings.experiment.model.dim, options={"n_layers": 1}
    )
    experiment = dataclasses.replace(settings.experiment, model=chosen)
    settings = dataclasses.replace(settings, experiment=experiment)
    audit = run_audit(settings, tmp_path / "run", show_progress=False)
    victim, hardened = audit["entries"]
    suite = victim["verdict"]["suite"][f"hr@{K}"]
    assert suite["after"]["value"] > suite["before"]["value"] > 0
    assert "no certificate for lightgcn" in victim["certificate"] and victim["survey"] is None
    assert hardened["defense"] == "uat_mc"
    assert (tmp_path / "run" / "report.html").is_file()

    dataset = load_dataset(folder, "shop")
    model, params, _, _ = restore(victim["folder"], "pretrain", "best", dataset)
    z = model.project(params.projectors, dataset.features)
    graph = make_graph(dataset.train, dataset.n_users, dataset.n_items)
    user, item = model.encode(params.encoder, z, graph)
    expected = dense_lightgcn(params, dataset, chosen.n_layers)
    np.testing.assert_allclose(user @ item.T, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("my_models:make_nothing", "make_nothing"),
        ("my_models:jax.numpy", "my_models"),
        ("builtins:dict", "TypeError: dict expected at most"),
        ("os:system", "TypeError"),
        ("..x:make", "TypeError|ImportError"),
        ("broken:make", r"SyntaxError: .*broken\.py"),
        ("wrong:raises", r"ZeroDivisionError: division by zero \(.*wrong\.py, line 9\)"),
        ("wrong:one_modality", r"project gives \[\(50, 8\)\] for 2 modalities"),
        ("wrong:transposed", r"encode gives users \(50, 8\)"),
    ],
)
def test_a_model_that_does_not_fit_is_told_so(name, message, tmp_path, my_models, settings):
    (tmp_path / "wrong.py").write_text(
        "import my_models\n"
        "def one_modality(*args):\n"
        "    model = my_models.make_lightgcn(*args)\n"
        "    return model._replace(project=lambda p, x: model.project(p, x)[:1])\n"
        "def transposed(*args):\n"
        "    model = my_models.make_lightgcn(*args)\n"
        "    return model._replace(encode=lambda *a: model.encode(*a)[::-1])\n"
        "def raises(*args):\n"
        "    return 1 / 0\n"
    )
    (tmp_path / "broken.py").write_text("def make(:\n")
    with pytest.raises(InputError, match=message):
        build_model(
            OwnModelSettings(name=name, dim=8), Sizes(60, 50, {"visual": 64, "textual": 32})
        )
    sys.modules.pop("wrong", None)


def test_every_name_of_the_api_page_is_there():
    text = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(uatmc_jax[\w.]*)` \| (.*?) \|", text, re.MULTILINE)
    assert len(named) > 20
    for module, functions in named:
        found = importlib.import_module(module)
        for function in re.findall(r"`(\w+)`", functions):
            assert hasattr(found, function), f"{module}.{function}"
    offered = {name for name in re.findall(r"`um\.(\w+)`", text)}
    assert len(offered) == 14
    for name in offered:
        assert hasattr(uatmc_jax, name), f"um.{name}"


def test_every_package_has_a_page():
    pages = "".join(file.read_text(encoding="utf-8") for file in (DOCS / "api").glob("*.md"))
    shown = set(re.findall(r"^::: uatmc_jax\.([\w.]+)$", pages, re.MULTILINE))
    packages = {file.parent.name for file in (ROOT / "uatmc_jax").glob("*/__init__.py")}
    assert packages - UNLISTED <= shown
    for name in shown:
        assert importlib.util.find_spec(f"uatmc_jax.{name}") is not None, name


@pytest.mark.parametrize("file", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    check_links(file, file.read_text(encoding="utf-8"))


def test_the_tutorials_links_lead_somewhere():
    prose = "\n".join("".join(cell["source"]) for cell in cells("markdown"))
    check_links(DOCS / "tutorial.ipynb", prose)


def check_links(file, text):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (file.parent / target).exists(), target


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_the_commands_named_are_there(file):
    text = file.read_text(encoding="utf-8")
    for module in set(re.findall(r"python -m ((?:uatmc_jax|experiments)[\w.]*\w)", text)):
        assert importlib.util.find_spec(module) is not None, module
    for command in set(re.findall(r"\buatmc ([a-z]+) --", text)):
        assert importlib.util.find_spec(f"uatmc_jax.{command}") is not None, command
    for config in set(re.findall(r"\bconfigs/\w+\.py", text)):
        assert (ROOT / config).is_file(), config
