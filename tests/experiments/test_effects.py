"""What decides a claim: intervals, training seeds, and hit rates where gains are undefined."""

import doctest

import pytest

from experiments.paper import digits, effects, figure6, matched_ball, table4
from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED
from experiments.study import CONTROL, UNDEFENDED


def test_verdicts():
    for module in (digits, effects):
        failed, tried = doctest.testmod(module)
        assert tried and not failed
    assert effects.verdict([(0.0, 0.0)]) == FAILS
    assert effects.verdict([(0.1, 0.2), (None, None)]) == UNDECIDED
    assert effects.negative((-0.2, 0.1)) == [-0.1, 0.2]


def test_points_decide_on_a_defence_where_its_gain_is_not_always_defined():
    gain = {"value": -9.0, "over_trainings": [-30.0, -2.0], "over_targets": [-20.0, -3.0],
            "by_training": [-8.0, -10.0]}  # fmt: skip
    points = {"value": -0.01, "over_trainings": [-0.02, -0.005], "over_targets": [-0.02, 0.0],
              "by_training": [-0.01, -0.01]}  # fmt: skip
    pick = effects.on_gain_or_points
    assert pick({"gain": gain, "points": points}) is gain
    for unknown in (
        {"value": None},
        {"over_trainings": [-30.0, None]},
        {"by_training": [-8.0, None]},
    ):
        found = pick({"gain": gain | unknown, "points": points})
        assert found == points | {"of": "HR@50"}
        assert effects.decided([effects.reversed_effect(found)]) == HOLDS
        shown = effects.in_points(found)
        assert shown == ("-1.000 points of HR@50 [-2.000, -0.500], by training seed -1.000, -1.000")
        assert pick({"gain": gain | unknown}) == gain | unknown  # rows of before
    open_above = gain | {"over_trainings": [-30.0, None]}
    for value, deciding in ((-0.01, "points"), (0.01, "gain")):  # 0.01: the two part
        found = pick({"gain": open_above, "points": points | {"value": value}})
        assert ("of" in found) == (deciding == "points")
    assert effects.decided([effects.reversed_effect(open_above)]) == UNDECIDED
    over_targets = gain | {"over_targets": [-20.0, None]}  # of trainings together it is defined
    assert pick({"gain": over_targets, "points": points}) is over_targets


def entry(value, by_training=None, half=0.1):
    ends = [None, None] if value is None else sorted([value * (1 - half), value * (1 + half)])
    found = {"value": value, "over_targets": ends, "over_trainings": ends}
    return found | {"by_training": by_training or [value] * 3}


def row_of(variant, won, gain, **more):
    use = {"all": {}, "attacked": {}, "cold": {}}
    summary = {"hr@50": {"gain": entry(gain), "points": entry(won)}}
    one = {"content": {"test": use}}
    return {"variant": variant, "summary": summary, "by_training": [one] * 3} | one | more


@pytest.mark.parametrize("undefined,verdict", [(False, FAILS), (True, HOLDS)])
def test_shares_in_the_attacks_ball_are_of_the_hit_rate_where_a_gain_is_undefined(
    undefined, verdict, monkeypatch
):
    """UAT leaves 60 % of the hit rate won and 40 % of the gain."""
    monkeypatch.setattr(matched_ball.content, "value", lambda use, name: 0.01)
    monkeypatch.setattr(matched_ball.content, "recall", lambda use: 0.06)
    monkeypatch.setattr(matched_ball.content, "cells", lambda use: ["", ""])
    won = {UNDEFENDED: 2.0, CONTROL: 1.0, "uat": 0.6, "matched_strong": 0.0, "matched_mild": 0.2}
    rows = [
        row_of(name, 0.02 * share, 12.0 if name == "uat" else 30.0 * share)
        for name, share in won.items()
    ]
    if undefined:
        rows[0]["summary"]["hr@50"]["gain"] = entry(None)
    first, *_ = matched_ball.ARTEFACT.claims(rows)
    assert first.verdict == verdict
    assert ("HR@50 won" in first.why) == undefined


def test_a_sweep_is_ranked_by_the_hit_rate_where_a_gain_is_undefined():
    def swept(n, gain):
        test = {"ndcg@10": 0.02 + 0.001 * n, "recall@10": 0.03}
        return row_of("v", 0.01 * n, gain, value=float(n), test=test)

    gains = [5.0, 4.0, 3.0, 2.0, 1.0]  # the other way than the points
    rows = [swept(n, gain) for n, gain in enumerate(gains, start=1)]

    def said():
        both = [row | {"swept": field} for field in figure6.SWEEPS for row in rows]
        return [claim.evidence for claim in figure6.ARTEFACT.claims(both)]

    assert all("correlation -1.00 over 5 points" in found for found in said())
    rows[2]["summary"]["hr@50"]["gain"] = entry(None)
    assert all("correlation +1.00 over 5 points" in found for found in said())
    assert all("HR@50 won" in found for found in said())


def test_a_sweep_says_which_way_it_goes_and_whether_its_intervals_part():
    def of_coordination(gains, won):
        rows = [
            row_of("v", w, g, value=float(n), swept=field, test={"ndcg@10": 0.02 + n / 1000})
            for field in figure6.SWEEPS
            for n, (g, w) in enumerate(zip(gains, won, strict=True), start=1)
        ]
        return figure6.ARTEFACT.claims(rows)[-1]

    rising, near = [1.0, 2.0, 3.0, 4.0], [3.0, 3.01, 3.02, 3.03]
    for gains, won, way, part in (
        (rising, rising, "against", True),
        (rising[::-1], rising, "for", True),
        (near, rising, "against", True),  # by the hit rates alone
        (near, near, "against", False),
    ):
        claim = of_coordination(gains, won)
        assert claim.verdict == UNDECIDED and "beta 1 to 4" in claim.evidence
        assert claim.why.startswith(f"one training seed; its points speak {way} it")
        assert ("smaller than the intervals" not in claim.why) == part


def test_a_sweeps_figure_draws_what_it_is_ranked_by(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure6.plots, "sweeps", lambda *given: drawn.append(given[2]) or "")
    rows = [
        row_of("v", 0.01 * n, 5.0 / n, value=float(n), swept=field, test={"ndcg@10": 0.02})
        for field in figure6.SWEEPS
        for n in (1, 2)
    ]
    for row in rows:
        row |= {"model": "mmgcn", "dataset": {"name": "baby"}}
    figure6.ARTEFACT.draw(rows, tmp_path)
    rows[0]["summary"]["hr@50"]["gain"] = entry(None)
    figure6.ARTEFACT.draw(rows, tmp_path)
    gains = "HR@50 gain under PGD, %", [(1.0, 5.0, 0.02), (2.0, 2.5, 0.02)]
    assert drawn[0] == {"lambda": gains, "beta": gains}
    points = "HR@50 won by PGD, points", [(1.0, 0.01, 0.02), (2.0, 0.02, 0.02)]
    assert drawn[1] == {"lambda": points, "beta": gains}


def test_a_step_of_the_training_budget_is_decided_by_the_hit_rate_where_a_gain_is_undefined():
    def measured(label, won, gain):
        more = {"trained": label, "attack": "fgsm_0.1", "threat_model": {"eps": 0.1}}
        return row_of(label, won, gain, **more)

    rows = [measured("w/o AT", 0.03, None), measured("2.5%", 0.01, None)]
    step = {"lower": "w/o AT", "higher": "2.5%", "attacked_by": "fgsm_0.1"}
    steps = [step | {"differences": {"gain": entry(None), "points": entry(-0.02)}}]
    aligned = [row | {"attack": "fgsm_aligned_0.1"} for row in rows]
    steps += [steps[0] | {"attacked_by": "fgsm_aligned_0.1"}]
    for claim in table4.ARTEFACT.claims([*rows, *aligned, *steps]):
        assert claim.verdict == HOLDS
        assert "+1.000 points of HR" in claim.evidence
        assert (
            claim.why == "1 of the steps by the hit rate won, as their gain is not always defined"
        )
