"""A search that knows values only."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.ascent.balls import PyTree, choose, direction, project

# The single coordinate (or its step) is reached after this share of a random search.
_SHRINKING = 0.25


def random_search(
    value_of: Callable[[PyTree], jax.Array],
    start: PyTree,
    radius: PyTree,
    key: jax.Array,
    *,
    steps: int,
    norm: str,
) -> tuple[PyTree, jax.Array, jax.Array]:
    """Climbs by values alone: propose a change, keep it unless the value falls.

    linf: coordinates are taken to the opposite face of the ball, those at zero
    to either; which ones, a block that goes round a random order of all
    coordinates says. l2: a step in a random direction, projected. Block and
    step shrink, D coordinates in all, from share 1 of the coordinates (l2: from
    a step of r) to a single one (r / sqrt(D)) in the first quarter of the
    search. So in linf a search of 2 D steps or more tries each coordinate alone.

    A change that leaves the value as it is is kept too: where values are flat
    in steps, the search wanders on.

    Args:
      value_of: delta -> value; never differentiated.
      start: as in `pgd`.
      radius: as in `pgd`.
      key: of the proposals.
      steps: number of proposals n; n + 1 looks.
      norm: as in `pgd`.

    Returns:
      The perturbation, its value, and (steps + 1,) the value reached after each
      look, never falling. If any look gave a value that is not a number, so is
      the value returned.
    """
    leaves, treedef = jax.tree.flatten(start)
    dims = sum(leaf.size for leaf in leaves)
    shrunk = np.minimum(1.0, np.arange(steps) / (_SHRINKING * steps))
    blocks = np.ceil(np.round(dims ** (1.0 - shrunk), 9)).astype(np.int32)
    offsets = (np.cumsum(blocks, dtype=np.int64) - blocks) % dims
    order = jax.random.permutation(jax.random.fold_in(key, steps), dims).astype(jnp.int32)

    def propose(key: jax.Array, delta: PyTree, block: jax.Array, offset: jax.Array) -> PyTree:
        pieces, proposed, done = jax.tree.leaves(delta), [], 0
        for n, (x, r) in enumerate(zip(pieces, jax.tree.leaves(radius), strict=True)):
            k = jax.random.fold_in(key, n)
            if norm == "linf":
                place = order[done : done + x.size].reshape(x.shape)
                chosen = (place - offset) % dims < block
                side = jnp.where(x == 0, jax.random.rademacher(k, x.shape, x.dtype), -jnp.sign(x))
                proposed.append(jnp.where(chosen, r * side, x))
            else:
                random = direction(jax.random.normal(k, x.shape, x.dtype), "l2")
                proposed.append(project(x + jnp.sqrt(block / dims) * r * random, r, "l2"))
            done += x.size
        return jax.tree.unflatten(treedef, proposed)

    def look(carry: tuple, now: tuple) -> tuple:
        # The first look is at the start: one place that evaluates, so that it compiles once.
        queued, kept, best = carry
        turn, block, offset = now
        value = value_of(queued)
        best, kept = choose((value >= best) | jnp.isnan(value), (value, queued), (best, kept))
        return (propose(jax.random.fold_in(key, turn), kept, block, offset), kept, best), best

    turns = jnp.arange(steps + 1)
    plan = (np.append(blocks, 1), np.append(offsets, 0).astype(np.int32))
    carry = (start, start, jnp.float32(-jnp.inf))
    values: jax.Array
    (_, kept, value), values = jax.lax.scan(look, carry, (turns, *map(jnp.asarray, plan)))
    return kept, value, values
