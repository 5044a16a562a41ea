"""What an audit trains and attacks, fitted to the catalogue at hand."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import AttackRunSettings, AuditSettings, Settings, from_config, to_dict
from uatmc_jax.training.fitting import STAGES, fit_batches, fit_ks, fit_rows, mu_share

_LARGEST = 1e300
OTHER_PRESETS = (
    "--config audit:mmgcn, audit:general, audit:lightgcn, audit:freedom, audit:bm3, audit:mgcn"
)


def fit_audit(
    settings: AuditSettings, dataset: Dataset, trained: bool = False
) -> tuple[AuditSettings, list[str]]:
    """The settings with batch sizes, users, targets and K that suit the data.

    Batch sizes: the power of two from 256 to 2,048 that comes nearest to `fit_steps`
    steps an epoch, and the candidates' mu with them (`mu_share`). Users: a share that makes
    at most `fit_users`. Targets: as many as the rule "quantile" leaves, if they are fewer
    than are to be drawn. K: no larger than half the catalogue. With one modality, entries
    of `harden` with L_align are left out.

    Args:
      settings: the audit.
      dataset: the data.
      trained: the victim is given, so stage 1 stays as it is.

    Returns:
      The settings, and what was changed, in words.

    Raises:
      InputError: too few items to rank.
    """
    experiment, notes = settings.experiment, []
    if settings.fit_steps:
        stages = ("adversarial",) if trained else STAGES
        experiment, said = fit_batches(experiment, dataset, settings.fit_steps, stages)
        notes += said
        experiment, said = fit_rows(experiment, dataset, stages)
        notes += said
    victims = settings.victims
    share = mu_share(experiment, "pretrain")
    if settings.fit_steps and not trained and share != 1:
        # Of the candidates' mu, as they are chosen for batches of 2,048.
        victims = {name: _with_share_of_mu(fields, share) for name, fields in victims.items()}
        notes.append(f"mu times {share:.3g} with these batches")
    attack = _fit_users(settings, dataset, notes)
    attack = _fit_targets(attack, dataset, notes)
    experiment, attack = _fit_lists(experiment, attack, dataset, notes)
    harden = dict(settings.harden)
    if len(dataset.modalities) < 2:
        for name in [n for n, fields in harden.items() if fields.get("defense") == "uat_mc"]:
            del harden[name]
            notes.append(f"{name} left out: L_align needs two modalities")
    fitted = dataclasses.replace(
        settings, experiment=experiment, victims=victims, attack=attack, harden=harden
    )
    return fitted, notes


def _with_share_of_mu(fields: Mapping[str, Any], share: float) -> Mapping[str, Any]:
    """A candidate's fields; a mu that is no weight is left to be refused as it is."""
    mu = fields.get("mu")
    if not isinstance(mu, int | float) or not abs(mu) < _LARGEST:
        return fields
    return {**fields, "mu": share * mu}


def _fit_users(settings: AuditSettings, dataset: Dataset, notes: list[str]) -> AttackRunSettings:
    if not settings.fit_users:
        return settings.attack
    trained = len(np.unique(dataset.train.users))
    share = min(1.0, settings.fit_users / trained)
    notes.append("all users attacked" if share == 1 else f"{settings.fit_users:,} users attacked")
    return dataclasses.replace(settings.attack, user_share=share)


def _fit_targets(
    attack: AttackRunSettings, dataset: Dataset, notes: list[str]
) -> AttackRunSettings:
    targets = attack.targets
    if targets.rule != "quantile" or not targets.sample:
        return attack
    low, high = np.quantile(dataset.item_counts, targets.quantiles)
    pool = int(((dataset.item_counts >= low) & (dataset.item_counts <= high)).sum())
    if pool >= targets.sample:
        return attack
    notes.append(f"{pool} items attacked, all there are between these quantiles of popularity")
    return dataclasses.replace(attack, targets=dataclasses.replace(targets, sample=pool))


def _fit_lists(
    experiment: Settings, attack: AttackRunSettings, dataset: Dataset, notes: list[str]
) -> tuple[Settings, AttackRunSettings]:
    """K in reach of a small catalogue."""
    most = max(dataset.n_items // 2, 1)
    experiment = fit_ks(experiment, dataset)
    if max(*attack.ks, *(one.k for one in attack.attacks.values())) > most:
        lowered = {
            name: dataclasses.replace(one, k=min(one.k, most))
            for name, one in attack.attacks.items()
        }
        kept = tuple(sorted({min(k, most) for k in attack.ks}))
        attack = dataclasses.replace(attack, ks=kept, attacks=lowered)
        notes.append(f"lists of at most {most} items attacked, half the catalogue")
    return experiment, attack


def victim_settings(settings: AuditSettings) -> dict[str, Settings]:
    """Stage 1 of every candidate; stage 2 left out.

    Args:
      settings: the audit.

    Raises:
      InputError: a field's value that cannot be used.
    """
    alone = dataclasses.replace(settings.experiment.adversarial, epochs=0)
    base = dataclasses.replace(settings.experiment, adversarial=alone)
    return {
        name: _with(base, "pretrain", fields, f"config.victims.{name}")
        for name, fields in settings.victims.items()
    }


def hardened_settings(
    settings: AuditSettings, victim: Settings, source: str | pathlib.Path
) -> dict[str, Settings]:
    """Stage 2 of every entry of `harden`, from the victim's pre-trained state.

    Args:
      settings: the audit.
      victim: the settings that it was trained with.
      source: folder of the run that has this state.

    Raises:
      InputError: a field's value that cannot be used, or no epochs.
    """
    pretrain = dataclasses.replace(victim.pretrain, init_from=str(source))
    stage = dataclasses.replace(settings.experiment.adversarial, mu=victim.pretrain.mu)
    base = dataclasses.replace(settings.experiment, pretrain=pretrain, adversarial=stage)
    entries = {}
    for name, fields in settings.harden.items():
        where = f"config.harden.{name}"
        entries[name] = _with(base, "adversarial", fields, where)
        if not entries[name].adversarial.epochs:
            raise InputError(
                f"{where}.epochs = 0 (or config.experiment.adversarial.epochs): it cannot be "
                "trained. Give it at least 1, or leave the entry out."
            )
    return entries


def name_fields(error: InputError) -> InputError:
    """An error about a part of the audit, with the field's name as the audit has it."""
    pattern = r"\bconfig\.(ks|attacks|targets|user_share|masked|scorer|serving|collateral)\b"
    text = re.sub(pattern, r"config.attack.\1", str(error))
    return InputError(re.sub(r"\bconfig\.(eval|data|model)\b", r"config.experiment.\1", text))


def _with(base: Settings, section: str, fields: Mapping[str, Any], where: str) -> Settings:
    plain = to_dict(base)
    plain[section] |= fields
    try:
        return from_config(plain)
    except InputError as error:
        raise InputError(
            f"{str(name_fields(error)).replace(f'config.{section}', where)} "
            f"(Presets for other models: {OTHER_PRESETS}.)"
        ) from None
