"""The models by name: what each may be told, and what makes it.

A model is a file beside this one, with its settings and `make`, and a line here. What a
defence or an attack needs of a model it asks of its declarations (`declarations`).
"""

from typing import NamedTuple

from uatmc_jax.checks import require
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.models import own
from uatmc_jax.models.bm3 import BM3Settings
from uatmc_jax.models.bm3 import make as make_bm3
from uatmc_jax.models.dragon import DRAGONSettings
from uatmc_jax.models.dragon import make as make_dragon
from uatmc_jax.models.freedom import FREEDOMSettings
from uatmc_jax.models.freedom import make as make_freedom
from uatmc_jax.models.lattice import LATTICESettings
from uatmc_jax.models.lattice import make as make_lattice
from uatmc_jax.models.lgmrec import LGMRecSettings
from uatmc_jax.models.lgmrec import make as make_lgmrec
from uatmc_jax.models.lightgcn import LightGCNSettings
from uatmc_jax.models.lightgcn import make as make_lightgcn
from uatmc_jax.models.linear_vbpr import LinearVBPRSettings
from uatmc_jax.models.linear_vbpr import make as make_linear_vbpr
from uatmc_jax.models.mgcn import MGCNSettings
from uatmc_jax.models.mgcn import make as make_mgcn
from uatmc_jax.models.mmgcf import MMGCFSettings
from uatmc_jax.models.mmgcf import make as make_mmgcf
from uatmc_jax.models.mmgcn import MMGCNSettings
from uatmc_jax.models.mmgcn import make as make_mmgcn
from uatmc_jax.models.protocol import Model
from uatmc_jax.models.settings import Make, ModelSettings
from uatmc_jax.models.vbpr import VBPRSettings
from uatmc_jax.models.vbpr import make as make_vbpr


class Entry(NamedTuple):
    """One model.

    Attributes:
      settings: the dataclass of its settings, a `ModelSettings`.
      make: (settings, Sizes) -> Model.
    """

    settings: type[ModelSettings]
    make: Make


MODELS = {
    "vbpr": Entry(VBPRSettings, make_vbpr),
    "linear_vbpr": Entry(LinearVBPRSettings, make_linear_vbpr),
    "mmgcn": Entry(MMGCNSettings, make_mmgcn),
    "lightgcn": Entry(LightGCNSettings, make_lightgcn),
    "freedom": Entry(FREEDOMSettings, make_freedom),
    "bm3": Entry(BM3Settings, make_bm3),
    "mgcn": Entry(MGCNSettings, make_mgcn),
    "lattice": Entry(LATTICESettings, make_lattice),
    "dragon": Entry(DRAGONSettings, make_dragon),
    "mmgcf": Entry(MMGCFSettings, make_mmgcf),
    "lgmrec": Entry(LGMRecSettings, make_lgmrec),
}
_OWN = Entry(own.OwnModelSettings, own.make)


def find_model(name: str) -> Entry:
    """The model of this name.

    >>> find_model("mmgcn").settings().n_layers
    3

    Args:
      name: of `MODELS`, or "module:function" for a model of your own.

    Raises:
      InputError: neither.
    """
    if ":" in name:
        return _OWN
    wanted = " or ".join(map(repr, MODELS)) + ", or 'module:function' for a model of your own"
    require(name in MODELS, "model.name", name, wanted)
    return MODELS[name]


def build_model(settings: ModelSettings, sizes: Sizes) -> Model:
    """The model that settings describe, for a catalogue of this size.

    The same arguments give the same functions, so that what is compiled for a
    model serves every checkpoint of it.

    Args:
      settings: the config's `model` section.
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.

    Raises:
      InputError: a model of your own that cannot be imported, or whose functions
        give arrays of other shapes than `Model` says.
    """
    return find_model(settings.name).make(settings, sizes)


def declared(settings: ModelSettings) -> Model | None:
    """A model to ask for its declarations alone, before any data are open.

    Args:
      settings: the config's `model` section.

    Returns:
      None for a model of your own: reading its settings must not run its code. What it
      lacks is told when it is built.
    """
    entry = find_model(settings.name)
    return None if entry is _OWN else entry.make(settings, Sizes(1, 1, {}))
