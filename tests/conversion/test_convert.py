"""The command line of `uatmc_jax.convert`."""

import sys

import pytest

from uatmc_jax import convert

torch = pytest.importorskip("torch", reason="the extra 'torch'")
pytest.importorskip("safetensors", reason="the extra 'safetensors'")
from tests.conversion import torch_models as models  # noqa: E402

pytestmark = pytest.mark.extras


def run(*arguments):
    """The exit status, in this process."""
    with pytest.raises(SystemExit) as stopped:
        convert.main([str(a) for a in arguments])
    return stopped.value.code or 0


@pytest.fixture
def checkpoint_file(dataset, tmp_path):
    hidden = {"visual": (9,), "textual": (5,)}
    model = models.randomized(models.MMGCN(dataset, 6, hidden, latent=10))
    torch.save(model.state_dict(), tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.fixture
def config_file(data_root, tmp_path):
    """A config on the small data set, whose root is to be given."""
    file = tmp_path / "small.py"
    file.write_text(
        "from uatmc_jax.configs import test\n\n\n"
        "def get_config():\n"
        "    config = test.get_config()\n"
        "    config.data.source = 'mmrec'\n"
        "    return config\n"
    )
    return file


def test_from_torch_to_a_file_and_back(checkpoint_file, config_file, data_root, tmp_path, capsys):
    given = ["mmrec", checkpoint_file, "--config", config_file, "--data_root", data_root]
    assert run(*given, "--workdir", tmp_path / "first") == 0
    said = capsys.readouterr()
    assert said.out.startswith("mmgcn on synthetic, as pretrain/best\n")
    assert "config.model.dim = 6, to fit the weights; the config has 8" in said.out
    assert f"written to {tmp_path / 'first'}" in said.err
    file = tmp_path / "model.safetensors"
    assert run("export", "--workdir", tmp_path / "first", "--out", file) == 0
    assert capsys.readouterr().out == "mmgcn, pretrain/best, epoch 0\n"
    assert run("import", file, "--workdir", tmp_path / "second") == 0
    again = tmp_path / "again.safetensors"
    run("export", "--workdir", tmp_path / "second", "--checkpoint", "pretrain/best", "--out", again)
    assert again.read_bytes() == file.read_bytes()


REFUSED = {
    "no command": ([], "COMMAND"),
    "other data": (["mmrec", "@FILE@", "--config=test", "@RUN@"], "id_embedding is (110, 6)"),
    "another kind of config": (
        ["mmrec", "@FILE@", "--config=attack", "@RUN@"],
        "config.attacks: no such field",
    ),
    "no such config": (["mmrec", "@FILE@", "--config=nope", "@RUN@"], "--config nope: no such"),
    "no such file": (["mmrec", "nope.pth", "--config=test", "@RUN@"], "nope.pth: no such file"),
    "no stage": (["export", "@RUN@", "--out=x", "--checkpoint=best"], "best: wanted STAGE/WHICH"),
    "no run": (["export", "@RUN@", "--out=x"], "no checkpoint"),
    "unknown flag": (["import", "x", "@RUN@", "--data"], "--data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_end_in_one_line(name, checkpoint_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, message = REFUSED[name]
    places = {"@FILE@": checkpoint_file, "@RUN@": "--workdir=run"}
    assert run(*(places.get(a, a) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert list(tmp_path.iterdir()) == [checkpoint_file]


@pytest.mark.parametrize("command", [(), ("mmrec",), ("export",), ("import",)])
def test_help_fits_a_screen_and_shows_an_example(command, capsys):
    assert run(*command, "--help") == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) <= 40 and max(map(len, shown)) <= 100
    assert any("convert" in line and "--workdir" in line for line in shown[3:])


def test_without_the_extra_its_name_is_told(checkpoint_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for library, arguments in (
        ("torch", ["mmrec", checkpoint_file, "--config=test", "--workdir=y"]),
        ("safetensors", ["import", checkpoint_file, "--workdir=y"]),
        ("safetensors", ["export", "--workdir=y", "--out=x"]),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            assert run(*arguments) == 2
        assert f"pip install 'uatmc_jax[{library}]'" in capsys.readouterr().err
