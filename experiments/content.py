"""Use of content in rows: what is kept of a measurement, and how it is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uatmc_jax.evaluation.content import PARTS
from uatmc_jax.report.text import content_cells

# Of a measurement; what its file has beside these says how it was got, as its row does.
_KEPT = ("metric", "permutations", "users", "attacked_interactions", "cold_at_most", "test")
HEADER = ("contribution", "sensitivity")
NOTE = (
    "Contribution: test recall@20 minus the same with the catalogue's mean content in every item's "
    "place. Sensitivity: test recall@20 lost when the items' contents are exchanged."
)


def of_row(content: Mapping) -> dict[str, Any]:
    """What a row keeps of a measurement of `benchmark.content.content_of`."""
    return {name: content[name] for name in _KEPT}


def merged(contents: Sequence[Mapping]) -> dict[str, Any]:
    """The means of what several training seeds' models have; intervals are left to each one's."""
    first = contents[0]
    test = {part: _mean([content["test"][part] for content in contents]) for part in PARTS}
    return {**first, "test": test}


def _mean(some: Sequence[Any]) -> Any:
    """The mean of nested numbers; None where one is missing."""
    if any(one is None for one in some):
        return None
    if isinstance(some[0], Mapping):
        names = [name for name in some[0] if not name.startswith("over_")]
        return {name: _mean([one[name] for one in some]) for name in names}
    return float(np.mean(some))


def value(content: Mapping, name: str, part: str = "all") -> float | None:
    """Contribution or sensitivity, on test interactions; None where it was not measured.

    Args:
      content: of a row.
      name: of `HEADER`.
      part: of `evaluation.content.PARTS`.
    """
    entry = content["test"].get(part, {}).get(name)
    return None if entry is None else entry["value"]


def recall(content: Mapping) -> float:
    """Test recall@20 with the items' own content."""
    return content["test"]["all"]["recall"]["own"]["value"]


def cells(content: Mapping, part: str = "all") -> list[str]:
    """One of a table for each of `HEADER`."""
    return content_cells(content["test"][part])[1:]


def found(content: Mapping, part: str = "attacked") -> str:
    """Hits among the test interactions of a part, in words; a dash where it was not measured."""
    entry = content["test"].get(part)
    if entry is None:
        return "–"
    return f"{entry['hits']['own']:,.0f} of {entry['interactions']:,.0f}"
