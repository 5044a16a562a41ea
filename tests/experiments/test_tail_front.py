"""The figure of what robustness costs on items like those attacked."""

import copy

import pytest

from experiments.tail_front import draw, points_of
from uatmc_jax.errors import InputError


def entry(name, before, after, hits, contribution):
    value = {"value": contribution, "over_users": [contribution - 0.1, contribution + 0.1]}
    attacked = {"interactions": 50, "hits": {"own": hits}, "contribution": value}
    rates = {"before": {"value": before}, "after": {"value": after}}
    return {
        "name": name,
        "verdict": {"suite": {"hr@50": rates}},
        "content": {"test": {"attacked": attacked}},
    }


AUDIT = {
    "k": 50,
    "dataset": {"name": "shop"},
    "entries": [
        entry("victim", 0.1, 0.5, 20, 0.4),
        entry("kept", 0.1, 0.19, 19, 0.38),
        entry("deaf", 0.1, 0.1, 20, 0.2),
        entry("misses", 0.1, 0.15, 17, 0.4),
        entry("open", 0.1, 0.21, 20, 0.4),
    ],
}


def test_shares_are_of_the_audited_model(tmp_path):
    points = {point.name: point for point in points_of(AUDIT)}
    assert points["audited"][1:] == (1.0, pytest.approx((0.75, 1.25)), 1.0, 1.0)
    assert points["kept"].contribution == pytest.approx(0.95) and points["kept"].holds
    assert points["kept"].reach == pytest.approx(0.225)
    assert points["deaf"].reach == 0 and points["deaf"].contribution == pytest.approx(0.5)
    assert not any(points[name].holds for name in ("audited", "deaf", "misses", "open"))
    draw(tmp_path / "front.png", [AUDIT, AUDIT])
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_contribution_there_are_no_shares():
    audit = copy.deepcopy(AUDIT)
    for found in (None, {"value": 0.4, "over_users": [-0.1, 0.9]}):
        audit["entries"][0]["content"]["test"]["attacked"]["contribution"] = found
        with pytest.raises(InputError, match="the audit of shop: content contributes nothing"):
            points_of(audit)
