"""The two stages' losses on one batch, and the data they read from the device."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.data import CSR, Dataset, make_csr
from uatmc_jax.losses import bpr_loss, modal_info_nce
from uatmc_jax.models import Batch, Graph, Modal, Model, Params, make_graph, select, take

PROJECTION_BLOCK = 8192


@flax.struct.dataclass
class DeviceData:
    """A data set on the device.

    Attributes:
      pairs: (users, items), each (n,) int32 training interactions.
      seen: the same, by user.
      graph: the same, as a graph.
      features: modal, raw, (|I|, dim_m) float32.
    """

    pairs: tuple[jax.Array, jax.Array]
    seen: CSR
    graph: Graph
    features: Modal


def put_on_device(dataset: Dataset) -> DeviceData:
    """Copies what training reads to the default device, once."""
    train = dataset.train
    return DeviceData(
        pairs=(jnp.asarray(train.users), jnp.asarray(train.items)),
        seen=make_csr(train, dataset.n_users),
        graph=make_graph(train, dataset.n_users, dataset.n_items),
        features=tuple(jnp.asarray(x) for x in dataset.features),
    )


def project_all(model: Model, params: Params, features: Modal) -> Modal:
    """z of the whole catalogue, in blocks of rows so that hidden layers stay small."""
    n = features[0].shape[0]
    if n <= PROJECTION_BLOCK:
        return model.project(params.projectors, features)
    n_blocks = -(-n // PROJECTION_BLOCK)
    padding = n_blocks * PROJECTION_BLOCK - n
    blocks = tuple(
        jnp.pad(x, ((0, padding), (0, 0))).reshape(n_blocks, PROJECTION_BLOCK, -1) for x in features
    )
    z = jax.lax.map(lambda rows: model.project(params.projectors, rows), blocks)
    return tuple(x.reshape(n_blocks * PROJECTION_BLOCK, -1)[:n] for x in z)


class PretrainWeights(NamedTuple):
    """Scalars of L_pre: mu of L_reg and alpha of L_NCE."""

    mu: float
    alpha: float


def pretrain_objective(
    model: Model,
    params: Params,
    data: DeviceData,
    weights: PretrainWeights,
    nce_items: int,
    batch: Batch,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L_pre = L_BPR + mu L_reg + alpha L_NCE on one batch.

    A model with a cheap path has only the rows in play projected, if they are
    fewer than the catalogue.

    Args:
      model: the recommender.
      params: all of them are trained.
      data: the data set.
      weights: mu, alpha.
      nce_items: distinct items drawn for InfoNCE; 0, or |I| and more, for all.
      batch: B triples.
      key: of the drawn items.

    Returns:
      The loss, and its terms by name: "bpr", "reg", "nce".
    """
    n_items, n_triples = data.graph.n_items, batch.users.size
    n_nce = nce_items if 0 < nce_items < n_items else n_items
    # The leading part of a random permutation: n_nce distinct items.
    drawn = jnp.arange(n_items)
    if n_nce < n_items:
        drawn = jax.random.permutation(key, n_items)[:n_nce]
    in_play = jnp.concatenate([batch.positives, batch.negatives])
    selected = select(model, params.encoder, batch.users, in_play)
    if model.encode_rows is not None and 2 * n_triples + n_nce < n_items:
        rows = jnp.concatenate([in_play, drawn])
        z = model.project(params.projectors, tuple(take(x, rows) for x in data.features))
        z_play, z_nce = (tuple(x[part] for x in z) for part in _parts(2 * n_triples))
        user, item = model.encode_rows(selected, z_play)
        positive, negative = jnp.split(item, 2)
    else:
        z = model.project(params.projectors, data.features)
        z_nce = z if n_nce == n_items else tuple(take(x, drawn) for x in z)
        if model.encode_rows is not None:
            z_play = tuple(take(x, in_play) for x in z)
            user, item = model.encode_rows(selected, z_play)
            positive, negative = jnp.split(item, 2)
        else:
            all_users, all_items = model.encode(params.encoder, z, data.graph)
            user = take(all_users, batch.users)
            positive, negative = take(all_items, batch.positives), take(all_items, batch.negatives)
    terms = {
        "bpr": bpr_loss(user, positive, negative, batch.weights),
        "reg": model.regularize(params.encoder, batch, user, positive, negative),
        "nce": modal_info_nce(z_nce, params.temperature),
    }
    loss = terms["bpr"] + weights.mu * terms["reg"] + weights.alpha * terms["nce"]
    return loss, terms


def _parts(n: int) -> tuple[slice, slice]:
    return slice(None, n), slice(n, None)
