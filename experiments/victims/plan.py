"""What is compared, and the trainings it takes; explained in configs/victims.py."""

import dataclasses
import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study import CONTROL, UNDEFENDED, Study, make_study
from uatmc_jax.attacks import Attack
from uatmc_jax.attacks.policies import require_search
from uatmc_jax.benchmark.suite import list_suite, suite_settings
from uatmc_jax.checks import at_least, one_of, require
from uatmc_jax.data import Dataset
from uatmc_jax.data.source import DataSettings
from uatmc_jax.errors import InputError
from uatmc_jax.models import POLICIES, Model, blind, undefined
from uatmc_jax.settings import Settings, from_config
from uatmc_jax.training.folder import CONFIG_FILE, SUMMARY_FILE, read_settings

MEMBERS = tuple(suite_settings() | list_suite(choose=True))


@dataclasses.dataclass(frozen=True)
class Threat:
    """What the attacker may do: as the fields of `Attack`."""

    level: str
    norm: str
    eps: float


@dataclasses.dataclass(frozen=True)
class Victim:
    """One recommender of the plan."""

    config: str
    model: Mapping[str, Any]
    pretrain: Mapping[str, Any]
    eval: Mapping[str, Any]
    hardened: tuple[str, ...]
    hardened_epochs: int
    members: tuple[str, ...]
    seconds: Mapping[str, float]

    def __post_init__(self):
        least = 1 if self.hardened else 0
        at_least("victims.hardened_epochs", self.hardened_epochs, least)
        wanted = {"epoch", "hardening", "target"}
        require(set(self.seconds) == wanted, "victims.seconds", dict(self.seconds), str(wanted))
        _known_members("victims.members", self.members)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The plan."""

    data: Mapping[str, Any]
    seeds: tuple[int, ...]
    policies: tuple[str, ...]
    k: int
    threats: Mapping[str, Threat]
    members: tuple[str, ...]
    target_seed: int
    targets: int
    quantiles: tuple[float, ...]
    user_share: float
    masked: bool
    permutations: int
    bootstrap: int
    timed: int
    vmapped: int
    defenses: Mapping[str, Any]
    victims: Mapping[str, Victim]

    def __post_init__(self):
        for field in ("k", "targets", "permutations", "bootstrap", "timed", "vmapped"):
            at_least(field, getattr(self, field), 1)
        right = len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds)
        require(right, "seeds", self.seeds, "at least one seed, each once")
        require(len(self.policies) > 0, "policies", self.policies, "at least one policy")
        for policy in self.policies:
            one_of("policies", policy, POLICIES)
        require(len(self.threats) > 0, "threats", {}, "at least one threat")
        require(len(self.members) > 0, "members", (), "at least one search")
        _known_members("members", self.members)
        taken = {UNDEFENDED, CONTROL} & set(self.defenses)
        require(not taken, "defenses", sorted(taken), "other names")
        for name, victim in self.victims.items():
            for defense in victim.hardened:
                one_of(f"victims.{name}.hardened", defense, tuple(self.defenses))


@dataclasses.dataclass(frozen=True)
class Trained:
    """What `Study` wants to know of a plan; 0 leaves the config's own."""

    board: Comparison
    victim: Victim
    pretrain_epochs: int = 0
    nce_items: int = 0

    @property
    def adversarial_epochs(self) -> int:
        """Of each hardening."""
        return self.victim.hardened_epochs

    @property
    def vmapped(self) -> int:
        """Trainings under one vmap."""
        return self.board.vmapped

    @property
    def targets(self) -> int:
        """How many are attacked."""
        return self.board.targets

    @property
    def bootstrap(self) -> int:
        """Resamples behind each interval."""
        return self.board.bootstrap


def _known_members(field: str, members: Sequence[str]) -> None:
    require(set(members) <= set(MEMBERS), field, tuple(members), f"some of {', '.join(MEMBERS)}")


def settings_of(board: Comparison, name: str) -> Settings:
    """The training experiment of one victim.

    Raises:
      InputError: no such config, or a value that cannot be used.
    """
    victim = board.victims[name]
    try:
        config = importlib.import_module(f"configs.{victim.config}").get_config()
    except ImportError:
        raise InputError(
            f"config.victims.{name}.config = {victim.config!r}: configs/ has no such file."
        ) from None
    try:
        for section in ("model", "pretrain", "eval"):
            config[section].update(getattr(victim, section))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"config.victims.{name}: {error}") from None
    return dataclasses.replace(from_config(config), data=data_settings(board))


def data_settings(board: Comparison) -> DataSettings:
    """Where the data are."""
    try:
        return DataSettings(**board.data)
    except TypeError as error:
        raise InputError(f"config.data: {error}") from None


def given_runs(board: Comparison, named: Sequence[str]) -> dict[tuple[str, int], pathlib.Path]:
    """The trained runs to take as they are, by victim and training seed.

    Args:
      board: the plan.
      named: "VICTIM=FOLDER" each.

    Raises:
      InputError: no such victim, a run that is not finished or of another model, or a seed
        that the plan does not have.
    """
    found = {}
    for one in named:
        name, _, path = one.partition("=")
        if name not in board.victims or not path:
            raise InputError(
                f"--runs {one}: wanted VICTIM=FOLDER, a victim of {', '.join(board.victims)}."
            )
        folder = pathlib.Path(path)
        for file in (CONFIG_FILE, SUMMARY_FILE):
            if not (folder / file).exists():
                raise InputError(
                    f"--runs {one}: {folder / file} is not there. Name the folder of a run that "
                    "has ended; --resume goes on with one that has not."
                )
        trained = read_settings(folder / CONFIG_FILE, "Name another run")
        wanted = settings_of(board, name).model.name
        if trained.model.name != wanted:
            raise InputError(
                f"--runs {one}: the run is of model {trained.model.name}, not {wanted}."
            )
        if trained.seed not in board.seeds:
            raise InputError(
                f"--runs {one}: trained under seed {trained.seed}, which is none of plan.seeds = "
                f"{board.seeds}. Add it there."
            )
        found[name, trained.seed] = folder
    return found


def studies_of(
    board: Comparison,
    out: pathlib.Path,
    dataset: Dataset,
    given: Mapping[tuple[str, int], pathlib.Path],
) -> list[Study]:
    """One study for each victim and seed; seeds of a victim share a folder.

    Args:
      board: the plan.
      out: where runs and measurements go.
      dataset: the data.
      given: of `given_runs`.

    Raises:
      InputError: a training that cannot be made.
    """
    studies = []
    for name, victim in board.victims.items():
        for seed in board.seeds:
            settings, folder = settings_of(board, name), given.get((name, seed))
            if folder is not None:  # the model is the run's, also where it is hardened
                trained = read_settings(folder / CONFIG_FILE, "Name another run")
                settings = dataclasses.replace(trained, data=settings.data)
            settings = dataclasses.replace(settings, seed=seed)
            variants = {defense: dict(board.defenses[defense]) for defense in victim.hardened}
            study = make_study(
                name, settings, Trained(board, victim), out / dataset.name, dataset, variants
            )
            studies.append(study._replace(given=folder))
    return studies


def searches(
    board: Comparison, victim: Victim, model: Model, policy: str
) -> dict[str, dict[str, Attack]]:
    """{threat: {member: attack}} of those members that see what an edit does to the scores.

    Args:
      board: the plan.
      victim: of it.
      model: the victim's.
      policy: of `POLICIES`, under which the model is not blind.
    """
    members, found = victim.members or board.members, {}
    for name, threat in board.threats.items():
        fields = {"norm": threat.norm, "eps": threat.eps, "k": board.k}
        offered = suite_settings(level=threat.level, **fields)
        if (threat.level, threat.norm) == ("feature", "l2"):
            offered |= list_suite(threat.eps, board.k, choose=True)
        found[name] = {
            member: offered[member]
            for member in members
            if member in offered and _sees(model, offered[member], policy)
        }
    return found


def _sees(model: Model, attack: Attack, policy: str) -> bool:
    try:
        require_search(model, attack, policy)
    except InputError:
        return False
    return True


def same_policy(model: Model, policy: str) -> str:
    """Another policy with the same numbers: full for own_row, where only the own row can move."""
    alone = model.encode_rows is not None and blind(model, policy) is None
    return "full" if policy == "own_row" and alone else policy


def policies_of(board: Comparison, model: Model) -> list[str]:
    """The plan's policies, as far as they say something of the model."""
    return [policy for policy in board.policies if undefined(model, policy) is None]
