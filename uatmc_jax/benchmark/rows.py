"""One row a target: what an attack made of it, as JSON values."""

from collections.abc import Mapping, Sequence

import numpy as np

from uatmc_jax.attacks import Certificate, Collateral, Outcome
from uatmc_jax.data import Dataset
from uatmc_jax.opened import OpenedRun


def outcome_rows(
    outcome: Outcome,
    certificate: Certificate | None,
    ks: Sequence[int],
    run: OpenedRun,
    head: dict,
) -> list[dict]:
    """The rows of a batch.

    Args:
      outcome: of the batch, one budget.
      certificate: of the same targets; None for a model that has none.
      ks: K of the hit rates.
      run: the checkpoint attacked.
      head: what all rows of the batch begin with: "seed" and the like.
    """
    rows, dataset = [], run.data
    clean = [np.asarray(z)[outcome.items] for z in run.z]
    moved = dict(zip(dataset.modalities, map(_moved, clean, outcome.z), strict=True))
    for n, item in enumerate(outcome.items.tolist()):
        rows.append(
            {
                **head,
                "item": item,
                **called(dataset, item),
                "interactions": int(dataset.item_counts[item]),
                "train_interactions": int(dataset.item_train_counts[item]),
                "scorer": str(outcome.scorers[n]),
                **_numbers(outcome, n, ks),
                "moved": {m: {k: float(x[n]) for k, x in of.items()} for m, of in moved.items()},
                **_bounds(certificate, n, ks),
            }
        )
    return rows


def _moved(clean: np.ndarray, attacked: np.ndarray) -> dict[str, np.ndarray]:
    """How far z (T, d) has gone: as a share of its length, and its cosine with where it was."""
    clean, attacked = clean.astype(float), attacked.astype(float)
    before, after = (np.linalg.norm(z, axis=1) for z in (clean, attacked))
    way = np.linalg.norm(attacked - clean, axis=1)
    both = np.maximum(before * after, np.finfo(float).tiny)
    return {
        "length": way / np.maximum(before, np.finfo(float).tiny),
        "cosine": np.where(way > 0, (clean * attacked).sum(axis=1) / both, 1.0),
    }


def mean_moved(rows: Sequence[Mapping]) -> dict[str, dict[str, float]] | None:
    """The means over rows, by modality; None if older versions made them, which left it out.

    Args:
      rows: as of `outcome_rows`.
    """
    if any("moved" not in row for row in rows):
        return None
    return {
        modality: {
            name: float(np.mean([row["moved"][modality][name] for row in rows])) for name in of
        }
        for modality, of in rows[0]["moved"].items()
    }


def collateral_row(found: Collateral | None, dataset: Dataset) -> dict | None:
    """Whom else an edit moves, as JSON values; None of a model in which it reaches no other.

    Args:
      found: of `attacks.collateral_of`.
      dataset: that names the items.

    Returns:
      {"items", "users", "lists", "gained", "lost"}, of the last two None or {"item", "name",
      "title", "by"}.
    """
    if found is None:
        return None

    def of(item: int | None, by: float) -> dict | None:
        return None if item is None else {"item": item, **called(dataset, item), "by": by}

    return {
        "items": found.items,
        "users": found.users,
        "lists": found.lists,
        "gained": of(found.gained, found.gained_by),
        "lost": of(found.lost, found.lost_by),
    }


def mean_collateral(rows: Sequence[Mapping]) -> dict[str, float] | None:
    """The means over rows of how many items, users and lists move; None where not measured."""
    found = [row["collateral"] for row in rows if row.get("collateral")]
    if not found:
        return None
    return {
        name: float(np.mean([one[name] for one in found])) for name in ("items", "users", "lists")
    }


def called(dataset: Dataset, item: int) -> dict:
    """A row's shop id and title of its item; None for what is not known."""
    return {"name": dataset.names.ids.get(item), "title": dataset.names.titles.get(item)}


def _numbers(outcome: Outcome, n: int, ks: Sequence[int]) -> dict:
    numbers = {
        "utility_before": float(outcome.utility_before[n]),
        "utility_after": float(outcome.utility_after[n]),
        "utility_by_step": [float(value) for value in outcome.values[n]],
        "hr_before": _by_k(outcome.hr_before[n], ks),
        "hr_after": _by_k(outcome.hr_after[n], ks),
    }
    if outcome.rank_before is not None:
        numbers["rank_before"] = float(outcome.rank_before[n])
        numbers["rank_after"] = float(outcome.rank_after[n])
    return numbers


def _bounds(certificate: Certificate | None, n: int, ks: Sequence[int]) -> dict:
    if certificate is None:
        return {}
    bounds = {}
    if certificate.any_content is not None:
        bounds["any_content_certificate"] = _by_k(certificate.any_content[n], ks)
    if certificate.budget is not None:
        bounds["budget_certificate"] = _by_k(certificate.budget[n], ks)
    return bounds


def _by_k(shares: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    return {str(k): float(share) for k, share in zip(ks, shares, strict=True)}
