"""The door: README's lines, and that what they compute is what the commands write."""

import contextlib
import dataclasses
import io
import json
import re

import numpy as np
import pytest

import uatmc_jax as um
from configs import attack as attack_config
from configs import test as test_config
from tests.conftest import ROOT
from uatmc_jax import api, checkpoint
from uatmc_jax.benchmark.deltas import read_deltas
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.data import write_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.opened import open_run, open_runs
from uatmc_jax.settings import AttackRunSettings, from_config, from_values
from uatmc_jax.training import train_and_evaluate

SMALL = {"n_users": 60, "n_items": 60, "n_interactions": 600}


def readme_lines():
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)


def test_readme_lines_are_those_of_the_tests_and_at_most_fifteen():
    lines = [line for line in readme_lines().splitlines() if line.strip()]
    assert len(lines) <= 15
    assert set(um._API) == set(api.__all__) <= set(dir(um))


def run_lines(source):
    """What the lines print, and the names they leave."""
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "README.md", "exec"), names)
    return printed.getvalue(), names


def check_lines(source):
    """The lines run; what they find is in order."""
    printed, names = run_lines(source)
    assert len(re.findall(r"^0\.\d+ \[", printed, re.M)) == 2  # recall, then HR by eps
    found, bound = names["found"], names["bound"]
    assert found.hr_after.shape == bound.shape == (3, len(names["items"]))
    assert (found.hr_after <= bound + 1e-6).all()
    assert (np.diff(bound, axis=0) >= 0).all()


def test_readme_lines_run_on_small_data():
    source = readme_lines()
    for whole, small in (
        ("um.synthetic()", f"um.synthetic(3, **{SMALL})"),
        ("dim=64", "dim=8"),
        ("um.pretrain(epochs=25)", "um.pretrain(epochs=2, batch_size=200)"),
        ("exact(", "exact(epochs=2, batch_size=200, "),
        ("sample=100", "sample=6"),
    ):
        assert source.count(whole) == 1
        source = source.replace(whole, small)
    check_lines(source)


@pytest.mark.slow
def test_readme_lines_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_lines(readme_lines())
    assert not list(tmp_path.iterdir())  # no files


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the train command on the small data, and the data's folder."""
    folder = tmp_path_factory.mktemp("door")
    data = dataclasses.replace(um.synthetic(3, **SMALL), name="small")
    write_dataset(data, folder / "data" / "small")
    config = test_config.get_config()
    config.data.source, config.data.name, config.data.root = "mmrec", "small", f"{folder}/data"
    config.adversarial.defense, config.adversarial.lam = "exact", 0.1
    config.adversarial.norm, config.adversarial.eps = "linf", 0.2
    settings = from_config(config)
    train_and_evaluate(settings, folder / "run")
    return folder / "run", folder / "data" / "small", settings


def test_fit_is_the_train_command(run):
    folder, data_folder, settings = run
    data = um.load(data_folder)
    assert data.name == "small" and data.fingerprint == open_run(folder).data.fingerprint
    model = um.models.vbpr(data.sizes, **{"dim": 8, "hidden": {"visual": (16,), "textual": (16,)}})
    clean = um.fit(model, data, settings.pretrain, seed=settings.seed)
    assert checkpoint.digest(clean) == open_run(folder, "pretrain/best").where["parameters"]
    fields = {f: getattr(settings.adversarial, f) for f in ("epochs", "batch_size", "mu")}
    exact = um.defenses.exact(lam=0.1, eps=0.2, **fields)
    hard = um.fit(model, data, exact, init=clean, seed=settings.seed)
    assert checkpoint.digest(hard) == open_run(folder, "adversarial/latest").where["parameters"]
    best = um.fit(model, data, exact, init=clean, seed=settings.seed, keep="best")
    assert checkpoint.digest(best) == open_run(folder, "adversarial/best").where["parameters"]


def test_attack_evaluate_and_certify_are_the_attack_command(run):
    folder, *_ = run
    config = attack_config.get_config()
    config.targets.rule, config.targets.quantiles, config.targets.sample = "quantile", (0, 0.5), 6
    config.user_share = 1.0
    settings = from_values(AttackRunSettings, config)
    (opened,) = open_runs(folder, [("adversarial", "latest")])
    (result,), _ = run_attacks(settings, [opened], only=["pgd"])

    again = um.open_run(folder, "adversarial/latest")
    victim = um.victim(again.model, again.params, again.data)
    items = um.targets(again.data, quantiles=(0, 0.5), sample=6, seed=settings.seeds[0])
    assert items.tolist() == [row["item"] for row in result["rows"]]
    found = um.attack(um.attacks.pgd(), victim, items, seed=settings.seeds[0])
    bound = um.certify(victim, items, norm="linf", eps=0.1)
    kept = read_deltas(result)
    for n, row in enumerate(result["rows"]):
        assert row["hr_after"]["50"] == pytest.approx(found.hr_after[n], abs=1e-7)
        assert row["hr_before"]["50"] == pytest.approx(found.hr_before[n], abs=1e-7)
        assert row["budget_certificate"]["50"] == pytest.approx(bound[n], abs=1e-7)
        for name, delta in zip(again.data.modalities, found.delta, strict=True):
            np.testing.assert_allclose(kept.rows[name][n], delta[n], atol=1e-6)
    summary = json.loads((folder / "summary.json").read_text())
    best = um.open_run(folder, "adversarial/best")
    recall = um.evaluate(um.victim(best.model, best.params, best.data))["recall@20"]
    assert recall == pytest.approx(summary["stages"]["adversarial"]["test"]["recall@20"], abs=1e-7)


def test_recommend_is_a_plain_sort_of_the_scores(run):
    folder, *_ = run
    opened = um.open_run(folder)
    known = np.random.default_rng(0).permutation(opened.data.n_users)  # in no order
    victim = um.victim(opened.model, opened.params, opened.data, known)
    users = np.array([7, 0, 7])
    lists = um.recommend(victim, users, k=5)
    scores = np.asarray(victim.user @ victim.item.T, np.float64)
    place = {int(user): n for n, user in enumerate(np.asarray(victim.users))}
    train = opened.data.train
    for n, user in enumerate(users):
        own = scores[place[int(user)]].copy()
        own[train.items[train.users == user]] = -np.inf
        assert lists.items[n].tolist() == np.argsort(-own, kind="stable")[:5].tolist()
        np.testing.assert_allclose(lists.scores[n], np.sort(own)[::-1][:5], rtol=1e-5)
    assert [row["rank"] for row in lists.rows()] == [1, 2, 3, 4, 5] * 3
    with pytest.raises(InputError, match="user 60 is none of the victim's"):
        um.recommend(victim, [60])
    most = 60 - max(np.bincount(train.users)[[0, 7]])
    assert not np.isinf(um.recommend(victim, [0, 7], k=most).scores).any()
    with pytest.raises(InputError, match=f"wanted a number from 1 to {most}, the items"):
        um.recommend(victim, [0, 7], k=most + 1)


def test_several_budgets_are_the_single_ones(run):
    folder, *_ = run
    opened = um.open_run(folder)
    victim = um.victim(opened.model, opened.params, opened.data)
    items, eps = np.arange(4), (0.02, 0.1)
    for chosen in (um.attacks.pgd(k=10), um.attacks.apgd(k=10, steps=5), um.attacks.fgsm(k=10)):
        together = um.attack(chosen, victim, items, eps=eps)
        for n, budget in enumerate(eps):
            alone = um.attack(chosen, victim, items, eps=budget)
            np.testing.assert_array_equal(together.hr_after[n], alone.hr_after)
            for both, one in zip(together.delta, alone.delta, strict=True):
                np.testing.assert_allclose(both[n], one, atol=1e-6)
    rows = together.rows()
    assert [row["eps"] for row in rows] == [0.02] * 4 + [0.1] * 4
    assert [row["hr_after"] for row in rows] == pytest.approx(together.hr_after.ravel().tolist())


def test_what_cannot_be_asked(run):
    folder, *_ = run
    opened = um.open_run(folder)
    victim = um.victim(opened.model, opened.params, opened.data)
    for call, message in (
        (lambda: um.attack(um.attacks.pgd(k=60), victim, [0]), "K = 60"),
        (lambda: um.attack(um.attacks.pgd(), victim, [0], eps=-1.0), "eps = -1.0"),
        (lambda: um.attack(um.attacks.pgd(), victim, [60]), "item 60: no such number"),
        (lambda: um.attack(um.attacks.pgd(), victim, [-1]), "item -1: no such number"),
        (lambda: um.attack(um.attacks.pgd(), victim, []), "at least one item"),
        (lambda: um.attack(um.attacks.pgd(modalities=("image",)), victim, [0]), "'image' is not"),
        (lambda: um.attack(um.attacks.apgd(surrogate="other"), victim, [0]), "transfer_batches"),
        (lambda: um.certify(victim, [0], norm="Linf", eps=0.1), "norm = 'Linf'"),
        (lambda: um.certify(victim, [0], eps=(0.1, -0.1)), "eps = -0.1"),
        (lambda: um.certify(victim, [0], eps=0.1, modalities=("image",)), "'image' is not"),
        (lambda: um.certify(victim, [60], eps=0.1), "item 60: no such number"),
        (lambda: um.certify(victim, [0], ks=60), "K = 60"),
        (lambda: um.victim(opened.model, opened.params, opened.data, [0, 60]), "users: wanted"),
        (lambda: um.victim(opened.model, opened.params, opened.data, [1, 1]), "users: wanted"),
        (lambda: um.attacks.pgd(norm="l1"), "norm = 'l1'"),
        (lambda: um.evaluate(victim, ks=(61,)), "K = 61, but there are 60 items"),
        (lambda: um.targets(opened.data, ids=["nothing"]), "'nothing'"),
        (lambda: um.fit(opened.model, opened.data, um.defenses.exact()), "give its parameters"),
        (lambda: um.fit(opened.model, opened.data, um.pretrain(epochs=0)), "epochs = 0"),
        (lambda: um.fit(opened.model, opened.data, um.pretrain(init_from="x")), "init_from = 'x'"),
        (lambda: um.load(folder / "nowhere"), "nowhere is not a folder"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(AttributeError, match="no attribute 'atack'"):
        um.atack  # noqa: B018
