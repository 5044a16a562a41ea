"""The two training stages, from batches to a finished run."""

from uatmc_jax.training.run import train_and_evaluate
from uatmc_jax.training.together import compatible, train_together

__all__ = ["compatible", "train_and_evaluate", "train_together"]
