"""The command lines as a user types them."""

import json

import pytest

from tests.auditing.cases import small_folder
from tests.commands import call

REFUSED = {
    "no config": ([], "Give --data DIR for a folder of your own, or --config NAME"),
    "neither, but a model": (["--model=mmgcn"], "no data named"),
    "own without data": (["--config=own"], "no data named"),
    "no such model": (["--model=vbrp", "--data=@DATA@/baby"], "config.model.name = 'vbrp'"),
    "no such folder": (["--data=@DATA@/babby"], "/baby? python -m uatmc_jax.prepare"),
    "a folder without features": (["--data=@DATA@/baby"], "baby has no image_feat.npy"),
    "not an experiment": (["--config=attack", "--data=@DATA@/baby"], "config.attacks: no such"),
    "no such config": (["--config=configs/nope.py"], "nope.py: no such file"),
    "unknown preset": (
        ["--config=configs/test.py:draft"],
        "presets are default, published, as_published, paper",
    ),
    "unknown flag": (["--config=configs/test.py", "--resum"], "resum"),
    "word too many": (["--config=configs/test.py", "now"], "unexpected arguments: now"),
    "bad value": (["--config=configs/test.py", "--config.adversarial.eps=-1"], "config.adv"),
    "huge seed": (["--config=configs/test.py", f"--config.seed={10**20}"], "config.seed"),
    "below a file": (["--config=configs/test.py", "--workdir=README.md/run"], "cannot be written"),
    "absent data": (
        ["--config=configs/baby_vbpr.py", "--config.data.root=nowhere"],
        "data: nowhere/baby is not a folder; it should hold baby.inter, image_feat.npy",
    ),
    "absent features": (
        ["--config=configs/baby_vbpr.py", "--config.data.root=@DATA@"],
        "baby has no image_feat.npy, text_feat.npy",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_end_in_one_message_and_write_nothing(name, tmp_path):
    arguments, message = REFUSED[name]
    (tmp_path / "data" / "baby").mkdir(parents=True)
    (tmp_path / "data" / "baby" / "baby.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n")
    arguments = [a.replace("@DATA@", str(tmp_path / "data")) for a in arguments]
    workdir = tmp_path / "run"
    result = call("uatmc_jax.train", f"--workdir={workdir}", *arguments)
    assert result.returncode == 2
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert not workdir.exists()


# Each command with the flag of a config, its field that is misspelt, and which is meant.
COMMANDS = {
    "uatmc_jax.train": ("config", "adversarial.epz", "adversarial.eps", "--config=test"),
    "uatmc_jax.attack": ("config", "targets.rul", "targets.rule", "--workdir=nowhere"),
    "uatmc_jax.audit": ("config", "data.modalities", "experiment.data.modalities", ""),
    "experiments.reproduce": ("plan", "target", "targets", "--quick"),
    "experiments.scoreboard": ("board", "entries.mirror.lan", "entries.mirror.lam", "--quick"),
    "experiments.victims": ("plan", "victims.freedom.config2", "victims.freedom.config", "--quick"),
    "experiments.benchmark": ("config", "pretrain.mue", "pretrain.mu", "--config=test"),
}


def refused(*arguments):
    """The one line that a command is refused with."""
    result = call(*filter(None, arguments))
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert not result.stdout
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_in_a_config_is_one_line_in_every_command(command, tmp_path):
    flag, wrong, meant, needed = COMMANDS[command]
    said = refused(command, needed, f"--{flag}.{wrong}=1")
    assert said == f"error: --{flag}.{wrong}: no such field; did you mean {flag}.{meant}?\n"
    file = tmp_path / "raising.py"
    file.write_text("def get_config():\n    raise KeyError('no', 'way')\n")
    given = needed if needed in ("--quick", "--workdir=nowhere") else ""
    said = refused(command, given, f"--{flag}={file}")
    assert said == f"error: --{flag} {file}: KeyError: ('no', 'way')\n"


@pytest.mark.long  # two commands from end to end
def test_a_folder_of_ones_own_is_trained_on_its_items_attacked(tmp_path):
    folder = small_folder(tmp_path)
    (folder / "text_feat.npy").unlink()
    names = "".join(f"{59 - item}\t{item}\n" for item in range(60))
    (folder / "i_id_mapping.csv").write_text("asin\titemID\n" + names)
    quick = ["--config.pretrain.epochs=1", "--config.adversarial.epochs=1"]
    quick += ["--config.model.dim=4", "--config.model.hidden.visual=(4,)"]
    workdir = tmp_path / "runs" / "shop_vbpr"
    (tmp_path / "runs").mkdir()
    trained = call("uatmc_jax.train", f"--data={folder}", *quick, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "fitted to the data: batches of 256" in trained.stderr
    assert "fitted to the data: defence uat, as uat_mc needs two" in trained.stderr
    settings = json.loads((workdir / "config.json").read_text())
    assert settings["data"]["modalities"] == ["visual:image_feat.npy"]
    assert settings["pretrain"]["batch_size"] == 256 and settings["pretrain"]["epochs"] == 1
    assert "note: pretrain was still improving at its last epoch, 1" in trained.stdout
    attacked = call(
        "uatmc_jax.attack", f"--workdir={workdir}", "--items=7,#3", "--config.bootstrap=10",
        "--attacks=fgsm", "--checkpoints=pretrain/best",
    )  # fmt: skip
    assert attacked.returncode == 0, attacked.stderr
    assert "| #52 | 7 |  | pretrain/best | fgsm |" in attacked.stdout
    assert "| #3 | 56 |  | pretrain/best | fgsm |" in attacked.stdout


def test_a_config_is_trained_on_another_folder_with_another_model(tmp_path):
    folder = small_folder(tmp_path)
    quick = ["--config.pretrain.epochs=1", "--config.adversarial.epochs=0"]
    quick += ["--config.pretrain.alpha=0", "--config.adversarial.defense=uat"]
    chosen = ["--config=test", f"--data={folder}", "--model=linear_vbpr"]
    trained = call("uatmc_jax.train", *chosen, *quick, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    settings = json.loads((tmp_path / "runs" / "shop_linear_vbpr" / "config.json").read_text())
    assert settings["model"]["name"] == "linear_vbpr" and settings["model"]["dim"] == 8
    assert settings["data"]["name"] == "shop" and settings["pretrain"]["batch_size"] == 200
    assert "fitted" not in trained.stderr


def test_a_whole_run_prints_a_table_and_refuses_to_be_overwritten(tmp_path):
    arguments = [
        "uatmc_jax.train",
        "--config=configs/test.py",
        "--config.pretrain.epochs=1",
        "--config.adversarial.epochs=1",
        f"--workdir={tmp_path / 'run'}",
    ]
    first = call(*arguments)
    assert first.returncode == 0, first.stderr
    assert "popularity" in first.stdout and "adversarial (uat_mc)" in first.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["settings"]["pretrain"]["epochs"] == 1
    second = call(*arguments)
    assert second.returncode == 2 and "not empty" in second.stderr


def test_statistics_of_written_synthetic_data(tmp_path):
    folder = tmp_path / "synthetic"
    written = call("uatmc_jax.data", "--write_synthetic", str(folder))
    assert written.returncode == 0, written.stderr
    read = call("uatmc_jax.data", "--json", str(folder))
    stats = json.loads(read.stdout)
    assert stats["interactions"]["all"] == 20_000
    assert stats["fingerprint"] in written.stdout
    again = call("uatmc_jax.data", "--write_synthetic", str(folder))
    assert again.returncode == 2 and "exists already" in again.stderr
    assert call("uatmc_jax.data").returncode == 2


@pytest.mark.parametrize("name", ["data", "prepare", "train", "attack", "audit", "convert"])
def test_help_fits_a_screen_and_has_an_example(name):
    shown = call(f"uatmc_jax.{name}", "--help")
    assert shown.returncode in (0, 1) and not shown.stderr  # absl's --help exits with 1
    lines = shown.stdout.splitlines()
    assert 10 < len(lines) <= 40 and max(map(len, lines)) <= 100
    assert sum(f"python -m uatmc_jax.{name} " in line for line in lines) >= 1


def test_a_mistyped_data_folder_is_told_with_the_nearest(tmp_path):
    (tmp_path / "teeladen").mkdir()
    result = call(
        "uatmc_jax.audit", f"--data={tmp_path / 'teeladn'}", f"--workdir={tmp_path / 'w'}"
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"Did you mean {tmp_path / 'teeladen'}?" in result.stderr
    assert not (tmp_path / "w").exists()
