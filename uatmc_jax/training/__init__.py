"""The two training stages, from batches to a finished run."""

from uatmc_jax.training.run import train_and_evaluate

__all__ = ["train_and_evaluate"]
