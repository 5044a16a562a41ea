"""MMRec's graph models, d being the embedding's width.

    LightGCN    embedding_dict.{user,item}_emb
    the others  user_embedding.weight (|U|, d), item_id_embedding.weight (|I|, d), and of
                image and text {}_embedding.weight (|I|, D_m), {}_trs: D_m to d
    BM3         also predictor: d to d
    MGCN        also gate_{v,t}.0, gate_{image,text}_prefer.0, query_common.0: d to d,
                query_common.2.weight (1, d)
    LATTICE     also modal_weight (2,), visual first
    LGMRec      in place of {}_trs item_{}_trs (D_m, d), {v,t}_hyper (D_m, H)
    DRAGON      no ids; {v,t}_gcn: preference (|U|, d), MLP D_m to w, MLP_1 w to d; weight_u
                (|U|, 2, 1); and what it computes nothing with, left out

{}_embedding is the table of raw features, as training has moved it. FREEDOM and BM3 read it in
no score. MGCN's gates and LATTICE's learned lists do, so what it has moved z by is kept
(`trained_features`). LGMRec's is never trained, so that one that is not the data's is of other
data. Graphs are in no checkpoint: they are built of the data. The weights do not tell the layers,
nor the length of lists: the config does. MMGCF's tensors are called as FREEDOM's, so of these the
config's model has to say which.
"""

from collections.abc import Callable

import jax
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
    DRAGONSettings,
    FREEDOMSettings,
    LATTICESettings,
    LGMRecSettings,
    LightGCNSettings,
    MGCNSettings,
    Params,
)
from uatmc_jax.models.bm3 import BM3Encoder
from uatmc_jax.models.dragon import DRAGONEncoder, Layers
from uatmc_jax.models.lattice import LATTICEEncoder, ShiftedEncoder
from uatmc_jax.models.lgmrec import Kernels
from uatmc_jax.models.lightgcn import IdTables
from uatmc_jax.models.mgcn import MGCNEncoder
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.settings import Settings

GRAPHS = "LightGCN, FREEDOM, BM3, MGCN, LATTICE, LGMRec or DRAGON"
# What MMRec calls them.
_PREFIXES = {"visual": "image", "textual": "text"}
# DRAGON's tensors that no score reads; its first part is what they are known by.
_UNREAD = {
    "weight_i", "MLP_v", "MLP_t", "MLP_user", "image_embedding", "text_embedding", "image_trs",
    "text_trs", "result_embed",
}  # fmt: skip
# Of the largest feature: further off is not rounding to a shorter float.
_OTHER = 1e-2
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
    if "modal_weight" in left:
        return _lattice
    if "item_image_trs" in left:
        return _lgmrec
    if "weight_u" in left and "v_gcn.MLP_1.weight" in left:
        return _dragon
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
    shifts = _shifts(dataset, projectors, moved)
    encoder = MGCNEncoder(
        tables=tables,
        gates=tuple(gates[m] for m in dataset.modalities),
        preferences=tuple(prefer[m] for m in dataset.modalities),
        query=affine(take, "query_common.0", dim, dim),
        weights=put(take("query_common.2.weight", (1, dim))[0]),
        shifts=shifts,
    )
    trained = bool(shifts)
    chosen = with_model(settings, dataset, MGCNSettings, dim=dim, trained_features=trained)
    return chosen, Params(projectors, encoder, jnp.float32(chosen.model.temperature))


def _lattice(
    take: Take, left: Left, settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    dim, tables, projectors, moved = _base(take, left, dataset, file)
    places = [list(LETTERS).index(modality) for modality in dataset.modalities]
    weights, shifts = put(take("modal_weight", (2,))[places]), _shifts(dataset, projectors, moved)
    encoder = LATTICEEncoder(tables, weights)
    if shifts:
        encoder = ShiftedEncoder(tables, weights, shifts)
    trained = bool(shifts)
    chosen = with_model(settings, dataset, LATTICESettings, dim=dim, trained_features=trained)
    return chosen, Params(projectors, encoder, jnp.float32(chosen.model.temperature))


def _lgmrec(
    take: Take, left: Left, settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    require_modalities(dataset, file)
    dim, n_edges = (width_of(left, name, 1, file) for name in (_USERS, "v_hyper"))
    tables = _tables(take, dataset, dim, (_USERS, _ITEMS))
    projectors = {}
    for modality, features in zip(dataset.modalities, dataset.features, strict=True):
        name, width = _PREFIXES[modality], features.shape[1]
        table = take(f"{name}_embedding.weight", features.shape)
        if np.abs(table - features).max() > _OTHER * np.abs(features).max():
            raise InputError(
                f"{file}: {name}_embedding.weight is not the {modality} features of data set "
                f"'{dataset.name}', which LGMRec never trains. Name the data that the weights were "
                "trained on with --config or --data_root."
            )
        content = put(take(f"item_{name}_trs", (width, dim)))
        edges = put(take(f"{LETTERS[modality]}_hyper", (width, n_edges)))
        projectors[modality] = Kernels(content, edges)
    chosen = with_model(settings, dataset, LGMRecSettings, dim=dim, n_edges=n_edges)
    return chosen, Params(projectors, tables, jnp.float32(chosen.model.temperature))


def _dragon(
    take: Take, left: Left, settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    if "image_trs.weight" not in left:
        raise InputError(
            f"{file}: DualGNN by its names, which is none of the models here. DRAGON can be "
            "imported."
        )
    require_modalities(dataset, file)
    width, dim = (width_of(left, f"v_gcn.{name}.weight", 0, file) for name in ("MLP", "MLP_1"))
    hidden, output, preferences = {}, {}, []
    for modality, features in zip(dataset.modalities, dataset.features, strict=True):
        name = f"{LETTERS[modality]}_gcn"
        preferences.append(put(take(f"{name}.preference", (dataset.n_users, dim))))
        hidden[modality] = affine(take, f"{name}.MLP", features.shape[1], width)
        output[modality] = affine(take, f"{name}.MLP_1", width, dim)
    both = take("weight_u", (dataset.n_users, 2, 1))[..., 0]
    weights = both[:, [list(LETTERS).index(modality) for modality in dataset.modalities]]
    for name in [one for one in left if one.partition(".")[0] in _UNREAD]:
        del left[name]
    encoder = DRAGONEncoder(tuple(preferences), put(weights))
    chosen = with_model(settings, dataset, DRAGONSettings, dim=dim, mlp_width=width)
    temperature = jnp.float32(chosen.model.temperature)
    return chosen, Params(Layers(hidden, output), encoder, temperature)


def _shifts(
    dataset: Dataset, projectors: dict[str, Affine], moved: dict[str, np.ndarray]
) -> tuple[jax.Array, ...]:
    """What training has moved z by, modal (|I|, d); nothing where it has moved nothing."""
    if not any(np.abs(x).max() > 0 for x in moved.values()):
        return ()
    return tuple(put(moved[m] @ np.asarray(projectors[m].kernel)) for m in dataset.modalities)


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
