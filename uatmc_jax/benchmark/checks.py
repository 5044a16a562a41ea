"""What would stop an evaluation later, said before any long work."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from uatmc_jax.attacks import Attack, blind, check_shared_z
from uatmc_jax.attacks.policies import require_search
from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.content import require_rows
from uatmc_jax.models import Model
from uatmc_jax.opened import OpenedRun
from uatmc_jax.settings import AttackRunSettings


def chosen_attacks(attacks: Mapping[str, Attack], only: Sequence[str]) -> dict[str, Attack]:
    """Those named in `only`, or all.

    Raises:
      InputError: a name there is none of.
    """
    for name in only:
        if name not in attacks:
            raise InputError(f"--attacks {name}: the config has {', '.join(attacks)}.")
    return {name: a for name, a in attacks.items() if not only or name in only}


def check_attacks(
    settings: AttackRunSettings, attacks: Mapping[str, Attack], dataset: Dataset
) -> None:
    """Raises InputError for a K beyond the catalogue, or modalities the data have not."""
    longest = int(np.bincount(dataset.train.users).max()) if settings.masked else 0
    room = dataset.n_items - longest
    wanted = {"config.ks": max(settings.ks)}
    wanted |= {f"config.attacks.{name}.k": attack.k for name, attack in attacks.items()}
    for field, k in wanted.items():
        if k > room:
            masked = " that are not some user's training items" if settings.masked else ""
            raise InputError(
                f"{field}: K = {k} exceeds the {room} items of data set "
                f"'{dataset.name}'{masked}. Use a smaller K."
            )
    for name, attack in attacks.items():
        unknown = [m for m in attack.modalities if m not in dataset.modalities]
        if unknown:
            raise InputError(
                f"config.attacks.{name}.modalities: {unknown[0]!r} is not one of the data's "
                f"modalities, {', '.join(dataset.modalities)}."
            )
        if attack.beta and len(attack.modalities or dataset.modalities) < 2:
            raise InputError(
                f"config.attacks.{name}.beta = {attack.beta}: alignment needs two perturbed "
                "modalities or more. Set it to 0, or perturb another modality."
            )


def check_serving(settings: AttackRunSettings, attacks: Mapping[str, Attack], model: Model) -> None:
    """Raises InputError for an attack, or a policy, that says nothing of what the model serves."""
    if not blind(model, settings.serving):
        for attack in attacks.values():
            require_search(model, attack, settings.serving)
        require_rows(model, settings.serving)


def check_redraw(settings: AttackRunSettings, models: Sequence[Model]) -> None:
    """Raises InputError for `redraw` of a model whose published checkpoints leave out nothing."""
    for model in models:
        if settings.redraw and model.redraw is None:
            raise InputError(
                f"config.redraw = True: the published checkpoints of model {model.name} leave out "
                "nothing to draw anew. Set it to False."
            )


def check_alignment(attacks: Mapping[str, Attack], model: Model, dataset: Dataset) -> None:
    """Raises InputError for an alignment term between rows of z of unlike width."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in dataset.features)
    z = jax.eval_shape(model.project, params.projectors, shapes)
    widths = {m: x.shape[1] for m, x in zip(dataset.modalities, z, strict=True)}
    for name, attack in attacks.items():
        wanted = {widths[m] for m in attack.modalities or dataset.modalities}
        if attack.beta and len(wanted) > 1:
            raise InputError(
                f"config.attacks.{name}.beta = {attack.beta}: alignment compares gradients of one "
                f"width, but the z of model {model.name} have {widths}. Set it to 0."
            )


def check_surrogates(
    attacks: Mapping[str, Attack], surrogates: Mapping[str, OpenedRun], runs: Sequence[OpenedRun]
) -> None:
    """Raises InputError for a surrogate that is not given or cannot serve all the runs."""
    for name, attack in attacks.items():
        if attack.surrogate and attack.surrogate not in surrogates:
            raise InputError(
                f"config.attacks.{name}.surrogate = {attack.surrogate!r}: no such surrogate is "
                "given. Name its checkpoint with --surrogates."
            )
    for name in sorted({a.surrogate for a in attacks.values() if a.level == "projected"} - {""}):
        for run in runs:
            check_shared_z(surrogates[name].z, run.z, (name, run.name))
