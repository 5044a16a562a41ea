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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from uatmc_jax import __version__, store
from uatmc_jax.checks import at_least, require
from uatmc_jax.data import Dataset
from uatmc_jax.environment import environment
from uatmc_jax.settings import (
    Settings,
    as_recorded,
    from_values,
    result_with_new_names,
    to_dict,
)

Rows = list[dict[str, Any]]
TRAINING = "training"  # the artefact of units that train
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
    vmapped: int
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
    training_seeds: tuple[int, ...]
    curve_epochs: tuple[int, ...]
    curve_variants: tuple[str, ...]
    alphas: tuple[float, ...]
    permutations: int = 20

    def __post_init__(self):
        for field in ("vmapped", "targets", "bootstrap", "permutations", "adversarial_epochs"):
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
            "training_seeds",
            "curve_epochs",
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
    vmapped: int
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
      seeds: of the trainings, the settings' own first.
      variants: hardened trainings, {name: {adversarial field, or "seed": value}};
        UNDEFENDED is the pre-trained model they start from.
      given: a run that was trained elsewhere and is taken for UNDEFENDED; None to train it.
    """

    name: str
    settings: Settings
    plan: Training
    folder: pathlib.Path
    dataset: Dataset
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    variants: Mapping[str, dict[str, Any]]
    given: pathlib.Path | None = None


class Unit(NamedTuple):
    """The smallest thing that is computed and kept.

    Attributes:
      name: "ARTEFACT/WHAT"; unique within a study.
      depends_on: JSON-able, all that the rows depend on.
      seconds: expected on two CPU cores.
      run: makes the rows, telling the given function what share is done.
      needs: files that its trainings leave; it is begun once they are there.
    """

    name: str
    depends_on: dict
    seconds: float
    run: Callable[[Callable[[float], None]], Rows]
    needs: tuple[pathlib.Path, ...] = ()


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
    seeds = tuple(dict.fromkeys((settings.seed, *getattr(plan, "training_seeds", ()))))
    seeds = seeds[: max(1, len(getattr(plan, "training_seeds", ())))]
    return Study(name, settings, plan, out / name, dataset, tuple(overrides), seeds, variants)


def of_seed(study: Study, seed: int) -> Study:
    """The study of the same trainings under another training seed."""
    return study._replace(settings=changed(study.settings, {"seed": seed}))


def recorded(settings: Any) -> dict[str, Any]:
    """Settings as digests are made of them: their names may change, those of units may not."""
    return as_recorded(type(settings), to_dict(settings))


def changed(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with {"section.field": value} replaced."""
    plain = to_dict(settings)
    for path, value in values.items():
        section, _, field = path.rpartition(".")
        (plain[section] if section else plain)[field] = value
    return from_values(Settings, plain)


# Units on disk.


def definition_of(unit: Unit) -> str:
    """Digest of what a unit's rows depend on, wherever they are measured."""
    return store.digest({"depends_on": unit.depends_on, "format": _FORMAT})


def unit_file(study: Study, unit: Unit) -> pathlib.Path:
    """Where the unit's rows are once it is done."""
    software = __version__, jax.__version__, jax.default_backend()
    digest = store.digest({"depends_on": unit.depends_on, "software": software, "format": _FORMAT})
    return study.folder / "units" / f"{_stem(unit)}-{digest}.json"


def read_unit(study: Study, unit: Unit) -> dict | None:
    """{"seconds", "rows"} of a unit that is done."""
    file = unit_file(study, unit)
    if not file.exists():
        return None
    done = store.read_json(file, "seconds", "rows")
    return done | {"rows": [result_with_new_names(row) for row in done["rows"]]}


def read_units(study: Study, units: Sequence[Unit]) -> dict[str, dict]:
    """{name: what it measured} of the units that are done, here or elsewhere.

    OUT may have been brought from another machine, or be older than the installed JAX. All of
    one artefact is then taken from one device and version of JAX: that which has done most of
    it, this one if as much.
    """
    found: dict[str, dict[tuple, dict[str, dict]]] = {}
    for unit in units:
        depends_on = json.loads(json.dumps(unit.depends_on))
        for file in sorted((study.folder / "units").glob(f"{_stem(unit)}-*.json")):
            done = store.read_json(file, "depends_on", "rows")
            if done["depends_on"] == depends_on and done["unit"] == unit.name and done["rows"]:
                by = software_of(done["rows"][0])
                of_artefact = found.setdefault(artefact_of(unit.name), {})
                of_artefact.setdefault(by, {})[unit.name] = done
    own = jax.__version__, jax.default_backend()
    chosen = {}
    for by_software in found.values():
        most = max(by_software, key=lambda by: (len(by_software[by]), by[:2] == own, by))
        chosen |= by_software[most]
    for unit in units:
        if unit.name not in chosen and (done := read_unit(study, unit)) and not done["rows"]:
            chosen[unit.name] = done  # no rows, so of no device
    return {
        unit.name: done | {"rows": [result_with_new_names(row) for row in done["rows"]]}
        for unit in units
        if (done := chosen.get(unit.name))
    }


def software_of(row: Mapping[str, Any]) -> tuple:
    """Version of JAX, platform and device of a row, beside which others cannot stand unsaid."""
    device = row["device"]
    return row["versions"]["jax"], device["platform"], device["kind"]


def artefact_of(unit: str) -> str:
    """What of the paper a unit of this name belongs to; trainings are an artefact too."""
    return unit.partition("/")[0]


def _stem(unit: Unit) -> str:
    return unit.name.replace("/", "-")


def do_unit(study: Study, unit: Unit, tell: Callable[[float], None]) -> dict:
    """Runs a unit and writes it; each row with its study, data, code and device."""
    started, sources = time.monotonic(), _sources()  # as the unit began with
    rows = unit.run(tell)
    head = {
        "study": study.name,
        "artefact": artefact_of(unit.name),
        "unit": unit.name,
        "model": study.settings.model.name,
        "dataset": {"name": study.dataset.name, "fingerprint": study.dataset.fingerprint},
        "experiments": sources,
        **environment(),
    }
    # Trainings that an earlier command has left are found, not run: what they took then counts.
    is_training = head["artefact"] == TRAINING
    trained = sum(row.get("training_seconds", 0.0) for row in rows) if is_training else 0.0
    done = {
        "unit": unit.name,
        "depends_on": unit.depends_on,
        "seconds": max(time.monotonic() - started, trained),
        "rows": [head | row for row in rows],
    }
    file = unit_file(study, unit)
    file.parent.mkdir(parents=True, exist_ok=True)
    store.write_json(file, done)
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
