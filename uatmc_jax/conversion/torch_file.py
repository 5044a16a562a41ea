"""PyTorch checkpoints: reading them without running what is in them, and importing them.

A .pth file is a pickle, and a pickle may run code. Only what PyTorch's `weights_only`
loads is read: tensors and plain containers.
"""

import math
import pathlib
import warnings
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.conversion.imported import Imported, read_digest, require_new, write_run
from uatmc_jax.conversion.mmrec import changes, from_state
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import Settings
from uatmc_jax.training.stage import Progress

# What a file calls its weights; another name will do if it is the only one.
_ENTRIES = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
# What all names of a known model begin with of themselves: LightGCN's in MMRec.
_OWN = {"embedding_dict"}


class State(NamedTuple):
    """A checkpoint's content.

    Attributes:
      tensors: {name: float32 array}.
      epochs: epochs trained; 0 where the file does not say.
    """

    tensors: dict[str, np.ndarray]
    epochs: int


def import_mmrec(
    file: str | pathlib.Path, settings: Settings, workdir: str | pathlib.Path
) -> Imported:
    """Makes a run of an MMRec-style PyTorch checkpoint of VBPR or MMGCN.

    Args:
      file: the .pth file.
      settings: data, and what the weights do not decide.
      workdir: the run's folder, absent or empty.

    Raises:
      InputError: anything wrong with the file, or weights of another data set or model.
    """
    file, workdir = pathlib.Path(file), pathlib.Path(workdir)
    require_new(workdir)
    digest = read_digest(file)
    state = read_state(file)
    dataset = open_dataset(settings.data)
    chosen, params = from_state(state.tensors, settings, dataset, str(file))
    progress = Progress(epoch=state.epochs, best_epoch=state.epochs)
    source = {"format": "mmrec", "file": file.name, "sha256": digest}
    meta = write_run(workdir, chosen, dataset, params, progress, source)
    return Imported(chosen, changes(settings, chosen), meta)


def read_state(file: pathlib.Path) -> State:
    """Reads the state_dict of a PyTorch file: the file's own, or that of an entry.

    Prefixes that all names have go: wrappers put them there (data parallel, compiled, Lightning).

    Raises:
      InputError: torch is not installed; the file is damaged, holds more than tensors,
        or values that are not finite.
    """
    try:
        import torch
    except ImportError:
        raise InputError(
            "PyTorch checkpoints need torch: pip install 'uatmc_jax[torch]'."
        ) from None
    content = _load(torch, file)
    tensors, epochs = weights_in(content), 0
    if tensors is not content:
        epoch = content.get("epoch")
        if type(epoch) is int and 0 <= epoch < 2**31 - 1:
            epochs = epoch + 1  # counted from 0 there
    right = isinstance(tensors, dict) and tensors
    if not right or not all(isinstance(name, str) for name in tensors):
        raise InputError(f"{file}: no state_dict in it. {_save_again(file)}")
    size = file.stat().st_size
    arrays = {name: _array(torch, x, f"{file}: {name}", size) for name, x in tensors.items()}
    return State(without_prefixes(arrays), epochs)


def weights_in(content: Any) -> Any:
    """What of a file's content are the weights: an entry of a usual name, or the one that can be.

    >>> weights_in({"epoch": 3, "network": {"a": np.zeros(2)}, "optimizer": {"lr": 0.1}})
    {'a': array([0., 0.])}
    """
    if not isinstance(content, dict):
        return content
    named = [content[e] for e in _ENTRIES if isinstance(content.get(e), dict)]
    if named:
        return named[0]
    others = [
        part
        for part in content.values()
        if isinstance(part, dict) and part and all(hasattr(x, "shape") for x in part.values())
    ]
    return others[0] if len(others) == 1 else content


def without_prefixes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by their names, without the parts that all names begin with.

    >>> list(without_prefixes({"module._orig_mod.a": 0, "module._orig_mod.b.c": 1}))
    ['a', 'b.c']
    """
    while len(arrays) > 1 and all("." in name for name in arrays):
        heads = {name.partition(".")[0] for name in arrays}
        if len(heads) != 1 or heads & _OWN:
            break
        head = heads.pop()
        arrays = {name.removeprefix(f"{head}."): x for name, x in arrays.items()}
    return arrays


def _load(torch, file: pathlib.Path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle's versions
            return torch.load(file, weights_only=True, map_location="cpu")
    except MemoryError:
        raise
    # A damaged or hostile file makes torch and pickle raise many kinds.
    except Exception as error:
        said = " ".join(str(error).split()).rpartition("WeightsUnpickler error: ")[2]
        if any(kind in said.lower() for kind in ("unsupported global", "unsupported class")):
            raise InputError(
                f"{file}: holds Python objects beside the weights, which are not loaded, as they "
                f"could run code. {_save_again(file)}"
            ) from None
        raise InputError(
            f"{file}: not a readable PyTorch checkpoint ({type(error).__name__}: {said[:150]}). "
            "Save it anew."
        ) from None


def _save_again(file: pathlib.Path) -> str:
    return (
        "If you trust the file, save its weights alone, where it was made: "
        f"x = torch.load({file.name!r}, weights_only=False), then torch.save(x.state_dict(), "
        "'weights.pth') of a model, or torch.save(x['state_dict'], 'weights.pth') of a dict "
        "(whatever its entry is called)"
    )


def _array(torch, value, name: str, size: int) -> np.ndarray:
    """float32, dense and finite; `size` bounds what a view may pretend to hold."""
    if not isinstance(value, torch.Tensor):
        raise InputError(f"{name} is a {type(value).__name__}, not a tensor. Remove it.")
    dense = value.layout == torch.strided and not value.is_quantized
    if not dense or not value.is_floating_point() or value.device.type != "cpu":
        raise InputError(f"{name} is not a dense tensor of floats ({value.dtype}). Convert it.")
    if math.prod(value.shape) > size:
        raise InputError(f"{name} claims {tuple(value.shape)}, more than the file holds.")
    array = np.array(value.detach().to(torch.float32).numpy())
    if not np.isfinite(array).all():
        raise InputError(
            f"{name} has values that are not finite in float32. Take an earlier checkpoint."
        )
    return array
