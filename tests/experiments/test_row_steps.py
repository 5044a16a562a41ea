"""The tables of docs/scale.md."""

import json

import pytest

from tests.commands import call


def test_recall_is_measured_under_the_asked_ways_of_rows():
    done = call(
        "experiments.row_steps",
        "--config=configs/test.py",
        "--config.pretrain.epochs=1",
        "--rows=lazy",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["found"]
    assert found.keys() == {"lazy"} and 0 <= found["lazy"]["best_recall@20"] <= 1
    assert found["lazy"]["best_epoch"] == 1


@pytest.mark.slow  # compiles the published sizes
def test_steps_are_timed_by_number_of_users():
    done = call(
        "experiments.row_steps", "--users=500", "--steps=5", "--repeats=1", "--rows=deferred"
    )
    assert done.returncode == 0, done.stderr
    timed = json.loads(done.stdout)["found"]["500"]["deferred"]
    assert timed.keys() == {"ms_per_step", "ms_per_epoch_beside"}
    assert call("experiments.row_steps", "--rows=sparse").returncode != 0
