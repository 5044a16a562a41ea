"""How long VBPR's embeddings are as stage 1 goes on: where mu draws them to nothing, and where not.

    python -m experiments.collapse --config configs/baby_vbpr.py
    python -m experiments.collapse --config configs/baby_vbpr.py --config.pretrain.nce_items=0 \
        --config.pretrain.mu_warmup_epochs=0

A line an epoch: the stage's losses, root mean square lengths of the users' rows and of the
items' free and content parts, mean cos(z^v, z^t), and Recall@20. Nothing is stopped or kept.
docs/fidelity.md says what it shows.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from uatmc_jax.cli import start
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.metrics import make_measure
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models import Modal, Params, build_model, project_catalogue
from uatmc_jax.report.text import row
from uatmc_jax.settings import from_flag
from uatmc_jax.training.stages import init_params, pretrain_stage

_CONFIG = config_flags.DEFINE_config_file("config", None, "The training experiment.")
_EPOCHS = flags.DEFINE_integer("epochs", 8, "Epochs of stage 1.", lower_bound=1)


def lengths(params: Params, z: Modal) -> dict[str, float]:
    """Root mean square lengths of VBPR's rows, and the mean cosine of an item's modalities.

    Args:
      params: of a VBPR.
      z: modal, (|I|, d).
    """

    def rms(rows: jax.Array) -> float:
        return float(jnp.sqrt(jnp.mean(jnp.sum(rows * rows, axis=1))))

    encoder = params.encoder
    content = jnp.concatenate(z, axis=1) @ encoder.kernel + encoder.bias
    found = {"users": rms(encoder.user), "items": rms(encoder.item), "content": rms(content)}
    if len(z) == 2:  # rows of z have length one
        found["cos(z^v, z^t)"] = float(jnp.mean(jnp.sum(z[0] * z[1], axis=1)))
    return found


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    if _CONFIG.value is None:
        raise InputError("give --config FILE.")
    settings, _ = from_flag(_CONFIG)
    if settings.model.name != "vbpr":
        raise InputError(f"config.model.name = {settings.model.name!r}: wanted 'vbpr'.")
    dataset = open_dataset(settings.data)
    model, data = build_model(settings.model, dataset.sizes), dataset.on_device
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items)
    measure, test = make_measure(model, data, plan, (20,)), dataset.held_out("test")
    params = init_params(settings, model)
    stage, state = pretrain_stage(settings, model, params, data, lambda params, z: {})
    for epoch in range(_EPOCHS.value + 1):
        told: dict[str, float] = {}
        if epoch:
            state, terms, _ = stage.run_epoch(state, stage.fixed, data)
            told = {name: float(np.mean(values)) for name, values in terms.items()}
            params = stage.assemble(state.trained)
        told |= lengths(params, project_catalogue(model, params, data.features))
        told["test recall@20"] = float(measure(params, None, [test])[0]["recall@20"])
        if epoch < 2:
            print(row(["epoch", *told]))
        print(row([str(epoch), *(f"{value:.4f}" for value in told.values())]), flush=True)


if __name__ == "__main__":
    start(main)
