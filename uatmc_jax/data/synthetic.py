"""The embedded default: a seeded data set that needs no download.

Each item has a latent vector per modality; each user a taste per modality and
a group that says which modality rules that taste. So different users are won
over by different modalities, the cross-modal mismatch of the paper's Section 3.
Features are a noisy non-linear image of the latents, popularity follows a
power law, and every user and item has at least `CORE` interactions.
"""

import numpy as np

from uatmc_jax.data.dataset import Dataset, make_dataset

CORE = 5
LATENT_DIM = 6
VISUAL_SHARES = (0.95, 0.5, 0.05)  # of a user's taste: visual-ruled, mixed, textual-ruled
GROUP_PROBABILITIES = (0.4, 0.2, 0.4)
UNPOPULAR_SHARE = 0.15  # of the items get exactly `CORE` interactions
SHARPNESS = 6.0  # how strongly taste decides against popularity and chance
NOISE = 0.1  # standard deviation of the features' noise, per coordinate


def make_synthetic(
    seed: int = 0,
    n_users: int = 2000,
    n_items: int = 1000,
    n_interactions: int = 20_000,
    dims: tuple[int, int] = (64, 32),
) -> Dataset:
    """Draws the synthetic data set; the same arguments give the same arrays.

    Args:
      seed: of numpy's PCG64 generator.
      n_users: |U|.
      n_items: |I|.
      n_interactions: exact number of interactions, all splits together.
      dims: widths of the visual and the textual features.

    Returns:
      A `Dataset` named "synthetic", each user's interactions split about 80/10/10.

    Raises:
      ValueError: sizes that leave no room for `CORE` interactions each.
    """
    if n_interactions < CORE * max(n_users, n_items) or n_interactions > n_users * n_items // 4:
        raise ValueError(
            f"n_interactions = {n_interactions} must lie between {CORE} per user and item "
            f"({CORE * max(n_users, n_items)}) and a quarter of all pairs "
            f"({n_users * n_items // 4})"
        )
    rng = np.random.default_rng(seed)
    latents = [_unit_rows(rng.normal(size=(n_items, LATENT_DIM))) for _ in dims]
    tastes = [_unit_rows(rng.normal(size=(n_users, LATENT_DIM))) for _ in dims]
    visual_share = rng.choice(VISUAL_SHARES, p=GROUP_PROBABILITIES, size=n_users)
    shares = (visual_share, 1.0 - visual_share)
    affinity = sum(
        share[:, None] * (taste @ latent.T)
        for share, taste, latent in zip(shares, tastes, latents, strict=True)
    )
    logits = SHARPNESS * LATENT_DIM**0.5 * affinity
    # No item may be with everyone, yet a small catalogue must hold all interactions.
    most = min(n_users // 2, max(n_users // 10, 4 * n_interactions // n_items))
    degrees = _power_law_degrees(rng, n_items, n_interactions, most)
    matrix = _choose_users(rng, logits, degrees)
    _raise_to_core(rng, matrix, logits)
    users, items = np.nonzero(matrix)
    rows = np.stack([users, items, _label(rng, users)], axis=1)
    features = {
        name: _render(rng, latent, dim)
        for name, latent, dim in zip(("visual", "textual"), latents, dims, strict=True)
    }
    return make_dataset("synthetic", rows, features, f"synthetic data (seed {seed})")


def _unit_rows(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def _power_law_degrees(rng, n_items, total, most) -> np.ndarray:
    """(n_items,) degrees in [CORE, most] that sum to `total`, some of them exactly CORE."""
    n_free = n_items - int(UNPOPULAR_SHARE * n_items)
    if total - CORE * n_items > n_free * (most - CORE):
        raise ValueError(f"{total} interactions are too many for {n_free} items of at most {most}")
    weights = np.arange(1, n_free + 1) ** -0.5
    spare = total - CORE * n_items
    extra = np.zeros(n_items, np.int64)
    while spare:  # what a capped head cannot take goes to the rest
        room = extra[:n_free] < most - CORE
        share = np.where(room, weights, 0.0)
        drawn = rng.multinomial(spare, share / share.sum())
        extra[:n_free] = np.minimum(extra[:n_free] + drawn, most - CORE)
        spare = total - CORE * n_items - int(extra.sum())
    return CORE + rng.permutation(extra)


def _choose_users(rng, logits: np.ndarray, item_degrees: np.ndarray) -> np.ndarray:
    """Gives item i its item_degrees[i] users, drawn by taste and by how active they are.

    Drawing k users without replacement in proportion to exp(logit) is taking
    the k largest of logit + Gumbel noise.
    """
    activity = rng.gumbel(scale=0.5, size=(len(logits), 1))
    keys = logits + activity + rng.gumbel(size=logits.shape)
    matrix = np.zeros(logits.shape, bool)
    order = np.argsort(-keys, axis=0, kind="stable")
    for item, degree in enumerate(item_degrees):
        matrix[order[:degree, item], item] = True
    return matrix


def _raise_to_core(rng, matrix: np.ndarray, logits: np.ndarray) -> None:
    """Brings every user to CORE interactions, in place, leaving item degrees as they are.

    A user who has too few takes over, item by item, the best liked item of
    another who has some to spare, drawn in proportion to how many.
    """
    degrees = matrix.sum(axis=1)
    for user in np.flatnonzero(degrees < CORE):
        while degrees[user] < CORE:
            spare = np.maximum(degrees - CORE, 0)
            giver = rng.choice(len(degrees), p=spare / spare.sum())
            offered = matrix[giver] & ~matrix[user]
            if not offered.any():
                continue
            item = int(np.where(offered, logits[user], -np.inf).argmax())
            matrix[giver, item], matrix[user, item] = False, True
            degrees[giver] -= 1
            degrees[user] += 1


def _label(rng, users: np.ndarray) -> np.ndarray:
    """Per user about 10 % validation and 10 % test, at least one of each; `users` is sorted."""
    _, start, counts = np.unique(users, return_index=True, return_counts=True)
    labels = np.zeros(len(users), np.int64)
    for first, count in zip(start, counts, strict=True):
        held = max(1, round(0.1 * count))
        chosen = first + rng.permutation(count)[: 2 * held]
        labels[chosen[:held]], labels[chosen[held:]] = 1, 2
    return labels


def _render(rng, latent: np.ndarray, dim: int) -> np.ndarray:
    """(n_items, dim) float32: a random two-layer tanh network's view of the latents, plus noise."""
    hidden = np.tanh(latent @ rng.normal(size=(LATENT_DIM, 2 * dim)))
    image = np.tanh(hidden @ rng.normal(scale=dim**-0.5, size=(2 * dim, dim)))
    return (image + rng.normal(scale=NOISE, size=image.shape)).astype(np.float32)
