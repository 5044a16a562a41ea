"""Models of your own: a factory that "module:function" names (docs/own_model.md)."""

import dataclasses
import importlib
import traceback
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.checks import require
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.data.graph import make_graph
from uatmc_jax.data.interactions import Interactions
from uatmc_jax.errors import InputError
from uatmc_jax.models.declarations import inconsistent
from uatmc_jax.models.mmgcn import MMGCNSettings
from uatmc_jax.models.protocol import Model
from uatmc_jax.models.settings import ModelSettings, made_once

# Every model had these once, and factories read them.
OPTIONS = {
    field.name: getattr(MMGCNSettings(), field.name)
    for field in dataclasses.fields(MMGCNSettings)
    if field.name not in {common.name for common in dataclasses.fields(ModelSettings)}
}


@dataclasses.dataclass(frozen=True)
class OwnModelSettings(ModelSettings):
    """The settings of a model of your own.

    Attributes:
      options: the further fields of the config's `model` section, each readable as an
        attribute: `settings.n_layers`. What `OPTIONS` has is there without being given.
    """

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        module, _, function = self.name.partition(":")
        wanted = "'module:function', a factory of your own"
        require(bool(module and function), "model.name", self.name, wanted)

    def __getattr__(self, name: str) -> Any:
        # Copies ask for attributes before there are any.
        options = OPTIONS | dict(self.__dict__.get("options", {}))
        if name not in options:
            raise AttributeError(f"no field {name!r}; give config.model.{name}")
        return options[name]


@made_once
def make(settings: OwnModelSettings, sizes: Sizes) -> Model:
    """What the named factory makes, its functions' shapes checked.

    Args:
      settings: given to the factory, with |U|, |I| and the raw features' widths.
      sizes: of the catalogue.

    Raises:
      InputError: it cannot be imported or called, or its functions give arrays of other
        shapes than `Model` says.
    """
    module, _, function = settings.name.partition(":")
    try:
        model = getattr(importlib.import_module(module), function)(settings, *sizes)
        _check(settings.name, model, sizes)
    except InputError:
        raise
    # The module is the user's code: whatever it raises is about the model it makes.
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"config.model.name = {settings.name!r}: {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno}). Name an importable module and a factory in "
            "it, as in 'my_models:make_lightgcn' (docs/own_model.md)."
        ) from error
    return model


def _check(name: str, model: Model, sizes: Sizes) -> None:
    """Requires that the functions fit together, without computing anything."""
    if not isinstance(model, Model):
        raise InputError(
            f"config.model.name = {name!r}: it returned {type(model).__name__}, not a "
            "uatmc_jax.models.Model. See docs/own_model.md."
        )
    wrong = inconsistent(model)
    if wrong:
        raise InputError(f"config.model.name = {name!r}: {wrong}")
    n_users, n_items, raw_dims = sizes
    params = jax.eval_shape(model.init, jax.random.key(0))
    features = tuple(jax.ShapeDtypeStruct((n_items, w), jnp.float32) for w in raw_dims.values())
    z = jax.eval_shape(model.project, params.projectors, features)
    if len(z) != len(raw_dims) or any(x.ndim != 2 or len(x) != n_items for x in z):
        raise InputError(
            f"config.model.name = {name!r}: project gives {[x.shape for x in z]} for "
            f"{len(raw_dims)} modalities of {n_items} items; wanted one (items, d) for each."
        )
    if model.relate is not None or model.relate_users is not None:  # of the data, on the host
        return
    one = Interactions(np.zeros(1, np.int32), np.zeros(1, np.int32))
    user, item = jax.eval_shape(model.encode, params.encoder, z, make_graph(one, n_users, n_items))
    rows = user.shape[:1] + item.shape[:1]
    if rows != (n_users, n_items) or user.shape[1:] != item.shape[1:] or user.ndim != 2:
        raise InputError(
            f"config.model.name = {name!r}: encode gives users {user.shape} and items "
            f"{item.shape}; wanted ({n_users}, D) and ({n_items}, D)."
        )
