"""An audit over several training seeds: what of each is set beside the others."""

from collections.abc import Mapping, Sequence


def training_seeds(first: int, count: int) -> list[int]:
    """The seeds of `count` trainings: the settings' own, then 1, 2 and so on, each once.

    >>> training_seeds(999, 3), training_seeds(1, 3)
    ([999, 1, 2], [1, 2, 3])
    """
    others = (seed for seed in range(1, count + 1) if seed != first)
    return [first, *others][:count]


def headlines(entries: Sequence[Mapping], seed: int, k: int) -> dict:
    """The numbers of one training's models that the page gives a range of.

    Args:
      entries: as in audit.json.
      seed: of the training.
      k: K of the hit rates.

    Returns:
      {"seed", "entries": {name: {"recall" (test), "before", "after", "bound" (HR@K; None without
      certificates), "contribution" (test), "objections"}}}.
    """
    return {"seed": seed, "entries": {entry["name"]: _headline(entry, k) for entry in entries}}


def _headline(entry: Mapping, k: int) -> dict:
    suite = entry["verdict"]["suite"][f"hr@{k}"]
    contribution = entry["content"]["test"]["all"]["contribution"]
    return {
        "recall": entry["recall"]["test"]["value"],
        "before": suite["before"]["value"],
        "after": suite["after"]["value"],
        "bound": suite["budget_certificate"]["value"] if "budget_certificate" in suite else None,
        "contribution": contribution and contribution["value"],
        "objections": entry.get("objections", []),
    }
