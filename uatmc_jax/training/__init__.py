"""The two training stages, from batches to a finished run."""

from uatmc_jax.training.run import train_and_evaluate
from uatmc_jax.training.vmapped import compatible, train_vmapped

__all__ = ["compatible", "train_and_evaluate", "train_vmapped"]
