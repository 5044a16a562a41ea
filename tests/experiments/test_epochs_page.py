"""The page of curves by epoch, of rows that were not all measured alike."""

from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED
from experiments.paper.epochs import PUBLISHED, WITH_5
from experiments.paper.epochs_claims import BPR_LEAK, BY_POINTS, LEAK, UAT, UAT_MC, claims_of
from experiments.paper.epochs_page import _section
from experiments.study_files import Results, by_artefact, left_out


def row(variant, seed, epoch, which, pools, gain):
    attacked = {
        p: {"targets": 100, "before": 0.001, "gain": gain + (p == PUBLISHED)} for p in pools
    }
    return {
        "variant": variant, "seed": seed, "epoch": epoch, "which": which, "attacked": attacked,
        "valid": {"recall@20": 0.07 - epoch / 1e4}, "test": {"recall@20": 0.06},
        "contribution": 0.007, "sensitivity": 0.02, "slope_cosine": 0.9, "slope_length": 9.0,
        "cosine_of_z": 0.99,
    }  # fmt: skip


def rows_of(pools, gains):
    """Of two training seeds, the pools of each given."""
    return [
        row(variant, seed, epoch, which, pools[seed], gain)
        for variant, gain in gains.items()
        for seed in pools
        for epoch, which in ((0, "way"), (10, "way"), (10, "best"))
    ]


def test_seeds_are_compared_on_a_pool_that_all_have():
    """A pool that one of the seeds lacks is shown for the other, and decides nothing."""
    gains = {UAT: 6.0, UAT_MC: 6.1, LEAK: 2.0}
    both = {1: (WITH_5, PUBLISHED), 2: (WITH_5, PUBLISHED)}
    some = {1: (WITH_5,), 2: (WITH_5, PUBLISHED)}
    for pools, gain in ((both, "700 %, 700 %"), (some, "600 %, 600 %")):
        page, claims = "\n".join(_section(rows_of(pools, gains))), claims_of(rows_of(pools, gains))
        assert f"{UAT} at epoch 10, 10: gain {gain}," in claims[0].evidence
        assert "700 %" in page and "600 %" in page
        alone = f"100 {PUBLISHED} (training seed 2 alone)"
        assert (alone in page) == (pools is some)


def test_what_a_plan_leaves_out_takes_no_other_claim_with_it():
    """MMGCN's has no leak of the alignment term."""
    pools = {1: (WITH_5,), 2: (WITH_5,)}
    coordination, zero = claims_of(rows_of(pools, {UAT: 6.0, UAT_MC: 6.1, BPR_LEAK: 5.0}))
    assert "Coordination" in coordination.text and coordination.verdict == HOLDS
    assert "(beta 0)" in zero.text and zero.verdict == HOLDS
    short = [one | {"epoch": one["epoch"] // 5} for one in rows_of(pools, {UAT: 6.0})]
    assert not any("| best tenth" in line for line in _section(short))
    (alone,) = claims_of(rows_of(pools, {UAT: 6.0, BPR_LEAK: 4.0}))
    assert "(beta 0)" in alone.text and alone.verdict == FAILS
    other = rows_of(pools, {UAT_MC: 6.0})
    assert claims_of(other) == [] and any("w/o AT" in line for line in _section(other))


def test_where_a_gain_is_undefined_the_hit_rate_won_is_compared():
    pools = {1: (WITH_5,), 2: (WITH_5,)}
    rows = rows_of(pools, {UAT: 6.0, UAT_MC: 9.0})
    for one in rows:  # UAT-MC has another gain and wins as much
        one["attacked"][WITH_5]["after"] = 0.004
    assert [claim.verdict for claim in claims_of(rows)] == [FAILS]
    rows[-1]["attacked"][WITH_5] |= {"before": 0.0, "after": 0.003, "gain": None}
    (claim,) = claims_of(rows)
    assert claim.verdict == HOLDS and claim.why == BY_POINTS
    assert "UAT-MC at epoch 10, 10: HR@50 won +0.300 points, +0.300 points" in claim.evidence
    assert "900 % (1 of 2 seeds)" in "\n".join(_section(rows))


def test_variants_are_shown_once_all_their_seeds_are_there_and_no_sooner():
    rows = rows_of({1: (WITH_5,), 2: (WITH_5,)}, {UAT: 6.0, UAT_MC: 6.1, LEAK: 2.0})
    rows = [one | {"unit": f"epochs/{one['variant']} ({one['seed']})"} for one in rows]
    rows = [one | {"artefact": "epochs"} for one in rows]

    def shown(*missing):
        there = [one for one in rows if one["unit"] not in missing]
        units = dict.fromkeys(one["unit"] for one in rows)
        plan = [{"unit": u, "seconds": None if u in missing else 1.0} for u in units]
        study = Results("some", {"units": plan}, there)
        found = dict(by_artefact(study)).get("epochs", [])
        return {one["variant"] for one in found}, left_out(study, "epochs")

    assert shown() == ({UAT, UAT_MC, LEAK}, [])
    of_leak = [f"epochs/{LEAK} (1)", f"epochs/{LEAK} (2)"]
    assert shown(of_leak[1]) == ({UAT, UAT_MC}, of_leak)
    assert shown(*of_leak, f"epochs/{UAT} (1)")[0] == {UAT_MC}
    assert shown(*dict.fromkeys(one["unit"] for one in rows))[0] == set()


def test_the_leak_is_held_against_the_uat_that_leaks_too():
    rows = rows_of({1: (WITH_5,), 2: (WITH_5,)}, {UAT: 6.0, BPR_LEAK: 2.5, LEAK: 2.0})
    against = {c.text: c.verdict for c in claims_of(rows) if "tenth epoch" in c.text}
    assert list(against.values()) == [HOLDS, FAILS]


def test_the_leak_is_held_against_uat_at_the_same_epoch():
    """Its best state may be another epoch's: what is lower at every epoch is told from that."""
    pools = {1: (WITH_5,), 2: (WITH_5,)}
    for gain, verdict, share in ((2.0, HOLDS, "0.33"), (4.0, FAILS, "0.67")):
        rows = rows_of(pools, {UAT: 6.0, LEAK: gain})
        for one in rows:
            later = one["variant"] == LEAK and one["which"] == "best"
            one["attacked"][WITH_5]["gain"] -= 3.0 * later
        (found,) = [c for c in claims_of(rows) if "at the same epoch" in c.text]
        assert found.verdict == verdict
        assert f"| {LEAK} | {share} to {share} | {share} to {share} |" in _section(rows)
        assert found.evidence.endswith(", ".join([f"{share} of it at epoch 10"] * 2))
    rows = rows_of(pools, {UAT: 6.0, LEAK: 2.0})
    for one in rows:  # under one of the seeds nothing can be won
        one["attacked"][WITH_5]["gain"] *= one["seed"] == 2
    (found,) = [c for c in claims_of(rows) if "at the same epoch" in c.text]
    assert found.verdict == UNDECIDED
    assert found.evidence.endswith(
        "undefined, as nothing is won against UAT's, 0.33 of it at epoch 10"
    )
