"""A checkpoint as one safetensors file, and back, bit for bit.

The tensors' names are the dotted paths of `Params`: encoder.user,
projectors.visual.params.Dense_0.kernel, encoder.towers.0.layers.2.own.bias. The header's
metadata has one entry, `uatmc_jax`, JSON: "format" (1), "version" of this package,
"settings", "sizes", "dataset" (name and fingerprint), "stage", "which", and the
training's "epoch", "best_epoch", "best_metric" and "seconds".
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax import __version__, checkpoint
from uatmc_jax.conversion.imported import Imported, read_digest, require_new, write_run
from uatmc_jax.data import Dataset, open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import Params, build_model
from uatmc_jax.settings import Settings, from_config
from uatmc_jax.training.stage import Progress

FORMAT = 1
_ENTRY = "uatmc_jax"
# What is kept of a stage's progress: epochs are whole in what is exported.
_PROGRESS = {
    field: kind for field, kind in Progress.__annotations__.items() if field not in ("step", "sums")
}


def export_run(
    workdir: str | pathlib.Path, stage: str, which: str, out: str | pathlib.Path
) -> dict:
    """Writes a checkpoint as a safetensors file, whole or not at all.

    Args:
      workdir: folder of the run.
      stage: "pretrain" or "adversarial".
      which: "best" or "latest".
      out: the file, which must not be there.

    Returns:
      The metadata written.

    Raises:
      InputError: safetensors is not installed, the file is there, or no such checkpoint.
    """
    save_file, _ = _safetensors()
    out = pathlib.Path(out)
    if out.exists():
        raise InputError(f"{out}: exists already. Name another --out, or delete it.")
    if not out.absolute().parent.is_dir():
        raise InputError(
            f"{out.absolute().parent}: no such folder. Make it, or name another --out."
        )
    restored = checkpoint.restore(workdir, stage, which)
    kept = ("settings", "sizes", "dataset", "stage", *_PROGRESS)
    metadata = {"format": FORMAT, "version": __version__, "which": which}
    metadata |= {field: restored.meta[field] for field in kept}
    tensors = {name: np.array(x) for name, x in _named(restored.params).items()}
    partial = out.with_name(out.name + ".partial")
    try:
        save_file(tensors, partial, {_ENTRY: json.dumps(metadata)})
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return metadata


def import_file(
    file: str | pathlib.Path, workdir: str | pathlib.Path, data_root: str | None = None
) -> Imported:
    """Makes a run of a safetensors file that `export_run` wrote.

    Args:
      file: the safetensors file.
      workdir: the run's folder, absent or empty.
      data_root: folder of the data sets, if not where the file's run found them.

    Raises:
      InputError: anything wrong with the file, or other data than it was trained on.
    """
    _, safe_open = _safetensors()
    file, workdir = pathlib.Path(file), pathlib.Path(workdir)
    require_new(workdir)
    digest = read_digest(file)
    metadata, tensors = _read(safe_open, file)
    settings, progress = _parse(metadata, file)
    if data_root is not None:
        settings = dataclasses.replace(
            settings, data=dataclasses.replace(settings.data, root=data_root)
        )
    dataset = open_dataset(settings.data)
    checkpoint.check_data(metadata, dataset, file)
    params = _assemble(tensors, settings, dataset, file)
    source = {"format": "safetensors", "file": file.name, "sha256": digest}
    source |= {"stage": metadata["stage"], "which": metadata["which"]}
    meta = write_run(workdir, settings, dataset, params, progress, source)
    return Imported(settings, {}, meta)


def _safetensors():
    """The library's functions to write and to read."""
    try:
        from safetensors import safe_open
        from safetensors.numpy import save_file
    except ImportError:
        raise InputError(
            "safetensors files need safetensors: pip install 'uatmc_jax[safetensors]'."
        ) from None
    return save_file, safe_open


def _named(params: Params) -> dict:
    """{dotted path: leaf}."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves}


def _read(safe_open, file: pathlib.Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The metadata and the tensors of a file."""
    try:
        with safe_open(file, framework="numpy") as content:
            header = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    # The library raises several kinds for a damaged file, or a type that NumPy lacks.
    except Exception as error:
        said = " ".join(str(error).split())[:150]
        raise InputError(
            f"{file}: not a readable safetensors file ({said}). Export it anew."
        ) from None
    if _ENTRY not in header:
        raise InputError(
            f"{file}: its metadata has no {_ENTRY!r}, so it is not known which model and data it "
            "is of. Export it with: uatmc convert export."
        )
    try:
        metadata = json.loads(header[_ENTRY])
    except (ValueError, RecursionError):
        raise InputError(f"{file}: its metadata is not JSON. Export it anew.") from None
    return metadata, tensors


def _parse(metadata: dict, file: pathlib.Path) -> tuple[Settings, Progress]:
    """The metadata's settings and progress; all that is read of it is checked here."""
    broken = InputError(f"{file}: its metadata is incomplete. Export it anew.")
    if not isinstance(metadata, dict):
        raise broken
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{file}: format {metadata.get('format')!r}; this version reads {FORMAT}. Import it "
            "with the version that wrote it."
        )
    trained_on, progress = metadata.get("dataset"), {}
    if not isinstance(trained_on, dict):
        raise broken
    texts = [metadata.get(k) for k in ("stage", "which")]
    texts += [trained_on.get(k) for k in ("name", "fingerprint")]
    for field, kind in _PROGRESS.items():
        value: Any = metadata.get(field)
        number = isinstance(value, int if kind is int else int | float)
        if not number or isinstance(value, bool) or not -1 <= value < 2**31:
            raise broken
        progress[field] = kind(value)
    if not all(isinstance(text, str) for text in texts):
        raise broken
    settings = from_config(metadata.get("settings"))
    if ":" in settings.model.name:
        raise InputError(
            f"{file}: its model is code of its own ({settings.model.name}), which a file of "
            "weights may not have run. Use the run's folder instead."
        )
    return settings, Progress(**progress)


def _assemble(
    tensors: dict[str, np.ndarray], settings: Settings, dataset: Dataset, file: pathlib.Path
) -> Params:
    """`Params` of the named tensors."""
    held = sum(x.size for x in tensors.values())
    if max(settings.model.widths) > held or settings.model.depth > len(tensors):
        raise InputError(f"{file}: its settings' model is larger than its tensors. Export it anew.")
    model = build_model(settings.model, dataset.sizes)
    like = jax.eval_shape(model.init, jax.random.key(0))
    wanted = _named(like)
    odd = sorted(wanted.keys() ^ tensors.keys())
    if odd:
        said = "lacks" if odd[0] in wanted else "has the unknown"
        raise InputError(f"{file}: {said} tensor {odd[0][:100]!r}. Export it anew.")
    for name, leaf in wanted.items():
        found = tensors[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise InputError(
                f"{file}: {name} is {found.shape} {found.dtype}; wanted {leaf.shape} {leaf.dtype}. "
                "Export it anew."
            )
        if not np.isfinite(found).all():
            raise InputError(f"{file}: {name} has values that are not finite. Export another.")
    leaves = [jnp.asarray(tensors[name]) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
