"""Steps that read and write the batch's rows of the tables of users and items, and no others.

The parameters are cut down to these rows, as `Model.select` cuts them; gradients, clipping and
Adam are of what was cut out, and it is written back. A step then costs what its batch has rows,
whatever the number of users and items. Which parameters are tables is seen from the shapes of
what `select` gives: models declare nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import tree_utils

from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, Modal, Model, Params, unmet
from uatmc_jax.models.protocol import Places, PyTree, in_encoder
from uatmc_jax.numerics import take, take_features
from uatmc_jax.optimizer import Adam
from uatmc_jax.training.replay import Moved, Schedule, advance, make_schedule

USERS, ITEMS, WHOLE = "users", "items", ""


class Rows(NamedTuple):
    """How a stage's tables are stepped.

    Attributes:
      kinds: of each leaf of the encoder, in the tree's order: USERS, ITEMS, or WHOLE for what
        is no table and all of which every step trains.
      adam: the optimiser.
      replays: missed steps are made up for ("deferred"); else they are left out ("lazy").
      block: rows moved on at a time at an epoch's end; None for all, where devices share them.
    """

    kinds: tuple[str, ...]
    adam: Adam
    replays: bool
    block: int | None = 65_536


class Carry(NamedTuple):
    """What a step changes.

    Attributes:
      trained: the trained parameters, tables whole; rows behind by what they have missed.
      optimizer: optax's state of them.
      done: () int32, steps of the stage.
      since: {kind: (n,) int32}, the step as of which a row is; empty without replays.
      places: {kind: (n,) int32} of 0, to find a batch's distinct rows with.
    """

    trained: PyTree
    optimizer: optax.OptState
    done: jax.Array
    since: dict[str, jax.Array]
    places: dict[str, jax.Array]


class Updates(NamedTuple):
    """An epoch's steps.

    Attributes:
      carry: before the first.
      step: (carry, fixed values, batch, key) -> carry, {term: value}.
      end: carry after the last -> trained parameters, optax's state.
    """

    carry: PyTree
    step: Callable[[PyTree, PyTree, Batch, jax.Array], tuple[PyTree, dict[str, jax.Array]]]
    end: Callable[[PyTree], tuple[PyTree, optax.OptState]]


def table_kinds(model: Model) -> tuple[str, ...]:
    """Which leaves of the encoder `Model.select` cuts by users and which by items.

    >>> from uatmc_jax.models import Sizes, vbpr
    >>> table_kinds(vbpr(Sizes(60, 50, {"visual": 64})))
    ('users', 'items', '', '')

    Raises:
      InputError: what it gives is not the encoder with rows of tables in place of these.
    """
    encoder = jax.eval_shape(model.init, jax.random.key(0)).encoder

    def cut(n_users: int, n_items: int) -> list:
        ids = (jax.ShapeDtypeStruct((n,), jnp.int32) for n in (n_users, n_items))
        found = jax.eval_shape(model.select, encoder, *ids)  # type: ignore[arg-type]
        if jax.tree.structure(found) != jax.tree.structure(encoder):  # type: ignore[operator]
            raise InputError(_unlike(model, "a tree unlike the encoder's"))
        return jax.tree.leaves(found)

    kinds = []
    for x, few, users, items in zip(
        jax.tree.leaves(encoder), cut(3, 5), cut(4, 5), cut(3, 6), strict=True
    ):
        kind = USERS if users.shape != few.shape else WHOLE
        if items.shape != few.shape:
            kind = ITEMS if kind == WHOLE else "both"
        n_rows = {USERS: (3,), ITEMS: (5,), WHOLE: x.shape[:1]}.get(kind)
        if few.shape != (*(n_rows or ()), *x.shape[1:]):
            raise InputError(_unlike(model, f"{few.shape} of {x.shape} for 3 users and 5 items"))
        kinds.append(kind)
    return tuple(kinds)


def check_rows(model: Model, params: Params, features: Modal, field: str) -> None:
    """Requires that a batch's loss reads no rows of the tables but the batch's own.

    Args:
      model: the recommender.
      params: of the model, some of whose rows are looked at.
      features: modal, raw, (|I|, dim_m).
      field: the setting that wants it, with its value.

    Raises:
      InputError: it does, or the model does not say which rows it reads.
    """
    lacks = unmet(model, "rows")
    if lacks:
        raise InputError(f"{field} {lacks}")
    kinds, encoder = table_kinds(model), params.encoder
    leaves = jax.tree.leaves(encoder)
    counts = {k: len(x) for k, x in zip(kinds, leaves, strict=True) if k != WHOLE}
    last = {kind: n - 1 for kind, n in counts.items()}
    ids = {
        USERS: jnp.array([last.get(USERS, 0), 0]),
        ITEMS: jnp.array([last.get(ITEMS, 1), 0, 1, 0]),
    }
    cut = model.select(encoder, ids[USERS], ids[ITEMS])  # type: ignore[misc]
    for kind, whole, some in zip(kinds, leaves, jax.tree.leaves(cut), strict=True):
        rows = whole if kind == WHOLE else take(whole, ids[kind])
        if not np.array_equal(rows, some, equal_nan=True):
            raise InputError(f"{field}: {_unlike(model, 'other than the rows of its tables')}")
    z = model.project(params.projectors, take_features(features, ids[ITEMS]))
    user, item = model.encode_rows(cut, z)  # type: ignore[misc]
    positives, negatives = jnp.split(ids[ITEMS], 2)
    whole = Batch(ids[USERS], positives, negatives, jnp.ones(2))
    placed = dataclasses.replace(whole, places=Places(jnp.arange(2), jnp.arange(4)))
    of_whole, of_batch = (
        model.regularize(of, in_encoder(batch), user, *jnp.split(item, 2))
        for of, batch in ((encoder, whole), (cut, placed))
    )
    if not np.allclose(of_whole, of_batch, rtol=1e-5, equal_nan=True):
        raise InputError(
            f"{field}: L_reg of model {model.name} reads rows of its tables beyond the batch's, "
            f"{of_whole:.6g} of the whole and {of_batch:.6g} of the batch's. Set it to 'dense'."
        )


def _unlike(model: Model, what: str) -> str:
    return (
        f"select of model {model.name} gives {what}; steps by rows want the encoder, with the "
        "rows asked for in place of its tables. Set config's optimizer.rows to 'dense'."
    )


def row_updates(
    objective: Callable,
    optimizer: optax.GradientTransformation,
    rows: Rows,
    counts: dict[str, int],
    n_steps: int,
) -> Callable[[PyTree, optax.OptState], Updates]:
    """What begins an epoch of steps that write the batch's rows alone.

    Args:
      objective: (trained parameters, fixed values, batch, key) -> loss and its terms, which
        heeds the batch's `places`.
      optimizer: clipping, if any, and `rows.adam`.
      rows: what is a table.
      counts: {USERS: |U|, ITEMS: |I|}.
      n_steps: of the epoch.

    Returns:
      (trained parameters, optax's state) -> the epoch's steps.
    """

    def begin(trained: PyTree, optimizer_state: optax.OptState) -> Updates:
        kinds = _kinds_of(trained, rows.kinds)
        done = tree_utils.tree_get(optimizer_state, "ScaleByAdamState").count
        schedule = make_schedule(rows.adam, done, n_steps) if rows.replays else None
        since = {k: jnp.full(n, done) for k, n in counts.items()} if rows.replays else {}
        places = {kind: jnp.zeros(n, jnp.int32) for kind, n in counts.items()}

        def step(carry: Carry, fixed: PyTree, batch: Batch, key: jax.Array):
            ids = {USERS: batch.users, ITEMS: jnp.concatenate([batch.positives, batch.negatives])}
            slots, found, scratch = {}, {}, {}
            for kind, some in ids.items():
                slots[kind], found[kind], scratch[kind] = _distinct(carry.places[kind], some)
            cut = [
                [_cut(x, slots.get(k)) for k, x in zip(kinds, leaves, strict=True)]
                for leaves in _leaves(carry)
            ]
            if schedule is not None:
                cut = _advanced(rows.adam, schedule, kinds, cut, carry, slots)
            (x, state), structure = _assembled(carry, cut), jax.tree.structure(trained)
            placed = dataclasses.replace(batch, places=Places(found[USERS], found[ITEMS]))
            (loss, terms), gradients = jax.value_and_grad(objective, has_aux=True)(
                x, fixed, placed, key
            )
            changes, state = optimizer.update(gradients, state, x)
            x = optax.apply_updates(x, changes)
            moments = (tree_utils.tree_get(state, name) for name in ("mu", "nu"))
            written = [
                jax.tree.unflatten(
                    structure,
                    [
                        _written(old, new, slots.get(kind))
                        for kind, old, new in zip(kinds, olds, jax.tree.leaves(news), strict=True)
                    ],
                )
                for olds, news in zip(_leaves(carry), (x, *moments), strict=True)
            ]
            now = carry.done + 1
            carry = Carry(
                trained=written[0],
                optimizer=tree_utils.tree_set(state, mu=written[1], nu=written[2]),
                done=now,
                since={k: _written(s, now, slots[k]) for k, s in carry.since.items()},
                places=scratch,
            )
            return carry, {"loss": loss, **terms}

        def end(carry: Carry) -> tuple[PyTree, optax.OptState]:
            if schedule is None:
                return carry.trained, carry.optimizer
            return _all_advanced(rows, schedule, kinds, carry)

        return Updates(Carry(trained, optimizer_state, done, since, places), step, end)

    return begin


def _kinds_of(trained: PyTree, encoder_kinds: tuple[str, ...]) -> list[str]:
    """The kinds of all trained leaves, those of the encoder being known."""
    none = jax.tree.map(lambda _: WHOLE, trained)
    encoder = jax.tree.unflatten(jax.tree.structure(trained.encoder), encoder_kinds)
    return jax.tree.leaves(dataclasses.replace(none, encoder=encoder))


def _distinct(zeros: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each of the ids once, at its last occurrence.

    Returns:
      slots: the ids; beyond the table, and none twice, where an occurrence is not the last.
      places: of each id's last occurrence.
      zeros: the scratch as it was.
    """
    order = jnp.arange(ids.size)
    places = zeros.at[ids].max(order)[ids]
    slots = jnp.where(places == order, ids, zeros.size + order)
    return slots, places, zeros.at[ids].set(0)


def _leaves(carry: Carry) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
    """The parameters' leaves, and those of their first and second moments."""
    moments = (tree_utils.tree_get(carry.optimizer, name) for name in ("mu", "nu"))
    x, m, v = (jax.tree.leaves(tree) for tree in (carry.trained, *moments))
    return x, m, v


def _cut(x: jax.Array, slots: jax.Array | None) -> jax.Array:
    if slots is None:
        return x
    # Clipped here, by row, and not in the gather, where it would be by number.
    return x.at[jnp.minimum(slots, len(x) - 1)].get(mode="promise_in_bounds")


def _written(x: jax.Array, new: jax.Array, slots: jax.Array | None) -> jax.Array:
    """The table with new rows at the slots within it."""
    return new if slots is None else x.at[slots].set(new, mode="drop", unique_indices=True)


def _assembled(carry: Carry, leaves: list[list[jax.Array]]) -> tuple[PyTree, optax.OptState]:
    structure = jax.tree.structure(carry.trained)
    x, m, v = (jax.tree.unflatten(structure, some) for some in leaves)
    return x, tree_utils.tree_set(carry.optimizer, mu=m, nu=v)


def _advanced(
    adam: Adam,
    schedule: Schedule,
    kinds: list[str],
    leaves: list[list[jax.Array]],
    carry: Carry,
    slots: dict[str, jax.Array],
) -> list[list[jax.Array]]:
    """The cut-out rows, moved on to the step before this one."""
    for kind, since in carry.since.items():
        here = [n for n, of in enumerate(kinds) if of == kind]
        moved = [Moved(*(some[n] for some in leaves)) for n in here]
        if not moved:
            continue
        moved = advance(adam, schedule, moved, _cut(since, slots[kind]), carry.done)
        for n, one in zip(here, moved, strict=True):
            for some, new in zip(leaves, one, strict=True):
                some[n] = new
    return leaves


def _all_advanced(
    rows: Rows, schedule: Schedule, kinds: list[str], carry: Carry
) -> tuple[PyTree, optax.OptState]:
    """All rows moved on to the last step, in blocks so that no second table is needed."""
    adam, leaves = rows.adam, _leaves(carry)
    for kind, since in carry.since.items():
        here = [n for n, of in enumerate(kinds) if of == kind]
        block = min(rows.block or since.size, since.size)

        def move(n: jax.Array, tables: tuple, block: int = block) -> tuple:
            # The last block is moved back; rows that it has in common with another stay.
            since, moved = tables
            start = jnp.minimum(n * block, since.size - block)
            some, part = jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, start, block), (since, moved)
            )
            part = advance(adam, schedule, part, some, carry.done)
            new = jnp.full_like(some, carry.done), part
            return jax.tree.map(
                lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, start, 0), tables, new
            )

        moved = [Moved(*(some[n] for some in leaves)) for n in here]
        if not moved:
            continue
        if rows.block is None:
            moved = advance(adam, schedule, moved, since, carry.done)
        else:
            _, moved = jax.lax.fori_loop(0, -(-since.size // block), move, (since, moved))
        for n, one in zip(here, moved, strict=True):
            for some, new in zip(leaves, one, strict=True):
                some[n] = new
    return _assembled(carry, [*leaves])
