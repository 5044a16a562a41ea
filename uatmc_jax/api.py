"""What `import uatmc_jax as um` offers: the functions that the commands call too.

    >>> import uatmc_jax as um
    >>> data = um.synthetic(1, n_users=60, n_items=50, n_interactions=500)
    >>> model = um.models.vbpr(data.sizes, dim=4)
    >>> params = um.fit(model, data, um.pretrain(epochs=1, batch_size=256), seed=0)
    >>> victim = um.victim(model, params, data)
    >>> items = um.targets(data, quantiles=(0, 0.5), sample=3, seed=0)
    >>> um.attack(um.attacks.pgd(k=10), victim, items, eps=(0.02, 0.1)).hr_after.shape
    (2, 3)

Nothing here reads or writes files but `load` and `open_run`; nothing is kept between calls.
"""

from uatmc_jax import attacks, defenses, models
from uatmc_jax.attacks import attack, certify
from uatmc_jax.attacks import make_victim as victim
from uatmc_jax.attacks.serving import evaluate, recommend
from uatmc_jax.benchmark.targets import targets
from uatmc_jax.data import load_dataset as load
from uatmc_jax.data import make_synthetic as synthetic
from uatmc_jax.opened import open_run
from uatmc_jax.settings import PretrainSettings as pretrain
from uatmc_jax.training.fit import fit

__all__ = [
    "attack",
    "attacks",
    "certify",
    "defenses",
    "evaluate",
    "fit",
    "load",
    "models",
    "open_run",
    "pretrain",
    "recommend",
    "synthetic",
    "targets",
    "victim",
]
