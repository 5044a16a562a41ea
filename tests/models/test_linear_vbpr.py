"""VBPR on raw features: against dense NumPy, attacked, trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from uatmc_jax import checkpoint
from uatmc_jax.attacks import Attack, Lists, Options, attack_batches, join, make_victim
from uatmc_jax.attacks.batching import scorer_of
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.benchmark.checks import check_alignment
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.data import write_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.losses import gradient_alignment, modal_info_nce
from uatmc_jax.models import build_model, encode_changed, linear_vbpr, make_graph, select
from uatmc_jax.opened import open_run
from uatmc_jax.settings import AttackRunSettings, from_config, from_values, load_config
from uatmc_jax.training import train_and_evaluate
from uatmc_jax.training.stages import pretrain_stage

DIM, K, KS = 4, 5, (1, 5, 10)


@pytest.fixture(scope="module")
def model(dataset):
    return linear_vbpr(dataset.sizes, dim=DIM)


@pytest.fixture(scope="module")
def params(model):
    """With weights large enough for perturbations to move ranks."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: x + jnp.asarray(rng.normal(scale=0.3, size=x.shape), jnp.float32),
        model.init(jax.random.key(0)),
    )


def test_scores_are_those_of_the_formula(model, params, dataset):
    z = model.project(params.projectors, dataset.features)
    for own, raw in zip(z, dataset.features, strict=True):
        np.testing.assert_array_equal(own, raw)
    graph = make_graph(dataset.train, dataset.n_users, dataset.n_items)
    user, item = model.encode(params.encoder, z, graph)
    encoder = oracles.to_float64(params.encoder)
    raw = np.concatenate(oracles.to_float64(dataset.features), axis=1)
    expected = np.concatenate([encoder.item, raw @ encoder.kernel + encoder.bias], axis=1)
    np.testing.assert_array_equal(user, params.encoder.user)
    np.testing.assert_allclose(item, expected, rtol=1e-5, atol=1e-5)
    users, items = jnp.array([3, 0, 59]), jnp.array([7, 7, 49])
    rows = tuple(x[items] + 0.5 for x in z)
    selected = select(model, params.encoder, graph, users, items)
    cheap = encode_changed(model, selected, z, graph, users, items, rows)
    np.testing.assert_array_equal(cheap.user, user[users])
    moved = expected[items]
    moved[:, DIM:] += 0.5 * encoder.kernel.sum(axis=0)
    np.testing.assert_allclose(cheap.item, moved, rtol=1e-5, atol=1e-5)


def test_no_unit_rows_no_claims(model, dataset):
    assert max(np.linalg.norm(x, axis=1).max() for x in dataset.features) > 1
    assert not model.affine_in_content and model.head is None and model.field is None


@pytest.mark.parametrize("norm,level", [("linf", "projected"), ("l2", "feature")])
def test_attacks_with_the_exact_scorer_are_those_with_the_dense_one(
    model, params, dataset, norm, level
):
    users = np.arange(0, dataset.n_users, 2)
    items = np.argsort(dataset.item_train_counts)[:6].astype(np.int32)
    lists = Lists(k=max(*KS, K), block_users=16)
    victim = make_victim(model, params, dataset, users, lists=lists)
    attack = Attack(utility="elu", k=K, norm=norm, steps=4, step_size=0.4, level=level)
    assert scorer_of(model) is DIRECT

    def run(scorer):
        key, options = jax.random.key(0), Options(KS, scorer=scorer)
        return join(list(attack_batches(attack, victim, items, key, options=options)))

    exact, dense = run("auto"), run("dense")
    assert (exact.utility_after > exact.utility_before).all()
    np.testing.assert_array_equal(exact.hr_before, dense.hr_before)
    np.testing.assert_array_equal(exact.hr_after, dense.hr_after)
    np.testing.assert_allclose(exact.utility_after, dense.utility_after, rtol=1e-4, atol=1e-5)
    # And brute force agrees on who had the items before.
    encoder = oracles.to_float64(params.encoder)
    user, item = oracles.vbpr(encoder, oracles.to_float64(list(dataset.features)))
    scores = user[users] @ item.T
    ahead = (scores[:, None, :] >= scores[:, items, None]).sum(axis=2) - 1
    hits = np.stack([(ahead < k).sum(axis=0) for k in KS], axis=1)
    np.testing.assert_array_equal(np.rint(exact.hr_before * len(users)), hits)


def linear(config):
    config.model.name, config.pretrain.alpha = "linear_vbpr", 0.0
    config.adversarial.defense = "uat"
    return config


def test_trained_hardened_and_attacked_from_a_config(config, dataset, tmp_path):
    write_dataset(dataset, tmp_path / "synthetic")
    config = linear(config)
    config.data.source, config.data.root = "mmrec", str(tmp_path)
    config.pretrain.epochs = config.adversarial.epochs = 1
    settings = from_config(config)
    built = build_model(settings.model, dataset.sizes)
    assert built.name == "linear_vbpr"
    summary = train_and_evaluate(settings, tmp_path / "run")
    assert summary["stages"]["adversarial"]["epochs"] == 1
    first = checkpoint.restore(tmp_path / "run", "pretrain", "best", dataset).params
    last = checkpoint.restore(tmp_path / "run", "adversarial", "latest", dataset).params
    assert first.projectors == last.projectors == {}
    assert not np.array_equal(first.encoder.kernel, last.encoder.kernel)
    chosen = load_config("attack")
    chosen.targets.rule, chosen.targets.sample, chosen.bootstrap = "quantile", 2, 10
    results, contents = run_attacks(
        from_values(AttackRunSettings, chosen),
        [open_run(tmp_path / "run", "adversarial/latest")],
        only=["fgsm"],
        show_progress=False,
    )
    assert (results[0]["model"], results[0]["affine_in_content"]) == ("linear_vbpr", False)
    assert results[0]["certificate"].startswith("no certificate")
    assert len(results[0]["rows"]) == 2 and len(contents) == 1


def test_what_needs_modalities_of_one_width_is_refused(config):
    from_config(linear(config))
    for field, value, message in (
        ("pretrain.alpha", 1.0, r"config\.pretrain\.alpha = 1\.0: wanted 0 with .*linear_vbpr"),
        ("adversarial.defense", "uat_mc", r"config\.adversarial\.defense = 'uat_mc'.*'uat'"),
        ("adversarial.defense", "exact", r"'exact' needs scores .* its own rows alone"),
    ):
        changed = linear(config.copy_and_resolve_references())
        changed.update_from_flattened_dict({field: value})
        with pytest.raises(InputError, match=message):
            from_config(changed)


def test_unlike_widths_have_no_contrast_and_no_cosine(dataset):
    z = tuple(map(jnp.asarray, dataset.features))
    assert z[0].shape != z[1].shape and modal_info_nce(z, jnp.float32(0.07)) == 0
    with pytest.raises(InputError, match=r"L_align.* z has \[64, 32\]"):
        gradient_alignment(z, jnp.ones(dataset.n_items, bool))


def test_what_compares_modalities_of_unlike_width_is_refused(dataset, model, config):
    attacks = from_values(AttackRunSettings, load_config("attack")).attacks
    aligned = {"pgd": dataclasses.replace(attacks["pgd"], beta=1.0)}
    with pytest.raises(InputError, match=r"attacks\.pgd\.beta = 1\.0.*'visual': 64, 'textual': 32"):
        check_alignment(aligned, model, dataset)
    check_alignment(attacks, model, dataset)
    one = {"pgd": aligned["pgd"].replace(modalities=("visual",))}
    check_alignment(one, model, dataset)
    data, params = dataset.on_device, model.init(jax.random.key(0))
    with pytest.raises(InputError, match=r"alpha = 1\.0: L_NCE compares.*\[64, 32\]"):
        pretrain_stage(from_config(config), model, params, data, validate=None)
