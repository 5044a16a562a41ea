"""A config file's values, checked and typed once at the edge.

Every field of a config has a field of the same name here; nothing past this
package reads a ConfigDict.
"""

from uatmc_jax.settings.attack import (
    AttackRunSettings,
    TargetSettings,
)
from uatmc_jax.settings.audit import AuditSettings
from uatmc_jax.settings.experiment import (
    AdversarialSettings,
    CheckpointSettings,
    DataSettings,
    EvalSettings,
    ModelSettings,
    OptimizerSettings,
    PretrainSettings,
    Settings,
    from_config,
    from_flag,
)
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
    "ModelSettings",
    "OptimizerSettings",
    "PretrainSettings",
    "Settings",
    "TargetSettings",
    "find_config",
    "from_config",
    "from_config_flag",
    "from_flag",
    "from_values",
    "load_config",
    "to_dict",
]
