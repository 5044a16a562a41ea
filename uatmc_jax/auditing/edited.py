"""What edits of real pictures and titles do to the models of an audit: a handful of items."""

import base64
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from uatmc_jax.auditing.entries import Entry
from uatmc_jax.edits import EditSettings, Sources, run_edits
from uatmc_jax.edits.harmless import UNITS
from uatmc_jax.edits.wording import parts
from uatmc_jax.preparation.images import open_image
from uatmc_jax.settings import to_dict

# Of the pictures in the page, in pixels.
_SIDE, _QUALITY = 240, 90
_GREY = 128


def edit_items(entries: Sequence[Entry], sources: Sources, show_progress: bool) -> dict[str, Any]:
    """The edits of the same items against some models, each crafted on its own.

    Args:
      entries: the model audited first.
      sources: what is edited.
      show_progress: a bar on a terminal.

    Returns:
      "settings"; "models" {entry's name: its "users", "harmless", "rows", "summary" and the
      "folder" of the files}; of the strongest edit against the model audited "pictures"
      {item's number: as `pictures_of` gives them} and "titles" {item's number: its pieces, each
      with whether it is new}; "units" {kind: the harmless edit that others are told in}.

    Raises:
      InputError: for anything the user can mend.
    """
    settings = sources.shop.settings
    results = {
        entry.name: run_edits(settings, entry.run, sources=sources, show_progress=show_progress)
        for entry in entries
    }
    kept = ("users", "harmless", "rows", "summary", "folder")
    audited = results[entries[0].name]
    strongest = {row["item"]: row["edits"][-1] for row in audited["rows"]}
    said = {name: None if at is None else str(at) for name, at in _places(settings).items()}
    return {
        "settings": to_dict(settings) | said,
        "models": {name: {key: found[key] for key in kept} for name, found in results.items()},
        "pictures": {
            str(item): pictures_of(
                sources.listings[item].picture,  # type: ignore[arg-type]
                pathlib.Path(audited["folder"]) / str(item),
                edit["files"]["image"],
            )
            for item, edit in strongest.items()
            if "image" in edit["files"]
        },
        "titles": {
            str(item): parts(edit["title"], edit["new_words"])
            for item, edit in strongest.items()
            if "title" in edit
        },
        "units": UNITS,
    }


def _places(settings: EditSettings) -> dict[str, pathlib.Path | None]:
    return {"images": settings.images, "items": settings.items}


def pictures_of(original: np.ndarray, folder: pathlib.Path, file: str) -> dict[str, Any]:
    """An edit for the eye: pictures "before", "after" and "difference" as data URIs.

    The difference is grey where nothing is edited, and multiplied by "factor", the largest
    whole number that keeps all of it in sight.

    Args:
      original: (H, W, 3) uint8.
      folder: of the edited picture.
      file: its name.
    """
    edited = np.array(open_image(folder, file))
    moved = edited.astype(np.int32) - original
    factor = max(1, (_GREY - 1) // max(int(np.abs(moved).max()), 1))
    shown = (_GREY + factor * moved).astype(np.uint8)
    return {
        "before": _uri(original),
        "after": _uri(edited),
        "difference": _uri(shown, smooth=False),
        "factor": factor,
    }


def _uri(picture: np.ndarray, smooth: bool = True) -> str:
    """A small JPEG of a picture; not smooth, its pixels are picked, not averaged away."""
    from PIL import Image

    image, file = Image.fromarray(picture), io.BytesIO()
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    share = min(1.0, _SIDE / max(image.size))
    image = image.resize([max(1, round(side * share)) for side in image.size], how)  # type: ignore[arg-type]
    image.save(file, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
