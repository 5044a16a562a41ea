"""MMRec's graph models: LightGCN, FREEDOM, BM3 and MGCN, d being the embedding's width.

    LightGCN    embedding_dict.{user,item}_emb
    the others  user_embedding.weight (|U|, d), item_id_embedding.weight (|I|, d), and of
                image and text {}_embedding.weight (|I|, D_m), {}_trs: D_m to d
    BM3         also predictor: d to d
    MGCN        also gate_{v,t}.0, gate_{image,text}_prefer.0, query_common.0: d to d,
                query_common.2.weight (1, d)

{}_embedding is the table of raw features, as training has moved it. FREEDOM and BM3 read it in
no score. MGCN's gates do, so what it has moved z by is kept (`trained_features`). Graphs are in
no checkpoint: they are built of the data. The weights do not tell the layers, nor the length of
lists: the config does. MMGCF's tensors are called as FREEDOM's, so of these the config's model
has to say which.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from uatmc_jax.conversion.tensors import (
    LETTERS,
    Left,
    Take,
    affine,
    put,
    require_modalities,
    width_of,
    with_model,
)
from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import (
    BM3Settings,
    FREEDOMSettings,
    LightGCNSettings,
    MGCNSettings,
    Params,
)
from uatmc_jax.models.bm3 import BM3Encoder
from uatmc_jax.models.lightgcn import IdTables
from uatmc_jax.models.mgcn import MGCNEncoder
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.settings import Settings

# What MMRec calls them.
_PREFIXES = {"visual": "image", "textual": "text"}
_USERS, _ITEMS = "user_embedding.weight", "item_id_embedding.weight"

# (take, left, settings, dataset, file) -> the settings with the weights' model, and these
Importer = Callable[[Take, Left, Settings, Dataset, str], tuple[Settings, Params]]


def importer_of(left: Left) -> Importer | None:
    """What imports a state_dict with these names; None if it is none of these models'."""
    if "embedding_dict.user_emb" in left:
        return _lightgcn
    if "predictor.weight" in left:
        return _bm3
    if "query_common.0.weight" in left:
        return _mgcn
    return _freedom if _ITEMS in left and "image_trs.weight" in left else None


def _lightgcn(
    take: Take, left: Left, settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    names = "embedding_dict.user_emb", "embedding_dict.item_emb"
    dim = width_of(left, names[0], 1, file)
    tables = _tables(take, dataset, dim, names)
    chosen = with_model(settings, dataset, LightGCNSettings, dim=dim, content=False)
    return chosen, Params({}, tables, jnp.float32(chosen.model.temperature))


def _freedom(
    take: Take, left: Left, settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    if not isinstance(settings.model, FREEDOMSettings):
        raise InputError(
            f"{file}: tensors that are called as FREEDOM's, but MMGCF's and others' are called so "
            "too. Name the model by its config, as in --config baby_freedom."
        )
    dim, tables, projectors, _ = _base(take, left, dataset, file)
    chosen = with_model(settings, dataset, FREEDOMSettings, dim=dim)
    return chosen, Params(projectors, tables, jnp.float32(chosen.model.temperature))


def _bm3(
    take: Take, left: Left, settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    dim, tables, projectors, _ = _base(take, left, dataset, file)
    encoder = BM3Encoder(tables, affine(take, "predictor", dim, dim))
    chosen = with_model(settings, dataset, BM3Settings, dim=dim)
    return chosen, Params(projectors, encoder, jnp.float32(chosen.model.temperature))


def _mgcn(
    take: Take, left: Left, settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    dim, tables, projectors, moved = _base(take, left, dataset, file)
    gates = {m: affine(take, f"gate_{letter}.0", dim, dim) for m, letter in LETTERS.items()}
    prefer = {m: affine(take, f"gate_{x}_prefer.0", dim, dim) for m, x in _PREFIXES.items()}
    shifts = tuple(put(moved[m] @ np.asarray(projectors[m].kernel)) for m in dataset.modalities)
    trained = any(np.abs(x).max() > 0 for x in moved.values())
    encoder = MGCNEncoder(
        tables=tables,
        gates=tuple(gates[m] for m in dataset.modalities),
        preferences=tuple(prefer[m] for m in dataset.modalities),
        query=affine(take, "query_common.0", dim, dim),
        weights=put(take("query_common.2.weight", (1, dim))[0]),
        shifts=shifts if trained else (),
    )
    chosen = with_model(settings, dataset, MGCNSettings, dim=dim, trained_features=trained)
    return chosen, Params(projectors, encoder, jnp.float32(chosen.model.temperature))


def _tables(take: Take, dataset: Dataset, dim: int, names: tuple[str, str]) -> IdTables:
    sizes = dataset.n_users, dataset.n_items
    return IdTables(*(put(take(name, (n, dim))) for name, n in zip(names, sizes, strict=True)))


def _base(
    take: Take, left: Left, dataset: Dataset, file: str
) -> tuple[int, IdTables, dict[str, Affine], dict[str, np.ndarray]]:
    """d, the id tables, the projectors, and how far training has moved the raw features."""
    require_modalities(dataset, file)
    dim = width_of(left, _USERS, 1, file)
    tables = _tables(take, dataset, dim, (_USERS, _ITEMS))
    projectors, moved = {}, {}
    for modality, features in zip(dataset.modalities, dataset.features, strict=True):
        name, width = _PREFIXES[modality], features.shape[1]
        projectors[modality] = affine(take, f"{name}_trs", width, dim)
        moved[modality] = take(f"{name}_embedding.weight", features.shape) - features
    return dim, tables, projectors, moved
