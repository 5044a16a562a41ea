"""What an audit trains and attacks, fitted to the catalogue at hand."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import AuditSettings, Settings, from_config, to_dict
from uatmc_jax.training.stages import SCALARS

_BATCH = (256, 2048)


def fit(settings: AuditSettings, dataset: Dataset) -> AuditSettings:
    """The settings with batch sizes, users and targets that suit the data.

    Batch sizes: the power of two from 256 to 2,048 that comes nearest to `fit_steps`
    steps an epoch. Users: a share that makes at most `fit_users`. Targets: as many as
    the rule "quantile" leaves, if they are fewer than are to be drawn.

    Args:
      settings: the audit.
      dataset: the data.
    """
    experiment, attack = settings.experiment, settings.attack
    if settings.fit_steps:
        exponent = round(math.log2(max(len(dataset.train) / settings.fit_steps, 1)))
        size = int(np.clip(2**exponent, *_BATCH))
        experiment = dataclasses.replace(
            experiment,
            pretrain=dataclasses.replace(experiment.pretrain, batch_size=size),
            adversarial=dataclasses.replace(experiment.adversarial, batch_size=size),
        )
    if settings.fit_users:
        trained = len(np.unique(dataset.train.users))
        share = min(1.0, settings.fit_users / trained)
        attack = dataclasses.replace(attack, user_share=share)
    targets = attack.targets
    if targets.rule == "quantile" and targets.sample:
        counts = dataset.item_counts
        low, high = np.quantile(counts, targets.quantiles)
        pool = int(((counts >= low) & (counts <= high)).sum())
        sample = min(targets.sample, pool)
        attack = dataclasses.replace(attack, targets=dataclasses.replace(targets, sample=sample))
    return dataclasses.replace(settings, experiment=experiment, attack=attack)


def victim_settings(settings: AuditSettings) -> dict[str, Settings]:
    """Stage 1 of every candidate; stage 2 left out.

    Args:
      settings: the audit.

    Raises:
      InputError: a field's value that cannot be used.
    """
    alone = dataclasses.replace(settings.experiment.adversarial, epochs=0)
    base = dataclasses.replace(settings.experiment, adversarial=alone)
    return {name: _with(base, "pretrain", fields) for name, fields in settings.victims.items()}


def hardened_settings(
    settings: AuditSettings, victim: Settings, source: pathlib.Path
) -> dict[str, Settings]:
    """Stage 2 of every entry of `harden`, from the victim's pre-trained state.

    Args:
      settings: the audit.
      victim: the settings that it was trained with.
      source: folder of its run.

    Raises:
      InputError: a field's value that cannot be used, or no epochs.
    """
    if settings.harden and not settings.experiment.adversarial.epochs:
        raise InputError(
            "config.experiment.adversarial.epochs = 0: the entries of config.harden cannot be "
            "trained. Give it at least 1, or leave config.harden empty."
        )
    pretrain = dataclasses.replace(victim.pretrain, init_from=str(source))
    stage = dataclasses.replace(settings.experiment.adversarial, mu=victim.pretrain.mu)
    base = dataclasses.replace(settings.experiment, pretrain=pretrain, adversarial=stage)
    return {name: _with(base, "adversarial", fields) for name, fields in settings.harden.items()}


def in_company(members: Mapping[str, Settings]) -> list[dict[str, Settings]]:
    """Members grouped by what one `vmap` can hold: those that differ in scalars alone."""
    groups: dict[str, dict[str, Settings]] = {}
    for name, settings in members.items():
        plain = to_dict(settings)
        content = plain["adversarial"]["content"] > 0
        for scalar in SCALARS:
            del plain["adversarial"][scalar]
        groups.setdefault(f"{plain} {content}", {})[name] = settings
    return list(groups.values())


def _with(base: Settings, section: str, fields: Mapping[str, Any]) -> Settings:
    plain = to_dict(base)
    plain[section] |= fields
    return from_config(plain)
