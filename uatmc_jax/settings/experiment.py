"""One training experiment, as its config file names it."""

import dataclasses
import pathlib
from collections.abc import Mapping

import ml_collections
from absl import flags

from uatmc_jax.ascent import NORMS
from uatmc_jax.checks import at_least, is_count, one_of, positive, require
from uatmc_jax.defenses import DEFENSES, LEVELS, ON_FEATURES
from uatmc_jax.errors import InputError
from uatmc_jax.settings.reading import from_config_flag, from_values

MODELS = ("vbpr", "linear_vbpr", "mmgcn")
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Where the data comes from.

    Attributes:
      source: "mmrec" (files) or "synthetic".
      name: the folder below `root` and the NAME of NAME.inter.
      root: folder of the data sets; the environment's UATMC_DATA wins over the default.
      modalities: ("name:file.npy", ...), in the order models use.
      synthetic_seed: of the synthetic generator.
    """

    source: str
    name: str
    root: str
    modalities: tuple[str, ...]
    synthetic_seed: int

    def __post_init__(self):
        one_of("data.source", self.source, ("mmrec", "synthetic"))
        require(
            len(self.modalities) > 0 and all(isinstance(m, str) for m in self.modalities),
            "data.modalities",
            self.modalities,
            "at least one 'name:file.npy'",
        )


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The victim.

    Attributes:
      name: "vbpr", "linear_vbpr" or "mmgcn"; or "module:function", a factory of your own
        (docs/own_model.md).
      dim: d.
      hidden: {modality: hidden widths of its projector}.
      default_hidden: the widths for a modality not in `hidden`.
      temperature: initial tau.
      latent_dims: MMGCN, {modality: w}; d where not named.
      n_layers: MMGCN, propagation layers.
      fuse: MMGCN, "concat" or "add".
      train_preference: MMGCN, whether P^m is trained.
    """

    name: str
    dim: int
    hidden: Mapping[str, tuple[int, ...]]
    default_hidden: tuple[int, ...]
    temperature: float
    latent_dims: Mapping[str, int]
    n_layers: int
    fuse: str
    train_preference: bool

    def __post_init__(self):
        module, colon, function = self.name.partition(":")
        known = self.name in MODELS if not colon else bool(module and function)
        wanted = " or ".join(map(repr, MODELS)) + ", or 'module:function' for a model of your own"
        require(known, "model.name", self.name, wanted)
        one_of("model.fuse", self.fuse, ("concat", "add"))
        at_least("model.dim", self.dim, 1)
        at_least("model.n_layers", self.n_layers, 1)
        for name, widths in {**self.hidden, "default": self.default_hidden}.items():
            right = isinstance(widths, tuple) and all(is_count(w) for w in widths)
            require(right, f"model.hidden.{name}", widths, "a tuple of positive integers")
        for name, width in self.latent_dims.items():
            require(is_count(width), f"model.latent_dims.{name}", width, "a positive integer")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Adam and its learning rate.

    Attributes:
      learning_rate: peak rate.
      schedule: "constant", or "cosine" down to 0 at the stage's last epoch.
      warmup_epochs: linear from 0 before that.
      clip_norm: gradients' global norm at most; 0 for no clipping.
    """

    learning_rate: float
    schedule: str
    warmup_epochs: int
    clip_norm: float

    def __post_init__(self):
        positive("SECTION.learning_rate", self.learning_rate)
        one_of("SECTION.schedule", self.schedule, SCHEDULES)
        at_least("SECTION.warmup_epochs", self.warmup_epochs, 0)
        at_least("SECTION.clip_norm", self.clip_norm, 0)


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """Stage 1: L_BPR + mu L_reg + alpha L_NCE.

    Attributes:
      init_from: folder of another run, whose best pre-trained state is taken
        instead of training; "" to train.
      epochs: at most this many.
      patience: stop after this many epochs without a better validation recall@20.
      batch_size: B, triples a step.
      mu: weight of L_reg.
      alpha: weight of L_NCE.
      nce_items: items in each InfoNCE, drawn afresh every step; 0 for all.
      optimizer: Adam and its schedule.
    """

    init_from: str
    epochs: int
    patience: int
    batch_size: int
    mu: float
    alpha: float
    nce_items: int
    optimizer: OptimizerSettings

    def __post_init__(self):
        at_least("pretrain.epochs", self.epochs, 1)
        at_least("pretrain.patience", self.patience, 1)
        at_least("pretrain.batch_size", self.batch_size, 1)
        for field in ("mu", "alpha", "nce_items"):
            at_least(f"pretrain.{field}", getattr(self, field), 0)


@dataclasses.dataclass(frozen=True)
class AdversarialSettings:
    """Stage 2: L_BPR + lambda L_adv + mu L_reg + content L_content.

    The projectors are frozen, but for their last layer with `train_projector_head`.

    Attributes:
      defense: "none", "uat", "uat_mc", "noise", "dropout", "exact", "linearized",
        "spectral" or "mirror"; see `uatmc_jax.defenses`.
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
      content: weight of L_content, which keeps the model reading the features.
      modalities: names of those perturbed; empty for all.
      ramp_epochs: lambda and eps rise linearly over this many epochs; 0 for none.
      train_projector_head: train the projectors' last layer too, so that z itself is learned
        anew (beyond the paper); with level = "projected".
    """

    defense: str
    epochs: int
    patience: int
    batch_size: int
    mu: float
    lam: float
    beta: float
    eps: float
    norm: str
    steps: int
    step_size: float
    random_start: bool
    level: str
    optimizer: OptimizerSettings
    content: float = 0.0
    modalities: tuple[str, ...] = ()
    ramp_epochs: int = 0
    train_projector_head: bool = False

    def __post_init__(self):
        one_of("adversarial.defense", self.defense, DEFENSES)
        one_of("adversarial.norm", self.norm, NORMS)
        one_of("adversarial.level", self.level, LEVELS)
        for field in ("epochs", "mu", "lam", "beta", "eps", "content", "ramp_epochs"):
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
        once = len(set(self.modalities)) == len(self.modalities)
        require(once, "adversarial.modalities", self.modalities, "each modality once")
        for field in ("patience", "batch_size", "steps"):
            at_least(f"adversarial.{field}", getattr(self, field), 1)
        positive("adversarial.step_size", self.step_size)


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """Full ranking.

    Attributes:
      ks: the K of the metrics; 20 must be among them, it selects the best epoch.
      every: epochs between evaluations.
      block_users: users scored at a time.
      block_items: items scored at a time.
    """

    ks: tuple[int, ...]
    every: int
    block_users: int
    block_items: int

    def __post_init__(self):
        require(
            len(self.ks) > 0 and all(is_count(k) for k in self.ks) and 20 in self.ks,
            "eval.ks",
            self.ks,
            "positive integers, 20 among them",
        )
        for field in ("every", "block_users", "block_items"):
            at_least(f"eval.{field}", getattr(self, field), 1)


@dataclasses.dataclass(frozen=True)
class CheckpointSettings:
    """How often states are written.

    Attributes:
      every_seconds: least time between writes while training goes on; the
        stage's end and an interruption always write.
    """

    every_seconds: float

    def __post_init__(self):
        at_least("checkpoint.every_seconds", self.every_seconds, 0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """One experiment."""

    seed: int
    data: DataSettings
    model: ModelSettings
    pretrain: PretrainSettings
    adversarial: AdversarialSettings
    eval: EvalSettings
    checkpoint: CheckpointSettings

    def __post_init__(self):
        require(0 <= self.seed < 2**32, "seed", self.seed, "an integer in [0, 2^32)")
        for name in ("pretrain", "adversarial"):
            patience = getattr(self, name).patience
            # Else a stage could stop before its first evaluation.
            require(
                patience >= self.eval.every,
                f"{name}.patience",
                patience,
                f"at least config.eval.every = {self.eval.every}",
            )
        names = [named.partition(":")[0] for named in self.data.modalities]
        perturbed = self.adversarial.modalities
        for name in perturbed:
            require(name in names, "adversarial.modalities", perturbed, f"some of {names}")
        count = len(perturbed or names)
        if self.adversarial.defense == "uat_mc" and count < 2:
            raise InputError(
                "config.adversarial.defense = 'uat_mc' aligns the gradients of two or more "
                f"modalities, but {count} is perturbed (config.data.modalities, "
                "config.adversarial.modalities). Use 'uat', or add a modality."
            )
        if self.adversarial.defense == "exact" and self.model.name in ("mmgcn", "linear_vbpr"):
            raise InputError(
                "config.adversarial.defense = 'exact' needs scores that are affine in an item's "
                "content, which MMGCN's are not, and content no longer than 1, which linear "
                "VBPR's is not. Use 'linearized', its first-order surrogate."
            )
        if self.model.name == "linear_vbpr":
            self._check_unlike_widths()

    def _check_unlike_widths(self) -> None:
        """What compares the modalities' content has nothing to compare in raw features."""
        require(
            self.pretrain.alpha == 0,
            "pretrain.alpha",
            self.pretrain.alpha,
            "0 with model.name = 'linear_vbpr', which has no projected features for L_NCE",
        )
        require(
            self.adversarial.defense != "uat_mc",
            "adversarial.defense",
            self.adversarial.defense,
            "'uat' or another without L_align with model.name = 'linear_vbpr', whose modalities "
            "are of unlike widths",
        )


def from_config(config: ml_collections.ConfigDict | Mapping) -> Settings:
    """Reads a config (or the dict of a config.json) into typed settings; see `from_values`."""
    return from_values(Settings, config)


def from_flag(config: flags.FlagHolder) -> tuple[Settings, pathlib.Path]:
    """The typed settings of a --config flag, and the path of its file; see `from_config_flag`."""
    return from_config_flag(Settings, config)
