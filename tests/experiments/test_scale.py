"""What a size needs, and a large run, at sizes of seconds."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run(module, *flags):
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.long
def test_a_size_is_compiled_and_not_run():
    """A step sends the batch's rows of tables and moments, whatever the number of users."""
    users, items, pairs, width, batch = 100_003, 7_001, 10**7, 64, 2048
    flags = {"users": users, "items": items, "interactions": pairs, "devices": 8, "targets": 8}
    flags |= {"raw_dims": "32,16", "chunk_steps": 7, "features": "float16"}
    found = json.loads(run("experiments.capacity", *(f"--{k}={v}" for k, v in flags.items())))
    needs = found["compiled"]
    assert found["gb_of_features_on_each"] == round(2 * items * (32 + 16) / 1e9, 3)
    rows, ids = 3 * 4 * 2 * batch * 2 * width, 4 * 6 * batch
    for stage in ("pretrain", "adversarial"):
        assert rows <= needs[stage]["bytes_sent_a_step"] <= rows + 3 * ids
        assert needs[stage]["collectives_a_step"] <= 6
    assert needs["ranking"]["bytes_sent_a_block"] == 0
    assert needs["attack by targets"]["bytes_sent_a_step"] == 0
    assert needs["attack by users"]["bytes_sent_a_step"] < 17_000
    assert found["stage 2"]["steps_an_epoch"] == -(-pairs // batch)
    tables = 4 * 3 * (2 * width * users + width * items) / 8 / 1e9
    assert tables < needs["adversarial"]["gb_given"] < 2 * tables + 8 * pairs / 8 / 1e9


@pytest.mark.long
def test_a_large_run_killed_and_resumed(tmp_path):
    """All phases on a few hundred users; the same command again has nothing left to do."""
    flags = {"users": 400, "items": 150, "interactions": 30_000, "chunk_steps": 2, "measured": 100}
    flags |= {"targets": 3, "user_share": 0.5, "workdir": tmp_path, "raw_dims": "8,8"}
    command = ["experiments.large", *(f"--{k}={v}" for k, v in flags.items())]
    run(*command)
    lines = [json.loads(line) for line in (tmp_path / "phases.jsonl").read_text().splitlines()]
    assert [x["phase"] for x in lines] == ["generate", "train", "kill", "resume", "attack"]
    assert 0 < lines[2]["steps_done"] < -(-lines[0]["train"] // 2048)
    assert lines[4]["users"] == 200 and all(x["seconds"] > 0 for x in lines)
    assert run(*command) == ""
