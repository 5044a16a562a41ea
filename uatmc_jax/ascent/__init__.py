"""Projected gradient ascent inside a ball around each row: norms, steps, projections.

Shared by the defence's inner maximisation and by the attacks; nothing here knows of
recommenders. Four small answers make an ascent: where to start, the direction, the
step, the projection (`balls`). `ascend` and `pgd` go in steps of one length, `apgd`
chooses its own, and `random_search` knows values only.
"""

from uatmc_jax.ascent.auto import apgd, checkpoints
from uatmc_jax.ascent.balls import NORMS, direction, move, project, radii, random_start
from uatmc_jax.ascent.random import random_search
from uatmc_jax.ascent.steps import Steps, ascend, pgd

__all__ = [
    "NORMS",
    "Steps",
    "apgd",
    "ascend",
    "checkpoints",
    "direction",
    "move",
    "pgd",
    "project",
    "radii",
    "random_search",
    "random_start",
]
