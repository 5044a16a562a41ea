"""Edits that nobody would call an attack: the yardstick that a budget is held against.

Also what a picture goes through on its way to a shop's page: an edit that does not outlast
JPEG is worth less than one that does.
"""

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from uatmc_jax.edits.wording import parse


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """A picture, (H, W, 3) uint8, saved as JPEG of this quality and opened again."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    file.seek(0)
    with Image.open(file) as image:
        return np.array(image.convert("RGB"))


def margins(picture: np.ndarray, share: float) -> tuple[int, int]:
    """Rows and columns that `crop` leaves out on each side."""
    rows, columns = (round(side * share / 2) for side in picture.shape[:2])
    return rows, columns


def crop(picture: np.ndarray, share: float) -> np.ndarray:
    """A picture without a margin of `share` / 2 of its sides."""
    rows, columns = margins(picture, share)
    return picture[rows : picture.shape[0] - rows, columns : picture.shape[1] - columns]


def brighten(picture: np.ndarray, factor: float) -> np.ndarray:
    """A picture with all values multiplied, rounded and kept to 0 to 255."""
    return np.clip(np.rint(picture.astype(np.float32) * factor), 0, 255).astype(np.uint8)


def scaled(picture: np.ndarray, factor: float) -> tuple[int, int]:
    """Rows and columns of what `rescale` gives."""
    rows, columns = (max(1, round(side * factor)) for side in picture.shape[:2])
    return rows, columns


def rescale(picture: np.ndarray, factor: float) -> np.ndarray:
    """A picture with its sides multiplied, by bicubic resampling."""
    from PIL import Image

    rows, columns = scaled(picture, factor)
    resampled = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BICUBIC)
    return np.array(resampled)


PICTURES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 95": lambda picture: jpeg(picture, 95),
    "JPEG 75": lambda picture: jpeg(picture, 75),
    "rescaled to 90 %": lambda picture: rescale(picture, 0.9),
    "rescaled to half": lambda picture: rescale(picture, 0.5),
    "5 % brighter": lambda picture: brighten(picture, 1.05),
    "10 % darker": lambda picture: brighten(picture, 0.9),
    "2 % cropped": lambda picture: crop(picture, 0.02),
    "5 % cropped": lambda picture: crop(picture, 0.05),
}
AFTERWARDS_QUALITY, AFTERWARDS_SCALE, AFTERWARDS_CROP = 85, 0.9, 0.05
# What an edited picture has to outlast.
AFTERWARDS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG 85": lambda picture: jpeg(picture, AFTERWARDS_QUALITY),
    "rescaled to 90 %": lambda picture: rescale(picture, AFTERWARDS_SCALE),
    "5 % cropped": lambda picture: crop(picture, AFTERWARDS_CROP),
}


def swap_halves(text: str) -> str:
    """A text with what stands before and after the first comma exchanged.

    >>> swap_halves("slim dress, navy blue")
    'navy blue, slim dress'
    """
    first, comma, rest = text.partition(",")
    return f"{rest.strip()}, {first.strip()}" if comma and rest.strip() else text


def without_marks(text: str) -> str:
    """A text's words alone."""
    return " ".join(parse(text).words)


TEXTS: Mapping[str, Callable[[str], str]] = {
    "punctuation removed": without_marks,
    "in capitals": str.upper,
    "full stop added": lambda text: f"{text}.",
    "halves exchanged": swap_halves,
    "'new' added": lambda text: f"{text} new",
    "'sale' added": lambda text: f"{text} sale",
    "'free shipping' added": lambda text: f"{text} free shipping",
}
# What budgets are told in multiples of, by kind.
UNITS = {"image": "5 % cropped", "text": "'new' added"}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 0.9 quantile and largest of some displacements."""
    found = np.asarray(values, float)
    return {
        "median": float(np.quantile(found, 0.5)),
        "q90": float(np.quantile(found, 0.9)),
        "largest": float(found.max()),
    }
