"""Harmless edits on disk, as `uatmc edit` leaves them, for the defence that is shaped by them.

harmless.npz    NAME_items (E,) int32, NAME_features (E, dim_m), NAME_before (E, dim_m)
                for each modality that was edited: raw features before and after each edit
"""

import pathlib

import jax
import numpy as np

from uatmc_jax import store
from uatmc_jax.defenses import AdversarialSettings
from uatmc_jax.defenses.shapes import shape_of
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal, Model, Params

_FIELD = "config.adversarial.harmless"
# Of a feature's length, by how much the file's may miss the data's.
_TOLERANCE = 1e-3


def read_harmless(settings: AdversarialSettings, modalities: tuple[str, ...]) -> dict:
    """The arrays of the file that the settings name.

    Args:
      settings: of a defence "shaped".
      modalities: the data's, in order.

    Raises:
      InputError: no such file, or a perturbed modality without edits.
    """
    file = pathlib.Path(settings.harmless)
    if not file.is_file():
        raise InputError(
            f"{_FIELD} = {settings.harmless!r}: no such file. `uatmc edit` writes it, harmless.npz "
            "among its results."
        )
    arrays = store.read_arrays(file)
    for name in settings.modalities or modalities:
        lacks = [key for key in _keys(name) if key not in arrays]
        if lacks:
            raise InputError(
                f"{_FIELD} = {settings.harmless!r}: no harmless edits of modality {name} "
                f"({lacks[0]}). Let `uatmc edit` measure both, or name those it has in "
                "config.adversarial.modalities."
            )
    return arrays


def harmless_shapes(
    settings: AdversarialSettings,
    modalities: tuple[str, ...],
    model: Model,
    params: Params,
    features: Modal,
) -> Modal:
    """Modal, (d, d): A of `defenses.shapes`; zeros where a modality is not perturbed.

    Args:
      settings: of a defence "shaped".
      modalities: the data's, in order.
      model: whose projectors give z.
      params: of the pre-trained model.
      features: modal, raw, (|I|, dim_m).

    Raises:
      InputError: as `read_harmless`, or edits of other data.
    """
    arrays, chosen = read_harmless(settings, modalities), settings.modalities or modalities
    before, after = [], []
    for name, matrix in zip(modalities, features, strict=True):
        if name not in chosen:
            before.append(matrix[:1])
            after.append(matrix[:1])
            continue
        items, edited, was = (arrays[key] for key in _keys(name))
        _check_data(settings.harmless, name, np.asarray(matrix), items, was)
        before.append(was)
        after.append(edited)
    z, moved = (_projected(model, params, rows) for rows in (before, after))
    return tuple(shape_of(x, y) for x, y in zip(z, moved, strict=True))


def _keys(name: str) -> tuple[str, str, str]:
    return f"{name}_items", f"{name}_features", f"{name}_before"


def _check_data(
    path: str, name: str, matrix: np.ndarray, items: np.ndarray, was: np.ndarray
) -> None:
    alike = was.ndim == 2 and was.shape[1] == matrix.shape[1] and items.max() < len(matrix)
    if alike:
        length = np.maximum(np.linalg.norm(was, axis=1), 1e-12)
        alike = bool(np.all(np.linalg.norm(matrix[items] - was, axis=1) <= _TOLERANCE * length))
    if not alike:
        raise InputError(
            f"{_FIELD} = {path!r}: its {name} features are of other data than these. Give the file "
            "that `uatmc edit` has written for these."
        )


def _projected(model: Model, params: Params, rows: list) -> list[np.ndarray]:
    """Modal, (E_m, d): each modality's rows projected, padded to as many as the longest has."""
    longest = max(len(x) for x in rows)
    padded = tuple(np.resize(x, (longest, x.shape[1])).astype(np.float32) for x in rows)
    z = jax.jit(model.project)(params.projectors, padded)
    return [np.asarray(x)[: len(row)] for x, row in zip(z, rows, strict=True)]
