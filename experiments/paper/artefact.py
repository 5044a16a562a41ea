"""What a table or figure of the paper is to the runner: what it needs, measures, says and draws."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.study import Rows, Study, Unit

HOLDS, FAILS, UNTESTED = "holds", "does not hold", "cannot be tested here"


class Claim(NamedTuple):
    """A sentence of the paper against what was measured.

    Attributes:
      where: section of the paper.
      text: the claim in a line.
      verdict: `HOLDS`, `FAILS` or `UNTESTED`.
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


def verdict(low: float | None) -> str:
    """`HOLDS` if the lower end of an interval is above 0; an undefined one shows nothing."""
    return HOLDS if low is not None and low > 0 else FAILS


def nothing_to_claim(rows: Rows) -> list[Claim]:
    """For an artefact that speaks to no claim."""
    del rows
    return []


def nothing_to_draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    """For an artefact without a figure."""
    del rows, folder
    return []
