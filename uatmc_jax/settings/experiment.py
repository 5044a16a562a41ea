"""One training experiment, as its config file names it."""

import dataclasses
import pathlib
from collections.abc import Mapping

import ml_collections
from absl import flags

from uatmc_jax.checks import at_least, is_count, require
from uatmc_jax.data.source import DataSettings
from uatmc_jax.defenses.settings import AdversarialSettings, check_model
from uatmc_jax.errors import InputError
from uatmc_jax.models import ModelSettings, VBPRSettings, unmet
from uatmc_jax.models.registry import declared
from uatmc_jax.optimizer import OptimizerSettings
from uatmc_jax.settings.mesh import MeshSettings
from uatmc_jax.settings.reading import from_config_flag, from_values


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
      mu_warmup_epochs: mu rises linearly over this many epochs, in epoch n to n / this of
        itself; 0 for none. At once in full force mu can shrink all embeddings to nothing
        before L_BPR has shaped any (docs/fidelity.md).
      alpha: weight of L_NCE.
      nce_items: items in each InfoNCE, drawn afresh every step; 0 for all.
      optimizer: Adam and its schedule.
    """

    init_from: str = ""
    epochs: int = 100
    patience: int = 10
    batch_size: int = 2048
    mu: float = 1.0
    alpha: float = 1.0
    nce_items: int = 2048
    mu_warmup_epochs: int = 6
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)

    def __post_init__(self):
        at_least("pretrain.epochs", self.epochs, 1)
        at_least("pretrain.patience", self.patience, 1)
        at_least("pretrain.batch_size", self.batch_size, 1)
        for field in ("mu", "mu_warmup_epochs", "alpha", "nce_items"):
            at_least(f"pretrain.{field}", getattr(self, field), 0)


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """Full ranking.

    Attributes:
      ks: the K of the metrics; 20 must be among them, it selects the best epoch.
      every: epochs between evaluations.
      sample: users drawn, with the seed, of those who have trained, whom all metrics are of; 0
        for all. Where all users' scores of all items are too many.
      block_users: users scored at a time.
      block_items: items scored at a time.
    """

    ks: tuple[int, ...] = (5, 10, 20, 50)
    every: int = 1
    sample: int = 0
    block_users: int = 2048
    block_items: int = 8192

    def __post_init__(self):
        require(
            len(self.ks) > 0 and all(is_count(k) for k in self.ks) and 20 in self.ks,
            "eval.ks",
            self.ks,
            "positive integers, 20 among them",
        )
        at_least("eval.sample", self.sample, 0)
        for field in ("every", "block_users", "block_items"):
            at_least(f"eval.{field}", getattr(self, field), 1)


@dataclasses.dataclass(frozen=True)
class CheckpointSettings:
    """How often states are written.

    Attributes:
      every_seconds: least time between writes while training goes on; the
        stage's end and an interruption always write.
      keep_every: epochs between checkpoints that are kept for good, as "epoch_10" and so
        on; 0 for none but the best and the latest.
      chunk_steps: steps that are compiled as one, between which a checkpoint may be written
        and a stop is heeded; 0 for whole epochs.
    """

    every_seconds: float = 30.0
    keep_every: int = 0
    chunk_steps: int = 0

    def __post_init__(self):
        at_least("checkpoint.chunk_steps", self.chunk_steps, 0)
        at_least("checkpoint.keep_every", self.keep_every, 0)
        at_least("checkpoint.every_seconds", self.every_seconds, 0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """One experiment."""

    seed: int = 999
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    model: ModelSettings = dataclasses.field(default_factory=VBPRSettings)
    pretrain: PretrainSettings = dataclasses.field(default_factory=PretrainSettings)
    adversarial: AdversarialSettings = dataclasses.field(default_factory=AdversarialSettings)
    eval: EvalSettings = dataclasses.field(default_factory=EvalSettings)
    checkpoint: CheckpointSettings = dataclasses.field(default_factory=CheckpointSettings)
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)

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
        names = self.data.modality_names
        perturbed = self.adversarial.modalities
        for name in perturbed:
            require(name in names, "adversarial.modalities", perturbed, f"some of {[*names]}")
        swapped = self.adversarial.swap_modalities
        right = not swapped or len(names) == 2
        require(right, "adversarial.swap_modalities", swapped, f"False, with {len(names)} of them")
        count = len(perturbed or names)
        if self.adversarial.defense == "uat_mc" and count < 2:
            raise InputError(
                "config.adversarial.defense = 'uat_mc' aligns the gradients of two or more "
                f"modalities, but {count} is perturbed (config.data.modalities, "
                "config.adversarial.modalities). Use 'uat', or add a modality."
            )
        model = declared(self.model)
        if model is not None:
            check_model(self.adversarial, model)
            for name in ("pretrain", "adversarial"):
                rows = getattr(self, name).optimizer.rows
                lacks = unmet(model, "rows") if rows != "dense" else None
                if lacks:
                    raise InputError(f"config.{name}.optimizer.rows = {rows!r} {lacks}")
            require(
                self.pretrain.alpha == 0 or model.objective is None,
                "pretrain.alpha",
                self.pretrain.alpha,
                f"0 with model.name = {model.name!r}, whose own objective has no L_NCE",
            )
            require(
                self.pretrain.alpha == 0 or model.width is not None,
                "pretrain.alpha",
                self.pretrain.alpha,
                f"0 with model.name = {model.name!r}, whose z are as wide as the features, so that "
                "L_NCE has nothing to compare",
            )


def from_config(config: ml_collections.ConfigDict | Mapping) -> Settings:
    """Reads a config (or the dict of a config.json) into typed settings; see `from_values`."""
    return from_values(Settings, config)


def from_flag(config: flags.FlagHolder) -> tuple[Settings, pathlib.Path]:
    """The typed settings of a --config flag, and the path of its file; see `from_config_flag`."""
    return from_config_flag(Settings, config)
