"""All edits of one target: pixels, words, each alone put together, and coordinated."""

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from uatmc_jax.edits.bridge import (
    Coder,
    TextBridge,
    encode_pictures,
    encode_texts,
    picture_look,
    text_slopes,
    text_worth,
)
from uatmc_jax.edits.constraints import Constraint
from uatmc_jax.edits.judge import Judge, judge_rows
from uatmc_jax.edits.listings import Listing, compose
from uatmc_jax.edits.pixels import Ball, Seen, climb, rank
from uatmc_jax.edits.settings import EditSettings
from uatmc_jax.edits.wording import Wording, parse, text_of
from uatmc_jax.edits.words import OPERATIONS, Words, search_words

EACH_ALONE, COORDINATED = "each alone", "coordinated"


class Workshop(NamedTuple):
    """What all targets share.

    Attributes:
      settings: how far edits go.
      coders: by kind, "image" and "text".
      words: what may be put in; None where texts are not edited.
      rules: that wordings keep to.
    """

    settings: EditSettings
    coders: Mapping[str, Coder]
    words: Words | None
    rules: Sequence[Constraint]


class Edit(NamedTuple):
    """An edited listing.

    Attributes:
      name: of the edit.
      picture: (H, W, 3) uint8; None where it is the original.
      wording: of the title; None where it is the original.
      seen: what it was worth in the search.
      seconds: that the search took, of which it is the last step.
    """

    name: str
    picture: np.ndarray | None
    wording: Wording | None
    seen: Seen
    seconds: float


def pixels_name(radius: float) -> str:
    """What an edit of the pixels alone is called.

    >>> pixels_name(4.0)
    'pixels 4/255'
    """
    return f"pixels {radius:g}/255"


def words_name(operation: str) -> str:
    """What an edit of the words alone is called."""
    return f"words by {operation}"


def edit_names(coders: Mapping[str, Coder], settings: EditSettings) -> list[str]:
    """Names of the edits that are made, in order."""
    names = [pixels_name(radius) for radius in settings.radii] if "image" in coders else []
    names += [words_name(operation) for operation in OPERATIONS] if "text" in coders else []
    return [*names, EACH_ALONE, COORDINATED] if len(coders) > 1 else names


def edit_target(shop: Workshop, judge: Judge, listing: Listing) -> list[Edit]:
    """The edits of one target, in the order of `edit_names`.

    A ball's search begins at the best of the smaller one, and the coordinated one knows all
    others, so neither is worth less than these.

    Args:
      shop: what all targets share.
      judge: of the target.
      listing: as its seller has put it up.
    """
    edits: list[Edit] = []
    if "image" in shop.coders:
        edits += _pixels(shop, judge, listing)
    if "text" in shop.coders:
        edits += [_words(shop, judge, listing, operation) for operation in OPERATIONS]
    return [*edits, *_together(shop, judge, listing, edits)] if len(shop.coders) > 1 else edits


def _pixels(shop: Workshop, judge: Judge, listing: Listing) -> Iterator[Edit]:
    at = listing.picture
    for radius in shop.settings.radii:
        started = time.monotonic()
        at, seen = _climb(shop, judge, listing, Ball(shop.settings.norm, radius), at, None)
        seconds = time.monotonic() - started
        yield Edit(pixels_name(radius), at, None, seen, seconds)


def _climb(shop, judge, listing, ball, start, wording) -> tuple[np.ndarray, Seen]:
    """The best picture beside a title, from a picture on."""
    others: list = list(judge.raw)
    if wording is not None:
        others[shop.coders["text"].place] = text_feature(shop, listing, wording)
    look = picture_look(judge, shop.coders["image"], others)
    return climb(listing.picture, start, ball, shop.settings.steps, look)


def _words(
    shop: Workshop,
    judge: Judge,
    listing: Listing,
    operation: str,
    picture: np.ndarray | None = None,
) -> Edit:
    """The best wording beside a picture."""
    started = time.monotonic()
    others: list = list(judge.raw)
    if picture is not None:
        others[shop.coders["image"].place] = encode_pictures(shop.coders["image"], [picture])
    coder = shop.coders["text"]
    bridge = TextBridge(judge, coder, functools.partial(compose, listing), others)
    clean = encode_texts(coder, [compose(listing, listing.title)[0]])[0]
    found = search_words(
        parse(listing.title),
        operation,
        shop.words,  # type: ignore[arg-type]
        shop.rules,
        shop.settings.words,
        functools.partial(text_slopes, bridge),
        functools.partial(text_worth, bridge, clean),
    )
    seconds = time.monotonic() - started
    return Edit(words_name(operation), picture, found.wording, found.verified.seen, seconds)


def _together(shop, judge: Judge, listing: Listing, edits: list[Edit]) -> list[Edit]:
    """The two best edits put together, and what goes on from there."""
    started = time.monotonic()
    settings = shop.settings
    pictures = [edit for edit in edits if edit.wording is None]
    wordings = [edit for edit in edits if edit.picture is None]
    pixels, words = pictures[-1], max(wordings, key=lambda edit: rank(edit.seen))
    seen = judged(shop, judge, listing, pixels.picture, words.wording)
    alone = Edit(EACH_ALONE, pixels.picture, words.wording, seen, 0.0)
    best = max([*edits, alone], key=lambda edit: rank(edit.seen))
    operation = OPERATIONS[wordings.index(words)]
    ball, at = Ball(settings.norm, settings.radii[-1]), alone
    for _ in range(settings.rounds):
        found = _words(shop, judge, listing, operation, at.picture)
        at = max(at, found, key=lambda edit: rank(edit.seen))
        picture, seen = _climb(shop, judge, listing, ball, at.picture, at.wording)
        at = max(at, at._replace(picture=picture, seen=seen), key=lambda edit: rank(edit.seen))
    best = max(best, at, key=lambda edit: rank(edit.seen))
    return [alone, best._replace(name=COORDINATED, seconds=time.monotonic() - started)]


def text_feature(shop: Workshop, listing: Listing, wording: Wording) -> np.ndarray:
    """(1, dim) of the listing's whole text with another title."""
    return encode_texts(shop.coders["text"], [compose(listing, text_of(wording))[0]])


def judged(
    shop: Workshop,
    judge: Judge,
    listing: Listing,
    picture: np.ndarray | None,
    wording: Wording | None,
) -> Seen:
    """What an edited listing is worth; None stands for what is not edited."""
    rows = features_of(shop, judge, listing, picture, wording)
    found = judge_rows(judge, rows)
    return Seen(float(found.hr[0]), float(found.value[0]))


def features_of(
    shop: Workshop,
    judge: Judge,
    listing: Listing,
    picture: np.ndarray | None,
    wording: Wording | None,
) -> list[np.ndarray]:
    """Modal raw features, (1, dim_m), of an edited listing."""
    rows = [np.asarray(x) for x in judge.raw]
    if picture is not None:
        rows[shop.coders["image"].place] = encode_pictures(shop.coders["image"], [picture])
    if wording is not None:
        rows[shop.coders["text"].place] = text_feature(shop, listing, wording)
    return rows
