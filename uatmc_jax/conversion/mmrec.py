"""The parameters of MMRec-style models, by their PyTorch names, as this package's.

Kinds of checkpoint are told apart by their keys (graph models: `mmrec_graphs`), d being the
embedding's width:

    VBPR, published with the paper
        u_embedding (|U|, 2d), i_embedding (|I|, d), temperature,
        item_{v,t}_proj.N: Linear, ReLU, LayerNorm per hidden width, then Linear to d,
        item_linear: 2d to d, from [z^v ; z^t]
    MMGCN, published with the paper
        id_embedding (|U|+|I|, d), temperature, item_{v,t}_proj as above,
        {v,t}_gcn: preference (|U|, w), MLP d to w where w is not d, and per layer k
        conv_embed_k (w, w), linear_layerk w to d, g_layerk w + d (or w) to d
    VBPR, MMRec's own
        u_embedding, i_embedding, item_linear from [x^t ; x^v], the raw features, text first

A torch Linear's weight is (out, in), conv_embed's (in, out). MMRec's own MMGCN keeps
neither its preferences nor its id table, so its checkpoints cannot be used by anyone.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from uatmc_jax.conversion.mmrec_graphs import GRAPHS, importer_of
from uatmc_jax.conversion.tensors import (
    LETTERS,
    Left,
    affine,
    other_modalities,
    put,
    require_modalities,
    sizes_of,
    some,
    take_tensor,
    width_of,
    with_model,
)
from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import Params
from uatmc_jax.models.linear_vbpr import LinearVBPRSettings
from uatmc_jax.models.mmgcn import MMGCNSettings
from uatmc_jax.models.mmgcn_records import Layer, MMGCNEncoder, Tower
from uatmc_jax.models.vbpr import VBPREncoder, VBPRSettings
from uatmc_jax.settings import Settings, to_dict
from uatmc_jax.training.folder import differences

# MMRec's own VBPR concatenates text first.
_RAW_ORDER = ("textual", "visual")


def from_state(
    tensors: Mapping[str, np.ndarray], settings: Settings, dataset: Dataset, file: str
) -> tuple[Settings, Params]:
    """The settings and parameters that a state_dict means.

    Args:
      tensors: {name: float32 array}.
      settings: what the weights do not decide.
      dataset: that they were trained on.
      file: to name in errors.

    Returns:
      The settings with the weights' own model, and its parameters.

    Raises:
      InputError: weights of no known model, of other sizes than the data's, missing or
        unknown ones.
    """
    left = dict(tensors)
    take = functools.partial(take_tensor, left, file, sizes_of(dataset))
    graph_model = importer_of(left)
    projected = any(re.match(r"item_[vt]_proj\.", name) for name in left)
    convolved = any(re.match(r"[vt]_gcn\.", name) for name in left)
    if convolved and not projected and graph_model is None:
        raise InputError(
            f"{file}: MMRec's own MMGCN, which keeps neither its preferences nor its id table in "
            f"the checkpoint, so its scores are lost. VBPR, {GRAPHS}, and both models as published "
            "with UAT-MC, can be imported."
        )
    if graph_model is None and not convolved and "item_linear.weight" not in left:
        raise InputError(
            f"{file}: neither VBPR nor MMGCN, {GRAPHS} by its names ({some(left)}). Give the "
            "state_dict of one of them."
        )
    if graph_model is not None:
        chosen, params = graph_model(take, left, settings, dataset, file)
    elif convolved:
        require_modalities(dataset, file)
        chosen, params = _mmgcn(take, left, settings, dataset, file)
    elif projected:
        require_modalities(dataset, file)
        chosen, params = _vbpr(take, left, settings, dataset, file)
    else:
        chosen, params = _linear_vbpr(take, left, settings, dataset, file)
    if left:
        raise InputError(
            f"{file}: unknown tensors {some(left)} beside those of {chosen.model.name}. Remove "
            "them from the state_dict."
        )
    return chosen, params


def changes(before: Settings, after: Settings) -> dict[str, tuple]:
    """{field: (value before, value after)} of the settings that differ."""
    plain = to_dict(before), to_dict(after)

    def value(settings: Any, field: str) -> Any:
        for part in field.split("."):
            settings = settings.get(part) if isinstance(settings, Mapping) else None
        return settings

    return {f: tuple(value(p, f) for p in plain) for f in differences(*plain)}


def _vbpr(take, left: Left, settings: Settings, dataset: Dataset, file: str):
    dim = width_of(left, "i_embedding", 1, file)
    user = take("u_embedding", (dataset.n_users, 2 * dim))
    item = take("i_embedding", (dataset.n_items, dim))
    hidden, projectors = _projectors(take, left, dataset, dim, file)
    kernel = take("item_linear.weight", (dim, 2 * dim)).T
    parts = dict(zip(LETTERS, np.split(kernel, 2), strict=True))
    encoder = VBPREncoder(
        user=put(user),
        item=put(item),
        kernel=put(np.concatenate([parts[m] for m in dataset.modalities])),
        bias=put(take("item_linear.bias", (dim,))),
    )
    chosen = with_model(settings, dataset, VBPRSettings, dim=dim, hidden=hidden)
    return chosen, Params(projectors, encoder, put(take("temperature", ())))


def _linear_vbpr(take, left: Left, settings: Settings, dataset: Dataset, file: str):
    dim = width_of(left, "i_embedding", 1, file)
    raw = dataset.raw_dims
    if not set(raw) <= set(_RAW_ORDER):
        raise InputError(other_modalities(dataset, file))
    order = [m for m in _RAW_ORDER if m in raw]
    user = take("u_embedding", (dataset.n_users, 2 * dim))
    item = take("i_embedding", (dataset.n_items, dim))
    kernel = take("item_linear.weight", (dim, sum(raw.values()))).T
    starts = np.cumsum([raw[m] for m in order])[:-1]
    parts = dict(zip(order, np.split(kernel, starts), strict=True))
    encoder = VBPREncoder(
        user=put(user),
        item=put(item),
        kernel=put(np.concatenate([parts[m] for m in dataset.modalities])),
        bias=put(take("item_linear.bias", (dim,))),
    )
    chosen = with_model(settings, dataset, LinearVBPRSettings, dim=dim)
    return chosen, Params({}, encoder, jnp.float32(settings.model.temperature))


def _mmgcn(take, left: Left, settings: Settings, dataset: Dataset, file: str):
    lost = [f"{letter}_gcn.preference" for letter in LETTERS.values()]
    lost = [name for name in lost if name not in left]
    if lost:
        saved = ", ".join(f"'{n}': model.{n}" for n in lost)
        raise InputError(
            f"{file}: lacks {' and '.join(lost)}. The published MMGCN holds its preferences "
            "outside of its state_dict, and without them its scores cannot be had. Save them where "
            "the model is in memory: "
            f"torch.save({{**model.state_dict(), {saved}}}, 'weights.pth')"
        )
    dim = width_of(left, "id_embedding", 1, file)
    identity = take("id_embedding", (dataset.n_users + dataset.n_items, dim))
    hidden, projectors = _projectors(take, left, dataset, dim, file)
    widths = {m: width_of(left, f"{x}_gcn.preference", 1, file) for m, x in LETTERS.items()}
    width = widths["visual"]
    read = width_of(left, "v_gcn.g_layer1.weight", 1, file)
    if read not in (width, width + dim):
        raise InputError(
            f"{file}: v_gcn.g_layer1.weight reads {read} values; wanted {width + dim} (concat) or "
            f"{width} (add)."
        )
    fuse = "add" if read == width else "concat"
    numbers = [re.fullmatch(r"v_gcn\.conv_embed_(\d{1,3})\.weight", name) for name in left]
    n_layers = max((int(n[1]) for n in numbers if n), default=1)
    towers = {
        m: _tower(take, left, f"{x}_gcn", (dataset.n_users, widths[m], dim), n_layers, fuse, file)
        for m, x in LETTERS.items()
    }
    encoder = MMGCNEncoder(put(identity), tuple(towers[m] for m in dataset.modalities))
    configured = getattr(settings.model, "latent_dims", {})
    others = {m: w for m, w in configured.items() if m not in widths}
    latent = others | {m: w for m, w in widths.items() if w != dim}
    chosen = with_model(
        settings,
        dataset,
        MMGCNSettings,
        dim=dim,
        hidden=hidden,
        latent_dims=latent,
        n_layers=n_layers,
        fuse=fuse,
    )
    return chosen, Params(projectors, encoder, put(take("temperature", ())))


def _tower(
    take, left: Left, name: str, sizes: tuple[int, int, int], n_layers: int, fuse: str, file: str
) -> Tower:
    n_users, width, dim = sizes
    preference = take(f"{name}.preference", (n_users, width))
    if width == dim and f"{name}.MLP.weight" in left:
        raise InputError(
            f"{file}: {name}.MLP goes from {dim} to {width}; with equal widths there is no such "
            "layer here. Fold it into the projector's last layer."
        )
    widen = None if width == dim else affine(take, f"{name}.MLP", dim, width)
    layers = []
    for k in range(1, n_layers + 1):
        neighbour = take(f"{name}.conv_embed_{k}.weight", (width, width))
        own = affine(take, f"{name}.linear_layer{k}", width, dim)
        n_in = width + (dim if fuse == "concat" else 0)
        layers.append(Layer(put(neighbour), own, affine(take, f"{name}.g_layer{k}", n_in, dim)))
        width = dim
    return Tower(put(preference), widen, tuple(layers))


def _projectors(take, left: Left, dataset: Dataset, dim: int, file: str):
    """{modality: hidden widths} and the Flax parameters, in the data's order."""
    hidden, params = {}, {}
    for modality in dataset.modalities:
        name = f"item_{LETTERS[modality]}_proj"
        numbers = [re.fullmatch(rf"{name}\.(\d{{1,3}})\.weight", key) for key in left]
        found = sorted(int(n[1]) for n in numbers if n)
        depth = len(found) // 2
        wanted = sorted([3 * k for k in range(depth + 1)] + [3 * k + 2 for k in range(depth)])
        if found != wanted:
            raise InputError(
                f"{file}: {name} has weights at {found}; wanted Linear, ReLU, LayerNorm for each "
                f"hidden width and a last Linear, which has them at {wanted}."
            )
        widths = [width_of(left, f"{name}.{3 * k}.weight", 0, file) for k in range(depth)]
        sizes = [dataset.raw_dims[modality], *widths, dim]
        layers = {}
        for k, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            dense = affine(take, f"{name}.{3 * k}", n_in, n_out)
            layers[f"Dense_{k}"] = {"kernel": dense.kernel, "bias": dense.bias}
            if k < depth:
                layers[f"LayerNorm_{k}"] = {
                    "scale": put(take(f"{name}.{3 * k + 2}.weight", (n_out,))),
                    "bias": put(take(f"{name}.{3 * k + 2}.bias", (n_out,))),
                }
        hidden[modality], params[modality] = tuple(widths), {"params": layers}
    return hidden, params
