"""Many targets in `vmap`ped batches of bounded memory, each batch of one shape."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.own_row import OWN_ROW
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.scoring.receptive import RECEPTIVE
from uatmc_jax.attacks.victim import Victim, check_items
from uatmc_jax.errors import InputError
from uatmc_jax.models import Adjacency, Field, Model, pad_field, shells_of
from uatmc_jax.models.field import pad_shells

SCORERS = ("auto", "dense")
# Only the target's own score moves: cheap to compute, and soon compiled.
CHEAP = (DIRECT, OWN_ROW)
# Users of shell 1, of later odd shells, and items of even shells, in the smallest class of
# receptive fields. Every class has twice the last two of the one before; shell 1, whose users
# are ranked in full, grows from the fifth class on.
_NEAR, _FAR, _ITEMS = 8, 256, 16
# Of models that say themselves whom an item reaches, shell 1 has this in the smallest class, and
# grows with every one.
_REACHED = 32
_CLASSES = 6
# Those in use where compiling a program takes longer than what filling up adds.
_FEW_CLASSES = (3, 5)
_LARGEST_BATCH = 256


class Options(NamedTuple):
    """What is measured of attacked targets, and how they are worked off.

    Attributes:
      ks: K of the hit rates; empty for the attack's own alone.
      ranks: also give mean ranks, which costs a pass over all scores.
      scorer: "auto", what the model's functions allow, or "dense" whatever the model.
      memory_mib: for a batch of targets; 0 picks what suits the device. A single
        target is attacked whatever it needs.
      multiple: what a batch's size is a multiple of, where as many devices share it.
      put: what puts a batch's targets where they are worked off.
      get: what brings its results from there.
      serving: of `POLICIES`, what is computed anew once an item is edited.
    """

    ks: tuple[int, ...] = ()
    ranks: bool = False
    scorer: str = "auto"
    memory_mib: float = 0.0
    multiple: int = 1
    put: Callable[[Target], Target] = lambda targets: targets
    get: Callable[[Any], Any] = lambda results: results
    serving: str = "full"


def memory_of(options: Options) -> float:
    """The memory of a batch in MiB: as set, or what suits the device.

    On a CPU small batches, whose arrays stay in the cache, are the faster ones.
    """
    if options.memory_mib:
        return options.memory_mib
    return 64.0 if jax.default_backend() == "cpu" else 4096.0


def scorer_of(model: Model, scorer: str = "auto", serving: str = "full") -> Scorer:
    """The scorer that a model's functions allow.

    Args:
      model: the recommender, not blind under the policy.
      scorer: one of `SCORERS`.
      serving: of `POLICIES`.

    Raises:
      InputError: "frozen", where there is nothing to score, or "dense" of what is not
        computed anew.
    """
    if serving == "frozen":
        raise InputError("the policy 'frozen' computes nothing anew: there is nothing to score.")
    if serving == "own_row" and model.encode_rows is None:
        if scorer == "dense":
            raise InputError(
                "scorer = 'dense' computes everything anew, which the policy 'own_row' does not. "
                "Use 'auto'."
            )
        return OWN_ROW
    if scorer == "dense":
        return DENSE
    if model.encode_rows is not None:
        return DIRECT
    return DENSE if model.field is None else RECEPTIVE


class TargetBatch(NamedTuple):
    """Targets that are attacked together.

    Attributes:
      scorer: theirs.
      items: (b,) int32 targets.
      places: (b,) where they are in the caller's order.
      size: the compiled batch's, at least b; what is missing is filled up by repetition.
      shells: their receptive fields' shells; empty unless the scorer needs them.
      shell_sizes: those of the padded shells.
      linked: shells are joined by the edges of the bipartite graph.
    """

    scorer: Scorer
    items: np.ndarray
    places: np.ndarray
    size: int
    shells: tuple[list[np.ndarray], ...] = ()
    shell_sizes: tuple[int, ...] = ()
    linked: bool = True


def plan_batches(
    victim: Victim,
    items: np.ndarray,
    scorer: Scorer,
    memory_mib: float,
    places: np.ndarray | None = None,
    multiple: int = 1,
    few_shapes: bool = False,
) -> list[TargetBatch]:
    """Cuts the targets into batches of one shape each that fit into the memory.

    Args:
      victim: the clean model.
      items: (T,) targets.
      scorer: to take; a target whose receptive field is too large takes the dense one.
      memory_mib: for a batch; a single target is attacked whatever it needs.
      places: (T,) what `TargetBatch.places` counts from; by default 0..T-1.
      multiple: of the compiled sizes; the memory is that of one device of as many.
      few_shapes: receptive fields of fewer shapes, each a program, and more that fills them up.
    """
    places = np.arange(len(items)) if places is None else places
    groups: dict[tuple[Scorer, tuple[int, ...]], list[int]] = {}
    shells: list[list[np.ndarray] | None] = [None] * len(items)
    if scorer is RECEPTIVE:
        adjacency = victim.adjacency
        wanted = np.arange(len(adjacency.indptr) - 1) >= adjacency.n_users
        wanted[np.asarray(victim.users)] = True
        shells = [_shells(victim, int(item), wanted) for item in items]
    linked = victim.model.field is None or victim.model.field.reach is None
    for n, found in enumerate(shells):
        classes = _FEW_CLASSES if few_shapes else range(_CLASSES)
        sizes = None if found is None else _padded_sizes(found, linked, classes)
        kind = DENSE if scorer is RECEPTIVE and sizes is None else scorer
        groups.setdefault((kind, sizes or ()), []).append(n)
    batches = []
    for (kind, sizes), members in groups.items():
        most = memory_mib * 2**20 // kind.bytes_per_target(victim, sizes)
        most = int(np.clip(most, 1, _LARGEST_BATCH))
        cut = functools.partial(_few_sizes, parts=1 if few_shapes else 4)
        if kind in CHEAP:
            cut = _even_sizes
        start = 0
        for size in (multiple * each for each in cut(-(-len(members) // multiple), most)):
            part = np.array(members[start : start + size])
            start += size
            fields = tuple(shells[n] for n in part) if sizes else ()
            batches.append(
                TargetBatch(kind, items[part], places[part], size, fields, sizes, linked)
            )
    return batches


def _even_sizes(count: int, most: int) -> list[int]:
    """Sizes of batches for `count` targets, at most `most` in each: alike, with little to fill."""
    n = -(-count // most)
    return [-(-count // n)] * n


def _few_sizes(count: int, most: int, parts: int = 4) -> list[int]:
    """The same, but of few different sizes over all counts, since each is a program to compile.

    A power of two, and a part of it for what is left; fewer targets than that part have
    the power of two that holds them.

    >>> _few_sizes(70, 50), _few_sizes(18, 50), _few_sizes(3, 50)
    ([32, 32, 8], [8, 8, 8], [4])
    >>> _few_sizes(70, 50, parts=1)
    [32, 32, 32]
    """
    large = 1 << (most.bit_length() - 1)
    small = max(large // parts, 1)
    if count < small:
        return [1 << (count - 1).bit_length()]
    full, rest = divmod(count, large)
    if rest > large - small:
        return [large] * (full + 1)
    return [large] * full + [small] * -(-rest // small)


def stack_targets(batch: TargetBatch, adjacency: Adjacency | None) -> Target:
    """The batch's targets with their receptive fields, as arrays of its size."""
    targets = [Target(np.int32(item)) for item in batch.items]
    if batch.shells:

        def padded(shells: list[np.ndarray]) -> Field:
            if batch.linked:
                return pad_field(adjacency, shells, batch.shell_sizes)
            return Field(pad_shells(shells, batch.shell_sizes, len(adjacency.indptr) - 1))

        targets = [
            target.replace(field=padded(shells))
            for target, shells in zip(targets, batch.shells, strict=True)
        ]
    targets += [targets[-1]] * (batch.size - len(targets))
    return jax.tree.map(lambda *rows: np.stack(rows), *targets)


def _shells(victim: Victim, item: int, wanted: np.ndarray) -> list[np.ndarray] | None:
    field, adjacency = victim.model.field, victim.adjacency
    limit = sum(_class_sizes(field.depth, _CLASSES - 1, field.reach is None))
    if field.reach is not None:
        return field.reach(victim.graph, adjacency, item, limit)
    return shells_of(adjacency, item, field.depth, wanted, limit)


def _padded_sizes(
    shells: list[np.ndarray], linked: bool, classes: Iterable[int]
) -> tuple[int, ...] | None:
    """Those of the smallest of the classes that holds the shells; None if no class does."""
    for size_class in classes:
        sizes = _class_sizes(len(shells) - 1, size_class, linked)
        if all(len(shell) <= size for shell, size in zip(shells, sizes, strict=True)):
            return sizes
    return None


def _class_sizes(depth: int, size_class: int, linked: bool) -> tuple[int, ...]:
    """Padded sizes of the shells 0..depth."""
    near = _NEAR << max(size_class - 3, 0) if linked else _REACHED << size_class
    far, items = _FAR << size_class, _ITEMS << size_class
    return tuple([1, near][: depth + 1] + [far if k % 2 else items for k in range(2, depth + 1)])


# (scorer, targets, their places in the caller's order) -> pytree of (b, ...) arrays
Run = Callable[[Scorer, Target, np.ndarray], Any]


def in_batches(
    victim: Victim,
    items: np.ndarray,
    options: Options,
    run: Run,
    numbers: Callable[[Any], Sequence[np.ndarray]],
) -> Iterator[tuple[Scorer, np.ndarray, Any]]:
    """Runs something on all targets, batch by batch.

    A target for which the scorer leaves a number open (NaN) is run again with the
    dense one.

    Args:
      victim: the clean model.
      items: (T,) targets.
      options: scorer and memory.
      run: what to do with a batch.
      numbers: what of its result must be finite, as (b, ...) arrays.

    Yields:
      The scorer taken, the places in `items`, and `run`'s result for them.

    Raises:
      InputError: an item that is none, or values that are not finite with the dense scorer
        either.
    """
    items, memory = check_items(victim, items), memory_of(options)
    few = jax.default_backend() != "cpu"
    plan = functools.partial(plan_batches, victim, multiple=options.multiple, few_shapes=few)
    pending = plan(items, scorer_of(victim.model, options.scorer, options.serving), memory)
    while pending:
        batch = pending.pop(0)
        count = len(batch.items)
        padded = np.pad(batch.places, (0, batch.size - count), mode="edge")
        targets = options.put(stack_targets(batch, victim.adjacency))
        result = options.get(run(batch.scorer, targets, padded))
        result = jax.tree.map(lambda x, rows=slice(count): np.asarray(x)[rows], result)
        columns = [x.reshape(count, -1) for x in numbers(result)]
        answered = np.isfinite(np.concatenate(columns, axis=1)).all(axis=1)
        if batch.scorer not in (DENSE, OWN_ROW) and not answered.all():
            left = batch.places[~answered]
            pending += plan(items[left], DENSE, memory, places=left)
        elif not answered.all():
            raise InputError(
                f"item {batch.items[~answered][0]}: the attack gives values that are not finite. "
                "Use a smaller eps, beta or margin."
            )
        if answered.any():
            kept = jax.tree.map(lambda x, rows=answered: x[rows], result)
            yield batch.scorer, batch.places[answered], kept


def join(parts: Iterable[tuple[np.ndarray, Any]]) -> Any:
    """Batches of (places, rows) as one, in the order of the targets given."""
    parts = list(parts)
    order = np.argsort(np.concatenate([places for places, _ in parts]))
    return jax.tree.map(lambda *rows: np.concatenate(rows)[order], *(rows for _, rows in parts))
