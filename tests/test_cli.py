"""The command lines as a user types them."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def call(*arguments, cwd=ROOT):
    environment = {k: v for k, v in os.environ.items() if k != "UATMC_DATA"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


REFUSED = {
    "no config": ([], "--config"),
    "no such config": (["--config=configs/nope.py"], "nope.py: no such file"),
    "unknown preset": (["--config=configs/test.py:draft"], "presets are published, paper"),
    "unknown section": (
        ["--config=configs/test.py", "--config.pretrian.mu=1"],
        "pretrian: no such",
    ),
    "unknown field": (["--config=configs/test.py", "--config.pretrain.lamda=1"], "lamda"),
    "unknown flag": (["--config=configs/test.py", "--resum"], "resum"),
    "word too many": (["--config=configs/test.py", "now"], "unexpected arguments: now"),
    "bad value": (["--config=configs/test.py", "--config.adversarial.eps=-1"], "config.adv"),
    "ill-typed value": (["--config=configs/test.py", "--config.seed=x"], "seed"),
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
