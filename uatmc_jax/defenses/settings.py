"""Stage 2's settings, and the two parts that a training takes of them.

What shapes the compiled step is a `Defense`; the scalars are `Coefficients`, arrays, so that
trainings can differ in them under one `vmap`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from uatmc_jax.ascent import NORMS
from uatmc_jax.checks import at_least, one_of, positive, require
from uatmc_jax.defenses.objective import DEFENSES, ON_FEATURES
from uatmc_jax.defenses.step import ALIGN_OVER, ASCENDED, LEVELS, Coefficients, Defense
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model, no_edit_at, unlike_widths, unmet
from uatmc_jax.optimizer import OptimizerSettings

# The fields that are traced; all others are compiled for.
SCALARS = tuple(field.name for field in dataclasses.fields(Coefficients))


@dataclasses.dataclass(frozen=True)
class AdversarialSettings:
    """Stage 2: L_BPR + lambda L_adv + mu L_reg + content_weight L_content.

    The projectors are frozen, but for their last layer with `train_projector_head`.

    Attributes:
      defense: "none", "uat", "uat_mc", "noise", "dropout", "exact", "shaped",
        "linearized", "balancing", "spectral" or "mirror"; see `uatmc_jax.defenses`.
      epochs: at most this many; 0 leaves the stage out.
      patience: as in stage 1.
      batch_size: B.
      mu: weight of L_reg.
      lam: lambda, weight of L_adv.
      beta: weight of L_align in the ascent.
      eps: radius as a share of the perturbed row's 2-norm; for "dropout" the share
        of coordinates dropped, for "mirror" the length of the mirrored step.
      norm: "l2" or "linf".
      steps: ascent steps.
      step_size: length of a step as a share of the radius.
      random_start: start the ascent inside the ball at random.
      level: perturb z ("projected") or the raw features ("feature").
      optimizer: Adam and its schedule.
      content_weight: of L_content, which keeps the model reading the features.
      eps_tail: the radius of an item less popular than the mean is eps * (its share of the
        mean popularity) ** eps_tail: above 0, the unpopular keep more of their content.
      content_tail: likewise its positives weigh (share) ** -content_tail in L_content.
      modalities: names of those perturbed; empty for all; with "balancing" the sensitive one.
      ramp_epochs: lambda and eps rise linearly over this many epochs; 0 for none.
      align_over: L_align is the mean cosine over the "rows" of the batch that carry a
        gradient, or over all "items" of the catalogue, as published: beta then weighs some
        4 to 10 times less.
      detach_align: take the gradients in L_align as constants, so that it moves nothing; what
        the published MMGCN does.
      leak: let the optimiser descend, beside the loss, what the max phase climbs from its
        start, L_BPR + beta L_align: gradients that the published code leaves uncleared.
      swap_modalities: train on [z^t ; z^v], to be evaluated on [z^v ; z^t], as published.
      train_projector_head: train the projectors' last layer too, so that z itself is learned
        anew (beyond the paper); with level = "projected".
      harmless: with "shaped" and nothing else, a file of harmless edits that `uatmc edit` has
        written; eps then counts such edits, and norm is not read.
    """

    defense: str = "uat_mc"
    epochs: int = 50
    patience: int = 1000
    batch_size: int = 2048
    mu: float = 1.0
    lam: float = 5.0
    beta: float = 4.0
    eps: float = 0.1
    norm: str = "l2"
    steps: int = 1
    step_size: float = 1.0
    random_start: bool = False
    level: str = "projected"
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    content_weight: float = 0.0
    eps_tail: float = 0.0
    content_tail: float = 0.0
    modalities: tuple[str, ...] = ()
    ramp_epochs: int = 0
    train_projector_head: bool = False
    align_over: str = "rows"
    detach_align: bool = False
    leak: bool = False
    swap_modalities: bool = False
    harmless: str = ""

    def __post_init__(self):
        one_of("adversarial.defense", self.defense, DEFENSES)
        one_of("adversarial.norm", self.norm, NORMS)
        one_of("adversarial.level", self.level, LEVELS)
        weights = ("mu", "lam", "beta", "eps", "content_weight", "eps_tail", "content_tail")
        for field in ("epochs", "ramp_epochs", *weights):
            at_least(f"adversarial.{field}", getattr(self, field), 0)
        right = self.level == "projected" or self.defense in ON_FEATURES
        wanted = f"'projected' with defense = '{self.defense}', which perturbs z or nothing"
        require(right, "adversarial.level", self.level, wanted)
        right = self.level == "projected" or not self.train_projector_head
        wanted = "'projected' with train_projector_head, or train_projector_head = False"
        require(right, "adversarial.level", self.level, wanted)
        right = self.defense != "dropout" or self.eps < 1
        require(right, "adversarial.eps", self.eps, "a share below 1 with defense = 'dropout'")
        right = self.defense != "mirror" or self.lam < 1
        wanted = "a weight below 1 with defense = 'mirror', which else climbs L"
        require(right, "adversarial.lam", self.lam, wanted)
        one_of("adversarial.align_over", self.align_over, ALIGN_OVER)
        right = not self.leak or (self.defense in ASCENDED and self.steps == 1)
        require(right, "adversarial.leak", self.leak, "False, or 'uat' or 'uat_mc' with steps = 1")
        right = not self.swap_modalities or (
            self.level == "projected" and not self.train_projector_head
        )
        wanted = "False, or level = 'projected' without train_projector_head"
        require(right, "adversarial.swap_modalities", self.swap_modalities, wanted)
        right = bool(self.harmless) == (self.defense == "shaped")
        wanted = "a file of harmless edits with defense = 'shaped', '' with any other"
        require(right, "adversarial.harmless", self.harmless, wanted)
        right = self.defense != "shaped" or not (self.train_projector_head or self.swap_modalities)
        wanted = "another without train_projector_head and swap_modalities, which move z"
        require(right, "adversarial.defense", self.defense, wanted)
        once = len(set(self.modalities)) == len(self.modalities)
        require(once, "adversarial.modalities", self.modalities, "each modality once")
        right = self.defense != "balancing" or len(self.modalities) == 1
        wanted = "the sensitive modality alone with defense = 'balancing'"
        require(right, "adversarial.modalities", self.modalities, wanted)
        for field in ("patience", "batch_size", "steps"):
            at_least(f"adversarial.{field}", getattr(self, field), 1)
        positive("adversarial.step_size", self.step_size)


def check_model(
    settings: AdversarialSettings, model: Model, raw_dims: Mapping[str, int] | None = None
) -> None:
    """Requires that the model offers what the defence needs of it.

    Args:
      settings: the config's `adversarial` section.
      model: the recommender.
      raw_dims: ordered {modality: width of its raw features}, of all of the data's;
        None before they are open, when the model's word is taken.

    Raises:
      InputError: names the field, and what the model does not declare.
    """
    if settings.epochs and model.objective is not None and "z" not in model.reads:
        raise InputError(
            f"config.adversarial.epochs = {settings.epochs}: projected features reach no score of "
            f"model {model.name}, which is trained by an objective of its own. Set it to 0."
        )
    if settings.epochs and model.objective is not None and model.epoch_graph is not None:
        raise InputError(
            f"config.adversarial.epochs = {settings.epochs}: the objective of model {model.name} "
            "wants a graph drawn anew each epoch, which the adversarial stage does not draw. Set "
            "it to 0."
        )
    if settings.epochs and model.objective is not None and settings.swap_modalities:
        raise InputError(
            "config.adversarial.swap_modalities = True: not of model "
            f"{model.name}, which is trained by an objective of its own. Leave it False."
        )
    if settings.level == "feature" and settings.defense != "none" and "raw" in model.reads:
        raise InputError(
            f"config.adversarial.level = 'feature': raw features of model {model.name} also choose "
            "neighbours, which training leaves as they are. Use 'projected'."
        )
    if settings.defense != "none" and "z" not in model.reads:
        raise InputError(
            f"config.adversarial.defense = {settings.defense!r} trains against edits of projected "
            f"features, which reach no score of model {model.name}. Set it to 'none'."
        )
    reason = no_edit_at(model, settings.level) if settings.defense != "none" else None
    if reason:
        raise InputError(
            f"config.adversarial.level = {settings.level!r}: {reason}. Use defense = 'uat' with "
            f"level = {model.levels[0]!r}, or defense = 'none'."
        )
    lacks = unmet(model, settings.defense)
    if lacks:
        raise InputError(f"config.adversarial.defense = {settings.defense!r} {lacks}")
    if settings.defense == "balancing" and raw_dims is not None and len(raw_dims) < 2:
        raise InputError(
            "config.adversarial.defense = 'balancing' lets other modalities hold what one can "
            f"lose, but the data have {', '.join(raw_dims)} alone. Use another defence."
        )
    lacks = unmet(model, "train_projector_head") if settings.train_projector_head else None
    if lacks:
        raise InputError(f"config.adversarial.train_projector_head = True {lacks}")
    if raw_dims is None:
        unlike = model.width is None
    else:
        unlike = unlike_widths(model, raw_dims, settings.modalities) is not None
    if settings.swap_modalities and unlike:
        raise InputError(
            "config.adversarial.swap_modalities = True needs z of one width, but those of model "
            f"{model.name} are of unlike widths. Leave it False."
        )
    if settings.defense == "uat_mc" and unlike:
        raise InputError(
            "config.adversarial.defense = 'uat_mc' aligns gradients of one width, but the z of "
            f"model {model.name} are of unlike widths. Use 'uat' or another without L_align."
        )


def static_defense(settings: AdversarialSettings, modalities: Sequence[str]) -> Defense:
    """The part of the settings that shapes the compiled step.

    Args:
      settings: the config's `adversarial` section.
      modalities: names of all of the data's, in order.
    """
    chosen = settings.modalities
    return Defense(
        kind=settings.defense,
        norm=settings.norm,
        steps=settings.steps,
        random_start=settings.random_start,
        level=settings.level,
        modalities=tuple(n for n, name in enumerate(modalities) if name in chosen) or None,
        keep_content=settings.content_weight > 0,
        align_over=settings.align_over,
        detach_align=settings.detach_align,
        leak=settings.leak,
        by_popularity=settings.eps_tail > 0 or settings.content_tail > 0,
    )


def coefficients(settings: AdversarialSettings) -> Coefficients:
    """The settings' scalars, as float32 arrays."""
    return Coefficients(**{name: jnp.float32(getattr(settings, name)) for name in SCALARS})
