"""Results as text for people."""

from uatmc_jax.report.attack import format_attacks
from uatmc_jax.report.training import format_summary, remarks

__all__ = ["format_attacks", "format_summary", "remarks"]
