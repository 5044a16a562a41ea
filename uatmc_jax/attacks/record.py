"""What an attack is, its threat model and how it searches, and what becomes of its targets.

`fgsm`, `pgd`, `apgd`, `random_search`, `copying` and `choosing` make the usual ones; whatever they
do not name is `Attack`'s default or theirs, and can be given by keyword.

    >>> pgd(norm="l2", eps=0.05).steps
    10
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.ascent import NORMS
from uatmc_jax.attacks.utility import SWITCHED
from uatmc_jax.checks import at_least, one_of, positive, require
from uatmc_jax.defenses import LEVELS
from uatmc_jax.errors import InputError

UTILITIES = ("elu", "hinge", "sigmoid")
# Of raw features, through whose neighbour an item is, and not along a gradient of the scores.
LISTED = ("relist", "neighbours")
SEARCHES = ("pgd", "apgd", "random", *LISTED)
KEEPS = ("last", "best")
_NUMBERS = ("margin", "eps", "step_size", "beta")
# Steps that every compiled "pgd" has room for.
_ROOM = 128


def _static(default: Any) -> Any:
    return flax.struct.field(pytree_node=False, default=default)


@flax.struct.dataclass
class Attack:
    """One promotion attack: its threat model and how it searches.

    margin, eps, step_size and beta are data of a compiled attack, and so is how many steps, up
    to 128, a "pgd" takes; where an edit propagates, also whether its utility is elu or hinge
    (`in_one_program`): attacks that differ in these share one program, as far as beta is 0 in
    both or in neither. Everything else shapes it.
    With an (E,) array in the place of one of the four numbers E budgets run in one call.

    Attributes:
      utility: g of Eq. 3, "elu", "hinge" or "sigmoid".
      margin: of the hinge; the sigmoid's width, above 0. In units of the scores.
      k: K of the threshold s_u^(K) that the attack wants to pass.
      norm: of the ball and of the steps, "l2" or "linf".
      eps: radius as a share of the perturbed row's 2-norm.
      steps: number of steps; 1 for FGSM; a random search's proposals; of a "relist" how many
        of the best donors are measured after each ranking; of "neighbours" those of each ascent.
      step_size: of "pgd" alone: length of a step as a share of the radius.
      restarts: searches from random points of the ball beside the one from zero.
      keep: of "pgd" alone: "last" iterate, or the "best" among the iterates and
        FGSM's point (`ascent.pgd`). The other searches keep the best.
      beta: weight of the alignment term cos(g^v, g^t); 0 leaves it out. None in a
        random search.
      level: perturb z ("projected") or the raw features ("feature").
      modalities: names of those perturbed; empty for all.
      search: "pgd" in steps of one length, "apgd" (`ascent.apgd`), or "random", by
        values of Phi alone (`ascent.random_search`); or "relist", towards other listings, for
        models that list neighbours (`attacks.relist`), or "neighbours", which begins so and then
        looks for lists that no copy has (`attacks.choose_neighbours`); their Phi is HR@k itself.
      surrogate: name of the model that the perturbation is crafted on and carried
        over from; empty for the model under attack itself.
    """

    utility: str = _static("hinge")
    margin: float = 1.0
    k: int = _static(50)
    norm: str = _static("linf")
    eps: float = 0.1
    steps: int = _static(10)
    step_size: float = 0.125
    restarts: int = _static(0)
    keep: str = _static("last")
    beta: float = 0.0
    level: str = _static("projected")
    modalities: tuple[str, ...] = _static(())
    search: str = _static("pgd")
    surrogate: str = _static("")


@flax.struct.dataclass
class Compiled(Attack):
    """An attack as compiled functions take it, with float32 arrays in its data fields.

    Attributes:
      steps_taken: () int32, at most `steps`; None for all of them.
      gain: () int32 place of the utility in `SWITCHED`; None for the one that
        `utility` names.
    """

    steps_taken: jax.Array | None = None
    gain: jax.Array | None = None


class Outcome(NamedTuple):
    """What became of T targets; with several budgets E those marked * have shape (T, E, ...).

    Attributes:
      items: (T,) int32.
      utility_before: (T,) Phi, clean.
      utility_after: (T,)* Phi of the perturbation kept.
      values: (T, steps + 1)* Phi along the ascent.
      hr_before: (T, Ks) share of the users with the item in their top K.
      hr_after: (T, Ks)*.
      rank_before: (T,) mean rank over the users the item can be recommended to;
        None unless asked for.
      rank_after: (T,)*.
      z: modal, (T, d)*, content under attack.
      delta: (T, dim_m)* for each perturbed modality.
      scorers: (T,) names of the scorers taken.
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
    scorers: np.ndarray


def fgsm(**choices: Any) -> Attack:
    """One step of the radius's length, as published: hinge with margin 10.

    Args:
      **choices: fields of `Attack` to replace.

    Raises:
      InputError: a value out of range; TypeError: no such field.
    """
    return _checked({"steps": 1, "step_size": 1.0, "margin": 10.0} | choices)


def pgd(steps: int = 10, **choices: Any) -> Attack:
    """`steps` steps of 1.25 r / steps with projection, as published: hinge with margin 1.

    Args:
      steps: number of steps.
      **choices: fields of `Attack` to replace.

    Raises:
      InputError: a value out of range; TypeError: no such field.
    """
    return _checked({"steps": steps, "step_size": 1.25 / max(steps, 1)} | choices)


def apgd(**choices: Any) -> Attack:
    """Auto-PGD from zero and from two random points, on elu.

    Args:
      **choices: fields of `Attack` to replace.

    Raises:
      InputError: a value out of range; TypeError: no such field.
    """
    return _checked({"search": "apgd", "steps": 35, "restarts": 2, "utility": "elu"} | choices)


def random_search(**choices: Any) -> Attack:
    """300 proposals judged by Phi alone, on elu.

    Args:
      **choices: fields of `Attack` to replace.

    Raises:
      InputError: a value out of range; TypeError: no such field.
    """
    return _checked({"search": "random", "steps": 300, "utility": "elu"} | choices)


def copying(**choices: Any) -> Attack:
    """Other listings copied as far as the budget lets, l2 in raw features; from 2 on, whole.

    Args:
      **choices: fields of `Attack` to replace.

    Raises:
      InputError: a value out of range; TypeError: no such field.
    """
    lists = {"search": "relist", "steps": 3, "norm": "l2", "level": "feature"}
    return _checked(lists | choices)


def choosing(**choices: Any) -> Attack:
    """The same, and beyond the copies a soft and a greedy choice of neighbours.

    Args:
      **choices: fields of `Attack` to replace.

    Raises:
      InputError: a value out of range; TypeError: no such field.
    """
    return copying(**{"search": "neighbours", "steps": 20} | choices)


def _checked(choices: dict[str, Any]) -> Attack:
    return checked(Attack(**choices))


def checked(attack: Attack) -> Attack:
    """The attack itself.

    Raises:
      InputError: a field's value that cannot be used.
    """
    try:
        check(attack, "attack")
    except InputError as error:
        raise InputError(str(error).removeprefix("config.attack.")) from None
    return attack


def check(attack: Attack, where: str) -> None:
    """Requires that every field has a value that can be used.

    Args:
      attack: with numbers, or arrays of numbers, in its data fields.
      where: what to call it in an error, after "config.".

    Raises:
      InputError: names the field, its value and what is wanted.
    """
    one_of(f"{where}.utility", attack.utility, UTILITIES)
    one_of(f"{where}.search", attack.search, SEARCHES)
    one_of(f"{where}.norm", attack.norm, NORMS)
    one_of(f"{where}.keep", attack.keep, KEEPS)
    one_of(f"{where}.level", attack.level, LEVELS)
    for field in ("margin", "eps", "beta", "restarts"):
        at_least(f"{where}.{field}", _least(getattr(attack, field)), 0)
    for field in ("k", "steps"):
        at_least(f"{where}.{field}", getattr(attack, field), 1)
    positive(f"{where}.step_size", _least(attack.step_size))
    width = attack.utility != "sigmoid" or _least(attack.margin) > 0
    require(width, f"{where}.margin", attack.margin, "a width > 0 under utility = 'sigmoid'")
    plain = attack.search != "random" or _least(attack.beta) == 0
    require(plain, f"{where}.beta", attack.beta, "0 under search = 'random', without gradients")
    if attack.search in LISTED:
        wanted = {"norm": "l2", "level": "feature", "modalities": (), "restarts": 0, "beta": 0.0}
        for field, value in wanted.items():
            right = getattr(attack, field) == value
            shown = f"{value!r} under search = {attack.search!r}, which copies listings"
            require(right, f"{where}.{field}", getattr(attack, field), shown)
    once = len(set(attack.modalities)) == len(attack.modalities)
    require(once, f"{where}.modalities", attack.modalities, "each modality once")


def _least(value: Any) -> Any:
    return value if isinstance(value, int | float) else np.min(np.asarray(value)).item()


def as_compiled(attack: Attack) -> Compiled:
    """The attack as compiled functions take it: data as float32 arrays.

    Without alignment beta is None, which leaves the second derivatives out of the
    program; whom it is crafted on is the caller's business.
    """
    given = {field.name: getattr(attack, field.name) for field in dataclasses.fields(Attack)}
    numbers = {name: jnp.asarray(given[name], jnp.float32) for name in _NUMBERS}
    if not np.any(np.asarray(attack.beta) > 0):
        numbers["beta"] = None
    return Compiled(**given | numbers | {"surrogate": ""})


def in_one_program(attack: Attack, utilities: bool = True) -> Compiled:
    """`as_compiled` of the attack, with more of it as data: the steps of a "pgd", and g.

    Args:
      attack: not compiled yet.
      utilities: elu and hinge share a program too; with a branch in every look, which
        is felt where a look is cheap.
    """
    compiled = as_compiled(attack)
    if utilities and attack.utility in SWITCHED:
        gain = jnp.int32(SWITCHED.index(attack.utility))
        compiled = compiled.replace(utility=SWITCHED[0], gain=gain)
    if attack.search == "pgd":
        room = max(_ROOM, 1 << (attack.steps - 1).bit_length())
        compiled = compiled.replace(steps=room, steps_taken=jnp.int32(attack.steps))
    return compiled


def budgets(attack: Attack) -> int | None:
    """E, the number of budgets in a compiled attack's data; None for a single one.

    Raises:
      InputError: data fields of unlike length.
    """
    sizes = {np.shape(x) for x in jax.tree.leaves(attack)} - {()}
    if not sizes:
        return None
    if len(sizes) > 1 or len(next(iter(sizes))) > 1:
        raise InputError(f"an attack's data are numbers or (E,) arrays of one E, not {sizes}")
    return next(iter(sizes))[0]


def require_one_budget(attack: Attack) -> None:
    """Raises InputError for an attack with several budgets."""
    if budgets(attack) is not None:
        raise InputError(f"eps = {attack.eps}: several budgets, where one is wanted at a time.")


def one_budget(attack: Compiled, place: jax.Array) -> Compiled:
    """Of a compiled attack with several budgets the one at () int32 `place`."""
    return jax.tree.map(lambda x: x if x.ndim == 0 else x[place], attack)
