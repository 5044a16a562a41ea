"""A small audit, and the folder of data it is of."""

import dataclasses

from configs import audit as audit_config
from uatmc_jax.data import make_synthetic, write_dataset
from uatmc_jax.settings import AuditSettings, from_values

K = 10


def small_folder(parent, name="shop"):
    """A data set on disk, named like a shop's."""
    folder = parent / name
    dataset = make_synthetic(3, n_users=80, n_items=60, n_interactions=700)
    write_dataset(dataclasses.replace(dataset, name=name), folder)
    return folder


def small_audit(folder, **fields):
    """The quick audit, smaller still, of the data in a folder; `fields` replace the config's."""
    config = audit_config.get_config("quick")
    config.experiment.data.source = "mmrec"
    config.experiment.data.name = folder.name
    config.experiment.data.root = str(folder.parent)
    config.experiment.pretrain.epochs = 2
    del config.attack.attacks.apgd_sigmoid
    config.attack.ks = (5, K)
    for attack in config.attack.attacks.values():
        attack.k = K
    config.attack.targets.sample = 10
    config.attack.bootstrap = 100
    config.survey = 60  # all
    for name, value in fields.items():
        del config[name]
        config[name] = value
    return from_values(AuditSettings, config)
