"""What the epochs of `epochs` say of the paper: its claims, by the gain or the hit rate won."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED, Claim
from experiments.paper.epochs import PUBLISHED, WITH_5
from experiments.study import Rows

UAT, UAT_MC, LEAK, BPR_LEAK = "UAT", "UAT-MC", "leak, beta 4", "leak, beta 0"
BY_POINTS = "by the hit rate won, as some gains are not defined"


class Won(NamedTuple):
    """What is compared of states: the gain, or the hit rate won where not every gain is defined.

    Attributes:
      what: its name.
      of: row -> it.
      shown: it -> text.
      why: what a claim says of the choice.
    """

    what: str
    of: Callable[[dict], float]
    shown: Callable[[float], str]
    why: str


def by_variant(rows: Rows) -> dict[str, dict[int, Rows]]:
    """{variant: {training seed: its rows}}."""
    found: dict[str, dict[int, Rows]] = {}
    for row in rows:
        found.setdefault(row["variant"], {}).setdefault(row["seed"], []).append(row)
    return found


def best(rows: Rows) -> dict:
    """The best epoch by validation of one training."""
    return next(row for row in rows if row["which"] == "best")


def best_tenth(rows: Rows) -> dict:
    """The best by validation of every tenth epoch, which is what the published code keeps.

    Of a plan without such epochs, of those looked at.
    """
    way = [row for row in rows if row["which"] != "best" and row["epoch"]]
    kept = [row for row in way if row["epoch"] % 10 == 0] or way
    return max(kept, key=lambda row: row["valid"]["recall@20"])


def last(rows: Rows) -> dict:
    """The last epoch of one training."""
    return max((row for row in rows if row["which"] != "best"), key=lambda row: row["epoch"])


def won_of(rows: Rows) -> Won:
    """On the pool that the published code attacks, if it is known in all of these."""
    pool = PUBLISHED if all(PUBLISHED in row["attacked"] for row in rows) else WITH_5
    gain = functools.partial(of_pool, pool=pool, name="gain")
    if all(np.isfinite(gain(row)) for row in rows):
        return Won("gain", gain, percent, "")

    def points(row: dict) -> float:
        return of_pool(row, pool, "after") - of_pool(row, pool, "before")

    return Won("HR@50 won", points, _points, BY_POINTS)


def of_pool(row: dict, pool: str, name: str) -> float:
    """NaN where it is undefined, or the pool was not attacked."""
    found = row["attacked"].get(pool, {}).get(name)
    return np.nan if found is None else found


def percent(value: float) -> str:
    """A gain, as text."""
    return f"{100 * value:,.0f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.3f} points"


def _agreed(right: Sequence[bool]) -> str:
    if len(right) < 2:
        return UNDECIDED
    return HOLDS if all(right) else UNDECIDED if any(right) else FAILS


def _listed(rows: Rows) -> str:
    return ", ".join(f"{row['sensitivity']:.4f}" for row in rows)


def claims_of(rows: Rows) -> list[Claim]:
    """What of the claims can be said of the variants that are there, against UAT's."""
    variants, won = by_variant(rows), won_of(rows)
    claims = []
    if UAT not in variants:
        return claims
    if UAT_MC in variants:
        claims.append(_of_coordination(variants, won))
    if LEAK in variants:
        claims += _of_the_leak(variants, won)
    if BPR_LEAK in variants:
        claims.append(_of_leaked_bpr(variants, won))
    if BPR_LEAK in variants and LEAK in variants:
        claims.append(_of_both_leaks(variants, won))
    return claims


def _of_coordination(variants: dict[str, dict[int, Rows]], won: Won) -> Claim:
    pairs = _pairs(variants, UAT_MC, best, won.of)
    return Claim(
        "why (c)",
        "Coordination as the paper describes it leaves the gain where UAT has it (within a "
        "tenth, at the best epoch).",
        _agreed([abs(b - a) <= 0.1 * a for a, b in pairs]),
        f"{_shown(variants, UAT, best, won)}; {_shown(variants, UAT_MC, best, won)}",
        won.why,
    )


def _of_the_leak(variants: dict[str, dict[int, Rows]], won: Won) -> list[Claim]:
    by_seed = variants[LEAK].values()
    lowest = [min(row["slope_cosine"] for row in some) for some in by_seed]
    start = [some[0]["slope_cosine"] for some in by_seed]
    deafest = [min(row["sensitivity"] for row in some) for some in by_seed]
    before = [some[0]["sensitivity"] for some in by_seed]
    heard = _pairs(variants, LEAK, best_tenth, lambda row: row["sensitivity"])
    on_the_way = [
        min(shares_of_uat(some, variants[LEAK][seed], won), default=None)
        for seed, some in variants[UAT].items()
    ]
    set_after = "in the paper UAT-MC has 0.51 of it on Baby; the threshold was set after one seed"
    return [
        Claim(
            "why (c)",
            "The leaked gradient (beta 4) drives the two modalities' slopes apart: their cosine "
            "falls below -0.5.",
            _agreed([value < -0.5 for value in lowest]),
            f"from {', '.join(f'{v:+.2f}' for v in start)} to "
            f"{', '.join(f'{v:+.2f}' for v in lowest)}",
        ),
        Claim(
            "why (c)",
            "With the leak (beta 4) the state that is taken as best has under half of UAT's gain.",
            _agreed([b < 0.5 * a for a, b in _pairs(variants, LEAK, best, won.of)]),
            f"{_shown(variants, UAT, best, won)}; {_shown(variants, LEAK, best, won)}",
            won.why,
        ),
        Claim(
            "why (c)",
            "With the leak (beta 4) the best of every tenth epoch has under two thirds of UAT's "
            "gain.",
            _agreed([3 * b < 2 * a for a, b in _pairs(variants, LEAK, best_tenth, won.of)]),
            f"{_shown(variants, UAT, best_tenth, won)}; {_shown(variants, LEAK, best_tenth, won)}",
            "; ".join(filter(None, (set_after, won.why))),
        ),
        Claim(
            "why (c)",
            "The leak (beta 4) makes the model deaf on the way: exchanging contents costs it under "
            "a tenth of what it cost before.",
            _agreed([b < 0.1 * a for a, b in zip(before, deafest, strict=True)]),
            f"sensitivity {', '.join(f'{v:.4f}' for v in before)} -> "
            f"{', '.join(f'{v:.4f}' for v in deafest)} at the lowest",
        ),
        Claim(
            "why (c)",
            "The leak (beta 4) takes the gain on the way to under half of what UAT has at the same "
            "epoch.",
            _agreed([one[0] < 0.5 for one in on_the_way if one]) if all(on_the_way) else UNDECIDED,
            "at the lowest " + ", ".join(map(_share_shown, on_the_way)),
            won.why,
        ),
        Claim(
            "why (c)",
            "That state is deaf: exchanging contents costs it under half of what it costs UAT's.",
            _agreed([b < 0.5 * a for a, b in heard]),
            f"sensitivity {', '.join(f'{a:.4f}' for a, _ in heard)} of UAT, "
            f"{', '.join(f'{b:.4f}' for _, b in heard)} with the leak",
        ),
    ]


def shares_of_uat(uats: Rows, others: Rows, won: Won) -> list[tuple[float, int]]:
    """What a training has of what UAT's has at the same epoch, and that epoch.

    Without epochs at which nothing is won against UAT's.
    """
    there = {row["epoch"]: won.of(row) for row in uats if row["which"] != "best"}
    way = [row for row in others if row["which"] != "best" and row["epoch"]]
    return [
        (won.of(row) / there[row["epoch"]], row["epoch"]) for row in way if there[row["epoch"]] > 0
    ]


def _share_shown(share: tuple[float, int] | None) -> str:
    if share is None:
        return "undefined, as nothing is won against UAT's"
    return f"{share[0]:.2f} of it at epoch {share[1]}"


def _of_leaked_bpr(variants: dict[str, dict[int, Rows]], won: Won) -> Claim:
    return Claim(
        "why (c)",
        "The leak of L_BPR alone (beta 0) does nothing of the kind: at least three "
        "quarters of UAT's gain.",
        _agreed([b >= 0.75 * a for a, b in _pairs(variants, BPR_LEAK, best, won.of)]),
        f"{_shown(variants, UAT, best, won)}; {_shown(variants, BPR_LEAK, best, won)}",
        won.why,
    )


def _of_both_leaks(variants: dict[str, dict[int, Rows]], won: Won) -> Claim:
    pairs = _pairs(variants, LEAK, best_tenth, won.of, base=BPR_LEAK)
    return Claim(
        "why (c)",
        "With the leak (beta 4) the best of every tenth epoch has under two thirds of the gain of "
        "UAT as the published code trains it, which leaks L_BPR.",
        _agreed([3 * b < 2 * a for a, b in pairs]),
        f"{_shown(variants, BPR_LEAK, best_tenth, won)}; {_shown(variants, LEAK, best_tenth, won)}",
        won.why,
    )


def _pairs(
    variants: dict[str, dict[int, Rows]],
    variant: str,
    pick: Callable[[Rows], dict],
    value: Callable[[dict], float],
    base: str = UAT,
) -> list[tuple[float, float]]:
    """(UAT's or another base's, the variant's) under each training seed that the base has."""
    return [
        (value(pick(some)), value(pick(variants[variant][seed])))
        for seed, some in variants[base].items()
    ]


def _shown(
    variants: dict[str, dict[int, Rows]], variant: str, pick: Callable[[Rows], dict], won: Won
) -> str:
    some = [pick(variants[variant][seed]) for seed in variants[UAT]]
    at, values = (
        ", ".join(texts)
        for texts in ([str(r["epoch"]) for r in some], [won.shown(won.of(r)) for r in some])
    )
    return f"{variant} at epoch {at}: {won.what} {values}, sensitivity {_listed(some)}"
