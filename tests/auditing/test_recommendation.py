"""Which model is recommended, what speaks against the others, and what a reader is told first."""

import copy

import pytest

from configs import audit as audit_config
from uatmc_jax.auditing.recommendation import objections, recommend, warn
from uatmc_jax.auditing.trainings import headlines
from uatmc_jax.settings import AuditSettings, from_values

SETTINGS = from_values(AuditSettings, audit_config.get_config())
K = 50


def entry(name, **changes):
    """A model that nothing speaks against: half the victim's reach at the same recall."""
    part = {
        "interactions": 1212,
        "hits": {"own": 16, "mean": 4},
        "contribution": {"value": 0.02, "over_users": [0.01, 0.03]},
    }
    no_less = {"value": 0.0, "over_users": [-0.002, 0.002]}
    found = {
        "name": name,
        "defense": "exact",
        "recall": {split: {"value": 0.1} for split in ("valid", "test")},
        "content": {
            split: {"all": part, "attacked": part, "cold": part} for split in ("valid", "test")
        },
        "compared": {
            part: {"hit_rate": no_less, "contribution": no_less} for part in ("all", "attacked")
        },
        "deaf": {"any_content": 0.3, "hit_rate": 16 / 1212, "deaf": False},
        "verdict": {
            "masking": [],
            "suite": {f"hr@{K}": {"before": {"value": 0.01}, "after": {"value": 0.1}}},
        },
        "rows": [{"hr_after": {"50": 0.1}} for _ in range(4)],
        "against_victim": {"value": -0.1, "over_targets": [-0.2, -0.01]},
        "other_threats": {},
        "checkpoint": {"stage": "adversarial"},
    }
    for path, value in changes.items():
        *outer, last = path.split("__")
        found = copy.deepcopy(found)
        place = found
        for name in outer:
            place = place[name]
        place[last] = value
    return found


VICTIM = entry("victim", defense=None, rows=[{"hr_after": {"50": 0.2}} for _ in range(4)])
FELL = {"value": -9 / 1212, "over_users": [-0.013, -0.001]}


def test_nothing_speaks_against_a_model_as_good_that_resists():
    assert objections(entry("a"), VICTIM, SETTINGS, K) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"defense": "none"}, "no defence"),
        ({"verdict__masking": [{"weaker": "random"}]}, "masked"),
        ({"recall__valid__value": 0.094}, "keeps 94.0% of the recall"),
        ({"content__valid__all__contribution": {"value": 0.009}}, "keeps 45.0% of what content"),
        ({"compared__attacked__hit_rate": FELL}, "it finds 16 of 1,212 held-out"),
        ({"compared__attacked__contribution": FELL}, "content brings"),
        ({"deaf": {"any_content": 0.001, "hit_rate": 0.01, "deaf": True}}, "deaf to content"),
        ({"rows": [{"hr_after": {"50": 0.19}}] * 4}, "an attack gets 95% as far"),
        ({"rows": [{"hr_after": {"50": 0.4}}] * 4}, "an attack gets 200% as far"),
        ({"against_victim__over_targets": [-0.2, 0.001]}, "not harder to fool beyond chance"),
    ],
)
def test_each_fault_speaks_against_it(change, expected):
    (found,) = objections(entry("a", **change), VICTIM, SETTINGS, K)
    assert expected in found


def test_what_happens_on_all_items_does_not_speak_for_those_attacked():
    """As many hits overall, half of those on the items attacked lost: the average hides it."""
    hidden = entry("a", compared__attacked__hit_rate=FELL)
    assert hidden["recall"] == VICTIM["recall"]
    assert objections(hidden, VICTIM, SETTINGS, K)


def test_too_few_interactions_to_tell_speak_against_nobody():
    nothing = {"hit_rate": None, "contribution": None}
    unknown = entry("a", deaf=None, compared__attacked=nothing)
    unknown["content"]["valid"]["all"]["contribution"] = None
    assert objections(unknown, VICTIM, SETTINGS, K) == []


def judged(*entries):
    found = [copy.deepcopy(VICTIM), *entries]
    for one in found[1:]:
        one["objections"] = objections(one, VICTIM, SETTINGS, K)
    return found


def reaching(name, share, **changes):
    found = entry(name, rows=[{"hr_after": {"50": share}} for _ in range(4)], **changes)
    found["verdict"]["suite"][f"hr@{K}"]["after"]["value"] = share
    return found


def test_recommended_is_the_hardest_to_fool_of_those_good_enough():
    deaf = {"any_content": 0.0, "hit_rate": 0.01, "deaf": True}
    found = judged(reaching("a", 0.1), reaching("b", 0.05), reaching("deaf", 0.001, deaf=deaf))
    assert recommend([headlines(found, 999, K)], SETTINGS) == "b"
    assert recommend([headlines(judged(), 999, K)], SETTINGS) is None
    assert recommend([headlines(judged(reaching("worse", 0.3)), 999, K)], SETTINGS) is None


def test_one_training_can_overturn_a_recommendation():
    first = headlines(judged(reaching("a", 0.1), reaching("b", 0.05)), 999, K)
    fell = reaching("b", 0.05, compared__attacked__hit_rate=FELL)
    second = headlines(judged(reaching("a", 0.1), fell), 1, K)
    assert recommend([first, second], SETTINGS) == "a"
    lost = headlines(judged(reaching("b", 0.05)), 2, K)
    assert recommend([first, second, lost], SETTINGS) is None


def test_a_trial_recommends_nothing():
    trial = from_values(AuditSettings, audit_config.get_config("quick"))
    assert recommend([headlines(judged(reaching("a", 0.05)), 999, K)], trial) is None


def audit_of(*entries, **fields):
    return {
        "entries": list(entries),
        "k": K,
        "settings": {"trial": False},
        "dataset": {"catalogue": {"items": 10_000}},
        "popularity": {"test": 0.05},
        "candidates": {},
        "collapsed": {},
        "recommended": None,
        "hardened_from": None,
        **fields,
    }


def raw(share):
    return {"raw_pgd": {"summary": {f"hr@{K}": {"after": {"value": share}}}}}


@pytest.mark.parametrize(
    ("audit", "expected"),
    [
        (audit_of(VICTIM), []),
        (audit_of(VICTIM, settings={"trial": True}), ["A trial"]),
        # The catalogue that is ranked counts, not the items with interactions.
        (audit_of(VICTIM, dataset={"catalogue": {"items": 400}, "items": 39}), ["chance alone"]),
        (audit_of(VICTIM, popularity={"test": 0.2}), ["no better than recommending what is"]),
        (audit_of(VICTIM, candidates={"free": {"improving": True}}), ["Still improving"]),
        (audit_of(VICTIM, collapsed={"a": "it shrank"}), ["a is not here: it shrank"]),
        (
            audit_of(
                VICTIM,
                entry(
                    "trained_on",
                    defense="none",
                    compared__all__hit_rate={"value": 0.01, "over_users": [0.001, 0.02]},
                ),
            ),
            ["Training on without a defence (trained_on)"],
        ),
        (
            audit_of(
                entry(
                    "victim",
                    content__valid__all__contribution={"value": 1e-4, "over_users": [-0.1, 0.1]},
                )
            ),
            ["does not profit from"],
        ),
        (audit_of(entry("victim", deaf={"deaf": True})), ["is deaf to content"]),
        (audit_of(VICTIM, hardened_from="runs/x"), ["which is hardened itself"]),
        (
            audit_of(VICTIM, entry("b", verdict__masking=[{"why": "odd", "weaker": "random"}])),
            ["b: odd (random)"],
        ),
        (
            audit_of(
                entry("victim", other_threats=raw(0.1)),
                entry("b", other_threats=raw(0.2)),
                recommended="b",
            ),
            ["b is the easier one to fool"],
        ),
    ],
)
def test_a_reader_is_told(audit, expected):
    found = warn(audit)
    assert len(found) == len(expected)
    for text, part in zip(found, expected, strict=True):
        assert part in text
