"""What a table or figure of the paper is to the runner: what it needs, measures, says and draws."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
      part: name of a unit -> the part it belongs to, of those that say something without the
        others. Shown is every part whose units are all done; by default all are one.
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
    part: Callable[[str], str] = lambda unit: ""


def figure_of(artefact: str) -> str:
    """The file of an artefact's figure, named after the paper's."""
    return {"table4": "figure5.png"}.get(artefact, f"{artefact}.png")


def nothing_to_claim(rows: Rows) -> list[Claim]:
    """For an artefact that speaks to no claim."""
    del rows
    return []


def nothing_to_draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    """For an artefact without a figure."""
    del rows, folder
    return []
