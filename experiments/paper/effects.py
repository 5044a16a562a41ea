"""What decides a claim: intervals over targets and training seeds; a gain, or the hit rate won."""

from collections.abc import Sequence
from typing import Any

from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED
from uatmc_jax.benchmark.summary import always_defined
from uatmc_jax.report.text import change


def verdict(intervals: Sequence[Sequence[float | None]]) -> str:
    """Of a claim that every one of some effects is positive, by their 95 % intervals.

    `HOLDS` if all intervals are above 0; `FAILS` if one is at or below it;
    else, and if an end is undefined, `UNDECIDED`.

    >>> verdict([(0.1, 0.2)]), verdict([(0.1, 0.2), (-0.2, -0.1)]), verdict([(-0.1, 0.2)])
    ('holds', 'does not hold', 'not decided')
    """
    if any(end is None for interval in intervals for end in interval):
        return UNDECIDED
    if all(low > 0 for low, _ in intervals):
        return HOLDS
    return FAILS if any(high <= 0 for _, high in intervals) else UNDECIDED


def decided(entries: Sequence[dict]) -> str:
    """Of a claim about a defence, that every one of some effects is positive.

    As `verdict` by the intervals over training seeds and targets; `UNDECIDED` too where one
    training seed alone would say otherwise, or where there is but one.

    >>> effect = {"over_trainings": [0.1, 0.3], "by_training": [0.1, 0.2, 0.3]}
    >>> decided([effect]), decided([effect | {"by_training": [-0.1, 0.4, 0.4]}])
    ('holds', 'not decided')
    >>> decided([{"over_targets": [0.1, 0.3]}])
    'not decided'

    Args:
      entries: effects as `benchmark.summary` gives them.
    """
    if any("over_trainings" not in entry for entry in entries):
        return UNDECIDED
    found = verdict([entry["over_trainings"] for entry in entries])
    signs = [[None if v is None else v > 0 for v in entry["by_training"]] for entry in entries]
    if found == HOLDS and not all(all(some) for some in signs):
        return UNDECIDED
    if found == FAILS:
        failing = [
            not any(some)
            for some, entry in zip(signs, entries, strict=True)
            if verdict([entry["over_trainings"]]) == FAILS
        ]
        return FAILS if any(failing) else UNDECIDED
    return found


def reversed_effect(entry: dict) -> dict:
    """The effect with its sign turned.

    >>> reversed_effect({"value": 2.0, "over_targets": [1.0, 3.0], "by_training": [2.0, None]})
    {'value': -2.0, 'over_targets': [-3.0, -1.0], 'by_training': [-2.0, None]}
    """

    def turned(name: str, value: Any) -> Any:
        if name == "value":
            return None if value is None else -value
        if name == "by_training":
            return [None if v is None else -v for v in value]
        return negative(value) if name.startswith("over_") else value

    return {name: turned(name, value) for name, value in entry.items()}


def negative(interval: Sequence[float | None]) -> list[float | None]:
    """The interval of minus the effect."""
    return [None if end is None else -end for end in reversed(interval)]


def on_gain_or_points(differences: dict) -> dict:
    """A defence's effect on the gain; on the hit rate won where the gain is not always defined.

    An end of its interval, or a training's own, is undefined where nobody has a target before.
    A gain that goes the other way than the hit rate won stays, and decides nothing.

    >>> undefined = {"value": -3.0, "over_targets": [-9.0, None]}
    >>> on_gain_or_points({"gain": undefined, "points": {"value": -0.1, "over_targets": [-1, 0]}})
    {'value': -0.1, 'over_targets': [-1, 0], 'of': 'HR@50'}

    Args:
      differences: of `benchmark.summary.compare`; rows of before have no points.
    """
    of_gain, points = differences["gain"], differences.get("points", {})
    if always_defined(of_gain) or points.get("value") is None:
        return of_gain
    alike = of_gain["value"] is None or (of_gain["value"] > 0) == (points["value"] > 0)
    return points | {"of": "HR@50"} if alike else of_gain


def gains_or_points(summaries: Sequence[dict]) -> tuple[str, list[dict]]:
    """What is compared of several models: all gains, or where not all are defined all points.

    >>> points = {"value": 0.01, "over_targets": [0.0, 0.02]}
    >>> known = {"gain": {"value": 3.0, "over_targets": [1.0, 9.0]}, "points": points}
    >>> other = {"gain": {"value": 9.0, "over_targets": [1.0, None]}, "points": points}
    >>> gains_or_points([known])[0], gains_or_points([known, other])[0]
    ('gain', 'points')

    Args:
      summaries: of `benchmark.summary.summarize`, of one K; rows of before have no points.
    """
    gains = [summary["gain"] for summary in summaries]
    if all(map(always_defined, gains)) or not all("points" in one for one in summaries):
        return "gain", gains
    return "points", [summary["points"] for summary in summaries]


def in_points(entry: dict) -> str:
    """An effect on a gain or a hit rate, with its values by training seed."""
    if "of" not in entry:
        return change(entry, " points") + by_training(entry)
    # A hit rate's points are of the rate itself, thousandths of a gain's.
    ends = entry.get("over_trainings", entry["over_targets"])
    shown = ", ".join(f"{100 * end:+.3f}" for end in ends)
    text = f"{100 * entry['value']:+.3f} points of {entry['of']} [{shown}]"
    if "by_training" not in entry:
        return text
    return f"{text}, by training seed {', '.join(f'{100 * v:+.3f}' for v in entry['by_training'])}"


def by_training(entry: dict) -> str:
    """ ", by training seed -1.2, +0.3, +0.1": an effect's value in each, if there are several."""
    if "by_training" not in entry:
        return ""
    shown = ("undefined" if v is None else f"{100 * v:+,.1f}" for v in entry["by_training"])
    return f", by training seed {', '.join(shown)}"
