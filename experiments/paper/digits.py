"""The paper's digits counted back to hits: how many target seeds, and what can be told apart.

With T targets and n users an HR is a whole number of hits over N = T n, and a gain
(hits after) / (hits before) - 1. One target seed of 100 targets and int(0.4 |U|) users
has some hundred to ten thousand hits before, few enough that a gain of two decimals names
them: a number of hits before is *possible* for a row if it rounds to the HR before and if
a whole number of hits after gives each of the row's gains and HRs to the last digit. An
average over several seeds has N several times as large, and digits that fit anything.

This reads the paper's tables alone; no model is trained for it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.paper import numbers
from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED, Artefact, Claim, nothing_to_draw
from experiments.study import Rows, Study, Unit
from uatmc_jax.report.text import table

TARGETS, USER_SHARE = 100, 0.4
NAMES = {"none": "w/o AT", "uat": "UAT", "uat_mc": "UAT-MC"}


class Counted(NamedTuple):
    """What a row's digits allow.

    Attributes:
      before: every possible number of hits before.
      after: for each of them the hits after, by gain.
      chance: how many would be expected to fit digits that have nothing to do with N.
    """

    before: list[int]
    after: list[list[int]]
    chance: float


def hits_after(before: int, gain: float) -> int | None:
    """The whole number of hits after that gives a gain in % to two decimals; None if none does.

    >>> hits_after(357, 13.73), hits_after(357, 13.70)
    (406, None)
    """
    nearest = round(before * (1 + gain / 100))
    for hits in (nearest - 1, nearest, nearest + 1):
        if abs(round(100 * (hits / before - 1), 2) - gain) < 1e-6:
            return hits
    return None


def count_row(hr_before: float, gains: Sequence[float], trials: int) -> Counted:
    """Every number of hits before that reproduces a row.

    >>> found = count_row(0.025, [13.45, 13.45, 13.73, 13.73], 100 * 14_239)
    >>> found.before, found.after
    ([357], [[405, 405, 406, 406]])

    Args:
      hr_before: in %, to three decimals.
      gains: in %, to two decimals.
      trials: N.
    """
    low = math.ceil(trials * (hr_before - 0.0005) / 100)
    high = math.floor(trials * (hr_before + 0.0005) / 100)
    candidates = [h for h in range(max(low, 1), high + 1) if _rounds(h, trials, hr_before)]
    fitting, after = [], []
    for before in candidates:
        hits = [hits_after(before, gain) for gain in gains]
        if None not in hits:
            fitting.append(before)
            after.append(hits)
    # Gains of `before` hits lie 100 / before apart, and 0.01 of that is taken by each.
    different = len(set(gains))
    chance = sum(min(1.0, 0.01 * before / 100) ** different for before in candidates)
    return Counted(fitting, after, chance)


def _rounds(hits: int, trials: int, percent: float) -> bool:
    return abs(round(100 * hits / trials, 3) - percent) < 1e-9


def difference_of_gains(
    before: tuple[int, int], after: tuple[int, int]
) -> tuple[float, float, float]:
    """Gain of the first minus that of the second in %, with the least 95 % interval it can have.

    Hits won are taken as independent events, one by one (Poisson). They come in bunches, a
    target's users being alike, so the true interval is wider.

    >>> [round(x, 1) for x in difference_of_gains((357, 339), (406, 374))]
    [3.4, -1.7, 8.5]
    """
    won = [b - a for a, b in zip(before, after, strict=True)]
    difference = 100 * (won[0] / before[0] - won[1] / before[1])
    spread = 100 * math.sqrt(sum(max(w, 1) / h**2 for w, h in zip(won, before, strict=True)))
    return difference, difference - 1.96 * spread, difference + 1.96 * spread


def rows_of(name: str, victim: str, users: int) -> Rows:
    """Table 2's rows of one data set and victim.

    Args:
      name: of the data set.
      victim: "vbpr" or "mmgcn".
      users: |U|.
    """
    trials, found = TARGETS * int(USER_SHARE * users), []
    for defence in NAMES:
        row = numbers.TABLE_2[name, victim, defence]
        gains = [row.fgsm_gain, row.fgsm_aligned_gain, row.pgd_gain, row.pgd_aligned_gain]
        counted = count_row(row.before, gains, trials)
        found.append(
            {
                "variant": defence,
                "hr_before": row.before,
                "gains": gains,
                "trials": trials,
                "possible": counted.before[:5],
                "possible_numbers": len(counted.before),
                "hits_after": counted.after[0] if counted.after else None,
                "by_chance": counted.chance,
            }
        )
    return found


def _units(study: Study) -> list[Unit]:
    data, model = study.dataset, study.settings.model.name
    if (data.name, model, "uat") not in numbers.TABLE_2:
        return []
    return [
        Unit(
            "digits/table2",
            {"data": data.fingerprint, "model": model, "version": 1},
            1.0,
            lambda tell: rows_of(data.name, model, data.n_users),
        )
    ]


def _section(rows: Rows) -> list[str]:
    header = ["defence", "HR@50 before, %", "gains, %", "possible hits before", "by chance alone"]
    header += ["hits after"]
    body = []
    for row in rows:
        possible = ", ".join(f"{h:,}" for h in row["possible"])
        more = row["possible_numbers"] - len(row["possible"])
        body.append(
            [
                NAMES[row["variant"]],
                f"{row['hr_before']:g}",
                ", ".join(f"{g:,g}" for g in row["gains"]),
                (possible + (f" and {more} more" if more else "")) or "none",
                f"{row['by_chance']:.2g}",
                ", ".join(f"{h:,}" for h in row["hits_after"]) if row["hits_after"] else "",
            ]
        )
    return [
        *table(header, body),
        "",
        f"Of {rows[0]['trials']:,} pairs of {TARGETS} targets and {USER_SHARE:.0%} of the users. A "
        "number is possible if with it whole numbers of hits give all of the row's digits; "
        '"by chance" is how many numbers would fit digits that came from elsewhere.',
    ]


def _claims(rows: Rows) -> list[Claim]:
    by_defence = {row["variant"]: row for row in rows}
    explained = [row for row in rows if row["possible"] and row["by_chance"] < 0.5]
    told = [
        f"{NAMES[row['variant']]} {row['possible'][0]:,} hits"
        if row["possible"]
        else f"{NAMES[row['variant']]} none"
        for row in rows
    ]
    unlikely = math.prod(min(1.0, row["by_chance"]) for row in explained)
    claims = [
        Claim(
            "why (a)",
            "The paper's digits are those of one target seed.",
            HOLDS if len(explained) >= 2 and all(r["possible"] for r in rows) else UNDECIDED,
            f"one number of hits reproduces all gains of a row: {', '.join(told)}; so many would "
            f"fit by chance with probability {unlikely:.1g}",
            "from the paper's tables alone",
        )
    ]
    pair = [by_defence[name] for name in ("uat", "uat_mc")]
    if all(row["possible"] for row in pair):
        before = tuple(row["possible"][0] for row in pair)
        after = tuple(row["hits_after"][2] for row in pair)
        difference, low, high = difference_of_gains(before, after)
        won = [b - a for a, b in zip(before, after, strict=True)]
        claims.append(
            Claim(
                "why (a)",
                "The paper's own counts tell UAT-MC from UAT (PGD).",
                HOLDS if low > 0 else FAILS if high <= 0 else UNDECIDED,
                f"UAT wins {won[0]:,} hits on {before[0]:,}, UAT-MC {won[1]:,} on {before[1]:,}: "
                f"the gains differ by {difference:,.1f} points [{low:,.1f}, {high:,.1f}] at least",
                "hits taken as independent, so the true interval is wider",
            )
        )
    return claims


ARTEFACT = Artefact(
    name="digits",
    title="Why: the paper's digits, counted back to hits",
    trainings=lambda study: [],
    units=_units,
    section=_section,
    claims=_claims,
    draw=nothing_to_draw,
)
