"""The table that compares models on the same edited items."""

import json

import numpy as np
import pytest

from experiments.edits import _parsed, format_models, rows_of
from uatmc_jax.errors import InputError


def row(item, before, after, on_z=0.5):
    """A target with one edit of its pixels."""
    both = {"l2": 0.2, "linf": 0.1}
    edit = {
        "edit": "pixels 4/255", "hr": after, "reach": None, "seconds": 1.5, "radius": both,
        "outside": {"l2": True, "linf": False}, "afterwards": {"JPEG 85": after / 2},
        "moved": {"image": both | {"raw": 0.3}},
    }  # fmt: skip
    against = {"PGD on z, l2 10 %": before, "PGD on z, linf 10 %": on_z}
    return {"item": item, "hr_before": before, "against": against, "edits": [edit]}


def result(*rows):
    return {"rows": rows, "serving": "full"}


def test_models_that_are_held_against_other_things_stand_beside_each_other():
    """As a VBPR and a FREEDOM do."""
    listed = row(1, 0.0, 0.1) | {"against": {"copying raw features, whole": 0.2}}
    table = format_models({"vbpr": result(row(1, 0.1, 0.3)), "freedom": result(listed)})
    lines = {line.split("|")[1].strip(): line.split("|")[2:4] for line in table.splitlines()}
    assert [cell.strip()[:5] for cell in lines["PGD on z, linf 10 %"]] == ["0.500", ""]
    assert [cell.strip()[:5] for cell in lines["copying raw features, whole"]] == ["", "0.200"]


def test_models_are_compared_on_the_targets_that_all_have():
    results = {
        "plain": result(row(1, 0.1, 0.3), row(2, 0.1, 0.5), row(3, 0.9, 0.9)),
        "exact": result(row(1, 0.0, 0.1), row(2, 0.2, 0.2)),
    }
    table = format_models(results)
    lines = {line.split("|")[1].strip(): line for line in table.splitlines()}
    assert "2 targets, serving full (after JPEG 85)" in lines
    assert "0.100 [0.100, 0.100]" in lines["before"] and "0.100 [0.000, 0.200]" in lines["before"]
    assert "0.400 [0.300, 0.500] (0.200)" in lines["pixels 4/255"]
    reach = np.mean([0.2, 0.4]) / 0.4
    assert f"{reach:.2f}" in lines["reach, pixels 4/255"]
    written = [json.loads(line) for line in rows_of(results).splitlines()]
    assert [(one["model"], one["item"]) for one in written] == [
        ("plain", 1), ("plain", 2), ("plain", 3), ("exact", 1), ("exact", 2),
    ]  # fmt: skip
    assert written[0]["hr"] == 0.3 and written[0]["hr_before"] == 0.1


def test_a_runs_name_and_place_are_told_apart():
    assert _parsed("a=runs/x:pretrain/best") == ("a", "runs/x", "pretrain/best")
    for given in ("runs/x", "a=runs/x", "=runs/x:pretrain/best"):
        with pytest.raises(InputError, match="NAME=RUN:STAGE/WHICH"):
            _parsed(given)
