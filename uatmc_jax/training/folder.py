"""A run's folder: what may be written there, and how its settings compare to others."""

import json
import os
import pathlib
import shutil
from collections.abc import Sequence

from uatmc_jax import logs, owner, store
from uatmc_jax.errors import InputError
from uatmc_jax.settings import MeshSettings, Settings, from_config, to_dict

CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"
# What a run writes; --overwrite removes these and nothing else.
OUTPUTS = (CONFIG_FILE, SUMMARY_FILE, logs.METRICS_FILE, "checkpoints", "tensorboard")
# May differ between a run and its resumption: they change no number, but that one device and
# several differ by rounding.
FREE_FIELDS = ("data.root", "checkpoint.every_seconds", "mesh.devices", "mesh.features")


def check_workdir(
    settings: Settings, workdir: pathlib.Path, *, resume: bool, overwrite: bool
) -> None:
    """Raises InputError unless a run may be begun, or gone on with, in the folder."""
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other. Give one.")
    nearest = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"{workdir}: cannot be written ({nearest}). Name another --workdir.")
    source = settings.pretrain.init_from
    if source and pathlib.Path(source).resolve() == workdir.resolve():
        raise InputError(
            f"config.pretrain.init_from = {source!r} is the workdir itself. Name another --workdir."
        )
    names = {path.name for path in workdir.iterdir()} if workdir.is_dir() else set()
    # A call that was killed before anything was whole has left nothing.
    there = sorted(n for n in names.difference(owner.FILES) if not n.endswith(store.PARTIAL))
    if resume:
        if CONFIG_FILE not in there:
            raise InputError(f"{workdir}: no {CONFIG_FILE}, so no run to resume. Drop --resume.")
        _check_same_settings(settings, workdir / CONFIG_FILE)
    elif there and not overwrite:
        raise InputError(
            f"{workdir}: not empty ({', '.join(there[:4])}). Give --resume to go on with the run "
            "there, --overwrite to replace it, or another --workdir."
        )


def _check_same_settings(settings: Settings, path: pathlib.Path) -> None:
    remedy = "Use --overwrite"
    before = to_dict(read_settings(path, remedy))
    changed = [f for f in differences(before, to_dict(settings)) if f not in FREE_FIELDS]
    if changed:
        remedy = "Resume with the same config, or use another --workdir."
        raise InputError(f"{path}: {other_values(before, changed)}. {remedy}")


def other_values(there: dict, changed: Sequence[str]) -> str:
    """What a run's settings have otherwise, by the dotted names of these fields."""
    named = ", ".join(f"config.{field} ({_value(there, field)!r})" for field in changed)
    return f"the run there has another {named}"


def _value(plain: dict, field: str) -> object:
    """What stands under a dotted name; None where nothing does."""
    for name in field.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None  # type: ignore[assignment]
    return plain


def read_settings(path: pathlib.Path, remedy: str) -> Settings:
    """The settings in a run's config.json.

    Args:
      path: of the file.
      remedy: what to do where it cannot be read.

    Raises:
      InputError: it cannot.
    """
    plain = store.read_json(path, "model", "pretrain", "adversarial", remedy=remedy)
    try:
        return from_config(plain)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({error}). {remedy}.") from None


def read_summary(workdir: pathlib.Path) -> dict:
    """What a finished run's summary.json says.

    Raises:
      InputError: it is not whole; --resume writes it again.
    """
    remedy = "Delete it and give --resume: it is measured again"
    return store.read_json(workdir / SUMMARY_FILE, "stages", remedy=remedy)


def without_free_fields(settings: Settings) -> dict:
    """The settings that a run's numbers depend on, as a nested dict.

    `pretrain.init_from` goes too: what lies in that folder, not its name, decides.
    """
    plain = to_dict(settings)
    for path in (*FREE_FIELDS, "pretrain.init_from"):
        section, _, field = path.partition(".")
        del plain[section][field]
    # Where nothing else is said of the mesh, it is as before there was one.
    if plain["mesh"] == {"row_multiple": MeshSettings.row_multiple}:
        del plain["mesh"]
    return plain


def differences(before: dict, after: dict, prefix: str = "") -> list[str]:
    """Dotted names of the fields whose values differ, as JSON sees them."""
    names = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            names += differences(old, new, f"{prefix}{key}.")
        elif json.dumps(old) != json.dumps(new):
            names.append(prefix + key)
    return names


def remove_outputs(workdir: pathlib.Path) -> None:
    """Removes what a run has written, and nothing else."""
    for name in OUTPUTS:
        path = workdir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
