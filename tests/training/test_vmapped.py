"""Trainings under one vmap against the same trainings alone."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import test as test_config
from tests.training.test_run import SMALL
from uatmc_jax import checkpoint, owner
from uatmc_jax.data import make_synthetic
from uatmc_jax.errors import CollapsedError, DivergedError, InputError, Interrupted
from uatmc_jax.settings import from_config
from uatmc_jax.training import run as run_module
from uatmc_jax.training import train_and_evaluate, train_vmapped
from uatmc_jax.training import vmapped as vmapped_module

DATASET = make_synthetic(3, **SMALL)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (run_module, vmapped_module):
        monkeypatch.setattr(module, "open_dataset", lambda settings: DATASET)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a run of stage 1."""
    config, folder = test_config.get_config(), tmp_path_factory.mktemp("vmapped") / "source"
    config.pretrain.epochs, config.adversarial.epochs = 1, 0
    train_and_evaluate(from_config(config), folder, dataset=DATASET)
    return folder


@pytest.fixture
def pretrained(config, source):
    config.pretrain.init_from = str(source)
    config.pretrain.epochs, config.adversarial.epochs = 1, 2
    return config


def members(config):
    """Four that differ in everything that may differ."""
    found = {}
    for n, (lam, beta, eps, seed) in enumerate(
        [(1.0, 4.0, 0.1, 999), (5.0, 4.0, 0.1, 999), (5.0, 1.0, 0.3, 999), (5.0, 4.0, 0.1, 7)]
    ):
        config.adversarial.lam, config.adversarial.beta = lam, beta
        config.adversarial.eps, config.seed = eps, seed
        found[f"member{n}"] = from_config(config)
    return found


def parameters(workdir):
    like = checkpoint.restore(workdir, "adversarial", "latest").params
    return jax.tree.leaves(like)


def visible(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_each_member_is_the_training_it_would_be_alone(pretrained, tmp_path):
    pretrained.adversarial.train_projector_head = True
    chosen = members(pretrained)
    told = []
    summaries = train_vmapped(chosen, tmp_path / "runs", vmapped=3, on_epochs=told.append)
    assert sum(told) == 4 * 2
    for name, settings in chosen.items():
        alone = train_and_evaluate(settings, tmp_path / "alone" / name)
        expected = alone["stages"]["adversarial"]["at_last_epoch"]["test"]
        found = summaries[name]["stages"]["adversarial"]["at_last_epoch"]["test"]
        assert found == pytest.approx(expected, abs=2e-3)
        for a, b in zip(
            parameters(tmp_path / "runs" / name), parameters(tmp_path / "alone" / name), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)
    # They are not one and the same.
    flat = [
        np.concatenate([np.ravel(x) for x in parameters(tmp_path / "runs" / f"member{n}")])
        for n in range(4)
    ]
    assert all(np.abs(flat[0] - other).max() > 1e-4 for other in flat[1:])


def test_an_interrupted_chunk_goes_on_to_the_same_bits(pretrained, tmp_path, monkeypatch):
    chosen = members(pretrained)
    whole = train_vmapped(chosen, tmp_path / "whole", vmapped=2)
    calls = []

    class Stop:
        def __enter__(self):
            return lambda: len(calls) == 3

        def __exit__(self, *_):
            return False

    with monkeypatch.context() as patch:
        patch.setattr(vmapped_module, "stop_on_interrupt", Stop)
        with pytest.raises(Interrupted):
            train_vmapped(chosen, tmp_path / "cut", vmapped=2, on_epochs=calls.append)
    assert visible(tmp_path / "cut") == ["member0", "member1"]
    told = []
    cut = train_vmapped(chosen, tmp_path / "cut", vmapped=2, on_epochs=told.append)
    assert sum(told) == 4  # the second chunk: one epoch that was there, one that was not
    hidden = [p.name for p in (tmp_path / "cut").rglob(".*") if p.name != owner.LOCK]
    assert hidden == []
    for name in chosen:
        assert (
            cut[name]["stages"]["adversarial"]["at_last_epoch"]
            == whole[name]["stages"]["adversarial"]["at_last_epoch"]
        )
        for a, b in zip(
            parameters(tmp_path / "whole" / name), parameters(tmp_path / "cut" / name), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_what_is_complete_is_left_alone(pretrained, tmp_path, monkeypatch):
    chosen = members(pretrained)
    few = {name: chosen[name] for name in ("member0", "member1")}
    train_vmapped(few, tmp_path / "runs", vmapped=2)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    monkeypatch.setattr(vmapped_module, "adversarial_parts", None)  # nothing is trained
    summaries = train_vmapped(few, tmp_path / "runs", vmapped=2)
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    assert summaries["member0"]["stages"]["adversarial"]["trained_together_with"] == list(few)


def test_a_run_finished_in_other_company_is_not_trained_over(pretrained, tmp_path, monkeypatch):
    """Cut off together, one trained alone since: it stays as it is, the others go on."""
    chosen = members(pretrained)
    few = {name: chosen[name] for name in ("member0", "member1")}
    calls = []
    with monkeypatch.context() as patch:
        stop = contextlib.nullcontext(lambda: len(calls) == 1)
        patch.setattr(vmapped_module, "stop_on_interrupt", lambda: stop)
        with pytest.raises(Interrupted):
            train_vmapped(few, tmp_path / "runs", vmapped=2, on_epochs=calls.append)
    train_vmapped({"member1": few["member1"]}, tmp_path / "runs", vmapped=2)
    alone = (tmp_path / "runs" / "member1" / "summary.json").read_bytes()
    train_vmapped(few, tmp_path / "runs", vmapped=2)
    assert (tmp_path / "runs" / "member1" / "summary.json").read_bytes() == alone
    assert visible(tmp_path / "runs") == ["member0", "member1"]


def test_refusals(pretrained, tmp_path):
    chosen = members(pretrained)
    one = chosen["member0"]
    other = dataclasses.replace(one, adversarial=dataclasses.replace(one.adversarial, norm="linf"))
    with pytest.raises(InputError, match=r"'a' and 'b' differ in config\.adversarial\.norm"):
        train_vmapped({"a": one, "b": other}, tmp_path, vmapped=2)
    keeping = dataclasses.replace(
        one, adversarial=dataclasses.replace(one.adversarial, content_weight=0.2)
    )
    with pytest.raises(InputError, match=r"'a' and 'b': config\.adversarial\.content_weight is 0"):
        train_vmapped({"a": one, "b": keeping}, tmp_path, vmapped=2)
    with pytest.raises(InputError, match="at least one member"):
        train_vmapped({}, tmp_path, vmapped=2)
    fresh = dataclasses.replace(one, pretrain=dataclasses.replace(one.pretrain, init_from=""))
    with pytest.raises(InputError, match="init_from"):
        train_vmapped({"a": fresh}, tmp_path, vmapped=1)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text(json.dumps(run_module.to_dict(chosen["member1"])))
    with pytest.raises(InputError, match=r"another config\.adversarial\.lam \(\d"):
        train_vmapped({"a": one}, tmp_path, vmapped=1)


def test_divergence_names_the_member(pretrained, tmp_path):
    chosen = members(pretrained)
    bad = chosen["member1"]
    chosen["bad"] = dataclasses.replace(
        bad, adversarial=dataclasses.replace(bad.adversarial, eps=1e18, lam=1e25)
    )
    with pytest.raises(DivergedError, match="member 'bad', stage adversarial, epoch 1"):
        train_vmapped(chosen, tmp_path / "runs", vmapped=5)


def test_a_collapse_names_the_member(pretrained, tmp_path):
    pretrained.adversarial.epochs = 60
    pretrained.adversarial.optimizer.learning_rate = 0.01
    chosen = {}
    for name, mu in (("fine", 0.1), ("crushed", 50.0)):
        pretrained.adversarial.mu = mu
        chosen[name] = from_config(pretrained)
    with pytest.raises(CollapsedError, match=r"'crushed'.*Lower config\.adversarial\.mu") as error:
        train_vmapped(chosen, tmp_path / "runs", vmapped=2)
    assert error.value.member == "crushed"


def test_kept_epochs_are_those_of_a_training_alone(pretrained, tmp_path, monkeypatch):
    """Also where the call was cut off and gone on with."""
    pretrained.checkpoint.keep_every = 1
    chosen = dict(list(members(pretrained).items())[:2])
    monkeypatch.setattr(
        vmapped_module, "stop_on_interrupt", lambda: contextlib.nullcontext(lambda: True)
    )
    with pytest.raises(Interrupted):
        train_vmapped(chosen, tmp_path / "runs", vmapped=2)
    monkeypatch.undo()
    for module in (run_module, vmapped_module):
        monkeypatch.setattr(module, "open_dataset", lambda settings: DATASET)
    train_vmapped(chosen, tmp_path / "runs", vmapped=2)
    for name, settings in chosen.items():
        train_and_evaluate(settings, tmp_path / "alone" / name)
        for which, epoch in (("epoch_1", 1), ("epoch_2", 2)):
            kept = [
                checkpoint.restore(tmp_path / where / name, "adversarial", which)
                for where in ("runs", "alone")
            ]
            assert [one.meta["epoch"] for one in kept] == [epoch, epoch]
            for a, b in zip(*(jax.tree.leaves(one.params) for one in kept), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)
