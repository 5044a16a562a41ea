"""Audits: a recommender trained, attacked, certified, hardened and attacked again.

Reading order: `plan` -> `entries` -> `measures` -> `judge` -> `serving` ->
`recommendation` -> `run`.
"""

from uatmc_jax.auditing.run import run_audit

__all__ = ["run_audit"]
