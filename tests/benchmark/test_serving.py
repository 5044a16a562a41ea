"""Evaluations by policy: the right search for each model, nothing run where nothing moves."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import attack as attack_config
from tests.attacks.test_relisting import dense_hits
from uatmc_jax import store
from uatmc_jax.attacks import (
    Options,
    attack,
    attack_batches,
    certificate_said,
    certify_lists,
    collateral,
    copying,
    join,
    pgd,
    served,
)
from uatmc_jax.attacks.batching import scorer_of
from uatmc_jax.attacks.policies import require_search
from uatmc_jax.attacks.scoring.own_row import OWN_ROW
from uatmc_jax.benchmark import run as run_module
from uatmc_jax.benchmark.run import run_attacks, victim_of
from uatmc_jax.benchmark.verdict import verdict
from uatmc_jax.data import make_synthetic
from uatmc_jax.errors import InputError
from uatmc_jax.models import (
    Served,
    bm3,
    dragon,
    freedom,
    lattice,
    lightgcn,
    mgcn,
    mmgcn,
    project_catalogue,
    vbpr,
)
from uatmc_jax.opened import OpenedRun
from uatmc_jax.report import format_attacks
from uatmc_jax.report.attack import format_verdicts
from uatmc_jax.settings import AttackRunSettings, Settings, as_recorded, from_values, to_dict

DATA = make_synthetic(5, n_users=50, n_items=40, n_interactions=400)
K, KS = 6, (3, 6)
MODELS = {
    "freedom": freedom(DATA.sizes, dim=4, n_neighbours=4),
    "bm3": bm3(DATA.sizes, dim=4),
    "mgcn": mgcn(DATA.sizes, dim=4, n_neighbours=4),
    "lattice": lattice(DATA.sizes, dim=4, n_neighbours=4),
    "dragon": dragon(DATA.sizes, dim=4, n_neighbours=4, n_cobuyers=4, mlp_width=8),
    "lightgcn": lightgcn(DATA.sizes, dim=4),
    "lightgcn_content": lightgcn(DATA.sizes, dim=4, content=True),
}


@functools.cache
def parameters(name):
    """Random ones, large enough that edits move ranks."""
    rng, model = np.random.default_rng(0), MODELS[name]
    params = model.init(jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)


def opened(name, folder):
    """A run of it, without having trained one."""
    model, params = MODELS[name], parameters(name)
    z = project_catalogue(model, params, DATA.on_device.features)
    where = {"stage": "pretrain", "which": "best", "epoch": 1, "parameters": name}
    return OpenedRun(folder, model, params, DATA, z, Settings(), where)


def evaluation(preset, **changes):
    config = attack_config.get_config(preset)
    config.targets.rule, config.targets.quantiles = "quantile", (0.0, 1.0)
    config.targets.sample, config.bootstrap, config.permutations = 5, 20, 2
    config.ks, config.ranks = KS, True
    for one in config.attacks.values():
        one.k = K
    config.update(changes)
    return from_values(AttackRunSettings, config)


def run(name, folder, preset, **changes):
    return run_attacks(evaluation(preset, **changes), [opened(name, folder)], show_progress=False)


@pytest.mark.parametrize("policy", ["own_row", "full"])
def test_freedom_is_searched_by_copying_and_its_rows_say_how(policy, tmp_path):
    changes = {"serving": policy, "collateral": policy == "full"}
    results, contents = run("freedom", tmp_path, "lists", **changes)
    case = opened("freedom", tmp_path)
    settings = evaluation("lists", **changes)
    victim = victim_of(case, settings, settings.attacks, 999)
    for result in results:
        assert result["serving"] == policy and result["blind"] is None
        threat = result["threat_model"]
        assert (threat["search"], threat["level"], threat["norm"]) == ("relist", "feature", "l2")
        for row in result["rows"]:
            assert row["serving"] == policy and row["scorer"] == "lists"
            assert row["utility_by_step"] == [row["utility_before"], row["utility_after"]]
            assert row["utility_after"] == row["hr_after"][str(K)] >= row["hr_before"][str(K)]
            assert row["rank_after"] >= 1
            if policy == "own_row":
                bound = row["budget_certificate"], row["any_content_certificate"]
                for k in map(str, KS):
                    assert row["hr_after"][k] <= bound[0][k] + 1e-6 <= bound[1][k] + 2e-6
                expected = certify_lists(victim, [row["item"]], eps=threat["eps"], k=K)[0]
                assert bound[0][str(K)] == pytest.approx(expected, abs=1e-6)
            else:
                assert "budget_certificate" not in row
                assert row["collateral"]["users"] == 0
    # The numbers, from the dense rebuild with the perturbation that was kept.
    with np.load(results[0]["file"].replace(".json", ".npz")) as kept:
        item = int(kept["item"][0])
        rows = tuple(
            x[item] + kept[f"delta_{m}"][0]
            for m, x in zip(DATA.modalities, DATA.features, strict=True)
        )
    user, items = served(victim, item, rows, policy)
    row = results[0]["rows"][0]
    for k in KS:
        assert row["hr_after"][str(k)] == pytest.approx(
            dense_hits(victim, item, user, items, k).mean(), abs=1e-6
        )
    scores = np.asarray(user @ items.T, float)
    rank = (scores >= scores[:, [item]]).sum(axis=1).mean()
    assert row["rank_after"] == pytest.approx(rank, abs=1e-4)
    text = format_attacks(results, contents)
    assert f"serving policy {policy}" in text and "other listings copied" in text
    said = "Budget certificate" if policy == "own_row" else "under 'full', where its rivals move"
    assert said in text
    again = run("freedom", tmp_path, "lists", **changes)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps((results, contents)))


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("freedom", "frozen"),
        ("bm3", "full"),
        # The same of the others, each of which compiles anew.
        pytest.param("lightgcn", "own_row", marks=pytest.mark.slow),
        pytest.param("mgcn", "frozen", marks=pytest.mark.slow),
    ],
)
def test_where_nothing_moves_nothing_is_run_and_that_is_said(name, policy, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "attack_batches", None)
    monkeypatch.setattr("uatmc_jax.attacks.listed.listings", None)
    results, contents = run(name, tmp_path, "published", serving=policy)
    for result in results:
        assert result["blind"] and result["serving"] == policy
        for row in result["rows"]:
            assert row["hr_before"] == row["hr_after"] == row["budget_certificate"]
            assert row["rank_before"] == row["rank_after"] and row["scorer"] == "none"
    text = format_attacks(results, contents)
    assert f"Nothing was run: {results[0]['blind']}" in text
    found = verdict(results, K, 20)
    assert found["not_compared"] == [results[0]["blind"]] and found["unsearched"] == []


@pytest.mark.parametrize("policy", ["own_row", pytest.param("full", marks=pytest.mark.long)])
def test_lists_beside_gates_are_searched_by_copying_too(policy, tmp_path):
    """What the row says is what the edit that was kept gives; nothing is left to be said."""
    changes = {"serving": policy, "collateral": policy == "full"}
    results, _ = run("mgcn", tmp_path, "lists", **changes)
    found = verdict(results, K, 20)
    assert found["unsearched"] == [] and found["members"]["relist"]["information"] == "lists"
    settings = evaluation("lists", **changes)
    victim = victim_of(opened("mgcn", tmp_path), settings, settings.attacks, 999)
    with np.load(results[0]["file"].replace(".json", ".npz")) as kept:
        deltas = [kept[f"delta_{m}"] for m in DATA.modalities]
    for n, row in enumerate(results[0]["rows"][:2]):
        both = zip(deltas, DATA.features, strict=True)
        rows = tuple(x[row["item"]] + delta[n] for delta, x in both)
        expected = dense_hits(victim, row["item"], *served(victim, row["item"], rows, policy), K)
        assert row["hr_after"][str(K)] == pytest.approx(expected.mean(), abs=1e-6)
        assert row["hr_after"][str(K)] >= row["hr_before"][str(K)] and row["scorer"] == "lists"
        if policy == "own_row":
            bound = certify_lists(victim, [row["item"]], eps=0.1, k=K)[0]
            assert row["budget_certificate"][str(K)] == pytest.approx(bound, abs=1e-6)
            assert bound >= row["hr_after"][str(K)] - 1e-6
    # What bounds a row is known from the model's declarations, and said where nothing does.
    said = "budget" if policy == "own_row" else "no certificate for mgcn under 'full'"
    assert results[0]["certificate"].startswith(said)
    on_z = certificate_said(pgd(), MODELS["lattice"], "own_row")
    assert on_z == "no budget certificate for lattice but of edits of raw features, l2"


def test_lists_that_no_member_searched_are_named(tmp_path):
    results, _ = run("freedom", tmp_path, "lists")
    found = verdict(results, K, 20)
    assert found["unsearched"] == [] and found["serving"] == "full"
    assert found["members"]["relist"]["information"] == "lists"
    # As a model with gates beside its lists has them, attacked by an ascent alone.
    ascent = {"search": "pgd", "keep": "last"}
    both = {"model": "mgcn", "reads": ["z", "raw"]}
    changed = [r | both | {"threat_model": r["threat_model"] | ascent} for r in results]
    found = verdict(changed, K, 20)
    assert "mgcn also lists neighbours by raw features" in found["unsearched"][0]
    text = format_verdicts([found])
    assert "no member searched these lists" in text and "not told" in text


@pytest.mark.parametrize("name", ["mgcn", pytest.param("lightgcn_content", marks=pytest.mark.slow)])
def test_an_ascent_under_own_row_is_the_definitions(name):
    """Hit rates against the policy's dense embeddings; a step raises Phi."""
    run_of = opened(name, None)
    settings = evaluation("published", serving="own_row", user_share=1.0)
    victim = victim_of(run_of, settings, settings.attacks, 999)
    model = victim.model
    assert scorer_of(model, serving="own_row") is OWN_ROW
    chosen, items = pgd(k=K, eps=0.3, steps=1, utility="elu"), np.array([4, 9], np.int32)
    options = Options(KS, serving="own_row")
    found = join(attack_batches(chosen, victim, items, jax.random.key(0), options=options))
    assert (found.utility_after > found.utility_before).all()
    assert set(found.scorers) == {"own row"}
    for n, item in enumerate(items):
        z = tuple(x.at[item].set(row[n]) for x, row in zip(victim.z, found.z, strict=True))
        own = model.own_row(
            victim.encoder, Served(victim.z, victim.graph), Served(z, victim.graph), item
        )
        table = victim.item.at[item].set(own)
        for i, k in enumerate(KS):
            expected = dense_hits(victim, item, victim.user, table, k).mean()
            assert found.hr_after[n, i] == pytest.approx(expected, abs=1e-6)


def test_collateral_counts_the_others():
    run_of = opened("lightgcn_content", None)
    settings = evaluation("published", user_share=1.0)
    victim = victim_of(run_of, settings, settings.attacks, 999)
    item, rows = 7, tuple(-x[7] for x in DATA.features)
    edited = served(victim, item, rows, "full")
    found = collateral(victim, item, edited, K)
    lists = []
    for user, items in ((victim.user, victim.item), edited):
        scores = np.array(user @ items.T)
        scores[:, item] = -np.inf
        lists.append([set(np.argsort(-row, kind="stable")[:K].tolist()) for row in scores])
    changed = [a != b for a, b in zip(*lists, strict=True)]
    assert found.lists == pytest.approx(np.mean(changed)) and found.lists > 0
    net = np.zeros(DATA.n_items)
    for before, after in zip(*lists, strict=True):
        net[list(after - before)] += 1
        net[list(before - after)] -= 1
    assert net[found.gained] == net.max() == found.gained_by * len(lists[0])
    assert net[found.lost] == net.min() == -found.lost_by * len(lists[0])
    moved = np.abs(np.asarray(edited.item - victim.item)).max(axis=1) > 1e-4
    assert found.items == moved.sum() - moved[item] > 0 and found.users > 0
    nothing = collateral(victim, item, served(victim, item, rows, "own_row"), K)
    assert (nothing.items, nothing.users, nothing.lists, nothing.gained) == (0, 0, 0.0, None)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(InputError, match="'weekly': wanted 'frozen' or 'own_row' or 'full'"):
        evaluation("published", serving="weekly")
    with pytest.raises(InputError, match=r"config\.collateral = True: wanted False"):
        evaluation("lists", serving="own_row")
    with pytest.raises(InputError, match="attack:lists"):
        run("freedom", tmp_path, "published")
    with pytest.raises(
        InputError, match="search = 'relist': model lightgcn declares no item lists"
    ):
        run("lightgcn_content", tmp_path, "lists")
    victim = victim_of(
        opened("lightgcn_content", tmp_path), evaluation("published"), {"a": pgd(k=K)}, 999
    )
    for options, said in (
        (Options(serving="frozen"), "under the policy 'frozen'.*nothing to attack"),
        (Options(serving="own_row", scorer="dense"), "computes everything anew"),
    ):
        with pytest.raises(InputError, match=said):
            attack(pgd(k=K), victim, [1], options=options)
    other = mmgcn(DATA.sizes, dim=4)
    with pytest.raises(InputError, match="model mmgcn does not say what it is"):
        require_search(other, pgd(), "own_row")
    with pytest.raises(InputError, match="norm = 'linf': wanted 'l2' under search = 'relist'"):
        copying(norm="linf")
    assert scorer_of(vbpr(DATA.sizes), serving="own_row") is scorer_of(vbpr(DATA.sizes))


def test_several_budgets_of_a_copy_in_one_call(tmp_path):
    victim = victim_of(opened("freedom", tmp_path), evaluation("lists"), {"a": copying(k=K)}, 999)
    found = attack(copying(k=K), victim, [3, 8], eps=(0.1, 2.0))
    assert found.hr_after.shape == (2, 2) and found.delta[0].shape == (2, 2, 64)
    one = attack(copying(k=K), victim, [3, 8], eps=2.0)
    np.testing.assert_array_equal(found.hr_after[1], one.hr_after)


def test_results_of_before_there_were_policies_are_read_as_what_they_were(tmp_path):
    results, _ = run("freedom", tmp_path, "lists")
    file = pathlib.Path(results[0]["file"])
    before = store.read_json(file)
    for name in ("serving", "reads", "blind", "collateral"):
        del before[name]
    before["rows"] = [{k: v for k, v in row.items() if k != "serving"} for row in before["rows"]]
    store.write_json(file, before)
    (again, _), _ = run("freedom", tmp_path, "lists")
    assert again["serving"] == "full" and again["reads"] == ["raw"] and again["blind"] is None
    assert {row["serving"] for row in again["rows"]} == {"full"}
    with pytest.raises(InputError, match="nothing to score"):
        scorer_of(MODELS["mgcn"], serving="frozen")


def test_policies_are_in_no_digest_of_before():
    settings = to_dict(evaluation("published"))
    recorded = as_recorded(AttackRunSettings, settings)
    assert "serving" not in recorded and "collateral" not in recorded
    recorded = as_recorded(AttackRunSettings, settings | {"serving": "own_row"})
    assert recorded["serving"] == "own_row"
