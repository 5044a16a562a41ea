"""One data set and victim under study: its trainings, its attacks, and the rows they leave.

    OUT/NAME/runs/VARIANT-DIGEST/      a training run, as `uatmc_jax.train` writes it
    OUT/NAME/units/UNIT-DIGEST.json    what one unit of the plan has measured

A unit is the smallest thing that is computed and kept: its digest is over all that
its rows depend on, so the same plan finds what is done and goes on with the rest.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from configs import attack as attack_config
from uatmc_jax import __version__, logs
from uatmc_jax.benchmark.run import Case, open_cases, run_attacks
from uatmc_jax.data import Dataset
from uatmc_jax.environment import environment
from uatmc_jax.settings import (
    AttackRunSettings,
    Settings,
    from_values,
    to_dict,
)
from uatmc_jax.settings.reading import at_least, require
from uatmc_jax.training import compatible, train_and_evaluate, train_vmapped
from uatmc_jax.training.epoch import steps_per_epoch
from uatmc_jax.training.workdir import without_free_fields

Rows = list[dict[str, Any]]
UNDEFENDED = "none"  # the paper's "w/o AT": the pre-trained model
# Trained on without a defence for as long as the hardened ones: what more epochs alone do.
CONTROL = "control"
# Raised when a unit's rows change their meaning or their fields.
_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is computed; the fields are explained in configs/reproduce.py."""

    pretrain_epochs: int
    nce_items: int
    adversarial_epochs: int
    together: int
    target_seeds: tuple[int, ...]
    grid_seeds: tuple[int, ...]
    targets: int
    bootstrap: int
    eps: tuple[float, ...]
    lams: tuple[float, ...]
    betas: tuple[float, ...]
    attack_beta: float
    attack_betas: tuple[float, ...]
    rho: float
    rhos: tuple[float, ...]
    case_item: str
    cost_users: tuple[int, ...]

    def __post_init__(self):
        for field in ("together", "targets", "bootstrap", "adversarial_epochs"):
            at_least(field, getattr(self, field), 1)
        for field in ("pretrain_epochs", "nce_items"):
            at_least(field, getattr(self, field), 0)
        shares = (self.rho, *self.rhos)
        require(all(0 < r <= 1 for r in shares), "rhos", shares, "shares in (0, 1]")
        for field in (
            "target_seeds",
            "grid_seeds",
            "eps",
            "lams",
            "betas",
            "attack_betas",
            "cost_users",
        ):
            require(len(getattr(self, field)) > 0, field, (), "at least one value")
        for field in ("betas", "attack_betas"):
            values = getattr(self, field)
            right = all(isinstance(b, int | float) and b > 0 for b in values)
            require(right, field, values, "numbers > 0")


class Training(Protocol):
    """What a plan says of the trainings and of the targets; 0 leaves the config's own."""

    pretrain_epochs: int
    nce_items: int
    adversarial_epochs: int
    together: int
    targets: int
    bootstrap: int


class Study(NamedTuple):
    """What all units of one data set and victim share.

    Attributes:
      name: of the config file, for example "baby_vbpr".
      settings: the training experiment with the plan's replacements.
      plan: how much is computed; the paper's artefacts need a `Plan`.
      folder: where everything goes.
      dataset: the data.
      overrides: "field=value" of the settings that are not the config file's own.
      variants: hardened trainings, {name: {adversarial field, or "seed": value}};
        UNDEFENDED is the pre-trained model they start from.
    """

    name: str
    settings: Settings
    plan: Training
    folder: pathlib.Path
    dataset: Dataset
    overrides: tuple[str, ...]
    variants: Mapping[str, dict[str, Any]]


class Unit(NamedTuple):
    """The smallest thing that is computed and kept.

    Attributes:
      name: "ARTEFACT/WHAT"; unique within a study.
      depends_on: JSON-able, all that the rows depend on.
      seconds: expected on two CPU cores.
      run: makes the rows, telling the given function what share is done.
    """

    name: str
    depends_on: dict
    seconds: float
    run: Callable[[Callable[[float], None]], Rows]


def make_study(
    name: str,
    settings: Settings,
    plan: Training,
    out: pathlib.Path,
    dataset: Dataset,
    variants: Mapping[str, dict[str, Any]],
    overrides: Sequence[str] = (),
) -> Study:
    """The study of one training config; arguments as of `Study`."""
    replaced: dict[str, Any] = {"adversarial.epochs": plan.adversarial_epochs}
    if plan.pretrain_epochs:
        replaced["pretrain.epochs"] = plan.pretrain_epochs
    if plan.nce_items:
        replaced["pretrain.nce_items"] = plan.nce_items
    settings = changed(settings, replaced)
    return Study(name, settings, plan, out / name, dataset, tuple(overrides), variants)


def changed(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with {"section.field": value} replaced."""
    plain = to_dict(settings)
    for path, value in values.items():
        section, _, field = path.rpartition(".")
        (plain[section] if section else plain)[field] = value
    return from_values(Settings, plain)


# Trainings.


def training_settings(study: Study, variant: str) -> Settings:
    """The settings of one variant's run."""
    if variant == UNDEFENDED:
        return changed(study.settings, {"adversarial.epochs": 0})
    fields = study.variants[variant]
    chosen = {k if k == "seed" else f"adversarial.{k}": v for k, v in fields.items()}
    source = str(run_folder(study, UNDEFENDED))
    return changed(study.settings, {"pretrain.init_from": source, **chosen})


def run_folder(study: Study, variant: str) -> pathlib.Path:
    """Where the variant's run is."""
    return study.folder / "runs" / f"{variant}-{_digest(_plain(study, variant))}"


def _plain(study: Study, variant: str) -> dict:
    """What a variant's numbers depend on."""
    plain = {
        "settings": without_free_fields(training_settings(study, variant)),
        "data": study.dataset.fingerprint,
        "software": __version__,
    }
    # Its own settings do not tell under which seed the state it starts from was trained.
    return plain if variant == UNDEFENDED else plain | {"from": _plain(study, UNDEFENDED)}


def training_units(study: Study, wanted: Iterable[str]) -> list[Unit]:
    """Units that train the wanted variants, the pre-trained model first."""
    wanted = [v for v in dict.fromkeys(wanted) if v != UNDEFENDED]
    groups = compatible({v: training_settings(study, v) for v in wanted})
    units = [
        Unit(
            "training/none",
            _plain(study, UNDEFENDED),
            _training_seconds(study, UNDEFENDED),
            lambda tell: _train_alone(study, tell),
        )
    ]
    for members in map(list, groups):
        depends = {v: _plain(study, v) for v in members}
        seconds = sum(_training_seconds(study, v) for v in members)
        units.append(
            Unit(
                f"training/{members[0]}" + (f"+{len(members) - 1}" if len(members) > 1 else ""),
                depends,
                seconds,
                lambda tell, members=members: _train_members(study, members, tell),
            )
        )
    return units


def _train_alone(study: Study, tell: Callable[[float], None]) -> Rows:
    folder = run_folder(study, UNDEFENDED)
    train_and_evaluate(
        training_settings(study, UNDEFENDED),
        folder,
        resume=(folder / "config.json").exists(),
        on_epoch=lambda done, most: tell(done / most),
    )
    return [training_row(study, UNDEFENDED)]


def _train_members(study: Study, members: list[str], tell: Callable[[float], None]) -> Rows:
    total, done = len(members) * study.settings.adversarial.epochs, 0

    def on_epochs(count: int) -> None:
        nonlocal done
        done += count
        tell(min(1.0, done / total))

    train_vmapped(
        {run_folder(study, v).name: training_settings(study, v) for v in members},
        study.folder / "runs",
        together=study.plan.together,
        on_epochs=on_epochs,
    )
    return [training_row(study, variant) for variant in members]


def training_row(study: Study, variant: str) -> dict[str, Any]:
    """What a variant's summary says: recommendation metrics, seed, settings, time."""
    summary = json.loads((run_folder(study, variant) / "summary.json").read_text("utf-8"))
    stages = summary["stages"]
    if variant == UNDEFENDED:
        metrics, seconds = stages["pretrain"]["test"], stages["pretrain"]["seconds"]
        epochs = stages["pretrain"]["epochs"]
    else:
        metrics, seconds = (stages["adversarial"][k] for k in ("at_last_epoch", "seconds"))
        metrics, epochs = metrics["test"], stages["adversarial"]["epochs"]
    return {
        "variant": variant,
        "seed": summary["seed"],
        "trained_with": summary["settings"],
        "training_seconds": seconds,
        "epochs": epochs,
        "trained_together": len(stages.get("adversarial", {}).get("trained_together_with", [0])),
        "test": metrics,
        "code": summary["code"],
        "versions": summary["versions"],
        "device": summary["device"],
    }


def open_case(study: Study, variant: str) -> Case:
    """A trained variant, ready to be attacked: its best pre-trained or its last hardened epoch."""
    (case,) = open_cases(run_folder(study, variant), [checkpoint_of(variant)], study.dataset)
    return case


def checkpoint_of(variant: str) -> tuple[str, str]:
    """(stage, which) of the epoch judged: the best pre-trained or the last hardened one."""
    return ("pretrain", "best") if variant == UNDEFENDED else ("adversarial", "latest")


# Attacks.


def attack_settings(
    study: Study, seeds: Sequence[int], attacks: dict[str, dict[str, Any]]
) -> AttackRunSettings:
    """The published evaluation under the plan's targets.

    Args:
      study: names the plan.
      seeds: of the targets, the users and the random starts.
      attacks: {name: {"base": "fgsm" or "pgd", and fields to replace}}.
    """
    config = attack_config.get_config()
    config.seeds = tuple(seeds)
    config.targets.sample = study.plan.targets
    config.bootstrap = study.plan.bootstrap
    config.ranks = False
    published = {name: config.attacks[name].to_dict() for name in ("fgsm", "pgd")}
    plain = config.to_dict()
    plain["attacks"] = {
        name: published[fields["base"]] | {k: v for k, v in fields.items() if k != "base"}
        for name, fields in attacks.items()
    }
    return from_values(AttackRunSettings, plain)


def attack_variant(
    study: Study, variant: str, settings: AttackRunSettings
) -> tuple[Rows, dict[str, list[dict]]]:
    """Attacks a trained variant; what is on disk is not done again.

    Returns:
      One row per attack, without its per-target rows; and those by attack.
    """
    results, (content,) = run_attacks(
        settings,
        run_folder(study, variant),
        checkpoints=[checkpoint_of(variant)],
        dataset=study.dataset,
        show_progress=False,
    )
    trained = training_row(study, variant)
    use = {k: content[k] for k in ("metric", "clean", "permuted", "content_utility")}
    rows = [
        {
            **{k: trained[k] for k in ("variant", "seed", "trained_with", "test")},
            "attack": result["attack"],
            "threat_model": result["threat_model"],
            "evaluation": result["settings"],
            "checkpoint": result["checkpoint"],
            "users": result["users"],
            "summary": result["summary"],
            "certificate": result["certificate"],
            "content": use,
            "affine_in_content": result["affine_in_content"],
            "attack_seconds": result["seconds"],
            **{k: result[k] for k in ("code", "versions", "device")},
        }
        for result in results
    ]
    return rows, {result["attack"]: result["rows"] for result in results}


# Units on disk.


def unit_file(study: Study, unit: Unit) -> pathlib.Path:
    """Where the unit's rows are once it is done."""
    software = __version__, jax.__version__, jax.default_backend()
    digest = _digest({"depends_on": unit.depends_on, "software": software, "format": _FORMAT})
    return study.folder / "units" / f"{unit.name.replace('/', '-')}-{digest}.json"


def read_unit(study: Study, unit: Unit) -> dict | None:
    """{"seconds", "rows"} of a unit that is done."""
    file = unit_file(study, unit)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def do_unit(study: Study, unit: Unit, tell: Callable[[float], None]) -> dict:
    """Runs a unit and writes it; each row with its study, data, code and device."""
    started = time.monotonic()
    rows = unit.run(tell)
    head = {
        "study": study.name,
        "artefact": unit.name.partition("/")[0],
        "unit": unit.name,
        "model": study.settings.model.name,
        "dataset": {"name": study.dataset.name, "fingerprint": study.dataset.fingerprint},
        "experiments": _sources(),
        **environment(),
    }
    # Trainings that an earlier command has left are found, not run: what they took then counts.
    trained = sum(row.get("training_seconds", 0.0) for row in rows)
    done = {
        "unit": unit.name,
        "depends_on": unit.depends_on,
        "seconds": max(time.monotonic() - started, trained),
        "rows": [head | row for row in rows],
    }
    file = unit_file(study, unit)
    file.parent.mkdir(parents=True, exist_ok=True)
    logs.write_json(file, done)
    return done


@functools.cache
def _sources() -> str:
    """Digest of the files in experiments/ and configs/; `environment` has the package's."""
    digest = hashlib.sha256()
    root = pathlib.Path(__file__).parent.parent
    for folder in ("experiments", "configs"):
        for file in sorted((root / folder).rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def measuring_unit(
    study: Study,
    name: str,
    wanted: Iterable[str],
    plan: dict,
    seconds: float,
    run: Callable[[Callable[[float], None]], Rows],
) -> Unit:
    """A unit that measures trained variants.

    Args:
      study: where.
      name: of the unit.
      wanted: variants it needs.
      plan: what else its rows depend on.
      seconds: expected.
      run: as of `Unit`.
    """
    trained = {v: _plain(study, v) for v in wanted}
    return Unit(name, {"trained": trained, "plan": plan}, seconds, run)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


# Expected times: seconds on two CPU cores, measured on Baby and taken as proportional to the
# number of training interactions (trainings) and of users attacked (attacks).
_BABY_INTERACTIONS, _BABY_USERS = 118_551, 7_778
_STEP = {
    "vbpr": {"pretrain": 0.16, "adversarial": 0.013},
    "mmgcn": {"pretrain": 1.0, "adversarial": 1.0},
}
_PER_TARGET = {"vbpr": {"fgsm": 0.002, "pgd": 0.004}, "mmgcn": {"fgsm": 0.2, "pgd": 0.6}}
_CONTENT = {"vbpr": 5.0, "mmgcn": 8.0}  # opening, ranking and content utility of one checkpoint


def _training_seconds(study: Study, variant: str) -> float:
    settings, pairs = training_settings(study, variant), len(study.dataset.train)
    stage = "pretrain" if variant == UNDEFENDED else "adversarial"
    chosen = getattr(settings, stage)
    steps = steps_per_epoch(pairs, chosen.batch_size) * chosen.epochs
    wider = pairs / _BABY_INTERACTIONS if settings.model.name == "mmgcn" else 1.0
    return steps * _STEP[settings.model.name][stage] * wider


def attack_seconds(study: Study, n_variants: int, seeds: Sequence[int], **counts: int) -> float:
    """Expected time of attacks on some variants; counts of "fgsm" and "pgd" attacks each."""
    model = study.settings.model.name
    users = 0.4 * study.dataset.n_users / _BABY_USERS
    each = sum(n * _PER_TARGET[model][base] for base, n in counts.items())
    return n_variants * (_CONTENT[model] + len(seeds) * study.plan.targets * users * each)
