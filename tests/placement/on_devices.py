"""What one, two and eight devices make of the same training; run with eight simulated ones.

python -m tests.placement.on_devices OUT 1,2,8 pretrain,adversarial vbpr

OUT/found.npz has {DEVICES/NAME: array}, OUT/N/ the checkpoint that N devices have written.
"""

import dataclasses
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from configs import test as test_config
from uatmc_jax import checkpoint
from uatmc_jax.attacks import Lists, Options, attack, make_victim, pgd
from uatmc_jax.attacks.batching import scorer_of
from uatmc_jax.attacks.outcome import attack_batch
from uatmc_jax.attacks.record import in_one_program
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.data import make_synthetic
from uatmc_jax.evaluation.ranking import make_plan, top_k
from uatmc_jax.hosts import gathered, writes
from uatmc_jax.models import build_model, project_all
from uatmc_jax.placement import (
    cut,
    replicate,
    spread_lists,
    spread_options,
    spread_top_k,
    spread_victim,
)
from uatmc_jax.placement.compiled import collectives, sent
from uatmc_jax.seeds import starts_key
from uatmc_jax.settings import from_config
from uatmc_jax.training.devices import on_devices
from uatmc_jax.training.stages import adversarial_stage, init_params, pretrain_stage

STAGES = {
    "pretrain": pretrain_stage,
    "adversarial": adversarial_stage,
    "deferred": adversarial_stage,  # with optimizer.rows
}
K, BATCH, STEPS, BLOCKS = 20, 16, 5, (16, 32)


def dataset():
    """Numbers of users and items that no number of devices divides."""
    return make_synthetic(3, n_users=61, n_items=51, n_interactions=500)


def settings_for(devices, name="vbpr", rows="dense"):
    """Batches that read fewer rows than there are; users ranked in several blocks."""
    config = test_config.get_config()
    config.mesh.devices, config.mesh.row_multiple = devices, 16
    config.eval.block_users, config.eval.block_items = BLOCKS
    for stage in (config.pretrain, config.adversarial):
        stage.batch_size = BATCH
        stage.optimizer.update(shuffle="keyed", rows=rows)
    config.pretrain.nce_items = BATCH
    if name == "mmgcn":
        base.use_mmgcn(config)
    return from_config(config)


def with_drawn(settings):
    """The settings with metrics of 23 users."""
    return dataclasses.replace(settings, eval=dataclasses.replace(settings.eval, sample=23))


def train(devices, stages, name, out):
    """{name: array}: the stages' first steps, a ranking, and what their programs send."""
    rows = "deferred" if "deferred" in stages else "dense"
    settings, data, found = settings_for(devices, name, rows), dataset(), {}
    model = build_model(settings.model, data.sizes)
    here = on_devices(settings, model, data)
    layout = here.layout
    params = init_params(settings, model, layout)
    for part in stages:
        stage, state = STAGES[part](settings, model, params, here.data, lambda *_: {}, layout)
        given = state, stage.fixed, here.data
        program = stage.run_epoch.lower(*given, first=0, count=STEPS).compile()
        state, terms, _ = program(*given, first=0)
        found |= {f"{stage.name}/{name}": values for name, values in terms.items()}
        between = collectives(program)
        found[f"{stage.name}/sent"] = sent(between, in_loop=True), sent(between, in_loop=False)
        params = stage.assemble(state.trained)
    (metrics,) = here.measure(params, None, [data.held_out("valid")])
    found |= {f"valid/{name}": value for name, value in metrics.items()}
    if "pretrain" in stages:
        drawn = on_devices(with_drawn(settings), model, data)
        (metrics,) = drawn.measure(params, None, [drawn.held_out["valid"]])
        found |= {f"drawn/{name}": value for name, value in metrics.items()}
        found |= {f"drawn/popular {k}": v for k, v in drawn.popularity("test").items()}
    rows = None if layout is None else (layout.rows, {"epoch": 0})
    training = {"epoch": jnp.int32(1)}
    if layout is not None:
        training = replicate(layout.placement, training)
    checkpoint.save(out / str(devices), "adversarial", "best", params, training, {"epoch": 1}, rows)

    @jax.jit
    def ranked(params, data):
        params = params if layout is None else cut(*layout, params)
        z = project_all(model, params, data.features)
        user, item = model.encode(params.encoder, z, data.graph)
        if layout is not None:
            return params, spread_top_k(layout.placement, user, item, data.pairs, K)
        plan = make_plan(dataset().train, *user.shape[:1], *item.shape[:1], *BLOCKS)
        return params, top_k(user, item, plan, K)

    program = ranked.lower(params, here.data).compile()
    found["ranked/sent"] = sent(collectives(program))
    params, (found["ranked/scores"], found["ranked/ids"]) = program(params, here.data)
    found |= {f"params/{n}": x for n, x in enumerate(jax.tree.leaves(params))}
    like = jax.eval_shape(model.init, jax.random.key(0))
    params = checkpoint.load_params(out / str(devices), "adversarial", "best", like)
    found |= {f"restored/{n}": x for n, x in enumerate(jax.tree.leaves(params))}
    return found | attacked(layout and layout.placement, model, params, data)


def attacked(placement, model, params, data):
    """{name: array} of an attack on nine items, and what its program sends."""
    lists = spread_lists(placement, Lists(k=K, block_users=16, block_items=32))
    victim = spread_victim(placement, make_victim(model, params, data, lists=lists, masked=True))
    options, chosen = spread_options(placement, Options(ranks=True)), pgd(steps=2, k=K, norm="l2")
    items = np.arange(9, dtype=np.int32)
    found = attack(chosen, victim, items, options=options)
    names = ("hr_before", "hr_after", "rank_before", "rank_after", "utility_after")
    made = {f"attack/{name}": getattr(found, name) for name in names}
    made["attack/delta"] = np.concatenate(found.delta, axis=1)
    if scorer_of(model) is DIRECT:
        targets = options.put(Target(np.arange(8, dtype=np.int32)))
        compiled = in_one_program(chosen, utilities=False)
        given = compiled, victim, DIRECT, ((K,), True), targets, None, starts_key(0)
        made["attack/sent"] = sent(collectives(attack_batch.lower(*given).compile()))
    return made


def main(out, meshes, stages, model):
    """Everything, on every mesh."""
    found = {}
    for devices in meshes:
        begun = time.monotonic()
        for name, value in train(devices, stages, model, out).items():
            found[f"{devices}/{name}"] = gathered(value)
        print(devices, "devices:", round(time.monotonic() - begun, 1), "s")
    if writes():
        np.savez(out / "found.npz", **found)


if __name__ == "__main__":
    folder, counts, names, kind = sys.argv[1:]
    main(pathlib.Path(folder), [*map(int, counts.split(","))], names.split(","), kind)
