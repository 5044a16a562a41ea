"""Item features: one `.npy` matrix per modality, checked before any work."""

import pathlib
import warnings

import numpy as np

from uatmc_jax.errors import DataWarning, InputError

_BLOCK_ELEMENTS = 1 << 22


def parse_modalities(entries: tuple[str, ...]) -> dict[str, str]:
    """Turns ("visual:image_feat.npy", ...) into an ordered {name: file name}.

    >>> parse_modalities(("visual:image_feat.npy", "audio:audio_feat.npy"))
    {'visual': 'image_feat.npy', 'audio': 'audio_feat.npy'}

    Raises:
      InputError: an entry without a colon, an empty half, a name given twice.
    """
    modalities: dict[str, str] = {}
    for entry in entries:
        name, _, file = entry.partition(":")
        if not name or not file or name in modalities:
            raise InputError(
                f"config.data.modalities: '{entry}' is not a new 'name:file.npy'. "
                "Example: ('visual:image_feat.npy', 'textual:text_feat.npy')."
            )
        modalities[name] = file
    return modalities


def check_scale(path: pathlib.Path, largest: float, dim: int) -> None:
    """Refuses features whose squares float32 does not hold: norms would be inf, or nothing.

    Args:
      path: to name in the error.
      largest: absolute value in the matrix.
      dim: of a row.

    Raises:
      InputError: squares overflow, or vanish without being zero.
    """
    limits = np.finfo(np.float32)
    most, least = float(limits.max), float(limits.tiny)
    if largest**2 * dim > most:
        problem = "squares overflow"
    elif 0 < largest**2 < least:
        problem = "squares vanish"
    else:
        return
    raise InputError(
        f"{path}: the largest value is {largest:.3g}, whose {problem} in float32. Scale the "
        "features, for instance to a standard deviation of 1."
    )


def open_matrix(path: pathlib.Path, if_absent: str = "Check the path") -> np.memmap:
    """Opens a feature matrix for reading, without reading it; pickling is off.

    Args:
      path: of the file.
      if_absent: the remedy where there is none.

    Raises:
      InputError: not a `.npy` of shape (rows, dim) and a float type, truncated, or with more
        behind it.
    """
    try:
        matrix = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {if_absent}.") from None
    except Exception as error:  # of a damaged header NumPy's reader raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: not a readable .npy matrix ({reason}). It may be truncated, or hold pickled "
            "objects, which are never loaded; write it again with numpy.save of a float array."
        ) from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(f"{path}: shape {matrix.shape}, wanted (rows, dim).")
    if matrix.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{path}: type {matrix.dtype}, wanted float16, float32 or float64.")
    behind = path.stat().st_size - matrix.offset - matrix.nbytes
    if behind:
        raise InputError(
            f"{path}: {behind} bytes behind a matrix of {matrix.shape[0]} rows, perhaps of a "
            "second array. Write one array with numpy.save."
        )
    return matrix


def load_features(path: pathlib.Path) -> np.ndarray:
    """Reads one modality's matrix, cast once to float32.

    The file is memory-mapped, with pickling off, and checked in blocks, so the
    peak is the result itself.

    Args:
      path: `.npy` file of shape (items, dim), float16, float32 or float64.

    Returns:
      (items, dim) float32, read-only.

    Raises:
      InputError: missing, truncated or pickled file, wrong type or shape, NaN or inf, or
        a scale that float32's squares do not hold.

    Warns:
      DataWarning: rows of zeros, with their count.
    """
    remedy = "Put the feature matrix there, or drop its entry from config.data.modalities"
    raw = open_matrix(path, remedy)
    features = np.empty(raw.shape, np.float32)
    zero_rows, largest = 0, 0.0
    step = max(1, _BLOCK_ELEMENTS // raw.shape[1])
    for start in range(0, len(raw), step):
        # A float64 beyond float32's range turns inf here and is refused as such.
        with np.errstate(over="ignore"):
            block = features[start : start + step] = raw[start : start + step]
        bad = ~np.isfinite(features[start : start + step]).all(axis=1)
        if bad.any():
            raise InputError(
                f"{path}, row {start + int(np.argmax(bad))}: NaN or inf (or beyond float32's "
                "range). Replace the row, for instance by the mean of the others."
            )
        zero_rows += int((~block.any(axis=1)).sum())
        largest = max(largest, float(block.max()), -float(block.min()))
    check_scale(path, largest, raw.shape[1])
    if zero_rows:
        warnings.warn(
            f"{path}: {zero_rows} of {len(features)} rows are all zeros: these items carry no "
            "content in this modality.",
            DataWarning,
            stacklevel=2,
        )
    features.setflags(write=False)
    return features
