"""Configs found by name, `uatmc`, and the distributions, installed elsewhere."""

import contextlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import config_flags

import uatmc_jax
from configs import synthetic_vbpr
from tests.conftest import ROOT
from uatmc_jax import __main__ as uatmc
from uatmc_jax import cli
from uatmc_jax.errors import InputError
from uatmc_jax.settings import AttackRunSettings, find_config, from_values, load_config

COMMANDS = ("data", "prepare", "train", "attack", "edit", "audit", "convert")


def run(*arguments, cwd, timeout=300):
    environment = {k: v for k, v in os.environ.items() if k not in ("UATMC_DATA", "PYTHONPATH")}
    return subprocess.run(
        [str(a) for a in arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_bare_name_is_the_packaged_config_unless_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pathlib.Path(find_config("synthetic_vbpr")) == ROOT / "configs" / "synthetic_vbpr.py"
    assert find_config("baby_vbpr:paper") == f"{ROOT / 'configs' / 'baby_vbpr.py'}:paper"
    (tmp_path / "synthetic_vbpr").write_text("")
    assert find_config("synthetic_vbpr") == "synthetic_vbpr"
    monkeypatch.chdir(ROOT)
    assert find_config("configs/baby_vbpr.py:paper") == "configs/baby_vbpr.py:paper"


@pytest.mark.parametrize("name", ["configs/baby_vbpr.py", "baby_vpbr", "configs/baby_vbpr", "base"])
def test_what_is_not_there_is_refused_with_the_packaged_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{name}: no such file. Packaged configs") as refused:
        find_config(name)
    assert "attack, " in str(refused.value) and "synthetic_vbpr" in str(refused.value)
    assert ("Did you mean --config baby_vbpr?" in str(refused.value)) == (name != "base")


@given(st.one_of(st.text(max_size=30), st.text(min_size=300, max_size=400)))
def test_any_other_name_is_refused(name):
    with contextlib.suppress(InputError):
        assert pathlib.Path(find_config(name).partition(":")[0]).is_file()


def test_a_config_is_loaded_without_flags(tmp_path):
    assert load_config("synthetic_vbpr") == synthetic_vbpr.get_config()
    assert load_config("synthetic_vbpr:paper") == synthetic_vbpr.get_config("paper")
    from_values(AttackRunSettings, load_config("attack:suite"))
    broken = tmp_path / "broken.py"
    for text, message in (
        ("x = ", "SyntaxError"),
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
        ("x = 1", "get_config"),
    ):
        broken.write_text(text)
        with pytest.raises(InputError, match=f"--config {broken}: .*{message}"):
            load_config(str(broken))
    with pytest.raises(InputError, match="presets are default, published, as_published, paper"):
        load_config("synthetic_vbpr:draft")
    broken.rename(tmp_path / "broken.txt")
    with pytest.raises(InputError, match="not a Python file"):
        load_config(str(tmp_path / "broken.txt"))


def test_names_are_resolved_in_every_flag_that_takes_a_config(monkeypatch):
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    config_flags.DEFINE_config_file("plan", None, "", flag_values=values)
    flags.DEFINE_string("name", None, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    given = ["x", "--config=test:paper", "--plan", "reproduce", "--name", "test", "-config", "test"]
    file = str(ROOT / "configs" / "test.py")
    plan = str(ROOT / "configs" / "reproduce.py")
    assert cli._with_packaged_configs(given) == [
        "x", f"--config={file}:paper", "--plan", plan, "--name", "test", "-config", file,
    ]  # fmt: skip
    with pytest.raises(InputError, match="--plan nope: no such file"):
        cli._with_packaged_configs(["x", "--plan=nope"])


def test_uatmc_lists_its_commands_and_refuses_others(capsys):
    for arguments in ([], ["--help"]):
        uatmc.main(arguments)
        shown = capsys.readouterr().out
        assert all(f"\n  {command} " in shown for command in COMMANDS) and "--config" in shown
    for command, said in (("trian", "Did you mean 'train'?"), ("x", "Commands: data, ")):
        with pytest.raises(SystemExit) as stopped:
            uatmc.main([command, "--help"])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def test_every_command_is_a_module():
    assert tuple(uatmc.COMMANDS) == COMMANDS
    for command in COMMANDS:
        assert importlib.util.find_spec(f"uatmc_jax.{command}") is not None, command


def test_uatmc_runs_the_module_as_the_program(tmp_path):
    found = run(sys.executable, "-m", "uatmc_jax", "train", "--config=nope", cwd=tmp_path)
    assert found.returncode == 2 and found.stderr.startswith("error: --config nope: no such file")
    shown = run(sys.executable, "-m", "uatmc_jax", "data", "--help", cwd=tmp_path)
    assert "uatmc data:" in shown.stdout and "python -m uatmc_jax.data data/baby" in shown.stdout


def test_extras_that_errors_name_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    assert {"torch", "safetensors", "encoders", "edits", "zstd", "dev", "docs"} <= extras


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "uatmc_jax.__version__"
    assert f"\nversion: {uatmc_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{uatmc_jax.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_importing_the_package_starts_nothing():
    """The version is read when the distribution is built; --help should not wait for JAX."""
    code = "import sys, uatmc_jax; print([m for m in ('jax', 'numpy') if m in sys.modules])"
    found = run(sys.executable, "-c", code, cwd=ROOT)
    assert found.stdout == "[]\n", found.stdout + found.stderr


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    # Built from a copy, so that nothing is left in the checkout.
    source = tmp_path_factory.mktemp("source")
    files = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    built = run(sys.executable, "-m", "build", "--outdir", folder, source, cwd=source)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
def test_what_the_distributions_hold(distributions):
    (wheel,) = distributions.glob("*.whl")
    (sdist,) = distributions.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    sources_here = {
        str(file.relative_to(ROOT))
        for pattern in ("*.py", "*.html", "*.css", "py.typed")
        for file in (ROOT / "uatmc_jax").rglob(pattern)
    }
    configs = {file.name for file in (ROOT / "configs").glob("*.py")}
    assert sources_here <= names and sources_here <= sources
    assert {f"uatmc_jax/configs/{name}" for name in configs} <= names
    assert {f"configs/{name}" for name in configs} | {"README.md", "LICENSE"} <= sources
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"uatmc_jax"}
    assert not [name for name in sources if name.startswith(("tests", "experiments"))]


@pytest.mark.slow
def test_an_installed_wheel_works_elsewhere(distributions, tmp_path):
    (wheel,) = distributions.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    installed = run(scripts / "pip", "install", "-q", wheel, cwd=tmp_path, timeout=1200)
    assert installed.returncode == 0, installed.stderr
    empty = tmp_path / "empty"
    empty.mkdir()

    def call(*arguments, timeout=600):
        done = run(scripts / "uatmc", *arguments, cwd=empty, timeout=timeout)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    where = run(scripts / "python", "-c", "import uatmc_jax; print(uatmc_jax.__file__)", cwd=empty)
    assert str(tmp_path / "venv") in where.stdout
    assert "train" in call()
    assert "popularity" in call("train", "--config", "test")
    assert (empty / "runs" / "test" / "summary.json").is_file()
    attacked = call("attack", "--workdir=runs/test", "--config.targets.sample=3", "--attacks=fgsm")
    assert "fgsm" in attacked
    results = [json.loads(f.read_text()) for f in empty.glob("runs/test/attacks/*.json")]
    assert any(result.get("attack") == "fgsm" for result in results)
    call("audit", "--config=audit:quick")
    page = (empty / "runs" / "audit_synthetic" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and "<style" in page
    missing = run(
        scripts / "uatmc", "convert", "export", "--workdir=runs/test", "--out=x", cwd=empty
    )
    assert missing.returncode == 2 and "uatmc_jax[safetensors]" in missing.stderr
