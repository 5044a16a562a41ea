"""The suite, and what fires its masking flags: made-up rows, plain models and one that masks."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import attack as attack_config
from tests.attacks.cases import DATASET, KS, K, case
from uatmc_jax.attacks import Lists, Options, attack_batches, join, make_victim
from uatmc_jax.benchmark.suite import ORDER, suite_settings
from uatmc_jax.benchmark.summary import paired_difference, summarize
from uatmc_jax.benchmark.verdict import (
    LEAST_EXCESS,
    evaluations,
    information,
    suite_rows,
    threat_of,
    verdict,
)
from uatmc_jax.errors import InputError
from uatmc_jax.report.attack import format_verdicts
from uatmc_jax.settings import AttackRunSettings, from_values, to_dict

SUITE = suite_settings(k=K, surrogates=("other",))
WHERE = {"stage": "adversarial", "which": "best", "epoch": 1, "parameters": "ours"}


def result(name, after, before=0.01, phi=0.0, attack=None, surrogate=None, **more):
    """A result as in a file, of one K unless `after` says for each."""
    attack = SUITE[name] if attack is None else attack
    by_k = [a if isinstance(a, dict) else {str(K): a} for a in after]
    phi = np.broadcast_to(phi, len(by_k))
    if attack.surrogate and surrogate is None:
        surrogate = WHERE | {"parameters": "theirs"}
    return {
        "attack": name,
        "threat_model": to_dict(attack),
        "settings": {"ks": [int(k) for k in by_k[0]]},
        "checkpoint": WHERE,
        "surrogate": surrogate,
        "rows": [
            {"seed": 0, "item": n, "hr_before": dict.fromkeys(a, before), "hr_after": a,
             "utility_after": float(u), **more}
            for n, (a, u) in enumerate(zip(by_k, phi, strict=True))
        ],
    }  # fmt: skip


def flags(*results):
    return [(f["weaker"], tuple(f["stronger"])) for f in verdict(results, K, 500)["masking"]]


ONES = np.ones(20)


def test_the_suite_has_the_published_attacks_and_a_fair_random_search():
    published = attack_config.get_config().attacks
    for name in ("fgsm", "pgd"):
        assert to_dict(suite_settings()[name]) == published[name].to_dict()
    suite = from_values(AttackRunSettings, attack_config.get_config("suite"))
    assert dict(suite.attacks) == suite_settings() and tuple(suite_settings()) == ORDER
    looks = {name: evaluations(to_dict(attack)) for name, attack in SUITE.items()}
    assert looks["pgd"] == 11 and looks["random"] == 301 and looks["apgd_elu"] == 108
    whole = [n for n in ("fgsm", "fgsm_narrow", "pgd", "apgd_elu", "apgd_hinge", "apgd_sigmoid")]
    assert sum(looks[name] for name in whole) >= looks["random"]


def test_the_suite_is_the_best_member_at_each_k_by_itself():
    ours = result("pgd", [{"5": 0.3, "10": 0.4}, {"5": 0.2, "10": 0.9}], any_content_certificate=1)
    theirs = result("apgd_elu", [{"5": 0.3, "10": 0.6}, {"5": 0.5, "10": 0.8}])
    rows = suite_rows([ours, theirs], (5, 10))
    assert [row["hr_after"] for row in rows] == [{"5": 0.3, "10": 0.6}, {"5": 0.5, "10": 0.9}]
    assert rows[0]["winner"] == {"5": "pgd", "10": "apgd_elu"}  # the tie goes to the first
    assert rows[1]["winner"] == {"5": "apgd_elu", "10": "pgd"}
    assert rows[0]["any_content_certificate"] == 1
    with pytest.raises(ValueError, match="same targets"):
        suite_rows([ours, result("fgsm", [0.1])], (5,))


def test_scores_beating_gradients_is_masking_and_the_reverse_is_not():
    pool = [result("pgd", 0.1 * ONES), result("apgd_elu", 0.1 * ONES)]
    pool += [result("apgd_hinge", 0.1 * ONES), result("apgd_sigmoid", 0.1 * ONES)]
    names = ("pgd", "apgd_elu", "apgd_hinge", "apgd_sigmoid")
    assert flags(*pool, result("random", 0.2 * ONES)) == [("random", names)]
    assert flags(*pool, result("random", 0.05 * ONES)) == []
    found = verdict([*pool, result("random", 0.2 * ONES)], K, 500)
    (flag,) = found["masking"]
    assert flag["difference"]["value"] == pytest.approx(0.1) and "scores alone" in flag["why"]
    assert flag["difference"]["over_targets"] == pytest.approx([0.1, 0.1])
    assert found["wins"]["random"] == 20
    assert found["suite"][f"hr@{K}"]["after"]["value"] == pytest.approx(0.2)
    assert json.loads(json.dumps(found)) == found
    text = format_verdicts([found])
    assert "MASKING: a search by scores alone" in text and "| random |" in text
    # Ahead of each gradient attack, but not of their best on each target.
    half = np.arange(20) < 10
    split = [result("pgd", np.where(half, 0.3, 0)), result("apgd_elu", np.where(half, 0, 0.3))]
    split += pool[2:]
    assert flags(*split, result("random", 0.2 * ONES)) == []


def test_a_lead_that_is_small_or_noise_is_none():
    pool = [result(n, 0.5 * ONES) for n in ("pgd", "apgd_elu", "apgd_hinge", "apgd_sigmoid")]
    edge = 0.5 * (1 + LEAST_EXCESS)
    assert flags(*pool, result("random", (edge - 1e-6) * ONES)) == []
    assert len(flags(*pool, result("random", (edge + 1e-6) * ONES))) == 1
    rng = np.random.default_rng(0)
    noisy = 0.5 + 0.02 + 0.2 * rng.normal(size=20)
    assert flags(*pool, result("random", noisy)) == []
    # A hit or two where no gradient attack has any.
    nothing = [result(n, 0 * ONES) for n in ("pgd", "apgd_elu", "apgd_hinge", "apgd_sigmoid")]
    lucky = np.where(np.arange(20) < 2, 0.01, 0)
    assert flags(*nothing, result("random", lucky)) == []
    assert len(flags(*nothing, result("random", 0.01 * ONES))) == 1
    assert flags(*nothing, result("random", 0 * ONES)) == []


def test_more_looks_than_all_gradient_attacks_are_not_compared():
    found = verdict([result("pgd", 0.1 * ONES), result("random", 0.2 * ONES)], K, 50)
    assert found["masking"] == [] and "301 looks" in found["not_compared"][0]
    assert "not told" in format_verdicts([found])
    few = verdict([result("pgd", [0.1] * 9), result("fgsm_narrow", [0.2] * 9)], K, 50)
    assert few["comparisons"] == [] and "9 targets" in few["not_compared"][0]


def test_transfers_are_compared_unless_the_surrogate_is_the_model():
    pgd = result("pgd", 0.1 * ONES)
    carried = result("transfer_other", 0.2 * ONES)
    assert information(carried) == "nothing" and flags(pgd, carried) == [
        ("transfer_other", ("pgd",))
    ]
    itself = result("transfer_other", 0.2 * ONES, surrogate=WHERE)
    assert information(itself) == "gradient" and flags(pgd, itself) == []


def test_a_smaller_radius_should_not_reach_more():
    pgd = result("pgd", 0.1 * ONES)
    assert flags(pgd, result("pgd_half", 0.2 * ONES)) == [("pgd_half", ("pgd",))]
    assert flags(pgd, result("pgd_half", 0.05 * ONES)) == []


def test_one_step_is_compared_with_several_on_the_same_utility_only():
    pgd = result("pgd", 0.1 * ONES, phi=0.1)
    assert flags(pgd, result("fgsm", 0.2 * ONES, phi=0.2)) == []  # another margin
    narrow = result("fgsm_narrow", 0.2 * ONES, phi=0.2)
    assert flags(pgd, narrow) == [("fgsm_narrow", ("pgd",))]
    # Several steps reached the higher Phi: the utility misses the hit rate.
    assert flags(pgd, result("fgsm_narrow", 0.2 * ONES, phi=0.05)) == []


REFUSED = {
    "norm": ({"norm": "l2"}, "config.attacks.pgd.norm = 'l2', but config.attacks.fgsm.norm"),
    "k": ({"k": 9}, "config.attacks.pgd.k = 9"),
    "level": ({"level": "feature"}, "level = 'feature', but"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_threat_model(name):
    changes, message = REFUSED[name]
    attacks = {"fgsm": SUITE["fgsm"], "pgd": SUITE["pgd"].replace(**changes)}
    with pytest.raises(InputError, match=message):
        threat_of({name: to_dict(attack) for name, attack in attacks.items()})


def test_something_to_judge():
    with pytest.raises(InputError, match="no gradient attack on the model itself"):
        threat_of({name: to_dict(SUITE[name]) for name in ("random", "pgd_half", "transfer_other")})
    with pytest.raises(InputError, match=r"config.ks = \(5,\): the verdict at K = 7"):
        verdict([result("pgd", [0.1])], 7, 10)
    with pytest.raises(ValueError, match="one checkpoint"):
        verdict([result("pgd", [0.1]), result("pgd", [0.1]) | {"checkpoint": {}}], K, 10)


def test_paired_difference():
    ours, theirs = result("pgd", [0.1, 0.3])["rows"], result("pgd", [0.2, 0.5])["rows"]
    found = paired_difference(ours, theirs, lambda row: row["hr_after"][str(K)], 200)
    assert found["value"] == pytest.approx(0.15)
    assert found["over_targets"] == pytest.approx([0.1, 0.2])
    with pytest.raises(ValueError, match="same targets"):
        paired_difference(ours, theirs[:1], lambda row: 0.0, 10)


# On a model of 2 x 4 coordinates few random proposals do; each gradient attack compiles anew.
MEMBERS = {
    "pgd": SUITE["pgd"],
    "apgd_elu": SUITE["apgd_elu"],
    "random": SUITE["random"].replace(steps=100),
}
ITEMS = np.arange(0, DATASET.n_items, 2, dtype=np.int32)


def by_k(rates):
    return [dict(zip(map(str, KS), row, strict=True)) for row in rates.tolist()]


def attacked(victim, members, eps):
    """Results of real attacks, as `run_attacks` has them."""
    results = []
    for name, chosen in members.items():
        chosen = chosen.replace(eps=eps * chosen.eps / 0.1)
        key, options = jax.random.key(0), Options(KS)
        found = join(list(attack_batches(chosen, victim, ITEMS, key, options=options)))
        made = result(name, by_k(found.hr_after), phi=found.utility_after, attack=chosen)
        for row, before in zip(made["rows"], by_k(found.hr_before), strict=True):
            row["hr_before"] = before
        results.append(made)
    return results


def on_a_grid(model, width):
    """The model with z rounded before it is read: as harmful, and of gradient zero."""

    def rounded(z):
        return tuple(jnp.round(x / width) * width for x in z)

    return model._replace(
        name="rounding",
        encode=lambda encoder, z, graph: model.encode(encoder, rounded(z), graph),
        encode_rows=lambda encoder, z: model.encode_rows(encoder, rounded(z)),
        affine_in_content=False,
    )


@pytest.mark.parametrize("eps", [0.1, 0.3])
def test_a_plain_model_raises_no_flag(eps):
    c = case("vbpr")
    results = attacked(c.victim, MEMBERS | {"pgd_half": SUITE["pgd_half"]}, eps)
    found = verdict(results, K, 1000)
    assert len(found["comparisons"]) == 2 and found["masking"] == []
    rows = suite_rows(results, KS)
    for member in results:
        for best, row in zip(rows, member["rows"], strict=True):
            assert all(best["hr_after"][str(k)] >= row["hr_after"][str(k)] for k in KS)
    assert found["suite"] == summarize(rows, KS, 1000)


def test_a_model_that_masks_its_gradients_is_found_out():
    c = case("vbpr")
    model = on_a_grid(c.model, 0.1)
    lists = Lists(k=max(KS), block_users=16, block_items=32)
    victim = make_victim(model, c.params, DATASET, c.users, lists=lists)
    results = attacked(victim, MEMBERS, 0.3)
    pgd = results[0]["rows"]
    assert all(row["hr_after"] == row["hr_before"] for row in pgd)  # nothing to go by
    found = verdict(results, K, 1000)
    assert [flag["weaker"] for flag in found["masking"]] == ["random"]
