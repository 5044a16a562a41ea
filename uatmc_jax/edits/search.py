"""All edits of one target: pixels, words, each alone put together, and coordinated."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from uatmc_jax.edits.bridge import (
    Beside,
    Coder,
    TextBridge,
    encode_pictures,
    encode_texts,
    picture_look,
    text_slopes,
    text_worth,
)
from uatmc_jax.edits.constraints import Constraint
from uatmc_jax.edits.judge import Judge
from uatmc_jax.edits.listings import Listing, compose
from uatmc_jax.edits.pixels import SEARCHES, Ball, Seen, climb, rank
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


class Case(NamedTuple):
    """A target to be edited.

    Attributes:
      judge: of the target.
      listing: as its seller has put it up.
    """

    judge: Judge
    listing: Listing


def edit_targets(shop: Workshop, cases: Sequence[Case]) -> list[list[Edit]]:
    """The edits of some targets, each's in the order of `edit_names`.

    Pictures of several targets go through the encoder together; no target's edits depend on
    another's but for rounding. A ball's search begins at the best of the smaller one, and the
    coordinated one knows all others, so neither is worth less than these.

    Args:
      shop: what all targets share.
      cases: the targets.
    """
    edits: list[list[Edit]] = [[] for _ in cases]
    settings, steps = shop.settings, shop.settings.steps
    if "image" in shop.coders:
        starts = [_as_it_is(case) for case in cases]
        for radius in settings.radii:
            named = [start._replace(name=pixels_name(radius)) for start in starts]
            starts = _climb(shop, cases, named, Ball(settings.norm, radius), steps)
            steps = -(-settings.steps // 2)  # they go on from the smaller ball's best
            edits = [[*some, one] for some, one in zip(edits, starts, strict=True)]
    if "text" in shop.coders:
        for case, some in zip(cases, edits, strict=True):
            some += [_words(shop, case, _as_it_is(case), operation) for operation in OPERATIONS]
    return _together(shop, cases, edits) if len(shop.coders) > 1 else edits


def _as_it_is(case: Case) -> Edit:
    found = case.judge.rows(case.judge.raw)
    return Edit("", None, None, Seen(float(found.hr[0]), float(found.value[0])), 0.0)


def _climb(
    shop: Workshop, cases: Sequence[Case], starts: Sequence[Edit], ball: Ball, steps: int
) -> list[Edit]:
    """Each target's best picture beside its title, from its picture on; never worse than that.

    The steps are judged by the encoder's quick twin; what is kept, by the encoder.
    """
    started, settings = time.monotonic(), shop.settings
    targets, searches = [], []
    for case, start in zip(cases, starts, strict=True):
        others = features_of(shop, case, None, start.wording)
        targets.append(Beside(case.judge, others))
        original: np.ndarray = case.listing.picture  # type: ignore[assignment]
        begin = original if start.picture is None else start.picture
        searches.append(SEARCHES[settings.search](original, begin, ball, steps))
    look = picture_look(targets, shop.coders["image"], settings.robust)
    found = climb(searches, steps, look)
    edits = []
    for case, start, one in zip(cases, starts, found, strict=True):
        seen = judged(shop, case, one.picture, start.wording)
        edits.append(_better(start, start._replace(picture=one.picture, seen=seen)))
    seconds = (time.monotonic() - started) / len(cases)
    return [
        edit._replace(
            picture=case.listing.picture if edit.picture is None else edit.picture, seconds=seconds
        )
        for case, edit in zip(cases, edits, strict=True)
    ]


def _better(one: Edit, other: Edit) -> Edit:
    return max(one, other, key=lambda edit: rank(edit.seen))


def _words(shop: Workshop, case: Case, start: Edit, operation: str) -> Edit:
    """The best wording beside an edit's picture."""
    started = time.monotonic()
    listing, coder = case.listing, shop.coders["text"]
    beside = Beside(case.judge, features_of(shop, case, start.picture, None))
    bridge = TextBridge(beside, coder, functools.partial(compose, listing))
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
    seen = judged(shop, case, start.picture, found.wording)
    seconds = time.monotonic() - started
    return Edit(words_name(operation), start.picture, found.wording, seen, seconds)


def _together(
    shop: Workshop, cases: Sequence[Case], edits: Sequence[list[Edit]]
) -> list[list[Edit]]:
    """The two best edits put together, and what goes on from there."""
    started = time.monotonic()
    alone, operations = [], []
    for case, some in zip(cases, edits, strict=True):
        pictures = [edit for edit in some if edit.wording is None]
        wordings = [edit for edit in some if edit.picture is None]
        pixels, words = pictures[-1], max(wordings, key=lambda edit: rank(edit.seen))
        seen = judged(shop, case, pixels.picture, words.wording)
        alone.append(Edit(EACH_ALONE, pixels.picture, words.wording, seen, 0.0))
        operations.append(OPERATIONS[wordings.index(words)])
    at, settings = list(alone), shop.settings
    ball = Ball(settings.norm, settings.radii[-1])
    for _ in range(settings.rounds):
        for n, (case, operation) in enumerate(zip(cases, operations, strict=True)):
            at[n] = _better(at[n], _words(shop, case, at[n], operation))
        at = _climb(shop, cases, at, ball, settings.steps)
    seconds = (time.monotonic() - started) / len(cases)
    found = []
    for some, one, last in zip(edits, alone, at, strict=True):
        best = functools.reduce(_better, [*some, one], last)
        found.append([*some, one, best._replace(name=COORDINATED, seconds=seconds)])
    return found


def judged(shop: Workshop, case: Case, picture: np.ndarray | None, wording: Wording | None) -> Seen:
    """What an edited listing is worth; None stands for what is not edited."""
    found = case.judge.rows(features_of(shop, case, picture, wording))
    return Seen(float(found.hr[0]), float(found.value[0]))


def features_of(
    shop: Workshop, case: Case, picture: np.ndarray | None, wording: Wording | None
) -> list[np.ndarray]:
    """Modal raw features, (1, dim_m), of an edited listing."""
    rows = [np.asarray(x) for x in case.judge.raw]
    if picture is not None:
        rows[shop.coders["image"].place] = encode_pictures(shop.coders["image"], [picture])
    if wording is not None:
        text = compose(case.listing, text_of(wording))[0]
        rows[shop.coders["text"].place] = encode_texts(shop.coders["text"], [text])
    return rows
