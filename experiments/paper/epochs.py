"""Why the paper's numbers are what they are: the adversarial stage epoch by epoch.

The published code differentiates the inner objective by a backward pass over all
parameters and does not clear these gradients before the outer one, so its optimiser also
*descends* what the max phase climbs, L_BPR(z) + beta mean cos(g^v, g^t). Here this leak is
switched on by itself (`adversarial.leak`), at several beta and beside the other bugs, and
every state on the way is attacked and asked what it makes of content.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.study import UNDEFENDED, Rows, Study, Unit, of_seed
from experiments.variants import (
    attack_seconds,
    measuring_unit,
    open_variant,
    training_seconds,
    training_settings,
)
from uatmc_jax.attacks import Lists, Options, attack, make_victim, pgd
from uatmc_jax.benchmark.targets import choose_targets, choose_users
from uatmc_jax.data.source import dataset_folder
from uatmc_jax.evaluation.metrics import Measure, make_measure
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models import Modal, Model, Params
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.opened import OpenedRun
from uatmc_jax.seeds import generator
from uatmc_jax.settings.attack import TargetSettings
from uatmc_jax.training.epoch import TrainState
from uatmc_jax.training.stage import Hooks, Progress, run_stage
from uatmc_jax.training.stages import adversarial_stage

K, RECALL_K, PERMUTATIONS = 50, 20, 5
# Targets whose slopes are taken in a model that propagates: one backward pass each.
SLOPE_TARGETS = 8
WITH_5, PUBLISHED = "items with 5", "published pool"

# Trained under every training seed; "leak, beta 0" descends a second L_BPR and nothing else.
CURVES: dict[str, dict] = {
    "UAT": {"defense": "uat"},
    "UAT-MC": {"defense": "uat_mc"},
    "leak, beta 0": {"defense": "uat", "leak": True},
    "leak, beta 1": {"defense": "uat_mc", "leak": True, "beta": 1.0},
    "leak, beta 4": {"defense": "uat_mc", "leak": True, "beta": 4.0},
}
# Under the first seed alone: what else the published code does, one thing at a time.
FACTORS: dict[str, dict] = {
    "swap": {"defense": "uat_mc", "swap_modalities": True},
    "leak, swap": {"defense": "uat_mc", "leak": True, "beta": 4.0, "swap_modalities": True},
    "leak, over items": {"defense": "uat_mc", "leak": True, "beta": 4.0, "align_over": "items"},
    "UAT, lambda 1": {"defense": "uat", "lam": 1.0},
    "leak, lambda 1": {"defense": "uat_mc", "leak": True, "beta": 4.0, "lam": 1.0},
}


def pools(study: Study) -> dict[str, np.ndarray]:
    """Targets by pool: items with exactly 5 interactions, and where it is known the pool that
    the published code draws from."""
    plan, data = study.plan, study.dataset
    rules = {WITH_5: TargetSettings("count", 5, (0.0, 0.1), (), plan.targets)}
    file = dataset_folder(study.settings.data) / "published_targets.json"
    if file.is_file():
        rules[PUBLISHED] = TargetSettings("pool", 5, (0.0, 0.1), (), plan.targets, str(file))
    return {name: choose_targets(rule, data, plan.grid_seeds[0]) for name, rule in rules.items()}


class Watched(NamedTuple):
    """What every state of a stage is asked with.

    Attributes:
      run: the pre-trained one.
      targets: by pool.
      users: those attacked.
      measure: recommendation metrics.
      held_out: validation and test.
      contents: z with every item's content replaced by the catalogue's mean, and with items'
        contents exchanged.
    """

    run: OpenedRun
    targets: dict[str, np.ndarray]
    users: np.ndarray
    measure: Measure
    held_out: tuple
    contents: dict[str, Modal]


def watched(study: Study) -> Watched:
    """The same targets, users and exchanged contents for every state of one training seed."""
    run, data = open_variant(study, UNDEFENDED), study.dataset
    rng = generator(0, "content")
    contents = {
        "mean": tuple(jnp.broadcast_to(x.mean(axis=0), x.shape) for x in run.z),
        **{
            f"permuted {n}": tuple(x[order] for x in run.z)
            for n in range(PERMUTATIONS)
            for order in [rng.permutation(data.n_items)]
        },
    }
    plan = make_plan(data.train, data.n_users, data.n_items)
    measure = make_measure(run.model, data.on_device, plan, (10, RECALL_K))
    held_out = tuple(data.held_out(split) for split in ("valid", "test"))
    users = choose_users(data, 0.4, study.plan.grid_seeds[0])
    return Watched(run, pools(study), users, measure, held_out, contents)


def look(what: Watched, params: Params) -> dict:
    """Recall, use of content, slopes, and PGD as published on every pool."""
    run, data = what.run, what.run.data
    valid, test = what.measure(params, run.z, what.held_out)
    recalls = {
        name: float(what.measure(params, z, what.held_out[1:])[0][f"recall@{RECALL_K}"])
        for name, z in what.contents.items()
    }
    clean = float(test[f"recall@{RECALL_K}"])
    exchanged = np.mean([r for name, r in recalls.items() if name != "mean"])
    victim = make_victim(run.model, params, data, what.users, z=run.z, lists=Lists(k=K))
    attacked = {}
    for name, items in what.targets.items():
        found = attack(pgd(), victim, items, options=Options())
        before, after = float(found.hr_before.mean()), float(found.hr_after.mean())
        attacked[name] = {
            "targets": len(items),
            "before": before,
            "after": after,
            "gain": after / before - 1 if before else None,
        }
    cosine, length = slopes(run.model, params.encoder, run.z, data, what.targets[WITH_5])
    return {
        "valid": {name: float(value) for name, value in valid.items()},
        "test": {name: float(value) for name, value in test.items()},
        "contribution": clean - recalls["mean"],
        "sensitivity": clean - float(exchanged),
        "slope_cosine": cosine,
        "slope_length": length,
        "attacked": attacked,
    }


def slopes(
    model: Model, encoder: PyTree, z: Modal, data, targets: np.ndarray
) -> tuple[float, float]:
    """How the two modalities pull on the scores: mean cos(w^v, w^t), and mean (|w^v|_1 + |w^t|_1).

    w^m = d y_ut / d z_t^m: of every user, where scores are affine in the content and the same
    for every item; else of the mean user, over some targets.
    """
    if model.affine_in_content:
        found = _of_users(model, encoder, z)
    else:
        found = _of_targets(model, encoder, z, data.on_device.graph, targets[:SLOPE_TARGETS])
    visual, textual = (np.asarray(x, np.float64) for x in found)
    lengths = np.linalg.norm(visual, axis=1) * np.linalg.norm(textual, axis=1)
    cosine = (visual * textual).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    total = np.abs(visual).sum(axis=1) + np.abs(textual).sum(axis=1)
    return float(cosine.mean()) if len(cosine) else math.nan, float(total.mean())


@functools.partial(jax.jit, static_argnames="model")
def _of_users(model: Model, encoder: PyTree, z: Modal) -> Modal:
    some = jnp.zeros(1, jnp.int32)
    selected = model.select(encoder, some, some)
    row = tuple(x[:1] for x in z)
    jacobians = jax.jacrev(lambda z: model.encode_rows(selected, z).item[0])(row)
    return tuple(encoder.user @ j[:, 0] for j in jacobians)


@functools.partial(jax.jit, static_argnames="model")
def _of_targets(model: Model, encoder: PyTree, z: Modal, graph, targets: jax.Array) -> Modal:
    def mean_score(row: Modal, target: jax.Array) -> jax.Array:
        moved = tuple(x.at[target].set(r) for x, r in zip(z, row, strict=True))
        user, item = model.encode(encoder, moved, graph)
        return jnp.mean(user @ item[target])

    def one(target: jax.Array) -> Modal:
        return jax.grad(mean_score)(tuple(x[target] for x in z), target)

    return jax.lax.map(one, targets)


def follow(study: Study, variant: str, tell: Callable[[float], None]) -> Rows:
    """Trains a variant, which is not kept, and looks at its states; one row each.

    Args:
      study: of one training seed.
      variant: its name in the study.
      tell: told what share is done.
    """
    settings, what = training_settings(study, variant), watched(study)
    run, data = what.run, study.dataset.on_device

    def validate(params: Params, z: Modal | None) -> dict[str, jax.Array]:
        return what.measure(params, z, what.held_out[:1])[0]

    stage, state = adversarial_stage(settings, run.model, run.params, data, validate)
    epochs, rows, best = stage.epochs, [], {}

    def row(epoch: int, which: str, params: Params) -> None:
        fields = study.variants[variant]
        head = {"variant": variant, "seed": settings.seed, "fields": fields}
        rows.append(head | {"epoch": epoch, "which": which, **look(what, params)})

    def save(which: str, state: TrainState, progress: Progress) -> None:
        if which == "best":
            best["params"] = jax.tree.map(jnp.copy, stage.assemble(state.trained))
            best["epoch"] = progress.epoch
        elif which != "latest" and progress.epoch in study.plan.curve_epochs:
            row(progress.epoch, "on the way", stage.assemble(state.trained))
        tell(progress.epoch / epochs)

    row(0, "on the way", run.params)
    valid = []
    hooks = Hooks(save, valid.append, lambda: False, lambda: "none, as nothing is kept")
    run_stage(stage._replace(keep_every=1), state, Progress(), data, hooks, save_seconds=0.0)
    seen = [one for one in rows if one["epoch"] == best["epoch"]]
    if seen:  # the same state
        rows.append(seen[0] | {"which": "best"})
    else:
        row(best["epoch"], "best", best["params"])
    cosine = float(np.mean(np.sum(np.asarray(run.z[0]) * np.asarray(run.z[1]), axis=1)))
    for one in rows:
        one["cosine_of_z"] = cosine
    rows[-1]["valid_by_epoch"] = [record["valid"][f"recall@{RECALL_K}"] for record in valid]
    return rows


def curves_of(study: Study) -> dict[str, list[int]]:
    """{variant: training seeds} of the plan."""
    own, chosen = variants(study.settings.adversarial.beta), study.plan.curve_variants
    return {
        name: list(study.seeds[:1] if name in FACTORS else study.seeds)
        for name in own
        if not chosen or name in chosen
    }


def variants(study_beta: float) -> dict[str, dict]:
    """Every variant's fields; `study_beta` is the training config's own."""
    own = {f"leak, beta {study_beta:g}": {"defense": "uat_mc", "leak": True}}
    return CURVES | (own if study_beta not in (0.0, 1.0, 4.0) else {}) | FACTORS


def units(study: Study) -> list[Unit]:
    """One unit a variant and training seed."""
    found, states = [], len(study.plan.curve_epochs) + 2
    looks = attack_seconds(study, states, study.plan.grid_seeds[:1], pgd=2)
    for variant, seeds in curves_of(study).items():
        for seed in seeds:
            mine = of_seed(study, seed)
            plan = {"fields": mine.variants[variant], "targets": study.plan.targets}
            plan |= {"epochs": study.settings.adversarial.epochs, "seed": seed}
            plan |= {"curve_epochs": list(study.plan.curve_epochs), "version": 1}
            found.append(
                measuring_unit(
                    mine,
                    f"epochs/{variant} ({seed})",
                    [UNDEFENDED],
                    plan,
                    training_seconds(mine, variant) + looks,
                    functools.partial(follow, mine, variant),
                )
            )
    return found
