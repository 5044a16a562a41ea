"""What defences, attacks and certificates need of a model, asked of what it declares.

A model is never asked for its name: one of your own that declares as much can do as much.
`POLICIES` is what a recommender computes anew once an item's content is edited:

  frozen    nothing: content and item lists were read once, an edit changes no score.
  own_row   the edited item's own rows: its features, its list of neighbours, its embedding.
            Everybody else's are read as stored; only its own scores move.
  full      everything, as a nightly rebuild does; other items' lists too.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from uatmc_jax.checks import one_of
from uatmc_jax.models.protocol import Model

POLICIES = ("frozen", "own_row", "full")
# What needs more than every model has -> (who has it, what it is, what to do without).
_NEEDS = {
    "exact": (
        lambda model: certifiable(model) and model.select is not None,
        "scores that are affine in an item's content, and a batch that reads its own rows alone, "
        "which model {} does not declare (affine_in_content = True, with select, encode_rows)",
        "Use 'linearized', its first-order surrogate.",
    ),
    "shaped": (
        lambda model: certifiable(model),
        "scores that are affine in an item's content, and rows of content no longer than 1, which "
        "model {} does not declare (affine_in_content = True, with encode_rows)",
        "Use 'linearized', its first-order surrogate.",
    ),
    "balancing": (
        lambda model: model.encode_rows is not None,
        "embeddings that read their own rows alone, since an item has an edit for each triple; "
        "model {} does not declare that (encode_rows)",
        "Use another defence.",
    ),
    "spectral": (
        lambda model: model.content_kernels is not None,
        "the matrices that content passes through, which model {} does not name (content_kernels)",
        "Use another defence.",
    ),
    "train_projector_head": (
        lambda model: model.head is not None,
        "the projectors' last layer, which model {} does not name (head)",
        "Leave it False.",
    ),
    "rows": (
        lambda model: model.select is not None and model.encode_rows is not None,
        "a batch whose embeddings read its own rows alone; model {} does not say which these are "
        "(select, encode_rows), as one that propagates over the whole graph cannot",
        "Set it to 'dense'.",
    ),
}


def certifiable(model: Model) -> bool:
    """Whether no attack can exceed a bound in closed form (`attacks.certificates`)."""
    return model.affine_in_content and model.encode_rows is not None


def bounded_lists(model: Model) -> str | None:
    """Which lists of raw features the model declares that can be bounded; None if none.

    >>> from uatmc_jax.models import Sizes, lattice
    >>> bounded_lists(lattice(Sizes(60, 50, {"visual": 64})))
    'normed_lists'

    Args:
      model: the recommender.

    Returns:
      Name of the field.
    """
    declared = ("lists", "normed_lists", "gated_lists")
    return next((name for name in declared if getattr(model, name) is not None), None)


def unmet(model: Model, wish: str, remedy: str | None = None) -> str | None:
    """What the wish needs and the model does not have; None if nothing.

    >>> from uatmc_jax.models import Sizes, mmgcn
    >>> unmet(mmgcn(Sizes(60, 50, {"visual": 64})), "uat") is None
    True

    Args:
      model: the recommender.
      wish: a defence of `defenses.DEFENSES`, "train_projector_head", or "rows" for an
        optimiser that writes the batch's rows alone.
      remedy: what to do without, if not the usual.

    Returns:
      "needs ..., which model NAME does not declare. REMEDY", to follow the field's name.
    """
    if wish not in _NEEDS:
        return None
    has, what, usual = _NEEDS[wish]
    return None if has(model) else f"needs {what.format(model.name)}. {remedy or usual}"


def no_edit_at(model: Model, level: str) -> str | None:
    """Why no edit of the model's content is defined at that level; None if one is.

    >>> from uatmc_jax.models import Sizes, vbpr
    >>> no_edit_at(vbpr(Sizes(60, 50, {"visual": 64})), "projected") is None
    True

    Args:
      model: the recommender.
      level: what is edited, "projected" or "feature".

    Returns:
      A sentence without its full stop, to follow the field's name and value.
    """
    if level in model.levels:
        return None
    return (
        f"what model {model.name} reads of content is no one vector that an edit could move there"
    )


def blind(model: Model, policy: str) -> str | None:
    """Why no edit whatever changes a score; None if one may.

    >>> from uatmc_jax.models import Sizes, bm3
    >>> blind(bm3(Sizes(60, 50, {"visual": 64})), "full")
    'bm3 reads no content when it serves: no edit changes any score'

    Args:
      model: the recommender.
      policy: one of `POLICIES`.

    Raises:
      InputError: no such policy.
    """
    one_of("policy", policy, POLICIES)
    if not model.reads:
        return f"{model.name} reads no content when it serves: no edit changes any score"
    if policy == "frozen":
        return "nothing is computed anew under the policy 'frozen': no edit changes any score"
    return None


def undefined(model: Model, policy: str) -> str | None:
    """Why a policy says nothing of a model; None if it does.

    Args:
      model: the recommender.
      policy: one of `POLICIES`.
    """
    known = model.own_row is not None or model.encode_rows is not None or not model.reads
    if policy != "own_row" or known:
        return None
    return f"policy 'own_row': model {model.name} does not say what it is (own_row). Use 'full'."


def inconsistent(model: Model) -> str | None:
    """What the model declares that its functions do not bear out; None if nothing."""
    if model.affine_in_content and model.encode_rows is None:
        return f"model {model.name}: affine_in_content = True needs encode_rows. Give both."
    if (model.encode_rows is None) != (model.select is None and model.gather is None):
        return f"model {model.name}: encode_rows needs select, or gather, and they it. Give both."
    if (model.prepare is None) != (model.propagate is None):
        return f"model {model.name}: prepare and propagate need each other. Give both."
    return None


def unlike_widths(
    model: Model, raw_dims: Mapping[str, int], modalities: Sequence[str] = ()
) -> dict[str, int] | None:
    """{modality: width of its z} where these differ, so that nothing compares them; else None.

    Args:
      model: the recommender.
      raw_dims: ordered {modality: width of its raw features}, of all modalities.
      modalities: the names that are compared; by default all.
    """
    if model.width is not None:
        return None
    widths = dict(zip(raw_dims, _z_widths(model, tuple(raw_dims.values())), strict=True))
    compared = {widths[m] for m in modalities or raw_dims}
    return widths if len(compared) > 1 else None


@functools.cache
def _z_widths(model: Model, raw: tuple[int, ...]) -> tuple[int, ...]:
    params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    features = tuple(jax.ShapeDtypeStruct((1, width), jnp.float32) for width in raw)
    return tuple(x.shape[1] for x in jax.eval_shape(model.project, params.projectors, features))
