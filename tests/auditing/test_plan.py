"""How an audit is fitted to the data, and which trainings it makes of its settings."""

import dataclasses
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from configs import audit as audit_config
from uatmc_jax.auditing.plan import fit_audit, hardened_settings, name_fields, victim_settings
from uatmc_jax.data import Interactions
from uatmc_jax.errors import InputError
from uatmc_jax.models import LinearVBPRSettings
from uatmc_jax.settings import AuditSettings, from_values, to_dict
from uatmc_jax.training import compatible


def audit(preset="vbpr", **fields):
    config = audit_config.get_config(preset)
    config.update(fields)
    return from_values(AuditSettings, config)


@hypothesis_settings(max_examples=30, deadline=None)
@given(n=st.integers(50, 400_000), steps=st.integers(1, 200))
def test_batches_are_the_power_of_two_nearest_to_the_steps_wanted(dataset, n, steps):
    pairs = Interactions(np.zeros(n, np.int32), np.arange(n, dtype=np.int32))
    fitted, _ = fit_audit(audit(fit_steps=steps), dataclasses.replace(dataset, train=pairs))
    size = fitted.experiment.pretrain.batch_size
    assert size == fitted.experiment.adversarial.batch_size
    powers = [256, 512, 1024, 2048]
    best = min(powers, key=lambda p: abs(np.log2(p) - np.log2(n / steps)))
    assert size == best or abs(np.log2(n / steps) % 1 - 0.5) < 1e-9


def test_users_and_targets_are_fitted_and_can_be_left_alone(dataset):
    trained = len(np.unique(dataset.train.users))
    fitted, notes = fit_audit(audit(fit_users=20), dataset)
    assert round(fitted.attack.user_share * trained) == 20 and "20 users attacked" in notes
    counts = dataset.item_counts
    pool = int((counts <= np.quantile(counts, 0.5)).sum())
    assert fitted.attack.targets.sample == pool < 100
    assert fit_audit(audit(fit_users=10**6), dataset)[0].attack.user_share == 1.0
    left = audit(fit_steps=0, fit_users=0)
    assert fit_audit(left, dataset)[0].attack.user_share == left.attack.user_share
    assert fit_audit(left, dataset)[0].experiment.pretrain == left.experiment.pretrain
    given, _ = fit_audit(audit(), dataset, trained=True)
    assert given.experiment.pretrain == audit().experiment.pretrain
    assert given.experiment.adversarial.batch_size == 256


def test_lists_are_no_longer_than_half_a_small_catalogue(dataset):
    assert dataset.n_items == 50
    fitted, notes = fit_audit(audit(), dataset)
    assert fitted.attack.ks == (10, 20, 25)
    assert {attack.k for attack in fitted.attack.attacks.values()} == {25}
    assert fitted.experiment.eval.ks == (5, 10, 20, 50)
    assert any("25 items" in note for note in notes)
    large = dataclasses.replace(dataset, n_items=1000)
    assert fit_audit(audit(), large)[0].attack.ks == (10, 20, 50)
    with pytest.raises(InputError, match="has 19 items"):
        fit_audit(audit(), dataclasses.replace(dataset, n_items=19))


def test_one_modality_leaves_out_what_needs_two(dataset):
    one = dataclasses.replace(dataset, modalities=("textual",), features=dataset.features[1:])
    fitted, notes = fit_audit(audit(), one)
    assert "uat_mc" not in fitted.harden and "exact_05" in fitted.harden
    assert "uat_mc left out: L_align needs two modalities" in notes
    assert "uat_mc" in fit_audit(audit(), dataset)[0].harden


def test_candidates_train_stage_one_and_entries_stage_two_on_the_victims_weights():
    settings = audit()
    candidates = victim_settings(settings)
    assert set(candidates) == {"aligned", "free"}
    assert (candidates["free"].pretrain.mu, candidates["free"].pretrain.alpha) == (1.0, 0.001)
    assert all(one.adversarial.epochs == 0 for one in candidates.values())
    entries = hardened_settings(settings, candidates["free"], pathlib.Path("here"))
    assert list(entries) == list(settings.harden)
    for name, one in entries.items():
        assert one.pretrain.init_from == "here" and one.adversarial.mu == 1.0
        for field, value in settings.harden[name].items():
            assert getattr(one.adversarial, field) == value


def test_entries_that_differ_in_scalars_alone_train_together():
    settings = audit()
    entries = hardened_settings(settings, victim_settings(settings)["free"], pathlib.Path("x"))
    groups = compatible(entries)
    assert sorted(map(len, groups)) == [1, 1, 4]
    assert {name for group in groups for name in group} == set(entries)


def test_the_general_preset_hardens_models_that_the_others_cannot():
    settings = audit("general")
    model = LinearVBPRSettings()
    pretrain = dataclasses.replace(settings.experiment.pretrain, alpha=0.0)
    trained = dataclasses.replace(settings.experiment, model=model, pretrain=pretrain)
    settings = dataclasses.replace(settings, experiment=trained)
    entries = hardened_settings(settings, trained, "x")
    assert {one.adversarial.defense for one in entries.values()} == {"uat", "linearized", "none"}
    exact = dataclasses.replace(settings, harden={"e": {"defense": "exact"}})
    with pytest.raises(InputError, match=r"config\.harden\.e\.defense .*audit:general"):
        hardened_settings(exact, trained, "x")


def test_errors_name_the_fields_as_the_audit_has_them():
    error = name_fields(InputError("config.ks = 3, config.attacks.pgd.k and config.eval.ks"))
    assert str(error) == (
        "config.attack.ks = 3, config.attack.attacks.pgd.k and config.experiment.eval.ks"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"other_threats": ("nope",)}, "config.other_threats"),
        ({"steps_of": "nope"}, "config.steps_of"),
        ({"listed": 0}, "config.listed"),
        ({"fit_users": -1}, "config.fit_users"),
        ({"harden": {"x": {"lamda": 1.0}}}, "config.harden.x"),
        ({"harden": {"x/y": {}}}, "config.harden"),
        ({"victims": {}}, "config.victims"),
        ({"harden": {"victim": {}}}, "config.harden"),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    plain = to_dict(audit()) | fields
    with pytest.raises(InputError, match=message):
        from_values(AuditSettings, plain)


@pytest.mark.parametrize("preset", audit_config.PRESETS)
def test_every_preset_is_valid_and_survives_json(preset):
    settings = audit(preset)
    assert from_values(AuditSettings, to_dict(settings)) == settings
