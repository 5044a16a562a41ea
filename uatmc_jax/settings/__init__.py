"""A config file's values, checked and typed once at the edge.

Every field of a config has a field of the same name here; nothing past this
package reads a ConfigDict.
"""

from uatmc_jax.data.source import DataSettings
from uatmc_jax.defenses.settings import AdversarialSettings
from uatmc_jax.models import ModelSettings
from uatmc_jax.optimizer import OptimizerSettings
from uatmc_jax.settings.aliases import as_recorded, result_with_new_names
from uatmc_jax.settings.attack import (
    AttackRunSettings,
    TargetSettings,
)
from uatmc_jax.settings.audit import AuditSettings
from uatmc_jax.settings.experiment import (
    CheckpointSettings,
    EvalSettings,
    PretrainSettings,
    Settings,
    from_config,
    from_flag,
)
from uatmc_jax.settings.mesh import MeshSettings
from uatmc_jax.settings.reading import (
    find_config,
    from_config_flag,
    from_values,
    load_config,
    to_dict,
)

__all__ = [
    "AdversarialSettings",
    "AttackRunSettings",
    "AuditSettings",
    "CheckpointSettings",
    "DataSettings",
    "EvalSettings",
    "MeshSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PretrainSettings",
    "Settings",
    "TargetSettings",
    "as_recorded",
    "find_config",
    "from_config",
    "from_config_flag",
    "from_flag",
    "from_values",
    "load_config",
    "result_with_new_names",
    "to_dict",
]
