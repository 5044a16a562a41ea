"""What saved edits do: hit rates of the files as they are read again, and how far they went.

An edited picture is saved without loss and opened again, a title is written and read again;
what is counted is counted from these files.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.attacks import certify, certify_lists
from uatmc_jax.edits import harmless
from uatmc_jax.edits.bridge import encode_pictures, encode_texts
from uatmc_jax.edits.judge import Judge, projected
from uatmc_jax.edits.listings import compose
from uatmc_jax.edits.pixels import distance, psnr, ssim
from uatmc_jax.edits.search import Case, Edit, Workshop, judged
from uatmc_jax.edits.settings import EditSettings
from uatmc_jax.edits.wording import marked, new_words, parse, text_of
from uatmc_jax.models import certifiable
from uatmc_jax.preparation.images import open_image

_WIDENED = 1 + 1e-5
NORMS, LISTED = ("l2", "linf"), ("raw",)


class Files(NamedTuple):
    """Where an edit's files are.

    Attributes:
      folder: of the target.
      stem: of the names.
    """

    folder: pathlib.Path
    stem: str


def save(edit: Edit, files: Files) -> dict[str, str]:
    """Writes an edited picture as PNG and an edited title as text; {kind: file name}."""
    from PIL import Image

    written = {}
    files.folder.mkdir(parents=True, exist_ok=True)
    if edit.picture is not None:
        written["image"] = f"{files.stem}.png"
        Image.fromarray(edit.picture).save(files.folder / written["image"])
    if edit.wording is not None:
        written["text"] = f"{files.stem}.txt"
        text = text_of(edit.wording) + "\n"
        (files.folder / written["text"]).write_text(text, encoding="utf-8")
    return written


def stem_of(name: str) -> str:
    """A file's name for an edit's.

    >>> stem_of("pixels 4/255")
    'pixels_4_255'
    """
    return re.sub(r"\W+", "_", name)


def measure(shop: Workshop, case: Case, edit: Edit, folder: pathlib.Path) -> dict[str, Any]:
    """Saves an edit and measures what its files do.

    Args:
      shop: what all targets share.
      case: the target as it was.
      edit: to measure.
      folder: of the target's files.

    Returns:
      A row, but for certificates and reach: "hr", "value", "files", "moved" by kind,
      "afterwards" and what was edited.
    """
    judge, listing = case
    files = save(edit, Files(folder, stem_of(edit.name)))
    row: dict[str, Any] = {"edit": edit.name, "files": files, "seconds": edit.seconds}
    rows, moved = [np.asarray(x) for x in judge.raw], {}
    if "image" in files:
        picture = np.array(open_image(folder, files["image"]))
        row |= _of_picture(picture, listing.picture)  # type: ignore[arg-type]
        coder = shop.coders["image"]
        rows[coder.place] = encode_pictures(coder, [picture])
        row["afterwards"] = {
            name: judged(shop, case, change(picture), edit.wording).hr
            for name, change in harmless.AFTERWARDS.items()
        }
    if "text" in files:
        title = (folder / files["text"]).read_text(encoding="utf-8").rstrip("\n")
        coder = shop.coders["text"]
        rows[coder.place] = encode_texts(coder, [compose(listing, title)[0]])
        original = parse(listing.title)
        row |= {
            "title": title,
            "marked": marked(original, edit.wording),  # type: ignore[arg-type]
            "new_words": new_words(original, edit.wording),  # type: ignore[arg-type]
            "similarity": _cosine(rows[coder.place][0], np.asarray(judge.raw[coder.place])[0]),
        }
    found = judge.rows(rows)
    clean, after = projected(judge.victim, judge.raw), projected(judge.victim, rows)
    for kind, coder in shop.coders.items():
        if kind in files:
            place = coder.place
            moved[kind] = displacement(
                (clean[place][0], after[place][0]),
                (np.asarray(judge.raw[place])[0], rows[place][0]),
            )
    return row | {"hr": float(found.hr[0]), "value": float(found.value[0]), "moved": moved}


def _of_picture(picture: np.ndarray, original: np.ndarray) -> dict[str, float | None]:
    decibels = psnr(picture, original)
    return {
        "linf": distance(picture, original, "linf"),
        "l2": distance(picture, original, "l2"),
        "psnr": decibels if np.isfinite(decibels) else None,
        "ssim": ssim(picture, original),
    }


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))


def displacement(z: Sequence[np.ndarray], raw: Sequence[np.ndarray]) -> dict[str, float]:
    """How far content has moved, as shares of its length: "l2" and "linf" of z, "raw" in l2.

    Args:
      z: (d,) before and after.
      raw: (dim_m,) before and after.
    """
    length, raw_length = (max(float(np.linalg.norm(x[0])), 1e-12) for x in (z, raw))
    return {
        "l2": float(np.linalg.norm(z[1] - z[0])) / length,
        "linf": float(np.abs(z[1] - z[0]).max()) / length,
        "raw": float(np.linalg.norm(raw[1] - raw[0])) / raw_length,
    }


def certificates(
    judge: Judge, rows: Sequence[dict], modalities: Mapping[str, str], settings: EditSettings
) -> None:
    """Puts into each row how far it went, and what no edit that goes as far exceeds.

    row["radius"] is by measure, "l2" and "linf" of z, or "raw" where content acts through lists
    of raw features; row["outside"] says by measure whether it is beyond the budget, so that the
    bound at that says nothing of this edit. row["certificate"] has a bound by measure and
    "any_content"; {} for a model without certificates under the policy.

    Args:
      judge: of the target.
      rows: of `measure`.
      modalities: {kind: the modality's name}.
      settings: budget, K and policy.
    """
    listed = judge.copies is not None
    for row in rows:
        row["radius"] = {
            norm: max((m[norm] for m in row["moved"].values()), default=0.0)
            for norm in (LISTED if listed else NORMS)
        }
        row["outside"] = {norm: radius > settings.eps for norm, radius in row["radius"].items()}
        row["certificate"] = {}
    if listed and settings.serving == "own_row":
        _of_lists(judge, rows, settings.k)
    elif certifiable(judge.victim.model):
        _of_content(judge, rows, modalities, settings.k)


def _of_lists(judge: Judge, rows: Sequence[dict], k: int) -> None:
    def bound(eps: float | None) -> float:
        found = certify_lists(judge.victim, [judge.item], eps=eps, k=k, of=judge.copies)
        return float(np.ravel(found)[0])

    anything = bound(None)
    for row in rows:
        (radius,) = row["radius"].values()
        row["certificate"] = {"raw": bound(_widened(radius)), "any_content": anything}


def _of_content(judge: Judge, rows: Sequence[dict], modalities: Mapping[str, str], k: int) -> None:
    victim, item = judge.victim, judge.item
    anything = certify(victim, [item], ks=k)[0] if victim.model.unit_rows else None
    groups: dict[tuple[str, ...], list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(modalities[kind] for kind in row["moved"]), []).append(row)
    for names, members in groups.items():
        for norm in NORMS:
            radii = [_widened(row["radius"][norm]) for row in members]
            bounds = certify(victim, [item], norm=norm, eps=radii, ks=k, modalities=names)
            for row, bound in zip(members, bounds[:, 0], strict=True):
                row["certificate"][norm] = float(bound)
                if anything is not None:
                    row["certificate"]["any_content"] = float(anything)


def _widened(radius: float) -> float:
    """So that rounding does not leave the edit outside."""
    return max(radius, 1e-9) * _WIDENED
