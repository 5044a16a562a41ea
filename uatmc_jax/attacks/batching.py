"""Attacking many targets, one item at a time, in `vmap`ped batches of bounded memory."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.perturb import Attack, Strength, craft
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Path, Target
from uatmc_jax.attacks.scoring.receptive import RECEPTIVE
from uatmc_jax.attacks.victim import EXACT, Victim, recommendable, rows_of
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import count_at_least
from uatmc_jax.models import Modal, Model
from uatmc_jax.models.field import Adjacency, pad_field, shells_of

# Best items to keep beyond the largest K, for users in a receptive field.
SPARE_ITEMS = 77
# Users of shell 1, of later odd shells, and items of even shells, in the smallest class of
# receptive fields. Every class has twice the last two of the one before; shell 1, whose users
# are ranked in full, grows from the fifth class on.
_NEAR, _FAR, _ITEMS = 8, 256, 16
_CLASSES = 6
_LARGEST_BATCH = 256


class Outcome(NamedTuple):
    """What became of T targets.

    Attributes:
      items: (T,) int32.
      utility_before: (T,) Phi, clean.
      utility_after: (T,) Phi of the perturbation kept.
      values: (T, steps + 1) Phi along the ascent.
      hr_before: (T, Ks) share of the users with the item in their top K.
      hr_after: (T, Ks).
      rank_before: (T,) mean rank over the users the item can be recommended to;
        None unless asked for.
      rank_after: (T,).
      z: modal, (T, d), content under attack.
      delta: (T, dim_m) for each perturbed modality.
      paths: (T,) names of the paths taken.
    """

    items: np.ndarray
    utility_before: np.ndarray
    utility_after: np.ndarray
    values: np.ndarray
    hr_before: np.ndarray
    hr_after: np.ndarray
    rank_before: np.ndarray | None
    rank_after: np.ndarray | None
    z: tuple[np.ndarray, ...]
    delta: tuple[np.ndarray, ...]
    paths: np.ndarray


def list_depth(ks: Sequence[int], k: int, model: Model) -> int:
    """How many best items of each user the exact paths need."""
    return max(*ks, k) + 1 + (0 if model.field is None else SPARE_ITEMS)


def path_of(model: Model, path: str) -> Path:
    """The path that a model's functions allow.

    Args:
      model: the recommender.
      path: "auto", or "dense" to take the dense path whatever the model.
    """
    if path == "dense":
        return DENSE
    if model.encode_rows is not None:
        return DIRECT
    return DENSE if model.field is None else RECEPTIVE


class Batch(NamedTuple):
    """Targets that are attacked together.

    Attributes:
      path: they take.
      items: (b,) int32 targets.
      places: (b,) where they are in the caller's order.
      size: the compiled batch's, at least b; what is missing is filled up by repetition.
      shells: their receptive fields' shells; empty unless the path needs them.
      shell_sizes: those of the padded shells.
    """

    path: Path
    items: np.ndarray
    places: np.ndarray
    size: int
    shells: tuple[list[np.ndarray], ...] = ()
    shell_sizes: tuple[int, ...] = ()


def plan_batches(
    model: Model,
    victim: Victim,
    adjacency: Adjacency | None,
    items: np.ndarray,
    path: Path,
    memory_mib: float,
    places: np.ndarray | None = None,
) -> list[Batch]:
    """Cuts the targets into batches of one shape each that fit into the memory.

    Args:
      model: the recommender.
      victim: the clean model.
      adjacency: of the training graph; needed on the receptive path only.
      items: (T,) targets.
      path: to take; a target whose receptive field is too large takes the dense one.
      memory_mib: for a batch; a single target is attacked whatever it needs.
      places: (T,) what `Batch.places` counts from; by default 0..T-1.
    """
    places = np.arange(len(items)) if places is None else places
    groups: dict[tuple[Path, tuple[int, ...]], list[int]] = {}
    shells: list[list[np.ndarray] | None] = [None] * len(items)
    if path is RECEPTIVE:
        wanted = np.arange(len(adjacency.indptr) - 1) >= adjacency.n_users
        wanted[np.asarray(victim.users)] = True
        shells = [_shells(model, adjacency, int(item), wanted) for item in items]
    for n, found in enumerate(shells):
        sizes = None if found is None else _padded_sizes(found)
        kind = DENSE if path is RECEPTIVE and sizes is None else path
        groups.setdefault((kind, sizes or ()), []).append(n)
    batches = []
    for (kind, sizes), members in groups.items():
        most = memory_mib * 2**20 // kind.bytes_per_target(model, victim, sizes)
        most = int(np.clip(most, 1, _LARGEST_BATCH))
        size = -(-len(members) // -(-len(members) // most))  # as even as can be
        for start in range(0, len(members), size):
            part = np.array(members[start : start + size])
            fields = tuple(shells[n] for n in part) if sizes else ()
            batches.append(Batch(kind, items[part], places[part], size, fields, sizes))
    return batches


def stack_targets(batch: Batch, adjacency: Adjacency | None) -> Target:
    """The batch's targets with their receptive fields, as arrays of its size."""
    targets = [Target(np.int32(item)) for item in batch.items]
    if batch.shells:
        targets = [
            target.replace(field=pad_field(adjacency, shells, batch.shell_sizes))
            for target, shells in zip(targets, batch.shells, strict=True)
        ]
    targets += [targets[-1]] * (batch.size - len(targets))
    return jax.tree.map(lambda *rows: np.stack(rows), *targets)


def _shells(
    model: Model, adjacency: Adjacency, item: int, wanted: np.ndarray
) -> list[np.ndarray] | None:
    limit = sum(_class_sizes(model.field.depth, _CLASSES - 1))
    return shells_of(adjacency, item, model.field.depth, wanted, limit)


def _padded_sizes(shells: list[np.ndarray]) -> tuple[int, ...] | None:
    """Those of the smallest class that holds the shells; None if no class does."""
    for size_class in range(_CLASSES):
        sizes = _class_sizes(len(shells) - 1, size_class)
        if all(len(shell) <= size for shell, size in zip(shells, sizes, strict=True)):
            return sizes
    return None


def _class_sizes(depth: int, size_class: int) -> tuple[int, ...]:
    """Padded sizes of the shells 0..depth."""
    near, far, items = _NEAR << max(size_class - 3, 0), _FAR << size_class, _ITEMS << size_class
    return tuple([1, near][: depth + 1] + [far if k % 2 else items for k in range(2, depth + 1)])


def attack_targets(
    model: Model,
    attack: Attack,
    strength: Strength,
    victim: Victim,
    items: np.ndarray,
    ks: Sequence[int],
    key: jax.Array,
    *,
    adjacency: Adjacency | None = None,
    path: str = "auto",
    weights: np.ndarray | None = None,
    ranks: bool = False,
    memory_mib: float = 1024.0,
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """Attacks each target alone and yields results batch by batch.

    The result does not depend on how the targets fall into batches, but for
    floating-point rounding.

    Args:
      model: the recommender.
      attack: static choices.
      strength: eps, step size, margin, beta.
      victim: the clean model, with `list_depth` best items kept.
      items: (T,) targets.
      ks: K of the hit rates.
      key: target i's random starts come from fold_in(key, i).
      adjacency: of the training graph; needed by models with `field`.
      path: "auto" or "dense".
      weights: (T, n) of the users in Phi; by default all alike. A user the item
        cannot be recommended to never counts.
      ranks: also give mean ranks, which costs a pass over all scores.
      memory_mib: for a batch.

    Yields:
      (places in `items`, their `Outcome`).

    Raises:
      InputError: values that are not finite.
    """
    if model.affine_in_content and model.encode_rows is None:
        raise InputError(
            f"model {model.name}: affine_in_content = True needs encode_rows. Give both."
        )
    ks = tuple(ks)

    def run(path: Path, targets: Target, places: np.ndarray) -> dict[str, Any]:
        chosen = None if weights is None else jnp.asarray(weights[places], jnp.float32)
        return _attack_batch(model, path, attack, ks, ranks, victim, strength, targets, chosen, key)

    def numbers(result: dict[str, Any]) -> Sequence[np.ndarray]:
        names = ("values", "utility_after", "hr_before", "hr_after")
        return [result[name] for name in names]

    parts = in_batches(
        model, victim, adjacency, items, path_of(model, path), memory_mib, run, numbers
    )
    for kind, places, result in parts:
        yield places, Outcome(items=items[places], paths=np.full(len(places), kind.name), **result)


# (path, targets, their places in the caller's order) -> pytree of (b, ...) arrays
Run = Callable[[Path, Target, np.ndarray], Any]


def in_batches(
    model: Model,
    victim: Victim,
    adjacency: Adjacency | None,
    items: np.ndarray,
    path: Path,
    memory_mib: float,
    run: Run,
    numbers: Callable[[Any], Sequence[np.ndarray]],
) -> Iterator[tuple[Path, np.ndarray, Any]]:
    """Runs something on all targets, batch by batch.

    A target for which the path leaves a number open (NaN) is run again on the
    dense path.

    Args:
      model: the recommender.
      victim: the clean model.
      adjacency: of the training graph; needed on the receptive path only.
      items: (T,) targets.
      path: to take.
      memory_mib: for a batch.
      run: what to do with a batch.
      numbers: what of its result must be finite, as (b, ...) arrays.

    Yields:
      The path taken, the places in `items`, and `run`'s result for them.

    Raises:
      InputError: values that are not finite on the dense path either.
    """
    pending = plan_batches(model, victim, adjacency, items, path, memory_mib)
    while pending:
        batch = pending.pop(0)
        count = len(batch.items)
        padded = np.pad(batch.places, (0, batch.size - count), mode="edge")
        result = run(batch.path, stack_targets(batch, adjacency), padded)
        result = jax.tree.map(lambda x, rows=slice(count): np.asarray(x)[rows], result)
        columns = [x.reshape(count, -1) for x in numbers(result)]
        answered = np.isfinite(np.concatenate(columns, axis=1)).all(axis=1)
        if batch.path is not DENSE and not answered.all():
            left = batch.places[~answered]
            pending += plan_batches(
                model, victim, adjacency, items[left], DENSE, memory_mib, places=left
            )
        elif not answered.all():
            raise InputError(
                f"item {batch.items[~answered][0]}: the attack gives values that are not finite. "
                "Use a smaller eps, beta or margin."
            )
        if answered.any():
            kept = jax.tree.map(lambda x, rows=answered: x[rows], result)
            yield batch.path, batch.places[answered], kept


@functools.partial(jax.jit, static_argnames=("model", "path", "attack", "ks", "ranks"))
def _attack_batch(
    model: Model,
    path: Path,
    attack: Attack,
    ks: tuple[int, ...],
    ranks: bool,
    victim: Victim,
    strength: Strength,
    targets: Target,
    weights: jax.Array | None,
    key: jax.Array,
) -> dict[str, Any]:
    """`Outcome`'s fields of one batch; ranks None unless asked for."""

    def one(target: Target, weights: jax.Array | None):
        item = target.item
        site = path.prepare(model, victim, target, attack.k, ks)
        seen_by = recommendable(victim, item)
        counted = seen_by.astype(jnp.float32) * (1.0 if weights is None else weights)
        crafted = craft(
            model,
            path,
            attack,
            victim,
            strength,
            site,
            item,
            counted,
            jax.random.fold_in(key, item),
        )
        both = jax.tree.map(lambda *x: jnp.stack(x), rows_of(victim.z, item), crafted.z)
        rates = jax.lax.map(lambda z: hit_rates(model, path, victim, site, item, z), both)
        return crafted, rates

    with jax.default_matmul_precision(EXACT):
        crafted, rates = jax.vmap(one, in_axes=(0, None if weights is None else 0))(
            targets, weights
        )
        rank_before = rank_after = None
        if ranks:
            clean = tuple(x[targets.item][:, None] for x in victim.z)
            rank_before = mean_ranks(model, path, victim, targets, clean)
            rank_after = mean_ranks(model, path, victim, targets, crafted.z)
        return {
            "utility_before": crafted.values[:, 0],
            "utility_after": crafted.utility,
            "values": crafted.values,
            "hr_before": rates[:, 0],
            "hr_after": rates[:, 1],
            "rank_before": rank_before,
            "rank_after": rank_after,
            "z": _flat(crafted.z),
            "delta": _flat(crafted.delta),
        }


def hit_rates(
    model: Model, path: Path, victim: Victim, site: Any, item: jax.Array, z: Modal
) -> jax.Array:
    """(Ks,) the share of the users who have the target in their top K.

    Args:
      model: the recommender.
      path: how scores are got.
      victim: the clean model.
      site: `path.prepare` of the target.
      item: () int32 target.
      z: modal, (1, d), its content.
    """
    hits = path.hits(model, victim, site, z).astype(jnp.float32)
    return jnp.mean(jnp.where(recommendable(victim, item)[:, None], hits, 0.0), axis=0)


def _flat(rows: Modal) -> Modal:
    return tuple(x[:, 0] for x in rows)


def mean_ranks(model: Model, path: Path, victim: Victim, targets: Target, z: Modal) -> jax.Array:
    """Each target's rank, averaged over the users it can be recommended to.

    Rank 1 is the best; ties count against the target.

    Args:
      model: the recommender.
      path: how scores are got.
      victim: the clean model.
      targets: T of them, stacked.
      z: modal, (T, 1, d), their content.

    Returns:
      (T,).
    """
    if path is DIRECT:
        # Only the target's score moves: every user's scores are computed once for all targets.
        embed = jax.vmap(
            lambda t, row: DIRECT.embed(
                model, victim, DIRECT.prepare(model, victim, t, 1, (1,)), row
            ).item[t.item]
        )
        scores = victim.user @ embed(targets, z).T
        counts = count_at_least(victim.user, victim.item, victim.plan, scores, targets.item).T
    else:

        def count(inputs: tuple[Target, Modal]) -> jax.Array:
            target, row = inputs
            site = path.prepare(model, victim, target, 1, (1,))
            user, item = path.embed(model, victim, site, row)
            scores = user @ item[target.item]
            return count_at_least(user, item, victim.plan, scores[:, None], target.item[None])[:, 0]

        counts = jax.lax.map(count, (targets, z))
    seen_by = jax.vmap(lambda item: recommendable(victim, item))(targets.item)
    total = jnp.sum(jnp.where(seen_by, counts + 1, 0), axis=1)
    return total / jnp.maximum(jnp.sum(seen_by, axis=1), 1)


def join(parts: Iterable[tuple[np.ndarray, Any]]) -> Any:
    """Batches of (places, rows) as one, in the order of the targets given."""
    parts = list(parts)
    order = np.argsort(np.concatenate([places for places, _ in parts]))
    return jax.tree.map(lambda *rows: np.concatenate(rows)[order], *(rows for _, rows in parts))
