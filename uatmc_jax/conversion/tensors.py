"""A state_dict's tensors, taken one by one, and the settings that they decide."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import Dataset
from uatmc_jax.defenses import check_model
from uatmc_jax.errors import InputError
from uatmc_jax.models import ModelSettings, build_model, unmet
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.settings import Settings

# Modality and its letter in MMRec's names.
LETTERS = {"visual": "v", "textual": "t"}
# What is left of the file's tensors; taking one removes it, so that unknown ones remain.
Left = dict[str, np.ndarray]
# (name, shape) -> the tensor
Take = Callable[[str, tuple[int, ...]], np.ndarray]


def affine(take: Take, name: str, n_in: int, n_out: int) -> Affine:
    """A torch Linear, whose weight is (out, in)."""
    kernel = take(f"{name}.weight", (n_out, n_in)).T
    return Affine(put(kernel), put(take(f"{name}.bias", (n_out,))))


def with_model(
    settings: Settings, dataset: Dataset, kind: type[ModelSettings], **fields: Any
) -> Settings:
    """The settings with another model, and without what that model cannot be trained with."""
    if "hidden" in fields:
        fields["hidden"] = {**settings.model.hidden, **fields["hidden"]}
    # What the model has in common with the config's, the weights do not tell.
    common = {f.name for f in dataclasses.fields(kind)} - {"name", *fields}
    kept = {f.name for f in dataclasses.fields(settings.model)} & common
    chosen = kind(**{name: getattr(settings.model, name) for name in kept}, **fields)
    model = build_model(chosen, dataset.sizes)
    pretrain, adversarial = settings.pretrain, settings.adversarial
    if model.width is None or model.objective is not None:
        pretrain = dataclasses.replace(pretrain, alpha=0.0)
    if model.objective is not None or "z" not in model.reads:  # it is not hardened
        epochs = 0 if model.objective is not None else adversarial.epochs
        adversarial = dataclasses.replace(
            adversarial, defense="none", leak=False, swap_modalities=False, epochs=epochs
        )
    if unmet(model, "train_projector_head"):
        adversarial = dataclasses.replace(adversarial, train_projector_head=False)
    try:
        check_model(adversarial, model)
    except InputError:  # UAT needs nothing that some model lacks
        adversarial = dataclasses.replace(adversarial, defense="uat")
    return dataclasses.replace(settings, model=chosen, pretrain=pretrain, adversarial=adversarial)


def take_tensor(left: Left, file: str, sizes: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Removes a tensor from what is left and checks its shape."""
    if name not in left:
        raise InputError(f"{file}: lacks the tensor {name}, {shape}. Save the whole state_dict.")
    array = left.pop(name)
    if array.shape != shape:
        raise InputError(
            f"{file}: {name} is {array.shape}; wanted {shape} with {sizes}. Name the data that the "
            "weights were trained on with --config or --data_root."
        )
    return array


def width_of(left: Left, name: str, axis: int, file: str) -> int:
    """The length of an axis of a matrix that is to be taken later."""
    if name not in left:
        raise InputError(f"{file}: lacks the tensor {name}. Save the whole state_dict.")
    if left[name].ndim != 2 or not left[name].size:
        raise InputError(f"{file}: {name} is {left[name].shape}; wanted a matrix.")
    return left[name].shape[axis]


def require_modalities(dataset: Dataset, file: str) -> None:
    """Raises InputError for data of other modalities than MMRec's two."""
    if set(dataset.modalities) != set(LETTERS):
        raise InputError(other_modalities(dataset, file))


def other_modalities(dataset: Dataset, file: str) -> str:
    """What to say of data of other modalities."""
    return (
        f"{file}: the weights are of {' and '.join(LETTERS)} features, but data set "
        f"'{dataset.name}' has {', '.join(dataset.modalities)}. Name its features so in "
        "config.data.modalities."
    )


def sizes_of(dataset: Dataset) -> str:
    """The data's sizes, for a message."""
    raw = ", ".join(f"{m} features of {w}" for m, w in dataset.raw_dims.items())
    return f"data set '{dataset.name}' ({dataset.n_users} users, {dataset.n_items} items, {raw})"


def some(names: Iterable[str]) -> str:
    """Names for a message, the first dozen."""
    names = sorted(repr(name)[1:-1][:80] for name in names)
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more


def put(array: np.ndarray) -> jax.Array:
    """The tensor on the device, contiguous."""
    return jnp.asarray(np.ascontiguousarray(array).reshape(array.shape))
