"""An audit as one HTML file that needs nothing else: page, figures, style."""

from uatmc_jax.report.audit.page import format_page

__all__ = ["format_page"]
