"""What the paper's Table 1 says of a data set, and what attack and defence need to know."""

import numpy as np

from uatmc_jax.data.dataset import Dataset
from uatmc_jax.data.interactions import SPLITS

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
UNPOPULAR = 5  # the paper's targets are the items with exactly this many interactions


def statistics(dataset: Dataset) -> dict:
    """Counts of a data set, as plain numbers for JSON.

    Degrees are over all splits; ids without any interaction count with degree
    0 in the quantiles and are part of the "catalogue", whose items are ranked, but not of
    `users` and `items`.
    """
    users = np.concatenate([dataset.split(s).users for s in SPLITS])
    user_counts = np.bincount(users, minlength=dataset.n_users)
    item_counts = dataset.item_counts
    active = int((user_counts > 0).sum()), int((item_counts > 0).sum())
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "users": active[0],
        "items": active[1],
        "catalogue": {"users": dataset.n_users, "items": dataset.n_items},
        "interactions": {s: len(dataset.split(s)) for s in SPLITS} | {"all": len(users)},
        "sparsity": 1.0 - len(users) / (active[0] * active[1]),
        "degree_quantiles": {
            "quantile": list(QUANTILES),
            "user": np.quantile(user_counts, QUANTILES).tolist(),
            "item": np.quantile(item_counts, QUANTILES).tolist(),
        },
        "items_with_5_interactions": int((item_counts == UNPOPULAR).sum()),
        "features": {
            m: {"shape": list(x.shape), "row_norm": _norms(x)}
            for m, x in zip(dataset.modalities, dataset.features, strict=True)
        },
    }


def _norms(matrix: np.ndarray) -> dict[str, float]:
    norms = np.linalg.norm(matrix, axis=1)
    return {"min": float(norms.min()), "mean": float(norms.mean()), "max": float(norms.max())}


def format_statistics(stats: dict) -> str:
    """The statistics as a short table for the terminal."""
    counts, degrees = stats["interactions"], stats["degree_quantiles"]

    def row(values) -> str:
        return " ".join(f"{value:>7g}" for value in values)

    lines = [
        f"data set      {stats['name']}  (fingerprint {stats['fingerprint']})",
        f"users         {stats['users']:,}",
        f"items         {stats['items']:,}",
        f"interactions  {counts['all']:,}  (train {counts['train']:,}, "
        f"valid {counts['valid']:,}, test {counts['test']:,})",
        f"sparsity      {stats['sparsity']:.3%}",
        f"quantile      {row(degrees['quantile'])}",
        f"user degree   {row(degrees['user'])}",
        f"item degree   {row(degrees['item'])}",
        f"items with exactly {UNPOPULAR} interactions (all splits): "
        f"{stats['items_with_5_interactions']:,}",
    ]
    for name, feature in stats["features"].items():
        norm = feature["row_norm"]
        lines.append(
            f"{name:<13} {feature['shape'][0]:,} x {feature['shape'][1]}, row norm "
            f"min {norm['min']:.4g}, mean {norm['mean']:.4g}, max {norm['max']:.4g}"
        )
    return "\n".join(lines)
