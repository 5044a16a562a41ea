"""What one edit reaches beside what it reaches at most, and how long that takes to say.

python -m experiments.one_edit --workdir runs/baby_vbpr [--checkpoint pretrain/best]

The table in docs/attacks.md: items with exactly 5 interactions, 40 % of the users, linf 10 %,
HR@50; the attack is on each item the best of PGD and APGD on two utilities.
"""

import sys
import time

import numpy as np
from absl import flags

from uatmc_jax.attacks import apgd, attack, certify, make_victim, pgd
from uatmc_jax.benchmark.targets import choose_users, targets
from uatmc_jax.cli import start
from uatmc_jax.errors import InputError
from uatmc_jax.opened import open_run
from uatmc_jax.report.text import percent, table

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "pretrain/best", "STAGE/WHICH of it.")
_ITEMS = flags.DEFINE_integer("items", 20, "Targets.", lower_bound=1)

BRANCHES = (0, 1, 8, 32)
EPS, K, SHARE, SEED = 0.1, 50, 0.4, 999


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    run = open_run(_WORKDIR.value, _CHECKPOINT.value)
    users = choose_users(run.data, SHARE, SEED)
    victim = make_victim(run.model, run.params, run.data, users, z=run.z)
    items = targets(run.data, count=5, sample=_ITEMS.value, seed=SEED)
    attacks = [
        make(eps=EPS, k=K, **u) for make in (pgd, apgd) for u in ({}, {"utility": "sigmoid"})
    ]
    found = [attack(one, victim, items).hr_after.reshape(-1) for one in attacks]
    reached = float(np.max(found, axis=0).mean())
    rows = [["the best attack found", percent(reached), "1.00", ""]]
    for branches in BRANCHES:
        bound = {"eps": EPS, "ks": K, "branches": branches}
        certify(victim, items[:2], **bound)  # compiles
        started = time.monotonic()
        most = float(certify(victim, items, **bound).mean())
        seconds = (time.monotonic() - started) / len(items)
        name = f"one edit, branches = {branches}" if branches else "an edit for each"
        rows.append([name, percent(most), f"{most / reached:.2f}", f"{seconds:.3f}"])
        print(f"{name}: done", file=sys.stderr)
    print("\n".join(table(["HR@50, linf 10 %", "at most", "times the attack", "s an item"], rows)))


if __name__ == "__main__":
    start(main)
