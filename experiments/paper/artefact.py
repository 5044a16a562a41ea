"""What a table or figure of the paper is to the runner: what it needs, measures, says and draws."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from experiments.study import Rows, Study, Unit

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED, UNTESTED = "not decided", "cannot be tested here"


class Claim(NamedTuple):
    """A sentence of the paper against what was measured.

    Attributes:
      where: section of the paper.
      text: the claim in a line.
      verdict: `HOLDS`, `FAILS`, `UNDECIDED` or `UNTESTED`.
      evidence: our numbers with intervals.
      why: a reason, where the verdict needs one.
    """

    where: str
    text: str
    verdict: str
    evidence: str
    why: str = ""


class Artefact(NamedTuple):
    """A table or figure.

    Attributes:
      name: of its module and of its units.
      title: as a heading.
      trainings: study -> variants it needs.
      seeded: study -> those of them that it needs under every training seed.
      units: study -> what is measured on them.
      section: rows of one study -> Markdown lines.
      claims: rows of one study -> claims they speak to.
      draw: rows of one study, folder -> names of the figures written there.
    """

    name: str
    title: str
    trainings: Callable[[Study], Sequence[str]]
    units: Callable[[Study], list[Unit]]
    section: Callable[[Rows], list[str]]
    claims: Callable[[Rows], list[Claim]]
    draw: Callable[[Rows, pathlib.Path], list[str]]
    seeded: Callable[[Study], Sequence[str]] = lambda study: ()


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


def nothing_to_claim(rows: Rows) -> list[Claim]:
    """For an artefact that speaks to no claim."""
    del rows
    return []


def nothing_to_draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    """For an artefact without a figure."""
    del rows, folder
    return []
