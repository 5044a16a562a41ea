"""The two stages' losses on one batch, and the data they read from the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.losses import bpr_loss, modal_info_nce
from uatmc_jax.models import Batch, Model, Params, select
from uatmc_jax.models.projection import project_all
from uatmc_jax.models.protocol import in_encoder
from uatmc_jax.numerics import take, take_features


class PretrainCoefficients(NamedTuple):
    """Scalars of L_pre, as arrays: mu of L_reg and alpha of L_NCE."""

    mu: jax.Array
    alpha: jax.Array


def pretrain_objective(
    model: Model,
    params: Params,
    data: DeviceData,
    weights: PretrainCoefficients,
    drawn: jax.Array | None,
    batch: Batch,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L_pre = L_BPR + mu L_reg + alpha L_NCE on one batch.

    A model with a cheap path has only the rows in play projected, if they are
    fewer than the catalogue. A model with an objective of its own has that in place of L_pre.

    Args:
      model: the recommender.
      params: all of them are trained.
      data: the data set.
      weights: mu, alpha.
      drawn: (n,) int32, distinct items for InfoNCE; None for all.
      batch: B triples.
      key: of a model's own objective's draws.

    Returns:
      The loss, and its terms by name: "bpr", "reg", "nce", or the model's own.
    """
    if model.objective is not None:
        return model.objective(params, data, weights.mu, batch, key)
    n_items, n_triples = data.graph.n_items, batch.users.size
    in_play = jnp.concatenate([batch.positives, batch.negatives])
    places = (batch.users, in_play) if batch.places is None else batch.places
    n_rows = 2 * n_triples + (n_items if drawn is None else drawn.size)
    if model.encode_rows is not None and drawn is not None and n_rows < n_items:
        rows = jnp.concatenate([in_play, drawn])
        z = model.project(params.projectors, take_features(data.features, rows))
        z_play, z_nce = zip(*(jnp.split(x, [2 * n_triples]) for x in z), strict=True)
        selected = select(model, params.encoder, data.graph, *places)
        user, item = model.encode_rows(selected, z_play)
        positive, negative = jnp.split(item, 2)
    else:
        z = project_all(model, params, data.features)
        z_nce = z if drawn is None else tuple(take(x, drawn) for x in z)
        if model.encode_rows is not None and batch.places is not None:
            selected = select(model, params.encoder, data.graph, *places)
            user, item = model.encode_rows(selected, tuple(take(x, in_play) for x in z))
            positive, negative = jnp.split(item, 2)
        elif model.propagate is None:
            users, items = model.encode(params.encoder, z, data.graph)
            user = take(users, batch.users)
            positive, negative = take(items, batch.positives), take(items, batch.negatives)
        else:
            selected = select(model, params.encoder, data.graph, batch.users, in_play)
            user, item = model.propagate(selected, z, data.graph, batch.users, in_play)
            positive, negative = jnp.split(item, 2)
    terms = {
        "bpr": bpr_loss(user, positive, negative, batch.weights),
        "reg": model.regularize(params.encoder, in_encoder(batch), user, positive, negative),
        "nce": modal_info_nce(z_nce, params.temperature),
    }
    loss = terms["bpr"] + weights.mu * terms["reg"] + weights.alpha * terms["nce"]
    return loss, terms
